"""Constructors of optimizers that go by the names of parameters see the student, whose names they know.

The layer-wise ones of mmdet and mmpretrain are given the student; the other parts train at the base learning rate, with
the rules about weight decay. The default one keeps the keys of ``custom_keys`` that change a learning rate, such as
``head``, to the student, unless they name the other part (``distiller``).
"""

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
        if parts is None or not self.paramwise_cfg:
            return build(self, model)
        student, others = parts()
        if type(self).add_params is default.add_params:
            # It goes by parts of names: a key such as 'head' would be found in the other parts as well.
            whole = self.paramwise_cfg

            def add_params(groups: list[dict[str, Any]], module: Any, **kwargs: Any) -> None:
                if module is not algorithm:  # it goes down the modules by this name
                    default.add_params(self, groups, module, **kwargs)
                    return
                default.add_params(self, groups, student, prefix='architecture')
                for name, part in others.items():
                    self.paramwise_cfg = _rules_of(name, whole)
                    default.add_params(self, groups, part, prefix=name)

            self.add_params = add_params
            try:
                return build(self, model)
            finally:
                self.paramwise_cfg = whole
                del self.add_params
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


def _rules_of(part: str, paramwise_cfg: dict[str, Any]) -> dict[str, Any]:
    """Rules of a part beside the student: custom keys that do not name it count for the weight decay alone."""
    custom = {
        key: rule if part in key else {k: v for k, v in rule.items() if k == 'decay_mult'}
        for key, rule in paramwise_cfg.get('custom_keys', {}).items()
    }
    return dict(paramwise_cfg, custom_keys={key: rule for key, rule in custom.items() if rule})


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
