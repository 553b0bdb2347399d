"""The algorithm on small mmpretrain classifiers: same code path as detectors, seconds instead of minutes."""

import copy
from contextlib import suppress

import pytest
import torch
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.models.distillers import dpk_distiller
from dpk_mm.modules import CKAMaskRatio
from tests.helpers import small_runs


def classifier(depth=18, base_channels=8, drop_rate=0.0, mean=(0.0,), std=(255.0,)):
    return dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(
            type='ResNet',
            depth=depth,
            base_channels=base_channels,
            stem_channels=base_channels,
            out_indices=(2, 3),
            init_cfg=None,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=base_channels * 8),
        data_preprocessor=dict(num_classes=5, mean=list(mean) * 3, std=list(std) * 3, to_rgb=True),
    )


def algorithm(teacher_ckpt=None, **kwargs):
    teacher = kwargs.pop('teacher', None) or classifier(base_channels=16)
    transforms = dict(
        last=dict(
            index=1,
            student_channels=64,
            teacher_channels=128,
            embed_dims=16,
            encoder_depth=1,
            decoder_depth=1,
            num_heads=2,
            position_grid=2,
        )
    )
    return dict(
        _scope_='mmrazor',
        type='DPKDistill',
        architecture=classifier(),
        teacher=teacher,
        teacher_ckpt=teacher_ckpt,
        distiller=dict(
            type='DPKDistiller',
            student_recorders=dict(backbone=dict(type='ModuleOutputs', source='backbone')),
            teacher_recorders=dict(backbone=dict(type='ModuleOutputs', source='backbone')),
            distill_losses=dict(loss_dpk=dict(type='DPKLoss', transforms=transforms)),
            loss_forward_mappings=dict(
                loss_dpk=dict(
                    student_feats=dict(recorder='backbone', from_student=True),
                    teacher_feats=dict(recorder='backbone', from_student=False),
                )
            ),
        ),
        **kwargs,
    )


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmrazor')


def build(**kwargs):
    torch.manual_seed(0)
    model = MODELS.build(algorithm(**kwargs))
    model.distiller.distill_losses.loss_dpk.mask_ratio = CKAMaskRatio()  # as its hook does
    return model


def batch(model, n=4):
    from mmpretrain.structures import DataSample

    torch.manual_seed(1)
    samples = [DataSample().set_gt_label(i % 5) for i in range(n)]
    return torch.randn(n, 3, 64, 64), samples


def test_losses_and_gradients():
    model = build()
    model.init_weights()
    model.train()
    losses = model(*batch(model), mode='loss')
    assert set(losses) == {'student.loss', 'distill.loss_dpk.last'}
    before = [p.clone() for p in model.teacher.parameters()]
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['student.loss'] + losses['distill.loss_dpk.last'])
    total.backward()
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []  # find_unused_parameters=False works
    assert all(p.grad is None for p in model.teacher.parameters())
    for old, new in zip(before, model.teacher.parameters(), strict=True):
        assert torch.equal(old, new)


def test_the_teacher_leaves_no_trace():
    model = build()
    teacher = {id(p) for p in model.teacher.parameters()}
    assert teacher
    assert not teacher & {id(p) for p in model.parameters()}
    assert not any(module is model.teacher for module in model.modules())
    prefixes = {key.split('.')[0] for key in model.state_dict()}
    assert prefixes == {'architecture', 'distiller'}


def test_the_teacher_is_in_eval_mode_dropout_included():
    model = build()
    model.teacher.backbone.add_module('extra', nn.Dropout(0.5))
    assert model.train() is model
    assert not any(module.training for module in model.teacher.modules())
    assert model.student.training and model.distiller.training
    assert not model.eval().student.training


def test_the_teacher_follows_conversions():
    model = build().double()
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float64}


def test_the_student_starts_as_it_would_alone():
    torch.manual_seed(0)
    alone = MODELS.build(classifier())
    alone.init_weights()
    model = build()
    model.init_weights()
    for (name, a), b in zip(alone.named_parameters(), model.student.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_teacher_checkpoint_is_loaded_at_init_weights_only(tmp_path):
    source = MODELS.build(classifier(base_channels=16))
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=source.state_dict(), meta={}), path)
    model = build(teacher_ckpt=str(path))
    key = 'backbone.layer4.0.conv1.weight'
    assert not torch.equal(model.teacher.state_dict()[key], source.state_dict()[key])
    model.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(model.teacher.state_dict()[name], value), name


