"""Runs one command, its output in a log file, and follows the lines of that file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

_GRACE_SECONDS = 10.0
COMMAND_LINE = '$ OMP_NUM_THREADS='
"""What the line begins with that a log has before the output of each command."""


class Running(Protocol):
    """A command that was started, in a process group of its own."""

    @property
    def pid(self) -> Any: ...

    def poll(self) -> int | None:
        """Exit status, None while it runs; negative for a signal."""

    def wait(self, timeout: float | None = None) -> Any:
        """Waits for its end; ``subprocess.TimeoutExpired`` after ``timeout`` seconds."""


def worker_threads() -> str:
    """OpenMP threads of each training: one, unless the user sets ``OMP_NUM_THREADS``.

    Several trainings, or a training beside other work, share the cores, and OpenMP's threads wait for each other: two
    threads on two busy cores made a training five times slower than one.
    """
    return os.environ.get('OMP_NUM_THREADS') or '1'


def run_logged(
    command: Sequence[str],
    log: Path,
    cwd: Path,
    on_line: Callable[[str], None],
    on_tick: Callable[[], None],
    keep_open: Sequence[int] = (),
    poll_seconds: float = 0.5,
    start: Callable[..., Running] | None = None,
) -> int:
    """Runs a command to its end; both its outputs are appended to ``log``.

    Args:
        command: Program and arguments; it gets ``worker_threads()`` as ``OMP_NUM_THREADS``.
        log: File, made if missing.
        cwd: Folder the command runs in; it is also put on its ``PYTHONPATH``.
        on_line: Called with each finished line of output, without its end.
        on_tick: Called about every ``poll_seconds``.
        keep_open: File descriptors the command inherits.
        poll_seconds: Time between two looks at the log.
        start: Starts the command, see :func:`start_process`, which is the default.

    Returns:
        Exit status; negative for a signal, as ``subprocess`` has it.

    Raises:
        BaseException: Whatever the callbacks raise or a signal raises meanwhile
            (``KeyboardInterrupt``), after the command and all it started were ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [str(cwd), os.environ.get('PYTHONPATH')]))
    threads = worker_threads()
    environment = dict(os.environ, PYTHONUNBUFFERED='1', PYTHONPATH=path, OMP_NUM_THREADS=threads)
    with open(log, 'ab') as out:
        out.write(f'{COMMAND_LINE}{threads} {" ".join(command)}\n'.encode())
        out.flush()
        begin = out.tell()
        process = (start or start_process)(command, cwd, environment, out.fileno(), keep_open)
    try:
        with open(log, 'rb') as reader:
            reader.seek(begin)
            pending = b''
            while True:
                status = process.poll()  # before reading: nothing is written after the end
                pending += reader.read()
                *lines, pending = pending.split(b'\n')
                for line in lines:
                    on_line(line.decode(errors='replace'))
                on_tick()
                if status is not None:
                    return status
                time.sleep(poll_seconds)
    finally:
        _end_group(process)


def start_process(
    command: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    out: int,
    keep_open: Sequence[int],
) -> Running:
    """Starts a command.

    Args:
        command: Program and arguments.
        cwd: Folder it runs in.
        environment: All of its environment.
        out: File descriptor of both its outputs.
        keep_open: File descriptors that it inherits.
    """
    # A group of its own: a Ctrl-C reaches this process only, which then ends the whole group.
    return subprocess.Popen(
        list(command),
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=tuple(keep_open),
    )


def _end_group(process: Running) -> None:
    """Ends the command and what it started: SIGTERM first, SIGKILL after some seconds."""
    try:
        if process.poll() is None:
            _signal_group(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_SECONDS)
    finally:  # also after a second Ctrl-C, which ends the waiting
        _signal_group(process, signal.SIGKILL)  # also data workers that outlived it
        process.wait()


def _signal_group(process: Running, number: signal.Signals) -> None:
    # The whole group may have ended; some systems say the latter of ended processes.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            if process.poll() is None:  # it has only just begun, and has no group of its own yet
                os.kill(process.pid, number)


def last_lines(log: Path, count: int = 20) -> list[str]:
    """Returns the last lines of a log, none if it does not exist."""
    if not log.is_file():
        return []
    return log.read_text(encoding='utf-8', errors='replace').splitlines()[-count:]
