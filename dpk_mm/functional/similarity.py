"""Similarity of two feature maps: unbiased HSIC, minibatch CKA and cosine.

The similarity of teacher and student sets the mask ratio (DPK, Eq. 5: ``pi = 1 - CKA``). The ratio is
a schedule and not a loss, so callers run these functions under ``torch.no_grad()``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# HSIC_1 divides by n * (n - 3).
MIN_SAMPLES = 4


def _as_matrix(x: Tensor, name: str) -> Tensor:
    if x.ndim < 2:
        raise ValueError(
            f'{name} must be [n, ...] with the samples first, but its shape is {tuple(x.shape)}; '
            'add a feature dimension.'
        )
    return x.flatten(1)


def _scaled_and_centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """Divides by the largest magnitude and removes the mean sample.

    HSIC_1 does not depend on the mean (it only adds a_i + a_j to the off-diagonal of the Gram matrix,
    to which the unbiased estimator is invariant), but its float32 rounding error does: with a mean of 10
    and unit noise the result was wrong in every digit. The scale keeps products of huge (1e30) or tiny
    features inside float32.
    """
    x = x.float()
    scale = x.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
    x = x / scale
    # The first sample goes first: the rounded mean of equal numbers need not be that number, and
    # what is left of a constant feature would correlate with everything (or with itself by 1).
    x = x - x[:1]
    return x - x.mean(dim=0, keepdim=True), scale.double()


def hsic_sums(x: Tensor, y: Tensor) -> Tensor:
    """The three HSIC_1 values that minibatch CKA is made of.

    They are returned apart because Eq. 7 averages them over mini-batches (or over ranks: all-reduce
    this tensor) *before* dividing; the mean of per-batch CKA is another number.

    With rows centred to zero mean, k_i = |x_i|^2 and l_i = |y_i|^2, the Gram matrix without its
    diagonal has the row sums -k_i, and Eq. 6 becomes::

        HSIC_1 = [ |X'Y|_F^2 - n/(n-2) * sum k_i l_i
                   + (sum k_i)(sum l_i) / ((n-1)(n-2)) ] / (n (n-3))

    so no n x n matrix is needed. ``|X'Y|_F^2`` equals the inner product of the two Gram matrices;
    the smaller of the two forms is computed (p x q for many samples, n x n for wide features). In
    the Gram form the diagonals are dropped before any sum, which loses no digits when features are
    far wider than the batch.

    Args:
        x: ``[n, ...]`` features, flattened to ``[n, p]``; any float type, computed in
            float32 outside autocast, sums in float64.
        y: ``[n, ...]`` features, flattened to ``[n, q]``.

    Returns:
        ``[3]``, float64: HSIC_1(X, Y), HSIC_1(X, X), HSIC_1(Y, Y).

    Raises:
        ValueError: If there are fewer than four samples or the two counts differ.

    Source: Eq. 6 (Song et al. 2012; Nguyen, Raghu & Kornblith 2021, eq. 3), linear kernel.
    """
    x, y = _as_matrix(x, 'x'), _as_matrix(y, 'y')
    n = x.shape[0]
    if y.shape[0] != n:
        raise ValueError(
            f'x and y must hold the same samples, but x has {n} and y has {y.shape[0]}.'
        )
    if n < MIN_SAMPLES:
        raise ValueError(
            f'The unbiased HSIC (Eq. 6) divides by n * (n - 3) and needs n >= {MIN_SAMPLES} '
            f'samples, but n is {n}; use a larger batch, or take positions as samples.'
        )
    with torch.autocast(x.device.type, enabled=False):
        x, x_scale = _scaled_and_centred(x)
        y, y_scale = _scaled_and_centred(y)
        if n <= max(x.shape[1], y.shape[1]):
            values = _hsic_from_grams(x @ x.T, y @ y.T)
        else:
            values = _hsic_from_features(x, y)
    kk, ll = x_scale.square(), y_scale.square()
    return values * torch.stack([kk * ll, kk * kk, ll * ll])


def _hsic_from_features(x: Tensor, y: Tensor) -> Tensor:
    n = x.shape[0]
    k, m = x.square().sum(1).double(), y.square().sum(1).double()

    def hsic(a: Tensor, b: Tensor, ka: Tensor, kb: Tensor) -> Tensor:
        # the matrix product in float32, every sum over its entries in float64
        cross = (a.T @ b).double().square().sum()
        pairs = cross - n / (n - 2) * (ka * kb).sum() + ka.sum() * kb.sum() / ((n - 1) * (n - 2))
        return pairs / (n * (n - 3))

    values = torch.stack([hsic(x, y, k, m), hsic(x, x, k, k), hsic(y, y, m, m)])
    size = torch.stack([(v.T @ v).double().square().sum() for v in (x, y)]) / (n * (n - 3))
    return _without_rounding(values, 4 * torch.finfo(torch.float32).eps * size)


def _hsic_from_grams(k: Tensor, m: Tensor) -> Tensor:
    n = k.shape[0]
    k, m = k.double(), m.double()
    k.fill_diagonal_(0)
    m.fill_diagonal_(0)
    ks, ms = k.sum(1), m.sum(1)

    def hsic(a: Tensor, b: Tensor, sa: Tensor, sb: Tensor) -> Tensor:
        trace = (a * b).sum()
        pairs = trace + sa.sum() * sb.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (sa * sb).sum()
        return pairs / (n * (n - 3))

    values = torch.stack([hsic(k, m, ks, ms), hsic(k, k, ks, ks), hsic(m, m, ms, ms)])
    size = torch.stack([k.square().sum(), m.square().sum()]) / (n * (n - 3))
    return _without_rounding(values, (4 * torch.finfo(torch.float32).eps) ** 2 * size)


def _without_rounding(values: Tensor, floor: Tensor) -> Tensor:
    """Sets an HSIC_1(X, X) below its own rounding error to zero, and with it HSIC_1(X, Y).

    A feature whose samples are all alike but one or two is nearly centred away; the quotient of
    what is left could be anything, 5e7 for one.
    """
    own = values[1:].masked_fill(values[1:] <= floor, 0)
    cross = values[:1].masked_fill((own == 0).any(), 0)
    return torch.cat([cross, own])


def unbiased_hsic(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased estimator HSIC_1 of the Hilbert-Schmidt independence criterion, linear kernel.

    Args:
        x: ``[n, ...]`` features of n >= 4 samples.
        y: ``[n, ...]`` features of the same samples; the widths may differ.

    Returns:
        Scalar, float64. Zero in expectation for independent features; it can be negative.

    Raises:
        ValueError: If n < 4 or the sample counts differ.

    Source: Eq. 6.
    """
    return hsic_sums(x, y)[0]


