"""The choice of a teacher from beginning to end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dpk_mm.analysis.teacher_pass import TeacherPass
from dpk_mm.checkpoint.student_config import is_distillation
from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_json_atomically, write_text_atomically
from dpk_mm.functional.similarity import MIN_SAMPLES
from dpk_mm.models.pairing import is_short

from ..results import metric_value, percent
from .candidates import STUDENT, Candidate, pair_config, plain_training
from .pages import draw, markdown
from .passes import Passes
from .race import ROUNDS, Round, Trainer, entrants, run_race
from .schedule import check_rounds, length_of
from .verdict import Verdict, decide

METRICS = ('accuracy/top1', 'coco/bbox_mAP')
SELECTION_FILE = 'selection.json'
CHOSEN_FILE = 'chosen.py'
#: How much longer a step with a teacher is thought to take, until one was measured.
WITH_TEACHER = 2.0


@dataclass
class Selection:
    """What is known of the teachers.

    Attributes:
        passes: Teacher -> measurements.
        misfits: Teacher -> why it cannot teach this student.
        order: Teachers that fit, the highest score first.
        metric: Name of the metric.
        rounds: Of the race.
        verdict: Of its last round; None if there was no race.
        seconds: What it cost: trainings and looks, of earlier runs, too.
        notes: What a reader should know besides.
    """

    metric: str
    passes: dict[str, TeacherPass] = field(default_factory=dict)
    misfits: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    verdict: Verdict | None = None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def teacher_score(self, name: str) -> float:
        """Held-out score of a teacher in percent."""
        return percent(self.metric, metric_value(self.passes[name].metrics, self.metric))

    @property
    def best(self) -> str:
        """The teacher to take: that of the race, or the one with the highest score."""
        return self.order[0] if self.verdict is None else self.verdict.best

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.verdict is not None:
            return self.verdict.sentence
        if len(self.order) == 1:
            return f'{self.best}: the only teacher that fits.'
        return (
            f'Cannot tell: the budget left no time for a race; {self.best} has the highest score.'
        )

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        verdict = None if self.verdict is None else asdict(self.verdict)
        return {
            'metric': self.metric,
            'best': self.best,
            'sentence': self.sentence,
            'verdict': verdict,
            'seconds': round(self.seconds, 1),
            'order': self.order,
            'passes': {name: asdict(look) for name, look in self.passes.items()},
            'misfits': self.misfits,
            'rounds': [asdict(race) for race in self.rounds],
            'notes': self.notes,
        }


def select(
    student: Config,
    candidates: Sequence[Candidate],
    folder: Path,
    budget: float,
    method: str | None = None,
    metric: str | None = None,
    images: int = 500,
    fractions: Sequence[float] = ROUNDS,
    seeds: Sequence[int] = (0, 1, 2),
    change: Callable[[Config], None] | None = None,
    say: Callable[[str], None] = print,
    trainer_options: Mapping[str, Any] | None = None,
    device: str = 'cpu',
    options: Mapping[str, Any] | None = None,
) -> Selection:
    """Chooses a teacher.

    Args:
        student: A plain config, with ``method``, or a distillation.
        candidates: The teachers.
        folder: For everything that is made; a second run goes on in it.
        budget: Minutes for trainings and looks together, those of earlier runs in this folder counted in.
        method: See ``pair_config``.
        options: Likewise.
        metric: Name of the metric that counts; by default that of classifiers or of detectors, whichever there is.
        images: How many each teacher is measured on.
        fractions: Of the schedule, one for each round of the race.
        seeds: Of the race.
        change: Applied to the config of each pair, such as the folder of the data.
        say: Shows a line.
        trainer_options: Of ``Trainer``.
        device: Torch device of the looks.

    Returns:
        What was found; it is in ``folder``, too.

    Raises:
        UsageError: If an argument cannot be, no teacher fits, or a training failed.
    """
    _check(student, budget, method, images, seeds)
    pairs: dict[str, Config] = {}
    misfits: dict[str, str] = {}
    looks = Passes(folder, images, device)
    for candidate in candidates:
        why: str | None = None
        try:
            cfg = pair_config(student, candidate, method, options)
            length_of(cfg)
        except UsageError as error:
            why = str(error)
        else:
            if change is not None:
                change(cfg)
            why = looks.misfit(candidate.name, cfg)
        if why is None:
            pairs[candidate.name] = cfg
            say(f'{candidate.name}: fits')
        else:
            misfits[candidate.name] = why
            say(f'{candidate.name}: does not fit: {why}')
    if not pairs:
        name, why = next(iter(misfits.items()))
        raise UsageError(f'no teacher fits the student; {name}: {why}')

    for cfg in pairs.values():
        check_rounds(cfg, fractions)
    metric = metric or _metric_of(next(iter(pairs.values())))
    selection = Selection(metric, misfits=misfits)
    trainer = Trainer(folder / 'race', metric, **(trainer_options or {}))
    say(
        f'the student alone, {fractions[0]:g} of the schedule: for CKA, and for the time that it takes'
    )
    alone = plain_training(next(iter(pairs.values())))
    brief = trainer.train({STUDENT: alone}, fractions[0], seeds[0], keep_checkpoints=True)
    result = brief[STUDENT]
    checkpoint = str(Path(result['folder']) / result['checkpoint'])
    spent = result['seconds']

    for name, cfg in pairs.items():
        look = looks.measure(name, cfg, checkpoint)
        selection.passes[name] = look
        try:
            score = selection.teacher_score(name)
        except UsageError as error:
            raise UsageError(f'--metric {metric}, {name}: {error}') from None
        say(f'{name}: {metric} {score:.2f} on {look.images} images')
    if not any(metric in look.metrics for look in selection.passes.values()):
        raise UsageError(
            f'--metric {metric}: no teacher has it, as detectors that find nothing in {images} images; check the '
            'checkpoints and the data, or take more --images.'
        )
    selection.order = sorted(pairs, key=lambda name: -selection.teacher_score(name))

    counted = _Counted(trainer)

    def seconds_left() -> float:
        return 60 * budget - spent - looks.seconds - counted.seconds

    of_one = WITH_TEACHER * result['seconds'] / fractions[0]
    racing = entrants(selection.order, fractions, len(seeds), seconds_left(), of_one)
    left_out = [name for name in selection.order if name not in racing]
    if left_out:
        selection.notes.append(
            f'- Not in the race, for the budget: {", ".join(left_out)}, with the lowest scores.'
        )
    if len(racing) > 1:
        selection.rounds = run_race(
            {name: pairs[name] for name in racing},
            counted,
            fractions,
            seeds,
            seconds_left,
            of_one,
        )
        if selection.rounds:
            selection.verdict = decide(selection.rounds[-1].scores)
        whole = len(selection.rounds) == len(fractions) and selection.rounds[-1].whole
        if selection.rounds and not whole:
            selection.notes.append('- The race was not finished, for the budget.')
    selection.seconds = spent + looks.seconds + counted.seconds
    _write(selection, pairs[selection.best], folder)
    return selection


class _Counted:
    """A trainer whose seconds are summed up."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.seconds = 0.0

    def train(self, *args: Any, **kwargs: Any) -> dict[str, dict[str, Any]]:
        results = self._trainer.train(*args, **kwargs)
        self.seconds += sum(result['seconds'] for result in results.values())
        return results


