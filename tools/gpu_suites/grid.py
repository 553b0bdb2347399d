"""The methods that the classification runs compare."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

from dpk_mm.models import methods
from dpk_mm.models.methods import dkd, dpk, fitnet, kd

Losses = dict[str, dict]
TAU = 4.0

# Name -> the losses for a pair; None: the student alone.
GRID: dict[str, Callable[[str], Losses] | None] = {
    'student alone': None,
    'KD': lambda pair: kd(tau=TAU),
    'KD + DPK small, last': lambda pair: kd(tau=TAU) | dpk(pair, ['last'], size='small'),
    'KD + DPK large, last': lambda pair: kd(tau=TAU) | dpk(pair, ['last']),
    'KD + FitNets, last': lambda pair: kd(tau=TAU) | fitnet(pair, ['last']),
    'DKD': lambda pair: dkd(pair),
    'KD + DPK small, both': lambda pair: kd(tau=TAU) | dpk(pair, size='small'),
}


def losses_of(name: str, num_images: int, num_classes: int) -> Callable[[str], Losses] | None:
    """What a name on the command line stands for.

    Args:
        name: A key of :data:`GRID`, or a function of :mod:`dpk_mm.models.methods`; it is called with the pair and the
            sizes of the data where it has such arguments.
        num_images: Of the training part.
        num_classes: Of the data.

    Raises:
        ValueError: If it is neither.
    """
    if name in GRID:
        return GRID[name]
    function = getattr(methods, name, None) if name in methods.__all__ else None
    if not inspect.isfunction(function):
        known = [n for n in methods.__all__ if inspect.isfunction(getattr(methods, n))]
        raise ValueError(
            f'There is no method {name!r}; choose from {", ".join(GRID)}, or {", ".join(known)}.'
        )
    given = dict(num_images=num_images, num_classes=num_classes)
    arguments = inspect.signature(function).parameters
    bound = partial(function, **{key: v for key, v in given.items() if key in arguments})
    return bound if 'pair' in arguments else lambda pair: bound()
