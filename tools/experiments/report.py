"""Turns the results of tools/experiments/run.py into Markdown tables and plots."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dpk_mm.cli.errors import readable_errors
from tools.experiments.pages import REFERENCES, write_report
from tools.experiments.results import read_results


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', nargs='+', help='results.jsonl of one or more grids')
    parser.add_argument('--out', type=Path, required=True, help='folder of the tables and plots')
    parser.add_argument(
        '--references',
        nargs='+',
        default=REFERENCES,
        help='methods that the others are compared with (default: baseline kd fitnets fgd)',
    )
    parser.add_argument(
        '--readme',
        type=Path,
        help="Markdown file that gets them, too, between '<!-- report GRID -->' and '<!-- end of report -->'",
    )
    parser.add_argument('--title', default='', help="heading (default: the grid's title)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    results = [result for path in args.results for result in read_results(path)]
    for file in write_report(results, args.out, args.references, args.title, args.readme):
        print(file)


if __name__ == '__main__':
    with readable_errors('report.py'):
        main()
