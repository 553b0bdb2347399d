"""What the losses by stage have in common."""

import torch

from dpk_mm.models.loss_parts.distill_loss import WHOLE
from dpk_mm.models.loss_parts.stage_loss import StageLoss


class Gap(StageLoss):
    def compare(self, stage, student, teacher):
        assert not torch.is_autocast_enabled('cpu')
        return (student - teacher).square().mean()


def feats():
    torch.manual_seed(0)
    return [torch.randn(2, 3, 8, 8), torch.randn(2, 4, 4, 4)]


def test_stages_are_parts_with_their_weights():
    own, given = feats(), feats()
    own[0], own[1] = own[0] + 2, own[1] + 3
    loss = Gap([dict(index=0), dict(index=1, weight=0.5)], loss_weight=10.0)
    with torch.autocast('cpu', torch.bfloat16):
        parts = loss.parts(own, given)
    assert list(parts) == ['stage0', 'stage1']
    torch.testing.assert_close(torch.stack([*parts.values()]), torch.tensor([40.0, 45.0]))
    torch.testing.assert_close(loss(own, given), torch.tensor(85.0))
    assert loss.feature_names()['teacher', 1] == 'stage1'


def test_one_stage_is_the_whole():
    parts = Gap([dict(student_index=1, teacher_index=-1)]).parts(feats(), feats())
    assert parts == {WHOLE: torch.tensor(0.0)}
