"""Draws the mask of every strategy over one image, at several ratios."""

import argparse

from dpk_mm.analysis.masks import show_masks
from dpk_mm.analysis.picture_files import check_picture
from dpk_mm.cli.errors import readable_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('image', help='a real image, JPEG or PNG')
    parser.add_argument('--out', required=True, help='image to write, e.g. masks.png')
    parser.add_argument(
        '--config',
        help='distillation config whose features give the scores; without it only random, block '
        'and grid are drawn',
    )
    parser.add_argument('--teacher-ckpt', help='untrained without it')
    parser.add_argument('--student-ckpt', help='untrained without it')
    parser.add_argument('--ann-file', help='COCO annotations of the image, for the foreground')
    parser.add_argument('--stage', help='key of transforms; the last one without it')
    parser.add_argument('--ratios', type=float, nargs='+', default=[0.25, 0.5, 0.75])
    parser.add_argument('--size', type=int, default=224, help="pixels of the image's short side")
    parser.add_argument(
        '--grid',
        type=int,
        nargs=2,
        default=[14, 14],
        metavar=('ROWS', 'COLUMNS'),
        help='tokens, where there is no config',
    )
    parser.add_argument(
        '--rows', nargs='+', help="rows to draw, such as: block 'gap, top'; all without it"
    )
    args = parser.parse_args()
    for option in ('teacher-ckpt', 'student-ckpt', 'ann-file', 'stage'):
        if args.config is None and getattr(args, option.replace('-', '_')) is not None:
            parser.error(f'--{option} is of the features of a --config: give one, or leave it out')
    return args


def main() -> None:
    args = parse_args()
    check_picture(args.out)
    show_masks(
        args.image,
        args.out,
        args.config,
        args.teacher_ckpt,
        args.student_ckpt,
        args.ann_file,
        args.stage,
        args.ratios,
        args.size,
        tuple(args.grid),
        args.rows,
    )
    print(args.out)


if __name__ == '__main__':
    with readable_errors('show_masks.py'):
        main()
