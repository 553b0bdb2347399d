import pytest
import torch

from dpk_mm.engine.hooks.feature_gradients import error_share, feature_gradients
from dpk_mm.engine.hooks.loss_sums import total
from dpk_mm.models.distillers.feature_gate import GatedFeature


def test_norms_and_products_of_known_gradients():
    made = torch.tensor([1.0, 2.0], requires_grad=True)
    first = made * 1
    second = first * 2  # a later feature, which the first one leads to
    given = [f.view_as(f) for f in (first, second)]
    seen = {
        name: GatedFeature(recorded, alias, None)
        for name, recorded, alias in zip('ab', (first, second), given, strict=True)
    }
    losses = {
        'student.loss_cls': [3 * second[0], 4 * second[1]],
        'student.acc': second.sum() * 1e6,
        'distill.loss_x.one': given[0][0] * 5,
        'distill.loss_x.two': given[1].sum(),
        'distill.loss_xy': given[0].sum() * 1e6,  # another loss
    }
    found = feature_gradients(losses, 'loss_x', seen)
    # the task reaches the first feature through the second; the distillation counts each by itself
    assert [v.item() for v in found['a']] == [100.0, 25.0, 30.0, 1.0]
    assert [v.item() for v in found['b']] == [25.0, 2.0, 7.0, 1.0]
    assert found['a'].share() == pytest.approx(0.5)
    assert found['a'].cosine() == pytest.approx(0.6)
    total(losses, 'student').backward()  # the graph is still there
    assert made.grad.tolist() == [6.0, 8.0]


def test_nothing_has_the_share_zero():
    feature = torch.ones(2, requires_grad=True) * 1
    seen = {'a': GatedFeature(feature, feature.view_as(feature), None)}
    found = feature_gradients({'student.loss': feature.sum()}, 'loss_x', seen)['a']
    assert (found.share(), found.cosine(), found.reached) == (0.0, 0.0, 0)
    assert total({'student.acc': feature}, 'student') is None


def test_errors_of_unlike_features_are_none():
    teacher = torch.randn(2, 3, 4, 4)
    assert error_share(torch.zeros(2, 5, 4, 4), teacher) is None
    assert error_share(torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)) is None
    assert error_share(teacher, teacher) == 0.0


def test_small_gradients_of_float16_do_not_vanish():
    feature = torch.ones(2, dtype=torch.float16, requires_grad=True) * 1
    seen = {'a': GatedFeature(feature, feature.view_as(feature), None)}
    losses = {
        'student.loss': seen['a'].recorded.float().sum() * 1e-9,  # float16 ends at 6e-8
        'distill.loss_x': seen['a'].given.float().sum() * 3e-9,
    }
    assert feature_gradients(losses, 'loss_x', seen)['a'].share() == 0.0
    found = feature_gradients(losses, 'loss_x', seen, scale=2.0**16)['a']
    assert found.share() == pytest.approx(3.0, rel=1e-2)
    assert found.task.sqrt().item() == pytest.approx(2**0.5 * 1e-9, rel=1e-2)
