"""A recorder that gives nothing says why; hooks that a conversion takes away come back."""

import copy
import gc

import pytest
import torch
from mmengine.model import BaseModel, convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def loss(self, x):  # without forward, as heads do
        return self.fc(x)


class Network(BaseModel):
    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = norm(4)
        self.aux = nn.Linear(4, 4)
        self.head = Head()

    def extract_feat(self, inputs):
        return self.norm(self.conv(inputs))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.head.loss(self.extract_feat(inputs).mean((2, 3)))
        return dict(loss=out.square().mean()) if mode == 'loss' else out


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmrazor')


def build(source=None, teacher=None, record_idx=0, data_idx=None, **networks):
    torch.manual_seed(0)
    source = source or dict(type='ModuleOutputs', source='norm')
    return MODELS.build(
        dict(
            type='DPKDistill',
            architecture=networks.get('student') or Network(),
            teacher=Network(),
            distiller=dict(
                type='DPKDistiller',
                student_recorders=dict(feats=source),
                teacher_recorders=dict(feats=teacher or source),
                distill_losses=dict(loss_l2=dict(type='L2Loss')),
                loss_forward_mappings=dict(
                    loss_l2=dict(
                        s_feature=dict(
                            recorder='feats',
                            from_student=True,
                            record_idx=record_idx,
                            data_idx=data_idx,
                        ),
                        t_feature=dict(recorder='feats', from_student=False),
                    )
                ),
            ),
        )
    ).train()


X = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def module(name):
    return dict(type='ModuleOutputs', source=name)


@pytest.mark.parametrize(
    ('student', 'teacher', 'message'),
    [
        (
            module('head'),
            None,
            r"student_recorders\.feats \(ModuleOutputs of 'head'\) has recorded nothing: its parts were run, but "
            r'not its forward .*record what it consists of, such as head\.fc\.$',
        ),
        (
            module('aux'),
            None,
            r"student_recorders\.feats \(ModuleOutputs of 'aux'\) has recorded nothing: it was not run, .*record a "
            r'module that the training of the student runs\.$',
        ),
        (
            module('norm'),
            module('aux'),
            r"teacher_recorders\.feats \(ModuleOutputs of 'aux'\) has recorded nothing: it was not run, .*teacher_forw",
        ),
        (
            dict(type='MultiModuleOutputs', source=['norm', 'head']),
            None,
            r"student_recorders\.feats \(MultiModuleOutputs of 'head'\) .*its parts were run",
        ),
        (
            dict(type='FunctionOutputs', source='torch.nn.functional.huber_loss'),
            None,
            r"student_recorders\.feats \(FunctionOutputs of 'torch\.nn\.functional\.huber_loss'\) .*not called",
        ),
    ],
)
def test_which_recorder_of_which_side_and_why(student, teacher, message):
    with pytest.raises(UsageError, match=message):
        build(student, teacher)(X, None, mode='loss')


def test_indices_beyond_what_was_recorded():
    with pytest.raises(
        UsageError, match=r'feats \(norm\) was run 1 times, but record_idx is 2: .*0\.\.0'
    ):
        build(record_idx=2)(X, None, mode='loss')
    with pytest.raises(
        UsageError, match=r'feats \(norm\) gives a Tensor, no tuple, but data_idx is 1'
    ):
        build(data_idx=1)(X, None, mode='loss')
    several = dict(type='MultiModuleOutputs', source=['norm', 'conv'])
    with pytest.raises(UsageError, match=r'gives a tuple of 2, but data_idx is 2'):
        build(several, module('norm'), data_idx=2)(X, None, mode='loss')


def losses(model):
    torch.manual_seed(5)
    return {key: value.item() for key, value in model(X, None, mode='loss').items()}


@pytest.mark.parametrize('several', [False, True])
def test_batch_normalisation_that_is_converted_after_the_model_is_built(several):
    source = dict(type='MultiModuleOutputs', source=['norm', 'conv']) if several else module('norm')
    index = dict(data_idx=0) if several else {}
    teacher = module('norm')
    expected = losses(build(source, teacher, **index))
    # on one process mmengine reverts SyncBN, in several it converts to it; both replace the modules
    sync = build(source, teacher, student=Network(nn.SyncBatchNorm), **index)
    sync.student.load_state_dict(build(source, teacher, **index).student.state_dict())
    assert isinstance(sync.student.norm, nn.SyncBatchNorm)
    sync.teacher.load_state_dict(build(source, teacher, **index).teacher.state_dict())
    reverted = revert_sync_batchnorm(sync)
    assert not isinstance(reverted.student.norm, nn.SyncBatchNorm)
    assert losses(reverted) == pytest.approx(expected)

    converted = convert_sync_batchnorm(build(source, teacher, **index))
    assert isinstance(converted.student.norm, nn.SyncBatchNorm)
    converted.distiller.attach_again()
    hooks = converted.student.norm._forward_hooks
    converted.distiller.attach_again()
    recorders = [getattr(h, '__self__', None) for h in hooks.values()]
    assert len([r for r in recorders if r is not None]) == 1  # once, however often it is called


def test_a_replaced_module_is_recorded_and_the_old_one_is_not():
    model = build()
    losses(model)
    old, model.student.norm = model.student.norm, nn.Identity()
    found = losses(model)
    with torch.no_grad():
        own, given = model.student.conv(X), model.teacher.extract_feat(X)
    reference = MODELS.build(dict(type='L2Loss'))(own, given)
    assert found['distill.loss_l2'] == pytest.approx(reference.item())
    assert old is not model.student.norm


def test_nothing_is_watched_after_the_first_batch():
    model = build(module('head.fc'))
    copied = copy.deepcopy(model)
    for one in (model, copied):
        losses(one)
        hooks = sum(len(m._forward_hooks) for m in one.student.modules())
        assert hooks == 1


def test_a_copy_of_the_model_is_possible_after_a_part_was_replaced():
    """RTMDet has SyncBN, which mmengine replaces on one GPU, and an EMAHook, which copies the model."""
    network = Network()
    network.neck = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    network.extract_feat = network.neck.forward
    model = build(
        dict(type='ModuleOutputs', source='neck'),
        dict(type='ModuleOutputs', source='norm'),
        student=network,
    )
    model.architecture.neck[1] = nn.BatchNorm2d(4)
    gc.collect()
    copied = copy.deepcopy(model)
    assert copied.distiller is not model.distiller
