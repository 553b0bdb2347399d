"""Times training steps of several configs in one process, interleaved."""

import argparse
import json

from rich.console import Console
from rich.table import Table

from dpk_mm.analysis.step_time import measure_step_time


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+', help='the first one is the reference')
    parser.add_argument('--steps', type=int, default=30, help='counted steps of each config')
    parser.add_argument('--warmup', type=int, default=5)
    parser.add_argument('--device', help='cpu or cuda; CUDA if there is one')
    parser.add_argument('--out', metavar='FILE', help='write the numbers as JSON, too')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    results = measure_step_time(args.configs, args.steps, args.warmup, args.device)
    table = Table(title='seconds per training step, median (quartiles)')
    for heading in ('config', 'seconds', 'quartiles', 'ratio'):
        table.add_column(heading, justify='left' if heading == 'config' else 'right')
    for r in results:
        table.add_row(r.config, f'{r.median:.3f}', f'{r.lower:.3f}-{r.upper:.3f}', f'{r.ratio:.2f}')
    Console().print(table)
    if args.out:
        with open(args.out, 'w', encoding='utf-8') as file:
            json.dump([r._asdict() for r in results], file, indent=2)


if __name__ == '__main__':
    main()
