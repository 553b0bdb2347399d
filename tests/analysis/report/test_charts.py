import re
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np

from dpk_mm.analysis.report.charts import Series, draw_chart

SVG = '{http://www.w3.org/2000/svg}'


def series(name, values, first=1):
    values = np.array(values, np.float64)
    return Series(name, np.arange(first, first + len(values), dtype=np.float64), values)


def texts(chart):
    root = ET.fromstring(chart.svg)
    return [''.join(element.itertext()).strip() for element in root.iter(f'{SVG}text')]


def test_an_svg_element_with_text_that_scales_and_takes_the_colour_of_the_page():
    before = dict(matplotlib.rcParams)
    chart = draw_chart('Mask ratio', [series('P4', [0.5, 0.25]), series('P5', [1, 0])], 'ratio')
    assert dict(matplotlib.rcParams) == before
    root = ET.fromstring(chart.svg)
    assert root.tag == f'{SVG}svg'
    assert 'viewBox' in root.attrib and not {'width', 'height'} & set(root.attrib)
    assert {'ratio', 'training iteration', 'P4', 'P5'} <= set(texts(chart))
    assert 'currentColor' in chart.svg and '#010203' not in chart.svg
    assert '#ffffff' not in chart.svg.lower()  # transparent
    assert chart.title == 'Mask ratio'


def test_identifiers_begin_with_the_title_and_are_found():
    charts = [draw_chart(t, [series('a', [1, 2])], 'y') for t in ('One thing', 'Another')]
    found = [set(re.findall(r'\bid="([^"]+)"', chart.svg)) for chart in charts]
    assert not found[0] & found[1]
    assert all(name.startswith('one_thing_') for name in found[0])
    for chart, names in zip(charts, found, strict=True):
        used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', chart.svg)
        assert used and {a or b for a, b in used} <= names


def test_values_for_those_who_do_not_see_it():
    chart = draw_chart('Loss', [series('', [4, 1, 2]), series('b', [0.12345])], 'loss (no unit)')
    assert [column.name for column in chart.table.columns] == [
        'curve',
        'first',
        'last',
        'least',
        'greatest',
    ]
    assert chart.table.rows == [['Loss', '4', '2', '1', '4'], ['b', *['0.1235'] * 4]]
    assert chart.table.caption == 'Loss: loss (no unit)'


def test_without_values_there_is_no_chart():
    assert draw_chart('x', [], 'y') is None
    assert draw_chart('x', [series('a', [])], 'y') is None
    assert draw_chart('x', [series('a', [np.nan, np.inf])], 'y') is None
    assert draw_chart('x', [series('a', [0, -1])], 'y', log=True) is None


def test_values_that_are_not_finite_are_left_out():
    chart = draw_chart('x', [series('a', [np.nan, 2, np.inf, 3])], 'y')
    assert chart.table.rows == [['a', '2', '3', '2', '3']]


def test_a_logarithmic_scale_where_it_is_needed():
    wide = draw_chart('x', [series('a', [0.001, 1000])], 'y', log=True)
    assert {'0.01', '100'} <= set(texts(wide))
    narrow = draw_chart('x', [series('a', [4, 8])], 'y', log=True)
    assert '0' in texts(narrow)  # linear, from zero


def test_a_long_training_is_thinned_and_smoothed():
    short = draw_chart('x', [series('a', np.ones(19))], 'y')
    long = draw_chart('x', [series('a', np.sin(np.arange(100_000)))], 'y')
    assert 'moving average' in long.note and short.note == ''
    assert len(long.svg) < 60_000


def test_levels_are_in_the_legend():
    chart = draw_chart('x', [series('student', [1, 2])], 'y', levels={'teacher': 3.0})
    assert 'teacher' in texts(chart)
