"""Writes the student of a checkpoint alone, as a plain mmdet or mmpretrain checkpoint, or as an ONNX file."""

import argparse

from dpk_mm.analysis.onnx_export import TOLERANCE, export_onnx
from dpk_mm.checkpoint.student import export_student
from dpk_mm.cli.errors import readable_errors
from dpk_mm.errors import UsageError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='a checkpoint that the training wrote')
    parser.add_argument('out', help='the file to write')
    parser.add_argument('--force', action='store_true', help='replace the file if it is there')
    parser.add_argument(
        '--raw-weights',
        action='store_true',
        help='of a checkpoint with averaged (EMA) and raw weights, write the raw ones',
    )
    parser.add_argument(
        '--onnx',
        metavar='CONFIG',
        help='write an ONNX file instead, of the model that this config builds (that of the training, or of the '
        'student alone): logits of a classifier, raw outputs of the dense head of a detector',
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the images of the ONNX file; by default that of the test pipeline',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with readable_errors('export_student.py'):
        averaged = not args.raw_weights
        if args.onnx is None:
            _check_no_onnx(args)
            names = export_student(args.checkpoint, args.out, args.force, averaged)
            print(f'{args.out}: {len(names)} weights of the student')
            return
        shape = tuple(args.shape) if args.shape else None
        done = export_onnx(args.onnx, args.checkpoint, args.out, shape, args.force, averaged)
    print(f'{args.out}: pixels [N, {", ".join(map(str, done.shape))}], float32, 0 to 255')
    for name, sizes in done.outputs.items():
        print(f'  {name} [N, {", ".join(map(str, sizes[1:]))}]')
    print(
        f'onnxruntime computes what the model does: difference {done.difference:.1e} of the greatest value '
        f'(accepted: {TOLERANCE:g})'
    )
    if done.note:
        print(f'{done.note[0].upper()}{done.note[1:]}.')


def _check_no_onnx(args: argparse.Namespace) -> None:
    if args.out.endswith('.onnx'):
        raise UsageError(f'{args.out}: for an ONNX file add --onnx CONFIG.')
    if args.shape:
        raise UsageError('--shape was given without --onnx CONFIG: leave it out.')


if __name__ == '__main__':
    main()
