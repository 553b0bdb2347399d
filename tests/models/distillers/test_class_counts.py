"""Classifiers of different class counts, where logits are distilled and where they are not."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.distillers.class_counts import check_class_counts, check_logits

PREDS = {'KLDivergence': ('preds_S', 'preds_T'), 'DISTLoss': ('logits_S', 'logits_T')}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmrazor')


class Net(nn.Module):
    def __init__(self, classes, kind='linear'):
        super().__init__()
        self.body = nn.Flatten()
        if kind == 'linear':
            self.fc = nn.Linear(6, classes)
        elif kind == 'sequential':  # a module that does not tell
            self.fc = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, classes))

    def forward(self, x):
        return self.fc(self.body(x))


def distiller(loss='KLDivergence', **record):
    student, teacher = PREDS.get(loss, ('preds_S', 'preds_T'))
    recorders = dict(logits=dict(type='ModuleOutputs', source='fc'))
    if loss == 'DistanceWiseRKD':
        cfg = dict(type=loss, with_l2_norm=False)
    else:
        cfg = dict(type=loss)
    return MODELS.build(
        dict(
            type='DPKDistiller',
            student_recorders=recorders,
            teacher_recorders=recorders,
            connectors=dict(
                same=dict(
                    type='TorchNNConnector',
                    module_name='Linear',
                    module_args=dict(in_features=10, out_features=4),
                )
            ),
            distill_losses=dict(loss_kd=cfg),
            loss_forward_mappings=dict(
                loss_kd={
                    student: dict(recorder='logits', from_student=True),
                    teacher: dict(recorder='logits', from_student=False, **record),
                }
            ),
        )
    )


@pytest.mark.parametrize('loss', PREDS)
def test_different_counts_are_told_from_the_modules(loss):
    message = r'loss_kd compares.*student \(fc\) has 4 classes and the teacher \(fc\) has 10: give'
    with pytest.raises(UsageError, match=message):
        check_class_counts(distiller(loss), Net(4), Net(10))
    check_class_counts(distiller(loss), Net(4), Net(4))


def test_only_where_logits_are_compared_class_by_class():
    check_class_counts(distiller('DistanceWiseRKD'), Net(4), Net(10))  # distances between images
    check_class_counts(distiller(connector='same'), Net(4), Net(10))  # brought to 4 on the way
    check_class_counts(distiller(), Net(4, 'sequential'), Net(10))  # not told by this module


@pytest.mark.parametrize('loss', PREDS)
def test_what_modules_do_not_tell_is_told_by_the_first_batch(loss):
    built = distiller(loss)
    student, teacher = Net(4, 'sequential'), Net(10)
    built.prepare_from_student(student)
    built.prepare_from_teacher(teacher)
    x = torch.randn(2, 6)
    with built.student_recorders, built.teacher_recorders:
        student(x), teacher(x)
    with pytest.raises(UsageError, match='loss_kd.*student has 4 classes and the teacher has 10'):
        built.compute_distill_losses()


def test_equal_shapes_pass():
    logits = torch.randn(2, 4)
    check_logits('loss_kd', MODELS.build(dict(type='KLDivergence')), [logits], [logits])
