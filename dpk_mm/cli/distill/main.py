"""``tools/distill.py``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from ...errors import CheckpointError, UsageError
from ..errors import TRACEBACK, readable_errors
from ..lock import exclusive
from .arguments import build_parser, command_line, to_request
from .commands import Commands
from .driver import Driver, remove_earlier
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
    console = Console()
    shown = Shown(console)
    try:
        with readable_errors('distill.py', UsageError, CheckpointError, OSError):
            request = to_request(args, torch.cuda.is_available())
            with exclusive(request.work_dir):
                if args.fresh:
                    remove_earlier(request.work_dir)
                plan = make_plan(request)
                commands = Commands(tools, request.work_dir / 'logs', shown, request.gpus)
                Driver(plan, commands, shown, command_line(arguments)).run(dry=not args.no_dry_run)
    except KeyboardInterrupt:
        shown.say('Stopped. Run the same command again to continue.')
        return EXIT_STOPPED
    return 0
