"""Scores per token, by which an active prior chooses what the teacher gives, and how it chooses.

All scores are float32 ``[N, L]``, at least 0, the higher the sooner the teacher gives the token. Source: A.10
("actively choose the prior knowledge according to some rules"), which names the ideas and no formula; these are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .boxes import foreground_background_masks
from .masking import TokenMask, mask_by_scores

SELECTS = ('sample', 'top')


def pool_tokens(feature: Tensor, patch_size: int) -> Tensor:
    """Mean over each patch.

    Args:
        feature: ``[N, C, H, W]``. A patch that extends beyond the map counts its cells inside.
        patch_size: k.

    Returns:
        ``[N, C, L]`` float32, patches row by row.
    """
    return F.avg_pool2d(feature.float(), patch_size, ceil_mode=True).flatten(2)


def activation_scores(teacher: Tensor, patch_size: int = 1) -> Tensor:
    """Mean absolute activation of the teacher, over channels and patch.

    Args:
        teacher: ``[N, C, H, W]``.
        patch_size: k.

    Returns:
        ``[N, L]`` float32, at least 0.
    """
    strength = teacher.abs().mean(1, keepdim=True, dtype=torch.float32)
    return pool_tokens(strength, patch_size).squeeze(1)


def gap_scores(student: Tensor, teacher: Tensor, patch_size: int = 1) -> Tensor:
    """How differently student and teacher relate a token to the other tokens of its image, in [0, 2].

    Student and teacher have different channels, which nothing aligns, so their values cannot be compared. As in
    CKA, Gram matrices are: with K and L those of the centred tokens of one image, diagonals set to zero, the score
    of token i is ``1 - cos(K_i, L_i)``. It does not change if either feature is scaled, shifted or rotated
    over its channels. A token that is like the mean in either feature has score 1.

    Args:
        student: ``[N, C_s, h, w]``; resized to H x W if it has another size (bilinear).
        teacher: ``[N, C_t, H, W]``.
        patch_size: k, in cells of the teacher's feature.

    Returns:
        ``[N, L]`` float32, in [0, 2].
    """
    if student.shape[-2:] != teacher.shape[-2:]:
        student = F.interpolate(student, teacher.shape[-2:], mode='bilinear', align_corners=False)
    # matmul would go to half precision under autocast
    with torch.autocast(teacher.device.type, enabled=False):
        grams = _token_gram(student, patch_size), _token_gram(teacher, patch_size)
        return 1 - F.cosine_similarity(grams[0], grams[1], dim=2)


def _token_gram(feature: Tensor, patch_size: int) -> Tensor:
    """``[N, L, L]``, inner products of an image's centred tokens, zero on the diagonal."""
    tokens = pool_tokens(feature, patch_size)
    largest = tokens.abs().amax((1, 2), keepdim=True)
    tokens = tokens / largest.clamp_min(torch.finfo(torch.float32).tiny)  # squares stay in range
    tokens = tokens - tokens.mean(2, keepdim=True)
    # one scale per image keeps small features away from the epsilon of the cosine
    scale = tokens.square().mean((1, 2), keepdim=True).sqrt()
    tokens = tokens / scale.clamp_min(torch.finfo(torch.float32).tiny)
    gram = tokens.mT @ tokens
    gram.diagonal(dim1=1, dim2=2).zero_()
    return gram


def foreground_scores(
    boxes: Sequence[Tensor],
    image_shape: tuple[int, int],
    feature_shape: tuple[int, int],
    patch_size: int = 1,
) -> Tensor:
    """Share of each patch that boxes cover, in [0, 1].

    Boxes cover the cells that FGD gives them (:func:`~dpk_mm.functional.boxes.box_cells`): the end is rounded up and
    included, so that to the right and below it is one column and one row more than a box touches.

    Args:
        boxes: N tensors ``[G_i, 4]`` (x1, y1, x2, y2), pixels of the padded batch.
        image_shape: (height, width) of the padded batch.
        feature_shape: (H, W) of the teacher's feature.
        patch_size: k.

    Returns:
        ``[N, L]`` float32, in [0, 1].
    """
    foreground, _ = foreground_background_masks(boxes, image_shape, feature_shape)
    return pool_tokens((foreground > 0).unsqueeze(1), patch_size).squeeze(1)


def uncertainty_scores(
    teacher: Tensor, class_weight: Tensor, class_bias: Tensor | None = None, patch_size: int = 1
) -> Tensor:
    """Entropy of the teacher's class evidence at each position, over log K, in [0, 1].

    A linear classifier after global average pooling is the mean of itself at every position (the identity behind class
    activation maps), so its weights applied to one position give that position's evidence.

    Args:
        teacher: ``[N, C, H, W]``, the last stage of a globally pooled network.
        class_weight: ``[K, C]``, K > 1, of the teacher's classifier.
        class_bias: ``[K]``, its bias; none if None.
        patch_size: k; the entropy is averaged over a patch.

    Returns:
        ``[N, L]`` float32, in [0, 1].

    Raises:
        ValueError: If the classifier does not have the feature's channels.
    """
    channels = teacher.shape[1]
    if class_weight.ndim != 2 or class_weight.shape[1] != channels:
        raise ValueError(
            f"mask with score='uncertainty' needs class_weight of [classes, {channels}], since the teacher's "
            f'feature has {channels} channels, but its shape is {tuple(class_weight.shape)}; use the stage before the '
            "teacher's global pooling."
        )
    with torch.autocast(teacher.device.type, enabled=False):
        kernel = class_weight.float()[..., None, None]
        logits = F.conv2d(
            teacher.float(), kernel, None if class_bias is None else class_bias.float()
        )
        log_share = logits.log_softmax(1)
        entropy = -(log_share.exp() * log_share).sum(1, keepdim=True)
    return pool_tokens(entropy / math.log(logits.shape[1]), patch_size).squeeze(1)


def select_by_scores(
    scores: Tensor,
    num_masked: int,
    select: str = 'sample',
    opposite: bool = False,
    generator: torch.Generator | None = None,
) -> TokenMask:
    """Chooses the teacher's tokens by their scores, for a whole batch at once.

    Args:
        scores: ``[N, L]``, at least 0.
        num_masked: M in [0, L].
        select: 'sample': one after the other without replacement, each in proportion to its score among those
            left (Gumbel top-k on log scores); tokens of score 0 come last, at random. 'top': the highest; equal ones at
            random.
        opposite: Reverses the rule: in proportion to 1 / score, or the lowest.
        generator: Source of randomness; torch's default one if None.

    Returns:
        A mask, ``student`` of ``[N, L - M]``, ``teacher`` of ``[N, M]``.

    Raises:
        ValueError: If ``select`` is unknown.
    """
    if select not in SELECTS:
        raise ValueError(f'select must be one of {SELECTS}, but is {select!r}.')
    uniform = torch.rand(scores.shape, device=scores.device, generator=generator)
    if select == 'sample':
        tiny = torch.finfo(torch.float32).tiny
        log_score = scores.float().clamp_min(tiny).log()
        gumbel = -(-uniform.clamp_min(tiny).log()).clamp_min(tiny).log()
        return mask_by_scores((-log_score if opposite else log_score) + gumbel, num_masked)
    # In a random order first, then stably by score: so chance decides between equals.
    shuffle = uniform.argsort(1)
    order = scores.gather(1, shuffle).sort(dim=1, descending=not opposite, stable=True).indices
    rank = torch.empty_like(order).scatter_(
        1,
        shuffle.gather(1, order),
        torch.arange(scores.shape[1], device=scores.device).expand_as(order),
    )
    return mask_by_scores(-rank, num_masked)
