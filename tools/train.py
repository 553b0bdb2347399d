"""Trains a model from a config: a distillation, or a plain mmdet or mmpretrain model."""

import argparse
import os

from dpk_mm.compat import CheckpointError
from dpk_mm.engine.errors import UsageError, readable_errors
from dpk_mm.engine.launch import (
    add_common_arguments,
    build_runner,
    finish,
    init_cpu_distributed,
    load_config,
    prepare_config,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or without one from the newest in the work folder',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate from the config's auto_scale_lr.base_batch_size",
    )
    parser.add_argument('--teacher-ckpt', help="the teacher's checkpoint, in place of the config's")
    add_common_arguments(parser)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    with readable_errors('train.py'):
        cfg = load_config(args.config, args.cfg_options, args.work_dir)
        prepare_config(
            cfg,
            launcher=args.launcher,
            resume=args.resume,
            amp=args.amp,
            auto_scale_lr=args.auto_scale_lr,
            teacher_ckpt=args.teacher_ckpt,
        )
        init_cpu_distributed(cfg)
    # a full disk in the middle of a training keeps its traceback, a missing teacher needs none
    with readable_errors('train.py', UsageError, CheckpointError, FileNotFoundError):
        build_runner(cfg).train()
    finish()


if __name__ == '__main__':
    main()
