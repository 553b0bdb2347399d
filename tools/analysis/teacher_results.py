"""Shows students' scores by teacher and method: a picture (.png, .svg, .pdf) or a Markdown table (.md)."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dpk_mm.analysis.picture_files import check_picture
from dpk_mm.analysis.teacher_results import (
    LAYOUTS,
    PARTS,
    plot_accuracy,
    read_rows,
    score_name,
    table_of_pairs,
    table_of_teachers,
    to_markdown,
)
from dpk_mm.cli.errors import readable_errors
from dpk_mm.fileio import write_text_atomically


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', nargs='+', help='results.jsonl of tools/experiments/run.py')
    parser.add_argument(
        '--out', help='file to write; its suffix says what; without it only the console'
    )
    parser.add_argument(
        '--layout',
        choices=LAYOUTS,
        default='teachers',
        help='of the table: a line for each teacher and a column for each method (table 14 of the paper, the default), '
        'or a block for each pair and a line for each method (table 13)',
    )
    parser.add_argument('--part', choices=PARTS, help='by default test where there is one')
    parser.add_argument('--title', default='')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    suffix = Path(args.out).suffix if args.out else ''
    if args.out:
        check_picture(args.out, others=('.md',))
    rows, metric = read_rows(args.results, args.part)
    pairs = args.layout == 'pairs'
    lines = table_of_pairs(rows) if pairs else table_of_teachers(rows)
    table = Table(title=args.title or None, caption=f'{score_name(metric)}; ± standard deviation')
    for name in lines[0]:
        table.add_column(name)
    for line in lines[1:]:
        table.add_row(*line)
    Console().print(table)
    if suffix == '.md':
        text = to_markdown(lines, 1 if pairs else 2)
        heading = f'# {args.title}\n\n' if args.title else ''
        write_text_atomically(args.out, f'{heading}{text}')
    elif args.out:
        plot_accuracy(rows, args.out, metric, args.title)
    if args.out:
        print(args.out)


if __name__ == '__main__':
    with readable_errors('teacher_results.py'):
        main()
