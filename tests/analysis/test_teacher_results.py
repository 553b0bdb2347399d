import json
import statistics

import cv2
import pytest
from matplotlib.figure import Figure

from dpk_mm.analysis.teacher_results import (
    Row,
    plot_accuracy,
    read_rows,
    score_name,
    table_of_pairs,
    table_of_teachers,
    to_markdown,
)
from dpk_mm.errors import UsageError


def line(method, teacher=None, score=50.0, theirs=None, seed=0, **more):
    return {
        'method': method,
        'teacher': teacher,
        'scores': {'test': score, 'val': score + 1},
        'teacher_scores': None if theirs is None else {'test': theirs, 'val': theirs + 1},
        'seed': seed,
        'metric': 'accuracy/top1',
        **more,
    }


LINES = [
    line('teacher', None, 90.0, label='large'),
    line('baseline', score=60.0),
    line('kd', 'large', 64.0, 90.0),
    line('kd', 'large', 66.0, 90.0, seed=1),
    line('kd', 'small', 63.0, 80.0),
    line('dpk', 'large', 68.0, 90.0),
]


def write(folder, lines=LINES, name='results.jsonl'):
    path = folder / name
    path.write_text(''.join(f'{json.dumps(item)}\n' for item in lines))
    return path


class TestRead:
    def test_runs_of_a_pair_are_one_row(self, tmp_path):
        rows, metric = read_rows([write(tmp_path)])
        assert metric == 'accuracy/top1'
        assert rows == [
            Row('', 'baseline', '', [], [60.0]),
            Row('', 'kd', 'large', [90.0, 90.0], [64.0, 66.0]),
            Row('', 'kd', 'small', [80.0], [63.0]),
            Row('', 'dpk', 'large', [90.0], [68.0]),
        ]
        assert (rows[1].mean, rows[1].teacher_mean) == (65.0, 90.0)
        assert rows[1].deviation == pytest.approx(statistics.stdev([64.0, 66.0]))
        assert (rows[0].deviation, rows[0].teacher_mean) == (None, None)

    def test_the_part_and_several_students(self, tmp_path):
        lines = [line('kd', 'large', 64.0, 90.0, setting={'student width': w}) for w in (4, 8)]
        rows, _ = read_rows([write(tmp_path, lines)], 'val')
        assert [(r.student, r.scores, r.teacher_scores) for r in rows] == [
            ('student width 4', [65.0], [91.0]),
            ('student width 8', [65.0], [91.0]),
        ]

    def test_settings_of_a_method_are_no_students(self, tmp_path):
        lines = [line('baseline', score=60.0, setting={'student': 'A'})]
        lines += [
            line('fgd', 'large', 64.0, 90.0, setting={'weight': w, 'student': 'A'}) for w in (1, 10)
        ]
        lines.append(line('kd', 'large', 63.0, 90.0, setting={'weight': 2}, student='B'))
        rows, _ = read_rows([write(tmp_path, lines)])
        assert [(r.student, r.method) for r in rows] == [
            ('student A', 'baseline'),
            ('student A', 'fgd, weight 1'),
            ('student A', 'fgd, weight 10'),
            ('B', 'kd, weight 2'),
        ]
        assert table_of_teachers(rows)[1:] == [
            ['student A', 'large', '90.00', '60.00', '64.00', '64.00', '-'],
            ['B', 'large', '90.00', '-', '-', '-', '63.00'],
        ]

    def test_the_last_line_of_an_entry_counts_over_all_files(self, tmp_path):
        def entry(score, name='kd-s0', grid='g'):
            return line('kd', 'large', score, 90.0, grid=grid, entry=name)

        one = write(tmp_path, [entry(61.0), entry(62.0, 'kd-s1'), line('kd', 'large', 63.0, 90.0)])
        two = write(tmp_path, [entry(65.0), entry(66.0, grid='h'), *LINES[2:3]], 'two.jsonl')
        (row,), _ = read_rows([one, two])
        # lines without both names, which are written by hand, stay
        assert row.scores == [62.0, 63.0, 65.0, 66.0, 64.0]

    @pytest.mark.parametrize(
        ('other', 'called'), [('coco/bbox_mAP', 'of coco/bbox_mAP'), (None, 'of no named metric')]
    )
    def test_two_metrics(self, tmp_path, other, called):
        one = write(tmp_path)
        two = write(tmp_path, [line('fgd', 'large', 0.3, 0.5, metric=other)], 'two.jsonl')
        with pytest.raises(UsageError, match=f'scores of accuracy/top1 and {called}: give'):
            read_rows([one, two])

    def test_fractions_of_mmdet_become_percent(self, tmp_path):
        lines = [line('fgd', 'large', 0.25, 0.5, metric='coco/bbox_mAP')]
        (row,), _ = read_rows([write(tmp_path, lines)])
        assert (row.scores, row.teacher_scores) == ([25.0], [50.0])

    @pytest.mark.parametrize(
        ('metric', 'score', 'called'),
        [
            ('pascal_voc/mAP', 25.0, 'pascal_voc/mAP (percent)'),
            ('accuracy/top1', 0.25, 'accuracy/top1 (percent)'),
            ('f1', 0.25, 'f1'),
            ('', 0.25, 'score'),
        ],
    )
    def test_percent_only_where_the_unit_is_known(self, tmp_path, metric, score, called):
        (row,), found = read_rows([write(tmp_path, [line('kd', 'a', 0.25, 0.5, metric=metric)])])
        assert (row.scores, row.teacher_scores) == ([score], [2 * score])
        assert score_name(found) == called

    def test_validation_where_nothing_was_tested(self, tmp_path):
        lines = [{'method': 'kd', 'teacher': 'a', 'scores': {'val': 3.0}}]
        assert read_rows([write(tmp_path, lines)])[0][0].scores == [3.0]

    @pytest.mark.parametrize('text', ['nonsense', '[1]', '{"scores": {}}', '{"method": "kd"}'])
    def test_a_line_that_is_no_result(self, tmp_path, text):
        path = tmp_path / 'x.jsonl'
        path.write_text(f'\n{text}\n')
        with pytest.raises(UsageError, match='line 2 is no result'):
            read_rows([path])

    def test_no_score(self, tmp_path):
        with pytest.raises(UsageError, match="has a score of the part 'val'"):
            read_rows([write(tmp_path, [])])


