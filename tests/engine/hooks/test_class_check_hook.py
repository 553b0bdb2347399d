from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.engine.hooks.class_check_hook import ClassCheckHook, class_names
from dpk_mm.errors import UsageError

CLASSES = ('cat', 'dog', 'owl')


def head(num_classes):
    module = nn.Linear(1, 1)
    module.num_classes = num_classes
    return module


def student(**heads):
    model = nn.Module()
    model.roi_head = nn.Module()
    for name, count in heads.items():
        (model.roi_head if name == 'bbox_head' else model).add_module(name, head(count))
    return model


def check(model, classes=CLASSES, distiller=None):
    warnings = []
    distils = hasattr(model, 'architecture')
    config = dict(architecture=dict(), distiller=distiller or {}) if distils else dict(type='X')
    metainfo = dict(classes=classes) if classes else {}
    runner = SimpleNamespace(
        model=model,
        cfg=Config(dict(model=config)),
        train_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=metainfo)),
        logger=SimpleNamespace(warning=warnings.append),
    )
    ClassCheckHook().before_train(runner)
    return warnings


def distillation(student, teacher_ckpt=None, inherit=()):
    model = nn.Module()
    model.architecture = student
    model.teacher_ckpt = teacher_ckpt
    model.inherit = inherit
    return model


def test_equal_classes_pass():
    # what proposes regions knows objects only
    assert check(student(bbox_head=3, rpn_head=1)) == []
    assert check(distillation(student(head=3))) == []
    assert check(student(head=2), classes=None) == []


def test_a_head_with_too_few():
    with pytest.raises(UsageError) as error:
        check(distillation(student(bbox_head=2)))
    assert str(error.value) == (
        'model.architecture.roi_head.bbox_head.num_classes is 2, but the training data have 3 '
        'classes (cat, dog, owl): make them equal'
    )
    with pytest.raises(UsageError, match=r'^model\.head\.num_classes is 1'):
        check(student(head=1))


def test_a_cascade_of_heads():
    model = student()
    model.roi_head.bbox_head = nn.ModuleList([head(3), head(2)])
    with pytest.raises(UsageError, match=r'roi_head\.bbox_head\.1\.num_classes is 2'):
        check(model)


def test_a_head_with_more_is_worth_a_warning():
    (warning,) = check(student(head=80))
    assert 'model.head.num_classes is 80' in warning


@pytest.fixture
def teacher(tmp_path):
    def write(classes, old=False):
        meta = dict(CLASSES=classes) if old else dict(dataset_meta=dict(classes=classes))
        torch.save(dict(meta=meta, state_dict={}), tmp_path / 'teacher.pth')
        return str(tmp_path / 'teacher.pth')

    return write


@pytest.mark.parametrize('old', [True, False])
def test_a_teacher_of_other_classes(teacher, old):
    path = teacher(['cat', 'owl', 'dog'], old)
    (warning,) = check(distillation(student(head=3), path))
    assert f'{path} was trained on other classes' in warning
    assert 'number 1 is owl there and dog here; its features are used all the same' in warning
    with pytest.raises(
        UsageError, match='number 1 is owl there.*take roi_head out of model.inherit'
    ):
        check(distillation(student(head=3), path, inherit=('neck', 'roi_head')))
    logits = dict(teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head.fc')))
    with pytest.raises(UsageError, match=r'teacher_recorders\.logits looks at its head'):
        check(distillation(student(head=3), path), distiller=logits)
    short = dict(records=dict(feats='neck', logits='head.fc'))
    with pytest.raises(UsageError, match=r'distiller\.records\.logits looks at its head'):
        check(distillation(student(head=3), path), distiller=short)
    only_student = dict(records=dict(feats='neck', logits=dict(student='head.fc')))
    assert len(check(distillation(student(head=3), path), distiller=only_student)) == 1
    neck = dict(teacher_recorders=dict(fpn=dict(type='ModuleOutputs', source='neck')))
    assert len(check(distillation(student(head=3), path), distiller=neck)) == 1


def test_what_proposes_regions_may_be_inherited_with_other_classes(teacher):
    path = teacher(['cat', 'owl', 'dog'])
    parts = ('neck', 'rpn_head', 'rpn_head.rpn_conv')
    assert len(check(distillation(student(head=3), path, inherit=parts))) == 1
    with pytest.raises(UsageError, match='take bbox_head out of model.inherit'):
        check(distillation(student(head=3), path, inherit=(*parts, 'bbox_head')))


def test_a_teacher_of_more_classes(teacher):
    path = teacher([*CLASSES, 'ape'])
    (warning,) = check(distillation(student(head=3), path))
    assert 'it knows 4, the data have 3' in warning


def test_teachers_that_pass(teacher, tmp_path):
    assert check(distillation(student(head=3), teacher(CLASSES))) == []
    torch.save(dict(w=torch.ones(1)), tmp_path / 'bare.pth')
    assert check(distillation(student(head=3), str(tmp_path / 'bare.pth'))) == []


@pytest.mark.parametrize('meta', [None, {}, dict(classes=None), dict(classes='cat'), []])
def test_no_names(meta):
    assert class_names(meta) == []


def loader(**metainfo):
    return SimpleNamespace(dataset=SimpleNamespace(metainfo=metainfo))


@pytest.mark.parametrize('key', ['classes', 'CLASSES'])
@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_a_text_where_a_tuple_was_meant(split, key):
    loaders = {name: loader(classes=('cross',)) for name in ('train', 'val', 'test')}
    loaders[split] = loader(**{key: ('cross')})
    runner = SimpleNamespace(
        model=student(head=1),
        cfg=Config(dict(model=dict(type='X'))),
        val_loop=object(),
        **{f'{name}_dataloader': value for name, value in loaders.items()},
    )
    hook = ClassCheckHook()
    run = hook.before_test if split == 'test' else hook.before_train
    with pytest.raises(UsageError) as error:
        run(runner)
    assert str(error.value) == (
        f"{split}_dataloader.dataset.metainfo.{key} is the text 'cross', and a list of names was "
        "expected: write ('cross',) with a comma, or ['cross']."
    )


def test_classes_in_a_file_are_no_text(tmp_path):
    from mmengine.dataset import BaseDataset

    file = tmp_path / 'classes.txt'
    file.write_text('cross\n')
    data = BaseDataset(metainfo=dict(classes=str(file)), lazy_init=True)
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=data))
    ClassCheckHook().before_test(runner)
    assert data.metainfo['classes'] == ['cross']
