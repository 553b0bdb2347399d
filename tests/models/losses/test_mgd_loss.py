"""MGD against convolutions as sums over a window, and against mmrazor's two pieces."""

import pytest
import torch
from mmrazor.models.architectures.connectors import MGDConnector
from mmrazor.models.losses import MGDLoss

from dpk_mm.models.losses.mgd_loss import LevelMGDLoss
from tests.helpers.pyramid import SHAPES, check_against, features

SEED = 11


def masks(ratio, masked, channels=6):
    torch.manual_seed(SEED)
    shapes = [(2, 1, *size) if masked == 'positions' else (2, channels, 1, 1) for size in SHAPES]
    return [(torch.rand(shape) <= 1 - ratio).double() for shape in shapes]


def convolve(layer, x):
    """A 3x3 convolution as nine products."""
    height, width = x.shape[2:]
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    out = layer.bias[:, None, None]
    for dy in range(3):
        for dx in range(3):
            window = padded[:, :, dy : dy + height, dx : dx + width]
            out = out + torch.einsum('oc,nchw->nohw', layer.weight[:, :, dy, dx], window)
    return out


def reference(ratio, masked):
    def slow(loss, student, teacher):
        """Eq. 2 to 5."""
        total = 0.0
        for level, mask in zip(loss.levels, masks(ratio, masked), strict=True):
            key = str(level.student)
            s = student[level.student]
            if key in loss.align:
                layer = loss.align[key]
                s = torch.einsum('oc,nchw->nohw', layer.weight[:, :, 0, 0], s)
                s = s + layer.bias[:, None, None]
            first, _, second = loss.generation[key]
            generated = convolve(second, convolve(first, s * mask).clamp(min=0))
            difference = (teacher[level.teacher] - generated) ** 2
            total = total + level.weight * difference.sum() / len(s)
        return loss.loss_weight * total

    return slow


@pytest.mark.parametrize(
    ('ratio', 'masked'), [(0.65, 'positions'), (0.3, 'channels'), (0.0, 'positions')]
)
@pytest.mark.parametrize('student_channels', [6, 4])
def test_value_and_gradients_equal_a_slow_formula(student_channels, ratio, masked):
    torch.manual_seed(0)
    levels = (0, 1, dict(index=2, weight=2.0))
    loss = LevelMGDLoss(levels, student_channels, 6, ratio, masked, loss_weight=0.1)
    slow = reference(ratio, masked)
    check_against(loss, slow, features(student_channels, 1), features(6, 2), seed=SEED)


def test_it_is_the_sum_of_mmrazors():
    torch.manual_seed(0)
    loss = LevelMGDLoss((0, 1, 2), 4, 6, mask_ratio=0.65)
    student, teacher = features(4, 1), features(6, 2)
    torch.manual_seed(SEED)
    value = loss(student, teacher)
    torch.manual_seed(SEED)
    theirs = 0.0
    for i in range(3):
        connector = MGDConnector(4, 6, lambda_mgd=0.65)
        connector.align.load_state_dict(loss.align[str(i)].state_dict())
        connector.generation.load_state_dict(loss.generation[str(i)].state_dict())
        torch.manual_seed(SEED)
        for shape in SHAPES[:i]:  # the numbers that the levels before have taken
            torch.rand((2, 1, *shape))
        theirs += MGDLoss(alpha_mgd=2e-5)(connector.forward_train(student[i]), teacher[i])
    torch.testing.assert_close(value, theirs)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_its_layers_may_be_of_another_precision(dtype):
    """Of equal channels, nothing brought the student's feature to that of the generator."""
    student, teacher = features(6, 1), features(6, 2)
    torch.manual_seed(0)
    loss = LevelMGDLoss((0, 1), 6, 6, mask_ratio=0.0, loss_weight=1.0)
    exact = loss(student, teacher).item()
    value = loss.to(dtype)(student, teacher)
    assert value.item() == pytest.approx(exact, rel=0.05)
    value.backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


def test_the_share_that_is_masked():
    loss = LevelMGDLoss((0,), 1, 1, mask_ratio=0.45, loss_weight=1.0)
    loss.generation['0'] = torch.nn.Identity()
    torch.manual_seed(0)
    ones = torch.ones(1, 1, 200, 200)
    # a kept cell differs from 0 by 1
    assert loss([ones], [0 * ones]).item() / 200**2 == pytest.approx(0.55, abs=0.01)


def test_every_step_has_another_mask():
    loss = LevelMGDLoss((0, 1, 2), 6, 6)
    student, teacher = features(6, 1), features(6, 2)
    assert loss(student, teacher) != loss(student, teacher)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mask_ratio=1.0), r'mask_ratio of LevelMGDLoss must be in \[0, 1\), but is 1.0'),
        (dict(mask_ratio=-0.1), 'mask_ratio of LevelMGDLoss .* but is -0.1'),
        (dict(masked='tokens'), "masked of LevelMGDLoss must be .* but is 'tokens'"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        LevelMGDLoss(**options)
