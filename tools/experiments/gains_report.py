"""Makes the table of what a gain is made of, one line for each row of a grid, from its results and work folders."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dpk_mm.cli.errors import readable_errors
from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_text_atomically
from tools.experiments.gains import LEGEND, collect, gains_table
from tools.experiments.results import read_results
from tools.experiments.tables import teachers_table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', type=Path, help='results.jsonl of a grid, in its work folder')
    parser.add_argument(
        '--out', type=Path, required=True, help='folder of the table and its numbers'
    )
    parser.add_argument(
        '--levels',
        nargs='*',
        help='names of the features of the neck in their order, such as P2 P3 P4 P5, for losses that have none, as FGD',
    )
    parser.add_argument(
        '--references',
        nargs='+',
        default=['fgd', 'fgd_without', 'kd', 'fitnets', 'fitnets_share'],
        help='methods to compare with, as far as there are results of them (default: %(default)s)',
    )
    parser.add_argument(
        '--confidence', type=float, default=0.95, help='of the intervals (default: 0.95)'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not 0 < args.confidence < 1:
        raise UsageError(f'--confidence must be between 0 and 1, but is {args.confidence:g}.')
    results = collect(read_results(args.results), args.results.parent, args.levels or ())
    if not results:
        raise UsageError(f'{args.results} holds no results: run the grid first.')
    if args.levels is None:
        _check_names(results)
    grid = results[0]['grid']
    heading = results[-1].get('title') or grid
    parts = [gains_table(results, args.references, args.confidence), LEGEND]
    parts.append(teachers_table(results, args.confidence))
    page, numbers = args.out / f'{grid}_gains.md', args.out / f'{grid}_gains.jsonl'
    text = '\n\n'.join(part.strip() for part in [f'# {heading}', *parts] if part)
    write_text_atomically(page, f'{text}\n')
    write_text_atomically(numbers, ''.join(json.dumps(result) + '\n' for result in results))
    print(page, numbers, sep='\n')


def _check_names(results: Sequence[Mapping[str, Any]]) -> None:
    """A neck may begin at P2 or at P3: nobody knows here which of DPK's levels ``feats[0]`` would stand beside."""
    named = {level for result in results for level in result['measures'].get('hybrid', ())}
    for result in results:
        for level in sorted({level for found in result['measures'].values() for level in found}):
            if level.startswith('feats[') and named:
                raise UsageError(
                    f'{result["entry"]} logged {level}, without a name beside {", ".join(sorted(named))}: give the '
                    'names of the features of the neck in their order, such as --levels P2 P3 P4 P5.'
                )


if __name__ == '__main__':
    with readable_errors('gains_report.py'):
        main()
