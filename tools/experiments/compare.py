"""Compares methods on a pair of networks: trains what is missing, and writes a table and a picture."""

from __future__ import annotations

import argparse
import copy
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import torch
from mmengine.config import Config, DictAction
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dpk_mm.cli.errors import readable_errors
from dpk_mm.cli.lock import exclusive
from dpk_mm.errors import UsageError
from tools.experiments.comparison_report import write_comparison
from tools.experiments.compose import (
    EQUAL,
    PUBLISHED,
    Comparison,
    PairConfig,
    find_facts,
    read_pair,
)
from tools.experiments.console import GridConsole
from tools.experiments.data import DRAWN, prepare
from tools.experiments.grid import Entry, Grid
from tools.experiments.methods import METHODS, find_methods, fitting_methods
from tools.experiments.results import RESULTS_FILE, read_results, usable_cores
from tools.experiments.runner import GridRunner, Summary
from tools.experiments.share_files import ShareFiles
from tools.experiments.warm_start import warm_run_command

EXIT_STOPPED = 130
WEIGHTS = {'published': PUBLISHED, 'equal': EQUAL}
#: Of every part of the data; the numbers of such a run mean nothing.
SMOKE = {
    'train_cfg.max_epochs': 1,
    'train_dataloader.dataset.indices': 64,
    'val_dataloader.dataset.indices': 32,
    'test_dataloader.dataset.indices': 32,
}


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'pair', help='name of a pair in configs/_base_/pairs, such as mini_cifar100, or a file'
    )
    parser.add_argument(
        '--methods',
        default='all',
        metavar='A,B,...',
        help="names of methods, 'all' (the default) for all of the pair's task; --methods list shows them",
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument(
        '--weights',
        nargs='+',
        choices=[*WEIGHTS],
        default=[*WEIGHTS],
        help='published weights, weights of equal gradient share, or both (the default)',
    )
    parser.add_argument('--data', metavar='DIR', help='folder of the data set, which is only read')
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='folder of all runs (default: work_dirs/compare/PAIR); run the command again to go on',
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=2 if torch.cuda.is_available() else usable_cores(),
        help='trainings at a time (default: one for each core; 2 with a GPU)',
    )
    teacher = parser.add_mutually_exclusive_group()
    teacher.add_argument(
        '--teacher-ckpt', metavar='FILE', help='a teacher that is trained already, for all seeds'
    )
    teacher.add_argument(
        '--one-teacher',
        action='store_true',
        help='one teacher, of seed 0, for all seeds; otherwise each seed trains one of its own',
    )
    parser.add_argument('--pair-name', metavar='NAME', help='row of dpk_mm/models/pairs.py')
    parser.add_argument(
        '--batches', type=int, default=48, help='batches on which shares are measured (default: 48)'
    )
    parser.add_argument(
        '--out', type=Path, help='folder of table and picture (default: --work-dir)'
    )
    parser.add_argument(
        '--list', action='store_true', help='show what is done and what is missing, and run nothing'
    )
    parser.add_argument(
        '--report',
        action='store_true',
        help='write table and picture of what is done, and run nothing',
    )
    parser.add_argument(
        '--smoke',
        action='store_true',
        help='one epoch on 64 images, in a folder of its own: whether everything runs',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='for all trainings and tests',
    )
    return parser.parse_args(arguments)


