"""Converts a published CIFAR-100 checkpoint to one of mmpretrain's ImageClassifier.

Not needed for ``teacher_ckpt``, which takes a published file as it is.
"""

import argparse
import sys
from pathlib import Path

import torch

import dpk_mm  # noqa: F401  (importing it lets torch load what mmengine writes)
from dpk_mm.compat.checkpoint import load_checkpoint_file
from dpk_mm.errors import CheckpointError
from dpk_mm.fileio import replacing
from dpk_mm.models.backbones import PUBLISHED_ARCHS, convert_cifar_checkpoint


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', help='published checkpoint: a path or a URL')
    parser.add_argument('dst', type=Path, help='file to write')
    parser.add_argument(
        '--arch', choices=PUBLISHED_ARCHS, help='the network; recognised from the weights if absent'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        weights = convert_cifar_checkpoint(load_checkpoint_file(args.src), args.arch)
        with replacing(args.dst) as file:
            torch.save(dict(meta={}, state_dict=weights), file)
    except (ValueError, OSError, CheckpointError) as error:
        sys.exit(f'error: {args.src}: {error}')
    print(f'{args.dst}: {len(weights)} weights')


if __name__ == '__main__':
    main()
