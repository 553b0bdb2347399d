"""Trains a model from a config: a distillation, or a plain mmdet or mmpretrain model."""

import argparse

from dpk_mm.analysis.report import ReportHook, load_run
from dpk_mm.checkpoint.resume import prepare_resume
from dpk_mm.cli.errors import readable_errors
from dpk_mm.cli.explain import explained_errors
from dpk_mm.cli.options import add_common_arguments, apply_common_arguments, load_config
from dpk_mm.engine.runner.build import build_runner, finish, init_cpu_distributed
from dpk_mm.engine.runner.prepare import prepare_config
from dpk_mm.errors import CheckpointError, UsageError
from dpk_mm.fileio import DiskFullError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or without one from the newest good one in the work '
        'folder; the result is that of a run that was never stopped',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const=True,
        default=False,
        choices=['fp16', 'bf16'],
        help='mixed precision; fp16 (the default) needs a GPU, bf16 runs on CPUs, too',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate from the config's auto_scale_lr.base_batch_size",
    )
    parser.add_argument('--no-validate', action='store_true', help='train without validation')
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='start the workers of the data loaders anew in every epoch',
    )
    parser.add_argument('--teacher-ckpt', help="the teacher's checkpoint, in place of the config's")
    parser.add_argument(
        '--baseline',
        metavar='WORK_DIR',
        help="work folder of the student's training without a teacher, shown in report.html",
    )
    parser.add_argument('--no-report', action='store_true', help='do not write report.html')
    add_common_arguments(parser)
    args = parser.parse_args()
    apply_common_arguments(args)
    return args


def main() -> None:
    args = parse_args()
    with readable_errors('train.py'):
        # the teacher's file already here: what completes a short config asks for it, and says what it took
        cfg = load_config(
            args.config,
            args.cfg_options,
            args.work_dir,
            print_choices=True,
            teacher_ckpt=args.teacher_ckpt,
        )
        if args.baseline is not None:
            load_run(args.baseline)  # a wrong folder is said before the training
        prepare_config(
            cfg,
            launcher=args.launcher,
            resume=args.resume,
            amp=args.amp,
            auto_scale_lr=args.auto_scale_lr,
            teacher_ckpt=args.teacher_ckpt,
            no_validate=args.no_validate,
            no_pin_memory=args.no_pin_memory,
            no_persistent_workers=args.no_persistent_workers,
        )
        init_cpu_distributed(cfg)
        prepare_resume(cfg)
    # other errors of the system, in the middle of a training, keep their traceback
    kinds = (UsageError, CheckpointError, DiskFullError, FileNotFoundError)
    with readable_errors('train.py', *kinds), explained_errors(cfg) as context:
        context['runner'] = runner = build_runner(cfg)
        if not args.no_report:
            runner.register_hook(ReportHook(args.baseline))
        runner.train()
    finish()


if __name__ == '__main__':
    main()
