"""A picture grid of detections: ground truth and several models side by side."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from mmengine.config import Config
from mmengine.registry import DATASETS
from pycocotools.coco import COCO

from ..engine.hooks.class_check_hook import class_names
from ..errors import UsageError, first_few
from ..modules import count_parameters
from .loading import build_student, read_config, scope_of
from .training_curves import COLOURS

__all__ = [
    'Boxes',
    'build_student',
    'count_parameters',
    'draw_grid',
    'load_detector',
    'load_ground_truth',
    'predict',
    'show_detections',
]


#: Heading of the annotations' column.
TRUTH = 'ground truth'


@dataclass(frozen=True)
class Boxes:
    """The objects of one image.

    Attributes:
        boxes: ``[n, 4]``, x1, y1, x2, y2 in pixels of the image.
        labels: ``[n]``, class indices.
        scores: ``[n]`` in [0, 1], or None for ground truth.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None


def load_detector(
    config: str | os.PathLike[str], checkpoint: str | os.PathLike[str], device: str = 'cpu'
) -> Any:
    """Builds a detector from its config and checkpoint, ready for :func:`predict`.

    Of a distillation config only the student is built, so the teacher's weights are not needed.

    Args:
        config: Of a plain mmdet training, or of a distillation with the student as ``model.architecture``.
        checkpoint: What such a training wrote, or a student alone.
        device: Torch device.

    Returns:
        The detector in eval mode, with ``cfg`` and ``dataset_meta`` set.

    Raises:
        UsageError: If the checkpoint's weights do not fit the model.
    """
    model = build_student(config, checkpoint)
    model.dataset_meta = _dataset_meta(model.cfg)
    return model.to(device)


def _dataset_meta(cfg: Config) -> dict[str, Any]:
    """The metainfo that the test's data set has: its own, and over it what the config says."""
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:  # ClassBalancedDataset and its like
        dataset = dataset.dataset
    kind = dataset.get('type')
    with scope_of(cfg), DATASETS.switch_scope_and_registry(None) as registry:
        known = registry.get(kind) if isinstance(kind, str) else kind
    if hasattr(known, '_load_metainfo'):  # reads files of names, too
        return dict(known._load_metainfo(dataset.get('metainfo')))
    return dict(dataset.get('metainfo') or {})


def predict(model: Any, image_paths: Sequence[str | os.PathLike[str]]) -> list[Boxes]:
    """Runs a detector on images, with the test pipeline of its config.

    Args:
        model: Of :func:`load_detector`.
        image_paths: Image files.

    Returns:
        All its boxes, image by image, of any score.
    """
    from mmdet.apis import inference_detector

    out = []
    for path in image_paths:
        with scope_of(model.cfg):
            instances = inference_detector(model, os.fspath(path)).pred_instances.cpu()
        out.append(
            Boxes(instances.bboxes.numpy(), instances.labels.numpy(), instances.scores.numpy())
        )
    return out


