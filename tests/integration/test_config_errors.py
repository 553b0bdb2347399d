"""What a person sees of a mistake in the config: one sentence with the key, before the first step."""

import os
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

import dpk_mm  # noqa: F401
from tools.shapes import generate_shapes

ROOT = Path(__file__).parents[2]
DPK = 'configs/mini/faster_rcnn_dpk.py'
LOSS = 'model.distiller.distill_losses.loss_dpk'
BACKBONE = 'model.architecture.backbone'
DATA = 'train_dataloader.dataset'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp('errors')
    generate_shapes(folder / 'shapes', num_train=8, num_val=4)
    teacher = Config.fromfile(ROOT / 'configs' / 'mini' / 'faster_rcnn_teacher.py').model
    teacher['_scope_'] = 'mmdet'
    state = MODELS.build(teacher).state_dict()
    torch.save(dict(state_dict=state), folder / 'teacher.pth')
    classes = ('ellipse', 'rectangle', 'triangle', 'cross', 'ring')
    meta = dict(dataset_meta=dict(classes=classes))
    torch.save(dict(state_dict=state, meta=meta), folder / 'other_classes.pth')
    return folder


@pytest.fixture(autouse=True)
def own_globals(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.delenv('DPK_TRACEBACK', raising=False)


def options(place):
    root = f'{place}/shapes/'
    result = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=2']
    for name in ('train', 'val', 'test'):
        result += [f'{name}_dataloader.dataset.data_root={root}']
        result += [f'{name}_dataloader.{k}' for k in ('num_workers=0', 'persistent_workers=False')]
    names = ('val', 'test')
    return result + [f'{n}_evaluator.ann_file={root}annotations/val.json' for n in names]


def train(place, *changes, teacher='teacher.pth', more=()):
    command = ['train.py', DPK, '--work-dir', str(place / 'run')]
    command += ['--teacher-ckpt', str(place / teacher), *more]
    command += ['--cfg-options', *options(place), *changes]
    before = sys.argv
    sys.argv = command
    try:
        runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = before


CASES = {
    'misspelt key': (
        [f'{BACKBONE}.deph=18'],
        f'{BACKBONE}.deph: ResNet has no argument deph; did you mean depth?',
    ),
    'misspelt key of a loss': (
        [f'{LOSS}.los_weight=1'],
        f'{LOSS}.los_weight: DPKLoss has no argument los_weight; did you mean loss_weight?',
    ),
    'misspelt type': (
        [f'{BACKBONE}.type=ResNett'],
        f'{BACKBONE}.type: there is no model ResNett; did you mean ResNet?',
    ),
    'misspelt loss': (
        [f'{LOSS}.type=DPKLos'],
        f'{LOSS}.type: there is no model DPKLos; did you mean DPKLoss?',
    ),
    'misspelt hook': (
        ['default_hooks.mask_ratio.type=mmrazor.CKAMaskRatioHok'],
        'default_hooks.mask_ratio.type: there is no hook mmrazor.CKAMaskRatioHok; did you mean '
        'mmrazor.CKAMaskRatioHook?',
    ),
    'misspelt transform': (
        [f'{DATA}.pipeline.3.type=RandomFlipp'],
        f'{DATA}.pipeline.3.type: there is no transform RandomFlipp; did you mean RandomFlip?',
    ),
    'misspelt optimizer': (
        ['optim_wrapper.optimizer.type=AdamX'],
        'optim_wrapper.optimizer.type: there is no optimizer AdamX; did you mean Adam?',
    ),
    'misspelt scheduler': (
        ['param_scheduler.0.type=LinearLRR'],
        'param_scheduler.0.type: there is no parameter scheduler LinearLRR; did you mean LinearLR?',
    ),
    'misspelt loop setting': (
        ['train_cfg.max_epoch=3'],
        'train_cfg.max_epoch: EpochBasedTrainLoop has no argument max_epoch; did you mean '
        'max_epochs?',
    ),
    'a stage that does not exist': (
        ['model.distiller.records.feats=nek'],
        'model.distiller.records.feats: the model has no module nek; did you mean neck?',
    ),
    'a recorder that does not exist': (
        [
            'model.distiller.loss_forward_mappings.loss_dpk.student_feats.recorder=nek',
            'model.distiller.loss_forward_mappings.loss_dpk.student_feats.from_student=True',
        ],
        'model.distiller.loss_forward_mappings.loss_dpk.student_feats.recorder: For student_feats, '
        '"nek" must be in `student_recorders`.',
    ),
    'channels of the neck': (
        ['model.architecture.neck.in_channels=[8,16,32,32]'],
        'model.architecture.neck.lateral_convs.3.conv is built for 32 channels, but gets 64: its '
        'in_channels in the config and the out_channels of what comes before it differ.',
    ),
    'classes of the data': (
        ['model.architecture.roi_head.bbox_head.num_classes=4', 'model.inherit=None'],
        'model.architecture.roi_head.bbox_head.num_classes is 4, but the training data have 5 '
        'classes (rectangle, ellipse, triangle, cross, ring): make them equal',
    ),
}


@pytest.mark.parametrize('name', CASES)
def test_one_sentence_with_the_key(place, name):
    changes, expected = CASES[name]
    assert train(place, *changes) == f'train.py: {expected}'


# What is said by the parts themselves, whose sentences have tests of their own.
PARTS = {
    'a level out of range': ([f'{LOSS}.transforms.P5.index=9'], ['P5', '9', '[0, 1, 2, 3]']),
    'channels of the student': (
        [f'{LOSS}.transforms.P5.student_channels=32'],
        ['P5', 'student_channels=32', '64'],
    ),
    'channels of the teacher': (
        [f'{LOSS}.transforms.P5.teacher_channels=32'],
        ['P5', 'teacher_channels=32', '64'],
    ),
    'misspelt key of a stage': (
        [f'{LOSS}.transforms.P4.patch_sise=1'],
        ['P4', 'patch_sise', 'did you mean', 'patch_size'],
    ),
    'a hook setting': (
        ['default_hooks.mask_ratio.samples=pixels'],
        ['samples', 'images', 'positions'],
    ),
    'classes of the teacher': (
        ['model.teacher.roi_head.bbox_head.num_classes=4'],
        ['teacher_ckpt', 'does not fit', '(6, 128) instead of (5, 128)'],
    ),
    'misspelt key at the top': (['modl.type=x'], ['modl', 'did you mean model.type?']),
}


@pytest.mark.parametrize('name', PARTS)
def test_one_sentence_of_a_part(place, name):
    changes, words = PARTS[name]
    said = train(place, *changes)
    assert said.startswith('train.py: ') and '\n' not in said
    assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize(
    'key, value, whole',
    [
        (f'{DATA}.data_root', '/nowhere/', '/nowhere/annotations/train.json'),
        ('val_evaluator.ann_file', '/nowhere/val.json', '/nowhere/val.json'),
        (f'{DATA}.data_prefix.img', 'trian/', 'shapes/trian/'),
    ],
)
def test_a_wrong_path_of_the_data(place, key, value, whole):
    said = train(place, f'{key}={value}')
    assert said.startswith('train.py: ') and '\n' not in said
    assert key in said and value in said and whole in said and 'does not exist' in said


def test_teacher_and_student_swapped(place):
    swapped = ['model.architecture.backbone.base_channels=32']
    swapped += ['model.architecture.neck.in_channels=[32,64,128,256]']
    swapped += ['model.teacher.backbone.base_channels=8']
    swapped += ['model.teacher.neck.in_channels=[8,16,32,64]']
    said = train(place, *swapped)
    assert 'is (32, 3, 7, 7) instead of (8, 3, 7, 7)' in said and '\n' not in said
    assert said.endswith('or the two are swapped in the config.') and 'model.architecture' in said


def test_classes_of_another_teacher(place):
    heads = 'model.inherit=[rpn_head,roi_head]'
    said = train(place, heads, teacher='other_classes.pth')
    assert 'number 0 is ellipse there and rectangle here' in said
    assert 'take roi_head out of model.inherit' in said


def test_the_traceback_is_there_when_asked_for(place, monkeypatch):
    monkeypatch.setenv('DPK_TRACEBACK', '')
    with pytest.raises(ValueError, match='did you mean ResNet') as error:
        train(place, f'{BACKBONE}.type=ResNett', more=['--traceback'])
    assert isinstance(error.value.__cause__, KeyError)
    assert os.environ['DPK_TRACEBACK'] == '1'


def test_the_test_tool_tells_it_too(place, monkeypatch):
    arguments = [DPK, str(place / 'teacher.pth'), '--work-dir', str(place / 'run')]
    arguments += ['--cfg-options', *options(place), f'{BACKBONE}.type=ResNett']
    monkeypatch.setattr(sys, 'argv', ['test.py', *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools' / 'test.py'), run_name='__main__')
    # of the student alone, as it is tested
    assert end.value.code == (
        'test.py: model.backbone.type: there is no model ResNett; did you mean ResNet?'
    )
