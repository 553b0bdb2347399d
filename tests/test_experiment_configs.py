"""The configs of the experiments: every method trains the same student on the same images."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.cli.options import load_config
from dpk_mm.models.teacher.checkpoint import inherit_weights

pytestmark = pytest.mark.usefixtures('quick_configs')

CONFIGS = Path(__file__).parents[1] / 'configs' / 'experiments'
FAMILIES = {
    'fashion/': (
        'kd',
        'fitnets',
        'dpk_no_prior',
        'dpk_fixed',
        'dpk',
        'dpk_conv',
        'dpk_mlp',
        'dpk_scores',
    ),
    'bccd/faster_rcnn_': ('fgd', 'dpk_no_prior', 'dpk_fixed', 'dpk'),
    'bccd/retinanet_': ('fgd', 'dpk_no_prior', 'dpk_fixed', 'dpk'),
    'hituav/': ('fgd', 'dpk', 'sum', 'dpk_fine', 'sum_fine'),
    'deeppcb/': ('fgd', 'dpk', 'sum'),
    'cifar/': ('kd', 'fitnets', 'dpk', 'dist', 'dist_fitnets', 'dist_dpk'),
}
FORMS = ('hituav', 'deeppcb')
FORM_METHODS = ('fgd', 'dpk', 'sum')
DISTILLED = [(family, method) for family, methods in FAMILIES.items() for method in methods]
TRAINING = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'param_scheduler')


def load(family, role):
    return Config.fromfile(CONFIGS / f'{family}{role}.py')


def plain(model):
    return {key: value for key, value in model.to_dict().items() if key != '_scope_'}


INHERITED = {
    'faster_rcnn': ['neck.fpn_convs', 'rpn_head', 'roi_head'],
    'retinanet': [*(f'neck.fpn_convs.{level}' for level in range(3)), 'bbox_head'],
}


def test_all_files_are_looked_at():
    found = {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob('*/*.py')}
    roles = {f: (*methods, 'alone', 'teacher') for f, methods in FAMILIES.items()}
    known = {f'{family}{role}.py' for family, names in roles.items() for role in names}
    shared = {'bccd/data.py', 'bccd/faster_rcnn_pair.py', 'bccd/retinanet_pair.py'}
    shared |= {f'{folder}/pair.py' for folder in FORMS}
    shapes = {f'shapes/{method}.py' for method in FORM_METHODS}
    assert found == known | shared | shapes


@pytest.mark.parametrize(('family', 'method'), DISTILLED)
def test_methods_differ_in_the_distillation_alone(family, method):
    baseline, cfg, teacher = load(family, 'alone'), load(family, method), load(family, 'teacher')
    assert plain(cfg.model.architecture) == plain(baseline.model)
    assert plain(cfg.model.teacher) == plain(teacher.model)
    detector = 'retinanet' if 'retinanet' in family else 'faster_rcnn'
    assert cfg.model.get('inherit') == (
        None if family in ('fashion/', 'cifar/') else INHERITED[detector]
    )
    for key in TRAINING:
        assert cfg[key] == baseline[key], key
    students = cfg.optim_wrapper
    if 'constructor' in students:
        assert set(students) <= {'type', 'constructor', 'clip_grad', 'architecture', 'distiller'}
        assert students.get('clip_grad') == baseline.optim_wrapper.get('clip_grad')
        students = students.architecture
    assert students.optimizer == baseline.optim_wrapper.optimizer


@pytest.mark.parametrize('family', FAMILIES)
def test_schedules_end_with_the_training(family):
    for role in ('alone', 'teacher'):
        cfg = load(family, role)
        schedulers = cfg.param_scheduler
        last = schedulers[-1] if isinstance(schedulers, list) else schedulers
        assert (last.T_max, last.end) == (cfg.train_cfg.max_epochs,) * 2


def test_fashion_parts_share_no_image():
    cfg = load('fashion/', 'alone')
    train, val, test = (cfg[f'{part}_dataloader'].dataset for part in ('train', 'val', 'test'))
    assert (train.split, val.split, test.split) == ('train', 'train', 'test')
    assert (val.test_mode, test.test_mode) == (False, True)  # what mmpretrain goes by
    # first and last of 60,000, also for the teacher
    most = load('fashion/', 'teacher').train_dataloader.dataset.indices
    assert train.indices <= most <= 60000 + val.indices
    assert 'indices' not in test


@pytest.mark.parametrize(('family', 'method'), DISTILLED)
def test_models_build(family, method):
    cfg = load(family, method)
    Config.fromstring(cfg.pretty_text, '.py')  # the run's copy of the config can be read again
    init_default_scope(cfg.default_scope)
    with torch.random.fork_rng(devices=[]):
        model = MODELS.build(cfg.model)
    inherit_weights(model.student, model.teacher, model.inherit)  # refuses what does not fit
    trained = {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad}
    has_modules = method not in ('kd', 'dist')
    assert trained == ({'architecture', 'distiller'} if has_modules else {'architecture'})
    assert ('constructor' in cfg.optim_wrapper) == has_modules


def test_ablations_differ_in_one_thing():
    dpk, no_prior, fixed, fitnets = (
        load('fashion/', role) for role in ('dpk', 'dpk_no_prior', 'dpk_fixed', 'fitnets')
    )
    stage = no_prior.model.distiller.distill_losses.loss_feat.transforms.last
    assert stage.pop('prior') == 'none'
    assert no_prior.model == dpk.model == fixed.model
    assert dpk.default_hooks.mask_ratio.type == 'mmrazor.CKAMaskRatioHook'
    assert fixed.default_hooks.mask_ratio == dict(type='mmrazor.FixedMaskRatioHook', ratio=0.5)
    assert fitnets.model.distiller.distill_losses.loss_feat.transforms.last.type == 'ConvTransform'
    assert dpk.optim_wrapper == no_prior.optim_wrapper == fixed.optim_wrapper
    assert dpk.optim_wrapper == fitnets.optim_wrapper


@pytest.mark.parametrize('detector', ['faster_rcnn', 'retinanet'])
def test_dpk_takes_the_weights_of_fgd(detector):
    family = f'bccd/{detector}_'
    fgd = load(family, 'fgd').model.distiller.distill_losses.loss_feat
    assert load(family, 'dpk').model.distiller.distill_losses.loss_feat.criterion == fgd
    cfg = load(family, 'alone')
    for part in ('train', 'val', 'test'):
        dataset = cfg[f'{part}_dataloader'].dataset
        assert tuple(dataset.metainfo.classes) == ('RBC', 'WBC', 'Platelets')
        scales = [tuple(t.scale) for t in dataset.pipeline if t.type == 'Resize']
        assert scales == [(256, 192)]


@pytest.mark.parametrize('detector', ['faster_rcnn', 'retinanet'])
def test_ablations_of_the_detectors_differ_in_one_thing(detector):
    family = f'bccd/{detector}_'
    dpk, no_prior, fixed = (load(family, role) for role in ('dpk', 'dpk_no_prior', 'dpk_fixed'))
    stages = no_prior.model.distiller.distill_losses.loss_feat.transforms
    assert [stages[level].pop('prior') for level in ('P3', 'P4', 'P5')] == ['none'] * 3
    assert no_prior.model == dpk.model == fixed.model
    positions = dict(type='mmrazor.CKAMaskRatioHook', samples='positions')
    assert dpk.default_hooks.mask_ratio == positions
    assert fixed.default_hooks.mask_ratio == dict(type='mmrazor.FixedMaskRatioHook', ratio=0.5)
    assert dpk.optim_wrapper == no_prior.optim_wrapper == fixed.optim_wrapper


@pytest.mark.parametrize('detector', ['faster_rcnn', 'retinanet'])
def test_a_detector_student_has_some_of_its_teacher_s_images(detector):
    student, teacher = (
        load(f'bccd/{detector}_', role).train_dataloader for role in ('alone', 'teacher')
    )
    assert student.dataset.pop('indices') == 40
    assert teacher.dataset.pop('indices') is None
    assert student == teacher


def test_options_of_one_part_leave_the_others(tmp_path):
    path = str(CONFIGS / 'bccd' / 'retinanet_alone.py')
    cfg = load_config(path, {'val_dataloader.dataset.ann_file': 'a', 'val_evaluator.ann_file': 'b'})
    assert cfg.test_dataloader.dataset.ann_file == 'annotations/val.json'
    assert cfg.test_evaluator.ann_file == 'data/shapes/annotations/val.json'


@pytest.mark.parametrize('folder', [*FORMS, 'shapes'])
def test_controls_have_the_levels_and_weights_of_fgd(folder):
    fgd, dpk, both = (
        load(f'{folder}/', role).model.distiller.distill_losses for role in FORM_METHODS
    )
    levels = [level.pop('weight') for level in fgd.loss_fgd.levels]
    assert levels == [1.0] * 4
    criterion = dpk.loss_dpk.criterion
    assert [level['index'] for level in fgd.loss_fgd.levels] == list(criterion.levels)
    assert {**fgd.loss_fgd, 'levels': None} == {**criterion, 'levels': None}
    stages = [stage.index for stage in dpk.loss_dpk.transforms.values()]
    assert list(both.loss_dpk.criterion.levels) == stages
    assert both.loss_dpk.transforms == dpk.loss_dpk.transforms
    assert both.loss_fgd == criterion
    for role in FORM_METHODS:
        hook = load(f'{folder}/', role).custom_hooks[0]
        assert hook == dict(type='mmrazor.LossGradientHook', interval=20, by_level=True)


@pytest.mark.parametrize(('folder', 'images'), [('hituav', (100, 1600)), ('deeppcb', (60, 700))])
def test_students_and_teachers_of_the_new_sets(folder, images):
    alone, teacher = (load(f'{folder}/', role) for role in ('alone', 'teacher'))
    found = tuple(cfg.train_dataloader.dataset.indices for cfg in (alone, teacher))
    assert found == images
    assert alone.model.roi_head.bbox_head.num_classes == len(alone.metainfo.classes)
    for part in ('train', 'val', 'test'):
        assert alone[f'{part}_dataloader'].dataset.metainfo == alone.metainfo
    iterations = images[0] // alone.train_dataloader.batch_size * alone.train_cfg.max_epochs
    assert iterations == 450
