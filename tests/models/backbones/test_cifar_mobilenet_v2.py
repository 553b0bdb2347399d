import torch
import torch.nn.functional as F

from dpk_mm.models.backbones import CIFARMobileNetV2


def test_forward_recomputed_from_the_weights(eval_net, recomputed, images):
    net = eval_net(CIFARMobileNetV2, out_indices=(0, 1, 2, 3, 4))
    r = recomputed(net)
    x = F.relu(r.bn('conv1.1', r.conv('conv1.0', images, stride=2)))
    after = [x]
    for group, (blocks, group_stride) in enumerate(
        [(1, 1), (2, 1), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1)]
    ):
        for block in range(blocks):
            name = f'blocks.{group}.{block}.conv'
            stride = group_stride if block == 0 else 1
            out = F.relu(r.bn(f'{name}.1', r.conv(f'{name}.0', x)))
            out = F.relu(r.bn(f'{name}.4', r.depthwise(f'{name}.3', out, stride)))
            out = r.bn(f'{name}.7', r.conv(f'{name}.6', out))
            x = out + x if out.shape == x.shape and stride == 1 else out
        after.append(x)
    embedding = F.relu(r.bn('conv2.1', r.conv('conv2.0', x)))
    # Stages: stem, then groups 1, 2, 4 and 6.
    expected = [after[0], after[2], after[3], after[5], after[7], embedding]
    torch.testing.assert_close(list(net(images)), expected, rtol=1e-4, atol=1e-4)
