"""Prints how well DPK's modules rebuild the teacher's feature, by the share of tokens that the teacher gives."""

import argparse
from dataclasses import asdict

from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table

from dpk_mm.analysis.hybrid_error import PARTS, RATIOS, HybridError, measure_hybrid_error
from dpk_mm.cli.errors import readable_errors
from dpk_mm.fileio import write_json_atomically


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a distillation with a DPKLoss')
    parser.add_argument(
        'checkpoint', help='a full checkpoint of that training, such as epoch_24.pth'
    )
    parser.add_argument('--teacher-ckpt', help="the teacher's checkpoint, in place of the config's")
    parser.add_argument('--part', choices=PARTS, default='val', help='images (default: val)')
    parser.add_argument('--batches', type=int, default=16, help='how many (default: 16)')
    parser.add_argument('--ratios', type=float, nargs='+', default=RATIOS, help='mask ratios')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', metavar='FILE', help='write the numbers as JSON, too')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def print_rows(rows: list[HybridError], console: Console) -> None:
    ratios = list(dict.fromkeys(ratio for row in rows for ratio in row.by_ratio))
    table = Table(
        title="error of the hybrid, as a share of the teacher's variance",
        caption="ratio 1: the teacher's own tokens alone, so what the module cannot do; student: its feature as it is",
    )
    table.add_column('stage', no_wrap=True)
    for ratio in ratios:
        table.add_column(f'ratio {ratio:g}', justify='right')
    table.add_column('student', justify='right')
    for row in rows:
        cells = [f'{row.by_ratio[r]:.3f}' if r in row.by_ratio else '-' for r in ratios]
        own = '-' if row.student is None else f'{row.student:.3f}'
        table.add_row(f'{row.loss}.{row.stage}', *cells, own)
    console.print(table)


def main() -> None:
    args = parse_args()
    rows = measure_hybrid_error(
        args.config,
        args.checkpoint,
        args.teacher_ckpt,
        args.part,
        args.batches,
        args.ratios,
        args.cfg_options,
        args.device,
    )
    print_rows(rows, Console())
    if args.out:
        content = {'part': args.part, 'batches': args.batches, 'rows': [asdict(r) for r in rows]}
        write_json_atomically(args.out, content)


if __name__ == '__main__':
    with readable_errors('hybrid_error.py'):
        main()
