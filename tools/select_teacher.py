"""Chooses the best of several trained teachers for a student: a look at each, then a short race.

Run it again to continue.
"""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from rich.console import Console
from rich.table import Table

from dpk_mm.analysis.tables import format_duration
from dpk_mm.cli.errors import readable_errors
from dpk_mm.cli.options import load_config
from tools.experiments.console import GridConsole
from tools.experiments.results import RESULTS_FILE
from tools.experiments.teacher_selection.candidates import FORM, parse_candidates, set_data
from tools.experiments.teacher_selection.pages import table
from tools.experiments.teacher_selection.race import ROUNDS
from tools.experiments.teacher_selection.selection import CHOSEN_FILE, Selection, select

EXIT_STOPPED = 130


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'student', help='config of the student, with --method, or of a distillation of it'
    )
    parser.add_argument('--teachers', nargs='+', required=True, metavar=FORM)
    parser.add_argument(
        '--budget', type=float, required=True, metavar='MINUTES', help='for all of it together'
    )
    parser.add_argument(
        '--method',
        help="for a plain student, such as 'kd' or 'dpk_fgd'; of one in the short form, in place of its own",
    )
    parser.add_argument('--data', metavar='DIR', help="data_root of the config's datasets")
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/teacher_of_<student>')
    parser.add_argument('--metric', help='default: accuracy/top1 or coco/bbox_mAP')
    parser.add_argument('--images', type=int, default=500, help='of the look (default: 500)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument(
        '--rounds',
        type=float,
        nargs='+',
        default=ROUNDS,
        help='parts of the schedule that the rounds of the race train (default: 0.1 0.3)',
    )
    parser.add_argument('--workers', type=int, default=1, help='trainings at a time (default: 1)')
    parser.add_argument('--device', default=get_device(), help='of the look (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def print_selection(selection: Selection, console: Console) -> None:
    lines = table(selection)
    shown = Table(caption=f'{selection.metric} in percent; the student: ± standard deviation')
    for index, name in enumerate(lines[0]):
        shown.add_column(name, justify='right' if index else 'left', no_wrap=index == 0)
    for line in lines[1:]:
        shown.add_row(*line)
    console.print(shown)
    for text in [selection.sentence, *selection.notes]:
        console.print(text, highlight=False, soft_wrap=True)


def main() -> int:
    args = parse_args()
    console = Console()
    # one of the short form is completed with each teacher
    student = load_config(args.student, args.cfg_options, complete_short=False)
    folder = (
        args.work_dir or Path('work_dirs') / f'teacher_of_{Path(args.student).stem}'
    ).resolve()

    def change(cfg: Config) -> None:
        if args.data:
            set_data(cfg, args.data)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        selection = select(
            student,
            parse_candidates(args.teachers),
            folder,
            args.budget,
            args.method,
            args.metric,
            args.images,
            args.rounds,
            args.seeds,
            change,
            lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True),
            dict(
                workers=args.workers,
                make_reporter=lambda grid, place: GridConsole(
                    grid, place / RESULTS_FILE, args.workers, console
                ),
            ),
            args.device,
            args.cfg_options,
        )
    except KeyboardInterrupt:
        console.print('Stopped. Run the same command again to continue.')
        return EXIT_STOPPED
    print_selection(selection, console)
    console.print(
        f'It took {format_duration(selection.seconds)}. The whole training: python tools/train.py '
        f'{folder / CHOSEN_FILE}',
        highlight=False,
        soft_wrap=True,
    )
    return 0


if __name__ == '__main__':
    with readable_errors('select_teacher.py'):
        sys.exit(main())
