"""Measures with which weights the losses of a config have a gradient as large as the student's own."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import DictAction
from mmengine.hooks import Hook

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.cli.distill.gradient_share import without_warmup
from dpk_mm.cli.distill.schedule import set_ends
from dpk_mm.cli.errors import readable_errors
from dpk_mm.cli.options import load_config
from dpk_mm.engine.hooks.loss_gradient_hook import STUDENT, loss_gradients
from dpk_mm.engine.hooks.loss_names import monitor_name
from dpk_mm.engine.hooks.measuring import loss_scale
from dpk_mm.engine.runner.build import build_runner
from dpk_mm.engine.runner.prepare import prepare_config
from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_json_atomically


class EqualShareHook(Hook):
    """Trains with losses whose gradients on the student are together as large as that of the student's own losses.

    In each iteration the norms are measured by :func:`~dpk_mm.engine.hooks.loss_gradient_hook.loss_gradients`. Each
    of k losses is then multiplied by the factor that gives it 1/k of the norm of the student's own gradient,
    averaged over the iterations so far (the geometric mean), so that the student is trained as it will be with these
    weights. With mixed precision the backward passes have the factor of the loss that the training has, without which
    gradients in float16 vanish; an iteration with a gradient that is not finite is left out, as its step is.

    Args:
        losses: Names in ``distill_losses``.
    """

    def __init__(self, losses: list[str]) -> None:
        self.logs: dict[str, list[float]] = {name: [] for name in losses}

    def factors(self) -> dict[str, float]:
        """Loss -> factor of its weight.

        Raises:
            UsageError: If a loss had no gradient in any iteration.
        """
        for name, logs in self.logs.items():
            if not logs:
                raise UsageError(
                    f'{name} has no finite gradient on the student in any batch, or the losses of the student '
                    'itself have none, so no weight gives it a share.'
                )
        return {name: math.exp(sum(logs) / len(logs)) for name, logs in self.logs.items()}

    def before_train(self, runner: Any) -> None:
        """Listens to the losses of each iteration."""
        model = unwrap(runner.model)
        parameters = [p for p in model.student.parameters() if p.requires_grad]
        parse = model.parse_losses

        def balanced(losses: Mapping[str, Any]) -> Any:
            self._measure(loss_gradients(losses, parameters, loss_scale(runner)))
            return parse({key: self._scaled(key, value) for key, value in losses.items()})

        model.parse_losses = balanced

    def _measure(self, gradients: Mapping[str, float]) -> None:
        own = gradients.get(f'gradient/{STUDENT}', 0.0)
        for name, logs in self.logs.items():
            norm = gradients.get(f'gradient/{monitor_name(f"distill.{name}")}', 0.0)
            if norm > 0 and own > 0 and math.isfinite(norm) and math.isfinite(own):
                logs.append(math.log(own / norm / len(self.logs)))

    def _scaled(self, key: str, value: Any) -> Any:
        for name, logs in self.logs.items():
            if logs and (key == f'distill.{name}' or key.startswith(f'distill.{name}.')):
                factor = math.exp(sum(logs) / len(logs))
                return [v * factor for v in value] if isinstance(value, list) else value * factor
        return value


def measure(cfg: Any, batches: int) -> dict[str, Any]:
    """Trains for some iterations, with the schedule and the precision of the config, and measures.

    Args:
        cfg: A prepared config of a distillation, which is changed.
        batches: Iterations.

    Returns:
        ``factors`` of the weights that the config has, by loss; ``published``, the gradient of each with these weights
        over that of the student's own losses; ``batches``.

    Raises:
        UsageError: If a hook of the config weighs a loss by its gradient, or a loss has no gradient.
    """
    hooks = [('custom_hooks', hook) for hook in cfg.get('custom_hooks') or ()]
    hooks += [(f'default_hooks.{k}', hook) for k, hook in (cfg.get('default_hooks') or {}).items()]
    for place, hook in hooks:
        if hook is not None and str(hook.get('type')).endswith('GradientShareHook'):
            raise UsageError(
                'The config has a GradientShareHook, which weighs a loss by its gradient whatever its loss_weight is, '
                f'so no factor of that weight can be measured: take it out of {place}.'
            )
    cfg.model = without_warmup(cfg).model
    losses = cfg.model.distiller.distill_losses
    head = cfg.model.architecture.get('head') or {}
    if 'loss_weight' in head.get('loss', {}):
        head['loss']['loss_weight'] = 1.0
    set_ends(cfg)  # a warm-up of the learning rate is part of the training
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=batches, val_interval=10**9)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.default_hooks.checkpoint = None
    cfg.default_hooks.pop('student_checkpoint', None)
    hook = EqualShareHook(list(losses))
    runner = build_runner(cfg)
    runner.register_hook(hook)
    runner.train()
    factors = hook.factors()
    published = {name: 1 / factor / len(factors) for name, factor in factors.items()}
    return dict(factors=factors, published=published, batches=batches)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a distillation')
    parser.add_argument('--teacher-ckpt', help="the teacher's checkpoint")
    parser.add_argument('--batches', type=int, default=48, help='iterations (default: 48)')
    parser.add_argument('--work-dir', required=True, help='folder of the log')
    parser.add_argument('--out', required=True, help='JSON file that gets the factors')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    prepare_config(cfg, teacher_ckpt=args.teacher_ckpt)
    write_json_atomically(Path(args.out), measure(cfg, args.batches))


if __name__ == '__main__':
    with readable_errors('shares.py'):
        main()
