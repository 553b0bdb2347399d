import pytest

from dpk_mm.errors import UsageError
from tools.experiments.groups import group_results
from tools.experiments.pages import write_report
from tools.experiments.plots import plot_curves, plot_settings, plot_student_against_teacher
from tools.experiments.tables import curves_table, pairs_table, results_table

BASELINE = [80.0, 81.0, 82.0]
# teacher -> its score, and the students' by seed
KD = {'w12': (88.0, [81.0, 82.0, 83.0]), 'w48': (90.0, [82.0, 82.0, 82.0])}
DPK = {'w12': (88.0, [82.0, 83.5, 83.0]), 'w48': (90.0, [84.0, 85.0, 86.0])}


def run(method, seed, score, teacher=None, teacher_score=None, metric='accuracy/top1', **more):
    return {
        'grid': 'g',
        'entry': f'{method}-{teacher}-{more.get("setting")}-{seed}',
        'method': method,
        'label': '',
        'setting': {},
        'seed': seed,
        'metric': metric,
        'scores': {'val': score + 1, 'test': score},
        'teacher': teacher,
        'teacher_scores': teacher and {'val': teacher_score + 1, 'test': teacher_score},
        'seconds': 60.0 + seed,
        **dict(device='cpu', cores=2, workers=2, threads=1, torch='2', commit='abc'),
        **more,
    }


def curves(ratio):
    return {
        'mask_ratio': {'last': [ratio, ratio / 2]},
        'similarity': {'last': [1 - ratio, 1 - ratio / 2]},
    }


@pytest.fixture
def results():
    lines = [
        run('teacher', seed, score, label=label)
        for label, (score, _) in KD.items()
        for seed in range(3)
    ]
    lines += [run('baseline', seed, score) for seed, score in enumerate(BASELINE)]
    for method, table in (('kd', KD), ('dpk', DPK)):
        for label, (teacher_score, scores) in table.items():
            ratio = 0.4 if label == 'w12' else 0.8
            lines += [
                run(method, seed, score, label and label, teacher_score)
                | (curves(ratio + 0.01 * seed) if method == 'dpk' else {})
                for seed, score in enumerate(scores)
            ]
    return lines


def rows(table):
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()]


def test_pairs_are_of_equal_teacher_and_seed(results):
    header, _, kd, dpk = rows(pairs_table(results))
    assert header == ['over all teachers', 'pairs', 'minus baseline', 'minus kd']
    # 1, 1, 1, 2, 1, 0: mean 1, s = sqrt(0.4), t = 2.5706 with 5 degrees of freedom
    assert kd == ['kd', '6', '+1.00 [+0.34, +1.66]', '']
    # 1, 1.5, 0, 2, 3, 4: mean 1.9167, s = sqrt(2.0417)
    assert dpk[:2] == ['dpk', '6']
    assert dpk[3] == '+1.92 [+0.42, +3.42]'
    # a run that is missing takes its pair away, and no other
    fewer = [r for r in results if r['entry'] != 'dpk-w48-None-2']
    assert rows(pairs_table(fewer))[3][1] == '5'


@pytest.mark.parametrize('missing', ['w48', 'kd', 'nothing'])
def test_nothing_to_pool(results, missing):
    found = [r for r in results if missing not in (r['teacher'], r['method'])]
    if missing == 'nothing':
        found[-1]['setting'] = {'weight': 1}
    assert pairs_table(found) == ''


