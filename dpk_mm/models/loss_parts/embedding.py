"""One vector for each image, as the losses that relate images to each other need it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...errors import UsageError
from .distill_loss import at_least_float32


def embedding_of(record: Tensor | Sequence[Tensor], owner: str, side: str) -> Tensor:
    """The vectors that the classifier reads.

    Args:
        record: ``[N, D]``; or a map ``[N, D, H, W]``, of which the mean over positions is taken; or a tuple of these,
            such as the output of a neck, of which the last counts.
        owner: The loss, the subject of the sentence.
        side: ``'student'`` or ``'teacher'``.

    Returns:
        ``[N, D]``, float32, or float64 where the record is.

    Raises:
        UsageError: (a ValueError) If the record is something else.
    """
    found = record
    if isinstance(found, (list, tuple)) and found:
        found = found[-1]
    if isinstance(found, Tensor) and found.ndim == 4:
        found = at_least_float32(found).mean(dim=(2, 3))
    if not isinstance(found, Tensor) or found.ndim != 2:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(
            f'{owner} needs one vector for each image as {side}_embedding, [N, D], but found {shape}; record what '
            "the classifier reads, such as records=dict(embedding='neck')."
        )
    return at_least_float32(found)


def check_images(count: int, least: int, owner: str) -> None:
    """Refuses a batch with too few images to relate to each other.

    Args:
        count: Images of the batch.
        least: How many it takes.
        owner: The loss, the subject of the sentence.

    Raises:
        UsageError: (a ValueError) If there are fewer.
    """
    if count < least:
        raise UsageError(
            f'{owner} relates the images of a batch to each other and needs {least} at least, but the batch has '
            f'{count}; raise train_dataloader.batch_size, or set drop_last=True there for the last batch of a pass.'
        )
