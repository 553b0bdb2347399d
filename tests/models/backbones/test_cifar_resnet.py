import pytest
import torch
import torch.nn.functional as F

from dpk_mm.models.backbones import CIFARResNet


@pytest.mark.parametrize('arch, blocks', [('resnet20', 3), ('resnet8x4', 1)])
@pytest.mark.parametrize('preact', [False, True])
def test_forward_recomputed_from_the_weights(arch, blocks, preact, eval_net, recomputed, images):
    net = eval_net(CIFARResNet, arch=arch, out_indices=(0, 1, 2, 3), preact=preact)
    r = recomputed(net)
    x = F.relu(r.bn('bn1', r.conv('conv1', images)))
    expected = [x]
    for stage in (1, 2, 3):
        for block in range(blocks):
            name = f'layer{stage}.{block}'
            stride = 2 if stage > 1 and block == 0 else 1
            shortcut = x
            if f'{name}.downsample.0.weight' in r.state:
                shortcut = r.bn(f'{name}.downsample.1', r.conv(f'{name}.downsample.0', x, stride))
            out = F.relu(r.bn(f'{name}.bn1', r.conv(f'{name}.conv1', x, stride)))
            before = r.bn(f'{name}.bn2', r.conv(f'{name}.conv2', out)) + shortcut
            x = F.relu(before)
        expected.append(before if preact else x)
    if preact:
        expected.append(x)
    torch.testing.assert_close(list(net(images)), expected, rtol=1e-4, atol=1e-4)


def test_an_architecture_of_ones_own():
    arch = dict(depth=14, widths=(4, 6, 8, 10), strides=(2, 2, 1))
    net = CIFARResNet(arch=arch, out_indices=(0, 1, 2, 3)).eval()
    shapes = [tuple(f.shape[1:]) for f in net(torch.zeros(1, 3, 32, 32))]
    assert shapes == [(4, 32, 32), (6, 16, 16), (8, 8, 8), (10, 8, 8)]
    assert [len(net.layer1), len(net.layer2), len(net.layer3)] == [2, 2, 2]
    # without strides those of the published ones, and so the same network
    torch.manual_seed(0)
    own = CIFARResNet(arch=dict(depth=20, widths=(16, 16, 32, 64)))
    torch.manual_seed(0)
    published = CIFARResNet(arch='resnet20')
    for (name, value), other in zip(
        own.state_dict().items(), published.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name


@pytest.mark.parametrize(
    ('arch', 'message'),
    [
        (dict(depth=8), 'arch has the keys depth, but an own one takes depth, widths'),
        (dict(depth=9, widths=(8, 8, 16, 32)), 'depth must be 8, 14, 20'),
        (dict(depth=8, widths=(8, 16, 32)), 'with 4 widths'),
        (dict(depth=8, widths=(8, 8, 16, 32), strides=(2,)), '3 strides'),
    ],
)
def test_a_malformed_architecture_is_one_sentence(arch, message):
    with pytest.raises(ValueError, match=message):
        CIFARResNet(arch=arch)
