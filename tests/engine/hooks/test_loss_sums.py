"""Sums of losses, against mmengine's own sum."""

import pytest
import torch
from mmengine.model import BaseModel

from dpk_mm.engine.hooks.loss_sums import sum_losses, total


def losses():
    own = torch.tensor([1.0, 5.0], requires_grad=True)
    return {
        'student.loss_cls': own,
        'student.loss_bbox': [torch.tensor(7.0), torch.tensor([1.0, 2.0])],
        'student.acc': torch.tensor(100.0),
        'distill.loss_a': torch.tensor(2.0, dtype=torch.float16),
        'distill.loss_b.one': torch.tensor(0.25),
        'distill.loss_b.two': torch.tensor(0.5),
        'distill.loss_bb': torch.tensor(64.0),
        'distill.loss_none': [],
    }


def test_sums_by_key():
    sums = sum_losses(losses(), lambda name: name.split('.')[0])
    # means of tensors, summed over a list
    assert {k: v.item() for k, v in sums.items()} == {'student': 3 + 8.5, 'distill': 66.75}
    assert all(v.dtype == torch.float32 and v.ndim == 0 for v in sums.values())
    whole, _ = BaseModel.parse_losses(None, losses())
    assert sum(sums.values()).item() == pytest.approx(whole.item())


def test_a_key_of_none_leaves_out():
    assert sum_losses(losses(), lambda name: None) == {}


@pytest.mark.parametrize(
    ('name', 'value'),
    [('student', 11.5), ('distill.loss_a', 2.0), ('distill.loss_b', 0.75), ('distill', 66.75)],
)
def test_the_total_of_a_name_and_its_parts(name, value):
    assert total(losses(), name).item() == value


@pytest.mark.parametrize('name', ['distill.loss', 'student.acc', 'teacher', 'distill.loss_none'])
def test_where_there_is_no_loss(name):
    assert total(losses(), name) is None


def test_the_graph_goes_on():
    given = losses()
    total(given, 'student').backward()
    torch.testing.assert_close(given['student.loss_cls'].grad, torch.tensor([0.5, 0.5]))
