"""Modules that need torch alone."""

from .context_block import ContextBlock
from .dpk_transform import DPKTransform
from .hybrid_transform import FeatureTransform, HybridTransform
from .mask_ratio import (
    CKAMaskRatio,
    CosineMaskRatio,
    ExponentialMaskRatio,
    FixedMaskRatio,
    LinearMaskRatio,
    MaskRatioPolicy,
)
from .mask_strategy import MaskContext, MaskStrategy, build_mask
from .other_transforms import ConvEncoderDecoderTransform, ConvTransform, MLPDecoderTransform
from .parameters import count_parameters
from .tokens import PatchEmbed, PositionEmbedding, grid_of, sinusoid_table, unpatchify
from .transformer import Transformer
from .transforms import TRANSFORMS, build_transform

__all__ = [
    'TRANSFORMS',
    'CKAMaskRatio',
    'ContextBlock',
    'ConvEncoderDecoderTransform',
    'ConvTransform',
    'CosineMaskRatio',
    'DPKTransform',
    'ExponentialMaskRatio',
    'FeatureTransform',
    'FixedMaskRatio',
    'HybridTransform',
    'LinearMaskRatio',
    'MLPDecoderTransform',
    'MaskContext',
    'MaskRatioPolicy',
    'MaskStrategy',
    'PatchEmbed',
    'PositionEmbedding',
    'Transformer',
    'build_mask',
    'build_transform',
    'count_parameters',
    'grid_of',
    'sinusoid_table',
    'unpatchify',
]
