"""Runs the parts one after another, each in a process of its own and within its time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .record import Options, write
from .tables import markdown

ROOT = Path(__file__).resolve().parents[2]


class Part(NamedTuple):
    """One part of the report.

    Attributes:
        name: Its letter on the command line; its JSON has the name of the module.
        module: In ``tools.gpu_suites``, with a function ``run(options, record)``.
        seconds: Its limit; 0: all the time that is left.
        title: Heading of its table.
    """

    name: str
    module: str
    seconds: int
    title: str


# What the limits of the parts are made for.
MINUTES = 9.5
PARTS = (
    Part('a', 'device_tests', 100, 'Tests on the device, and a process group of one'),
    Part('b', 'precision', 80, 'Mixed precision'),
    Part('c', 'step_times', 170, 'Time and memory of a step'),
    Part('d', 'host_waits', 45, 'Where the host waits'),
    Part('e', 'compiled', 90, 'torch.compile and channels_last'),
    Part('f', 'classify', 0, 'Classification'),
)


def run_parts(
    names: Sequence[str], out: str | Path, options: Options, minutes: float, say: Callable = print
) -> bool:
    """Runs parts, and writes ``<module>.json`` of each, ``log.txt`` and ``report.md``.

    A part that fails or takes too long is ended, with what it has written so far, and the next one begins.

    Args:
        names: Letters of parts, in the order of the report.
        out: Folder.
        options: For all parts; ``seconds`` is replaced by each part's own.
        minutes: Of all parts together; the limits of the parts are in proportion.
        say: Gets a line before and after each part.

    Returns:
        Whether all parts finished without an error in any row.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes
    good = True
    chosen = [part for part in PARTS if part.name in names]
    # those of an earlier run: a part that is left out or dies early would keep them
    for part in chosen:
        (out / f'{part.module}.json').unlink(missing_ok=True)
    for number, part in enumerate(chosen):
        left = end - time.monotonic()
        # whoever follows gets at least a little
        limit = min(
            part.seconds * minutes / MINUTES or left, left - 10 * (len(chosen) - number - 1)
        )
        if limit < 5:
            say(f'{part.name} {part.module}: left out, {left:.0f} s are left')
            good = False
            continue
        say(f'{part.name} {part.module}: at most {limit:.0f} s')
        began = time.monotonic()
        state = _run(part, out, options._replace(seconds=limit - 5), limit)
        errors = _close(out / f'{part.module}.json', part, state)
        good &= state == 'finished' and not errors
        wrong = f', {errors} rows with an error' if errors else ''
        say(f'{part.name} {part.module}: {state} after {time.monotonic() - began:.0f} s{wrong}')
        write(out / 'report.md', markdown(out, {p.module: p.title for p in PARTS}))
    return good


def _run(part: Part, out: Path, options: Options, limit: float) -> str:
    command = [sys.executable, str(ROOT / 'tools' / 'gpu_report.py'), '--run', part.module]
    command += ['--out', str(out), '--options', json.dumps(options._asdict())]
    environment = dict(os.environ, PYTHONUNBUFFERED='1')
    with (out / 'log.txt').open('a', encoding='utf-8') as log:
        log.write(f'\n===== {part.name} {part.module}\n')
        log.flush()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
            return 'finished' if status == 0 else f'ended with status {status}'
        except subprocess.TimeoutExpired:
            return 'stopped at its limit'
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    """Ends a part and the processes that it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)


def _close(path: Path, part: Part, state: str) -> int:
    """Writes how a part ended; the number of its rows with an error."""
    content = dict(part=part.module, rows=[])
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding='utf-8'))
    if state != 'finished' or content.get('state') != 'finished':
        content['state'] = state if state != 'finished' else 'ended early'
        write(path, content)
    return sum('error' in row for row in content['rows'])