class Driver:
    """One comparison: its grids, one after the other.

    Args:
        comparison: The trainings.
        data_options: ``--cfg-options`` that point to the data.
        extra_options: Of all trainings.
        folder: Of all runs.
        root: The repository.
        workers: Trainings at a time.
        batches: On which shares are measured.
        console: Where it is shown.
    """

    def __init__(
        self,
        comparison: Comparison,
        data_options: dict[str, Any],
        extra_options: dict[str, Any],
        folder: Path,
        root: Path,
        workers: int,
        batches: int,
        console: Console,
    ) -> None:
        self.comparison = comparison
        self.folder = folder
        self._data_options = data_options
        self._extra_options = extra_options
        self._root = root
        self._workers = workers
        self._console = console
        self._run_command = warm_run_command()
        self._shares = ShareFiles(folder / 'shares', root, batches, self._run_command)

    @property
    def results(self) -> Path:
        """The file of results."""
        return self.folder / RESULTS_FILE

    def run(self, weights: Sequence[str], lock: IO[str] | None = None) -> Summary:
        """Trains what is missing.

        Args:
            weights: ``PUBLISHED``, ``EQUAL`` or both.
            lock: That of the folder, if the caller holds it.
        """
        names = self.comparison.names
        summary = Summary()
        if PUBLISHED in weights:
            _add(summary, self._runner(self._of_seeds(dict.fromkeys(names))).run(lock=lock))
        if EQUAL in weights:
            names = [name for name in names if METHODS[name].shared_weight]
            found = self._measured(names, summary, lock)
            _add(summary, self._runner(self._of_seeds(found)).run(lock=lock))
        return summary

    def status(self, weights: Sequence[str]) -> dict[str, str]:
        """Name -> state of all trainings."""
        comparison = self.comparison
        found: dict[str, str] = {}
        if PUBLISHED in weights:
            found |= self._runner(self._of_seeds(dict.fromkeys(comparison.names))).status()
        if EQUAL in weights:
            for name in comparison.names:
                own = self._weights(name)
                if own is not None:
                    found |= self._runner(self._of_seeds({name: own})).status()
                elif METHODS[name].shared_weight:
                    found |= {
                        f'{name}-equal-s{seed}': 'missing, and its weight is not measured'
                        for seed in comparison.seeds
                    }
        return found

    def current(
        self, results: Sequence[Mapping[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Takes results apart that cannot be compared with those of this call.

        Args:
            results: Of the folder, of methods and seeds that this call may not name.

        Returns:
            Those that the configs and options of now give, and the names of the entries of others.
        """
        whole = self._of_all(results)
        weights = {name: whole._weights(name) for name in whole.comparison.names}
        measured = {name: own for name, own in weights.items() if own is not None}
        kept: dict[str, dict[str, Any]] = {}
        for of_methods in (dict.fromkeys(weights), measured):
            runner = self._runner(whole._of_seeds(of_methods))
            kept |= {result['entry']: result for result in runner.of_these_settings()}
        entries = [result['entry'] for result in results]
        return [kept[e] for e in entries if e in kept], [e for e in entries if e not in kept]

    def check_options(self, options: Mapping[str, Any], weights: Sequence[str]) -> None:
        """Looks for options of all trainings that would undo what sets one apart from the others.

        Args:
            options: ``--cfg-options`` of the call.
            weights: That are compared.

        Raises:
            UsageError: If there is one.
        """
        comparison = self.comparison
        own: dict[str, str] = {
            'randomness.seed': 'every training',
            'model.teacher_ckpt': 'students',
        }
        for entry in self._of_seeds(dict.fromkeys(comparison.names)):
            own |= dict.fromkeys((*entry.options, *entry.checkpoints), entry.name)
        for name in comparison.names:
            if METHODS[name].first_stage is not None:
                own['train_cfg.max_epochs'] = f'the first stage of {name}'
            if EQUAL in weights:
                losses = comparison.changes[name]['model']['distiller']['distill_losses']
                weighed = comparison.equal_weights(name, dict.fromkeys(losses, 1.0))
                own |= dict.fromkeys(weighed, f'{name}-equal')
        for key in options:
            if key in own:
                raise UsageError(
                    f'--cfg-options {key}: the comparison sets it itself for {own[key]}; leave the option or the '
                    'method out, or write the value into a pair of your own.'
                )

    def shares(self, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What was measured with the settings of now, by method of the results; None where nothing was."""
        whole = self._of_all(results)
        return {name: whole._share(name) for name in whole.comparison.names}

    def _of_all(self, results: Sequence[Mapping[str, Any]]) -> Driver:
        """The same for the methods and seeds of results, too, which this call may not name."""
        whole = copy.copy(self)
        names = [*self.comparison.names, *(result['method'] for result in results)]
        seeds = {*self.comparison.seeds, *(result['seed'] for result in results)}
        whole.comparison = self.comparison.of(names, seeds)
        return whole

    def _measured(
        self, names: Sequence[str], summary: Summary, lock: IO[str] | None
    ) -> dict[str, dict[str, float] | None]:
        """The weights of equal share; what cannot be measured is left out, and stands in the summary."""
        found = {name: self._weights(name) for name in names}
        seeds = self.comparison.seeds
        missing = {
            name: self.comparison.student(name, seeds[0], PUBLISHED)
            for name, own in found.items()
            if own is None
        }
        # the measurements need the checkpoints of all that these need
        runner = self._runner(self._needed_to_measure(list(missing)), keep_checkpoints=True)
        if runner.grid.entries and {*summary.failed}.isdisjoint(
            e.name for e in runner.grid.entries
        ):
            _add(summary, runner.run(lock=lock))
        for name, entry in missing.items():
            equal = [f'{name}-equal-s{seed}' for seed in seeds]
            if not {*summary.failed, *summary.skipped}.isdisjoint(entry.needs):
                summary.skipped += equal
                continue
            try:
                runner.results.load()
                factors = self._shares.measure(name, runner.commands, entry, self._console)
            except UsageError as error:
                self._console.print(str(error), markup=False, highlight=False, soft_wrap=True)
                summary.failed += equal
            else:
                found[name] = self.comparison.equal_weights(name, factors)
        return {name: own for name, own in found.items() if own is not None}

    def _weights(self, name: str) -> dict[str, float] | None:
        """The weights of equal share, as they were measured or as results have them; None if nobody knows them."""
        if not METHODS[name].shared_weight:
            return None
        share = self._share(name)
        if share is not None:
            return self.comparison.equal_weights(name, share['factors'])
        for result in read_results(self.results) if self.results.is_file() else ():
            if (result['method'], result['setting']) == (name, dict(weight=EQUAL)):
                own = self.comparison.weights_of(name, result['options'])
                entry = self.comparison.student(name, result['seed'], EQUAL, own)
                runner = self._runner(self._with_needed([entry], entry.seed))
                if any(r['entry'] == entry.name for r in runner.of_these_settings()):
                    return own
        return None

    def _share(self, name: str) -> dict[str, Any] | None:
        """What was measured of a method, None if nothing was, or with other settings."""
        found = self._shares.read(name)
        if found is None:
            return None
        seed = found.get('seed', self.comparison.seeds[0])
        entry = self.comparison.student(name, seed, PUBLISHED)
        runner = self._runner([e for e in self._with_needed([entry], seed) if e != entry])
        if len(runner.of_these_settings()) < len(runner.grid.entries):
            return None  # teacher or first stage are of other settings, or not there
        return self._shares.current(name, runner.commands, entry)

    def _of_seeds(self, weights: Mapping[str, dict[str, float] | None]) -> list[Entry]:
        """Baseline and students, seed by seed: a comparison that is stopped early has whole ones."""
        comparison = self.comparison
        found: list[Entry] = []
        for seed in comparison.seeds:
            wanted = [comparison.baseline(seed)]
            for name, own in weights.items():
                weight = PUBLISHED if own is None else EQUAL
                wanted.append(comparison.student(name, seed, weight, own))
            # one teacher may serve all seeds
            found += [e for e in self._with_needed(wanted, seed) if e not in found]
        return found

    def _needed_to_measure(self, names: Sequence[str]) -> list[Entry]:
        seed = self.comparison.seeds[0]
        students = [self.comparison.student(name, seed, PUBLISHED) for name in names]
        return [e for e in self._with_needed(students, seed) if e not in students]

    def _with_needed(self, wanted: Sequence[Entry], seed: int) -> list[Entry]:
        """Entries of a seed, each after those that it needs."""
        known = [*self.comparison.teachers(seed), *self.comparison.first_stages(seed)]
        by_name = {entry.name: entry for entry in known}
        found: list[Entry] = []

        def add(entry: Entry) -> None:
            if entry in found:
                return
            for name in entry.needs:
                add(by_name[name])
            found.append(entry)

        for entry in wanted:
            add(entry)
        return found

    def _runner(self, entries: Sequence[Entry], keep_checkpoints: bool = False) -> GridRunner:
        pair = self.comparison.pair
        grid = Grid(
            name=f'compare_{pair.name}',
            entries=tuple(entries),
            metric=pair.metric,
            title=f'Methods on the pair {pair.name}',
            data=dict(pair.comparison.get('data') or {}),
            references=('baseline', 'kd'),
        )
        reporter = GridConsole(grid, self.results, self._workers, self._console)
        return GridRunner(
            grid,
            self._root,
            self.folder,
            self._data_options,
            self._extra_options,
            self._workers,
            reporter,
            self._run_command,
            keep_checkpoints=keep_checkpoints,
        )


def _add(summary: Summary, more: Summary) -> None:
    for key in ('done', 'earlier', 'failed', 'skipped'):
        known = getattr(summary, key)
        # an entry of an earlier grid of this run is not one of an earlier run
        known += [name for name in getattr(more, key) if name not in [*known, *summary.done]]


def has_one_part(cfg: Config, options: Mapping[str, Any]) -> bool:
    """Whether validation and test are of the same images, with the options that point to the data."""
    merged = Config(cfg.to_dict())
    merged.merge_from_dict(dict(options))
    val, test = (merged.get(f'{part}_dataloader') or {} for part in ('val', 'test'))
    return bool(val) and val.get('dataset') == test.get('dataset')


def main() -> int:
    args = parse_args()
    console = Console()
    root = Path(__file__).resolve().parents[2]
    pair = read_pair(args.pair, root, args.pair_name)
    if args.methods == 'list':
        for name, method in METHODS.items():
            if method.task == pair.task:
                console.print(f'{name:17}{method.title}', markup=False, highlight=False)
        return 0
    if len(set(args.seeds)) < len(args.seeds):
        raise UsageError(f'--seeds: one of {" ".join(map(str, args.seeds))} is given twice.')
    folder = (args.work_dir or root / 'work_dirs' / 'compare' / pair.name).resolve()
    if args.smoke:
        folder = folder.with_name(f'{folder.name}_smoke')
    with ExitStack() as stack:
        if args.list or args.report:
            # what only looks leaves the configs and lists of a comparison that may be running as they are
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            return _compare(args, console, root, pair, folder, scratch, None)
        lock = stack.enter_context(exclusive(folder))
        return _compare(args, console, root, pair, folder, folder, lock)


def _compare(
    args: argparse.Namespace,
    console: Console,
    root: Path,
    pair: PairConfig,
    folder: Path,
    scratch: Path,
    lock: IO[str] | None,
) -> int:
    """Does what the arguments say; configs and lists of the data go to ``scratch``."""
    names = find_methods(args.methods.split(','), pair.task)
    teacher_ckpt = args.teacher_ckpt
    if teacher_ckpt is not None and '://' not in teacher_ckpt:
        if not Path(teacher_ckpt).is_file():
            raise UsageError(f'--teacher-ckpt: there is no file {teacher_ckpt}.')
        teacher_ckpt = os.path.abspath(teacher_ckpt)  # trainings run in the repository
    spec = pair.comparison.get('data') or {}
    drawn = spec.get('kind') in DRAWN
    if args.data is not None and (not spec or drawn):
        how = 'draws its data' if spec else 'names its data itself'
        raise UsageError(
            f'--data was given, but {pair.path} {how}: leave the option out, or give the places with --cfg-options.'
        )
    data_options = prepare(spec, args.data, (folder if drawn else scratch) / 'data')
    facts = find_facts(pair, {**data_options, **(args.cfg_options or {})})
    if args.methods == 'all':
        names, left_out = fitting_methods(names, facts, pair.comparison, teacher_ckpt)
        for name, why in left_out.items():
            console.print(f'{name} is left out: {why}', highlight=False)
    comparison = Comparison(
        pair,
        facts,
        names,
        args.seeds,
        scratch / 'configs',
        root,
        teacher_ckpt,
        args.one_teacher,
    )
    extra = {**(SMOKE if args.smoke else {}), **(args.cfg_options or {})}
    driver = Driver(
        comparison, data_options, extra, folder, root, args.workers, args.batches, console
    )
    weights = [WEIGHTS[name] for name in args.weights]
    driver.check_options(args.cfg_options or {}, weights)
    if args.list:
        if not driver.results.is_file():
            console.print(
                f'No results in {folder} yet.', markup=False, highlight=False, soft_wrap=True
            )
        states = driver.status(weights)
        width = max(map(len, states), default=0) + 2
        for name, state in states.items():
            console.print(f'{name:{width}}{state}', markup=False, highlight=False)
        return 0
    summary = Summary()
    if not args.report:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            summary = driver.run(weights, lock)
        except KeyboardInterrupt:
            console.print('Stopped. Run the same command again to continue.')
            return EXIT_STOPPED
        console.print(
            f'{len(summary.done)} done, {len(summary.earlier)} done earlier, {len(summary.failed)} '
            f'failed, {len(summary.skipped)} not run: {driver.results}',
            highlight=False,
            soft_wrap=True,
        )
    found = read_results(driver.results) if driver.results.is_file() else []
    results, others = driver.current(found) if found else ([], [])
    if others:
        console.print(
            f'Not in the table, since they were made with other settings: {", ".join(others)}.',
            highlight=False,
        )
    if args.report and not results:
        raise UsageError(
            f'--report: {driver.results} has no result of this comparison; run it without --report first, or give the '
            'folder of its runs with --work-dir.'
        )
    if results:
        remarks = ['A smoke run: its numbers mean nothing.'] if args.smoke else []
        same_data = has_one_part(pair.cfg, {**data_options, **(args.cfg_options or {})})
        if same_data:
            remarks.append('Validation and test data are the same images.')
        for file in write_comparison(
            results,
            driver.shares(results),
            args.out or folder,
            pair.name,
            ' '.join(remarks),
            same_data,
        ):
            console.print(str(file), highlight=False, soft_wrap=True)
    return 1 if summary.failed else 0


if __name__ == '__main__':
    with readable_errors('compare.py'):
        sys.exit(main())
