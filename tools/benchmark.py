"""Measures what distillation costs: all cases of a suite in one process, taking turns.

Suites: step (whole steps against the floor), methods (those of --config and --compare, of one pair), sizes (the
named sizes of DPK's modules), pair_sizes (the same for --config and --compare), parts (of one step), image_side,
windows, batch_size, ranks (growth of the step), syncs (where the host waits for the device), fgd, fgd_boxes,
fgd_levels, encoders, tokens, gap (single functions), stored (KD without a live teacher), imports.
"""

import argparse
import sys
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dpk_mm  # noqa: F401 (repairs mmrazor)
from tools.benchmark_suites import functions, growth, report
from tools.benchmark_suites.imports import imports
from tools.benchmark_suites.methods import methods
from tools.benchmark_suites.pair_sizes import pair_sizes, pair_table
from tools.benchmark_suites.parts import parts
from tools.benchmark_suites.rows import Row
from tools.benchmark_suites.sizes import sizes
from tools.benchmark_suites.steps import steps
from tools.benchmark_suites.stored import stored
from tools.benchmark_suites.syncs import syncs

STEP_SUITES = (
    'step',
    'methods',
    'sizes',
    'pair_sizes',
    'parts',
    'image_side',
    'windows',
    'batch_size',
    'ranks',
    'syncs',
)
SUITES = (*STEP_SUITES, *functions.SUITES, 'stored', 'imports')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('suites', nargs='+', choices=(*SUITES, 'all'), metavar='SUITE')
    parser.add_argument('--config', default='configs/mini/faster_rcnn_dpk.py')
    parser.add_argument(
        '--compare', nargs='+', default=[], help='further configs (step, methods, pair_sizes)'
    )
    parser.add_argument('--image-size', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--batch-size', type=int)
    parser.add_argument('--boxes', type=int, default=10, help='boxes an image')
    parser.add_argument('--mask-ratio', type=float, default=0.5, help='of all stages')
    parser.add_argument('--amp', choices=('float16', 'bfloat16'), help='mixed precision')
    parser.add_argument('--rounds', type=int, default=15, help='counted calls of each case')
    parser.add_argument('--warmup', type=int, default=2, help='calls before them (step, parts)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='CUDA if there is one')
    parser.add_argument(
        '--no-mmrazor-losses', action='store_true', help="leave out mmrazor's own losses (step)"
    )
    parser.add_argument('--no-memory', action='store_true', help='leave out peak memory (step)')
    parser.add_argument('--target', default='', help='shown beside the config in the step suite')
    parser.add_argument('--json', metavar='FILE', help='write all figures')
    parser.add_argument('--markdown', metavar='FILE', help='write the tables')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    size = tuple(args.image_size) if args.image_size else None
    console = Console(width=None if sys.stdout.isatty() else 132)
    # methods and pair_sizes want their configs
    suites = (
        [s for s in SUITES if s not in ('methods', 'pair_sizes')]
        if 'all' in args.suites
        else args.suites
    )
    rows = []

    def keep(found: list[Row]) -> None:
        if args.json:  # after each suite, or each config: a run that is stopped keeps what it has
            report.write_json(
                found, args.json, environment=report.environment(device), arguments=vars(args)
            )

    for suite in suites:
        if suite in functions.SUITES:
            found = functions.SUITES[suite](args.rounds, device)
        elif suite == 'imports':
            found = imports(args.rounds)
        elif suite == 'ranks':
            found = growth.ranks(args.config, args.rounds, args.batch_size, size)
        elif suite == 'stored':
            found = stored(args.rounds, device)
        elif suite == 'windows':
            found = growth.windows(args.config, args.rounds, device, amp=args.amp)
        elif suite == 'image_side':
            found = growth.image_sides(args.config, args.rounds, device, amp=args.amp)
        elif suite == 'batch_size':
            found = growth.batch_sizes(
                args.config, args.rounds, device, image_size=size, amp=args.amp
            )
        else:
            common = dict(
                device=device,
                batch_size=args.batch_size,
                image_size=size,
                boxes_per_image=args.boxes,
                amp=args.amp,
                mask_ratio=args.mask_ratio,
                warmup=args.warmup,
            )
            if suite == 'parts':
                found = parts(args.config, args.rounds, **common)
            elif suite == 'methods':
                found = methods([args.config, *args.compare], args.rounds, **common)
            elif suite == 'syncs':
                found = syncs(args.config, **common)
            elif suite in ('sizes', 'pair_sizes'):
                common['with_memory'] = not args.no_memory
                if suite == 'sizes':
                    found = sizes(args.config, args.rounds, **common)
                else:
                    configs, before = [args.config, *args.compare], list(rows)
                    found = pair_sizes(
                        configs, args.rounds, lambda new, old=before: keep(old + new), **common
                    )
                    print(pair_table(found))
            else:
                common |= dict(compare=args.compare, target=args.target)
                common['mmrazor_losses'] = not args.no_mmrazor_losses
                common['with_memory'] = not args.no_memory
                found = steps(args.config, args.rounds, **common)
        console.print(report.table(suite, found))
        rows += found
        keep(rows)
    if args.markdown:
        with open(args.markdown, 'w', encoding='utf-8') as file:
            file.write(report.markdown(rows))


if __name__ == '__main__':
    main()
