"""Which parts of a detector can start from the teacher's weights."""

from __future__ import annotations

from .probe import Look

# The parts of a DETR learn one matching together; each alone is of no use to another.
_TOGETHER = (
    'encoder',
    'decoder',
    'bbox_head',
    'query_embedding',
    'memory_trans_fc',
    'memory_trans_norm',
)
_NEVER = ('backbone', 'data_preprocessor')


def inheritable(student: Look, teacher: Look, same_classes: bool) -> list[str]:
    """The parts at the top of both models whose weights have equal names and shapes (FGD's inheriting strategy).

    With the parts of a DETR go the parameters beside them.

    Args:
        student: Of the student.
        teacher: Of the teacher.
        same_classes: Whether a head may be taken over; the order of the classes is part of it.
    """
    if student.task != 'detector' or teacher.task != 'detector':
        return []
    parts = [name for name in student.children if name in teacher.children and name not in _NEVER]
    own = {name: _shapes(student, name) for name in student.children}
    fitting = [name for name in parts if own[name] and own[name] == _shapes(teacher, name)]
    if not same_classes:
        fitting = [name for name in fitting if not name.endswith('_head') or name == 'rpn_head']
    if 'decoder' in student.children:
        group = [
            name
            for name in student.children
            if name not in (*_NEVER, 'neck') and (own[name] or name in _TOGETHER)
        ]
        whole = student.kind == teacher.kind and all(n in fitting for n in group if own[n])
        loose = _loose(student)
        taken = whole and loose == _loose(teacher)
        fitting = [n for n in fitting if n not in group or taken]
        fitting += loose if taken else []
    return fitting


def _shapes(look: Look, part: str) -> dict[str, tuple[int, ...]]:
    start = f'{part}.'
    return {name: shape for name, shape in look.shapes.items() if name.startswith(start)}


def _loose(look: Look) -> dict[str, tuple[int, ...]]:
    """Parameters at the top, such as DETR's embedding of levels."""
    return {name: shape for name, shape in look.shapes.items() if '.' not in name}
