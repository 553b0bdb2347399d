"""The names of the pictures that the tools write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..errors import UsageError
from .loading import PathLike


def check_picture(path: PathLike, others: Sequence[str] = ()) -> None:
    """Refuses a picture of a format that matplotlib does not write, before anything is measured.

    Args:
        path: Of ``--out``.
        others: Further suffixes that the tool writes, such as ``'.md'``.

    Raises:
        UsageError: If the suffix is none of them, or there is none.
    """
    pictures = (f'.{kind}' for kind in Figure().canvas.get_supported_filetypes())
    known = sorted({*pictures, *others})
    # matplotlib would write a name without a suffix to another file
    if Path(path).suffix.lower() not in known:
        raise UsageError(
            f'--out {path}: the suffix says what is written, and must be one of {", ".join(known)}.'
        )
