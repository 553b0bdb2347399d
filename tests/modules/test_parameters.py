from torch import nn

from dpk_mm.modules import count_parameters


def test_frozen_parameters_count_if_they_are_asked_for():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[0].bias.requires_grad = False
    assert count_parameters(model) == 3 * 4 + 4 + 4
    assert count_parameters(model, trainable_only=False) == 3 * 4 + 4 + 4 + 4
