import pytest
import torch
import torch.nn.functional as F

from dpk_mm.models.backbones import MobileNetV1


def test_parameter_count_is_the_known_one():
    net = MobileNetV1()
    classifier = 1024 * 1000 + 1000
    assert sum(p.numel() for p in net.parameters()) + classifier == 4_231_976


def test_stage_shapes_at_224():
    net = MobileNetV1(out_indices=(0, 1, 2, 3)).eval()
    with torch.no_grad():
        outs = net(torch.zeros(1, 3, 224, 224))
    assert [tuple(out.shape[1:]) for out in outs] == [
        (128, 56, 56),
        (256, 28, 28),
        (512, 14, 14),
        (1024, 7, 7),
    ]


@pytest.mark.parametrize('preact', [False, True])
def test_forward_recomputed_from_the_weights(preact, eval_net, recomputed, images):
    net = eval_net(MobileNetV1, out_indices=(0, 1, 2, 3), preact=preact)
    r = recomputed(net)
    x = F.relu(r.bn('model.0.1', r.conv('model.0.0', images, stride=2)))
    expected = []
    for layer in range(1, 14):
        stride = 2 if layer in (2, 4, 6, 12) else 1
        name = f'model.{layer}'
        x = F.relu(r.bn(f'{name}.1', r.depthwise(f'{name}.0', x, stride)))
        before = r.bn(f'{name}.4', r.conv(f'{name}.3', x))
        x = F.relu(before)
        if layer in (3, 5, 11, 13):
            expected.append(before if preact else x)
    if preact:
        expected.append(x)
    torch.testing.assert_close(list(net(images)), expected, rtol=1e-4, atol=1e-4)
