import pytest
import torch
import torch.nn.functional as F

from dpk_mm.models.backbones import CIFARVGG


@pytest.mark.parametrize('arch, convs', [('vgg8', 1), ('vgg13', 2)])
@pytest.mark.parametrize('preact', [False, True])
def test_forward_recomputed_from_the_weights(arch, convs, preact, eval_net, recomputed, images):
    net = eval_net(CIFARVGG, arch=arch, out_indices=(0, 1, 2, 3, 4), preact=preact)
    r = recomputed(net)
    images = images[:1]
    x, expected = images, []
    for stage in range(5):
        if x.shape[-1] > 4 and stage:
            x = torch.nn.functional.max_pool2d(x, kernel_size=2, stride=2)
        for conv in range(convs):
            before = r.bn(f'block{stage}.{3 * conv + 1}', r.conv(f'block{stage}.{3 * conv}', x))
            x = F.relu(before)
        # The stem stage is the same in both lists.
        expected.append(before if preact and stage else x)
    if preact:
        expected.append(x)
    torch.testing.assert_close(list(net(images)), expected, rtol=1e-4, atol=1e-4)


def test_default_stages_are_the_last_two_resolutions():
    assert CIFARVGG('vgg8').out_indices == (2, 4)
