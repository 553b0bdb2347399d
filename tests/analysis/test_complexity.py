from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import nn

from dpk_mm.analysis.complexity import count, measure_complexity
from dpk_mm.errors import UsageError
from dpk_mm.modules import DPKTransform

from ..helpers.small_runs import classifier, distilled

CONFIGS = Path(__file__).parents[2] / 'configs'
FASHION = CONFIGS / 'mini/fashion_cnn_dpk.py'


def rows_of(report):
    return {row.name: row for row in report.rows}


# Known networks and modules.


@pytest.fixture(scope='module')
def imagenet():
    """ResNet-34 -> 18 with the authors' positions, which have no parameters."""
    cfg = Config.fromfile(CONFIGS / 'dpk/imagenet/resnet34_resnet18.py')
    for stage in cfg.model.distiller.distill_losses.loss_dpk.transforms.values():
        stage.position_embedding = 'sinusoidal'
    return measure_complexity(cfg)


def test_resnets_have_their_known_counts(imagenet):
    rows = rows_of(imagenet)
    assert imagenet.image_shape == (224, 224)
    assert imagenet.proposals is None
    assert rows['student'].parameters == 11_689_512
    assert 1.81e9 < rows['student'].flops < 1.82e9
    assert rows['teacher'].parameters == 21_797_672
    assert 3.66e9 < rows['teacher'].flops < 3.68e9
    # fvcore's documented 2.5 M for torchvision's ResNet-18: convolutions and the classifier
    convolutions = 64 * 112**2 + 4 * 64 * 56**2
    for channels, side in ((128, 28), (256, 14), (512, 7)):
        convolutions += 5 * channels * side**2
    assert rows['student'].activations == convolutions + 1000
    assert rows['student'].activation_bytes == 4 * rows['student'].activations
    assert rows['student'].input_shapes == [[1, 3, 224, 224]]


def test_parts_of_a_network_add_up(imagenet):
    rows = rows_of(imagenet)
    parts = [rows[f'student.{name}'] for name in ('backbone', 'neck', 'head')]
    assert rows['student.head'].flops == 512 * 1000
    assert rows['student.head'].parameters == 513_000
    for key in ('parameters', 'flops', 'activations'):
        assert getattr(rows['student'], key) == sum(getattr(part, key) for part in parts)


def test_transformation_modules_have_the_authors_counts(imagenet):
    rows = rows_of(imagenet)
    last, second_last = rows['loss_dpk.last'], rows['loss_dpk.second_last']
    assert last.parameters == 51_483_136
    assert second_last.parameters == 12_896_512
    assert last.input_shapes == [[1, 512, 7, 7], [1, 512, 7, 7]]
    assert second_last.input_shapes == [[1, 256, 14, 14], [1, 256, 14, 14]]
    total = rows['all transformations']
    assert total.parameters == 51_483_136 + 12_896_512
    assert total.flops == last.flops + second_last.flops
    assert total.activations == last.activations + second_last.activations
    assert total.not_counted['aten::gelu'] == (
        last.not_counted['aten::gelu'] + second_last.not_counted['aten::gelu']
    )


# Operators.


def blocks(depth, n, d):
    """(FLOPs, activations) of a transformer of `depth` blocks and a closing norm on n tokens of width d."""
    if n == 0:
        return 0, 0
    products = 4 * n * d**2 + 2 * n**2 * d + 8 * n * d**2
    norms = 2 * 5 * n * d  # the library's estimate: five for each element
    return depth * (products + norms) + 5 * n * d, depth * (5 * n * d + 5 * n * d)


class AtRatio(nn.Module):
    def __init__(self, transform, ratio):
        super().__init__()
        self.transform = transform
        self.ratio = ratio

    def forward(self, student, teacher):
        return self.transform(student, teacher, self.ratio)


@pytest.mark.parametrize(('ratio', 'masked'), [(0.0, 0), (0.3, 4), (0.5, 6), (0.75, 9), (1.0, 12)])
@pytest.mark.parametrize('encode_first', [False, True])
def test_transform_equals_the_formula(ratio, masked, encode_first):
    c_s, c_t, k, d, d_dec, length = 6, 10, 2, 16, 24, 12
    transform = DPKTransform(
        *(c_s, c_t),
        patch_size=k,
        embed_dims=d,
        encoder_depth=3,
        decoder_embed_dims=d_dec,
        decoder_depth=2,
        num_heads=4,
        position_grid=(3, 4),
        encode_first=encode_first,
    )
    inputs = [torch.zeros(1, c_s, 6, 8), torch.zeros(1, c_t, 6, 8)]
    row = count('t', AtRatio(transform, ratio), inputs)
    flops = length * d * (c_s + c_t) * k**2
    activations = 2 * length * d
    # Mask first: the two encoders see (1 - pi) L and pi L tokens. Encode first: both see all.
    for tokens in (length, length) if encode_first else (length - masked, masked):
        encoder = blocks(3, tokens, d)
        flops, activations = flops + encoder[0], activations + encoder[1]
    decoder = blocks(2, length, d_dec)
    flops += length * d * d_dec + decoder[0] + length * d_dec * c_t * k**2
    activations += length * d_dec + decoder[1] + length * c_t * k**2
    assert row.flops == flops
    assert row.activations == activations
    assert row.parameters == sum(p.numel() for p in transform.parameters())
    assert row.input_shapes == [[1, 6, 6, 8], [1, 10, 6, 8]]
    assert 'aten::scaled_dot_product_attention' not in row.not_counted


