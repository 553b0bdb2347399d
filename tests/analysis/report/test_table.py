import pytest

from dpk_mm.analysis.report.table import number


@pytest.mark.parametrize(
    ('value', 'text'),
    [(0.12345, '0.1235'), (93.126, '93.13'), (2, '2'), (1e-5, '1e-05'), (float('nan'), 'nan')],
)
def test_numbers_have_four_digits(value, text):
    assert number(value) == text
