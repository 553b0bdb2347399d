"""Says in ten minutes what only a GPU can say of this project: whether it runs there, how fast, and in how much memory.

It needs a machine with torch and torchvision, this repository, and the packages of ``requirements/`` and pytest on
``PYTHONPATH``, where ``pip install --no-deps --target FOLDER WHEELS`` may have put them (``tools/gpu_wheels.sh``
collects them); no network, and no data but what it makes. Each part runs in a process of its own with a limit of its
own. Its JSON is on the disk after every row: one which fails or takes too long loses nothing else, and the next part
begins.

    PYTHONPATH=FOLDER:. python3 tools/gpu_report.py --out OUT

writes OUT/{device_tests,precision,step_times,host_waits,compiled,classify}.json, OUT/report.md and OUT/log.txt: eight
files. Parts: a, tests that need CUDA and a process group of one (NCCL); b, mixed precision; c, time and memory of a
step; d, where the host waits; e, torch.compile and channels_last; f, classification runs in the time that is left.

    python3 tools/gpu_report.py --out OUT --parts f --data cifar100.tar.xz --epochs 60     the last part alone
    python3 tools/gpu_report.py --out OUT --device cpu --tiny                              tests the report itself
    python3 tools/gpu_report.py --tables OUT                                               prints the tables again
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.gpu_suites.driver import MINUTES, PARTS, run_parts  # noqa: E402
from tools.gpu_suites.record import Options  # noqa: E402
from tools.gpu_suites.tables import markdown  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', metavar='FOLDER', help='where the results go')
    parser.add_argument('--tables', metavar='FOLDER', help='print the tables of earlier results')
    letters = [part.name for part in PARTS]
    parser.add_argument('--parts', nargs='+', choices=letters, default=letters, metavar='LETTER')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument('--tiny', action='store_true', help='as small as can be')
    parser.add_argument('--minutes', type=float, default=MINUTES, help='of all parts together')
    group = parser.add_argument_group('classification runs (part f)')
    group.add_argument(
        '--data', default='', help='folder or tar file, train/CLASS/* and test/CLASS/*'
    )
    group.add_argument(
        '--config', default='', help='a pair of classifiers, in configs/_base_/pairs'
    )
    group.add_argument('--teacher', default='', help='its checkpoint; trained here if not given')
    group.add_argument('--methods', nargs='+', default=(), help='of the grid; all by default')
    group.add_argument('--seeds', type=int, default=3)
    group.add_argument(
        '--epochs', type=int, default=0, help='of a student; as the time allows if 0'
    )
    group.add_argument('--jobs', type=int, default=0, help='runs at a time; 6 on CUDA if 0')
    # a part's own process
    parser.add_argument('--run', choices=[part.module for part in PARTS], help=argparse.SUPPRESS)
    parser.add_argument('--options', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.tables and not args.out:
        parser.error('give --out FOLDER, or --tables FOLDER')
    return args


def run_part(module: str, out: str, options: Options) -> None:
    from importlib import import_module

    import torch
    from mmengine.logging import MMLogger

    import dpk_mm  # noqa: F401 (repairs mmrazor)
    from tools.benchmark_suites.report import environment
    from tools.gpu_suites.record import Record

    MMLogger.get_current_instance().setLevel('ERROR')
    if options.device == 'cpu':
        torch.set_num_threads(1)
    record = Record(Path(out) / f'{module}.json', module, options, environment(options.device))
    import_module(f'tools.gpu_suites.{module}').run(options, record)
    record.finish()


def main() -> int:
    args = parse_args()
    if args.tables:
        print(markdown(args.tables, {part.module: part.title for part in PARTS}), end='')
        return 0
    if args.run:
        values = json.loads(args.options)
        run_part(args.run, args.out, Options(**values | dict(methods=tuple(values['methods']))))
        return 0
    options = Options(
        device=args.device,
        tiny=args.tiny,
        data=args.data and str(Path(args.data).resolve()),
        methods=tuple(args.methods),
        config=args.config,
        teacher=args.teacher and str(Path(args.teacher).resolve()),
        seeds=args.seeds,
        epochs=args.epochs,
        jobs=args.jobs,
    )
    out = Path(args.out).resolve()
    good = run_parts(args.parts, out, options, args.minutes, lambda line: print(line, flush=True))
    print(markdown(out, {part.module: part.title for part in PARTS}), end='')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
