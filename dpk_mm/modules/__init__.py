"""Modules that need torch alone."""

from .context_block import ContextBlock
from .dpk_transform import DPKTransform, count_parameters
from .mask_ratio import (
    CKAMaskRatio,
    CosineMaskRatio,
    ExponentialMaskRatio,
    FixedMaskRatio,
    LinearMaskRatio,
    MaskRatioPolicy,
)
from .tokens import PatchEmbed, PositionEmbedding, grid_of, sinusoid_table, unpatchify
from .transformer import Transformer

__all__ = [
    'CKAMaskRatio',
    'ContextBlock',
    'CosineMaskRatio',
    'DPKTransform',
    'ExponentialMaskRatio',
    'FixedMaskRatio',
    'LinearMaskRatio',
    'MaskRatioPolicy',
    'PatchEmbed',
    'PositionEmbedding',
    'Transformer',
    'count_parameters',
    'grid_of',
    'sinusoid_table',
    'unpatchify',
]
