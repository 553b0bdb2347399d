"""What is found behind an exception of the forward pass; the guard around it has its tests in test_finite.py."""

import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

from dpk_mm.errors import UsageError
from dpk_mm.models.algorithms.failed_forward import (
    first_damaged,
    first_not_finite,
    not_finite_values,
)

FINE = dict(input=torch.zeros(2))


def error_with(value, kind=ValueError):
    """An exception out of a function that has ``value`` as a variable."""

    def assign(costs):
        raise kind('matrix contains invalid numeric entries')

    with pytest.raises(kind) as caught:
        assign(value)
    return caught.value


def model(weight=1.0):
    net = nn.Linear(1, 1)
    nn.init.constant_(net.weight, weight)
    return net


NAN = torch.tensor([0.0, float('nan')])


@pytest.mark.parametrize(
    'value',
    [
        NAN,
        [torch.zeros(1), NAN],
        dict(cost=NAN),
        InstanceData(scores=NAN, labels=torch.zeros(2).long()),
    ],
)
def test_a_variable_with_nan_is_named(value):
    found = not_finite_values(model(), error_with(value), FINE)
    assert {'input', 'costs of assign()'} <= set(found)
    assert torch.isnan(found['costs of assign()']).tolist() == [False, True]


def test_infinity_in_a_variable_is_there_on_purpose():
    assert not_finite_values(model(), error_with(torch.tensor(float('inf'))), FINE) is None


def test_weights_features_and_the_teacher_are_looked_at():
    error = error_with(torch.zeros(1))
    assert not_finite_values(model(), error, FINE) is None
    assert not_finite_values(model(float('nan')), error, FINE) == FINE
    seen = dict(FINE, feature=torch.tensor([float('inf')]))
    assert not_finite_values(model(), error, seen) == seen
    student = model()
    object.__setattr__(student, 'teacher', model(float('nan')))
    assert not_finite_values(student, error, FINE) == FINE


@pytest.mark.parametrize('kind', [UsageError, ImportError, MemoryError, NotImplementedError])
def test_what_a_nan_does_not_cause(kind):
    assert not_finite_values(model(float('nan')), error_with(NAN, kind), FINE) is None


def test_a_device_that_answers_nothing_any_more():
    class Stopped(nn.Module):
        def named_parameters(self, *args, **kwargs):
            raise RuntimeError('CUDA error: device-side assert triggered')

    assert not_finite_values(Stopped(), error_with(torch.zeros(1)), FINE) is None


def test_first_not_finite():
    tensors = [('a', torch.tensor([3])), ('b', torch.ones(2)), ('c', NAN), ('d', NAN)]
    assert first_not_finite(tensors) == 'c'
    assert first_not_finite(tensors[:2]) is None


@pytest.mark.parametrize(
    ('name', 'value', 'damage'),
    [
        ('0.mask', float('-inf'), False),
        ('0.mask', float('nan'), True),
        ('1.running_mean', float('inf'), True),
        ('1.running_var', float('inf'), True),
        ('1.weight', float('inf'), True),
    ],
)
def test_an_infinity_in_a_buffer_is_there_on_purpose(name, value, damage):
    net = nn.Sequential(nn.Identity(), nn.BatchNorm1d(2))
    net[0].register_buffer('mask', torch.zeros(2, 2))
    net.state_dict()[name].view(-1)[0] = value
    assert first_damaged(net) == (name if damage else None)
    found = not_finite_values(net, error_with(torch.zeros(1)), FINE)
    assert found == (FINE if damage else None)
