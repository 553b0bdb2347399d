"""Evaluates the student of a checkpoint, full or student-only; the teacher is not needed."""

import argparse

from dpk_mm.checkpoint.student import load_student, read_student
from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.cli.errors import readable_errors
from dpk_mm.cli.explain import explained_errors
from dpk_mm.cli.options import add_common_arguments, apply_common_arguments, load_config
from dpk_mm.engine.runner.build import build_runner, evaluate_student, finish, init_cpu_distributed
from dpk_mm.engine.runner.prepare import prepare_test_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'config', help='the config: that of the distillation, or that of the student alone'
    )
    parser.add_argument('checkpoint', help='the checkpoint')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='write the predictions (.pkl) or the metrics (.json) to this file',
    )
    parser.add_argument('--show', action='store_true', help='show the predictions in windows')
    parser.add_argument('--show-dir', help='write pictures of the predictions to this folder')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds for which a window stays'
    )
    add_common_arguments(parser)
    args = parser.parse_args()
    apply_common_arguments(args)
    return args


def main() -> None:
    args = parse_args()
    with readable_errors('test.py'):
        cfg = load_config(args.config, args.cfg_options, args.work_dir)
        cfg = prepare_test_config(
            cfg,
            launcher=args.launcher,
            out=args.out,
            show=args.show,
            show_dir=args.show_dir,
            wait_time=args.wait_time,
        )
        weights, _ = read_student(args.checkpoint)
        init_cpu_distributed(cfg)
    with readable_errors('test.py'), explained_errors(cfg) as context:
        context['runner'] = runner = build_runner(cfg)
        load_student(unwrap(runner.model), weights, args.checkpoint)
        evaluate_student(runner, args.out)
    finish()


if __name__ == '__main__':
    main()
