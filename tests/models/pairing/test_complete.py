import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS

import dpk_mm
from dpk_mm.errors import UsageError
from dpk_mm.models.pairing import complete, is_short
from dpk_mm.modules import FixedMaskRatio
from tests.helpers.small_runs import classifier, convnext, yolox


def config(student, teacher, method, scope='mmpretrain', **model):
    resize = dict(type='Resize', scale=(64, 64))
    return Config(
        dict(
            default_scope=scope,
            model=dict(
                type='DPKDistill',
                _scope_='mmrazor',
                architecture=student,
                teacher=teacher,
                method=method,
                **dict(dict(teacher_ckpt=None), **model),
            ),
            train_dataloader=dict(batch_size=4, dataset=dict(type='Own', pipeline=[resize])),
            custom_hooks=[dict(type='EMAHook')],
            default_hooks=dict(logger=dict(type='LoggerHook')),
        )
    )


def test_a_classifier():
    short = config(classifier(8), classifier(16), 'kd+dpk')
    before = copy.deepcopy(short._cfg_dict)
    done = complete(short)
    assert short._cfg_dict == before
    model = done.cfg.model
    assert not is_short(done.cfg)
    assert model.distiller.records == dict(logits='head.fc', feats='backbone')
    stage = model.distiller.distill_losses.loss_dpk.transforms.last
    assert (stage.index, stage.student_channels, stage.teacher_channels) == (1, 64, 128)
    assert done.cfg.custom_hooks == [dict(type='EMAHook')]
    assert done.cfg.default_hooks.mask_ratio.samples == 'images'
    assert done.cfg.default_hooks.logger.type == 'LoggerHook'
    assert done.cfg.default_hooks.distill_alarm.type == 'mmrazor.DistillAlarmHook'
    assert done.cfg.custom_imports['imports'] == ['dpk_mm']
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        MODELS.build(model)


@pytest.mark.parametrize(
    ('name', 'hint'),
    [('loss_kdd', r'makes loss_kd, loss_dpk; did you mean loss_kd\?'), ('loss_sp', 'or give the')],
)
def test_a_setting_of_a_loss_that_the_method_does_not_make(name, hint):
    distiller = dict(distill_losses={name: dict(tau=2)})
    with pytest.raises(UsageError, match=rf'distill_losses\.{name} has tau but no type.*{hint}'):
        complete(config(classifier(8), classifier(16), 'kd+dpk', distiller=distiller))


def test_a_loss_that_the_method_makes_can_be_dropped():
    distiller = dict(distill_losses=dict(loss_kd=None, own=dict(type='KDLoss')))
    done = complete(config(classifier(8), classifier(16), 'kd+dpk', distiller=distiller))
    losses = done.cfg.model.distiller.distill_losses
    assert losses.loss_kd is None and losses.own == dict(type='KDLoss')


def in_channels(model, count):
    model['backbone']['in_channels'] = count
    model['data_preprocessor'].update(mean=[0.0] * count, std=[255.0] * count, to_rgb=False)
    return model


@pytest.mark.parametrize('count', [1, 4])
def test_images_of_other_channels(count):
    student, teacher = (in_channels(classifier(width), count) for width in (8, 16))
    model = complete(config(student, teacher, 'kd+dpk')).cfg.model
    stage = model.distiller.distill_losses.loss_dpk.transforms.last
    assert (stage.index, stage.student_channels, stage.teacher_channels) == (1, 64, 128)
    with pytest.raises(UsageError, match=f'of {count} channels?, and model.teacher of 3 channels'):
        complete(config(student, classifier(16), 'kd'))


def test_a_detector():
    done = complete(config(yolox(8), yolox(16), 'dpk_fgd', 'mmdet'))
    loss = done.cfg.model.distiller.distill_losses.loss_dpk
    assert loss.criterion.weights == 'fgd_anchor_free_code'
    assert (loss.criterion.student_channels, loss.criterion.teacher_channels) == (8, 16)
    assert done.cfg.default_hooks.mask_ratio.samples == 'positions'
    assert done.cfg.model.teacher_forward == 'features'


def vit(width, size=64):
    arch = dict(embed_dims=width, num_layers=2, num_heads=2, feedforward_channels=64)
    return dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(type='VisionTransformer', arch=arch, img_size=size, patch_size=16),
        head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=width),
    )


