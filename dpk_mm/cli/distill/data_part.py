"""One part of a user's data set: the images of training, validation or test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Part:
    """The images of training, validation or test.

    Attributes:
        images: Folder of the images; of a classification the folder of class folders.
        count: Images.
        boxes: Annotated boxes; 0 in a classification.
        ann_file: The COCO file; None in a classification.
        sizes: (width, height) of the first images, as the COCO file says.
        content: What has to be written to a new COCO file first, since the user's own lacks something or orders it
            differently; None if the file can be used as it is.
    """

    images: Path
    count: int
    boxes: int = 0
    ann_file: Path | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    content: dict[str, Any] | None = None