def test_results_table(results):
    header, rule, *body = rows(results_table(results, ['baseline', 'kd', 'fgd']))
    assert header == [
        'method',
        'teacher',
        "teacher's score",
        'n',
        'validation',
        'held-out',
        'minus baseline [95 %]',
        'minus kd [95 %]',
        'time of a run',
    ]
    assert rule == ['---'] * 2 + ['---:'] * 7
    found = {(row[0], row[1]): row[2:] for row in body}
    assert found[('baseline', '-')][:4] == ['-', '3', '82.00 ± 1.00', '81.00 ± 1.00']
    assert found[('baseline', '-')][4:] == ['-', '-', '1 min 01 s']
    assert found[('teacher', 'w48')][1:6] == ['3', '91.00 ± 0.00', '90.00 ± 0.00', '-', '-']
    # differences to the baseline: 1, 1, 1; and 2, 1, 0: 1 +- 4.3027 / sqrt(3)
    assert found[('kd', 'w12')][0] == '88.00'
    assert found[('kd', 'w12')][4:6] == ['+1.00 [+1.00, +1.00]', '-']
    assert found[('kd', 'w48')][4] == '+1.00 [-1.48, +3.48]'
    # 4, 4, 4 to the baseline; 2, 3, 4 to KD with the same teacher
    assert found[('dpk', 'w48')][3:6] == [
        '85.00 ± 1.00',
        '+4.00 [+4.00, +4.00]',
        '+3.00 [+0.52, +5.48]',
    ]


def test_rows_are_paired_by_seed_not_by_place(results):
    shuffled = sorted(results, key=lambda r: (r['seed'] * 7 + len(r['method'])) % 5)
    by_name = {(row[0], row[1]): row for row in rows(results_table(results, ['baseline', 'kd']))}
    again = {(row[0], row[1]): row for row in rows(results_table(shuffled, ['baseline', 'kd']))}
    assert by_name == again


def test_a_fraction_is_shown_in_percent():
    lines = [run('baseline', s, v, metric='coco/bbox_mAP') for s, v in enumerate([0.301, 0.311])]
    for line in lines:
        del line['scores']['val']
    header, _, row = rows(results_table(lines, ['baseline']))
    assert row[header.index('held-out')] == '30.60 ± 0.71'
    assert 'validation' not in header and 'teacher' not in header


def test_best_settings_are_chosen_by_validation():
    lines = [run('baseline', 0, 70.0)]
    for weight, val in ((0.2, 80.0), (1.0, 82.0), (5.0, 81.0)):
        line = run('kd', 0, 0.0, 'w12', 90.0, setting={'weight': weight})
        line['scores'] = {'val': val}
        lines.append(line)
    for line in lines:
        line['scores'].pop('test', None)
    header, _, *body = rows(results_table(lines, ['baseline']))
    column = header.index('validation')
    assert [row[column] for row in body] == ['**71.00**', '80.00', '**82.00**', '81.00']
    assert [row[header.index('setting')] for row in body][1:] == [
        'weight 0.2',
        'weight 1.0',
        'weight 5.0',
    ]
    assert body[2][header.index('minus baseline [95 %]')] == '+11.00'  # of validation


def test_baseline_is_the_plain_one_or_the_best_in_validation():
    kd = [
        run('kd', 0, 80.0, 'w12', 90.0, setting={'weight': 1}),
        run('kd', 0, 81.0, 'w12', 90.0, setting={'weight': 2}),
    ]
    dpk = [
        run('dpk', 0, 83.0, 'w12', 90.0, setting={'weight': 1}),
        run('dpk', 0, 85.0, 'w48', 90.0),  # KD was not run with this teacher
    ]

    def differences(lines):
        header, _, *body = rows(results_table(lines, ['kd']))
        return [row[header.index('minus kd [95 %]')] for row in body]

    assert differences(kd + dpk) == ['-', '-', '+2.00', '-']
    plain = run('kd', 0, 79.0, 'w12', 90.0)
    assert differences([*kd, plain, *dpk]) == ['-', '-', '-', '+4.00', '-']


def test_curves_table(results):
    header, _, *body = rows(curves_table(results))
    assert header[:3] == ['method', 'teacher', 'stage']
    assert body[1] == ['dpk', 'w48', 'last', *body[1][3:]]
    # first epoch 0.80, 0.81, 0.82; last one half of it
    assert body[1][3:] == ['0.810 ± 0.010', '0.405 ± 0.005', '0.190 ± 0.010', '0.595 ± 0.005']
    assert curves_table([r for r in results if r['method'] == 'baseline']) == ''


