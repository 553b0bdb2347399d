"""The size of DPK's transformation modules for every classification pair, in one table.

A text config reads it after its ``_base_`` line::

    _base_ = [...]
    from dpk_mm.models.pairs import dpk_transforms

    model = dict(distiller=dict(distill_losses=dict(loss_dpk=dict(
        transforms=dpk_transforms('cifar100/resnet56_resnet20')))))

(``_base_`` has to come first: mmengine takes a config that imports before it for a lazy one.) The
config then holds plain dicts, which a config that inherits it can change one number at a time.

Widths, depths and heads are those of the authors' code, except in the rows marked as ours, for
pairs that the paper reports and the code does not have. ``k`` is the side of a patch, of the
teacher's feature; the student's feature is resized to the teacher's side first, as the authors'
code does, where the two differ (ShuffleNets under ResNet and WRN, MobileNetV2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


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


_T = TransformSize

# pair: (second-last stage, last stage) or (last stage,)
PAIRS: dict[str, tuple[TransformSize, ...]] = {
    #                                  C_s   C_t  k  d_e  L  h   d_d  L  h
    'cifar100/resnet56_resnet20': (
        _T(32, 32, 1, 64, 6, 8, 48, 6, 8),
        _T(64, 64, 1, 128, 6, 8, 80, 4, 8),
    ),
    'cifar100/resnet110_resnet32': (
        _T(32, 32, 1, 64, 6, 8, 64, 6, 8),
        _T(64, 64, 1, 128, 6, 8, 128, 4, 8),
    ),
    'cifar100/resnet110_resnet20': (
        _T(32, 32, 1, 64, 6, 8, 128, 4, 8),
        _T(64, 64, 1, 64, 6, 8, 128, 4, 8),
    ),
    'cifar100/resnet32x4_resnet8x4': (
        _T(128, 128, 1, 160, 6, 4, 128, 4, 8),
        _T(256, 256, 1, 180, 6, 4, 256, 4, 8),
    ),
    'cifar100/wrn40-2_wrn16-2': (
        _T(64, 64, 1, 128, 6, 8, 128, 4, 8),
        _T(128, 128, 1, 256, 6, 8, 256, 4, 8),
    ),
    'cifar100/wrn40-2_wrn40-1': (
        _T(32, 64, 1, 64, 6, 4, 80, 4, 4),
        _T(64, 128, 1, 80, 6, 8, 128, 4, 8),
    ),
    'cifar100/vgg13_vgg8': (
        _T(256, 256, 1, 160, 6, 8, 256, 6, 8),
        _T(512, 512, 1, 320, 6, 8, 512, 4, 8),
    ),
    'cifar100/resnet32x4_shufflenetv1': (
        _T(480, 128, 1, 256, 6, 8, 128, 4, 8),
        _T(960, 256, 1, 512, 6, 8, 256, 4, 8),
    ),
    'cifar100/resnet32x4_shufflenetv2': (
        _T(232, 128, 1, 128, 6, 8, 128, 4, 8),
        _T(464, 256, 1, 256, 6, 8, 256, 4, 8),
    ),
    'cifar100/wrn40-2_shufflenetv1': (
        _T(480, 64, 1, 256, 6, 8, 128, 4, 8),
        _T(960, 128, 1, 320, 6, 8, 128, 4, 8),
    ),
    'cifar100/resnet50_vgg8': (
        _T(256, 1024, 1, 512, 6, 8, 1024, 4, 8),
        _T(512, 2048, 1, 640, 6, 8, 1536, 4, 8),
    ),
    'cifar100/resnet50_mobilenetv2': (
        _T(48, 1024, 1, 512, 6, 8, 640, 4, 8),
        _T(160, 2048, 1, 640, 6, 8, 1536, 4, 8),
    ),
    'cifar100/vgg13_mobilenetv2': (
        _T(48, 256, 1, 128, 6, 4, 256, 4, 4),
        _T(160, 512, 1, 320, 6, 8, 512, 4, 8),
    ),
    'imagenet/resnet34_resnet18': (
        _T(256, 256, 1, 256, 6, 8, 256, 4, 8),
        _T(512, 512, 1, 512, 6, 8, 512, 4, 8),
    ),
    # The authors' config names a second-last stage with k = 2, which their training loop cannot
    # run; this is the k = 1 module of the same file.
    'imagenet/resnet50_resnet18': (
        _T(256, 1024, 1, 512, 4, 8, 1024, 4, 8),
        _T(512, 2048, 1, 640, 6, 8, 1024, 4, 8),
    ),
    'imagenet/resnet101_resnet18': (
        _T(256, 1024, 1, 512, 4, 8, 1024, 4, 16),
        _T(512, 2048, 1, 640, 6, 8, 1024, 4, 16),
    ),
    'imagenet/resnet152_resnet18': (
        _T(256, 1024, 1, 512, 6, 8, 1024, 4, 16),
        _T(512, 2048, 1, 640, 6, 8, 1024, 4, 16),
    ),
    'imagenet/resnet50_mobilenetv1': (
        _T(512, 1024, 1, 512, 4, 8, 640, 4, 8),
        _T(1024, 2048, 1, 640, 4, 8, 1536, 4, 16),
    ),
    'imagenet/convnext-l_resnet18': (
        _T(256, 768, 1, 512, 4, 8, 640, 4, 8),
        _T(512, 1536, 1, 640, 4, 8, 1024, 4, 8),
    ),
    # Ours: the other ConvNeXt pairs have the widths of ConvNeXt-L to ResNet-18.
    **{
        f'imagenet/convnext-{size}_resnet18': (
            _T(256, channels // 2, 1, 512, 4, 8, 640, 4, 8),
            _T(512, channels, 1, 640, 4, 8, 1024, 4, 8),
        )
        for size, channels in (('t', 768), ('s', 768), ('b', 1024))
    },
    **{
        f'imagenet/convnext-{size}_convnext-e': (
            _T(384, channels // 2, 1, 512, 4, 8, 640, 4, 8),
            _T(768, channels, 1, 640, 4, 8, 1024, 4, 8),
        )
        for size, channels in (('t', 768), ('s', 768), ('b', 1024), ('l', 1536))
    },
    # Ours: the last stage alone, as in the paper, with the widths of ResNet-50 to ResNet-18. The
    # teacher's feature is the output of its last 1x1 convolution, as in the authors' code.
    **{
        f'imagenet/efficientnet-b{size}_resnet18': (_T(512, channels, 1, 640, 6, 8, 1024, 4, 8),)
        for size, channels in enumerate((1280, 1280, 1408, 1536, 1792))
    },
    # Ours: the widths of ResNet-34 to ResNet-18 by resolution for Swin, the teacher's own width
    # for the CaiT pairs, whose two stages are two depths of one resolution.
    'imagenet/swin-s_swin-t': (
        _T(384, 384, 1, 256, 6, 8, 256, 4, 8),
        _T(768, 768, 1, 512, 6, 8, 512, 4, 8),
    ),
    **{
        f'imagenet/cait-s24_deit-{size}': (_T(channels, 384, 1, 384, 6, 8, 384, 4, 8),) * 2
        for size, channels in (('t', 192), ('s', 384))
    },
}


def dpk_transforms(pair: str, stages: Sequence[str] | None = None) -> dict[str, dict[str, int]]:
    """Gives ``transforms`` of a ``DPKLoss`` for a pair of the paper.

    Args:
        pair: Key of ``PAIRS``: data set, teacher, student.
        stages: Which of ``'second_last'`` and ``'last'``; None takes all that the pair distils.

    Returns:
        By stage, shallow first: the arguments of its ``DPKTransform``, and ``index``, the position
        of the stage among the pair's distilled stages in the recorded tuple.

    Raises:
        ValueError: If the pair, or a stage of it, is not in the table.
    """
    if pair not in PAIRS:
        raise ValueError(f'No pair {pair!r}; dpk_mm.models.pairs has {", ".join(PAIRS)}.')
    sizes = PAIRS[pair]
    names = ('second_last', 'last')[-len(sizes) :]
    unknown = sorted(set(stages or ()) - set(names))
    if unknown:
        raise ValueError(
            f'The pair {pair!r} has no stage {unknown[0]!r}; choose from {", ".join(names)}.'
        )
    return {
        name: dict(index=index, **size._asdict())
        for index, (name, size) in enumerate(zip(names, sizes, strict=True))
        if stages is None or name in stages
    }
