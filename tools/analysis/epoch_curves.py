"""Draws CKA and mask ratio by epoch for several trainings, such as one student with several teachers."""

import argparse

from dpk_mm.analysis.epoch_curves import plot_epochs
from dpk_mm.analysis.picture_files import check_picture
from dpk_mm.analysis.run_names import named_runs
from dpk_mm.analysis.training_curves import load_scalars
from dpk_mm.cli.errors import readable_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'runs', nargs='+', metavar='[NAME=]RUN', help='work dir of a training, or its scalars.json'
    )
    parser.add_argument('--out', required=True, help='image to write, e.g. epochs.png')
    parser.add_argument('--title', default='')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    check_picture(args.out)
    runs = {name: load_scalars(path) for name, path in named_runs(args.runs).items()}
    stages = plot_epochs(runs, args.out, args.title)
    print(f'{args.out}: {len(runs)} runs, stages {", ".join(stages)}')


if __name__ == '__main__':
    with readable_errors('epoch_curves.py'):
        main()
