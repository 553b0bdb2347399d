"""The pieces of which sentences of errors are made."""

import pytest

from dpk_mm.errors import (
    CheckpointError,
    DamagedCheckpointError,
    UnsafeCheckpointError,
    UsageError,
    did_you_mean,
    first_few,
)


@pytest.mark.parametrize(
    ('names', 'options', 'expected'),
    [
        ([], {}, ''),
        (['a'], {}, 'a'),
        (['a', 'b', 'c'], {}, 'a, b, c'),
        (['a', 'b', 'c', 'd'], {}, 'a, b, c and 1 more'),
        (range(10), dict(most=2), '0, 1 and 8 more'),
        (iter('abcd'), dict(most=3, quote=True), "'a', 'b', 'c' and 1 more"),
    ],
)
def test_a_list_is_cut_and_the_rest_counted(names, options, expected):
    assert first_few(names, **options) == expected


def test_the_nearest_name_is_offered():
    known = ['ResNet', 'ResNeXt', 'RegNet', 'VGG']
    assert did_you_mean('ResNett', known) == '; did you mean ResNet?'
    assert did_you_mean('Transformer', known) == ''
    assert did_you_mean('x', []) == ''
    # of the names, the whole is asked for a cutoff of 1
    assert did_you_mean('ResNett', iter(known), cutoff=1.0) == ''


def test_who_catches_the_errors():
    """A user's ``except ValueError`` and mmengine's ``except RuntimeError`` go on working."""
    assert issubclass(UsageError, ValueError)
    assert issubclass(CheckpointError, RuntimeError) and not issubclass(CheckpointError, UsageError)
    for error in (UnsafeCheckpointError, DamagedCheckpointError):
        assert issubclass(error, CheckpointError)
    assert not issubclass(UnsafeCheckpointError, DamagedCheckpointError)
