"""Logits and labels as the losses of classifiers need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import UsageError

STANDARDIZE = (False, True, 'code', 'paper')


def check_temperature(tau: float, owner: str) -> None:
    """Refuses a temperature that is not > 0.

    Args:
        tau: The temperature.
        owner: The loss, the subject of the sentence.

    Raises:
        ValueError: If it is not > 0.
    """
    if not tau > 0:
        raise ValueError(f'tau of {owner} must be > 0, but is {tau}; use 1.0 to 4.0.')


def check_standardize(standardize: bool | str, owner: str) -> None:
    """Refuses a value of ``standardize`` that :func:`standardized` does not know.

    Args:
        standardize: The value.
        owner: The loss, the subject of the sentence.

    Raises:
        ValueError: If it is none of False, True, ``'code'`` and ``'paper'``.
    """
    if not any(standardize is value or standardize == value for value in STANDARDIZE):
        raise ValueError(
            f"standardize of {owner} must be False, True, 'code' or 'paper', but is {standardize!r}."
        )


def standardized(logits: Tensor, standardize: bool | str) -> Tensor:
    """Logits of each image with the mean 0 and the standard deviation 1 over classes, or unchanged.

    Args:
        logits: ``[N, classes, ...]``, float32 or float64.
        standardize: False for no change. ``'paper'`` divides by the standard deviation of all classes (the sum of
            squares over K), ``'code'`` or True by torch's estimate (over K - 1) plus 1e-7, as the authors' code does;
            the two differ by the factor ``sqrt(K / (K - 1))``, which is that of the temperature.

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", Algorithm 1, and the authors' code.
    """
    if not standardize:
        return logits
    deviation = logits.std(dim=1, keepdim=True, correction=0 if standardize == 'paper' else 1)
    return (logits - logits.mean(dim=1, keepdim=True)) / (deviation + 1e-7)


def labels_of(data_samples: Sequence[Any] | None, logits: Tensor, owner: str) -> Tensor:
    """The class of each image.

    Args:
        data_samples: One sample per image, with ``gt_label`` of one class.
        logits: ``[N, classes]`` of the same images.
        owner: The loss, the subject of the sentences.

    Returns:
        ``[N]``, int64, on the device of the logits.

    Raises:
        UsageError: (a ValueError) If there is not one sample per image, a sample has no label or several, or its image
            is a mixture of several (Mixup, CutMix), for which the loss is not defined.
    """
    if data_samples is None or len(data_samples) != logits.shape[0]:
        found = 'None' if data_samples is None else len(data_samples)
        raise UsageError(
            f'{owner} needs one data sample per image for the labels, but found {found} for {logits.shape[0]} images; '
            'record both from the same forward pass.'
        )
    labels = []
    for i, sample in enumerate(data_samples):
        label = getattr(sample, 'gt_label', None)
        if label is None or label.numel() != 1:
            has = 'none' if label is None else f'{label.numel()} labels'
            raise UsageError(
                f"{owner} needs 'gt_label' of one class in every data sample, but sample {i} has {has}; it is for "
                'data sets with one class for each image.'
            )
        labels.append(label.reshape(1))
    classes = torch.cat(labels).to(logits.device, torch.int64)
    scores = [getattr(sample, 'gt_score', None) for sample in data_samples]
    if all(score is not None for score in scores):
        own = torch.stack(scores).to(logits.device).gather(1, classes.unsqueeze(1))
        if bool((own != 1).any()):
            raise UsageError(
                f'{owner} needs one class for each image, but the batch holds mixtures of images; take Mixup and '
                'CutMix out of the batch augmentation (model.architecture.train_cfg.augments), or use KDLoss.'
            )
    return classes


def without_target(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits of the other classes.

    Args:
        logits: ``[N, classes]``.
        labels: ``[N]``, the classes that are left out.

    Returns:
        ``[N, classes - 1]``, in order.
    """
    others = torch.arange(logits.shape[1] - 1, device=logits.device).expand(len(labels), -1)
    return logits.gather(1, others + (others >= labels.unsqueeze(1)))
