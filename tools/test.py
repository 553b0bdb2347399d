"""Evaluates the student of a checkpoint, full or student-only; the teacher is not needed."""

import argparse
import sys

from dpk_mm.checkpoint.student import load_student, read_student
from dpk_mm.checkpoint.student_config import deployed, unwrap
from dpk_mm.cli.errors import readable_errors
from dpk_mm.cli.explain import explained_errors
from dpk_mm.cli.options import (
    add_common_arguments,
    apply_common_arguments,
    load_config,
    unread_in_test,
)
from dpk_mm.engine.runner.build import build_runner, evaluate_student, finish, init_cpu_distributed
from dpk_mm.engine.runner.prepare import named_for_test, prepare_test_config
from dpk_mm.models.pairing import complete, is_short


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
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what --out writes, where the name of the file does not say it: metrics also as .pkl or .yaml',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='predict on changed images as well and merge the predictions (test-time augmentation): by tta_model and '
        'tta_pipeline of the config, else on flipped images',
    )
    parser.add_argument(
        '--amp', action='store_true', help='test in mixed precision (float16); needs a GPU'
    )
    parser.add_argument(
        '--raw-weights',
        action='store_true',
        help='of a checkpoint with averaged (EMA) and raw weights, test the raw ones',
    )
    parser.add_argument('--show', action='store_true', help='show the predictions in windows')
    parser.add_argument('--show-dir', help='write pictures of the predictions to this folder')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds for which a window stays'
    )
    parser.add_argument(
        '--interval', type=int, default=1, help='draw one of so many images (classifiers)'
    )
    add_common_arguments(parser)
    args = parser.parse_args()
    apply_common_arguments(args)
    return args


def main() -> None:
    args = parse_args()
    with readable_errors('test.py'):
        cfg = load_config(args.config, args.cfg_options, args.work_dir, complete_short=False)
        if is_short(cfg):
            cfg.model.setdefault('teacher_ckpt', None)  # no teacher is built
            cfg = complete(cfg).cfg
        for line in unread_in_test(args.cfg_options or {}):
            print(f'warning: {line}', file=sys.stderr)
        cfg = prepare_test_config(
            cfg,
            launcher=args.launcher,
            out=args.out,
            show=args.show,
            show_dir=args.show_dir,
            wait_time=args.wait_time,
            interval=args.interval,
            out_item=args.out_item,
            tta=args.tta,
            amp=args.amp,
            no_pin_memory=args.no_pin_memory,
        )
        weights, _ = read_student(args.checkpoint, averaged=not args.raw_weights)
        init_cpu_distributed(cfg)
    with readable_errors('test.py'), explained_errors(cfg) as context:
        context['runner'] = runner = build_runner(named_for_test(cfg))
        load_student(deployed(unwrap(runner.model)), weights, args.checkpoint)
        evaluate_student(runner, args.out, args.out_item)
    finish()


if __name__ == '__main__':
    main()
