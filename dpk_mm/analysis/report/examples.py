"""Examples of what the models predict: detections of a few images, or which classes are confused."""

from __future__ import annotations

import base64
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..detections import Boxes, draw_grid
from .table import Column, Table

#: Images with boxes, images whose classes are counted, and the most frequent confusions that are shown.
IMAGES, COUNTED, PAIRS = 4, 300, 10
#: Images of a batch, and after how many seconds no further one is begun.
_BATCH, _SECONDS = 25, 30.0
#: Detections below it are not drawn.
SCORE = 0.3
# Pixels of the longer side of an image in the picture.
_SIDE = 480


def collect_examples(
    models: Mapping[str, Any],
    dataset: Any,
    collate: Callable[[list[Any]], Any],
    choose: Callable[[int], Sequence[int]],
) -> dict[str, Any] | None:
    """Looks at what the models make of the validation set.

    Args:
        models: Name -> model in eval mode; its ``val_step`` is called.
        dataset: Of the validation.
        collate: Makes a batch of samples.
        choose: Number -> that many indices, spread over the set.

    Returns:
        ``dict(kind='detections', ...)`` for detectors, ``dict(kind='confusions', ...)`` for classifiers, in plain data
        for JSON; None for other tasks.
    """
    first = choose(1)[0]
    outputs = [model.val_step(collate([dataset[first]]))[0] for model in models.values()]
    names = _class_names(dataset)
    if all('pred_instances' in output and 'bboxes' in output.pred_instances for output in outputs):
        return _detections(models, dataset, collate, choose(IMAGES), names)
    if all('pred_label' in output for output in outputs):
        return _confusions(models, dataset, collate, choose(COUNTED), names)
    return None


def _class_names(dataset: Any) -> list[str]:
    meta = getattr(dataset, 'metainfo', None)
    classes = meta.get('classes') if isinstance(meta, Mapping) else None
    return [str(name) for name in classes or ()]


# Detectors.


def _detections(
    models: Mapping[str, Any],
    dataset: Any,
    collate: Callable[[list[Any]], Any],
    indices: Sequence[int],
    names: Sequence[str],
) -> dict[str, Any]:
    images: list[np.ndarray] = []
    columns: dict[str, list[Boxes]] = {'ground truth': [], **{name: [] for name in models}}
    for index in indices:
        sample = dataset[index]
        image = _image(sample)
        factor = min(1.0, _SIDE / max(image.shape[:2]))
        truth = sample['data_samples'].get('gt_instances')
        if truth is not None and 'bboxes' in truth:  # of an image without objects none, but there
            columns['ground truth'].append(_boxes(truth, factor))
        for name, model in models.items():
            found = model.val_step(collate([dataset[index]]))[0].pred_instances
            columns[name].append(_boxes(found, factor, scores=True))
        images.append(_resized(image, factor))
    if len(columns['ground truth']) < len(images):  # a test pipeline without annotations
        del columns['ground truth']
    labels = [int(label) for boxes in columns.values() for b in boxes for label in b.labels]
    # a model may have more classes than the data set has names
    shown = [_name(i, names) for i in range(max([len(names) - 1, 0, *labels]) + 1)]
    if len(shown) > 12:  # a legend of the classes that are there
        used = sorted({*labels})
        shown = [shown[i] for i in used]
        columns = {
            name: [Boxes(b.boxes, np.searchsorted(used, b.labels), b.scores) for b in boxes]
            for name, boxes in columns.items()
        }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'detections.jpg'
        draw_grid(images, columns, shown, file, score_threshold=SCORE)
        picture = data_uri(file.read_bytes(), 'image/jpeg')
    counts = {
        name: [
            int((b.scores >= SCORE).sum()) if b.scores is not None else len(b.boxes) for b in boxes
        ]
        for name, boxes in columns.items()
    }
    return dict(kind='detections', picture=picture, counts=counts, score=SCORE)


def _boxes(instances: Any, factor: float, scores: bool = False) -> Boxes:
    boxes = getattr(instances.bboxes, 'tensor', instances.bboxes).cpu().numpy().reshape(-1, 4)
    return Boxes(
        boxes * factor,
        instances.labels.cpu().numpy(),
        instances.scores.cpu().numpy() if scores else None,
    )


