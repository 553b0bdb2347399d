"""The texts of the written configs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...errors import UsageError
from ...models.pairing import Row, table
from .config_file import assignments, changes, comment, literal, plain, settings
from .plan import Network, Plan

STUDENT, TEACHER = 'student', 'teacher'


def beside(out: Path, role: str) -> Path:
    """The config of student or teacher beside that of the distillation."""
    return out.with_name(f'{out.stem}_{role}.py')


def network_text(network: Network, role: str, out: Path, load_from: str | None = None) -> str:
    """The config of one network: its zoo config, and what is different here.

    Args:
        network: The network.
        role: ``'student'`` or ``'teacher'``.
        out: The config of the distillation.
        load_from: What its training starts from.
    """
    base = plain(Config.fromfile(network.found.file).to_dict())
    new = plain(network.cfg.to_dict())
    new.pop('work_dir', None)
    if load_from is not None:
        new['load_from'] = load_from
    different = changes(base, new)
    lines = comment(
        [
            f'The {role}: {network.found.stem}, a plain config for tools/train.py.',
            *_why(network.rows),
        ]
    )
    lines += [f'_base_ = {_inherited(network, out)!r}', '']
    if 'model' in different:
        single = assignments(base['model'], new['model'], 'model')
        if single is not None and 'None' not in ''.join(single) and _has_lists(different['model']):
            lines += ['model = _base_.model', *single]
            del different['model']
    return '\n'.join([*lines, *settings(different)]) + '\n'


def distillation_text(
    plan: Plan,
    rows: Sequence[Row] = (),
    weights: Mapping[str, float] | None = None,
    weights_why: str = '',
) -> str:
    """The config of the distillation in the short form.

    Args:
        plan: The plan.
        rows: What the short form is completed with.
        weights: ``loss_weight`` of losses by their names; None for those of the method and the plan.
        weights_why: Where they come from.
    """
    request = plan.request
    student = beside(request.out, STUDENT).name
    if plan.writes_teacher:
        # read where this file lies: folder and all can be moved
        teacher = "'{{ fileDirname }}/" + beside(request.out, TEACHER).name + "'"
    else:
        teacher = repr(plan.teacher.found.source)
    algorithm = dict(plan.algorithm)
    if weights:  # over those of the plan, with which they were measured
        losses = {name: dict(loss_weight=weight) for name, weight in weights.items()}
        algorithm['distiller'] = _merged(
            algorithm.get('distiller') or {}, dict(distill_losses=losses)
        )
    given = [
        '_delete_=True',
        "_scope_='mmrazor'",
        "type='DPKDistill'",
        'architecture=_base_.model',
        f'teacher={teacher}',
        f'teacher_ckpt={plan.teacher_ckpt!r}',
    ]
    if plan.trains_teacher:
        command = f'python tools/train.py {beside(request.out, TEACHER)}'
        given.append(f'teacher_command={command!r}')
    given.append(f'method={literal(algorithm.pop("method", plan.method), 12, 4)}')
    given += [f'{key}={literal(value, len(key) + 5, 4)}' for key, value in algorithm.items()]
    head = [
        f'{plan.student.found.stem} learns from {plan.teacher.found.stem} by {plan.method}.',
        f'The student alone, its data and its schedule are in {student}.',
    ]
    if weights:
        head += ['', f'loss_weight: {weights_why}']
    if rows:
        head += [
            '',
            'What the short form stands for (set a key in model to choose something else):',
        ]
        head += [f'  {line}' for line in table(rows).splitlines()]
    body = ''.join(f'    {line},\n' for line in given)
    return '\n'.join(
        [
            *comment(head),
            f"_base_ = './{student}'",
            '',
            f'custom_imports = {literal(_imports(plan.student), 17)}',
            f'model = dict(\n{body})',
            '',
        ]
    )


def _imports(student: Network) -> dict[str, Any]:
    """The student's imports and our own: mmengine replaces the list that is inherited."""
    given = student.cfg.get('custom_imports') or {}
    names = given.get('imports') or []
    names = [names] if isinstance(names, str) else list(names)
    return dict(
        imports=[*(name for name in names if name != 'dpk_mm'), 'dpk_mm'],
        allow_failed_imports=given.get('allow_failed_imports', False),
    )


def check_written(file: Path, expected: Config) -> None:
    """Reads a written config again.

    Raises:
        UsageError: If it does not say what was meant.
    """
    found, wanted = plain(Config.fromfile(file).to_dict()), plain(expected.to_dict())
    for key in (
        'model',
        'train_dataloader',
        'val_dataloader',
        'train_cfg',
        'optim_wrapper',
        'param_scheduler',
    ):
        if found.get(key) != wanted.get(key):
            raise UsageError(
                f'{file}: {key} could not be written as a change of its base: please report this with your command.'
            )


def _why(rows: Sequence[Row]) -> list[str]:
    return (
        ['What is different from the zoo:', *(f'  {line}' for line in table(rows).splitlines())]
        if rows
        else []
    )


def _inherited(network: Network, out: Path) -> str:
    source = network.found.source
    return (
        source if '::' in source else os.path.relpath(Path(source).resolve(), out.parent.resolve())
    )


def _has_lists(node: Any) -> bool:
    if isinstance(node, dict):
        return any(_has_lists(value) for value in node.values())
    return isinstance(node, (list, tuple)) and any(isinstance(item, dict) for item in node)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