def test_the_layout_of_table_13(tmp_path):
    rows, _ = read_rows([write(tmp_path)])
    assert table_of_pairs(rows) == [
        ['teacher', "teacher's score", 'student', 'method', "student's score"],
        ['small', '80.00', '-', 'baseline', '60.00'],
        ['', '', '', 'kd', '63.00'],
        ['large', '90.00', '-', 'baseline', '60.00'],
        ['', '', '', 'kd', '65.00 ± 1.41'],
        ['', '', '', 'dpk', '68.00'],
    ]


def test_the_layout_of_table_14(tmp_path):
    rows, _ = read_rows([write(tmp_path)])
    lines = table_of_teachers(rows)
    assert lines == [
        ['student', 'teacher', "teacher's score", 'baseline', 'kd', 'dpk'],
        ['-', 'small', '80.00', '60.00', '63.00', '-'],
        ['-', 'large', '90.00', '60.00', '65.00 ± 1.41', '68.00'],
    ]
    assert to_markdown(lines, 2).splitlines()[:3] == [
        "| student | teacher | teacher's score | baseline | kd | dpk |",
        '| --- | --- | ---: | ---: | ---: | ---: |',
        '| - | small | 80.00 | 60.00 | 63.00 | - |',
    ]


def test_a_panel_for_each_student(tmp_path):
    lines = [
        line('kd', t, 60.0 + w, s, setting={'student width': w})
        for w in (4, 8)
        for t, s in (('a', 80.0), ('b', 90.0))
    ]
    plot_accuracy(read_rows([write(tmp_path, lines)])[0], tmp_path / 'two.png')
    plot_accuracy(read_rows([write(tmp_path, lines[:2])])[0], tmp_path / 'one.png')
    one, two = (cv2.imread(str(tmp_path / f'{n}.png')).shape[1] for n in ('one', 'two'))
    assert one < two


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, in place of files."""
    drawn = []
    monkeypatch.setattr(Figure, 'savefig', lambda self, *args, **kwargs: drawn.append(self))
    return drawn


def test_the_legend_has_what_any_panel_shows_once(tmp_path, figures):
    rows = [Row('A', 'baseline', '', [], [50.0])]
    rows += [Row(s, 'kd', t, [80.0], [60.0]) for s in 'AB' for t in ('small', 'large')]
    plot_accuracy(rows, tmp_path / 'x.png')
    (legend,) = [axis.get_legend() for axis in figures[0].axes if axis.get_legend()]
    assert sorted(text.get_text() for text in legend.get_texts()) == ['baseline', 'kd']


def test_the_eighth_method_does_not_look_as_the_first(tmp_path, figures):
    rows = [Row('', f'm{i}', t, [80.0], [60.0]) for i in range(9) for t in ('small', 'large')]
    plot_accuracy(rows, tmp_path / 'x.png')
    lines = [container.lines[0] for container in figures[0].axes[0].containers]
    looks = [(line.get_color(), line.get_linestyle(), line.get_fillstyle()) for line in lines]
    assert len(set(looks)) == 9
    assert looks[0][0] == looks[7][0] and looks[0][1:] == ('-', 'full')


def test_a_single_teacher_makes_no_picture(tmp_path):
    rows, _ = read_rows([write(tmp_path, LINES[:4])])
    with pytest.raises(UsageError, match='needs two teachers, but these results have large'):
        plot_accuracy(rows, tmp_path / 'x.png')
