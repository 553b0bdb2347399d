"""Trains one linear layer on a frozen student and tests it on a folder of images (linear-probe transfer).

FOLDER holds train/<class>/* and val/<class>/* (or test/<class>/*), as STL-10 and others are commonly
unpacked, or is TinyImageNet's own (``val/val_annotations.txt``). Nothing is downloaded.
"""

import argparse
from dataclasses import asdict

import torch

from dpk_mm.analysis.linear_probe import INPUTS, linear_probe
from dpk_mm.cli.errors import readable_errors
from dpk_mm.fileio import write_json_atomically


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', help='the config: that of the distillation, or that of the student alone'
    )
    parser.add_argument('checkpoint', help='the checkpoint, full or of the student alone')
    parser.add_argument('--data', required=True, metavar='FOLDER', help='the images, see above')
    parser.add_argument(
        '--test-split', metavar='NAME', help='folder to test on; val if there is one, else test'
    )
    parser.add_argument(
        '--input',
        choices=INPUTS,
        default='features',
        help='input of the linear layer: the features before the logits (the paper), or the logits',
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help="size the images are brought to; that of the config's test pipeline if not given",
    )
    parser.add_argument('--epochs', type=int, default=100)
    parser.add_argument('--lr', type=float, default=0.1)
    parser.add_argument('--batch-size', type=int, default=256)
    parser.add_argument('--weight-decay', type=float, default=0.0)
    parser.add_argument('--workers', type=int, default=2, help='processes that read images')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--device', default='auto', help='cpu, cuda, ...; auto: CUDA if there is one'
    )
    parser.add_argument('--out', metavar='FILE', help='write the numbers as JSON, too')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    device = args.device
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    result = linear_probe(
        args.config,
        args.checkpoint,
        args.data,
        test_split=args.test_split,
        kind=args.input,
        image_size=tuple(args.shape) if args.shape else None,
        epochs=args.epochs,
        lr=args.lr,
        batch_size=args.batch_size,
        weight_decay=args.weight_decay,
        workers=args.workers,
        seed=args.seed,
        device=device,
    )
    height, width = result.image_size
    print(
        f'{result.num_train} training and {result.num_test} test images, {result.num_classes} classes; '
        f'{result.dims} {args.input} an image at {height}x{width} (height x width)'
    )
    top5 = '' if result.top5 is None else f', top-5 {result.top5:.2f} %'
    print(f'test: top-1 {result.top1:.2f} %{top5}; training: top-1 {result.train_top1:.2f} %')
    if args.out:
        settings = {key: value for key, value in vars(args).items() if key not in ('out', 'shape')}
        write_json_atomically(args.out, {**settings, 'device': device, **asdict(result)})


if __name__ == '__main__':
    with readable_errors('linear_probe.py'):
        main()
