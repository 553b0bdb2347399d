import pytest
import torch

from dpk_mm.errors import UsageError
from dpk_mm.models.distillers.feature_gate import FeatureGate, student_arguments

from .test_dpk_distiller import _scope, distiller  # noqa: F401


def test_a_gate_changes_gradients_and_no_values():
    gate = FeatureGate(
        {('student', 0): 'P4', ('student', -1): 'P6'},
        ['student_feats', 'student_logits', 's_feature'],
    )
    feats = tuple(torch.randn(2, 3, requires_grad=True) for _ in range(3))
    logits = torch.randn(4, requires_grad=True)
    passed = gate(
        dict(
            student_feats=feats,
            teacher_feats=[f.detach() + 1 for f in feats],
            student_logits=logits,
            s_feature=logits,
            t_feature=logits,
            data_samples=['a'],
        )
    )
    assert list(gate.seen) == ['P4', 'feats[1]', 'P6', 'logits', 's_feature']
    assert passed['data_samples'] == ['a'] and passed['t_feature'] is logits
    assert all(torch.equal(a, b) for a, b in zip(passed['student_feats'], feats, strict=True))
    assert torch.equal(gate.seen['P6'].teacher, feats[2] + 1)
    assert not gate.seen['P6'].teacher.requires_grad
    assert gate.seen['logits'].teacher is None
    total = sum(f.square().sum() for f in passed['student_feats']) + passed['student_logits'].sum()
    gate.factors.update(P4=3.0, logits=0.5)  # read in the backward pass
    total.backward()
    for feature, factor in zip(feats, (3.0, 1.0, 1.0), strict=True):
        assert torch.equal(feature.grad, factor * 2 * feature)
    assert torch.equal(logits.grad, torch.full((4,), 0.5))
    gate.clear()
    assert gate.seen == {}


def test_the_arguments_of_the_student_have_any_name():
    own, other = dict(recorder='x', from_student=True), dict(recorder='x', from_student=False)
    mapping = dict(preds_S=own, preds_T=other, student_feats=own, data_samples=own)
    assert student_arguments(mapping) == ['preds_S', 'student_feats']


def test_what_has_no_gradient_passes():
    gate = FeatureGate({}, ['student_feats'])
    feature = torch.randn(2)
    assert gate(dict(student_feats=feature))['student_feats'] is feature
    assert gate.seen == {}


def test_a_gate_of_a_distiller_leaves_its_losses():
    built, features = distiller(-1)
    gate = built.gate('loss_dpk')
    assert built.gate('loss_dpk') is gate
    torch.manual_seed(3)
    losses = built.compute_distill_losses()
    assert list(gate.seen) == ['feats[0]', 'P5']
    plain = torch.autograd.grad(losses['loss_dpk.P5'], features[1], retain_graph=True)[0]
    gate.factors['P5'] = 4.0
    scaled = torch.autograd.grad(losses['loss_dpk.P5'], features[1], retain_graph=True)[0]
    assert torch.equal(scaled, 4 * plain)
    # the gradient of this loss alone on this feature, whatever the factor
    given = torch.autograd.grad(losses['loss_dpk.P5'], gate.seen['P5'].given)[0]
    assert torch.equal(given, plain)


def test_an_unknown_loss_is_named():
    built, _ = distiller(1)
    with pytest.raises(
        UsageError, match="no 'loss_dkp', but loss_kd, loss_dpk; did you mean loss_"
    ):
        built.gate('loss_dkp')