def _image(sample: Mapping[str, Any]) -> np.ndarray:
    """The image as it was before the pipeline, ``[H, W, 3]`` RGB uint8."""
    import cv2

    path = sample['data_samples'].get('img_path')
    if path and Path(path).is_file():
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is not None:
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    # no file: what the pipeline made of it, in the size to which predictions are scaled back
    inputs: Tensor = sample['inputs']
    image = inputs.cpu().numpy().transpose(1, 2, 0)
    image = np.ascontiguousarray(
        np.broadcast_to(image, (*image.shape[:2], 3)).clip(0, 255), np.uint8
    )
    height, width = sample['data_samples'].ori_shape[:2]
    return cv2.resize(image, (width, height))


def _resized(image: np.ndarray, factor: float) -> np.ndarray:
    import cv2

    if factor == 1:
        return image
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def data_uri(content: bytes, kind: str) -> str:
    """A file inside of a page."""
    return f'data:{kind};base64,{base64.b64encode(content).decode("ascii")}'


# Classifiers.


def _confusions(
    models: Mapping[str, Any],
    dataset: Any,
    collate: Callable[[list[Any]], Any],
    indices: Sequence[int],
    names: Sequence[str],
) -> dict[str, Any] | None:
    pairs: dict[str, Counter[tuple[int, int]]] = {name: Counter() for name in models}
    batches, images = -(-len(indices) // _BATCH), 0
    end = time.monotonic() + _SECONDS
    for number in range(batches):
        if images and time.monotonic() > end:
            break
        # each batch is spread over the whole set, which may be sorted by class
        samples = [dataset[i] for i in indices[number::batches]]
        images += len(samples)
        truths = [_label(sample['data_samples'], 'gt_label') for sample in samples]
        if None in truths:  # several labels for an image, or none
            return None
        for name, model in models.items():
            found = model.val_step(collate(samples))
            pairs[name].update(
                zip(truths, (_label(sample, 'pred_label') for sample in found), strict=True)  # type: ignore[arg-type]
            )
    shown = list(models)[-1]
    wrong = Counter({pair: n for pair, n in pairs[shown].items() if pair[0] != pair[1]})
    rows = [
        dict(
            truth=_name(pair[0], names),
            predicted=_name(pair[1], names),
            counts={name: counted[pair] for name, counted in pairs.items()},
        )
        for pair, _ in sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:PAIRS]
    ]
    right = {
        name: sum(n for pair, n in counted.items() if pair[0] == pair[1])
        for name, counted in pairs.items()
    }
    return dict(kind='confusions', images=images, right=right, rows=rows)


def _label(sample: Any, key: str) -> int | None:
    value = sample.get(key)
    return int(value) if isinstance(value, Tensor) and value.numel() == 1 else None


def _name(label: int, names: Sequence[str]) -> str:
    return names[label] if 0 <= label < len(names) else str(label)


# On the page.


def show_examples(examples: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the page shows of examples: heading, text, picture with its alternative text, table."""
    if not examples:
        return None
    if examples['kind'] == 'detections':
        counts = examples['counts']
        count = len(next(iter(counts.values())))
        return dict(
            heading='Example detections',
            text=f'{count} validation images, spread over the set, with detections of a score of at least '
            f'{examples["score"]}, by the weights of the end of the training.',
            picture=examples['picture'],
            alt=f'{count} images in rows, with the boxes of {", ".join(counts)} in columns; the table counts them.',
            table=Table(
                'Number of boxes',
                [Column('image', False), *map(Column, counts)],
                [[str(i + 1), *(str(counts[name][i]) for name in counts)] for i in range(count)],
            ),
        )
    images, right = examples['images'], examples['right']
    said = ' and '.join(
        f'the {name} {value} ({100 * value / images:.1f} %)' for name, value in right.items()
    )
    rows = [
        [row['truth'], row['predicted'], *(str(row['counts'][name]) for name in right)]
        for row in examples['rows']
    ]
    columns = [Column('class', False), Column('taken for', False)]
    return dict(
        heading='Most frequent confusions',
        text=f'Of {images} validation images, spread over the set, {said} are right, by the weights of the end of the '
        'training.',
        table=Table(
            'Images of a class that are taken for another one',
            [*columns, *(Column(f'by the {name} (images)') for name in right)],
            rows,
        )
        if rows
        else None,
    )
