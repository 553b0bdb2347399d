"""The last look at recorded features, which a sentence about NaN is written from."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmrazor')


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Identity()
        self.head = nn.Linear(8, 3)

    def forward(self, features):
        features = self.body(features)
        return self.head(features[-1].mean((2, 3)))


def distiller(second):
    recorders = dict(
        logits=dict(type='ModuleOutputs', source='head'),
        neck=dict(type='ModuleOutputs', source='body'),
    )
    sizes = dict(embed_dims=8, encoder_depth=1, decoder_depth=1, num_heads=2, position_grid=2)
    widths = dict(student_channels=8, teacher_channels=8)
    built = MODELS.build(
        dict(
            type='DPKDistiller',
            student_recorders=recorders,
            teacher_recorders=recorders,
            distill_losses=dict(
                loss_kd=dict(type='KLDivergence'),
                loss_dpk=dict(
                    type='DPKLoss', transforms=dict(P5=dict(index=second, **sizes, **widths))
                ),
            ),
            loss_forward_mappings=dict(
                loss_kd=dict(
                    preds_S=dict(recorder='logits', from_student=True),
                    preds_T=dict(recorder='logits', from_student=False),
                ),
                loss_dpk=dict(
                    student_feats=dict(recorder='neck', from_student=True),
                    teacher_feats=dict(recorder='neck', from_student=False),
                ),
            ),
        )
    )
    student, teacher = Net(), Net()
    built.prepare_from_student(student)
    built.prepare_from_teacher(teacher)
    features = [torch.randn(4, 8, 2, 2, requires_grad=True) for _ in range(2)]
    with built.student_recorders, built.teacher_recorders:
        student(tuple(features)), teacher(tuple(features))
    return built, features


@pytest.mark.parametrize('second', [1, -1])
def test_features_are_named_in_the_order_of_computation(second):
    built, features = distiller(second)
    assert set(built.compute_distill_losses()) == {'loss_kd', 'loss_dpk.P5'}
    seen = built.pop_seen()
    assert list(seen) == [
        f'{side} feature {name}'
        for side in ('teacher', 'student')
        for name in ('neck[0]', 'neck[1] (P5)', 'logits')
    ]
    assert seen['student feature neck[1] (P5)'].data_ptr() == features[1].data_ptr()  # no copy
    assert not any(value.requires_grad for value in seen.values())
    assert built.pop_seen() == {}
