"""Layers between a student's feature and a teacher's."""

import pytest
import torch
from torch import nn

from dpk_mm.errors import UsageError
from dpk_mm.models.loss_parts.feature_stage import parse_stages
from dpk_mm.models.loss_parts.regressor import (
    apply_layers,
    check_batch_norm,
    check_same_size,
    connector,
    pool_to_smaller,
    regressor,
)


def stage(scale=1):
    return parse_stages([dict(index=0, student_channels=3, teacher_channels=5, scale=scale)], 'L')[
        0
    ]


@pytest.mark.parametrize(('scale', 'side'), [(1, 8), (2, 16), (2, 15), (0.5, 4)])
def test_a_regressor_gives_the_teachers_size(scale, side):
    assert regressor(stage(scale), 'L')(torch.randn(2, 3, side, side)).shape == (2, 5, 8, 8)


def test_what_a_regressor_consists_of():
    kinds = [type(m) for m in regressor(stage(), 'L')]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert [type(m) for m in regressor(stage(), 'L', norm=False, relu=False)] == [nn.Conv2d]
    assert connector(stage())[0].bias is None
    with pytest.raises(UsageError, match='has scale=3; compare other stages'):
        regressor(stage(3), 'L')


def test_layers_run_in_their_precision():
    x = torch.randn(2, 3, 4, 4)
    layers = connector(stage())
    expected = layers(x)
    assert apply_layers(layers.double(), x).dtype == torch.float32
    torch.testing.assert_close(apply_layers(layers, x), expected)
    assert apply_layers(nn.Identity(), x) is x


def test_the_larger_map_is_averaged():
    x, y = torch.randn(1, 2, 4, 8), torch.randn(1, 3, 2, 8)
    small, same = pool_to_smaller(x, y)
    assert same is y
    torch.testing.assert_close(small, (x[:, :, ::2] + x[:, :, 1::2]) / 2)


def test_maps_that_differ_are_refused():
    with pytest.raises(UsageError, match=r'\[1, 2, 4, 4\] after its layers and .* \[1, 2, 5, 5\]'):
        check_same_size(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 5, 5), stage(), 'L')


def test_one_value_for_batch_norm(monkeypatch):
    layers, synchronised = nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.SyncBatchNorm(3))
    with pytest.raises(UsageError, match='L has batch normalisation.*one image and one cell'):
        check_batch_norm(layers, 1, 'L')
    with pytest.raises(UsageError):
        check_batch_norm(synchronised, 1, 'L')
    monkeypatch.setattr('dpk_mm.models.loss_parts.regressor.get_world_size', lambda: 2)
    check_batch_norm(synchronised, 1, 'L')  # counts those of the other rank
    for fine, values in ((layers, 2), (nn.Conv2d(3, 3, 1), 1), (layers.eval(), 1)):
        check_batch_norm(fine, values, 'L')
