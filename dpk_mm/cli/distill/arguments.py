"""The options of ``tools/distill.py``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import DictAction

from ...errors import UsageError
from .request import Request

_EXAMPLES = """examples:
  # what would be trained, and whether it works: configs and a dry run of two iterations
  python tools/distill.py --teacher retinanet_r101_fpn_2x_coco --student retinanet_r18_fpn_1x_coco

  # your own images: the teacher first, then the student, then test and report; run it again to continue
  python tools/distill.py --teacher rtmdet_s_8xb32-300e_coco --student rtmdet_tiny_8xb32-300e_coco \\
      --data DATA --epochs 50 --batch-size 16 --train-teacher --train
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    parser = argparse.ArgumentParser(
        description='Makes the config of a distillation from two networks of the zoos (or two configs), tries it out, '
        'and trains it.',
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    networks = parser.add_argument_group('networks and method')
    networks.add_argument(
        '--teacher',
        required=True,
        help='a config file, package::config, or the name of a zoo config',
    )
    networks.add_argument(
        '--student', required=True, help='likewise; its data and schedule are used'
    )
    networks.add_argument(
        '--teacher-ckpt',
        metavar='FILE',
        help="the teacher's checkpoint (default: that of the zoo, if there is one)",
    )
    networks.add_argument(
        '--method',
        help='dpk_fgd, fgd, dpk, kd, kd+dpk, ... (default: dpk_fgd for detectors, kd+dpk for classifiers)',
    )
    networks.add_argument(
        '--gradient-share',
        type=_positive,
        metavar='SHARE',
        help="before training, measure 20 batches and scale the loss weights so that the distillation's gradient on "
        "the student is SHARE times that of the student's own losses, in equal parts of the method's losses (default: "
        'the weights of the method)',
    )
    networks.add_argument(
        '--from-scratch',
        action='store_true',
        help='random weights everywhere; nothing is downloaded',
    )
    data = parser.add_argument_group('your own data')
    data.add_argument(
        '--data',
        nargs='+',
        default=[],
        metavar='PATH',
        help='a folder (annotations/ with COCO files for train and val, or train/ and val/ with a folder of images for '
        'each class), or TRAIN.json VAL.json [TEST.json]',
    )
    data.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='DIR',
        help='the images of the COCO files, if they are not found',
    )
    data.add_argument(
        '--img-size',
        type=_whole,
        metavar='PIXELS',
        help='scales all sizes of the pipelines to this one',
    )
    work = parser.add_argument_group('what is done')
    work.add_argument('--train', action='store_true', help='train, test and report')
    work.add_argument(
        '--train-teacher', action='store_true', help='train the teacher first (with --train)'
    )
    work.add_argument(
        '--baseline', action='store_true', help='train the student without a teacher, too'
    )
    work.add_argument('--no-dry-run', action='store_true', help='leave the dry run out')
    work.add_argument(
        '--work-dir', type=Path, metavar='DIR', help='default: work_dirs/STUDENT_from_TEACHER'
    )
    work.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='the config (default: distill.py in the work folder)',
    )
    work.add_argument(
        '--fresh', action='store_true', help='start over: removes what earlier runs left there'
    )
    schedule = parser.add_argument_group('schedule and machine')
    schedule.add_argument(
        '--epochs', type=_whole, metavar='N', help="passes over the data (default: the zoo's)"
    )
    schedule.add_argument(
        '--teacher-epochs', type=_whole, metavar='N', help='of the teacher (default: --epochs)'
    )
    schedule.add_argument(
        '--batch-size', type=_whole, metavar='N', help="images of one GPU (default: the zoo's)"
    )
    schedule.add_argument(
        '--lr', type=_positive, help="default: the zoo's, scaled with the batch size"
    )
    schedule.add_argument(
        '--workers', type=_not_negative, metavar='N', help='processes of each data loader'
    )
    schedule.add_argument(
        '--gpus', type=_whole, default=1, metavar='N', help='processes of a training'
    )
    schedule.add_argument(
        '--device', choices=['cuda', 'cpu'], help='default: a GPU if there is one'
    )
    schedule.add_argument('--seed', type=_not_negative, metavar='N')
    schedule.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings of the student, its data, its schedule and the distillation, as tools/train.py has them',
    )
    schedule.add_argument(
        '--teacher-cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help="of the teacher's own config",
    )
    parser.add_argument(
        '--traceback', action='store_true', help='show where in the code an error came from'
    )
    return parser


def to_request(args: argparse.Namespace, cuda: bool) -> Request:
    """The request of parsed options.

    Args:
        args: Of :func:`build_parser`.
        cuda: Whether this machine has a GPU.

    Raises:
        UsageError: If options do not go together.
    """
    if args.train_teacher and not args.train:
        raise UsageError('--train-teacher trains the teacher before the student: add --train.')
    if args.baseline and not args.train:
        raise UsageError('--baseline trains the student without a teacher: add --train.')
    if args.teacher_epochs is not None and not args.train_teacher:
        raise UsageError(
            '--teacher-epochs was given, but the teacher is not trained: add --train-teacher.'
        )
    if args.gradient_share is not None and not args.train:
        raise UsageError(
            '--gradient-share is measured with a trained teacher before the training: add --train.'
        )
    if args.device == 'cuda' and not cuda:
        raise UsageError(
            '--device cuda: there is no GPU here: leave the option out to train on the CPU.'
        )
    names = (_stem(args.student), _stem(args.teacher))
    work_dir = args.work_dir or Path('work_dirs') / f'{names[0]}_from_{names[1]}'
    out = args.out or work_dir / 'distill.py'
    if out.suffix != '.py':
        raise UsageError(
            f'--out {out}: the name of a Python file was expected, such as {out.with_suffix(".py")}.'
        )
    return Request(
        teacher=args.teacher,
        student=args.student,
        work_dir=work_dir,
        out=out,
        method=args.method,
        teacher_ckpt=args.teacher_ckpt,
        data=args.data,
        images=args.images,
        train=args.train,
        train_teacher=args.train_teacher,
        baseline=args.baseline,
        gradient_share=args.gradient_share,
        epochs=args.epochs,
        teacher_epochs=args.teacher_epochs,
        img_size=args.img_size,
        batch_size=args.batch_size,
        lr=args.lr,
        workers=args.workers,
        gpus=args.gpus,
        seed=args.seed,
        cuda=cuda and args.device != 'cpu',
        from_scratch=args.from_scratch,
        cfg_options=args.cfg_options or {},
        teacher_cfg_options=args.teacher_cfg_options or {},
    )


def command_line(arguments: Sequence[str]) -> str:
    """The command as it can be typed again."""
    return shlex.join(['python', 'tools/distill.py', *arguments])


def _stem(name: str) -> str:
    return Path(name.rpartition('::')[2]).name.removesuffix('.py')


def _number(kind: Callable[[str], float], least: float, text: str, what: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = least - 1
    if not least <= value < float('inf'):
        raise argparse.ArgumentTypeError(f'{what} was expected, but got {text}')
    return value


def _whole(text: str) -> int:
    return int(_number(int, 1, text, 'a whole number of at least 1'))


def _not_negative(text: str) -> int:
    return int(_number(int, 0, text, 'a whole number of at least 0'))


def _positive(text: str) -> float:
    return _number(float, 1e-12, text, 'a number above 0')
