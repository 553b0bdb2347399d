"""Weights that a teacher or a student starts from: all of them, or one sentence."""

import pytest
import torch
from mmengine.model import PretrainedInit
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.teacher.checkpoint import (
    inherit_weights,
    is_remote,
    load_initial_student,
    load_teacher,
    missing_teacher,
    pretrained_file,
)


class Net(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
        self.neck = nn.Linear(width, 2)


@pytest.fixture
def weights():
    return {
        name: torch.full_like(value, number)
        for number, (name, value) in enumerate(Net().state_dict().items())
    }


def loaded(tmp_path, content, load=load_teacher, net=None):
    torch.save(content, tmp_path / 'file.pth')
    net = net or Net()
    load(net, str(tmp_path / 'file.pth'))
    return net.state_dict()


@pytest.mark.parametrize('load', [load_teacher, load_initial_student])
@pytest.mark.parametrize(
    'form',
    [
        lambda w: w,
        lambda w: dict(state_dict=w, meta=dict(epoch=3)),
        lambda w: dict(model=w),  # timm, DeiT
        lambda w: dict(state_dict={f'module.{k}': v for k, v in w.items()}),  # of a wrapped model
        # of a distillation: its student, and nothing of its distiller
        lambda w: dict(
            state_dict={
                **{f'architecture.{k}': v for k, v in w.items()},
                'distiller.loss.weight': torch.ones(1),
            }
        ),
    ],
    ids=['plain', 'state_dict', 'model', 'module', 'architecture'],
)
def test_every_form_of_a_file_gives_the_same_weights(tmp_path, weights, form, load):
    found = loaded(tmp_path, form(weights), load)
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(found[name], value)


def test_counters_of_batch_normalisation_may_lack(tmp_path, weights):
    del weights['backbone.1.num_batches_tracked']
    found = loaded(tmp_path, weights)
    assert torch.equal(found['backbone.1.weight'], weights['backbone.1.weight'])


@pytest.mark.parametrize(
    ('load', 'key', 'model'),
    [(load_teacher, 'teacher_ckpt', 'teacher'), (load_initial_student, 'student_ckpt', 'student')],
)
@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        (dict(weight=None), 'backbone.0.weight is missing'),
        (dict(more=torch.ones(1)), 'more is unknown'),
        (dict(weight=torch.ones(3, 5)), r'backbone.0.weight is \(3, 5\) instead of \(3, 2\)'),
    ],
    ids=['missing', 'unknown', 'shape'],
)
def test_what_does_not_fit_is_named(tmp_path, weights, load, key, model, change, complaint):
    if 'weight' in change:
        weights['backbone.0.weight'] = change['weight']
        weights = {name: value for name, value in weights.items() if value is not None}
    else:
        weights.update(change)
    with pytest.raises(
        UsageError, match=f'{key}: .*file.pth.* does not fit the {model} .*{complaint}'
    ):
        loaded(tmp_path, weights, load)


def test_nothing_is_loaded_where_shapes_differ(tmp_path, weights):
    net = Net(4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UsageError):
        loaded(tmp_path, weights, net=net)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_a_file_that_is_not_there(tmp_path):
    path = str(tmp_path / 'none.pth')
    with pytest.raises(FileNotFoundError, match=r'none\.pth.*train it with `python a\.py`'):
        load_teacher(Net(), path, command='python a.py')
    with pytest.raises(FileNotFoundError, match=r'student_ckpt: .*none\.pth.* does not exist'):
        load_initial_student(Net(), path)
    assert 'train it' not in missing_teacher(path, None)


@pytest.mark.parametrize(
    ('path', 'expected'),
    [('https://host/a.pth', True), ('torchvision://resnet18', True), ('a/b.pth', False)],
)
def test_remote(path, expected):
    assert is_remote(path) is expected


@pytest.mark.parametrize('kind', ['Pretrained', 'mmengine.PretrainedInit', PretrainedInit])
def test_the_file_of_an_init_cfg(kind):
    init = dict(type=kind, checkpoint='a.pth')
    assert pretrained_file([dict(type='Normal', std=0.1), init]) == 'a.pth'
    assert pretrained_file(dict(init, prefix='backbone.')) is None


def test_parts_start_from_the_teachers_and_the_rest_stays():
    student, teacher = Net(), Net()
    before = student.backbone[0].weight.clone()
    inherit_weights(student, teacher, ['neck', 'backbone.1'])
    assert torch.equal(student.neck.weight, teacher.neck.weight)
    assert torch.equal(student.backbone[0].weight, before)
    # a copy: the teacher does not follow the student
    with torch.no_grad():
        student.neck.weight.add_(1)
    assert torch.allclose(student.neck.weight, teacher.neck.weight + 1)


def test_a_parameter_or_buffer_starts_from_the_teachers():
    student, teacher = Net(), Net()
    for net, value in ((student, 0.0), (teacher, 2.0)):
        net.level_embed = nn.Parameter(torch.full((4, 3), value))
        net.backbone[1].running_mean.fill_(value)
    weight = student.neck.weight.clone()
    inherit_weights(student, teacher, ['level_embed', 'backbone.1.running_mean', 'neck.bias'])
    assert student.level_embed.eq(2).all() and student.backbone[1].running_mean.eq(2).all()
    assert student.level_embed.requires_grad and student.level_embed is not teacher.level_embed
    assert torch.equal(student.neck.bias, teacher.neck.bias)
    assert torch.equal(student.neck.weight, weight)
    with pytest.raises(UsageError, match='its parts are backbone, neck, level_embed'):
        inherit_weights(student, teacher, ['head'])
    teacher.level_embed = nn.Parameter(torch.ones(5, 3))
    with pytest.raises(
        UsageError, match=r'level_embed is \(4, 3\) in the student and \(5, 3\) in the teacher'
    ):
        inherit_weights(student, teacher, ['level_embed'])
    del teacher.level_embed
    teacher.level_embed = nn.Linear(3, 4, bias=False)
    with pytest.raises(UsageError, match=r'level_embed.* is only in one of them'):
        inherit_weights(student, teacher, ['level_embed'])


def test_parts_that_cannot_be_inherited():
    with pytest.raises(
        UsageError, match="student has no part 'head'; its parts are backbone, neck"
    ):
        inherit_weights(Net(), Net(), ['head'])
    with pytest.raises(
        UsageError, match=r'neck\.weight is \(2, 3\) in the student and \(2, 4\) in'
    ):
        inherit_weights(Net(), Net(4), ['neck'])
    other = Net()
    other.neck = nn.Linear(3, 2, bias=False)
    with pytest.raises(UsageError, match=r'neck\.bias is only in one of them'):
        inherit_weights(Net(), other, ['neck'])
