"""``tools/distill.py``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from ...errors import CheckpointError, UsageError
from ..errors import TRACEBACK, readable_errors
from ..lock import exclusive
from ..process import run_logged
from .arguments import build_parser, command_line, to_request
from .commands import Commands
from .driver import LOGS, Driver
from .plan import make_plan
from .shown import Shown

EXIT_STOPPED = 130


def main(tools: Path, arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says.

    Args:
        tools: Folder of ``train.py`` and the other tools.
        arguments: Of the command line, without the program.

    Returns:
        The exit status: 0, or 130 if it was stopped.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    args = build_parser().parse_args(arguments)
    if args.traceback:
        os.environ[TRACEBACK] = '1'
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # of the trainings, which are started from here
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    console = Console()
    shown = Shown(console)
    driver = None
    try:
        with readable_errors('distill.py', UsageError, CheckpointError, OSError):
            request = to_request(args, torch.cuda.is_available())
            with exclusive(request.work_dir) as lock:
                plan = make_plan(request)
                # a training that outlives a killed driver keeps a second one of the same command out
                run = partial(run_logged, keep_open=(lock.fileno(),))
                commands = Commands(tools, request.work_dir / LOGS, shown, request.gpus, run)
                driver = Driver(plan, commands, shown, command_line(arguments))
                driver.run(dry=not args.no_dry_run, fresh=args.fresh)
    except KeyboardInterrupt:
        again = 'the same command again'
        if driver is not None and driver.started_over:
            again = 'the command again without --fresh, which would start over once more,'
        shown.say(f'Stopped. Run {again} to continue.')
        return EXIT_STOPPED
    return 0