def _check(
    student: Config, budget: float, method: str | None, images: int, seeds: Sequence[int]
) -> None:
    """What would fail after the first training only, or be ignored."""
    if not budget > 0:
        raise UsageError(f'--budget must be a number of minutes above 0, but is {budget:g}.')
    if images < MIN_SAMPLES:
        raise UsageError(f'--images must be at least {MIN_SAMPLES}, but is {images}.')
    twice = [seed for seed in seeds if list(seeds).count(seed) > 1]
    if twice:
        raise UsageError(f'--seeds: {twice[0]} is there twice; give each seed once.')
    if method is not None and is_distillation(student) and not is_short(student):
        raise UsageError(
            f'--method {method}: STUDENT is a distillation that says its losses itself; leave the option out, or give '
            'the plain config of the student.'
        )


def _metric_of(cfg: Config) -> str:
    evaluators = cfg.get('val_evaluator') or []
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    kinds = [str(e.get('type')).rpartition('.')[2] for e in evaluators]
    return METRICS[0] if 'Accuracy' in kinds else METRICS[1]


def _write(selection: Selection, chosen: Config, folder: Path) -> None:
    write_json_atomically(folder / SELECTION_FILE, selection.to_dict())
    write_text_atomically(folder / 'selection.md', markdown(selection))
    draw(selection, folder / 'selection.png', selection.metric)
    chosen.pop('work_dir', None)
    write_text_atomically(folder / CHOSEN_FILE, f'# {selection.sentence}\n{chosen.dump()}')


def read_selection(folder: Path) -> dict[str, Any]:
    """What an earlier run wrote."""
    content: dict[str, Any] = json.loads((folder / SELECTION_FILE).read_text(encoding='utf-8'))
    return content
