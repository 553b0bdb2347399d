"""The units of metrics, by their names."""

from __future__ import annotations

#: Beginnings of the names of metrics that mmdet gives as fractions; mmpretrain gives percent.
FRACTIONS = (
    *('coco/', 'pascal_voc/', 'voc/', 'lvis/'),
    *('cityscapes/', 'crowd_human/', 'openimages/'),
)


def metric_unit(name: str) -> str:
    """The unit of a metric; empty where it is not known."""
    if name.split('/')[0] in ('accuracy', 'single-label', 'multi-label'):
        return '%'
    return '0 to 1' if name.startswith(FRACTIONS) else ''


def with_unit(name: str) -> str:
    """The name of a metric with its unit."""
    unit = metric_unit(name)
    return f'{name} ({unit})' if unit else name


def percent_factor(name: str) -> float:
    """What brings a metric to percent; 1 where its unit is not known."""
    return 100.0 if metric_unit(name) == '0 to 1' else 1.0


def difference_unit(name: str) -> str:
    """What differences of a metric are called after :func:`percent_factor`: points, where it is in percent then."""
    return 'points' if metric_unit(name) else 'difference'
