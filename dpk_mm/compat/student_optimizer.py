"""Constructors of optimizers that go by the names of parameters see the student, whose names they know."""

from __future__ import annotations

import functools
from typing import Any

from ._patch import Patch, is_installed

# A model with this method is an algorithm around a student: it returns the student, and the names and modules of the
# other parts that are trained.
PARTS = 'optimizer_parts'
# What `DefaultOptimWrapperConstructor` knows of `paramwise_cfg` that is about weight decay alone.
_DECAY_RULES = ('bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult', 'flat_decay_mult')


def needed() -> bool:
    if not is_installed('mmengine'):
        return False
    from mmengine.optim import DefaultOptimWrapperConstructor

    return not hasattr(DefaultOptimWrapperConstructor.__call__, '__wrapped__')


def apply() -> None:
    from mmengine.logging import print_log
    from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper

    default = DefaultOptimWrapperConstructor
    build = default.__call__

    @functools.wraps(build)
    def build_for_student(self: Any, model: Any) -> OptimWrapper:
        algorithm = getattr(model, 'module', model)
        parts = getattr(algorithm, PARTS, None)
        has_rules = type(self).add_params is not default.add_params and self.paramwise_cfg
        if parts is None or not has_rules:
            return build(self, model)
        student, others = parts()
        wrapper = build(self, student)
        rules = default(
            dict(self.optim_wrapper_cfg, optimizer=dict(self.optimizer_cfg)),
            _decay_rules(self.paramwise_cfg),
        )
        groups: list[dict[str, Any]] = []
        for name, part in others.items():
            rules.add_params(groups, part, prefix=name)
        for group in groups:
            wrapper.optimizer.add_param_group(group)
        print_log(
            f'{type(self).__name__} works on the student, a {type(student).__name__}; {len(groups)} parameters '
            f'of {", ".join(others) or "no other part"} train at the base learning rate.',
            'current',
        )
        return wrapper

    default.__call__ = build_for_student


def _decay_rules(paramwise_cfg: dict[str, Any]) -> dict[str, Any]:
    """The rules about weight decay; learning rates of the other parts stay the base rate."""
    rules = {key: paramwise_cfg[key] for key in _DECAY_RULES if key in paramwise_cfg}
    custom = {
        key: {'decay_mult': rule['decay_mult']}
        for key, rule in paramwise_cfg.get('custom_keys', {}).items()
        if 'decay_mult' in rule
    }
    return dict(rules, custom_keys=custom) if custom else rules


PATCH = Patch(
    name='student_optimizer',
    symptom="layer-wise learning rates of a distilled student: no attribute 'backbone', or the rates are all the same, "
    "since the constructors of mmdet and mmpretrain look for 'backbone.' at the start of names",
    threads=(),
    obsolete_when='mmengine lets a model say on which of its parts a constructor works',
    needed=needed,
    apply=apply,
)
