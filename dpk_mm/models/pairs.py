"""The sizes of DPK's transformation modules, by the names of pairs, in one table.

A text config reads it after its ``_base_`` line::

    _base_ = [...]
    from dpk_mm.models.pairs import dpk_transforms

    model = dict(distiller=dict(distill_losses=dict(loss_dpk=dict(
        transforms=dpk_transforms('cifar100/resnet56_resnet20')))))

(``_base_`` has to come first: mmengine takes a config that imports before it for a lazy one.) The config then holds
plain dicts, which a config that inherits it can change one number at a time.

Widths, depths and heads are those of the authors' code, except in the rows marked as ours. ``k`` is the side of a
patch, of the teacher's feature; the student's feature is resized to the teacher's side first, as the authors' code
does, where the two differ (ShuffleNets under ResNet and WRN, MobileNetV2). ``grid`` is the number of tokens along a
side in training, for which a learned positional embedding is made; for any other size it is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import UsageError, did_you_mean


class TransformSize(NamedTuple):
    """The arguments of one ``DPKTransform``, in the order of the table below."""

    student_channels: int
    teacher_channels: int
    patch_size: int
    embed_dims: int
    encoder_depth: int
    num_heads: int
    decoder_embed_dims: int
    decoder_depth: int
    decoder_num_heads: int
    grid: int | None  # None: sinusoidal positional embedding, as in the authors' code


class Pair(NamedTuple):
    """The stages that a pair of networks distils.

    Attributes:
        stages: Name -> size, shallow first.
        index: Name -> place in the recorded tuple of features; 0, 1, ... if it is empty.
        student_extra_tokens: Class and distillation tokens before the student's patches.
        teacher_extra_tokens: Likewise of the teacher.
        levels: Indices of all levels that FGD compares, of a detector.
        resize: Whether the student's stages have half the teacher's side, and are enlarged, as in the authors' code.
        max_tokens: Most tokens that attend to each other; a larger map is cut into windows. None: no limit, where all
            images have one size.
    """

    stages: dict[str, TransformSize]
    index: dict[str, int] = {}  # noqa: RUF012  never changed
    student_extra_tokens: int = 0
    teacher_extra_tokens: int = 0
    levels: tuple[int, ...] = ()
    resize: bool = False
    max_tokens: int | None = None


SIZES: dict[str, dict[str, int]] = {
    # The table below, in Table 17 of the paper 6-4.
    'large': {},
    # 1-1 in Table 17: ResNet-34 to ResNet-18 reaches 72.43 with it, and 72.51 as the paper's main result.
    'small': dict(encoder_depth=1, decoder_depth=1),
}
"""What a named size changes in the rows of a pair; widths, heads and patches stay."""

MAX_TOKENS = 441
"""Most tokens that attention sees on a detector's level: 21 x 21, an image of COCO's 1333 pixels at P4 to P6."""

_T = TransformSize


def _classifiers(*sizes: TransformSize, **kwargs: Any) -> Pair:
    """The last two stages, or the last one alone."""
    return Pair(dict(zip(('second_last', 'last')[-len(sizes) :], sizes, strict=True)), **kwargs)


def _detectors(sizes: dict[str, TransformSize], levels: str) -> Pair:
    """Levels of a feature pyramid by name; ``levels`` are those of the neck's outputs that FGD compares."""
    names = levels.split()
    index = {name: names.index(name) for name in sizes}
    return Pair(sizes, index, levels=tuple(range(len(names))), max_tokens=MAX_TOKENS)


