"""Generates the shapes set in COCO format."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.shapes import generate_shapes


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='data/shapes', help='folder of the set')
    parser.add_argument('--num-train', type=int, default=500)
    parser.add_argument('--num-val', type=int, default=150)
    parser.add_argument('--image-size', type=int, default=128, help='side in pixels')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--force', action='store_true', help='replace a set that is there')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        made = generate_shapes(
            args.out, args.num_train, args.num_val, args.image_size, args.seed, args.force
        )
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    print(f'{args.out}: {"written" if made else "complete already"}')


if __name__ == '__main__':
    main()