@pytest.mark.parametrize('key', ['pretrained', 'init_cfg'])
def test_a_file_that_the_teachers_config_names_is_its_checkpoint(key, tmp_path):
    """The constructor keeps it for ``init_weights()``, which nothing calls of a teacher."""
    source = MODELS.build(classifier(base_channels=16))
    path = str(tmp_path / 'teacher.pth')
    torch.save(dict(state_dict=source.state_dict(), meta={}), path)
    value = path if key == 'pretrained' else dict(type='Pretrained', checkpoint=path)
    model = build(teacher=dict(classifier(base_channels=16), **{key: value}))
    assert model.teacher_ckpt == path
    model.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(model.teacher.state_dict()[name], value), name


def test_weights_of_a_teacher_that_was_built_before_are_left_alone(tmp_path):
    teacher = MODELS.build(dict(classifier(base_channels=16), pretrained='gone.pth'))
    model = build(teacher=teacher)
    assert model.teacher_ckpt is None
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(teacher.state_dict()[name], value) for name, value in before.items())


def test_a_missing_teacher_names_the_command():
    model = build(teacher_ckpt='nowhere.pth', teacher_command='python tools/train.py teacher.py')
    with pytest.raises(FileNotFoundError, match='nowhere.pth.*`python tools/train.py teacher.py`'):
        model.init_weights()


def test_a_wrong_teacher_is_refused_before_training(tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(MODELS.build(classifier(depth=34, base_channels=16)).state_dict(), path)
    with pytest.raises(ValueError, match='other.pth.*does not fit.*unknown'):
        build(teacher_ckpt=str(path)).init_weights()
    torch.save(MODELS.build(classifier(base_channels=8)).state_dict(), path)
    with pytest.raises(ValueError, match=r'is \(8, 3, 7, 7\) instead of \(16, 3, 7, 7\)'):
        build(teacher_ckpt=str(path)).init_weights()


def test_inherited_weights_survive_init_weights(tmp_path):
    teacher = classifier(depth=34)
    path = tmp_path / 'teacher.pth'
    torch.save(MODELS.build(teacher).state_dict(), path)
    cfg = algorithm(teacher_ckpt=str(path), teacher=teacher, inherit=['head'])
    cfg['distiller']['distill_losses']['loss_dpk']['transforms']['last']['teacher_channels'] = 64
    model = MODELS.build(cfg)
    model.init_weights()
    assert torch.equal(model.student.head.fc.weight, model.teacher.head.fc.weight)
    model.student.head.fc.weight.data.add_(1)  # a copy, not the teacher's own tensor
    assert not torch.equal(model.student.head.fc.weight, model.teacher.head.fc.weight)


@pytest.mark.parametrize(
    ('inherit', 'message'),
    [
        (['head'], r'head.fc.weight is \(5, 64\) in the student and \(5, 128\) in the teacher'),
        (['rpn_head'], "student has no part 'rpn_head'.*backbone"),
    ],
)
def test_what_cannot_be_inherited(inherit, message):
    with pytest.raises(ValueError, match=message):
        build(inherit=inherit).init_weights()


def test_the_teacher_sees_its_own_normalisation():
    teacher = classifier(base_channels=16, mean=(100.0,), std=(50.0,))
    teacher['data_preprocessor']['to_rgb'] = False
    model = build(teacher=teacher)
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)  # BGR, as it is read
    student = model.data_preprocessor(dict(inputs=pixels))['inputs']
    expected = model.teacher.data_preprocessor(dict(inputs=pixels))['inputs']
    torch.testing.assert_close(model.teacher_input(student), expected)


def test_equal_normalisation_costs_nothing():
    model = build()
    x = torch.randn(1, 3, 4, 4)
    assert model.teacher_input(x) is x


def test_records_are_dropped_and_the_model_can_be_copied():
    model = build()
    model.train()
    model(*batch(model), mode='loss')
    recorders = [
        *model.distiller.student_recorders.recorders.values(),
        *model.distiller.teacher_recorders.recorders.values(),
    ]
    assert all(recorder.data_buffer == [] for recorder in recorders)
    copy.deepcopy(model)


def test_a_stopped_distillation_runs_no_teacher(monkeypatch):
    model = build()
    model.distillation_stopped = True
    monkeypatch.setattr(model, '_run_teacher', lambda *_: pytest.fail('the teacher ran'))
    assert set(model(*batch(model), mode='loss')) == {'student.loss'}


