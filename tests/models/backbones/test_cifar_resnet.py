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
