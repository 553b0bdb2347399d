"""Short trainings of the best teachers, each round with half of them and a longer schedule (successive halving)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dpk_mm.cli.process import last_lines
from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_text_atomically

from ..entry_run import LOG_FOLLOWS, LOGS
from ..grid import Entry, Grid
from ..reporter import TRAINING, Reporter
from ..results import metric_value, percent
from ..runner import GridRunner
from .passes import digest
from .schedule import shortened
from .verdict import survivors

#: Parts of the schedule that the rounds train.
ROUNDS = (0.1, 0.3)
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Round:
    """One round.

    Attributes:
        fraction: Of the schedule.
        scores: Teacher -> seed -> score of the student, in percent.
        seconds: Time of its trainings.
        whole: Whether all of its trainings were done.
    """

    fraction: float
    scores: dict[str, dict[int, float]] = field(default_factory=dict)
    seconds: float = 0.0
    whole: bool = False


class Trainer:
    """Trains short versions of configs in a folder; what is there already is not done again.

    Args:
        folder: Of all trainings.
        metric: Name of the metric that counts.
        workers: Trainings at a time.
        make_reporter: Gives what shows a run, from a grid.
        run_command: Runs one command, see ``GridRunner``; None for its own.
    """

    def __init__(
        self,
        folder: Path,
        metric: str,
        workers: int = 1,
        make_reporter: Callable[[Grid, Path], Reporter] | None = None,
        run_command: Callable[..., int] | None = None,
    ) -> None:
        self._folder = folder
        self._metric = metric
        self._workers = workers
        self._make_reporter = make_reporter
        self._more: dict[str, Any] = {} if run_command is None else {'run_command': run_command}

    def train(
        self,
        configs: Mapping[str, Config],
        fraction: float,
        seed: int,
        keep_checkpoints: bool = False,
    ) -> dict[str, dict[str, Any]]:
        """Trains each config for a part of its schedule, from one seed.

        Returns:
            Name -> result, as a line of the results file, with ``score`` in percent.

        Raises:
            UsageError: If a training failed; the sentence holds the end of its log.
            KeyboardInterrupt: After all trainings were ended.
        """
        folder = self._folder / f'part-{fraction:g}-seed-{seed}'
        entries = []
        for name, cfg in configs.items():
            short = shortened(cfg, fraction)
            short.pop('work_dir', None)
            # a checkpoint that changed under the same name is another teacher
            short.teacher_digest = digest(Config(), cfg.model.get('teacher_ckpt'))
            path = folder / 'configs' / f'{name}.py'
            text = short.dump()
            if not path.is_file() or path.read_text(encoding='utf-8') != text:
                write_text_atomically(path, text)
            entries.append(Entry(name=name, config=str(path), method=name, seed=seed))
        grid = Grid(
            name=f'{fraction:g} of the schedule, seed {seed}',
            entries=tuple(entries),
            metric=self._metric,
            parts=('val',),
        )
        reporter = None if self._make_reporter is None else self._make_reporter(grid, folder)
        runner = GridRunner(
            grid,
            ROOT,
            folder,
            workers=self._workers,
            reporter=reporter,
            keep_checkpoints=keep_checkpoints,
            **self._more,
        )
        summary = runner.run()
        if summary.failed:
            name = summary.failed[0]
            reason = summary.reasons.get(name, '')
            if LOG_FOLLOWS not in reason:  # such as a metric that the evaluation does not give
                raise UsageError(reason or f'the training of {name} failed.')
            log = folder / name / LOGS[TRAINING]
            line = next((text for text in reversed(last_lines(log)) if text.strip()), 'nothing')
            raise UsageError(f'the training of {name} failed; {log} ends with: {line}')
        found = {}
        for name in configs:
            result = runner.results[name]
            score = percent(self._metric, metric_value(result['metrics']['val'], self._metric))
            found[name] = {**result, 'score': score, 'folder': str(folder)}
        return found


def run_race(
    configs: Mapping[str, Config],
    trainer: Trainer,
    fractions: Sequence[float],
    seeds: Sequence[int],
    seconds_left: Callable[[], float],
    second_of_part: float,
) -> list[Round]:
    """Races the teachers.

    All teachers of a round are trained from one seed before the next seed begins, so that a race that ends early has
    whole comparisons. No further seed is begun when the time that the last one took is not left.

    Args:
        configs: Teacher -> the whole distillation.
        trainer: Trains them.
        fractions: Of the schedule, one for each round.
        seeds: Of the trainings.
        seconds_left: Of the budget.
        second_of_part: Expected seconds of one training of the whole schedule, for the first seed.

    Returns:
        The rounds that have at least one seed.
    """
    rounds: list[Round] = []
    names = list(configs)
    per_unit = second_of_part  # seconds of one training of the whole schedule
    for fraction in fractions:
        current = Round(fraction)
        for seed in seeds:
            if seconds_left() < per_unit * fraction * len(names):
                break
            results = trainer.train({name: configs[name] for name in names}, fraction, seed)
            taken = 0.0
            for name, result in results.items():
                current.scores.setdefault(name, {})[seed] = result['score']
                taken += result['seconds']
            current.seconds += taken
            per_unit = taken / (fraction * len(names))
        else:
            current.whole = True
        if current.scores:
            rounds.append(current)
        if not current.whole:
            break
        names = survivors(current.scores)
    return rounds


def entrants(
    names: Sequence[str], fractions: Sequence[float], seeds: int, seconds: float, of_one: float
) -> list[str]:
    """As many of the teachers as a race has time for, at least two.

    Args:
        names: Teachers, the most promising first.
        fractions: Of the schedule, one for each round.
        seeds: How many.
        seconds: That are left.
        of_one: Expected seconds of one training of the whole schedule.
    """
    for count in range(len(names), 2, -1):
        cost, left = 0.0, count
        for fraction in fractions:
            cost += left * fraction * seeds * of_one
            left = max(2, (left + 1) // 2)
        if cost <= seconds:
            return list(names[:count])
    return list(names[:2])
