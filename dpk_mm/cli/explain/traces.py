"""What an error and its traceback hold."""

from __future__ import annotations

import dis
from types import FrameType, TracebackType
from typing import Any


def message_of(error: Exception) -> str:
    """The message; of an error from a data worker, whose message is a traceback, its last line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if 'in DataLoader worker process' in text:
        text = text.strip().splitlines()[-1].partition(': ')[2]
    return text


def frames_of(traceback: TracebackType | None) -> list[FrameType]:
    """The frames of a traceback, the one that raised last."""
    frames = []
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames


def raising_package(traceback: TracebackType | None) -> str:
    """The package of the code that raised."""
    frames = frames_of(traceback)
    return frames[-1].f_globals.get('__name__', '').split('.')[0] if frames else ''


def raised_on_purpose(traceback: TracebackType | None) -> bool:
    """Whether a ``raise`` raised, and not an operation that failed, such as ``None[0]``."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code.co_code
    return dis.opname[code[traceback.tb_lasti]] == 'RAISE_VARARGS'


def raising_local(traceback: TracebackType | None, name: str) -> Any:
    """A local variable of the code that raised; None if there is no such variable."""
    frames = frames_of(traceback)
    return frames[-1].f_locals.get(name) if frames else None
