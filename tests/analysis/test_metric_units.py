import pytest

from dpk_mm.analysis.metric_units import difference_unit, metric_unit, percent_factor, with_unit


@pytest.mark.parametrize(
    ('name', 'unit'),
    [
        ('accuracy/top1', '%'),
        ('single-label/f1-score', '%'),
        ('coco/bbox_mAP', '0 to 1'),
        ('pascal_voc/mAP', '0 to 1'),
        ('openimages/AP50', '0 to 1'),
        ('crowd_human/mAP', '0 to 1'),
        ('cityscapes/mAP', '0 to 1'),
        ('acc', ''),
    ],
)
def test_units(name, unit):
    assert metric_unit(name) == unit
    assert with_unit(name) == (f'{name} ({unit})' if unit else name)


@pytest.mark.parametrize(
    ('name', 'factor', 'difference'),
    [
        ('accuracy/top1', 1.0, 'points'),
        ('lvis/bbox_AP', 100.0, 'points'),
        ('acc', 1.0, 'difference'),
        ('', 1.0, 'difference'),
    ],
)
def test_percent_and_points(name, factor, difference):
    assert (percent_factor(name), difference_unit(name)) == (factor, difference)
