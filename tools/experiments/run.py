"""Trains what is missing of a grid of experiments; run it again to continue."""

import argparse
import signal
import sys
from pathlib import Path

import torch
from mmengine.config import DictAction
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dpk_mm.cli.errors import readable_errors
from tools.experiments.console import GridConsole
from tools.experiments.data import prepare
from tools.experiments.grid import load_grid
from tools.experiments.results import RESULTS_FILE, usable_cores
from tools.experiments.runner import GridRunner
from tools.experiments.warm_start import warm_run_command

EXIT_STOPPED = 130


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('grid', help='the grid, see tools/experiments/grids/')
    parser.add_argument('--data', metavar='DIR', help='folder of the data set, which is only read')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/experiments'))
    parser.add_argument(
        '--workers',
        type=int,
        default=2 if torch.cuda.is_available() else usable_cores(),
        help='trainings at a time (default: one for each core; 2 with a GPU)',
    )
    parser.add_argument('--only', metavar='PATTERN', help="names of entries, such as 'dpk-*'")
    parser.add_argument(
        '--list', action='store_true', help='show what is done and what is missing, and run nothing'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='for all trainings and tests, such as train_cfg.max_epochs=1 to try a grid out',
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    console = Console()
    grid = load_grid(args.grid)
    grid.check_options(args.cfg_options or {})
    root = Path(__file__).resolve().parents[2]
    data_options = {}
    if not args.list:
        data_options = prepare(grid.data, args.data, args.work_dir.resolve() / 'data')
    folder = args.work_dir.resolve() / grid.name
    reporter = GridConsole(grid, folder / RESULTS_FILE, args.workers, console)
    runner = GridRunner(
        grid,
        root,
        folder,
        data_options,
        args.cfg_options,
        args.workers,
        reporter,
        run_command=warm_run_command(),
    )
    if args.list:
        for name, state in runner.status(args.only).items():
            console.print(f'{state:8}{name}', markup=False, highlight=False)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        summary = runner.run(args.only)
    except KeyboardInterrupt:
        console.print('Stopped. Run the same command again to continue.')
        return EXIT_STOPPED
    console.print(
        f'{len(summary.done)} done, {len(summary.earlier)} done earlier, {len(summary.failed)} '
        f'failed, {len(summary.skipped)} not run: {runner.results.path}',
        highlight=False,
        soft_wrap=True,
    )
    return 1 if summary.failed else 0


if __name__ == '__main__':
    with readable_errors('run.py'):
        sys.exit(main())
