import io
import json

import pytest
from rich.console import Console

from dpk_mm.analysis.tables import (
    Result,
    format_duration,
    print_table,
    rows,
    to_markdown,
    write_results,
)

RESULTS = [
    Result('teacher', 0.311, 0.5, 3_400_000, 245.2),
    Result('student alone', 0.12, 0.2504, 310_000, 59.4),
    Result('DPK + FGD', 0.2199, None, 310_000, 4000),
    Result('not run'),
]


def test_cells():
    header, body = rows(RESULTS, baseline='student alone')
    assert header == ['model', 'mAP', 'points vs. student alone', 'AP50', 'parameters', 'training']
    assert body == [
        ['teacher', '0.311', '+19.1', '0.500', '3.40 M', '4 min 05 s'],
        ['student alone', '0.120', '-', '0.250', '0.31 M', '59 s'],
        ['DPK + FGD', '0.220', '+10.0', '-', '0.31 M', '1 h 06 min'],
        ['not run', '-', '-', '-', '-', '-'],
    ]


@pytest.mark.parametrize('baseline', [None, 'nobody', 'not run'])
def test_no_comparison_without_a_baseline(baseline):
    header, body = rows(RESULTS, baseline)
    assert header == ['model', 'mAP', 'AP50', 'parameters', 'training']
    assert {len(line) for line in body} == {5}


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (None, '-'),
        (0.4, '0 s'),
        (59.6, '1 min 00 s'),
        (3599.4, '59 min 59 s'),
        (3599.6, '1 h 00 min'),
        (7500, '2 h 05 min'),
    ],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_markdown():
    lines = to_markdown([Result('a|b', 0.5), Result('c', 0.25)], 'c').splitlines()
    assert lines == [
        '| model | mAP | points vs. c | AP50 | parameters | training |',
        '| --- | ---: | ---: | ---: | ---: | ---: |',
        r'| a\|b | 0.500 | +25.0 | - | - | - |',
        '| c | 0.250 | - | - | - | - |',
    ]


def test_console_table_holds_every_cell():
    out = io.StringIO()
    print_table(RESULTS, Console(file=out, width=120), 'student alone', 'Results')
    text = out.getvalue()
    assert 'Results' in text
    for cell in ('teacher', '0.311', '+19.1', '3.40 M', '1 h 06 min'):
        assert cell in text


def test_files_hold_the_same_numbers(tmp_path):
    stem = tmp_path / 'new' / 'table.v1'
    write_results(RESULTS, stem, 'student alone', 'Title', {'seed': 0}, 'A note.')
    content = json.loads((tmp_path / 'new' / 'table.v1.json').read_text())
    assert content['seed'] == 0
    assert [Result(**row) for row in content['results']] == RESULTS
    text = (tmp_path / 'new' / 'table.v1.md').read_text()
    assert text == f'# Title\n\n{to_markdown(RESULTS, "student alone")}\nA note.\n'
