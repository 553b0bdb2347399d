"""One sentence on stderr in place of a traceback, where the user can correct the error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import CheckpointError, UsageError

TRACEBACK = 'DPK_TRACEBACK'


@contextmanager
def readable_errors(program: str, *kinds: type[Exception]) -> Iterator[None]:
    """Ends the program with one sentence on stderr and exit status 1 for errors of the input.

    Everything else keeps its traceback, since it is a defect and not a mistake of the user. With
    ``DPK_TRACEBACK`` set in the environment (``--traceback`` of the tools) all errors keep it.

    Args:
        program: The name that stands before the sentence, such as ``'train.py'``.
        *kinds: The errors without a traceback; ``UsageError``, ``CheckpointError`` and ``OSError`` if none is given.
    """
    caught = kinds or (UsageError, CheckpointError, OSError)
    try:
        yield
    except caught as error:
        if os.environ.get(TRACEBACK):
            raise
        sys.exit(f'{program}: {error}')
