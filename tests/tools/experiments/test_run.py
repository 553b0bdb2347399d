import json
import sys

import pytest

from dpk_mm.errors import UsageError
from tools.experiments import run


def test_a_seed_for_all_entries_is_refused_before_anything_is_done(tmp_path, monkeypatch):
    entries = [dict(name='baseline-s0', config='c.py', method='baseline')]
    grid = tmp_path / 'g.json'
    grid.write_text(json.dumps({'metric': 'accuracy/top1', 'entries': entries}))
    arguments = ['run.py', str(grid), '--work-dir', str(tmp_path / 'work')]
    monkeypatch.setattr(sys, 'argv', [*arguments, '--cfg-options', 'randomness.seed=3'])
    with pytest.raises(UsageError, match='--cfg-options randomness.seed: the grid sets it itself'):
        run.main()
    assert not (tmp_path / 'work').exists()