def test_transformers():
    done = complete(config(vit(32), vit(48), 'kd+dpk+manifold'))
    losses = done.cfg.model.distiller.distill_losses
    assert losses.loss_dpk.transforms.last.teacher_extra_tokens == 1
    assert losses.loss_manifold.stages == [
        dict(index=0, student_extra_tokens=1, teacher_extra_tokens=1)
    ]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        MODELS.build(done.cfg.model)
    with pytest.raises(UsageError, match='at compares maps, but the features here are'):
        complete(config(vit(32), vit(48), 'at'))
    mixed = complete(config(vit(32), classifier(16), 'dpk')).cfg.model.distiller
    assert mixed.records == dict(
        feats=dict(student=['backbone.layers.1'], teacher=['backbone.layer3'])
    )


def test_a_teacher_of_another_resolution():
    student, teacher = classifier(8), vit(48, 160)
    with pytest.raises(UsageError, match=r'set model.teacher_input_size=\(160, 160\)'):
        complete(config(student, teacher, 'dpk'))
    model = complete(config(student, teacher, 'dpk', teacher_input_size=(160, 160))).cfg.model
    stage = model.distiller.distill_losses.loss_dpk.transforms.last
    assert (stage.position_grid, stage.resize, stage.student_channels) == ((10, 10), True, 32)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = MODELS.build(model)
    built.distiller.distill_losses['loss_dpk'].mask_ratio = FixedMaskRatio(0.5)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    losses = built.loss(torch.rand(4, 3, 64, 64), samples)
    assert torch.isfinite(
        losses['distill.loss_dpk.last' if 'distill.loss_dpk.last' in losses else 'distill.loss_dpk']
    )
    maps = complete(config(student, classifier(16), 'dpk', teacher_input_size=(128, 128))).cfg.model
    assert maps.distiller.distill_losses.loss_dpk.transforms.last.position_grid == (2, 2)


def test_it_is_the_same_every_time_and_dumps(tmp_path):
    first, second = (complete(config(classifier(8), convnext(16), 'dpk')) for _ in range(2))
    assert first.cfg.model == second.cfg.model
    assert first.rows == second.rows
    first.cfg.dump(str(tmp_path / 'whole.py'))
    again = Config.fromfile(str(tmp_path / 'whole.py'))
    assert again.model == first.cfg.model
    assert complete(again).rows == []


def test_two_methods_whose_losses_have_one_name():
    with pytest.raises(UsageError, match='dpk_fgd and a method before it in dpk, dpk_fgd both'):
        complete(config(yolox(8), yolox(16), 'dpk+dpk_fgd', 'mmdet'))
    both = ['dpk', dict(type='dpk_fgd', name='loss_other')]
    losses = complete(config(yolox(8), yolox(16), both, 'mmdet')).cfg.model.distiller.distill_losses
    assert [*losses] == ['loss_dpk', 'loss_other']


def test_explicit_values_win():
    distiller = dict(distill_losses=dict(loss_kd=dict(tau=9.0)), records=dict(logits='head'))
    done = complete(
        config(classifier(8), classifier(16), 'kd', distiller=distiller, teacher_forward='loss')
    )
    assert done.cfg.model.distiller.distill_losses.loss_kd == dict(
        type='KDLoss', tau=9.0, loss_weight=0.8
    )
    assert done.cfg.model.distiller.records == dict(logits='head')
    assert done.cfg.model.teacher_forward == 'loss'


def test_a_base_that_was_merged_into_the_model():
    student = classifier(8)
    short = config(student, classifier(16), 'kd')
    short.merge_from_dict(dict(model=dict(student, type='DPKDistill', _scope_='mmrazor')))
    model = complete(short).cfg.model
    assert 'backbone' not in model
    assert 'data_preprocessor' not in model
    short.model.backbone.depth = 34
    with pytest.raises(UsageError, match='model has the keys backbone'):
        complete(short)


def test_data_of_a_named_student():
    short = Config(
        dict(
            model=dict(
                type='DPKDistill',
                _scope_='mmrazor',
                architecture='mmpretrain::resnet/resnet18_8xb32_in1k.py',
                teacher='mmpretrain::resnet/resnet34_8xb32_in1k.py',
                method='kd',
            ),
            train_cfg=dict(max_epochs=3),
        )
    )
    done = complete(short)
    assert done.cfg.train_dataloader.dataset.type == 'ImageNet'
    assert (done.cfg.train_cfg.max_epochs, done.cfg.train_cfg.by_epoch) == (3, True)
    assert done.cfg.model.teacher_ckpt.startswith('https://')


