import json
import statistics

import cv2
import pytest

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
        lines = [line('kd', 'large', 64.0, 90.0, setting={'width': w}) for w in (4, 8)]
        rows, _ = read_rows([write(tmp_path, lines)], 'val')
        assert [(r.student, r.scores, r.teacher_scores) for r in rows] == [
            ('width 4', [65.0], [91.0]),
            ('width 8', [65.0], [91.0]),
        ]

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
        line('kd', t, 60.0 + w, s, setting={'width': w})
        for w in (4, 8)
        for t, s in (('a', 80.0), ('b', 90.0))
    ]
    plot_accuracy(read_rows([write(tmp_path, lines)])[0], tmp_path / 'two.png')
    plot_accuracy(read_rows([write(tmp_path, lines[:2])])[0], tmp_path / 'one.png')
    one, two = (cv2.imread(str(tmp_path / f'{n}.png')).shape[1] for n in ('one', 'two'))
    assert one < two


def test_a_single_teacher_makes_no_picture(tmp_path):
    rows, _ = read_rows([write(tmp_path, LINES[:4])])
    with pytest.raises(UsageError, match='needs two teachers, but these results have large'):
        plot_accuracy(rows, tmp_path / 'x.png')
