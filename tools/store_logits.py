"""Stores the teacher's logits of replayed augmentation, so that KD needs no live teacher.

Training then takes a ``ReplayDataset`` with these logits and a ``StoredTeacher``; see docs/speed.md. A run that was
ended goes on where it stopped.
"""

import argparse

from dpk_mm.cli.errors import readable_errors
from dpk_mm.cli.options import load_config
from dpk_mm.engine.runner.store_logits import store_logits


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a distillation of classifiers, with its live teacher')
    parser.add_argument('folder', help='where the logits go')
    parser.add_argument('--passes', type=int, default=10, help='augmentations of each image')
    parser.add_argument('--top-k', type=int, default=20, help='logits that are kept')
    parser.add_argument('--tau', type=float, default=1.0, help='temperature of the loss')
    parser.add_argument('--seed', type=int, default=0, help='of the augmentation')
    parser.add_argument('--teacher-ckpt', metavar='FILE', help="in place of the config's")
    parser.add_argument('--record', default='logits', help="the teacher's record")
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='CUDA if there is one')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    # before a short form is completed, which asks for it
    options = {'model.teacher_ckpt': args.teacher_ckpt} if args.teacher_ckpt else None
    cfg = load_config(args.config, options)
    store_logits(
        cfg,
        args.folder,
        args.passes,
        args.top_k,
        args.tau,
        args.seed,
        args.record,
        args.device,
    )


if __name__ == '__main__':
    with readable_errors('store_logits.py'):
        main()
