"""The teacher is run as far as recorders and deliveries look."""

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.models.teacher.forward import TeacherForward


def assign(x):
    """What a head calls in its loss only."""
    return x.argmax(1)


class Detector(BaseModel):
    """With the three depths of mmdet's: features, outputs, losses."""

    def __init__(self, width=4):
        super().__init__()
        self.neck = nn.Conv2d(3, width, 1)
        self.bbox_head = nn.Conv2d(width, 2, 1)
        self.in_loss = nn.Identity()
        self.runs = []

    def extract_feat(self, inputs):
        self.runs.append('features')
        return self.neck(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.bbox_head(self.extract_feat(inputs))
        self.runs[-1] = 'logits'
        if mode == 'loss':
            self.runs[-1] = 'loss'
            return dict(loss_cls=(self.in_loss(scores).sum() + assign(scores).sum()).square())
        return scores


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmrazor')


def build(source, teacher_forward='auto', **distiller):
    torch.manual_seed(0)
    record = dict(maps=dict(type='ModuleOutputs', source=source))
    return MODELS.build(
        dict(
            type='DPKDistill',
            architecture=Detector(),
            teacher=Detector(),
            teacher_forward=teacher_forward,
            distiller=dict(
                type='DPKDistiller',
                student_recorders=record,
                teacher_recorders=record,
                distill_losses=dict(loss_cwd=dict(type='ChannelWiseDivergence', tau=1)),
                loss_forward_mappings=dict(
                    loss_cwd=dict(
                        preds_S=dict(recorder='maps', from_student=True),
                        preds_T=dict(recorder='maps', from_student=False),
                    )
                ),
                **distiller,
            ),
        )
    ).train()


def by_hand(model, x, source):
    """Channel-wise divergence of the maps: softmax over places, KL, divided by N * C."""
    with torch.no_grad():
        maps = []
        for side in (model.student, model.teacher):
            found = side.neck(x)
            maps.append(found if source == 'neck' else side.bbox_head(found))
        own, given = (m.flatten(2).softmax(-1) for m in maps)
        return (given * (given / own).log()).sum() / maps[0].shape[0] / maps[0].shape[1]


@pytest.mark.parametrize(
    ('source', 'runs', 'depth'),
    [
        ('neck', ['features', 'features'], 'features'),
        ('bbox_head', ['features', 'logits', 'logits'], 'logits'),
        ('in_loss', ['features', 'logits', 'loss', 'loss'], 'loss'),
    ],
)
@pytest.mark.parametrize('asked', ['auto', 'features'])
def test_a_head_is_run_where_a_recorder_looks_at_it(source, runs, depth, asked):
    model = build(source, asked)
    samples = [None] * 2
    for index in range(2):
        x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(index))
        losses = model(x, samples, mode='loss')
        torch.testing.assert_close(losses['distill.loss_cwd'].detach(), by_hand(model, x, source))
        assert set(losses) == {'student.loss_cls', 'distill.loss_cwd'}
    assert model.teacher.runs == runs
    assert model.teacher_forward == depth


def test_a_delivery_that_only_the_loss_fills():
    path = f'{__name__}.assign'
    model = build(
        'neck',
        distill_deliveries=dict(
            labels=dict(type='FunctionOutputs', func_path=path, max_keep_data=1)
        ),
    )
    x = torch.randn(2, 3, 5, 5)
    loss = model(x, [None] * 2, mode='loss')['student.loss_cls']
    with torch.no_grad():
        student, teacher = (side.bbox_head(side.neck(x)) for side in (model.student, model.teacher))
    # the student's loss has the teacher's labels
    expected = (student.sum() + teacher.argmax(1).sum()).square()
    torch.testing.assert_close(loss.detach(), expected)
    assert model.teacher_forward == 'loss'


def test_what_fills_nothing_changes_nothing():
    """The teacher goes on as it did, and the sentence is the recorder's."""
    model = build('neck')
    model.distiller.teacher_recorders.recorders['maps']._source = 'gone'
    model.teacher.neck._forward_hooks.clear()
    with pytest.raises(ValueError, match=r"teacher_recorders.maps \(ModuleOutputs of 'gone'\)"):
        model(torch.randn(2, 3, 5, 5), [None] * 2, mode='loss')
    assert model.teacher_forward == 'features'


def test_an_unknown_depth():
    with pytest.raises(ValueError, match="teacher_forward must be one of .*'everything'"):
        TeacherForward('everything', Detector())
