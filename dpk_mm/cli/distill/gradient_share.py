"""Loss weights from gradients: ``python -m dpk_mm.cli.distill.gradient_share``.

A published weight belongs to its networks. Here some batches of the training itself are run with the trained teacher,
and the gradient that the distillation losses send to the student is compared with that of the student's own losses.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from ...engine.hooks.loss_names import monitor_name
from ...engine.runner.build import build_runner
from ...engine.runner.prepare import prepare_config
from ...errors import CheckpointError, UsageError
from ...fileio import DiskFullError, write_json_atomically
from ..errors import readable_errors
from ..explain import explained_errors
from ..options import load_config
from .small_run import small_config

BATCHES = 20
_NONE = 'no share of gradients could be measured'
_LEAVE = 'leave --gradient-share out to keep the loss weights of the method'


def measure(file: str, work_dir: str, batches: int = BATCHES) -> dict[str, object]:
    """Trains some batches, of images from all over the data, and measures gradients; warm-ups are left out.

    Args:
        file: The config of a distillation; its teacher has to be there.
        work_dir: Folder of logs.
        batches: How many.

    Returns:
        ``share``, the median over the batches of the distillation's gradient (root of the sum of squares of its
        losses) over the student's own; ``shares``, that of each loss by its name, and ``weights``, its
        ``loss_weight``; ``cosine``, the median cosine of both gradients, by loss; ``batches``.

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
    found: dict[str, object] = dict(summary(history, list(losses)))
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


def summary(history: Mapping[str, Sequence[float]], losses: Sequence[str]) -> dict[str, object]:
    """Medians of what ``LossGradientHook`` logged.

    Args:
        history: ``gradient/student``, ``gradient/distill.<loss>`` and ``gradient_cosine/distill.<loss>``, each with
            one number for each batch. Parts of a loss (``gradient/distill.<loss>.<part>``) are left out.
        losses: Names in ``distill_losses``.

    Raises:
        UsageError: If the student's own losses send no gradient, or one of the distillation.
    """
    own = history.get('gradient/student') or ()
    norms = {
        name: history.get(f'gradient/{monitor_name(f"distill.{name}")}') or [0.0] * len(own)
        for name in losses
    }
    rows = [
        (norm, [values[number] for values in norms.values()]) for number, norm in enumerate(own)
    ]
    rows = [(n, d) for n, d in rows if n > 0 and math.isfinite(n) and all(map(math.isfinite, d))]
    if not rows:
        found = any(n > 0 and math.isfinite(n) for n in own)
        why = 'none is finite in any batch' if found else "the student's own losses have none"
        raise UsageError(f'{_NONE}: {why}; {_LEAVE}.')
    shares = {
        name: _median([d[place] / norm for norm, d in rows]) for place, name in enumerate(norms)
    }
    silent = [name for name, share in shares.items() if share <= 0]
    if silent:
        raise UsageError(f'{_NONE}: {", ".join(silent)} sends none to the student; {_LEAVE}.')
    share = _median([math.hypot(*d) / norm for norm, d in rows])
    cosines = {
        name.removeprefix('gradient_cosine/distill.'): _median(values)
        for name, values in history.items()
        if name.startswith('gradient_cosine/distill.')
    }
    return dict(share=share, shares=shares, cosine=cosines, batches=len(own))


def scaled_weights(
    weights: Mapping[str, float], shares: Mapping[str, float], wanted: float
) -> dict[str, float]:
    """Loss weights at which the gradients of all losses add up to the wanted share, in equal parts.

    With one factor for all, a loss that does nothing beside another would go on doing nothing: at the published weights
    DPK has a hundredth of KD's gradient on 20 classes of CIFAR-100 (``compare_mini_cifar100.json``).

    Args:
        weights: ``loss_weight`` by the names of the losses, at which ``shares`` were measured.
        shares: Measured gradient of each loss over that of the student.
        wanted: What they should be together.
    """
    part = wanted / len(weights)
    return {name: float(f'{weight * part / shares[name]:.3g}') for name, weight in weights.items()}


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
