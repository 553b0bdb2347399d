"""The weights of FGD's four terms, by the name of the setting that they belong to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ...errors import nearest


class FGDWeights(NamedTuple):
    """One factor for each term of the FGD loss, all >= 0; a term with factor 0 is not computed.

    Attributes:
        alpha: Foreground (DPK: w_f).
        beta: Background (DPK: w_b).
        gamma: Attention.
        lam: Global context (lambda).
    """

    alpha: float
    beta: float
    gamma: float
    lam: float


def _row(alpha: float, beta: float, gamma: float, lam: float) -> dict[str, float]:
    return dict(alpha=alpha, beta=beta, gamma=gamma, lam=lam)


# Columns: alpha, beta, gamma, lam. ``paper`` is the printed value and ``code`` the released one, where
# the two differ. DPK prints alpha and beta alone; the other two of its ``text`` rows are those of its
# code.
FGD_WEIGHTS: dict[str, dict[str, float]] = {
    'fgd_two_stage': _row(5e-5, 2.5e-5, 5e-5, 5e-7),
    'fgd_one_stage_paper': _row(1e-3, 5e-4, 1e-3, 5e-6),
    'fgd_one_stage_code': _row(1e-3, 5e-4, 5e-4, 5e-6),
    'fgd_anchor_free_paper': _row(1.6e-3, 8e-4, 8e-3, 8e-6),
    'fgd_anchor_free_code': _row(1.6e-3, 8e-4, 8e-4, 8e-6),
    'dpk_two_stage_text': _row(5e-5, 2.5e-5, 5e-5, 5e-7),
    'dpk_one_stage_text': _row(2e-3, 5e-4, 5e-4, 5e-6),
    'dpk_faster_rcnn_r101_r18_code': _row(2e-5, 2.5e-5, 2e-5, 2e-7),
    'dpk_faster_rcnn_r101_r50_code': _row(5e-5, 2.5e-5, 5e-5, 5e-7),
    'dpk_faster_rcnn_r152_r50_code': _row(5e-5, 5e-6, 5e-5, 5e-7),
    'dpk_retinanet_r101_r18_code': _row(2e-3, 5e-4, 5e-4, 5e-6),
    'dpk_retinanet_r101_r50_code': _row(2e-3, 2e-4, 3e-4, 5e-6),
    'dpk_retinanet_r152_r50_code': _row(1e-3, 5e-4, 5e-4, 5e-6),
    # Ours, for the small pairs of the quickstart and the experiments: the two-stage weights times ten, since these
    # features are small and have few channels; and those times ten for RetinaNet, a guess that was not tuned.
    'mini_two_stage': _row(5e-4, 2.5e-4, 5e-4, 5e-6),
    'mini_one_stage': _row(5e-3, 2.5e-3, 5e-3, 5e-5),
}


def resolve_weights(weights: str | Mapping[str, Any]) -> FGDWeights:
    """The four factors behind a name or a dict.

    Args:
        weights: A name of :data:`FGD_WEIGHTS`, or a dict with exactly the keys
            ``alpha``, ``beta``, ``gamma`` and ``lam``, or an :class:`FGDWeights`.

    Returns:
        FGDWeights: As floats.

    Raises:
        ValueError: If the name is unknown, a key is missing or unknown, or a value is not a finite
            number >= 0.

    Source: FGD, section 4.2 and released configs; DPK, section 4 and released configs.
    """
    if isinstance(weights, FGDWeights):
        weights = weights._asdict()
    if isinstance(weights, str):
        if weights not in FGD_WEIGHTS:
            raise ValueError(
                f"FGDLoss has no weights named '{weights}'; did you mean "
                f"'{nearest(weights, FGD_WEIGHTS, 0.0)}'? The known names are {', '.join(FGD_WEIGHTS)}."
            )
        weights = FGD_WEIGHTS[weights]
    if not isinstance(weights, Mapping):
        raise ValueError(
            'weights of FGDLoss must be a name or a dict with alpha, beta, gamma and lam, but is '
            f'{weights!r}.'
        )
    wrong = [f"'{key}' is missing" for key in FGDWeights._fields if key not in weights]
    wrong += [f"'{key}' is unknown" for key in weights if key not in FGDWeights._fields]
    if wrong:
        raise ValueError(
            f'weights of FGDLoss must have exactly the keys alpha, beta, gamma and lam, but '
            f'{" and ".join(wrong)}.'
        )
    for key, value in weights.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and value >= 0):
            raise ValueError(
                f"weights['{key}'] of FGDLoss must be a finite number >= 0, but is {value!r}; use "
                '0 to switch the term off.'
            )
    return FGDWeights(**{key: float(weights[key]) for key in FGDWeights._fields})
