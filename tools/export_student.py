"""Writes the student of a checkpoint alone, as a plain mmdet or mmpretrain checkpoint."""

import argparse

from dpk_mm.checkpoint.student import export_student
from dpk_mm.cli.errors import readable_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='a checkpoint that the training wrote')
    parser.add_argument('out', help='the file to write')
    parser.add_argument('--force', action='store_true', help='replace the file if it is there')
    parser.add_argument(
        '--raw-weights',
        action='store_true',
        help='of a checkpoint with averaged (EMA) and raw weights, write the raw ones',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with readable_errors('export_student.py'):
        names = export_student(args.checkpoint, args.out, args.force, averaged=not args.raw_weights)
    print(f'{args.out}: {len(names)} weights of the student')


if __name__ == '__main__':
    main()
