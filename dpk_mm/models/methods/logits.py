"""Methods on the logits of classifiers."""

from __future__ import annotations

from typing import Any

from ..pairs import find_pair
from .losses import Losses

DKD_BETA: dict[str, float] = {
    'cifar100/resnet56_resnet20': 2.0,
    'cifar100/resnet110_resnet32': 2.0,
    'cifar100/vgg13_mobilenetv2': 6.0,
    'cifar100/vgg13_vgg8': 6.0,
    'cifar100/wrn40-2_wrn16-2': 6.0,
    'cifar100/wrn40-2_wrn40-1': 6.0,
}
"""``beta`` of DKD by pair, as mdistiller's configs have it; 8 for other pairs of CIFAR-100."""


def kd(tau: float = 1.0, loss_weight: float = 0.8, **kwargs: Any) -> Losses:
    """KD on the logits.

    Args:
        tau: Temperature; DPK has 1 on ImageNet and 4 on CIFAR-100.
        loss_weight: alpha in Eq. 3 of DPK.
        **kwargs: Of ``KDLoss``.
    """
    return dict(loss_kd=dict(type='KDLoss', tau=tau, loss_weight=loss_weight, **kwargs))


def kd_standardized(tau: float = 2.0, loss_weight: float = 9.0) -> Losses:
    """KD on standardised logits; its authors have 0.1 for the cross entropy beside it.

    Args:
        tau: Temperature of CIFAR-100.
        loss_weight: Factor of the loss.
    """
    return kd(tau, loss_weight, standardize=True)


def dkd(
    pair: str | None = None,
    tau: float = 4.0,
    alpha: float = 1.0,
    beta: float | None = None,
    warmup: int = 20,
    **kwargs: Any,
) -> Losses:
    """DKD with the settings of CIFAR-100; ImageNet has ``tau=1.0, beta=0.5, warmup=1``.

    Args:
        pair: A key of ``PAIRS``, for ``beta``.
        tau: Temperature.
        alpha: Factor of the target class's term.
        beta: Factor of the other classes' term; by default that of the pair in :data:`DKD_BETA`, else 8.
        warmup: Passes over the training data in which the factor of the loss grows to 1.
        **kwargs: Of ``DecoupledKDLoss``.

    Raises:
        UsageError: (a ValueError) If there is no such pair.
    """
    if pair is not None:
        find_pair(pair)
    if beta is None:
        beta = DKD_BETA.get(pair or '', 8.0)
    settings = dict(tau=tau, alpha=alpha, beta=beta, warmup=warmup, **kwargs)
    return dict(loss_dkd=dict(type='DecoupledKDLoss', **settings))


def nkd(tau: float = 1.0, gamma: float = 1.5, **kwargs: Any) -> Losses:
    """NKD with the settings of ImageNet; CIFAR-100 has ``tau=3.0, gamma=3.5``.

    Args:
        tau: Temperature of the other classes.
        gamma: Factor of the other classes' term.
        **kwargs: Of ``NKDLoss``.
    """
    return dict(loss_nkd=dict(type='NKDLoss', tau=tau, gamma=gamma, **kwargs))


def dist(tau: float = 1.0, beta: float = 2.0, gamma: float = 2.0, **kwargs: Any) -> Losses:
    """DIST with the settings of ImageNet; CIFAR-100 has ``tau=4.0``.

    Args:
        tau: Temperature.
        beta: Factor of the relation within an image.
        gamma: Factor of the relation within a class.
        **kwargs: Of ``DISTKDLoss``.
    """
    settings = dict(tau=tau, beta=beta, gamma=gamma, **kwargs)
    return dict(loss_dist=dict(type='DISTKDLoss', **settings))


def hard(loss_weight: float = 0.5) -> Losses:
    """Hard distillation; DeiT has 0.5 for the cross entropy beside it.

    Args:
        loss_weight: Factor of the loss.
    """
    return dict(loss_hard=dict(type='HardDistillLoss', loss_weight=loss_weight))
