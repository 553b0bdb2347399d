"""Calibration error of a classifier: how far its confidence is from its accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def expected_calibration_error(
    confidences: Sequence[float], correct: Sequence[bool], bins: int = 15
) -> float:
    """Expected calibration error (ECE): ``sum_b n_b / n * |accuracy_b - mean confidence_b|``.

    Args:
        confidences: ``[n]``, probability of the predicted class, in [0, 1].
        correct: ``[n]``, whether the prediction is right.
        bins: Number of bins of equal width, ``((b - 1) / bins, b / bins]``; 0 belongs to the first.

    Returns:
        In [0, 1]; 0 for a classifier that is right as often as it says.

    Raises:
        ValueError: If there is no prediction, the numbers differ, or a confidence is outside [0, 1].

    Source: Guo et al. 2017, Eq. 3, with 15 bins.
    """
    p = np.asarray(confidences, np.float64)
    right = np.asarray(correct, np.float64)
    if p.ndim != 1 or p.shape != right.shape or not len(p):
        raise ValueError(
            f'confidences and correct must be lists of one length, at least 1, but have the shapes {p.shape} and '
            f'{right.shape}.'
        )
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(
            f'a confidence must be in [0, 1], but one is {p[~((p >= 0) & (p <= 1))][0]}.'
        )
    index = np.clip(np.ceil(p * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=right - p, minlength=bins)
    return float(np.abs(gaps).sum() / len(p))