def load_ground_truth(
    ann_file: str | os.PathLike[str], num_images: int, classes: Sequence[str] | None = None
) -> tuple[list[str], list[Boxes], tuple[str, ...]]:
    """Reads images spread evenly over a COCO annotation file.

    Args:
        ann_file: COCO JSON with boxes.
        num_images: How many; all if there are fewer.
        classes: Names of the categories that count; all of the file if None.

    Returns:
        File names as the file has them, the boxes of each image, and the class names. Class
        indices count the categories in the order of the file, as mmdet does.

    Raises:
        UsageError: If ``num_images`` is below 1, the file has no image, or it lacks one of the classes.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco = COCO(os.fspath(ann_file))
    ids = sorted(coco.imgs)
    if num_images < 1 or not ids:
        raise UsageError(f'{ann_file} has {len(ids)} images, but {num_images} were asked for.')
    picked = [ids[i] for i in np.linspace(0, len(ids) - 1, min(num_images, len(ids))).astype(int)]
    named = {c['id']: c['name'] for c in coco.dataset.get('categories', ())}
    missing = [name for name in classes or () if name not in named.values()]
    if missing:
        raise UsageError(
            f'{ann_file} has no category {first_few(missing)}, a class of the models; its categories are '
            f'{first_few(named.values())}: give the annotations of the data that they were trained for.'
        )
    categories = [c for c, name in named.items() if classes is None or name in classes]
    boxes = []
    for image_id in picked:
        objects = [o for o in coco.imgToAnns[image_id] if o['category_id'] in categories]
        xywh = np.array([obj['bbox'] for obj in objects], np.float64).reshape(-1, 4)
        labels = np.array([categories.index(obj['category_id']) for obj in objects], int)
        boxes.append(Boxes(np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]), labels))
    names = [coco.imgs[image_id]['file_name'] for image_id in picked]
    return names, boxes, tuple(named[c] for c in categories)


def _common_classes(configs: Mapping[str, str | os.PathLike[str]]) -> tuple[str, ...] | None:
    """The classes that all models have; None where their data sets do not tell.

    Raises:
        UsageError: If they differ: one label would stand for two classes.
    """
    found: dict[str, tuple[str, ...]] = {}
    for heading, config in configs.items():
        classes = class_names(_dataset_meta(read_config(config, with_teacher=False)))
        if classes:
            found[heading] = tuple(classes)
    for heading, classes in found.items():
        first = next(iter(found))
        if classes != found[first]:
            raise UsageError(
                f'{first} has the classes {first_few(found[first])}, and {heading} {first_few(classes)}: colours stand '
                'for classes, so draw these models in pictures of their own.'
            )
    return next(iter(found.values()), None)


def draw_grid(
    images: Sequence[np.ndarray],
    columns: Mapping[str, Sequence[Boxes]],
    class_names: Sequence[str],
    path: str | os.PathLike[str],
    score_threshold: float = 0.3,
) -> None:
    """Draws one row per image and one column per source of boxes.

    Args:
        images: RGB uint8 ``[H, W, 3]``.
        columns: Heading -> boxes of each image, in the order of ``images``.
        class_names: Names of the class indices.
        path: Image to write; the suffix chooses the format.
        score_threshold: Boxes below it are left out; ground truth has no score and stays.

    Raises:
        ValueError: If a column has another number of images than ``images``.
    """
    for heading, boxes in columns.items():
        if len(boxes) != len(images):
            raise ValueError(
                f"Column '{heading}' has boxes of {len(boxes)} images, but {len(images)} are given."
            )
    height, width = images[0].shape[:2]
    cell = 2.7
    figure = Figure(
        figsize=(cell * len(columns), cell * len(images) * height / width + 1.0),
        layout='constrained',
    )
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    for row, image in enumerate(images):
        for axis, (heading, boxes) in zip(axes[row], columns.items(), strict=True):
            axis.imshow(image, interpolation='nearest')
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(heading)
            _draw_boxes(axis, boxes[row], score_threshold, image.shape[0])
    handles = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], linewidth=3, label=name)
        for i, name in enumerate(class_names)
    ]
    figure.legend(
        handles=handles,
        title=f'detections: score of {score_threshold:g} and above',
        loc='outside lower center',
        # About three names fit below two columns of pictures.
        ncols=max(2, min(len(handles), 2 * len(columns) - 1)),
        frameon=False,
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _draw_boxes(axis: Any, boxes: Boxes, score_threshold: float, image_height: int) -> None:
    for i, (x1, y1, x2, y2) in enumerate(boxes.boxes):
        score = None if boxes.scores is None else float(boxes.scores[i])
        if score is not None and score < score_threshold:
            continue
        colour = COLOURS[int(boxes.labels[i]) % len(COLOURS)]
        # A white rim keeps the box visible on any background. Pixel centres are whole numbers in
        # matplotlib, pixel edges in COCO.
        for edge, linewidth in (('white', 3.2), (colour, 1.8)):
            axis.add_patch(
                Rectangle(
                    (x1 - 0.5, y1 - 0.5),
                    x2 - x1,
                    y2 - y1,
                    fill=False,
                    edgecolor=edge,
                    linewidth=linewidth,
                )
            )
        if score is not None:
            inside = y1 < 0.08 * image_height
            axis.text(
                x1 + 0.5,
                y1 + (1 if inside else -1),
                f'{score:.2f}',
                color='white',
                fontsize=6,
                verticalalignment='top' if inside else 'bottom',
                bbox={'facecolor': colour, 'edgecolor': 'none', 'pad': 0.8},
                clip_on=True,
            )


def show_detections(
    models: Mapping[str, tuple[str | os.PathLike[str], str | os.PathLike[str]]],
    ann_file: str | os.PathLike[str],
    image_dir: str | os.PathLike[str],
    path: str | os.PathLike[str],
    num_images: int = 4,
    score_threshold: float = 0.3,
    device: str = 'cpu',
) -> None:
    """Draws ground truth and the boxes of trained models on a few images of a COCO set.

    Args:
        models: Heading -> config and checkpoint, see :func:`load_detector`.
        ann_file: COCO JSON.
        image_dir: Folder to which its file names are relative.
        path: Image to write.
        num_images: Number of rows.
        score_threshold: See :func:`draw_grid`.
        device: Torch device the models run on.

    Raises:
        UsageError: If a model is called as the first column, or the models have different classes.
        FileNotFoundError: If an image is missing.
    """
    import cv2

    if TRUTH in models:
        raise UsageError(
            f'a model is called {TRUTH!r}, as the column of the annotations: give it another name.'
        )
    classes = _common_classes({heading: config for heading, (config, _) in models.items()})
    names, truth, shown = load_ground_truth(ann_file, num_images, classes)
    files = [Path(image_dir) / name for name in names]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f'{file}, named in {ann_file}, does not exist: check the image folder.'
            )
    columns: dict[str, Sequence[Boxes]] = {TRUTH: truth}
    for heading, (config, checkpoint) in models.items():
        columns[heading] = predict(load_detector(config, checkpoint, device), files)
    images = [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]
    draw_grid(images, columns, shown, path, score_threshold)