class FusedAttention(nn.Module):
    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


class PlainAttention(nn.Module):
    def forward(self, q, k, v):
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


class AddedAttention(nn.Module):
    def forward(self, q, k, v):
        logits = torch.baddbmm(q.new_zeros(1, 1, 1), q[0], k[0].transpose(1, 2))
        return logits.softmax(-1) @ v


def test_fused_attention_costs_what_its_products_cost():
    q, k, v = torch.rand(1, 3, 5, 4), torch.rand(1, 3, 7, 4), torch.rand(1, 3, 7, 6)
    fused, plain, added = (
        count('', module(), [q, k, v])
        for module in (FusedAttention, PlainAttention, AddedAttention)
    )
    assert fused.flops == plain.flops == added.flops == 3 * 5 * 7 * (4 + 6)
    assert fused.activations == 3 * 5 * 6  # the logits are never kept
    assert plain.activations == added.activations == 3 * 5 * 6 + 3 * 5 * 7


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


def test_torchs_own_attention_is_not_hidden_in_one_operator():
    before = torch.backends.mha.get_fastpath_enabled()
    row = count('', SelfAttention().eval(), [torch.rand(1, 5, 8)])
    assert row.flops == 4 * 5 * 8**2 + 2 * 5**2 * 8
    assert torch.backends.mha.get_fastpath_enabled() is before


class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1, groups=2)

    def forward(self, x):
        return self.conv(x).cumsum(1).cumsum(2)


def test_what_is_not_counted_is_named():
    row = count('', Strange(), [torch.rand(1, 2, 4, 5)])
    assert row.flops == 20 * 6 * 9
    assert row.activations == 20 * 6
    assert row.not_counted == {'aten::cumsum': 2}


# Configs.


