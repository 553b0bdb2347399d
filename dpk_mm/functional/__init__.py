"""Pure functions on tensors. They import torch alone."""

from .attention import channel_attention, spatial_attention
from .boxes import box_cells, foreground_background_masks
from .feature_maps import tokens_to_map
from .host_copy import HostCopy
from .mask_patterns import block_mask, grid_mask
from .masking import (
    TokenMask,
    mask_by_scores,
    num_masked_tokens,
    random_mask,
    stitch_tokens,
    take_tokens,
    tokens_to_cells,
    unmasked,
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
from .token_scores import (
    activation_scores,
    foreground_scores,
    gap_scores,
    pool_tokens,
    select_by_scores,
    uncertainty_scores,
)

__all__ = [
    'HostCopy',
    'MIN_SAMPLES',
    'TokenMask',
    'activation_scores',
    'block_mask',
    'box_cells',
    'channel_attention',
    'cka_from_sums',
    'foreground_background_masks',
    'foreground_scores',
    'gap_scores',
    'grid_mask',
    'hsic_sums',
    'mask_by_scores',
    'mean_cosine_similarity',
    'minibatch_cka',
    'num_masked_tokens',
    'pool_tokens',
    'positions_as_samples',
    'random_mask',
    'select_by_scores',
    'spatial_attention',
    'stitch_tokens',
    'take_tokens',
    'tokens_to_cells',
    'tokens_to_map',
    'unbiased_hsic',
    'uncertainty_scores',
    'unmasked',
]
