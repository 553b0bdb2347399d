import pytest
import torch
from mmengine.registry import MODELS

from dpk_mm.errors import UsageError
from dpk_mm.models.backbones import CIFARVGG, CIFARResNet, CIFARShuffleNetV2, CIFARWideResNet


def shapes(net):
    return [tuple(out.shape[1:]) for out in net(torch.zeros(1, 3, 32, 32))]


def test_embedding_is_not_repeated_when_it_is_the_last_stage_asked_for():
    net = CIFARResNet('resnet20', out_indices=(2, 3)).eval()
    assert shapes(net) == [(32, 16, 16), (64, 8, 8)]


@pytest.mark.parametrize('out_indices', [(), (0,), (1, 2), (3, 2), (-2,)])
def test_last_output_is_what_the_head_reads_whichever_stages_are_asked_for(out_indices):
    torch.manual_seed(0)
    for cls, arch in ((CIFARResNet, 'resnet8x4'), (CIFARWideResNet, 'wrn_16_2')):
        reference = cls(arch).eval()
        net = cls(arch, out_indices=out_indices).eval()
        net.load_state_dict(reference.state_dict())
        x = torch.randn(2, 3, 32, 32)
        outs = net(x)
        torch.testing.assert_close(outs[-1], reference(x)[-1], rtol=0, atol=0)
        assert len(outs) == len(out_indices) + 1
        for index, out in zip(out_indices, outs, strict=False):
            assert out.shape[1] == net.stage_channels[index]


def test_stages_come_in_the_order_asked_for():
    net = CIFARVGG('vgg8', out_indices=(-1, 1)).eval()
    assert shapes(net) == [(512, 4, 4), (128, 16, 16), (512, 4, 4)]


def test_preactivation_leaves_the_embedding_as_it_is():
    torch.manual_seed(0)
    plain = CIFARResNet('resnet20').eval()
    preact = CIFARResNet('resnet20', preact=True).eval()
    preact.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    stage2, stage3 = plain(x)
    before2, before3, embedding = preact(x)
    torch.testing.assert_close(embedding, stage3, rtol=0, atol=0)
    for after, before in ((stage2, before2), (stage3, before3)):
        torch.testing.assert_close(before.clamp(min=0), after, rtol=0, atol=0)
        assert before.min() < 0


@pytest.mark.parametrize('out_indices', [(4,), (-5,), (2, 2), (3, -1)])
def test_wrong_indices_are_named(out_indices):
    with pytest.raises(ValueError, match=r'CIFARResNet: out_indices=.*stages of 0\.\.3'):
        CIFARResNet('resnet20', out_indices=out_indices)


def test_unknown_arch_is_named_with_the_choice():
    with pytest.raises(ValueError, match="no arch 'resnet18'; choose one of resnet20, resnet32"):
        CIFARResNet('resnet18')


@pytest.mark.parametrize('preact', [False, True])
def test_recorded_features_are_not_overwritten(preact):
    """What hooks see at the end of every module is unchanged when the forward pass is over."""
    net = CIFARResNet('resnet20', preact=preact).train()
    seen = []

    def record(module, args, output):
        for tensor in output if isinstance(output, tuple) else (output,):
            seen.append((tensor, tensor.detach().clone()))

    for module in net.modules():
        module.register_forward_hook(record)
    net(torch.randn(4, 3, 32, 32))
    assert len(seen) > 50
    for tensor, at_the_time in seen:
        torch.testing.assert_close(tensor.detach(), at_the_time, rtol=0, atol=0)


def test_classifier_of_mmpretrain_finds_the_backbone_by_its_bare_name():
    pretrain = pytest.importorskip('mmpretrain.registry')
    pytest.importorskip('mmpretrain.models')
    cfg = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='CIFARShuffleNetV2'),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=100, in_channels=1024),
    )
    for registry in (pretrain.MODELS, MODELS):
        model = registry.build(dict(cfg, _scope_='mmpretrain'))
        assert isinstance(model.backbone, CIFARShuffleNetV2)
    assert model(torch.zeros(2, 3, 32, 32))[0].shape == (100,)


def test_published_initialisation():
    """Fan-out normal: std of 3x3 to 64 channels is sqrt(2 / (9 * 64))."""
    torch.manual_seed(0)
    net = CIFARResNet('resnet110')
    net.init_weights()
    weights = torch.cat([m.conv2.weight.flatten() for m in net.layer3])
    assert weights.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.01)
    assert net.layer3[0].bn1.weight.eq(1).all() and net.layer3[0].bn1.bias.eq(0).all()


def test_a_number_where_a_tuple_was_meant():
    with pytest.raises(UsageError, match=r'out_indices is 3, .*\(3,\) with a comma'):
        CIFARResNet('resnet20', out_indices=(3))
