"""Runs commands in processes that begin with the libraries imported.

A training of a minute spends ten seconds of its own on the imports, and so does its evaluation. Here one process
imports them once, and each command is a copy of it (``fork``), which runs the script as Python itself would.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from dpk_mm.cli.process import Running, run_logged, start_process

#: What trainings and evaluations import; what is not installed is left out.
MODULES = (
    'mmengine.runner',
    'mmpretrain.models',
    'mmpretrain.datasets',
    'mmpretrain.evaluation',
    'mmdet.models',
    'mmdet.datasets',
    'mmrazor.models',
    'dpk_mm',
    'dpk_mm.engine.runner.build',
    'matplotlib.pyplot',
)


def warm_run_command(modules: Sequence[str] = MODULES) -> Callable[..., int]:
    """Gives a function like ``run_logged`` whose commands begin with the libraries imported.

    Commands that are no Python script of this interpreter are started as they are. Nothing is imported before the
    first command. There must be no other thread of the caller that uses this module's ``multiprocessing`` context
    differently.

    Args:
        modules: Names of modules that are imported once.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(list(modules))
    return functools.partial(run_logged, start=functools.partial(_start, context))


def _start(
    context: Any,
    command: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    out: int,
    keep_open: Sequence[int],
) -> Running:
    interpreter, script, *arguments = command
    if interpreter != sys.executable or not script.endswith('.py'):
        return start_process(command, cwd, environment, out, keep_open)
    passed = [_Passed(out), *(_Passed(number) for number in keep_open)]
    process = context.Process(
        target=_run_script, args=(script, arguments, str(cwd), dict(environment), passed)
    )
    with _LOCK:
        process.start()
    return _Forked(process)


#: Every start looks at all processes of this module, and two threads that look at one at the same time both read its
#: status, which is there once: the other takes it for lost and reports 255.
_LOCK = threading.Lock()


class _Forked:
    """A process of ``multiprocessing`` with the methods of one of ``subprocess``."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        with _LOCK:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() >= end:
                raise subprocess.TimeoutExpired(f'process {self.pid}', timeout or 0.0)
            time.sleep(0.02)
        return status


class _Passed:
    """A file descriptor that goes along to the new process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (reduction.DupFd(self.number),)


def _receive(passed: Any) -> _Passed:
    return _Passed(passed.detach())


def _run_script(
    script: str,
    arguments: list[str],
    cwd: str,
    environment: dict[str, str],
    passed: list[_Passed],
) -> None:
    """What the new process does; the exit status is that of the script."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(os.devnull, 'rb') as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.stdout.flush()
    sys.stderr.flush()
    for number in (1, 2):
        os.dup2(passed[0].number, number)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(line_buffering=True)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    _set_threads(environment.get('OMP_NUM_THREADS', ''))
    folder = str(Path(cwd, script).resolve().parent)
    sys.path[:] = [folder, *environment.get('PYTHONPATH', '').split(os.pathsep), *sys.path]
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name='__main__')


def _set_threads(threads: str) -> None:
    """The libraries read ``OMP_NUM_THREADS`` when they were imported, which was before this command set it."""
    if threads.isdigit() and 'torch' in sys.modules:
        sys.modules['torch'].set_num_threads(int(threads))
