"""Command line of the demonstration; ``tools/quickstart.sh`` installs and then calls it."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dpk_mm.errors import UsageError

from .driver import Driver, PhaseFailed
from .plan import DETECTORS, Plan

EXIT_FAILED = 1
EXIT_SHOWS_NOTHING = 3
EXIT_STOPPED = 130


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='bash tools/quickstart.sh',
        description='Trains a mini teacher, then the same student without a teacher (the baseline), '
        'with FGD, and with DPK + FGD, and compares them. Run it again to continue where it stopped. Exit status: '
        '0 done, 1 a phase failed, 3 the teacher is not far enough ahead of the baseline, '
        '130 stopped.',
    )
    parser.add_argument('--detector', choices=DETECTORS, default=DETECTORS[0])
    parser.add_argument('--fresh', action='store_true', help='start over')
    parser.add_argument(
        '--smoke',
        action='store_true',
        help='one epoch on 32 images, to see that everything works here; the numbers mean nothing',
    )
    parser.add_argument('--seed', type=int, default=0, help='of every training')
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='folder of the results (default: work_dirs/quickstart, or quickstart_smoke)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='passed on to every training and test',
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demonstration from the repository's root; returns the exit status."""
    args = parse_args(arguments)
    console = Console()
    root = Path.cwd()
    if not (root / 'tools' / 'train.py').is_file():
        _print_error(console, f'{root} holds no tools/train.py: run it from the repository root.')
        return EXIT_FAILED
    default = 'quickstart_smoke' if args.smoke else 'quickstart'
    plan = Plan(
        root=root,
        work_dir=args.work_dir or Path('work_dirs') / default,
        detector=args.detector,
        seed=args.seed,
        smoke=args.smoke,
        options=tuple(args.cfg_options),
    )
    before = {name: signal.signal(name, _stop) for name in (signal.SIGTERM, signal.SIGHUP)}
    try:
        return 0 if Driver(plan, console).run(args.fresh) else EXIT_SHOWS_NOTHING
    except KeyboardInterrupt:
        console.print('Stopped. Run the same command again to continue.')
        return EXIT_STOPPED
    except (PhaseFailed, UsageError) as error:
        _print_error(console, str(error))
        return EXIT_FAILED
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _print_error(console: Console, text: str) -> None:
    console.print(text, style='red', markup=False, highlight=False, soft_wrap=True)


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == '__main__':
    sys.exit(main())
