from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dpk_mm.cli.distill.plan import data_exist, make_plan
from dpk_mm.cli.distill.request import Request
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import coco_content, write_class_folders, write_coco

DETECTORS = Request(
    'retinanet_r101_fpn_2x_coco',
    'retinanet_r18_fpn_1x_coco',
    Path('work'),
    Path('work/distill.py'),
    cuda=False,
)
CLASSIFIERS = replace(DETECTORS, teacher='resnet50_8xb32_in1k', student='resnet18_8xb32_in1k')


def refused(request):
    with pytest.raises(UsageError) as error:
        make_plan(request)
    text = str(error.value)
    assert text[-1] in '.?' and '\n' not in text
    return text


def values(network):
    return {row.what: row.value for row in network.rows}


def test_a_pair_of_the_zoo_takes_the_published_teacher():
    plan = make_plan(replace(DETECTORS, train=True))
    assert plan.teacher_ckpt.startswith('https://') and plan.teacher_ckpt.endswith('-5560aee8.pth')
    assert not plan.writes_teacher and plan.notes == []
    assert plan.method == 'dpk_fgd'
    assert not data_exist(plan.student.cfg)


def test_own_data_are_set_for_both(tmp_path):
    folder = write_coco(tmp_path)
    request = replace(
        DETECTORS,
        data=[str(folder)],
        train=True,
        train_teacher=True,
        epochs=6,
        teacher_epochs=8,
        batch_size=4,
        seed=3,
    )
    plan = make_plan(request)
    for network, epochs in ((plan.teacher, 8), (plan.student, 6)):
        assert network.cfg.model.bbox_head.num_classes == 2
        assert network.cfg.train_dataloader.dataset.data_root == f'{tmp_path}/'
        assert network.cfg.train_cfg.max_epochs == epochs
        assert network.cfg.train_dataloader.batch_size == 4
        assert network.cfg.randomness.seed == 3
        assert values(network)['num_classes'] == '2 (cat, dog)'
    assert plan.teacher_ckpt == 'work/teacher/teacher.pth'
    assert plan.teacher_start.startswith('https://')  # of COCO
    assert plan.teacher.cfg.default_hooks.checkpoint.save_best == 'auto'
    assert data_exist(plan.student.cfg)


def test_from_scratch_downloads_nothing(tmp_path):
    request = replace(
        DETECTORS,
        data=[str(write_coco(tmp_path))],
        train=True,
        train_teacher=True,
        from_scratch=True,
    )
    plan = make_plan(request)
    assert plan.teacher_start is None
    for network in (plan.teacher, plan.student):
        assert network.cfg.model.backbone.init_cfg is None
        assert '://' not in str(network.cfg.model)


