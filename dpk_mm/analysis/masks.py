"""A picture of every mask strategy over one image."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..errors import UsageError
from ..functional.masking import tokens_to_cells
from ..models.teacher.checkpoint import load_teacher
from ..modules.mask_strategy import MaskContext, ScoresMask, build_mask
from ..modules.tokens import grid_of
from .input_size import image_mode
from .loading import build_model, dpk_losses, load_student_weights, read_config
from .training_curves import COLOURS


@dataclass(frozen=True)
class StageFeatures:
    """The features from which the masks of one stage are drawn.

    Attributes:
        student: ``[1, C_s, h, w]``.
        teacher: ``[1, C_t, H, W]``.
        patch_size: k.
        context: Boxes and the teacher's classifier, where there are any.
        caption: Where the features come from, for the figure.
    """

    student: Tensor
    teacher: Tensor
    patch_size: int = 1
    context: MaskContext = MaskContext()
    caption: str = ''


@dataclass(frozen=True)
class MaskRow:
    """One strategy's row of the figure.

    Attributes:
        name: Its heading.
        scores: ``[rows, columns]`` of tokens, or None where it has none.
        masks: One ``[rows, columns]`` bool for each ratio, True where the teacher gives the token.
    """

    name: str
    scores: Tensor | None
    masks: list[Tensor]


def read_image(path: str | os.PathLike[str], size: int) -> tuple[np.ndarray, float]:
    """Reads an image and resizes its short side.

    Args:
        path: Image file.
        size: Pixels of the short side.

    Returns:
        RGB uint8 ``[H, W, 3]``, and the scale factor of its sides.

    Raises:
        FileNotFoundError: If the file does not exist.
        UsageError: If it is no image.
    """
    import cv2

    if not Path(path).is_file():
        raise FileNotFoundError(f'{path} does not exist: give an image file.')
    image = cv2.imread(os.fspath(path))
    if image is None:
        raise UsageError(f'{path} is not an image that OpenCV reads; give a JPEG or PNG file.')
    scale = size / min(image.shape[:2])
    shape = [max(1, round(side * scale)) for side in (image.shape[1], image.shape[0])]
    return cv2.cvtColor(cv2.resize(image, shape), cv2.COLOR_BGR2RGB), scale


def read_boxes(
    ann_file: str | os.PathLike[str], image: str | os.PathLike[str], scale: float
) -> Tensor:
    """The boxes of one image in a COCO file, resized.

    Args:
        ann_file: COCO JSON.
        image: The image; only its file name is compared.
        scale: Factor of the coordinates.

    Returns:
        ``[G, 4]`` float32, x1, y1, x2, y2 in pixels of the resized image.

    Raises:
        UsageError: If the file does not name the image.
    """
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco = COCO(os.fspath(ann_file))
    name = Path(image).name
    for key, info in coco.imgs.items():
        if Path(info['file_name']).name == name:
            found = torch.tensor([a['bbox'] for a in coco.imgToAnns[key]]).float().view(-1, 4)
            return torch.cat([found[:, :2], found[:, :2] + found[:, 2:]], 1) * scale
    raise UsageError(f'{ann_file} names no image {name!r}; give the annotations of this image.')


@torch.no_grad()
def stage_features(
    config: str | os.PathLike[str],
    image: np.ndarray,
    teacher_ckpt: str | None = None,
    student_ckpt: str | None = None,
    stage: str | None = None,
    boxes: Tensor | None = None,
) -> StageFeatures:
    """Runs teacher and student of a distillation config on one image.

    Args:
        config: With a ``DPKLoss``.
        image: RGB uint8 ``[H, W, 3]``.
        teacher_ckpt: As in a config's ``teacher_ckpt``; None leaves the teacher untrained.
        student_ckpt: What a training wrote, or a student alone; None leaves the student untrained.
        stage: Key of ``transforms``; the last one if None.
        boxes: ``[G, 4]`` in pixels of ``image``.

    Returns:
        The features of that stage, as the loss gets them.

    Raises:
        UsageError: If the config has no ``DPKLoss`` or no such stage, or a checkpoint does not fit.
    """
    model = build_model(read_config(config, teacher_ckpt=teacher_ckpt, with_teacher=False))
    name, loss = next(iter(dpk_losses(model, config).items()))
    stage = stage or list(loss.stages)[-1]
    if stage not in loss.stages:
        raise UsageError(f'{config} has no stage {stage!r}; its stages are {list(loss.stages)}.')
    if teacher_ckpt:
        load_teacher(model.teacher, teacher_ckpt)
    if student_ckpt:
        load_student_weights(model.student, student_ckpt)

    given = {'inputs': [_as_read(image, image_mode(model.student, model.cfg))]}
    batch = model.data_preprocessor({**given, 'data_samples': None}, False)
    inputs, distiller = batch['inputs'], model.distiller
    with distiller.teacher_recorders:
        model.teacher.extract_feat(model.input_of_teacher(inputs))
    model.restore_teacher_maps(inputs.shape[-2:])
    with distiller.student_recorders:
        model.student.extract_feat(inputs)
    mapping = distiller.loss_forward_mappings[name]
    features = {}
    for side in ('student', 'teacher'):
        record = distiller.get_record(**mapping[f'{side}_feats'])
        feats = (record,) if isinstance(record, Tensor) else tuple(record)
        features[side] = loss.stages[stage].pick(side, feats)
    classifier = getattr(getattr(model.teacher, 'head', None), 'fc', None)
    is_linear = isinstance(classifier, nn.Linear)
    if is_linear and classifier.in_features != features['teacher'].shape[1]:
        is_linear = False  # not the stage before the pooling
    trained = ', '.join(
        f'{side} {"trained" if ckpt else "untrained"}'
        for side, ckpt in (('teacher', teacher_ckpt), ('student', student_ckpt))
    )
    return StageFeatures(
        features['student'],
        features['teacher'],
        loss.transforms[stage].patch_size,
        MaskContext(
            None if boxes is None else [boxes],
            (inputs.shape[-2], inputs.shape[-1]),
            classifier.weight if is_linear else None,
            classifier.bias if is_linear else None,
        ),
        f'{Path(config).stem}, stage {stage} ({trained})',
    )


def _as_read(image: np.ndarray, mode: str) -> Tensor:
    """RGB ``[H, W, 3]`` -> ``[C, H, W]`` of a mode, as the data preprocessor gets it."""
    import cv2

    if mode == 'L':
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    elif mode == 'BGR':
        image = image[..., ::-1]
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def pattern_features(grid: tuple[int, int]) -> StageFeatures:
    """Empty features of a grid of tokens, for the strategies that do not use features."""
    empty = torch.zeros(1, 1, *grid)
    return StageFeatures(empty, empty, caption=f'{grid[0]} x {grid[1]} tokens')


def mask_rows(
    features: StageFeatures,
    ratios: Sequence[float],
    with_scores: bool = True,
    only: Sequence[str] | None = None,
    seed: int = 0,
) -> list[MaskRow]:
    """The mask of every strategy that the features allow, at each ratio.

    Args:
        features: See :func:`stage_features` and :func:`pattern_features`.
        ratios: Each in [0, 1].
        with_scores: Whether to draw the strategies by scores, too: by each score the sampled mask, the top share
            and the opposite of the sampled one.
        only: Headings of the rows to draw, such as 'block' or 'gap, top'; all of them if None.
        seed: Seed of the random draws, the same for every mask.

    Raises:
        UsageError: If a heading is unknown, or the features do not allow it.
    """
    cfgs: dict[str, Any] = {name: name for name in ('random', 'block', 'grid')}
    if with_scores:
        context = features.context
        for score in ScoresMask.SCORES:
            needs = ScoresMask(score).needs
            if needs is None or getattr(context, needs) is not None:
                for rule in (dict(select='sample'), dict(select='top'), dict(opposite=True)):
                    heading = f'{score}, {"opposite" if "opposite" in rule else rule["select"]}'
                    cfgs[heading] = dict(type='scores', score=score, **rule)
    for heading in only or ():
        if heading not in cfgs:
            raise UsageError(f'--rows has {heading!r}, but there are {", ".join(map(repr, cfgs))}.')
    cfgs = {heading: cfgs[heading] for heading in only or cfgs}
    student, teacher, k = features.student, features.teacher, features.patch_size
    grid = grid_of((teacher.shape[-2], teacher.shape[-1]), k)
    rows = []
    with torch.random.fork_rng(devices=[]):
        for name, cfg in cfgs.items():
            strategy, masks, scores = build_mask(cfg), [], None
            for ratio in ratios:
                torch.manual_seed(seed)
                mask = strategy(ratio, student, teacher, k, features.context)
                masks.append(mask.as_bool().view(grid))
            if isinstance(strategy, ScoresMask):
                scores = strategy.scores(student, teacher, k, features.context).view(grid)
            rows.append(MaskRow(name, scores, masks))
    return rows


def draw_masks(
    image: np.ndarray,
    rows: Sequence[MaskRow],
    ratios: Sequence[float],
    path: str | os.PathLike[str],
    cells: tuple[tuple[int, int], int] | None = None,
    caption: str = '',
    padded: tuple[int, int] | None = None,
) -> None:
    """Draws one row per strategy: its scores where it has any, and its mask at each ratio.

    Args:
        image: RGB uint8 ``[H, W, 3]``.
        rows: See :func:`mask_rows`.
        ratios: Headings of the columns.
        path: Image to write; the suffix chooses the format.
        cells: ((H, W), k) of the feature, whose last patches may stick out of it; the tokens fill the image if None.
        caption: Where the features come from.
        padded: (height, width) of what the feature is of, where the image was padded; the image's own if None.
    """
    height, width = image.shape[:2]
    shape, padded = (height, width), padded or (height, width)
    cell = 1.9
    figure = Figure(
        figsize=(cell * (len(ratios) + 1) + 0.6, cell * len(rows) * height / width + 0.9),
        layout='constrained',
    )
    axes = figure.subplots(len(rows), len(ratios) + 1, squeeze=False)
    colour = np.array([int(COLOURS[1][i : i + 2], 16) for i in (1, 3, 5)])
    for line, row in zip(axes, rows, strict=True):
        line[0].imshow(image, interpolation='nearest')
        line[0].set_ylabel(row.name.replace(', ', '\n'), fontsize=8)
        line[0].set_title('image' if row.scores is None else 'scores', fontsize=7, pad=2)
        if row.scores is not None:
            scores = _over(row.scores, shape, cells, padded)
            line[0].imshow(scores, cmap='viridis', alpha=0.75, interpolation='nearest')
        for axis, mask in zip(line[1:], row.masks, strict=True):
            given = _over(mask.float(), shape, cells, padded)[..., None]
            mixed = image * (1 - 0.7 * given) + colour * (0.7 * given)
            axis.imshow(mixed.round().astype(np.uint8), interpolation='nearest')
            share = mask.double().mean().item()
            axis.set_title(f'{share:.3f} of {mask.numel()}', fontsize=7, pad=2)
        for axis in line:
            axis.set(xticks=[], yticks=[])
    for axis, ratio in zip(axes[0, 1:], ratios, strict=True):
        axis.set_title(f'asked {ratio:g}, is {axis.get_title()}', fontsize=7, pad=2)
    figure.suptitle(f'Orange: tokens that the teacher gives\n{caption}', fontsize=9)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _over(
    tokens: Tensor,
    shape: tuple[int, int],
    cells: tuple[tuple[int, int], int] | None,
    padded: tuple[int, int],
) -> np.ndarray:
    """``[rows, columns]`` of tokens -> ``[H, W]`` of the image, which the padding stands right of and below."""
    size, k = cells or ((tokens.shape[0], tokens.shape[1]), 1)
    plane = tokens_to_cells(tokens.reshape(1, -1), size, k)
    whole = F.interpolate(plane.float(), padded, mode='nearest')[0, 0]
    return whole[: shape[0], : shape[1]].numpy()


def show_masks(
    image: str | os.PathLike[str],
    path: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
    teacher_ckpt: str | None = None,
    student_ckpt: str | None = None,
    ann_file: str | os.PathLike[str] | None = None,
    stage: str | None = None,
    ratios: Sequence[float] = (0.25, 0.5, 0.75),
    size: int = 224,
    grid: tuple[int, int] = (14, 14),
    only: Sequence[str] | None = None,
) -> list[MaskRow]:
    """Draws every mask strategy over one image.

    Args:
        image: Image file.
        path: Image to write.
        config: A distillation config, whose features give the scores; None draws random, block and grid alone.
        teacher_ckpt: See :func:`stage_features`.
        student_ckpt: See :func:`stage_features`.
        ann_file: COCO JSON that names the image, for the foreground.
        stage: See :func:`stage_features`.
        ratios: Mask ratios, each in [0, 1].
        size: Pixels of the image's short side.
        grid: Tokens, where there is no config.
        only: See :func:`mask_rows`.

    Returns:
        The rows of the figure.

    Raises:
        UsageError: If an input does not fit.
    """
    for ratio in ratios:
        if not 0 <= ratio <= 1:
            raise UsageError(f'--ratios must be in [0, 1], but one is {ratio}.')
    pixels, scale = read_image(image, size)
    if config is None:
        features = pattern_features(grid)
    else:
        boxes = None if ann_file is None else read_boxes(ann_file, image, scale)
        features = stage_features(config, pixels, teacher_ckpt, student_ckpt, stage, boxes)
    rows = mask_rows(features, ratios, config is not None, only)
    shape = (features.teacher.shape[-2], features.teacher.shape[-1])
    padded = None if config is None else features.context.image_shape
    cells = (shape, features.patch_size)
    draw_masks(pixels, rows, ratios, path, cells, features.caption, padded)
    return rows
