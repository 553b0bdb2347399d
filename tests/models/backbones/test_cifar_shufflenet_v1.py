import pytest
import torch
import torch.nn.functional as F

from dpk_mm.models.backbones import CIFARShuffleNetV1


@pytest.mark.parametrize('preact', [False, True])
def test_forward_recomputed_from_the_weights(preact, eval_net, recomputed, shuffled, images):
    net = eval_net(CIFARShuffleNetV1, out_indices=(0, 1, 2, 3), preact=preact)
    r = recomputed(net)
    x = F.relu(r.bn('bn1', r.conv('conv1', images)))
    expected = [x]
    for stage, units in ((1, 4), (2, 8), (3, 4)):
        for unit in range(units):
            name = f'layer{stage}.{unit}'
            stride = 2 if unit == 0 else 1
            groups = 1 if stage == 1 and unit == 0 else 3
            out = F.relu(r.bn(f'{name}.bn1', r.conv(f'{name}.conv1', x, groups=groups)))
            out = shuffled(out, groups)
            out = F.relu(r.bn(f'{name}.bn2', r.depthwise(f'{name}.conv2', out, stride)))
            out = r.bn(f'{name}.bn3', r.conv(f'{name}.conv3', out, groups=3))
            before = out + x if unit else torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], 1)
            x = F.relu(before)
        expected.append(before if preact else x)
    if preact:
        expected.append(x)
    torch.testing.assert_close(list(net(images)), expected, rtol=1e-4, atol=1e-4)