def test_groups_keep_their_order_and_runs(results):
    groups = group_results(results)
    assert [(g.method, g.teacher) for g in groups] == [
        ('teacher', 'w12'),
        ('teacher', 'w48'),
        ('baseline', ''),
        ('kd', 'w12'),
        ('kd', 'w48'),
        ('dpk', 'w12'),
        ('dpk', 'w48'),
    ]
    assert groups[-1].scores('test') == {0: 84.0, 1: 85.0, 2: 86.0}
    assert groups[-1].teacher_scores('test') == [90.0] * 3


class Recorder:
    """Keeps the figures that are saved."""

    def __init__(self, monkeypatch):
        self.figures = []
        monkeypatch.setattr(
            'matplotlib.figure.Figure.savefig', lambda figure, *a, **k: self.figures.append(figure)
        )


def test_students_are_drawn_against_their_teachers(results, monkeypatch, tmp_path):
    recorder = Recorder(monkeypatch)
    assert plot_student_against_teacher(results, tmp_path / 'a.png')
    axis = recorder.figures[0].axes[0]
    drawn = {
        container.get_label(): container.lines[0].get_xydata().tolist()
        for container in axis.containers
    }
    assert drawn['kd'] == [[88.0, 82.0], [90.0, 82.0]]
    assert drawn['dpk'][1] == [90.0, 85.0]
    baseline = next(line for line in axis.lines if line.get_label() == 'baseline')
    assert set(baseline.get_ydata()) == {81.0}


def test_one_teacher_is_no_picture(results, tmp_path):
    one = [r for r in results if r['teacher'] in (None, 'w12')]
    assert not plot_student_against_teacher(one, tmp_path / 'a.png')
    assert not plot_curves([r for r in results if r['method'] != 'dpk'], tmp_path / 'a.png')


def test_curves_are_drawn_per_teacher(results, monkeypatch, tmp_path):
    recorder = Recorder(monkeypatch)
    assert plot_curves(results, tmp_path / 'a.png')
    ratio, similarity = recorder.figures[0].axes
    lines = {line.get_label(): line.get_xydata() for line in ratio.lines}
    assert set(lines) == {'dpk, w12', 'dpk, w48'}
    assert lines['dpk, w48'].ravel() == pytest.approx([1, 0.81, 2, 0.405])
    assert similarity.lines[1].get_ydata() == pytest.approx([0.19, 0.595])


def test_scores_are_drawn_by_setting(monkeypatch, tmp_path):
    recorder = Recorder(monkeypatch)
    results = [
        run('dpk', seed, 80 + seed + weight / 10, 'w', 90.0, setting={'weight': weight})
        for weight in (50.0, 0.5, 5.0)
        for seed in (0, 2)
    ]
    results += [run('kd', 0, 70 + w, 'w', 90.0, setting={'weight': w}) for w in (1, 2)]
    # neither several settings at once nor words nor two points alone have a place on an axis
    results += [run('dpk', 0, 1.0, 'w', 90.0, setting={'weight': 7.0, 'lr': 1.0})]
    results += [run('dpk', 0, 1.0, 'w', 90.0, setting={'depths': d}) for d in ('1', '2', '3')]
    results += [run('dpk', 0, 1.0, 'w', 90.0, setting={'lr': lr}) for lr in (1.0, 2.0)]
    assert plot_settings(results, tmp_path / 'a.png')
    (axis,) = recorder.figures[0].axes
    assert (axis.get_xlabel(), axis.get_xscale()) == ('weight', 'log')
    lines = {c.get_label(): c.lines[0].get_xydata() for c in axis.containers}
    assert lines['dpk, w'].ravel() == pytest.approx([0.5, 81.05, 5, 81.5, 50, 86])
    assert lines['kd, w'].ravel() == pytest.approx([1, 71, 2, 72])
    assert not plot_settings(results[-2:], tmp_path / 'b.png')


def test_too_many_curves_are_left_to_the_table(tmp_path):
    results = [
        run('dpk', 0, 80, 'w', 90.0, setting={'weight': w}, **curves(0.5)) for w in range(30)
    ]
    assert not plot_curves(results, tmp_path / 'a.png')
    assert len(rows(curves_table(results))) == 32