def test_settings_of_a_loader_without_a_data_set_change_the_students(two_lines):
    student = Config.fromfile('student.py')
    student.work_dir = 'work_dirs/student'
    student.train_dataloader.dataset.type = 'Own'
    student.dump('student.py')
    short = config('student.py', 'teacher.py', 'kd')
    short.train_dataloader = dict(batch_size=2, dataset=dict(data_root='here'))
    done = complete(short).cfg
    resize = dict(type='Resize', scale=(64, 64))
    dataset = dict(type='Own', data_root='here', pipeline=[resize])
    assert done.train_dataloader == dict(batch_size=2, dataset=dataset)
    assert 'work_dir' not in done  # it would train where the student alone was trained


LAZY = """
from dpk_mm.models import DPKDistill, KDLoss
from mmpretrain.datasets import CustomDataset
from mmpretrain.models import ImageClassifier

model = dict(
    type=DPKDistill, method='kd', teacher_ckpt=None,
    architecture=dict(type=ImageClassifier, **{student!r}),
    teacher=dict(type=ImageClassifier, **{teacher!r}),
    distiller=dict(distill_losses=dict(loss_kd=dict(type=KDLoss, tau=9.0))))
train_dataloader = dict(
    batch_size=4, dataset=dict(type=CustomDataset, pipeline=[dict(type='Resize', scale=(64, 64))]))
"""


def test_classes_in_a_config_of_python(tmp_path):
    student, teacher = (
        {key: value for key, value in classifier(width).items() if key not in ('type', '_scope_')}
        for width in (8, 16)
    )
    file, written = tmp_path / 'lazy.py', tmp_path / 'written.py'
    file.write_text(LAZY.format(student=student, teacher=teacher))
    short = Config.fromfile(file)
    assert is_short(short)
    done = complete(short)
    assert [row[:2] for row in done.rows][:2] == [
        ('student', 'ImageClassifier'),
        ('teacher', 'ImageClassifier'),
    ]
    # the Runner writes it to the work folder, which a class would not let it do
    done.cfg.dump(written)
    for model in (done.cfg.model, Config.fromfile(written).model):
        assert (model.type, model.architecture._scope_) == ('DPKDistill', 'mmpretrain')
        assert MODELS.build(model).distiller.distill_losses['loss_kd'].tau == 9.0


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(teacher=None), 'model.teacher is missing'),
        (dict(method='dpkk'), 'did you mean dpk'),
        (dict(method='kd+kd_standardized'), 'both give loss_kd, so that one of them'),
        (dict(method='fgd'), 'fgd is not for a classifier'),
        (dict(teacher=yolox(8)), 'a classifier and model.teacher a detector'),
        (dict(teacher=classifier(4)), 'exchange the two'),
        (
            dict(
                teacher=classifier(
                    16, head=dict(type='LinearClsHead', num_classes=7, in_channels=128)
                )
            ),
            'the classes differ: 5 classes here and 7',
        ),
    ],
)
def test_what_cannot_be_done(change, words):
    settings = dict(dict(student=classifier(8), teacher=classifier(16), method='kd'), **change)
    with pytest.raises(UsageError, match=words):
        complete(config(**settings))


def test_a_smaller_teacher_that_is_meant():
    done = complete(config(classifier(8), classifier(4), 'kd', smaller_teacher=True))
    assert 'smaller_teacher' not in done.cfg.model


def test_a_size_that_nothing_says():
    short = config(classifier(8), classifier(16), 'dpk')
    short.train_dataloader.dataset.pipeline = []
    with pytest.raises(UsageError, match='set model.input_size'):
        complete(short)
    short.model.input_size = (96, 64)
    stage = complete(short).cfg.model.distiller.distill_losses.loss_dpk.transforms.last
    assert stage.position_grid == (3, 2)


def test_a_teacher_without_a_checkpoint():
    short = config(classifier(8), classifier(16), 'kd')
    del short.model['teacher_ckpt']
    with pytest.raises(UsageError, match='teacher_ckpt is missing'):
        complete(short)


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (dict(pretrained='some.pth'), 'some.pth'),
        (dict(init_cfg=dict(type='Pretrained', checkpoint='some.pth')), 'some.pth'),
        (dict(pretrained=True), None),  # as timm has it
    ],
)
def test_a_checkpoint_that_the_teachers_config_names(given, expected):
    short = config(classifier(8), classifier(16), 'kd')
    del short.model['teacher_ckpt']
    short.model.teacher.update(given)
    assert complete(short).cfg.model.teacher_ckpt == expected


