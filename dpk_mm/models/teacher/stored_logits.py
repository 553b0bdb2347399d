"""A teacher's logits on the disk: the largest ones of every image, in every pass over the data."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_json_atomically

MANIFEST = 'manifest.json'
FILES = ('values.npy', 'classes.npy', 'rest.npy')


class StoredLogits:
    """The ``top_k`` largest logits of N images in P passes, and what the others together amount to.

    Of an image in a pass are kept: the largest logits less the very largest (float16), their classes, and
    ``log sum exp(z / tau)`` of all others, less the very largest over tau (float32). A softmax does not see that
    difference. With as many kept as there are classes, its probabilities are those of the teacher but for the rounding
    to float16; with fewer, at the temperature tau those of the kept classes are, and the others share the rest alike.

    A folder holds three arrays and a manifest, which says what they were made from, how many images are done and, at
    the end, the SHA-256 of each array. It takes ``P * N * (4 * top_k + 4)`` bytes, and two more for each kept logit
    where there are more than 65,536 classes.

    Args:
        folder: Where it is.
        mode: 'r' to read a whole one, 'a' to go on writing one.

    Raises:
        UsageError: (a ValueError) If there is none, or one that is not whole is to be read.
    """

    def __init__(self, folder: str | os.PathLike[str], mode: str = 'r') -> None:
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        if not path.is_file():
            raise UsageError(
                f'There are no stored logits in {str(folder)!r}; make them with tools/store_logits.py CONFIG {folder}.'
            )
        self.manifest: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        if mode == 'r' and not self.complete:
            raise UsageError(
                f'The stored logits in {str(folder)!r} are not whole: {self.done} of {self.passes * self.images} are '
                'there; run the same tools/store_logits.py again, which goes on.'
            )
        arrays = [
            np.load(self.folder / name, mmap_mode='r' if mode == 'r' else 'r+') for name in FILES
        ]
        self._values, self._classes, self._rest = arrays

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        passes: int,
        images: int,
        num_classes: int,
        top_k: int,
        tau: float,
        source: dict[str, Any],
    ) -> StoredLogits:
        """Makes an empty one, or opens one that was begun from the same.

        Args:
            folder: Where.
            passes: P.
            images: N.
            num_classes: Classes of the teacher.
            top_k: How many logits are kept, at most ``num_classes``.
            tau: Temperature at which the others are summed.
            source: What the logits depend on, as JSON.

        Raises:
            UsageError: (a ValueError) If there is one of something else.
        """
        folder = Path(folder)
        settings = dict(
            passes=passes,
            images=images,
            num_classes=num_classes,
            top_k=min(top_k, num_classes),
            tau=tau,
            source=source,
        )
        path = folder / MANIFEST
        if path.is_file():
            found = _flat(json.loads(path.read_text(encoding='utf-8')))
            for key, value in _flat(json.loads(json.dumps(settings))).items():
                if found.get(key) != value:
                    raise UsageError(
                        f'{str(folder)!r} holds logits of another {key} ({_short(found.get(key))}, now '
                        f'{_short(value)}); choose another folder, or remove this one.'
                    )
            return cls(folder, 'a')
        folder.mkdir(parents=True, exist_ok=True)
        shape = (passes, images)
        kind = np.uint16 if num_classes <= 1 << 16 else np.uint32
        for name, dtype, size in (
            ('values.npy', np.float16, (*shape, settings['top_k'])),
            ('classes.npy', kind, (*shape, settings['top_k'])),
            ('rest.npy', np.float32, shape),
        ):
            np.lib.format.open_memmap(folder / name, mode='w+', dtype=dtype, shape=size).flush()
        write_json_atomically(path, dict(settings, done=0, sha256={}))
        return cls(folder, 'a')

    passes = property(lambda self: self.manifest['passes'], doc='P.')
    images = property(lambda self: self.manifest['images'], doc='N.')
    num_classes = property(lambda self: self.manifest['num_classes'], doc='Classes of the teacher.')
    top_k = property(lambda self: self.manifest['top_k'], doc='How many logits are kept.')
    tau = property(lambda self: self.manifest['tau'], doc='Temperature of the others.')
    done = property(lambda self: self.manifest['done'], doc='Images that are written, of P * N.')
    complete = property(lambda self: bool(self.manifest['sha256']), doc='Whether it is whole.')

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum((self.folder / name).stat().st_size for name in (*FILES, MANIFEST))

    def write(self, logits: Tensor) -> None:
        """Appends the next images, in the order of passes and of images in them.

        Args:
            logits: ``[n, classes]``, of one pass.
        """
        number, first = divmod(self.done, self.images)
        place = (number, slice(first, first + len(logits)))
        values, classes, rest = compress(logits, self.top_k, self.tau)
        self._values[place] = values.cpu().numpy()
        self._classes[place] = classes.cpu().numpy()
        self._rest[place] = rest.cpu().numpy()
        self.manifest['done'] += len(logits)

    def save(self) -> None:
        """Makes sure that what was written stays, and with the last image adds the SHA-256 of the arrays."""
        for array in (self._values, self._classes, self._rest):
            array.flush()
        if self.done == self.passes * self.images:
            self.manifest['sha256'] = {name: _sha256(self.folder / name) for name in FILES}
        write_json_atomically(self.folder / MANIFEST, self.manifest)

    def check(self) -> None:
        """Compares the arrays with their SHA-256.

        Raises:
            UsageError: (a ValueError) If one differs.
        """
        for name, expected in self.manifest['sha256'].items():
            if _sha256(self.folder / name) != expected:
                raise UsageError(
                    f'{self.folder / name} is not the file that was written (its SHA-256 differs); remove the folder '
                    'and make the logits again.'
                )

    def read(self, number: int, image: int) -> np.ndarray:
        """One image of one pass.

        Args:
            number: Of the pass, from 0.
            image: Place in the data set.

        Returns:
            ``[2 * top_k + 1]`` float32: values, classes, and the rest; see :func:`expand`.
        """
        return np.concatenate(
            (
                self._values[number, image].astype(np.float32),
                self._classes[number, image].astype(np.float32),
                self._rest[number, image : image + 1],
            )
        )


def compress(logits: Tensor, top_k: int, tau: float) -> tuple[Tensor, Tensor, Tensor]:
    """What is kept of logits.

    Args:
        logits: ``[n, classes]``.
        top_k: At most the number of classes.
        tau: Temperature.

    Returns:
        Values ``[n, top_k]`` less the largest, float16; classes ``[n, top_k]``; ``log sum exp`` of the others over tau,
        less the largest over tau, ``[n]`` float32, minus infinity where there is none.
    """
    ordered, classes = logits.float().sort(dim=1, descending=True)
    ordered = ordered - ordered[:, :1]
    rest = (ordered[:, top_k:] / tau).logsumexp(1) if top_k < logits.shape[1] else None
    if rest is None:
        rest = logits.new_full((len(logits),), -torch.inf, dtype=torch.float32)
    return ordered[:, :top_k].half(), classes[:, :top_k], rest


def expand(stored: Tensor, num_classes: int, tau: float) -> Tensor:
    """Logits of which a softmax at tau is that of the teacher, as far as it was kept.

    Args:
        stored: ``[n, 2 * top_k + 1]``, from :meth:`StoredLogits.read`.
        num_classes: Classes of the teacher.
        tau: Temperature of the rest.

    Returns:
        ``[n, classes]`` float32, less the largest one.
    """
    top_k = stored.shape[1] // 2
    values, classes, rest = stored.split((top_k, top_k, 1), dim=1)
    others = num_classes - top_k
    if others:
        rest = tau * (rest - float(np.log(others)))
    logits = rest.expand(-1, num_classes)
    return logits.scatter(1, classes.long(), values)


def _sha256(path: Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _flat(manifest: dict[str, Any]) -> dict[str, Any]:
    """With each part of the source beside the other settings, so that a message names what differs."""
    parts = manifest.get('source') or {}
    return manifest | {f'source.{k}': v for k, v in parts.items()} | {'source': None}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
