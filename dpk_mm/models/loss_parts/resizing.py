"""Whether two feature maps are a pair, or levels of different strides that were paired by their places."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UsageError


def check_pair(
    student: Sequence[int], teacher: Sequence[int], resize: bool, subject: str, advice: str
) -> None:
    """Refuses a pair of which one map is twice as large as the other, or more.

    Such a pair is mostly of two strides: an FPN that begins at stride 4 against one that begins at 8. Maps of one
    stride differ by a cell at most, so ``2 n - 1`` cells count as twice ``n`` (an odd size is halved upwards).

    Args:
        student: (height, width) of the student's map.
        teacher: Of the teacher's.
        resize: Whether the config asks for it.
        subject: The loss and the level, for the sentence.
        advice: How to name other levels.

    Raises:
        UsageError: If the pair is refused.
    """
    if resize:
        return
    for own, given in zip(student, teacher, strict=True):
        small, large = sorted((own, given))
        if large >= 2 * small or (large == 2 * small - 1 and small > 2):
            raise UsageError(
                f"{subject} compares the student's map of {_by(student)} with the teacher's of {_by(teacher)}, which "
                f'has another stride: {advice}, or set resize=True there if the two are to be compared.'
            )


def _by(size: Sequence[int]) -> str:
    return f'{size[0]}x{size[1]}'
