import pytest
import torch
import torch.nn.functional as F

from dpk_mm.models.backbones import CIFARShuffleNetV2


@pytest.mark.parametrize('preact', [False, True])
def test_forward_recomputed_from_the_weights(preact, eval_net, recomputed, shuffled, images):
    net = eval_net(CIFARShuffleNetV2, out_indices=(0, 1, 2, 3), preact=preact)
    r = recomputed(net)

    def conv_bn(name, number, x):
        return r.bn(f'{name}.bn{number}', r.conv(f'{name}.conv{number}', x))

    def depthwise_bn(name, number, x, stride):
        return r.bn(f'{name}.bn{number}', r.depthwise(f'{name}.conv{number}', x, stride))

    x = F.relu(r.bn('bn1', r.conv('conv1', images)))
    expected = [x]
    for stage, units in ((1, 3), (2, 7), (3, 3)):
        down = f'layer{stage}.0'
        left = F.relu(conv_bn(down, 2, depthwise_bn(down, 1, x, 2)))
        right = F.relu(conv_bn(down, 3, x))
        right = F.relu(conv_bn(down, 5, depthwise_bn(down, 4, right, 2)))
        x = shuffled(torch.cat([left, right], 1), 2)
        for unit in range(1, units + 1):
            name = f'layer{stage}.{unit}'
            half = x.shape[1] // 2
            branch = F.relu(conv_bn(name, 1, x[:, half:]))
            branch = conv_bn(name, 3, depthwise_bn(name, 2, branch, 1))
            before = torch.cat([x[:, :half], branch], 1)
            x = shuffled(torch.cat([x[:, :half], F.relu(branch)], 1), 2)
        expected.append(before if preact else x)
    expected.append(F.relu(r.bn('bn2', r.conv('conv2', x))))
    torch.testing.assert_close(list(net(images)), expected, rtol=1e-4, atol=1e-4)
