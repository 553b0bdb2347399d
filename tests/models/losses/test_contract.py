"""What every distillation loss keeps to, whatever it computes; a new one needs a row in ``CASES`` and no more."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.structures import InstanceData
from mmpretrain.registry import MODELS as PRETRAIN_MODELS
from mmrazor.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.models.loss_parts import DistillLoss
from dpk_mm.models.losses import CrossKDLoss, TeacherHeadLoss
from dpk_mm.modules import FixedMaskRatio

SIZES = [(16, 12), (8, 6), (4, 3)]
STAGE = dict(
    student_channels=6,
    teacher_channels=8,
    embed_dims=8,
    encoder_depth=1,
    decoder_depth=1,
    num_heads=2,
    position_embedding='sinusoidal',
)
PYRAMID = dict(levels=(0, 1, 2), student_channels=6, teacher_channels=8)
FGD = dict(PYRAMID, weights='fgd_one_stage_paper')
ANCHORS = dict(scales=[4], ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32])
CHANNELS = dict(student_channels=6, teacher_channels=8)
STAGES = [dict(index=index, **CHANNELS) for index in range(3)]

# registered name: arguments of the constructor, one dict for each form that computes something else
CASES = {
    'CCLoss': [
        dict(student_channels=6, teacher_channels=8, embed_dims=16),
        dict(student_channels=6, teacher_channels=8, embed_dims=16, mode='paper'),
        dict(embed_dims=None, mode='paper', kernel='bilinear'),
    ],
    'DISTKDLoss': [dict(), dict(tau=4.0, beta=1.0, gamma=0.5, loss_weight=2.0)],
    'ContrastiveLoss': [
        dict(num_images=12, negatives=5, width=4, **CHANNELS),
        dict(num_images=12, negatives=7, index=1, draw='any', loss_weight=0.8, **CHANNELS),
    ],
    'CrossKDLoss': [dict(split=1), dict(split=2, beta=0.5, loss_weight=0.5)],
    'DPKLoss': [
        dict(transforms=dict(P4=dict(index=1, **STAGE), P5=dict(index=2, **STAGE))),
        dict(transforms=dict(P5=dict(index=2, **STAGE)), criterion=dict(type='FGDLoss', **FGD)),
        dict(
            transforms=dict(P4=dict(index=1, **STAGE), P5=dict(index=2, **STAGE)),
            module_warmup=dict(iterations=1, error=0.5),
        ),
    ],
    'DecoupledKDLoss': [dict(), dict(tau=2.0, warmup=4, standardize=True), dict(beta=0.0)],
    'AGNLLoss': [
        dict(PYRAMID, pools=(4, 2)),
        dict(PYRAMID, mode='paper', weights='agnl_one_stage', loss_weight=2.0),
    ],
    'FGDLoss': [FGD, dict(FGD, by_level=True, loss_weight=3.0)],
    'CWDLoss': [
        dict(PYRAMID, tau=2.0, loss_weight=3.0),
        dict(PYRAMID, by_level=True, loss_weight=1.0),
    ],
    'FGFILoss': [
        dict(PYRAMID, anchors=ANCHORS, mode=mode, loss_weight=1.0) for mode in ('paper', 'code')
    ],
    'GIDLoss': [dict(PYRAMID, cells=4)],
    'LevelMGDLoss': [
        dict(PYRAMID, loss_weight=0.1),
        dict(PYRAMID, loss_weight=0.1, masked='channels', mask_ratio=0.3),
    ],
    'LevelPKDLoss': [dict(PYRAMID, loss_weight=6.0), dict(PYRAMID, by_level=True, loss_weight=1.0)],
    'FitNetLoss': [dict(stages=STAGES[1:2]), dict(stages=STAGES, mode='paper', loss_weight=0.5)],
    'AttentionTransferLoss': [
        dict(stages=[dict(index=1), dict(index=2, weight=0.5)]),
        dict(stages=[dict(index=0)], mode='paper'),
    ],
    'ActivationBoundaryLoss': [dict(stages=STAGES), dict(stages=STAGES[:1], margin=0.5)],
    'FactorTransferLoss': [dict(stages=STAGES[1:2]), dict(stages=STAGES[2:], mode='code')],
    'VIDLoss': [dict(stages=STAGES)],
    'OverhaulLoss': [
        dict(stages=STAGES),
        dict(stages=[dict(index=1, margin=[-0.5] * 8, **CHANNELS)], loss_weight=1e-3),
    ],
    'ReviewKDLoss': [
        dict(stages=[*STAGES[:2], dict(STAGES[2], pooled=True)]),
        dict(stages=STAGES[1:], warmup=4),
    ],
    'ICKDLoss': [dict(stages=STAGES[1:]), dict(stages=STAGES[:1], mode='imagenet')],
    'AFDLoss': [dict(stages=STAGES), dict(stages=STAGES[1:], mode='paper', width=5)],
    'ManifoldLoss': [
        dict(stages=[dict(index=1), dict(index=2, weight=0.5)]),
        dict(stages=[dict(index=2)], patch_weight=0.0, patches=7),
    ],
    'TeacherHeadLoss': [
        dict(**CHANNELS),
        dict(tau=1.0, head_weight=3.0, loss_weight=0.5, **CHANNELS),
    ],
    'TOFDLoss': [
        dict(stages=STAGES, num_classes=10),
        dict(stages=STAGES[1:], num_classes=10, mode='paper', loss_weight=2.0),
    ],
    'HardDistillLoss': [dict()],
    'KDLoss': [
        dict(tau=4.0),
        dict(tau=2.0, reduction='mean', loss_weight=0.5),
        dict(tau=2.0, standardize='paper'),
    ],
    'NKDLoss': [dict(), dict(tau=3.0, gamma=3.5)],
    'PKTLoss': [dict()],
    'RKDLoss': [dict(), dict(angle=0.0), dict(distance=0.0)],
    'SPLoss': [dict(), dict(index=(0, 2))],
}
ROWS = [(name, index) for name, forms in CASES.items() for index in range(len(forms))]


def registered():
    return {
        name: cls
        for name, cls in MODELS.module_dict.items()
        if inspect.isclass(cls)
        and issubclass(cls, DistillLoss)
        and cls.__module__.startswith('dpk_mm.')
    }


def test_every_registered_loss_has_a_row():
    assert set(registered()) == set(CASES), 'add a row to CASES for the new loss'


def build(name, index, device='cpu'):
    torch.manual_seed(0)
    loss = MODELS.build(dict(type=name, **CASES[name][index]))
    return as_its_hooks_do(loss, device).train().to(device)


def as_its_hooks_do(loss, device='cpu'):
    if hasattr(loss, 'mask_ratio'):
        loss.mask_ratio = FixedMaskRatio(0.5)
    if hasattr(loss, 'warmup'):
        loss.warmup.done = 1
    if getattr(loss, 'module_warmup', None) is not None:
        loss.module_warmup.iteration = 1
    for side, channels in (('student', 6), ('teacher', 8)):
        if isinstance(loss, CrossKDLoss):
            getattr(loss, f'prepare_from_{side}')(detector(channels, device))
    if isinstance(loss, TeacherHeadLoss):
        loss.prepare_from_teacher(classifier(8).to(device))
    return loss


def detector(channels, device):
    """With a head for the pyramid."""
    cfg = dict(
        type='RetinaHead',
        num_classes=10,
        in_channels=channels,
        feat_channels=4,
        stacked_convs=2,
        anchor_generator=dict(type='AnchorGenerator', **ANCHORS),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4),
            allowed_border=-1,
            pos_weight=-1,
        ),
        _scope_='mmdet',
    )
    head = MMDET_MODELS.build(cfg)
    for p in head.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return SimpleNamespace(bbox_head=head.to(device))


def classifier(channels):
    """With a frozen head for the last level."""
    return PRETRAIN_MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='LeNet5'),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=channels),
            _scope_='mmpretrain',
        )
    ).requires_grad_(False)


def sample(boxes, label):
    return SimpleNamespace(
        metainfo=dict(batch_input_shape=(128, 96), img_shape=(128, 96), pad_shape=(128, 96)),
        gt_instances=InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor([label])),
        gt_label=torch.tensor([label]),
        sample_idx=label,
    )


def records(grad=True):
    """One batch of everything that the vocabulary names; the student's and the teacher's need a gradient."""
    g = torch.Generator().manual_seed(1)

    def feats(channels):
        return tuple(
            torch.randn(2, channels, *size, generator=g).requires_grad_(grad) for size in SIZES
        )

    def logits():
        return torch.randn(2, 10, generator=g).requires_grad_(grad)

    def embedding(width):  # angles need three images
        return torch.randn(5, width, generator=g).requires_grad_(grad)

    return dict(
        student_feats=feats(6),
        teacher_feats=feats(8),
        student_logits=logits(),
        teacher_logits=logits(),
        student_embedding=embedding(6),
        teacher_embedding=embedding(8),
        data_samples=[sample([[5.0, 8.0, 60.0, 70.0]], 3), sample([[50.0, 30.0, 90.0, 120.0]], 9)],
    )


def call(loss, batch):
    takes = inspect.signature(loss.forward).parameters
    torch.manual_seed(5)  # random masks
    return loss.parts(**{name: value for name, value in batch.items() if name in takes})


def tensors(batch, side):
    for name, value in batch.items():
        if name.startswith(side):
            yield from value if isinstance(value, tuple) else (value,)


@pytest.fixture(params=ROWS, ids=lambda row: f'{row[0]}-{row[1]}')
def row(request):
    return request.param


def test_its_arguments_are_those_of_the_vocabulary(row):
    takes = inspect.signature(build(*row).forward).parameters
    needed = [name for name, p in takes.items() if p.default is p.empty]
    assert set(needed) <= set(records()), 'the distiller fills in these alone by their names'
    assert any(name.startswith('student_') for name in needed)


def test_parts_are_scalars_and_forward_is_their_sum(row):
    loss, batch = build(*row), records()
    parts = call(loss, batch)
    assert parts and all(part.shape == () for part in parts.values())
    takes = inspect.signature(loss.forward).parameters
    torch.manual_seed(5)
    total = loss(**{name: value for name, value in batch.items() if name in takes})
    torch.testing.assert_close(total, sum(parts.values()))
    assert total > 0


def test_the_gradient_reaches_the_student_and_all_parameters_and_not_the_teacher(row):
    loss, batch = build(*row), records()
    sum(call(loss, batch).values()).backward()
    assert all(x.grad is None for x in tensors(batch, 'teacher'))
    reached = [x.grad for x in tensors(batch, 'student') if x.grad is not None]
    assert any(bool(grad.abs().sum() > 0) for grad in reached)
    # a parameter without a gradient would stop DistributedDataParallel
    assert [name for name, p in loss.named_parameters() if p.grad is None] == []


def test_a_factor_of_the_loss_is_a_factor_of_every_part(row):
    name, index = row
    plain, batch = build(name, index), records()
    torch.manual_seed(0)
    weighted = dict(CASES[name][index])
    weighted['loss_weight'] = 2.5 * weighted.get('loss_weight', 1.0)
    heavy = as_its_hooks_do(MODELS.build(dict(type=name, **weighted)))
    parts, more = call(plain, batch), call(heavy, batch)
    for key, value in parts.items():
        torch.testing.assert_close(more[key], 2.5 * value)


def test_a_second_run_from_the_same_state_gives_the_same(row):
    first, second = (
        {k: v.item() for k, v in call(build(*row), records()).items()} for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_nan_stays_nan(row, side):
    loss, batch = build(*row), records(grad=False)
    for x in tensors(batch, side):
        x.view(-1)[0] = float('nan')
    assert torch.isnan(sum(call(loss, batch).values()))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_gives_the_same_to_its_precision(row, dtype):
    loss, batch = build(*row), records()
    exact = sum(call(loss, batch).values()).item()
    with torch.autocast('cpu', dtype):
        rough = sum(call(loss, batch).values())
    assert rough.item() == pytest.approx(exact, rel=0.03)


def in_float64(batch, shift=0.0):
    """The batch in float64, of float32 values that are not near 0; the student's moved by up to ``shift``."""

    def there(name, x):
        x = (x.detach() + 0.1 * x.detach().sign()).double()
        if name.startswith('student'):
            x = x + shift * torch.linspace(0, 1, x.numel(), dtype=x.dtype).view_as(x)
        return x

    return batch | {
        name: tuple(there(name, x) for x in value)
        if isinstance(value, tuple)
        else there(name, value)
        for name, value in batch.items()
        if name != 'data_samples'
    }


