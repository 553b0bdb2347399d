"""Draws mask ratio and similarity per stage, or the training losses of several runs."""

import argparse

from dpk_mm.analysis.picture_files import check_picture
from dpk_mm.analysis.run_names import named_runs
from dpk_mm.analysis.training_curves import load_scalars, plot_losses, plot_mask_ratio
from dpk_mm.cli.errors import readable_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('kind', choices=['mask_ratio', 'losses'])
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='[NAME=]RUN',
        help='work dir of a training, or its scalars.json; mask_ratio takes one, losses several',
    )
    parser.add_argument('--out', required=True, help='image to write, e.g. losses.png')
    parser.add_argument(
        '--smoothing', type=float, default=0.6, help='weight of the moving average, 0 for none'
    )
    parser.add_argument('--title', default='')
    args = parser.parse_args()
    if args.kind == 'mask_ratio' and len(args.runs) > 1:
        parser.error('mask_ratio draws one run')
    return args


def main() -> None:
    args = parse_args()
    check_picture(args.out)
    runs = {name: load_scalars(path) for name, path in named_runs(args.runs).items()}
    if args.kind == 'losses':
        plot_losses(runs, args.out, args.smoothing, args.title)
    else:
        plot_mask_ratio(next(iter(runs.values())), args.out, args.smoothing, args.title)
    print(args.out)


if __name__ == '__main__':
    with readable_errors('plot_curves.py'):
        main()
