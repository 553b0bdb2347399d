"""One part of a user's data set: the images of training, validation or test."""

from __future__ import annotations

import hashlib
import os
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

    def state(self) -> str:
        """A short name for what the annotations say: the COCO file, or the list of the files in class folders."""
        if self.ann_file is not None:
            return hashlib.sha256(self.ann_file.read_bytes()).hexdigest()[:16]
        files = sorted(
            os.path.join(os.path.relpath(folder, self.images), name)
            for folder, _, names in os.walk(self.images, followlinks=True)
            for name in names
        )
        return hashlib.sha256('\0'.join(files).encode(errors='surrogateescape')).hexdigest()[:16]