def test_float64_stays(row):
    loss = build(*row).double()
    if isinstance(loss, CrossKDLoss):
        for model in loss._heads.values():
            model.double()
    if isinstance(loss, TeacherHeadLoss):
        loss._teacher.double()
    # the second is the same in float32
    first, second = (call(loss, in_float64(records(), shift)) for shift in (0.0, 1e-10))
    assert all(part.dtype == torch.float64 for part in first.values())
    assert sum(first.values()) != sum(second.values())


def test_its_state_can_be_saved_from_the_start(row):
    # tools/train.py writes no checkpoint with a value that is not finite
    loss = build(*row)
    for when in ('new', 'after a step'):
        state = loss.state_dict()
        assert [k for k, v in state.items() if not torch.isfinite(v.float()).all()] == [], when
        call(loss, records())


def test_weights_out_of_range_are_refused(row):
    name, index = row
    for weight in (-1.0, float('nan'), float('inf'), 'much'):
        with pytest.raises(ValueError, match='loss_weight of .* must be a finite number >= 0'):
            MODELS.build(dict(type=name, **dict(CASES[name][index], loss_weight=weight)))


def moved(batch, device):
    """The batch on a device, its tensors leaves again."""

    def there(x):
        return x.detach().to(device).requires_grad_(x.requires_grad)

    out = {
        name: tuple(map(there, value)) if isinstance(value, tuple) else there(value)
        for name, value in batch.items()
        if name != 'data_samples'
    }
    for sample in batch['data_samples']:
        sample.gt_instances = sample.gt_instances.to(device)
        sample.gt_label = sample.gt_label.to(device)
    return out | dict(data_samples=batch['data_samples'])


@pytest.mark.parametrize(
    'device',
    [
        'cpu',
        pytest.param(
            'cuda',
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device'),
        ),
    ],
)
def test_a_device_changes_no_value(row, device):
    loss, batch = build(*row), records()
    exact = {name: part.item() for name, part in call(loss, batch).items()}
    torch.manual_seed(6)
    takes = inspect.signature(loss.forward).parameters
    own = {name: value for name, value in batch.items() if name in takes}
    # numbers of a device's generator are its own: a loss that draws some is only looked at for its sense
    draws = {name: part.item() for name, part in loss.parts(**own).items()} != exact
    loss, batch = build(*row, device), moved(records(), device)
    parts = call(loss, batch)
    sum(parts.values()).backward()
    for name, part in parts.items():
        assert part.device.type == device and part.isfinite()
        if not draws:
            assert part.item() == pytest.approx(exact[name], rel=1e-3, abs=1e-5)
    reached = [x.grad for x in tensors(batch, 'student') if x.grad is not None]
    assert reached and all(grad.isfinite().all() for grad in reached)
