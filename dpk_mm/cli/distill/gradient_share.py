"""Loss weights from gradients: ``python -m dpk_mm.cli.distill.gradient_share``.

A published weight belongs to its networks. Here some batches of the training itself are run with the trained teacher,
and the gradient that the distillation losses send to the student is compared with that of the student's own losses.
"""

from __future__ import annotations

import argparse
import copy
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from ...engine.runner.build import build_runner
from ...engine.runner.prepare import prepare_config
from ...errors import CheckpointError, UsageError
from ...fileio import DiskFullError, write_json_atomically
from ..errors import readable_errors
from ..explain import explained_errors
from ..options import load_config
from .small_run import small_config

BATCHES = 20


def measure(file: str, work_dir: str, batches: int = BATCHES) -> dict[str, object]:
    """Trains some batches, of images from all over the data, and measures gradients; warm-ups are left out.

    Args:
        file: The config of a distillation; its teacher has to be there.
        work_dir: Folder of logs.
        batches: How many.

    Returns:
        ``share``, the median over the batches of the distillation's gradient (root of the sum of squares of its
        losses) over the student's own; ``cosine``, the median cosine of both, by loss; ``weights``, the
        ``loss_weight`` of each loss by its name; ``batches``.

    Raises:
        UsageError: If a gradient is zero, so that there is no share.
    """
    cfg = load_config(file, None, work_dir)
    with readable_errors('gradient measurement'):
        cfg = small_config(without_warmup(cfg), batches, spread=True)
        hooks = list(cfg.get('custom_hooks') or ())
        cfg.custom_hooks = [*hooks, dict(type='mmrazor.LossGradientHook', interval=1)]
        prepare_config(cfg)
    kinds = (UsageError, CheckpointError, DiskFullError, FileNotFoundError)
    with readable_errors('gradient measurement', *kinds), explained_errors(cfg) as context:
        context['runner'] = runner = build_runner(cfg)
        runner.train()
    history = {
        name.removeprefix('train/'): [float(v) for v in buffer.data[0]]
        for name, buffer in runner.message_hub.log_scalars.items()
        if name.startswith('train/gradient')
    }
    losses = runner.model.distiller.distill_losses
    found: dict[str, object] = dict(summary(history))
    found['weights'] = {
        name: float(getattr(loss, 'loss_weight', 1.0)) for name, loss in losses.items()
    }
    return found


def without_warmup(cfg: Config) -> Config:
    """A copy whose losses have their whole weight from the first batch, as they have in most of the training."""
    cfg = copy.deepcopy(cfg)
    for loss in cfg.model.distiller.distill_losses.values():
        if isinstance(loss, dict):
            for key, value in (('warmup', 0), ('module_warmup', None)):
                if key in loss:
                    loss[key] = value
    return cfg


def summary(history: Mapping[str, Sequence[float]]) -> dict[str, object]:
    """Medians of what ``LossGradientHook`` logged.

    Args:
        history: ``gradient/student``, ``gradient/distill.<loss>`` and ``gradient_cosine/distill.<loss>``, each with
            one number for each batch. Parts of a loss (``gradient/distill.<loss>.<part>``) are left out.

    Raises:
        UsageError: If the student's own losses or the distillation send no gradient.
    """
    whole = {n: v for n, v in history.items() if re.fullmatch(r'gradient/distill\.[^.]+', n)}
    own = history.get('gradient/student') or ()
    shares = []
    for number, norm in enumerate(own):
        distilled = math.sqrt(sum(values[number] ** 2 for values in whole.values()))
        if norm > 0 and math.isfinite(norm) and math.isfinite(distilled):
            shares.append(distilled / norm)
    share = _median(shares) if shares else 0.0
    if share <= 0:
        raise UsageError(
            'no share of gradients could be measured: '
            + (
                'the distillation sends none to the student'
                if shares
                else "the student's own losses have none"
            )
            + '; leave --gradient-share out to keep the loss weights of the method.'
        )
    cosines = {
        name.removeprefix('gradient_cosine/distill.'): _median(values)
        for name, values in history.items()
        if name.startswith('gradient_cosine/distill.')
    }
    return dict(share=share, cosine=cosines, batches=len(own))


def scaled_weights(weights: Mapping[str, float], share: float, wanted: float) -> dict[str, float]:
    """Loss weights at which the distillation has the wanted share; all are multiplied by one factor.

    Args:
        weights: ``loss_weight`` by the names of the losses, at which ``share`` was measured.
        share: Measured gradient of the distillation over that of the student.
        wanted: The same as it should be.
    """
    return {name: float(f'{weight * wanted / share:.3g}') for name, weight in weights.items()}


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('work_dir')
    parser.add_argument('out', type=Path)
    parser.add_argument('--batches', type=int, default=BATCHES)
    args = parser.parse_args()
    with readable_errors('gradient measurement', UsageError, CheckpointError):
        write_json_atomically(args.out, measure(args.config, args.work_dir, args.batches))


if __name__ == '__main__':
    main()
