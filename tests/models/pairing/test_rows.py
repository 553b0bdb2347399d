from dpk_mm.models.pairing import Row, table


def test_columns_are_aligned():
    text = table([Row('a', 'long value', 'why'), Row('longer', 'b', 'because')])
    first, second = text.splitlines()
    assert first.index('why') == second.index('because')
    assert first.index('long value') == second.index('b  ')


def test_no_rows_are_no_text():
    assert table([]) == ''
