import torch
from mmdet.registry import MODELS
from torch import nn

from dpk_mm.models.loss_parts.shared_heads import (
    first_half,
    kind_of,
    second_half,
    standardise_like,
)


def head(kind='RetinaHead', **kwargs):
    torch.manual_seed(0)
    cfg = dict(
        type=kind,
        num_classes=3,
        in_channels=6,
        feat_channels=4,
        stacked_convs=3,
        anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[8, 16]),
        _scope_='mmdet',
    )
    return MODELS.build({**cfg, **kwargs})


def test_both_halves_together_are_the_head():
    feats = [torch.randn(2, 6, 8, 8), torch.randn(2, 6, 4, 4)]
    for kind, more in (
        ('RetinaHead', {}),
        ('GFLHead', dict(norm_cfg=dict(type='GN', num_groups=2))),
    ):
        built = head(kind, **more)
        if kind == 'GFLHead':
            built.scales[1].scale.data.fill_(2.0)
        scores, boxes = built(feats)
        for count in range(4):
            for level, feature in enumerate(feats):
                kept = feature.clone()
                found = second_half(built, first_half(built, feature, count), count, level)
                torch.testing.assert_close(found.scores, scores[level])
                torch.testing.assert_close(found.boxes, boxes[level])
                torch.testing.assert_close(feature, kept)


def test_boxes_in_float64_stay():
    built = head('GFLHead', norm_cfg=dict(type='GN', num_groups=2)).double()
    feature = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    found = second_half(built, first_half(built, feature, 1), 1, 0)
    assert found.boxes.dtype == torch.float64


def test_derived_heads_are_of_the_kind_of_their_base():
    class Own(type(head())):
        pass

    assert kind_of(Own.__new__(Own)) == 'RetinaHead'
    assert kind_of(nn.Linear(1, 1)) is None and kind_of(None) is None


def test_channels_get_the_mean_and_deviation_of_the_others():
    torch.manual_seed(0)
    x, other = (
        3 * torch.randn(4, 5, 6, 7) + 2,
        torch.randn(4, 5, 6, 7) * torch.arange(1.0, 6).view(5, 1, 1),
    )
    found = standardise_like(x, other)
    torch.testing.assert_close(found.mean((0, 2, 3)), other.mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.std((0, 2, 3)), other.std((0, 2, 3)), rtol=1e-4, atol=1e-5)
    # the order of values within a channel stays
    assert (found[:, 2].flatten().argsort() == x[:, 2].flatten().argsort()).all()


def test_a_single_cell_becomes_the_others():
    """The last level of a small image in a batch of one: the deviation of one value was NaN."""
    x, other = torch.randn(1, 5, 1, 1, requires_grad=True), torch.randn(1, 5, 1, 1)
    found = standardise_like(x, other)
    torch.testing.assert_close(found, other)
    found.sum().backward()
    assert torch.isfinite(x.grad).all()
