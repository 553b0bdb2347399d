"""Loading weights into a distilled model, for any caller and any form of the file.

``load_from``, ``init_cfg=dict(type='Pretrained')`` and the inferencers of mmdet and mmpretrain load by
``load_state_dict`` and are not strict. A file with the plain names of the student (``backbone.*``) has no name in
common with a distilled model (``architecture.backbone.*``), so none of its weights would be used, with nothing but a
line in the log. These functions are therefore hooks of the model's own ``load_state_dict``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from torch import nn

from ..errors import UsageError, first_few
from .student import STUDENT_PREFIX
from .weights import harmless_extras, is_counter, saved_names, warn_of_normalisation

_SIZE = re.compile(
    r'size mismatch for (\S+): .*? shape (.+) from checkpoint, .* model is (.+?)\.?$'
)


@dataclass
class Loading:
    """One load in progress.

    Args:
        prefix: What stands before the names, such as ``module.`` in an averaged model.
        given: The student's weights in the file, under the model's names.
        plain: Whether the file had the student's plain names.
        errors: Where torch collects what could not be copied.
    """

    prefix: str
    given: list[str]
    plain: bool
    errors: list[str]


def prepare_loading(
    model: nn.Module, state: dict[str, Any], prefix: str, errors: list[str]
) -> Loading:
    """Gives the entries of a state dict the names of a distilled model, in place.

    A file with plain names holds the student. Harmless extras and mmrazor's ``teacher.*`` are taken out.

    Args:
        model: With the student as ``architecture``.
        state: What is loaded; changed in place.
        prefix: What stands before the model's names in it.
        errors: See :class:`Loading`.

    Returns:
        What :func:`report_loading` needs afterwards.
    """
    names = [name[len(prefix) :] for name in state if name.startswith(prefix)]
    own = model.state_dict()
    full = any(name.startswith(STUDENT_PREFIX) for name in names)
    plain = not full and any(not name.startswith('distiller.') for name in names)
    metadata = getattr(state, '_metadata', None)
    if plain:
        for name in names:
            if name not in own and not name.startswith('distiller.'):
                state[f'{prefix}{STUDENT_PREFIX}{name}'] = state.pop(prefix + name)
        for name in list(metadata or ()):
            if name.startswith(prefix):  # versions of modules, by which they convert older layouts
                moved = f'{prefix}{STUDENT_PREFIX}{name[len(prefix) :]}'.rstrip('.')
                metadata.setdefault(moved, metadata[name])  # type: ignore[union-attr]
    students = {
        name[len(prefix) + len(STUDENT_PREFIX) :]: value
        for name, value in state.items()
        if name.startswith(prefix + STUDENT_PREFIX)
    }
    student = model.get_submodule(STUDENT_PREFIX[:-1])
    warn_of_normalisation(student, students)
    extras = {STUDENT_PREFIX + name for name in harmless_extras(students, student)}
    inner = {name[len(prefix) :]: None for name in state if name.startswith(prefix)}
    extras |= harmless_extras(inner, model)
    for name in inner:
        if name not in own and (name in extras or (full and name.startswith('teacher.'))):
            del state[prefix + name]
    given = [
        name[len(prefix) :]
        for name in state
        if name.startswith(prefix) and not name[len(prefix) :].startswith('distiller.')
    ]
    return Loading(prefix, given, plain, errors)


def report_loading(
    model: nn.Module,
    loading: Loading,
    missing: list[str],
    unexpected: list[str],
    shorten: bool = False,
) -> None:
    """Logs which weights of the student were not in a file, and raises if none was.

    For a file that holds the student alone that is one line. For mmengine's loader, which would list every
    weight of the distiller as missing, those are taken off the list; a strict load by torch still asks for them.

    Args:
        model: After the load.
        loading: Of :func:`prepare_loading`.
        missing: All names that were found to be missing; changed in place if ``shorten``.
        unexpected: All names that the model does not know.
        shorten: Whether the distiller may be taken off ``missing`` if all of it is missing.

    Raises:
        UsageError: If not one weight of the student was used, or more than half of them are of another shape.
    """
    if not loading.given:
        return
    prefix = loading.prefix
    names = [name for name in model.state_dict() if not is_counter(name)]
    student = [name for name in names if name.startswith(STUDENT_PREFIX)]
    saved = saved_names(model)
    places = [name[len(prefix) :] for name in missing if name.startswith(prefix)]
    lacking = {saved.get(name, name) for name in places}
    shapes = {
        saved.get(match[1][len(prefix) :], match[1][len(prefix) :]): (
            _sides(match[2]),
            _sides(match[3]),
        )
        for match in map(_SIZE.match, loading.errors)
        if match and match[1].startswith(prefix)
    }
    unused = [name for name in student if name in lacking or name in shapes]
    kind = type(model.get_submodule(STUDENT_PREFIX[:-1])).__name__
    sizes = [f'{n} {shapes[n][0]} instead of {shapes[n][1]}' for n in student if n in shapes]
    if 2 * len(sizes) > len(student) > len(unused):
        raise UsageError(
            f'the file is of another network than the student, {kind}: {len(sizes)} of {len(student)} weights are of '
            f'another shape ({first_few(sizes)}); give a checkpoint of this student, or the config of that network.'
        )
    if len(unused) == len(student):
        raise UsageError(
            f'the file holds none of the weights of the student, {kind}: it has '
            f'{first_few(_shown(loading.given, loading.plain), quote=True)}, but '
            f'{first_few(_shown(student, loading.plain), quote=True)} were expected, with these shapes; give a '
            'checkpoint of this student: its plain names, or what a distillation of it wrote.'
        )
    parts = []
    absent = [name for name in unused if name in lacking]
    if absent:
        parts.append(f'not in the file: {", ".join(grouped(absent, student))}')
    if sizes:
        parts.append(f'of another shape in the file: {", ".join(sizes)}')
    if parts:
        print_log(
            f'{len(unused)} of the {len(student)} weights of the student, {kind}, are not from the file and stay as '
            f'they were initialised; {"; ".join(parts)}.',
            'current',
            logging.WARNING,
        )
    left = {name[len(prefix) :] for name in unexpected if name.startswith(prefix)}
    left_over = [name for name in loading.given if name in left]
    if left_over:
        print_log(
            f'The model has no place for {len(left_over)} entries of the file, which are not used: '
            f'{", ".join(grouped(left_over, loading.given))}.',
            'current',
            logging.WARNING,
        )
    rest = [name for name in names if name.startswith('distiller.')]
    fresh = [name for name in rest if name in lacking or name in shapes]
    if fresh:
        whole = len(fresh) == len(rest)
        subject = 'The distiller is' if whole else f'{", ".join(grouped(fresh, rest))}:'
        print_log(f'{subject} not from the file and stays as it was initialised.', 'current')
        if shorten and whole:
            missing[:] = [name for name in missing if not name.startswith(f'{prefix}distiller.')]


def grouped(names: Iterable[str], among: Iterable[str]) -> list[str]:
    """Names, with ``part.*`` for a part all of whose weights are among them.

    Args:
        names: Dotted names.
        among: All names there are.

    Returns:
        The shortest such list, in the order of the names.
    """
    names = list(dict.fromkeys(names))
    others = set(among) - set(names)
    parts = {'.'.join(n.split('.')[:depth]) for n in others for depth in range(1, n.count('.') + 2)}
    result: dict[str, None] = {}
    for name in names:
        pieces = name.split('.')
        for depth in range(1, len(pieces)):
            part = '.'.join(pieces[:depth])
            if part not in parts and sum(n.startswith(f'{part}.') for n in names) > 1:
                result[f'{part}.*'] = None
                break
        else:
            result[name] = None
    return list(result)


def strip_student_prefix(state: dict[str, Any], prefix: str, *_: Any) -> None:
    """A load-state-dict pre-hook of a student: takes the weights out of a full checkpoint, in place.

    For ``init_cfg`` of the student itself, and for ``load_checkpoint(model.architecture, ...)``.
    """
    full = prefix + STUDENT_PREFIX
    if not any(name.startswith(full) for name in state):
        return
    metadata = getattr(state, '_metadata', None)
    for name in [name for name in state if name.startswith(prefix)]:
        value = state.pop(name)
        if name.startswith(full):
            state[prefix + name[len(full) :]] = value
    for name in [name for name in metadata or () if name.startswith(full)]:
        metadata[prefix + name[len(full) :]] = metadata[name]  # type: ignore[index]


def _shown(names: list[str], plain: bool) -> list[str]:
    """Names as the file has them."""
    return [name.removeprefix(STUDENT_PREFIX) for name in names] if plain else names


def _sides(text: str) -> str:
    return text.replace('torch.Size(', '').rstrip(')')