def test_a_checkpoint_of_the_student_and_inheriting():
    student, teacher = yolox(8), yolox(8)
    short = config(student, teacher, 'fgd', 'mmdet')
    assert complete(short).cfg.model.inherit == ['neck', 'bbox_head']
    short.load_from = 'some.pth'
    assert complete(short).cfg.model.inherit is None


def test_it_is_exported_lazily():
    assert dpk_mm.complete is complete
    with pytest.raises(AttributeError, match='no attribute .completed'):
        _ = dpk_mm.completed


def test_a_short_model_that_is_built_says_what_to_call():
    short = config(classifier(8), classifier(16), 'kd')
    with pytest.raises(Exception, match=r'cfg = dpk_mm\.complete\(cfg\)\.cfg before'):
        MODELS.build(short.model)


@pytest.mark.parametrize('key', ['input_size', 'teacher_input_size'])
@pytest.mark.parametrize('size', ['96', (3, 96, 96), 0])
def test_sizes_that_are_none(key, size):
    """A text was read digit by digit, and of three numbers the first two counted."""
    with pytest.raises(UsageError, match=f'model.{key} is .* in pixels was expected'):
        complete(config(classifier(8), classifier(16), 'kd', **{key: size}))


TWO_LINES = """
_base_ = './student.py'
model = dict(
    _scope_='mmrazor', type='DPKDistill', teacher='teacher.py', teacher_ckpt=None, method='kd',
    architecture={architecture}, {beside})
"""


@pytest.fixture
def two_lines(tmp_path, monkeypatch):
    """Writes a config of two lines on top of a student's own, and reads it."""
    monkeypatch.chdir(tmp_path)
    loader = dict(batch_size=4, dataset=dict(pipeline=[dict(type='Resize', scale=(64, 64))]))
    for name, width in (('student', 8), ('teacher', 16)):
        content = dict(default_scope='mmpretrain', model=classifier(width), train_dataloader=loader)
        Config(content).dump(tmp_path / f'{name}.py')

    def read(architecture='_base_.model', beside='', **more):
        (tmp_path / 'two.py').write_text(TWO_LINES.format(architecture=architecture, beside=beside))
        if not more:
            return Config.fromfile(tmp_path / 'two.py')
        (tmp_path / 'three.py').write_text("_base_ = './two.py'\n")
        text = f"_base_ = './two.py'\nmodel = {more['model']!r}\n"
        (tmp_path / 'three.py').write_text(text)
        return Config.fromfile(tmp_path / 'three.py')

    return read


DEEPER = 'dict(_base_.model, backbone=dict(_base_.model.backbone, depth=34))'


def test_a_student_of_two_lines_can_be_changed(two_lines):
    """As docs/any_pair.md says; the unchanged part of the base stands beside it."""
    cfg = two_lines(DEEPER)
    assert cfg.model.backbone.depth == 18
    model = complete(cfg).cfg.model
    assert model.architecture.backbone.depth == 34 and 'backbone' not in model
    inherited = two_lines(model=dict(architecture=dict(backbone=dict(depth=34))))
    assert complete(inherited).cfg.model.architecture == model.architecture


def test_a_changed_preprocessor_of_the_student_is_the_one_that_is_used(two_lines):
    changed = 'dict(_base_.model, data_preprocessor=dict(_base_.model.data_preprocessor, mean=[9]))'
    model = complete(two_lines(changed)).cfg.model
    assert model.architecture.data_preprocessor.mean == [9]
    assert 'data_preprocessor' not in model


@pytest.mark.parametrize('architecture', ['_base_.model', DEEPER])
def test_changes_beside_the_student_are_refused(two_lines, architecture):
    with pytest.raises(UsageError, match='has the keys backbone, which DPKDistill does not know'):
        complete(two_lines(architecture, 'backbone=dict(base_channels=16)'))
    # a config on top of it hides nothing
    with pytest.raises(UsageError, match='has the keys backbone, which DPKDistill does not know'):
        complete(two_lines(architecture, 'backbone=dict(base_channels=16)', model=dict()))