def test_report_files(results, tmp_path):
    files = write_report(results, tmp_path / 'out', title='A title')
    assert [file.name for file in files] == ['g.md', 'g_teachers.png', 'g_curves.png']
    assert all(file.stat().st_size for file in files)
    text = files[0].read_text()
    assert text.startswith('# A title\n')
    assert results_table(results, ['baseline', 'kd']) in text and curves_table(results) in text
    assert '![g_teachers](g_teachers.png)' in text
    assert '21 runs on cpu, 2 cores, 2 at a time with 1 threads each' in text
    with pytest.raises(UsageError, match='no result yet'):
        write_report([], tmp_path)
    # by default the title that the grid had, and the grid's name for results from before titles were kept
    assert write_report(results, tmp_path / 'out')[0].read_text().startswith('# g\n')
    titled = [dict(result, title='Of the grid') for result in results]
    assert write_report(titled, tmp_path / 'out')[0].read_text().startswith('# Of the grid\n')


def test_a_readme_gets_the_report_between_its_lines(results, tmp_path):
    readme = tmp_path / 'README.md'
    readme.write_text('before\n<!-- report g -->\nobsolete\n<!-- end of report -->\nafter\n')
    for _ in range(2):  # the second time nothing is left to change
        files = write_report(results, tmp_path / 'results', readme=readme)
        assert readme in files
        text = readme.read_text()
        assert text.startswith('before\n<!-- report g -->\n\n| method |')
        assert text.endswith('\n<!-- end of report -->\nafter\n') and 'obsolete' not in text
        assert text.count('![g_teachers](results/g_teachers.png)') == 1
        assert text.count(results_table(results, ['baseline', 'kd'])) == 1


def test_a_readme_without_a_place_is_left_alone(results, tmp_path):
    readme = tmp_path / 'README.md'
    for text in ('', '<!-- report other -->\n<!-- end of report -->\n', '<!-- report g -->\n'):
        readme.write_text(text)
        with pytest.raises(UsageError, match='<!-- report g -->'):
            write_report(results, tmp_path / 'results', readme=readme)
        assert readme.read_text() == text


def of_seeds(method, scores, teacher='w12', **setting):
    teacher_score = None if teacher is None else 90.0
    return [run(method, s, v, teacher, teacher_score, setting=setting) for s, v in scores.items()]


def test_the_best_setting_is_one_of_those_with_the_most_seeds():
    lines = of_seeds('kd', {0: 80.0, 1: 82.0}, weight=1) + of_seeds('kd', {0: 95.0}, weight=2)
    lines += of_seeds('dpk', {0: 83.0, 1: 86.0})
    header, _, *body = rows(results_table(lines, ['kd']))
    validation = [row[header.index('validation')] for row in body]
    assert validation[:2] == ['**82.00 ± 1.41**', '96.00']
    # 3 and 4 above the weight with both seeds: 3.5 +- 12.706 / 2
    assert body[2][header.index('minus kd [95 %]')] == '+3.50 [-2.85, +9.85]'


def test_students_are_compared_with_the_same_student():
    lines = []
    for width, score in ((8, 90.0), (4, 70.0)):
        setting = {'student width': width}
        lines += of_seeds('baseline', {0: score}, None, **setting)
        lines += of_seeds('kd', {0: score + 1}, **setting)
    header, _, *body = rows(results_table(lines, ['baseline']))
    difference = header.index('minus baseline [95 %]')
    assert [row[difference] for row in body] == ['-', '+1.00', '-', '+1.00']
    # each is the best of its student
    assert all(row[header.index('validation')].startswith('**') for row in body)


def test_fewer_pairs_than_seeds_are_said():
    lines = of_seeds('kd', {0: 80.0, 1: 81.0}) + of_seeds('dpk', {0: 82.0, 1: 83.0, 2: 90.0})
    header, _, _, dpk = rows(results_table(lines, ['kd']))
    assert dpk[header.index('minus kd [95 %]')] == '+2.00 [+2.00, +2.00] (n = 2)'
