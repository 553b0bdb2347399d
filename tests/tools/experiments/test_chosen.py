import json

import pytest

from dpk_mm.errors import UsageError
from tools.experiments.chosen import chosen_settings


def line(method, seed, score, **setting):
    return dict(
        grid='x_settings',
        entry=f'{method}-{setting}-{seed}',
        method=method,
        label='wide' if method == 'teacher' else '',
        teacher=None,
        seed=seed,
        setting=setting,
        metric='accuracy/top1',
        scores=dict(val=score),
    )


def test_the_best_mean_over_seeds(tmp_path):
    results = [line('teacher', 0, 99.0)]
    results += [line('fgd', s, v, weight=1.0) for s, v in ((100, 40.0), (101, 10.0))]
    results += [line('fgd', s, v, weight=3.0) for s, v in ((100, 30.0), (101, 30.0))]
    results += [line('dpk', 100, 20.0, form='dpk_x3')]
    (tmp_path / 'x_settings.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in results))
    assert chosen_settings('x_settings', tmp_path) == {'fgd': 3.0, 'dpk': 'dpk_x3'}


def test_without_results_there_is_no_decision(tmp_path):
    with pytest.raises(UsageError, match='run the grid x_settings to its end'):
        chosen_settings('x_settings', tmp_path)
    assert chosen_settings('x_settings', tmp_path, missing_ok=True) == {}
