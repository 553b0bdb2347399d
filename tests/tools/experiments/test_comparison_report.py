import json
import math

import pytest

from tools.experiments.comparison_report import comparison_rows, comparison_table, write_comparison

# Student's 0.975 quantile with two degrees of freedom
T2 = 4.302653
SCORES = {
    ('baseline', ''): (30.0, 32.0, 31.0),
    ('kd', 'published'): (33.0, 34.0, 35.0),
    ('kd', 'equal share'): (34.0, 35.0, 33.0),
    ('dkd', 'published'): (31.0, 36.0, 35.0),
}
SHARES = {
    'kd': dict(published=dict(loss_kd=0.25), factors=dict(loss_kd=4.0)),
    'dkd': None,
}


def run(method, weight, seed, score):
    options = {}
    if weight == 'equal share':
        options = {'model.distiller.distill_losses.loss_kd.loss_weight': 3.6}
    return {
        'grid': 'compare_p',
        'entry': f'{method}-{weight}-s{seed}',
        'method': method,
        'label': 'teacher' if method == 'teacher' else '',
        'setting': dict(weight=weight) if weight else {},
        'seed': seed,
        'metric': 'accuracy/top1',
        'scores': {'val': score + 1, 'test': score},
        'teacher': 'teacher' if weight else None,
        'teacher_scores': {'val': 51.0, 'test': 50.0} if weight else None,
        'seconds': 60.0,
        'options': options,
        **dict(device='cpu', cores=2, workers=2, threads=1, torch='2', commit='abc'),
    }


@pytest.fixture
def results():
    found = [run('teacher', '', seed, 50.0) for seed in range(3)]
    for (method, weight), scores in SCORES.items():
        found += [run(method, weight, seed, score) for seed, score in enumerate(scores)]
    return found


def row(rows, method, weight):
    return next(r for r in rows if (r['method'], r['weight']) == (method, weight))


def test_differences_are_paired_by_seed_with_their_interval(results):
    rows = comparison_rows(results, SHARES)
    found = row(rows, 'kd', 'published')['minus_baseline']
    # 3, 2, 4
    assert found['mean'] == pytest.approx(3.0)
    assert found['high'] - found['mean'] == pytest.approx(T2 * 1.0 / math.sqrt(3), rel=1e-5)
    # to KD with its published weight, whatever the own one: 1, 1, -2
    found = row(rows, 'kd', 'equal share')['minus_kd']
    assert found['mean'] == pytest.approx(0.0)
    assert found['high'] == pytest.approx(T2 * math.sqrt(3) / math.sqrt(3), rel=1e-5)
    assert row(rows, 'dkd', 'published')['minus_kd']['mean'] == pytest.approx(0.0)
    assert row(rows, 'baseline', '')['minus_baseline'] is None
    assert row(rows, 'kd', 'published')['minus_kd'] is None


def test_detectors_are_compared_with_fgd_in_percent(results):
    scores = {'baseline': (0.01, 0.02, 0.03), 'fgd': (0.05, 0.06, 0.07), 'pkd': (0.06, 0.07, 0.08)}
    found = [
        dict(run(method, '' if method == 'baseline' else 'published', seed, score))
        for method, values in scores.items()
        for seed, score in enumerate(values)
    ]
    for result in found:
        result['metric'] = 'coco/bbox_mAP'
        result['scores'] = {'val': result['scores']['test'], 'test': result['scores']['test']}
    rows = comparison_rows(found, {})
    assert row(rows, 'pkd', 'published')['minus_fgd']['mean'] == pytest.approx(1.0)
    assert row(rows, 'pkd', 'published')['minus_baseline']['mean'] == pytest.approx(5.0)
    assert 'minus fgd [95 %]' in comparison_table(rows, found).splitlines()[0]


def test_rows_name_their_weights_and_gradients(results):
    rows = comparison_rows(results, SHARES)
    assert [r['method'] for r in rows] == ['teacher', 'baseline', 'kd', 'dkd', 'kd']
    assert row(rows, 'kd', 'published')['gradient'] == 0.25
    assert row(rows, 'kd', 'equal share')['gradient'] == 1.0
    assert row(rows, 'kd', 'equal share')['weights'] == {'loss_kd': 3.6}
    assert row(rows, 'dkd', 'published')['gradient'] is None


def test_the_table_has_a_line_for_each_row(results):
    lines = comparison_table(comparison_rows(results, SHARES), results).splitlines()
    assert len(lines) == 2 + 5
    assert lines[3].startswith('| student alone | - | - | 3 | 32.00 ± 1.00 | 31.00 ± 1.00 | - |')
    assert lines[4].startswith(
        '| KD | published | 0.25 | 3 | 35.00 ± 1.00 | 34.00 ± 1.00 | +3.00 ['
    )


def test_a_comparison_without_a_baseline_has_no_picture(results, tmp_path):
    without = [r for r in results if r['method'] not in ('baseline', 'kd')]
    files = write_comparison(without, {}, tmp_path, 'p')
    assert [f.name for f in files] == ['compare_p.md', 'compare_p.json', 'compare_p.jsonl']


def test_files_are_written_and_no_folder_is_named(results, tmp_path):
    files = write_comparison(results, SHARES, tmp_path / 'out', 'p')
    assert [f.name for f in files] == [
        'compare_p.md',
        'compare_p.json',
        'compare_p.jsonl',
        'compare_p.png',
    ]
    text = files[0].read_text()
    assert text.startswith('# Methods on the pair p') and 'compare_p.png' in text
    assert str(tmp_path) not in text
    assert json.loads(files[1].read_text())[0]['method'] == 'teacher'
    assert files[3].stat().st_size > 10_000


def test_one_column_where_validation_and_test_are_the_same_images(results, tmp_path):
    rows = comparison_rows(results, SHARES)
    header = comparison_table(rows, results).splitlines()[0].split(' | ')
    file, *_ = write_comparison(results, SHARES, tmp_path, 'p', same_data=True)
    one = next(line for line in file.read_text().splitlines() if line.startswith('| method'))
    one = one.split(' | ')
    assert [name for name in header if name not in one] == ['validation']
    assert 'held-out' in one
