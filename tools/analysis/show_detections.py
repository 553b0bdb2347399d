"""Draws ground truth and the boxes of trained models side by side on a few images."""

import argparse

import torch

from dpk_mm.analysis.detections import show_detections
from dpk_mm.analysis.picture_files import check_picture
from dpk_mm.analysis.run_names import by_name
from dpk_mm.cli.errors import readable_errors


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--model',
        nargs=3,
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
        help='a column of the picture; give it once per model',
    )
    parser.add_argument('--ann-file', required=True, help='COCO annotations')
    parser.add_argument('--images', required=True, help='folder of the images')
    parser.add_argument('--out', required=True, help='image to write, e.g. detections.png')
    parser.add_argument('--num-images', type=int, default=4)
    parser.add_argument('--score-thr', type=float, default=0.3)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    check_picture(args.out)
    models = by_name(
        ((name, (config, checkpoint)) for name, config, checkpoint in args.model), 'models'
    )
    show_detections(
        models,
        args.ann_file,
        args.images,
        args.out,
        args.num_images,
        args.score_thr,
        args.device,
    )
    print(args.out)


if __name__ == '__main__':
    with readable_errors('show_detections.py'):
        main()
