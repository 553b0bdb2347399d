import json

import pytest

from dpk_mm.errors import UsageError
from tools.experiments.chosen import best_form, chosen_settings
from tools.experiments.results import read_results, write_results


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


def test_the_best_form_is_above_the_papers_in_every_seed(tmp_path):
    scores = dict(dpk=(30.0, 40.0), warmup=(31.0, 50.0), head=(45.0, 39.0), no_prior=(60.0, 60.0))
    results = [line(m, s, v) for m, pair in scores.items() for s, v in enumerate(pair)]
    (tmp_path / 'x_forms.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in results))
    # the best mean is that of head, which is below the paper's form once; no_prior is no candidate
    assert best_form('x_forms', ('warmup', 'head', 'tied'), folder=tmp_path) is None
    assert best_form('x_forms', ('warmup', 'tied'), folder=tmp_path) == 'warmup'
    assert best_form('x_forms', ('tied',), folder=tmp_path) is None
    with pytest.raises(UsageError, match='run the grid y_forms to its end'):
        best_form('y_forms', ('warmup',), folder=tmp_path)


def test_means_over_different_seeds_are_not_compared(tmp_path):
    results = [line('fgd', s, 40.0, weight=1.0) for s in (100, 101, 102)]
    results += [line('fgd', 101, 50.0, weight=3.0), line('dpk', 100, 20.0, weight=1.0)]
    write_results(tmp_path / 'x_settings.jsonl', results)
    message = 'x_settings: fgd, weight 3.0 has no result of seed 100, 102'
    with pytest.raises(UsageError, match=message):
        chosen_settings('x_settings', tmp_path)
    write_results(tmp_path / 'x_forms.jsonl', [line('dpk', s, 30.0) for s in (0, 1)])
    forms = read_results(tmp_path / 'x_forms.jsonl')
    write_results(tmp_path / 'x_forms.jsonl', [*forms, line('warmup', 1, 31.0)])
    with pytest.raises(UsageError, match='x_forms: warmup has no result of seed 0, which'):
        best_form('x_forms', ('warmup', 'tied'), folder=tmp_path)
