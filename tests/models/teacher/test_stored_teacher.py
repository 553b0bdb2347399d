import pytest
import torch
from mmpretrain.structures import DataSample

from dpk_mm.models.teacher.stored_teacher import STORED, StoredTeacher


def samples(*stored):
    return [DataSample(metainfo={STORED: value.numpy()}) for value in stored]


def test_logits_pass_through_the_recorded_module():
    teacher = StoredTeacher(4, tau=2.0, source='head.fc')
    seen = []
    teacher.head.fc.register_forward_hook(lambda *args: seen.append(args[2]))
    # two kept logits; the others together have e^-1 at temperature 2
    stored = torch.tensor([0.0, -3.0, 2.0, 1.0, -1.0])
    logits = teacher(torch.zeros(1, 3, 2, 2), samples(stored))
    assert torch.equal(seen[0], logits)
    assert logits[0, 2] == 0 and logits[0, 1] == -3
    rest = (logits[0, [0, 3]] / 2).exp().sum()
    torch.testing.assert_close(rest, torch.tensor(-1.0).exp())


def test_records_of_features_are_refused():
    teacher = StoredTeacher(4)
    teacher.check_recorders(dict(logits='head.fc'))
    with pytest.raises(
        ValueError, match=r"'feats' looks at 'backbone'.*records=dict\(feats=None\)"
    ):
        teacher.check_recorders(dict(logits='head.fc', feats='backbone'))


@pytest.mark.parametrize('given', [None, [DataSample()]])
def test_without_stored_logits_it_says_what_to_do(given):
    with pytest.raises(ValueError, match='ReplayDataset with logits=FOLDER'):
        StoredTeacher(4)(torch.zeros(1, 3, 2, 2), given)
