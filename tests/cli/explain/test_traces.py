import pytest

from dpk_mm.cli.explain.traces import (
    frames_of,
    message_of,
    raised_on_purpose,
    raising_local,
    raising_package,
)
from dpk_mm.functional import num_masked_tokens


def raised(function, *args):
    with pytest.raises(Exception) as caught:  # noqa: B017
        function(*args)
    return caught.value


def inner(number):
    doubled = 2 * number
    raise RuntimeError(str(doubled))


def outer(number):
    inner(number + 1)


def test_messages():
    assert message_of(ValueError('one\ntwo')) == 'one\ntwo'
    assert message_of(KeyError('no quotation marks')) == 'no quotation marks'
    text = 'Caught ValueError in DataLoader worker process 0.\nTraceback\nValueError: bad: file\n'
    assert message_of(ValueError(text)) == 'bad: file'


def test_the_code_that_raised():
    traceback = raised(outer, 3).__traceback__
    names = [frame.f_code.co_name for frame in frames_of(traceback)]
    assert names == ['raised', 'outer', 'inner']
    assert raising_local(traceback, 'doubled') == 8
    assert raising_local(traceback, 'elsewhere') is None
    assert raising_package(raised(num_masked_tokens, 4, 2.0).__traceback__) == 'dpk_mm'


def test_whether_a_statement_raised():
    assert raised_on_purpose(raised(outer, 3).__traceback__)

    def again(number):
        try:
            return [][number]
        except IndexError as error:
            raise ValueError('no such item') from error

    again_raised = raised(again, 3)
    assert raised_on_purpose(again_raised.__traceback__)
    assert not raised_on_purpose(again_raised.__cause__.__traceback__)
    assert not raised_on_purpose(raised(lambda: [][0]).__traceback__)
    assert not raised_on_purpose(raised(outer, None).__traceback__)


def test_an_error_that_was_not_raised():
    assert frames_of(None) == [] and not raised_on_purpose(None)
    assert raising_package(None) == '' and raising_local(None, 'x') is None
