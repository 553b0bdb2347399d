import pytest
import torch
import torch.nn.functional as F

from dpk_mm.models.backbones import CIFARWideResNet


@pytest.mark.parametrize('arch, blocks', [('wrn_16_2', 2), ('wrn_40_1', 6)])
@pytest.mark.parametrize('preact', [False, True])
def test_forward_recomputed_from_the_weights(arch, blocks, preact, eval_net, recomputed, images):
    net = eval_net(CIFARWideResNet, arch=arch, out_indices=(0, 1, 2, 3), preact=preact)
    r = recomputed(net)
    x = r.conv('conv1', images)
    sums = [x]
    for stage in (1, 2, 3):
        for block in range(blocks):
            name = f'block{stage}.layer.{block}'
            stride = 2 if stage > 1 and block == 0 else 1
            active = F.relu(r.bn(f'{name}.bn1', x))
            out = F.relu(r.bn(f'{name}.bn2', r.conv(f'{name}.conv1', active, stride)))
            out = r.conv(f'{name}.conv2', out)
            if f'{name}.convShortcut.weight' in r.state:
                x = out + r.conv(f'{name}.convShortcut', active, stride)
            else:
                x = out + x
        sums.append(x)
    norms = [
        sums[0],
        r.bn('block2.layer.0.bn1', sums[1]),
        r.bn('block3.layer.0.bn1', sums[2]),
        r.bn('bn1', sums[3]),
    ]
    expected = (norms if preact else sums) + [F.relu(norms[3])]
    torch.testing.assert_close(list(net(images)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('preact', [False, True])
def test_every_norm_sees_a_batch_once(preact):
    net = CIFARWideResNet('wrn_16_2', preact=preact).train()
    net(torch.randn(2, 3, 32, 32))
    counts = {k: int(v) for k, v in net.state_dict().items() if k.endswith('num_batches_tracked')}
    assert set(counts.values()) == {1}, counts
