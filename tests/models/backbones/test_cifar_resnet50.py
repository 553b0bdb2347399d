import pytest
import torch
import torch.nn.functional as F

from dpk_mm.models.backbones import CIFARResNet50


@pytest.mark.parametrize('preact', [False, True])
def test_forward_recomputed_from_the_weights(preact, eval_net, recomputed, images):
    net = eval_net(CIFARResNet50, out_indices=(0, 1, 2, 3, 4), preact=preact)
    r = recomputed(net)
    images = images[:1]
    x = F.relu(r.bn('bn1', r.conv('conv1', images)))
    expected = [x]
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            name = f'layer{stage}.{block}'
            stride = 2 if stage > 1 and block == 0 else 1
            shortcut = x
            if block == 0:
                shortcut = r.bn(f'{name}.shortcut.1', r.conv(f'{name}.shortcut.0', x, stride))
            out = F.relu(r.bn(f'{name}.bn1', r.conv(f'{name}.conv1', x)))
            out = F.relu(r.bn(f'{name}.bn2', r.conv(f'{name}.conv2', out, stride)))
            before = r.bn(f'{name}.bn3', r.conv(f'{name}.conv3', out)) + shortcut
            x = F.relu(before)
        expected.append(before if preact else x)
    if preact:
        expected.append(x)
    torch.testing.assert_close(list(net(images)), expected, rtol=1e-4, atol=1e-4)
