"""Processes of their own that need not import PyTorch and the OpenMMLab packages again.

A server (:mod:`multiprocessing`'s) imports them once in a test session; each process is a fork of
it, so the seconds of importing are shared and nothing else. The server never trains, so its forks
have no threads to lose. What a test does in the command line that a user types starts a Python of
its own instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[2]
# dpk_mm first: it repairs what the others import
IMPORTED = [
    'dpk_mm',
    *('mmdet.models', 'mmdet.datasets', 'mmdet.engine', 'mmdet.evaluation', 'mmdet.visualization'),
    *('mmpretrain.models', 'mmpretrain.datasets', 'mmpretrain.engine', 'mmpretrain.evaluation'),
    'mmpretrain.visualization',
    *('mmrazor.models', 'mmrazor.engine', 'mmrazor.datasets'),
    *('dpk_mm.models', 'dpk_mm.engine'),
]


def start(
    function: Callable[..., Any],
    *args: Any,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Starts ``function(*args)`` in a process of its own, what it prints in ``log``.

    ``function`` is one of a module of ``tests`` (it is found there by its name). The process ends
    with 0, with the code of a ``SystemExit``, or with 1 and a traceback in ``log``.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(IMPORTED)
    paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
    whole = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)), **(env or {}))
    process = context.Process(
        target=_enter, args=(function, args, str(log), str(cwd or os.getcwd()), whole)
    )
    # for the server, which the first process starts
    with mock.patch.dict(os.environ, PYTHONPATH=whole['PYTHONPATH'], CUDA_VISIBLE_DEVICES=''):
        process.start()
    return process


def run_ranks(
    function: Callable[..., Any], *args: Any, folder: Path, world: int = 2, seconds: float = 600
) -> list[str]:
    """Runs ``function(rank, *args)`` once for each rank, and returns what each printed."""
    logs = [folder / f'rank_{rank}.log' for rank in range(world)]
    ranks = [start(function, r, *args, log=logs[r], cwd=folder) for r in range(world)]
    try:
        for process in ranks:
            process.join(seconds)
    finally:
        for process in ranks:
            process.kill()
    for rank, process in enumerate(ranks):
        assert process.exitcode == 0, f'rank {rank} ended with {process.exitcode}:\n{_end(logs)}'
    return [log.read_text() for log in logs]


def run_tool(
    script: str,
    *arguments: Any,
    log: Path,
    env: Mapping[str, str] | None = None,
    seconds: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Runs ``python script *arguments`` in the repository, without the time of the imports."""
    arguments = [str(argument) for argument in arguments]
    process = start(_script, script, arguments, log=log, cwd=ROOT, env=env)
    process.join(seconds)
    process.kill()
    return subprocess.CompletedProcess([script, *arguments], process.exitcode, log.read_text())


def _end(logs: Sequence[Path]) -> str:
    return '\n'.join(f'{log.name}: {log.read_text()[-2000:]}' for log in logs)


def _script(script: str, arguments: Sequence[str]) -> None:
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name='__main__')


def _enter(
    function: Callable[..., Any], args: tuple, log: str, cwd: str, env: Mapping[str, str]
) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout.reconfigure(line_buffering=True)  # in one order with what goes to stderr
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    try:
        function(*args)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