def test_recorded_features_are_not_overwritten_in_place():
    model = build()
    assert not any(getattr(m, 'inplace', False) for m in model.student.modules())
    assert not any(getattr(m, 'inplace', False) for m in model.teacher.modules())


def test_bf16_autocast_is_close_to_float32():
    losses = {}
    for enabled in (False, True):
        model = build()
        model.train()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            torch.manual_seed(2)
            loss, _ = model.parse_losses(model(*batch(model), mode='loss'))
        assert torch.isfinite(loss)
        losses[enabled] = loss.item()
    assert losses[True] == pytest.approx(losses[False], rel=0.05)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match='teacher_forward must be one of'):
        build(teacher_forward='everything')
    with pytest.raises(ValueError, match='teacher_trainable'):
        build(teacher_trainable=True)
    with pytest.raises(ValueError, match='teacher_norm_eval=False is not supported'):
        build(teacher_norm_eval=False)


def test_a_loss_that_nothing_fills_is_refused():
    cfg = algorithm()
    cfg['distiller']['loss_forward_mappings'] = {}
    with pytest.raises(ValueError, match='distill_losses.loss_dpk: DPKLoss needs student_feats'):
        MODELS.build(cfg)


def test_a_warm_start_loads_the_whole_student(tmp_path):
    source = MODELS.build(classifier())
    path = tmp_path / 'student.pth'
    torch.save(dict(state_dict=source.state_dict(), meta={}), path)
    model = build(student_ckpt=str(path))
    model.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(model.student.state_dict()[name], value), name
    torch.save(MODELS.build(classifier(depth=34)).state_dict(), path)
    with pytest.raises(ValueError, match='student_ckpt: .*student.pth.*does not fit the student'):
        build(student_ckpt=str(path)).init_weights()
    with pytest.raises(FileNotFoundError, match="student_ckpt: 'gone.pth' does not exist"):
        build(student_ckpt='gone.pth').init_weights()


def test_a_text_where_a_list_of_parts_was_meant():
    with pytest.raises(ValueError, match=r"inherit is the text 'neck'.*write \['neck'\]"):
        build(inherit=('neck'))


def test_a_second_init_weights_leaves_what_was_trained(tmp_path):
    teacher = classifier(depth=34)
    source = MODELS.build(classifier())
    torch.save(source.state_dict(), tmp_path / 'student.pth')
    cfg = algorithm(teacher=teacher, student_ckpt=str(tmp_path / 'student.pth'), inherit=['head'])
    cfg['distiller']['distill_losses']['loss_dpk']['transforms']['last']['teacher_channels'] = 64
    model = MODELS.build(cfg)
    model.init_weights()
    assert torch.equal(model.student.head.fc.weight, model.teacher.head.fc.weight)
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.fill_(0.25)
    model.init_weights()
    assert all((parameter == 0.25).all() for parameter in model.student.parameters())


def noise(images):
    return torch.rand(len(images), 1, 1, 1)


class Noisy(BaseModel):
    """Adds a random number to its logits, and refuses NaN before that where it computes a loss."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        logits = self.head(inputs)
        if mode == 'loss' and logits.isnan().any():
            raise RuntimeError('a cost is NaN')
        logits = logits + noise(inputs)
        return dict(loss=logits.square().mean()) if mode == 'loss' else logits


def noisy(**kwargs):
    """The student gets the teacher's random number."""
    record = dict(recorder='feats')
    return MODELS.build(
        dict(
            type='DPKDistill',
            architecture=Noisy(),
            teacher=Noisy(),
            distiller=dict(
                type='DPKDistiller',
                records=dict(feats='head'),
                distill_losses=dict(loss_l2=dict(type='L2Loss')),
                loss_forward_mappings=dict(
                    loss_l2=dict(
                        s_feature=dict(record, from_student=True),
                        t_feature=dict(record, from_student=False),
                    )
                ),
                distill_deliveries=dict(
                    noise=dict(
                        type='FunctionOutputs', func_path=f'{__name__}.noise', max_keep_data=1
                    )
                ),
            ),
            **kwargs,
        )
    ).train()


def first_number(model, images, draws):
    """The student's loss of a batch with the random number of a draw."""
    torch.manual_seed(7)
    numbers = [noise(images) for _ in range(draws)]
    return (model.student.head(images) + numbers[-1]).square().mean()


