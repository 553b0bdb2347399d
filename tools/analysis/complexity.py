"""Prints parameters, FLOPs and activation memory of teacher, student and each transformation module.

Batch 1, on the CPU, without any weights. One multiply-add is one FLOP. Activations are the elements of the
outputs of convolutions, linear layers, matrix products and attention, of four bytes each (float32).
"""

import argparse
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from dpk_mm.analysis.complexity import ComplexityReport, measure_complexity
from dpk_mm.cli.errors import readable_errors
from dpk_mm.fileio import write_json_atomically


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a distillation, or a training of mmdet or mmpretrain')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help="size of the image; that of the config's test pipeline, padded, if not given",
    )
    parser.add_argument(
        '--mask-ratio', type=float, default=0.5, help='share of the tokens that the teacher gives'
    )
    parser.add_argument('--out', metavar='FILE', help='write the numbers as JSON, too')
    return parser.parse_args()


def print_report(report: ComplexityReport, console: Console) -> None:
    height, width = report.image_shape
    title = f'one image of {height}x{width} (height x width), mask ratio {report.mask_ratio:g}'
    table = Table(title=title, caption='FLOPs: multiply-adds; MiB: of the activations in float32')
    for heading in ('module', 'parameters', 'GFLOPs', 'activations', 'MiB'):
        table.add_column(heading, justify='left' if heading == 'module' else 'right', no_wrap=True)
    for row in report.rows:
        table.add_row(
            row.name,
            f'{row.parameters:,}',
            f'{row.flops / 1e9:,.3f}',
            f'{row.activations / 1e6:,.2f} M',
            f'{row.activation_bytes / 2**20:,.1f}',
        )
    console.print(table)
    if report.proposals is not None:
        console.print(f'Second stage: for {report.proposals} proposals.')
    operators = sorted({operator for row in report.rows for operator in row.not_counted})
    if operators:
        console.print(f'FLOPs not counted: {", ".join(operators)}.', highlight=False)


def main() -> None:
    args = parse_args()
    shape = tuple(args.shape) if args.shape else None
    report = measure_complexity(args.config, shape, args.mask_ratio)
    print_report(report, Console())
    if args.out:
        rows = [dict(asdict(r), activation_bytes=r.activation_bytes) for r in report.rows]
        content = dict(asdict(report), config=args.config, batch_size=1, rows=rows)
        write_json_atomically(args.out, content)


if __name__ == '__main__':
    with readable_errors('complexity.py'):
        main()