PAIRS: dict[str, Pair] = {
    #      C_s   C_t  k  d_e  L  h   d_d  L  h  grid
    'cifar100/resnet56_resnet20': _classifiers(
        _T(32, 32, 1, 64, 6, 8, 48, 6, 8, 16),
        _T(64, 64, 1, 128, 6, 8, 80, 4, 8, 8),
    ),
    'cifar100/resnet110_resnet32': _classifiers(
        _T(32, 32, 1, 64, 6, 8, 64, 6, 8, 16),
        _T(64, 64, 1, 128, 6, 8, 128, 4, 8, 8),
    ),
    'cifar100/resnet110_resnet20': _classifiers(
        _T(32, 32, 1, 64, 6, 8, 128, 4, 8, 16),
        _T(64, 64, 1, 64, 6, 8, 128, 4, 8, 8),
    ),
    'cifar100/resnet32x4_resnet8x4': _classifiers(
        _T(128, 128, 1, 160, 6, 4, 128, 4, 8, 16),
        _T(256, 256, 1, 180, 6, 4, 256, 4, 8, 8),
    ),
    'cifar100/wrn40-2_wrn16-2': _classifiers(
        _T(64, 64, 1, 128, 6, 8, 128, 4, 8, 16),
        _T(128, 128, 1, 256, 6, 8, 256, 4, 8, 8),
    ),
    'cifar100/wrn40-2_wrn40-1': _classifiers(
        _T(32, 64, 1, 64, 6, 4, 80, 4, 4, 16),
        _T(64, 128, 1, 80, 6, 8, 128, 4, 8, 8),
    ),
    'cifar100/vgg13_vgg8': _classifiers(
        _T(256, 256, 1, 160, 6, 8, 256, 6, 8, 8),
        _T(512, 512, 1, 320, 6, 8, 512, 4, 8, 4),
    ),
    'cifar100/resnet32x4_shufflenetv1': _classifiers(
        _T(480, 128, 1, 256, 6, 8, 128, 4, 8, 16),
        _T(960, 256, 1, 512, 6, 8, 256, 4, 8, 8),
        resize=True,
    ),
    'cifar100/resnet32x4_shufflenetv2': _classifiers(
        _T(232, 128, 1, 128, 6, 8, 128, 4, 8, 16),
        _T(464, 256, 1, 256, 6, 8, 256, 4, 8, 8),
        resize=True,
    ),
    'cifar100/wrn40-2_shufflenetv1': _classifiers(
        _T(480, 64, 1, 256, 6, 8, 128, 4, 8, 16),
        _T(960, 128, 1, 320, 6, 8, 128, 4, 8, 8),
        resize=True,
    ),
    'cifar100/resnet50_vgg8': _classifiers(
        _T(256, 1024, 1, 512, 6, 8, 1024, 4, 8, 8),
        _T(512, 2048, 1, 640, 6, 8, 1536, 4, 8, 4),
    ),
    'cifar100/resnet50_mobilenetv2': _classifiers(
        _T(48, 1024, 1, 512, 6, 8, 640, 4, 8, 8),
        _T(160, 2048, 1, 640, 6, 8, 1536, 4, 8, 4),
        resize=True,
    ),
    'cifar100/vgg13_mobilenetv2': _classifiers(
        _T(48, 256, 1, 128, 6, 4, 256, 4, 4, 8),
        _T(160, 512, 1, 320, 6, 8, 512, 4, 8, 4),
        resize=True,
    ),
    'imagenet/resnet34_resnet18': _classifiers(
        _T(256, 256, 1, 256, 6, 8, 256, 4, 8, 14),
        _T(512, 512, 1, 512, 6, 8, 512, 4, 8, 7),
    ),
    # The authors' config names a second-last stage with k = 2, which their training loop cannot
    # run; this is the k = 1 module of the same file.
    'imagenet/resnet50_resnet18': _classifiers(
        _T(256, 1024, 1, 512, 4, 8, 1024, 4, 8, 14),
        _T(512, 2048, 1, 640, 6, 8, 1024, 4, 8, 7),
    ),
    'imagenet/resnet101_resnet18': _classifiers(
        _T(256, 1024, 1, 512, 4, 8, 1024, 4, 16, 14),
        _T(512, 2048, 1, 640, 6, 8, 1024, 4, 16, 7),
    ),
    'imagenet/resnet152_resnet18': _classifiers(
        _T(256, 1024, 1, 512, 6, 8, 1024, 4, 16, 14),
        _T(512, 2048, 1, 640, 6, 8, 1024, 4, 16, 7),
    ),
    'imagenet/resnet50_mobilenetv1': _classifiers(
        _T(512, 1024, 1, 512, 4, 8, 640, 4, 8, 14),
        _T(1024, 2048, 1, 640, 4, 8, 1536, 4, 16, 7),
    ),
    'imagenet/convnext-l_resnet18': _classifiers(
        _T(256, 768, 1, 512, 4, 8, 640, 4, 8, 14),
        _T(512, 1536, 1, 640, 4, 8, 1024, 4, 8, 7),
    ),
    # Ours: the other ConvNeXt pairs have the widths of ConvNeXt-L to ResNet-18.
    **{
        f'imagenet/convnext-{size}_resnet18': _classifiers(
            _T(256, channels // 2, 1, 512, 4, 8, 640, 4, 8, 14),
            _T(512, channels, 1, 640, 4, 8, 1024, 4, 8, 7),
        )
        for size, channels in (('t', 768), ('s', 768), ('b', 1024))
    },
    **{
        f'imagenet/convnext-{size}_convnext-e': _classifiers(
            _T(384, channels // 2, 1, 512, 4, 8, 640, 4, 8, 14),
            _T(768, channels, 1, 640, 4, 8, 1024, 4, 8, 7),
        )
        for size, channels in (('t', 768), ('s', 768), ('b', 1024), ('l', 1536))
    },
    # Ours: the last stage alone, as in the paper, with the widths of ResNet-50 to ResNet-18. The
    # teacher's feature is the output of its last 1x1 convolution, as in the authors' code.
    **{
        f'imagenet/efficientnet-b{size}_resnet18': _classifiers(
            _T(512, channels, 1, 640, 6, 8, 1024, 6, 8, 7)
        )
        for size, channels in enumerate((1280, 1280, 1408, 1536, 1792))
    },
    # Ours: the widths of ResNet-34 to ResNet-18 by resolution for Swin, the teacher's own width
    # for the CaiT pairs, whose two stages are two depths of one resolution.
    'imagenet/swin-s_swin-t': _classifiers(
        _T(384, 384, 1, 256, 6, 8, 256, 4, 8, 14),
        _T(768, 768, 1, 512, 6, 8, 512, 4, 8, 7),
    ),
    **{
        f'imagenet/cait-s24_deit-{size}': _classifiers(
            *[_T(channels, 384, 1, 384, 6, 8, 384, 4, 8, 14)] * 2,
            # DeiT's class token goes along with the patches; CaiT's joins after these blocks
            student_extra_tokens=1,
        )
        for size, channels in (('t', 192), ('s', 384))
    },
    # Detection on COCO: the grid is that of a 1333x1333 image. P2 and P3 (RetinaNet: P3) stay FGD's.
    'coco/faster_rcnn': _detectors(
        dict(
            P4=_T(256, 256, 4, 512, 4, 8, 1024, 4, 8, 21),
            P5=_T(256, 256, 2, 256, 4, 8, 512, 4, 8, 21),
        ),
        levels='P2 P3 P4 P5',
    ),
    'coco/retinanet': _detectors(
        dict(
            P4=_T(256, 256, 4, 512, 4, 8, 1024, 4, 8, 21),
            P5=_T(256, 256, 2, 256, 4, 8, 512, 4, 8, 21),
            P6=_T(256, 256, 1, 256, 4, 8, 256, 4, 8, 21),
            P7=_T(256, 256, 1, 256, 4, 8, 256, 4, 8, 11),
        ),
        levels='P3 P4 P5 P6 P7',
    ),
    # Ours: the small pairs of the quickstart and the experiments. Sinusoidal positional embeddings, since a learned
    # table starts near zero and a few epochs are too few for it (one seed, width 128: mAP 0.166 instead of 0.188).
    'mini/faster_rcnn': _detectors(
        dict(
            P4=_T(64, 64, 1, 64, 2, 4, 64, 2, 4, None),
            P5=_T(64, 64, 1, 64, 2, 4, 64, 2, 4, None),
        ),
        levels='P2 P3 P4 P5',
    ),
    'mini/retinanet': _detectors(
        dict(
            P4=_T(64, 64, 1, 64, 2, 4, 64, 2, 4, None),
            P5=_T(64, 64, 1, 64, 2, 4, 64, 2, 4, None),
        ),
        levels='P3 P4 P5 P6 P7',
    ),
    'mini/fashion_cnn': _classifiers(
        _T(32, 64, 1, 64, 2, 4, 64, 2, 4, 7),
        _T(64, 128, 1, 64, 2, 4, 64, 2, 4, 4),
    ),
    'mini/cifar100': _classifiers(
        _T(16, 48, 1, 64, 2, 4, 64, 2, 4, 8),
        _T(32, 96, 1, 64, 2, 4, 64, 2, 4, 4),
    ),
    'mini/fashion_vit': _classifiers(
        _T(32, 64, 1, 64, 2, 4, 64, 2, 4, None),
        _T(32, 64, 1, 64, 2, 4, 64, 2, 4, None),
        student_extra_tokens=1,
        teacher_extra_tokens=1,
    ),
    # 12x16, 12x16 and 6x8 tokens. No box of these images is assigned to RetinaNet's P6 and P7.
    'bccd/faster_rcnn': _detectors(
        dict(
            P3=_T(64, 64, 2, 128, 2, 4, 128, 2, 4, None),
            P4=_T(64, 64, 1, 64, 2, 4, 64, 2, 4, None),
            P5=_T(64, 64, 1, 64, 2, 4, 64, 2, 4, None),
        ),
        levels='P2 P3 P4 P5',
    ),
    'bccd/retinanet': _detectors(
        dict(
            P3=_T(64, 64, 2, 128, 2, 4, 128, 2, 4, None),
            P4=_T(64, 64, 1, 64, 2, 4, 64, 2, 4, None),
            P5=_T(64, 64, 1, 64, 2, 4, 64, 2, 4, None),
        ),
        levels='P3 P4 P5',
    ),
}


def find_pair(pair: str | Pair) -> Pair:
    """The row of a pair; a row itself comes back as it is.

    Raises:
        UsageError: (a ValueError) If there is none; the sentence names the nearest one.
    """
    if isinstance(pair, Pair):
        return pair
    if pair not in PAIRS:
        raise UsageError(
            f'There is no pair {pair!r} in dpk_mm.models.pairs, which has {", ".join(PAIRS)}'
            f'{did_you_mean(pair, PAIRS) or "."}'
        )
    return PAIRS[pair]


def dpk_transforms(
    pair: str | Pair, stages: Sequence[str] | None = None, size: str = 'large'
) -> dict[str, dict[str, Any]]:
    """Gives ``transforms`` of a ``DPKLoss`` for a pair of the table.

    Args:
        pair: Key of ``PAIRS``: data set, teacher, student, or data set and detector.
        stages: Which of the pair's stages, such as ``('last',)`` or ``('P5',)``; None takes all that it distils.
        size: Key of :data:`SIZES`: 'large', the table, or 'small', encoder and decoder of one block each.

    Returns:
        By stage, shallow first: ``index``, the place of the stage in the recorded tuple of features, and the arguments
        of its ``DPKTransform``.

    Raises:
        UsageError: (a ValueError) If the pair, a stage of it, or the size is not in the table.
    """
    row = find_pair(pair)
    if size not in SIZES:
        raise UsageError(
            f'size is {size!r}, but the sizes are {", ".join(SIZES)}{did_you_mean(str(size), SIZES) or "."}'
        )
    unknown = sorted(set(stages or ()) - set(row.stages))
    if unknown:
        raise UsageError(
            f'The pair {pair!r} has no stage {unknown[0]!r}; choose from {", ".join(row.stages)}.'
        )
    return {
        name: _arguments(row, name, place) | SIZES[size]
        for place, name in enumerate(row.stages)
        if stages is None or name in stages
    }


def _arguments(row: Pair, name: str, place: int) -> dict[str, Any]:
    sizes = row.stages[name]._asdict()
    grid = sizes.pop('grid')
    arguments = dict(index=row.index.get(name, place), **sizes)
    if grid is None:
        arguments['position_embedding'] = 'sinusoidal'
    else:
        arguments['position_grid'] = (grid, grid)
    for side in ('student', 'teacher'):
        tokens = getattr(row, f'{side}_extra_tokens')
        if tokens:
            arguments[f'{side}_extra_tokens'] = tokens
    if row.max_tokens:
        arguments['max_tokens'] = row.max_tokens
    if row.resize:
        arguments['resize'] = True
    return arguments
