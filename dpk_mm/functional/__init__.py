"""Pure functions on tensors. They import torch alone."""

from .attention import channel_attention, spatial_attention
from .boxes import box_cells, foreground_background_masks
from .masking import (
    TokenMask,
    mask_by_scores,
    num_masked_tokens,
    random_mask,
    stitch_tokens,
    take_tokens,
)
from .similarity import (
    MIN_SAMPLES,
    cka_from_sums,
    hsic_sums,
    mean_cosine_similarity,
    minibatch_cka,
    positions_as_samples,
    unbiased_hsic,
)

__all__ = [
    'MIN_SAMPLES',
    'TokenMask',
    'box_cells',
    'channel_attention',
    'cka_from_sums',
    'foreground_background_masks',
    'hsic_sums',
    'mask_by_scores',
    'mean_cosine_similarity',
    'minibatch_cka',
    'num_masked_tokens',
    'positions_as_samples',
    'random_mask',
    'spatial_attention',
    'stitch_tokens',
    'take_tokens',
    'unbiased_hsic',
]
