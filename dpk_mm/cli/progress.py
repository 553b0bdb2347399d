"""What one line of an mmengine log says of the progress of a training or a test."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_HEAD = re.compile(r'Epoch\((train|val|test)\)\s*(?:\[\s*(\d+)\])?\s*\[\s*(\d+)/(\d+)\]')
_LOSS = re.compile(r'(?:^|\s)loss: (\S+)')
_ETA = re.compile(r'\beta: ((?:\d+ days?, )?[\d:]+)')


@dataclass(frozen=True)
class Progress:
    """What one line of an mmengine log says.

    Attributes:
        mode: ``'train'``, ``'val'`` or ``'test'``.
        epoch: From 1; None in a test.
        step: Iterations done of this epoch.
        steps: Iterations of an epoch.
        loss: Training loss, as logged.
        eta: Time left of the training, as logged, e.g. ``'0:01:46'``.
    """

    mode: str
    epoch: int | None
    step: int
    steps: int
    loss: str | None = None
    eta: str | None = None


def parse_progress(line: str) -> Progress | None:
    """Reads one log line; None if it reports no progress."""
    head = _HEAD.search(line)
    if head is None:
        return None
    rest = line[head.end() :]
    loss, eta = _LOSS.search(rest), _ETA.search(rest)
    return Progress(
        mode=head[1],
        epoch=int(head[2]) if head[2] else None,
        step=int(head[3]),
        steps=int(head[4]),
        loss=loss[1] if loss else None,
        eta=eta[1] if eta else None,
    )


def describe(progress: Progress, epochs: Any = None) -> str:
    """Says in words what a log line reported; ``epochs`` is how many there are, if known."""
    of_all = f'/{epochs}' if epochs else ''
    parts = [] if progress.epoch is None else [f'epoch {progress.epoch}{of_all}']
    unit = 'iteration' if progress.mode == 'train' else 'evaluation batch'
    parts.append(f'{unit} {progress.step}/{progress.steps}')
    if progress.loss is not None:
        parts.append(f'loss {progress.loss}')
    if progress.eta is not None:
        parts.append(f'{progress.eta} left')
    return ', '.join(parts)
