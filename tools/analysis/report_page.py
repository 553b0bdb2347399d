"""Writes one HTML page about trainings, side by side: metrics, sizes, curves, examples, environment."""

import argparse

from dpk_mm.analysis.report import load_run, write_page
from dpk_mm.analysis.run_names import split_name
from dpk_mm.cli.errors import readable_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='[NAME=]WORK_DIR',
        help='work folder of a training, finished or not; without a name it is called as its folder',
    )
    parser.add_argument('--out', required=True, help='file to write, e.g. report.html')
    parser.add_argument(
        '--baseline',
        metavar='NAME',
        help='run that the others are compared with (default: one that is called baseline)',
    )
    parser.add_argument('--title', help='heading of the page')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    runs = []
    for run in args.runs:
        name, folder = split_name(run)
        runs.append(load_run(folder, name))
    named = any(run.name == 'baseline' for run in runs)
    baseline = args.baseline or ('baseline' if named and len(runs) > 1 else None)
    write_page(runs, args.out, baseline, args.title)
    print(args.out)


if __name__ == '__main__':
    with readable_errors('report_page.py'):
        main()
