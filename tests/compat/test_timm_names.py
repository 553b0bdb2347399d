"""A wrapper of timm's networks inside of another model, by the network that it wraps."""

import pytest
import torch
from torch import nn

from dpk_mm.compat import timm_names

pytest.importorskip('timm')


class Outer(nn.Module):
    def __init__(self, seed):
        super().__init__()
        from mmpretrain.models import TimmClassifier

        torch.manual_seed(seed)
        self.first = nn.Linear(2, 2)
        self.student = TimmClassifier(model_name='resnet10t', pretrained=False, num_classes=3)
        self.last = nn.Linear(2, 2)


def test_names_are_those_of_timm_at_any_depth():
    model = Outer(0)
    names = list(model.student.model.state_dict())
    assert set(model.student.state_dict()) == set(names)
    own = {n for n in model.state_dict() if n.startswith('student.')}
    assert own == {f'student.{name}' for name in names}
    assert {'first.weight', 'last.weight'} < set(model.state_dict())


@pytest.mark.parametrize('inner', ['', 'model.'])
def test_every_weight_comes_back(inner):
    source, model = Outer(0), Outer(1)
    state = {
        name.replace('student.', f'student.{inner}'): value
        for name, value in source.state_dict().items()
    }
    model.load_state_dict(state, strict=True)
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_plain_network_of_timm_takes_the_students_weights():
    from timm import create_model

    plain = create_model('resnet10t', num_classes=3)
    plain.load_state_dict(Outer(0).student.state_dict(), strict=True)


def test_other_parts_of_the_wrapper_keep_their_names():
    state = {'student.loss_module.weight': 0, 'student.fc.weight': 1}
    timm_names.add_prefix(state, 'student.', {}, True, [], [], [])
    assert set(state) == {'student.loss_module.weight', 'student.model.fc.weight'}