def test_a_teacher_that_does_not_know_the_data(tmp_path):
    folder = [str(write_coco(tmp_path))]
    plan = make_plan(replace(DETECTORS, data=folder))
    assert plan.teacher_ckpt is None
    assert 'is not trained on --data, only on COCO' in plan.notes[0]
    text = refused(replace(DETECTORS, data=folder, train=True))
    assert 'add --train-teacher to train it first' in text
    file = tmp_path / 'teacher.pth'
    for classes, fits in ((('cat', 'dog'), True), (('cat', 'cow'), False), (None, True)):
        meta = dict(dataset_meta=dict(classes=classes)) if classes else {}
        torch.save(dict(meta=meta, state_dict={}), file)
        request = replace(DETECTORS, data=folder, teacher_ckpt=str(file), train=True)
        if fits:
            plan = make_plan(request)
            assert plan.teacher_ckpt == str(file)
            said = [note for note in plan.notes if 'does not say its classes' in note]
            # nothing can be compared then, and another order would be learned in silence
            assert len(said) == (classes is None)
            assert all('in this order, cat, dog.' in note for note in said)
        else:
            assert 'was trained on 2 classes (cat, cow), but --data has 2 (cat, dog)' in refused(
                request
            )
            started = make_plan(replace(request, train_teacher=True))
            assert started.teacher_start == str(file) != started.teacher_ckpt


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(teacher='resnet50_8xb32_in1k'), 'is for classification and --student'),
        (dict(teacher='retinanet_r50_fpn_1x_coc'), 'near names are retinanet_r50_fpn_1x_coco'),
        (dict(teacher='faster-rcnn_r50_fpn_1x_voc0712'), 'has 20 classes and --student'),
        (dict(teacher_ckpt='nowhere.pth'), '--teacher-ckpt: there is no file nowhere.pth'),
        (dict(cfg_options={'model.teacher_ckpt': 'x.pth'}), 'give it with --teacher-ckpt'),
        (dict(cfg_options={'model.teacher.neck': None}), 'and --teacher-cfg-options'),
        (
            dict(method='fgd', cfg_options={'model.method': 'dpk'}),
            'both name a method: give one of them',
        ),
        (dict(images=['.']), '--images was given without --data'),
        (dict(from_scratch=True, train=True), '--from-scratch takes no checkpoint of the zoo'),
        (
            dict(teacher='retinanet_r18_fpn_1xb8-1x_coco', cfg_options={'modle.x': 1}),
            'did you mean model.x',
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(change, words):
    assert words in refused(replace(DETECTORS, **change))


def test_data_of_another_task(tmp_path):
    folder = [str(write_class_folders(tmp_path / 'a'))]
    assert 'is a set for classification, but the two networks are for detection' in refused(
        replace(DETECTORS, data=folder)
    )
    folder = [str(write_coco(tmp_path / 'b'))]
    assert 'which needs class folders' in refused(replace(CLASSIFIERS, data=folder))


def test_classifiers(tmp_path):
    request = replace(CLASSIFIERS, data=[str(write_class_folders(tmp_path))], img_size=32)
    plan = make_plan(request)
    assert plan.student.cfg.model.head.num_classes == plan.teacher.cfg.model.head.num_classes == 3
    assert plan.student.cfg.data_preprocessor.num_classes == 3
    assert plan.method == 'kd+dpk'
    assert make_plan(replace(request, method='kd')).method == 'kd'
    assert plan.student.cfg.train_dataloader.dataset.pipeline[1].scale == 32
    assert values(plan.student)['image size'] == '32'


def test_settings_of_the_user_go_over_what_was_chosen():
    options = {
        'train_cfg.val_interval': 7,
        'model.backbone.depth': 34,
        'model.architecture.neck.num_outs': 5,
        'model.inherit': None,
        'model.distiller.distill_losses.loss_dpk.loss_weight': 3,
    }
    plan = make_plan(replace(DETECTORS, epochs=50, cfg_options=options))
    assert plan.student.cfg.train_cfg.val_interval == 7
    assert plan.student.cfg.model.backbone.depth == 34
    assert plan.algorithm == dict(
        inherit=None, distiller=dict(distill_losses=dict(loss_dpk=dict(loss_weight=3)))
    )
    assert plan.teacher.cfg.train_cfg.val_interval != 7
    assert not plan.writes_teacher


def test_all_arguments_of_the_distillation_are_its_own():
    options = {'model.teacher_precision': 'bfloat16', 'model.method.type': 'fgd'}
    plan = make_plan(replace(DETECTORS, cfg_options=options))
    assert plan.algorithm == dict(teacher_precision='bfloat16', method=dict(type='fgd'))
    assert plan.method == 'fgd'
    assert 'teacher_precision' not in plan.student.cfg.model


@pytest.mark.parametrize(
    ('method', 'options'),
    [
        (None, {'model.method': 'kd', 'model.method.tau': 4}),
        (None, {'model.method.tau': 4, 'model.method': 'kd'}),
        (None, {'model.method.tau': 4, 'model.method.type': 'kd'}),
        ('kd', {'model.method.tau': 4}),
        ('kd', {'model.method': dict(tau=4)}),
    ],
)
def test_settings_of_a_method_go_with_its_name(method, options):
    plan = make_plan(replace(CLASSIFIERS, method=method, cfg_options=options))
    assert plan.method == 'kd' and plan.algorithm['method'] == dict(type='kd', tau=4)


def test_parts_of_what_has_none():
    options = {'model.method': ['kd', 'dpk'], 'model.method.tau': 4}
    text = refused(replace(CLASSIFIERS, cfg_options=options))
    assert "model.method.tau: model.method is ['kd', 'dpk'], which has no parts" in text
    options = {'model.method.type': 'kd'}
    assert 'both name a method' in refused(replace(CLASSIFIERS, method='kd', cfg_options=options))


def test_a_whole_goes_before_its_parts():
    whole = dict(distill_losses=dict(loss_dpk=dict(loss_weight=2)))
    part = {'model.distiller.distill_losses.loss_dpk.loss_weight': 3}
    plan = make_plan(replace(DETECTORS, cfg_options={**part, 'model.distiller': whole}))
    assert plan.algorithm['distiller']['distill_losses']['loss_dpk'] == dict(loss_weight=3)
    assert whole['distill_losses']['loss_dpk'] == dict(loss_weight=2)


def test_where_a_schedule_ends_goes_by_the_learning_rate_of_the_options():
    request = replace(
        DETECTORS,
        teacher='rtmdet_s_8xb32-300e_coco',
        student='rtmdet_tiny_8xb32-300e_coco',
        batch_size=16,
    )
    options = {'optim_wrapper.optimizer.lr': 0.002}  # 0.004, down to 0.0002, in its config
    given = make_plan(replace(request, cfg_options=options)).student
    asked = make_plan(replace(request, lr=0.002)).student
    for network in (given, asked):
        assert network.cfg.optim_wrapper.optimizer.lr == 0.002
        assert network.cfg.param_scheduler[1].eta_min == pytest.approx(0.0001)
    assert [row.why for row in given.rows if row.what == 'optim_wrapper.optimizer.lr'] == [
        '--cfg-options'
    ]
    end = {**options, 'param_scheduler.1.eta_min': 0.5}
    given = make_plan(replace(request, cfg_options=end)).student
    assert given.cfg.param_scheduler[1].eta_min == 0.5


@pytest.mark.parametrize(
    ('change', 'written'),
    [
        (dict(img_size=320), True),
        (dict(workers=0), True),
        (dict(), False),
        (dict(epochs=3, batch_size=2, lr=0.1, seed=1), False),
    ],
)
def test_a_teacher_whose_test_is_changed_has_a_config_of_its_own(change, written):
    assert make_plan(replace(DETECTORS, **change)).writes_teacher == written


def test_small_images_that_are_enlarged(tmp_path):
    content = coco_content()
    plan = make_plan(replace(DETECTORS, data=[str(write_coco(tmp_path, content))]))
    assert any('--img-size 48 trains about 278 times faster' in note for note in plan.notes)
