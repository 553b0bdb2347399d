import pytest

import dpk_mm  # noqa: F401
from dpk_mm.cli.errors import readable_errors
from dpk_mm.errors import CheckpointError, UsageError


@pytest.mark.parametrize(
    'error', [UsageError('no key x'), CheckpointError('no key x'), FileNotFoundError('no key x')]
)
def test_errors_of_the_input_become_one_sentence(error):
    with pytest.raises(SystemExit) as caught, readable_errors('train.py'):
        raise error
    assert caught.value.code == 'train.py: no key x'


def test_defects_keep_their_traceback():
    with pytest.raises(ValueError, match='a defect'), readable_errors('train.py'):
        raise ValueError('a defect')
