"""Networks of a config and their weights, as all analyses build them."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from dpk_mm.analysis.loading import (
    build_model,
    build_student,
    dpk_losses,
    load_distillation,
    load_own_teacher,
    load_student_weights,
    read_config,
    scope_of,
)
from dpk_mm.errors import UsageError

from ..helpers.small_runs import classifier

MINI = Path(__file__).parents[2] / 'configs' / 'mini'
CONFIG = MINI / 'fashion_cnn_dpk.py'


def scope():
    current = DefaultScope.get_current_instance()
    return current and current.scope_name


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return build_model(CONFIG)


def save(path, weights):
    torch.save(dict(state_dict=weights), path)
    return path


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_default_scope_is_that_of_before():
    before = scope()
    with DefaultScope.overwrite_default_scope('mmrazor'):
        build_student(CONFIG)
        assert scope() == 'mmrazor'
        with scope_of(Config(dict(default_scope='mmdet'))):
            assert scope() == 'mmdet'
        assert scope() == 'mmrazor'
    assert scope() == before


def test_building_follows_no_checkpoint_and_leaves_the_config_as_it_was():
    cfg = Config.fromfile(CONFIG)
    cfg.model.teacher_ckpt = cfg.model.student_ckpt = 'nowhere.pth'
    text = cfg.pretty_text
    model = build_model(cfg)
    assert model.teacher_ckpt is None and model.student_ckpt is None
    assert model.cfg.model.teacher_ckpt == 'nowhere.pth'
    assert cfg.pretty_text == text
    assert not model.training and not model.teacher.training


def test_the_preprocessor_at_the_top_is_the_models():
    cfg = Config.fromfile(CONFIG)
    norm = dict(
        type='mmpretrain.ClsDataPreprocessor', num_classes=10, mean=[7.0], std=[3.0], to_rgb=False
    )
    for node in (cfg.model, cfg.model.architecture):
        node.pop('data_preprocessor', None)
    cfg.data_preprocessor = norm
    for built in (build_model(cfg), build_student(cfg)):
        assert built.data_preprocessor.mean.flatten().tolist() == [7.0]


def test_the_student_alone_is_that_of_the_distillation(model, tmp_path):
    full = save(tmp_path / 'full.pth', model.state_dict())
    alone = save(tmp_path / 'alone.pth', model.student.state_dict())
    for path in (full, alone):
        assert equal(build_student(CONFIG, path).state_dict(), model.student.state_dict())
    student = build_student(CONFIG)
    load_student_weights(student, full)
    assert equal(student.state_dict(), model.student.state_dict())
    assert 'architecture' not in student.cfg.model


def test_student_distiller_and_teacher_are_loaded(model, tmp_path):
    full = save(tmp_path / 'full.pth', model.state_dict())
    teacher = str(save(tmp_path / 'teacher.pth', model.teacher.state_dict()))
    torch.manual_seed(1)
    other = build_model(CONFIG)
    assert not equal(other.teacher.state_dict(), model.teacher.state_dict())
    load_distillation(other, full, teacher)
    assert equal(other.state_dict(), model.state_dict())
    assert equal(other.teacher.state_dict(), model.teacher.state_dict())


def test_the_teacher_is_that_of_the_config(model, tmp_path):
    averaged = model.teacher.state_dict()
    raw = {k: v + 1 for k, v in averaged.items()}
    cfg = Config.fromfile(CONFIG)
    cfg.model.teacher_ckpt = file = str(tmp_path / 'teacher.pth')
    # as mmengine's EMAHook writes them: the averaged ones in the place of the others
    swapped = {f'module.{k}': v for k, v in raw.items()}
    torch.save(dict(state_dict=averaged, ema_state_dict=swapped), file)
    for of_average in (True, False):
        cfg.model.averaged_weights = of_average
        torch.manual_seed(1)
        built = build_model(cfg)
        load_own_teacher(built)
        assert built.teacher_ckpt == file
        assert equal(built.teacher.state_dict(), averaged if of_average else raw)
    cfg.model.teacher_ckpt, cfg.model.teacher_command = 'none.pth', 'make it'
    with pytest.raises(
        FileNotFoundError, match="'none.pth' does not exist; train it with `make it`"
    ):
        load_own_teacher(build_model(cfg))
    cfg.model.teacher_ckpt = None
    with pytest.raises(UsageError, match='the teacher has no checkpoint: give it with --teacher-c'):
        load_own_teacher(build_model(cfg))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda w: OrderedDict((k, v) for k, v in w.items() if 'distiller' not in k), 'lacks dist'),
        (lambda w: OrderedDict(list(w.items())[1:]), 'lacks architecture.* the config that it was'),
        (lambda w: {**w, 'architecture.x': torch.ones(1)}, 'holds architecture.x besides: give'),
        (lambda w: w, 'the teacher has no weights: .*full.pth holds none of it'),
    ],
)
def test_a_checkpoint_that_does_not_fit(model, tmp_path, change, message):
    full = save(tmp_path / 'full.pth', change(model.state_dict()))
    with pytest.raises(UsageError, match=message):
        load_distillation(build_model(CONFIG), full, None)


def test_losses_of_dpk(model):
    assert list(dpk_losses(model, CONFIG)) == ['loss_dpk']
    with pytest.raises(UsageError, match='fashion_cnn_kd.py has no DPKLoss'):
        dpk_losses(build_model(MINI / 'fashion_cnn_kd.py'), MINI / 'fashion_cnn_kd.py')
    with pytest.raises(UsageError, match='x.py has no DPKLoss'):
        dpk_losses(build_student(CONFIG), 'x.py')


def test_a_config_is_read_with_the_options_of_the_command_line():
    cfg = read_config(CONFIG, {'randomness.seed': 5})
    assert cfg.randomness.seed == 5
    with pytest.raises(UsageError, match='there is no config'):
        read_config('nowhere.py')


@pytest.mark.parametrize('given', [None, 't.pth'])
def test_a_short_config_needs_no_teachers_file_for_its_student(tmp_path, given):
    model = dict(type='DPKDistill', _scope_='mmrazor', method='kd')
    model |= dict(architecture=classifier(), teacher=classifier(16))
    dataset = dict(type='Own', pipeline=[dict(type='Resize', scale=(64, 64))])
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=model,
            train_dataloader=dict(batch_size=4, dataset=dataset),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        )
    )
    path = tmp_path / 'short.py'
    cfg.dump(path)
    with pytest.raises(UsageError, match='teacher_ckpt'):
        read_config(path)
    assert type(build_student(path)).__name__ == 'ImageClassifier'
    cfg = read_config(path, teacher_ckpt=given, with_teacher=False)
    assert cfg.model.teacher_ckpt == given