def test_a_stopped_distillation_delivers_and_records_nothing():
    model, images = noisy(), torch.randn(2, 3, 4, 4)
    model(images, mode='loss')
    model.distillation_stopped = True
    torch.manual_seed(7)
    losses = model(images, mode='loss')
    assert set(losses) == {'student.loss'}
    assert torch.equal(losses['student.loss'], first_number(model, images, 1))
    assert model.distiller.student_recorders.get_recorder('feats').data_buffer == []


def test_what_a_failed_batch_delivered_is_dropped():
    model, images = noisy(non_finite='skip'), torch.randn(2, 3, 4, 4)
    model(images.new_full((2, 3, 4, 4), float('nan')), mode='loss')
    torch.manual_seed(7)
    loss = model(images, mode='loss')['student.loss']
    assert torch.equal(loss, first_number(model, images, 1))


def test_the_teacher_can_be_recorded_without_a_student():
    model, images = noisy(), torch.randn(2, 3, 4, 4)
    for _ in range(2):  # as the training of modules does
        model.record_teacher(images)
    torch.manual_seed(7)
    loss = model(images, mode='loss')['student.loss']
    assert torch.equal(loss, first_number(model, images, 1))


SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.1)


@pytest.mark.parametrize(
    'optim_wrapper',
    [
        dict(optimizer=SGD),
        dict(optimizer=SGD, paramwise_cfg=dict(bias_decay_mult=0.0)),
        dict(
            optimizer=dict(type='AdamW', lr=0.01),
            constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.5),
        ),
        dict(
            constructor='mmrazor.DPKOptimWrapperConstructor',
            distiller=dict(optimizer=dict(type='AdamW', lr=0.01)),
        ),
    ],
    ids=['plain', 'paramwise', 'layers', 'joint'],
)
def test_a_student_that_is_not_trained_stays_as_it_is(optim_wrapper, tmp_path):
    layers = 'layer_decay_rate' in optim_wrapper.get('paramwise_cfg', {})
    student = small_runs.convnext() if layers else small_runs.classifier()

    def run(epochs, **kwargs):
        model = small_runs.build(
            small_runs.distilled(
                student,
                small_runs.classifier(16),
                student_trainable=False,
                calculate_student_loss=False,
            )
        )
        made = small_runs.runner(
            model,
            tmp_path,
            optim_wrapper=optim_wrapper,
            validation=False,
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
            **kwargs,
        )
        model.init_weights()
        before = copy.deepcopy(model.state_dict())
        made.train()
        return model, before

    model, before = run(1)
    assert not any(p.requires_grad for p in model.student.parameters())
    assert model.training and not any(m.training for m in model.student.modules())
    moved = {
        name.split('.')[0]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved == {'distiller'}
    again, _ = run(2, resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    for name, value in again.student.state_dict().items():
        assert torch.equal(value, before[f'architecture.{name}']), name


def test_a_copy_shares_the_teacher_and_is_a_model_of_its_own():
    model = build()
    average = ExponentialMovingAverage(model)
    copied = average.module
    assert copied.teacher is model.teacher
    assert copied.distiller._models['teacher'] is model.teacher
    assert copied.distiller._models['student'] is copied.architecture is not model.architecture
    assert copied.data_preprocessor is not model.data_preprocessor
    state = model.state_dict()
    assert list(average.state_dict()) == ['steps', *(f'module.{name}' for name in state)]
    for name, value in copied.state_dict().items():
        assert torch.equal(value, state[name]) and value.data_ptr() != state[name].data_ptr(), name
    copied.double()  # as EMAHook(device='cpu') moves it
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float32}
    assert {p.dtype for p in copied.parameters()} == {torch.float64}


def test_a_copy_can_be_trained_as_well(monkeypatch):
    model = build().train()
    copied = copy.deepcopy(model)
    said = []
    monkeypatch.setattr(dpk_distiller, 'print_log', lambda text, *args: said.append(text))
    found = []
    for one in (model, copied, model):
        torch.manual_seed(3)
        found.append(one(*batch(one), mode='loss'))
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]) and torch.equal(value, found[2][name]), name
    assert not said  # nothing was replaced


def test_the_teacher_follows_a_copy_that_is_run():
    model = build()
    copied = copy.deepcopy(model).to('meta')
    assert {p.device.type for p in copied.teacher.parameters()} == {'cpu'}
    with suppress(Exception):  # there is nothing to compute with
        copied.record_teacher(torch.empty(2, 3, 32, 32, device='meta'))
    assert {p.device.type for p in copied.teacher.parameters()} == {'meta'}
