"""Prints which levels of the pyramid hold the objects of the training set.

A loss on a level that holds none reaches the student through its backbone alone: choose DPK's stages, and the levels of
FGD, where the boxes are.
"""

import argparse
from dataclasses import asdict

from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table

from dpk_mm.analysis.loading import read_config
from dpk_mm.analysis.object_levels import ObjectLevels, object_levels
from dpk_mm.cli.errors import readable_errors
from dpk_mm.fileio import write_json_atomically


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a training or distillation of a detector')
    parser.add_argument(
        '--images', type=int, default=200, help='training images to look at (default: 200)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='as in tools/train.py',
    )
    parser.add_argument('--out', metavar='FILE', help='write the numbers as JSON, too')
    return parser.parse_args()


def print_levels(found: ObjectLevels, console: Console) -> None:
    title = f'{found.boxes:,} boxes of {found.images:,} training images, by level'
    table = Table(title=title)
    for heading in ('level', 'stride', *found.shares, *(['DPK'] if found.dpk else [])):
        table.add_column(heading, justify='left' if heading in ('level', 'DPK') else 'right')
    strides = sorted({stride for shares in found.shares.values() for stride in shares})
    of_stride = {stride: name for name, stride in found.dpk.items()}
    for stride in strides:
        power = stride.bit_length() - 1
        cells = [shares.get(stride) for shares in found.shares.values()]
        table.add_row(
            f'P{power}' if stride == 2**power else '-',
            str(stride),
            *('-' if share is None else f'{share:.1%}' for share in cells),
            *([of_stride.get(stride, '')] if found.dpk else []),
        )
    console.print(table)
    if found.dpk:
        for name, shares in found.shares.items():
            total = sum(shares.get(stride, 0.0) for stride in set(found.dpk.values()))
            console.print(f"DPK's levels hold {total:.0%} of the boxes by {name}.", highlight=False)


def main() -> None:
    args = parse_args()
    found = object_levels(
        read_config(args.config, args.cfg_options, with_teacher=False), args.images
    )
    print_levels(found, Console())
    if args.out:
        write_json_atomically(args.out, dict(asdict(found), config=args.config))


if __name__ == '__main__':
    with readable_errors('object_levels.py'):
        main()