@pytest.fixture
def no_weights(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('weights were asked for')

    monkeypatch.setattr(CheckpointLoader, 'load_checkpoint', refuse)


def test_two_stage_detector(no_weights):
    report = measure_complexity(CONFIGS / 'mini/faster_rcnn_dpk.py')
    rows = rows_of(report)
    assert report.image_shape == (128, 128)
    assert report.proposals == 200
    parts = ('backbone', 'neck', 'rpn_head', 'roi_head')
    names = [
        f'{side}{part}'
        for side in ('teacher', 'student')
        for part in ('', *map('.{}'.format, parts))
    ]
    assert [row.name for row in report.rows] == [
        *names,
        *('loss_dpk.P4', 'loss_dpk.P5', 'all transformations'),
    ]
    # two shared layers, five classes and background, a box for each class
    head = 64 * 7 * 7 * 128 + 128 * 128 + 128 * 6 + 128 * 20
    assert rows['student.roi_head'].flops == 200 * head
    # strides of 4 to 64, a 3x3 convolution, one logit and one box for each of three anchors
    cells = 32**2 + 16**2 + 8**2 + 4**2 + 2**2
    assert rows['student.rpn_head'].flops == cells * (64 * 64 * 9 + 64 * 3 + 64 * 12)
    assert rows['loss_dpk.P4'].input_shapes == [[1, 64, 8, 8], [1, 64, 8, 8]]
    assert rows['loss_dpk.P5'].input_shapes == [[1, 64, 4, 4], [1, 64, 4, 4]]
    d = 64
    for level, length in (('P4', 64), ('P5', 16)):
        flops = 2 * length * 64 * d + length * d * d + length * d * 64
        flops += 2 * blocks(2, length // 2, d)[0] + blocks(2, length, d)[0]
        assert rows[f'loss_dpk.{level}'].flops == flops


def test_one_stage_detector_of_another_size():
    report = measure_complexity(CONFIGS / 'mini/retinanet_dpk.py', (64, 96), mask_ratio=0.25)
    rows = rows_of(report)
    assert (report.image_shape, report.mask_ratio, report.proposals) == ((64, 96), 0.25, None)
    assert rows['student'].input_shapes == [[1, 3, 64, 96]]
    assert rows['loss_dpk.P4'].input_shapes[1][2:] == [4, 6]
    d, length, masked = 64, 24, 6
    flops = 2 * length * 64 * d + length * d * d + length * d * 64
    flops += blocks(2, length - masked, d)[0] + blocks(2, masked, d)[0] + blocks(2, length, d)[0]
    assert rows['loss_dpk.P4'].flops == flops


def test_size_of_the_config_is_padded_as_in_training():
    cfg = Config.fromfile(CONFIGS / 'mini/retinanet_dpk.py')
    cfg.test_dataloader.dataset.pipeline[1].scale = (100, 90)  # width, height
    assert measure_complexity(cfg).image_shape == (96, 128)


def test_config_without_distillation(no_weights):
    report = measure_complexity(CONFIGS / 'mini/fashion_cnn_teacher.py')
    names = ['model', 'model.backbone', 'model.neck', 'model.head']
    assert [row.name for row in report.rows] == names
    teacher = rows_of(measure_complexity(FASHION))['teacher']
    assert (teacher.parameters, teacher.flops) == (report.rows[0].parameters, report.rows[0].flops)
    assert teacher.input_shapes == [[1, 1, 28, 28]]


def test_other_transformation_modules_of_a_config():
    cfg = Config.fromfile(FASHION)
    loss = cfg.model.distiller.distill_losses.loss_dpk
    loss.transforms = dict(
        last=dict(type='ConvTransform', index=1, student_channels=64, teacher_channels=128)
    )
    report = measure_complexity(cfg)
    assert [row.name for row in report.rows][-2:] == ['student.head', 'loss_dpk.last']
    assert report.rows[-1].parameters == 64 * 128 + 128
    assert report.rows[-1].flops == 64 * 128 * 16
    assert report.rows[-1].activations == 128 * 16


def test_distillation_without_such_modules():
    names = [row.name for row in measure_complexity(CONFIGS / 'mini/fashion_cnn_kd.py').rows]
    assert names[0] == 'teacher'
    assert names[-1] == 'student.head'


def test_model_that_would_fetch_its_weights(no_weights, monkeypatch):
    """timm downloads while it builds, other models while they start; the config is not changed."""
    timm = pytest.importorskip('timm')
    built = []
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda *a, **k: built.append(k) or create(*a, **k))
    cfg = Config.fromfile(FASHION)
    cfg.model.teacher_ckpt = 'nowhere.pth'
    cfg.model.teacher = dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        data_preprocessor=cfg.model.teacher.get('data_preprocessor'),
        pretrained='nowhere.pth',
        backbone=dict(
            type='TIMMBackbone',
            model_name='resnet10t',
            pretrained=True,
            in_channels=1,
            features_only=True,
            out_indices=(3, 4),
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
    )
    stages = cfg.model.distiller.distill_losses.loss_dpk.transforms
    stages.second_last.teacher_channels, stages.last.teacher_channels = 256, 512
    stages.second_last.resize = stages.last.resize = True  # its strides are others
    rows = rows_of(measure_complexity(cfg))
    assert [k['pretrained'] for k in built] == [False]
    assert rows['teacher.head'].parameters == 5130
    assert cfg.model.teacher_ckpt == 'nowhere.pth'
    assert cfg.model.teacher.backbone.pretrained is True


def test_counting_does_not_change_with_what_was_counted_before():
    assert measure_complexity(FASHION) == measure_complexity(FASHION)


# What a user gets wrong.


@pytest.mark.parametrize('ratio', [-0.1, 1.5])
def test_ratio_outside_of_its_range(ratio):
    with pytest.raises(UsageError, match=r'--mask-ratio must be in \[0, 1\]'):
        measure_complexity(FASHION, mask_ratio=ratio)


def test_size_below_one():
    with pytest.raises(UsageError, match='--shape'):
        measure_complexity(FASHION, (0, 28))


def test_size_that_is_not_known():
    cfg = Config.fromfile(FASHION)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.type = 'CustomDataset'
    with pytest.raises(UsageError, match='--shape HEIGHT WIDTH'):
        measure_complexity(cfg)


def test_image_too_small_for_a_patch():
    cfg = Config.fromfile(FASHION)
    cfg.model.distiller.distill_losses.loss_dpk.transforms.last.patch_size = 4
    with pytest.raises(UsageError, match='16x16 does not suit.*patch_size is 4'):
        measure_complexity(cfg, (16, 16))


def test_a_teacher_of_another_image_size():
    def rows(shape, **kwargs):
        model = distilled(classifier(), classifier(16), **kwargs)
        return rows_of(measure_complexity(Config(dict(model=model)), shape))

    plain, large = rows((64, 64)), rows((96, 128))
    found = rows((64, 64), teacher_input_size=(96, 128))
    assert found['teacher'].input_shapes == [[1, 3, 96, 128]]
    for name, row in found.items():
        # the maps are resized back before the modules
        assert row == (large if name.startswith('teacher') else plain)[name]
    assert found['teacher'].flops > 2 * plain['teacher'].flops
