"""What tools/store_logits.py makes of its config."""

import sys

from mmengine.config import Config

from tests.helpers.small_runs import classifier
from tools import store_logits as tool


def test_a_config_of_the_short_form_is_completed(tmp_path, monkeypatch):
    model = dict(
        type='DPKDistill',
        _scope_='mmrazor',
        architecture=classifier(),
        teacher=classifier(16),  # no zoo has a checkpoint of it
        method='kd',
        input_size=64,
    )
    file, given = tmp_path / 'short.py', []
    Config(dict(default_scope='mmpretrain', model=model)).dump(file)
    arguments = [str(file), str(tmp_path / 'logits'), '--teacher-ckpt', 't.pth']
    monkeypatch.setattr(sys, 'argv', ['store_logits.py', *arguments])
    monkeypatch.setattr(tool, 'store_logits', lambda *args: given.append(args))
    tool.main()
    ((cfg, folder, *_),) = given
    assert cfg.model.distiller.records.logits == 'head.fc' and 'method' not in cfg.model
    assert (cfg.model.teacher_ckpt, folder) == ('t.pth', arguments[1])
