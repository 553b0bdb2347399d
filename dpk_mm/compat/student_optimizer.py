"""Constructors of optimizers that depend on the names of parameters are given the student.

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
# What ``DefaultOptimWrapperConstructor`` knows of ``paramwise_cfg`` that is about weight decay alone.
_DECAY_RULES = ('bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult', 'flat_decay_mult')


def needed() -> bool:
    """Whether mmengine's constructor is unpatched."""
    if not is_installed('mmengine'):
        return False
    from mmengine.optim import DefaultOptimWrapperConstructor

    return not hasattr(DefaultOptimWrapperConstructor.__call__, '__wrapped__')


def apply() -> None:
    """Puts the student in place of the algorithm in mmengine's constructor."""
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
        kind = type(self)
        own_rules = kind.add_params is not default.add_params

        def add_params(
            groups: list[dict[str, Any]], module: Any, *args: Any, **kwargs: Any
        ) -> None:
            if module is not algorithm:  # constructors go down the modules by this name
                kind.add_params(self, groups, module, *args, **kwargs)
                return
            # With rules of its own a constructor looks at the beginning of names, where the student's have to be.
            kind.add_params(
                self, groups, student, **({} if own_rules else {'prefix': 'architecture'})
            )
            named = any('param_names' in group for group in groups)
            for name, part in others.items():
                own: list[dict[str, Any]] = []
                rules = _decay_rules if own_rules else _rules_of
                cfg = dict(self.optim_wrapper_cfg, optimizer=self.optimizer_cfg)
                default(cfg, rules(name, self.paramwise_cfg)).add_params(own, part, prefix=name)
                if named:  # torch wants names in all groups or in none
                    names = {id(p): f'{name}.{key}' for key, p in part.named_parameters()}
                    for group in own:
                        group['param_names'] = [names[id(p)] for p in group['params']]
                groups += own
            if own_rules:
                print_log(
                    f'{kind.__name__} works on the student, a {type(student).__name__}; what is in '
                    f'{", ".join(others) or "no other part"} trains at the base learning rate.',
                    'current',
                )

        self.add_params = add_params
        try:
            return build(self, model)
        finally:
            del self.add_params

    default.__call__ = build_for_student


def _rules_of(part: str, paramwise_cfg: dict[str, Any]) -> dict[str, Any]:
    """Rules of a part beside the student: custom keys that do not name it only change the weight decay."""
    custom = {
        key: rule if part in key else {k: v for k, v in rule.items() if k == 'decay_mult'}
        for key, rule in paramwise_cfg.get('custom_keys', {}).items()
    }
    return dict(paramwise_cfg, custom_keys={key: rule for key, rule in custom.items() if rule})


def _decay_rules(part: str, paramwise_cfg: dict[str, Any]) -> dict[str, Any]:
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