def cka_from_sums(sums: Tensor) -> Tensor:
    """Minibatch CKA from (averaged) HSIC values, Eq. 7.

    Args:
        sums: ``[..., 3]`` as :func:`hsic_sums` gives them, averaged or summed over
            mini-batches.

    Returns:
        ``[...]``. At most about 1; negative values are possible (unrelated features of a
        small batch). Zero where either feature is constant, for which CKA is undefined. NaN where a
        feature is not finite.

    Source: Eq. 7.
    """
    cross, xx, yy = sums.unbind(-1)
    # sqrt of each factor alone: their product can leave even float64
    scale = xx.clamp_min(0).sqrt() * yy.clamp_min(0).sqrt()
    undefined = scale <= torch.finfo(sums.dtype).tiny
    return torch.where(undefined, torch.zeros_like(cross), cross / scale.masked_fill(undefined, 1))


def minibatch_cka(x: Tensor, y: Tensor) -> Tensor:
    """Minibatch CKA of one batch.

    It does not change when a feature is rotated, scaled isotropically or shifted.

    Args:
        x: ``[n, ...]`` features of n >= 4 samples.
        y: ``[n, ...]`` features of the same samples.

    Returns:
        Scalar, float64; 1 for equal features. See :func:`cka_from_sums` for its range.

    Raises:
        ValueError: If n < 4 or the sample counts differ.

    Source: Eq. 7 with k = 1.
    """
    return cka_from_sums(hsic_sums(x, y))


def positions_as_samples(x: Tensor) -> Tensor:
    """``[N, C, H, W]`` or ``[N, L, C]`` -> ``[N * positions, C]``: a sample is a position."""
    return x.flatten(2).transpose(1, 2).flatten(0, 1) if x.ndim == 4 else x.flatten(0, 1)


def mean_cosine_similarity(x: Tensor, y: Tensor) -> Tensor:
    """Mean over images and channels of the cosine between two flattened channel maps.

    Args:
        x: ``[N, C, H, W]``.
        y: ``[N, C, H, W]``, the same shape: the cosine compares channel with channel, so
            student and teacher need the same width.

    Returns:
        Scalar, float64, in [-1, 1]; the cosine with a map of zeros is 0. NaN where a feature is not
        finite.

    Raises:
        ValueError: If the shapes differ.

    Source: Table 6 ("1 - cosine"); authors' code: cosine along the flattened H x W, mean over
    channels.
    """
    if x.shape != y.shape:
        raise ValueError(
            'Cosine similarity compares channel with channel and needs equal shapes, but found '
            f'{tuple(x.shape)} and {tuple(y.shape)}; '
            'use CKAMaskRatioHook, which takes any two widths.'
        )
    with torch.autocast(x.device.type, enabled=False):
        cosine = F.cosine_similarity(_unit_range(x), _unit_range(y), dim=2)
    return cosine.double().mean()


def _unit_range(x: Tensor) -> Tensor:
    """``[N, C, H * W]`` float32, every map divided by its largest magnitude.

    The cosine does not depend on that scale, but its norms do: the square of 1e30 leaves float32, and
    next to torch's eps the norm of a map of 1e-30 would vanish.
    """
    x = x.float().flatten(2)
    return x / x.abs().amax(2, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
