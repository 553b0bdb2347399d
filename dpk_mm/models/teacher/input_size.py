"""Whether student and teacher can learn from each other at all: input size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from dpk_mm.errors import UsageError


def read_size(value: Any, key: str) -> tuple[int, int]:
    """The (height, width) that a config says.

    Args:
        value: Two whole numbers above 0, or one for both.
        key: Where it stands, for the sentence.

    Raises:
        UsageError: (a ValueError) If it is neither.
    """
    sides = value if isinstance(value, (list, tuple)) else (value, value)
    good = [isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sides]
    if len(sides) != 2 or not all(good):
        raise UsageError(
            f'{key} is {value!r}, but (height, width) in pixels was expected, such as (384, 384).'
        )
    return sides[0], sides[1]


def expected_size(backbone: nn.Module) -> tuple[int, int] | None:
    """The (height, width) that a backbone was made for, or None if it takes any.

    Transformers and MLPs of mmpretrain say ``img_size``, its Swin says it to its patch embedding; timm's networks,
    in mmpretrain's wrapper, have it in theirs.
    """
    network = getattr(backbone, 'timm_model', backbone)
    embedding = getattr(network, 'patch_embed', None)
    if not getattr(embedding, 'strict_img_size', True):
        return None
    for owner, name in (
        (network, 'img_size'),
        (embedding, 'init_input_size'),
        (embedding, 'img_size'),
    ):
        size = getattr(owner, name, None)
        if isinstance(size, int):
            return size, size
        if isinstance(size, Sequence) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def network_of(model: nn.Module) -> nn.Module:
    """The part of a classifier or detector that sees the images."""
    for name in ('backbone', 'model'):
        part = getattr(model, name, None)
        if isinstance(part, nn.Module):
            return part
    return model


def check_input_size(
    teacher: nn.Module, size: Sequence[int] | None, source: str, remedy: str
) -> None:
    """Compares the size that a teacher was made for with the one that it would get.

    Args:
        teacher: A classifier or detector.
        size: (height, width) of what it would get; None if that is not known.
        source: Where the size comes from, for the sentence.
        remedy: What to change there.

    Raises:
        UsageError: If they differ.
    """
    expected = expected_size(network_of(teacher))
    if expected is not None and size is not None and tuple(size) != expected:
        raise UsageError(
            f'model.teacher expects images of {_by(expected)}, but {source} {_by(size)}: {remedy}, set '
            f'model.teacher_input_size={expected} to have the images resized for it, or take a teacher for {_by(size)} '
            '(its backbone says so with img_size).'
        )


def _by(size: Sequence[int]) -> str:
    return f'{size[0]}x{size[1]}'
