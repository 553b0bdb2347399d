import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from torch import nn

from dpk_mm.errors import UsageError
from dpk_mm.models.pairing.networks import read_network
from dpk_mm.models.pairing.probe import Feature, _is_stage, build, look_at
from tests.helpers.small_runs import classifier, convnext, yolox


def look(cfg, size=(64, 64), scope=None):
    network = read_network(cfg, 'model.teacher', scope)
    return look_at(build(network), network, size)


def timm(name):
    return dict(type='mmpretrain.TimmClassifier', model_name=name, pretrained=False, num_classes=5)


def vit(**kwargs):
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    return dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(type='VisionTransformer', arch=arch, img_size=64, patch_size=16, **kwargs),
        head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=32),
    )


def test_the_levels_of_a_detector():
    found = look(yolox(8), (128, 96))
    assert [(f.source, f.index, f.channels, f.cells) for f in found.features] == [
        ('neck', 0, 8, (16, 12)),
        ('neck', 1, 8, (8, 6)),
        ('neck', 2, 8, (4, 3)),
    ]
    assert (found.task, found.classes, found.logits) == ('detector', 5, None)
    assert found.attributes['family'] == 'anchor_free'
    assert 'bbox_head' in found.children


def test_the_stages_of_a_classifier():
    found = look(classifier(8))
    assert [(f.cells[0], f.channels) for f in found.features] == [
        (32, 8),
        (16, 8),
        (8, 16),
        (4, 32),
        (2, 64),
    ]
    last = found.features[-1]
    assert (last.source, last.index, last.alone) == ('backbone', 1, 'backbone.layer4')
    assert [f.source for f in found.features[1:4]] == [f'backbone.layer{i}' for i in (1, 2, 3)]
    assert (found.logits, found.classes, found.embedding) == ('head.fc', 5, 64)


def test_pooled_vectors_are_no_map():
    cfg = convnext(8)
    cfg['backbone'] = dict(cfg['backbone'], out_indices=(3,), gap_before_final_norm=True)
    cfg['neck'] = None
    found = look(cfg)
    assert found.features[-1].source == 'backbone.stages.3'
    assert found.features[-1].channels == 64


@pytest.mark.parametrize(
    ('kwargs', 'extra'), [({}, 1), (dict(with_cls_token=False, out_type='avg_featmap'), 0)]
)
def test_tokens(kwargs, extra):
    found = look(vit(**kwargs))
    assert len(found.features) == 1
    last = found.features[0]
    assert (last.source, last.index, last.channels) == ('backbone.layers.1', None, 32)
    assert (last.tokens, last.extra_tokens, last.cells, last.stride) == (True, extra, (4, 4), 16)
    assert found.own_size == (64, 64)
    assert found.logits == 'head.layers.head'


def test_the_tuple_of_a_backbone_that_returns_its_stages():
    cfg = classifier(8)
    cfg['backbone'] = dict(cfg['backbone'], out_indices=(0, 1, 2, 3))
    found = look(cfg)
    assert [(f.source, f.index, f.channels) for f in found.features] == [
        ('backbone', i, 8 * 2**i) for i in range(4)
    ]


@pytest.mark.parametrize(
    ('cells', 'expected'),
    [(196, False), (224, True), (112, True), (109, True), (32, True), (7, True)],
)
def test_attention_maps_are_no_stages(cells, expected):
    feature = Feature('x', None, 8, (cells, cells), 224 / cells)
    assert _is_stage(feature, (224, 224)) is expected


def test_a_model_that_loads_when_it_is_built():
    @MODELS.register_module(force=True)
    class LoadsEarly(nn.Module):
        def __init__(self, **kwargs):
            CheckpointLoader.load_checkpoint('https://somewhere/weights.pth')

    try:
        with pytest.raises(
            UsageError, match='it loads https://somewhere/weights.pth when it is built'
        ):
            look(dict(classifier(8), backbone=dict(type='LoadsEarly')))
    finally:
        MODELS._module_dict.pop('LoadsEarly')
    with pytest.raises(FileNotFoundError):
        CheckpointLoader.load_checkpoint('nowhere.pth')


def test_a_network_of_timm():
    pytest.importorskip('timm')
    found = look(timm('resnet18'))
    assert (found.features[-1].source, found.features[-1].channels) == ('model.layer4', 512)
    assert (found.logits, found.classes) == ('model.fc', 5)


def test_channels_at_the_end_are_said():
    pytest.importorskip('timm')
    found = look(dict(timm('swin_tiny_patch4_window7_224'), embed_dim=32), (224, 224))
    assert found.features == []
    assert 'channels last' in found.why_none
    assert found.logits == 'model.head.fc'


def test_what_has_to_compute_numbers_is_looked_at_on_small_images():
    """And cells, strides and operations are those of the images asked for."""

    @MODELS.register_module(force=True)
    class ReadsNumbers(MODELS.get('mmdet.CSPDarknet')):
        def forward(self, x):
            return super().forward(x * (1.0 + x.abs().max().item()))

    try:
        cfg = yolox(8)
        plain = look(cfg, (1088, 640))
        cfg = dict(cfg, backbone=dict(cfg['backbone'], type='mmengine.ReadsNumbers'))
        found = look(cfg, (1088, 640))
    finally:
        MODELS._module_dict.pop('ReadsNumbers')
    assert found.features == plain.features
    assert found.operations == pytest.approx(plain.operations)


def test_nothing_is_drawn_or_loaded():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    cfg = classifier(8)
    cfg['backbone'] = dict(
        cfg['backbone'], init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth')
    )
    look(cfg)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_cannot_be_built_or_run():
    with pytest.raises(UsageError, match='model.teacher: ImageClassifier cannot be built'):
        look(dict(classifier(8), no_such_argument=1))
    with pytest.raises(UsageError, match='cannot be run on images of 64x64'):
        look(dict(classifier(8), head=dict(type='LinearClsHead', num_classes=5, in_channels=7)))
