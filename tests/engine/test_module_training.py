"""Modules learn to rebuild the teacher's feature without a student."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn

from dpk_mm.engine.module_training import train_modules
from dpk_mm.errors import UsageError


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Conv2d(3, width, 1)

    def forward(self, x):
        return self.body(x)


def model(student=4, teacher=4, **changes):
    init_default_scope('mmrazor')
    torch.manual_seed(0)
    stage = dict(index=0, student_channels=student, teacher_channels=teacher, embed_dims=16)
    stage.update(encoder_depth=1, decoder_depth=1, num_heads=2, position_grid=2, **changes)
    distiller = MODELS.build(
        dict(
            type='DPKDistiller',
            records=dict(feats='body'),
            distill_losses=dict(loss_dpk=dict(type='DPKLoss', transforms=dict(P4=stage))),
        )
    )
    net, own = Net(teacher), Net(student)
    distiller.prepare_from_teacher(net)
    distiller.prepare_from_student(own)

    def record(inputs, samples):
        with torch.no_grad(), distiller.teacher_recorders:
            net(inputs)

    return SimpleNamespace(
        distiller=distiller,
        student=own,
        record_teacher=record,
        data_preprocessor=lambda batch, training: dict(inputs=batch),
    )


def batches(n=3):
    g = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, 2, 2, generator=g) for _ in range(n)]


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_the_error_falls_and_the_student_stays():
    made = model()
    before, seen = weights(made.student), []
    found = train_modules(
        made, batches(), 120, lr=5e-3, report=lambda i, e: seen.append((i, e['loss_dpk.P4']))
    )
    assert [i for i, _ in seen] == list(range(1, 121))  # the data are begun again
    first, last = (sum(e for _, e in part) / 10 for part in (seen[:10], seen[-10:]))
    assert last < 0.3 * first
    assert found == {'loss_dpk.P4': seen[-1][1]}
    assert all(torch.equal(v, before[k]) for k, v in weights(made.student).items())
    assert not any(r.data_buffer for r in made.distiller.teacher_recorders.recorders.values())


@pytest.mark.parametrize(('channels', 'learns'), [(4, True), (6, False)])
def test_which_encoders_learn(channels, learns):
    made = model(student=channels)
    transform = made.distiller.distill_losses.loss_dpk.transforms.P4
    before = weights(transform)
    train_modules(made, batches(), 3)
    changed = {
        k.split('.')[0] for k, v in weights(transform).items() if not torch.equal(v, before[k])
    }
    assert {'teacher_embed', 'teacher_encoder', 'decoder', 'head'} <= changed
    assert ('student_embed' in changed) is learns


def test_a_shared_encoder_learns_from_the_teacher():
    made = model(student=6, teacher_encoder='shared')
    transform = made.distiller.distill_losses.loss_dpk.transforms.P4
    before = weights(transform)
    train_modules(made, batches(), 3)
    changed = {
        k.split('.')[0] for k, v in weights(transform).items() if not torch.equal(v, before[k])
    }
    assert 'student_encoder' in changed and 'student_embed' not in changed


def test_maps_are_cut_into_windows_as_in_the_distillation():
    made, sizes = model(max_tokens=1), set()
    transform = made.distiller.distill_losses.loss_dpk.transforms.P4
    transform.register_forward_hook(
        lambda module, inputs, output: sizes.add(tuple(inputs[1].shape))
    )
    train_modules(made, batches(), 1)
    assert sizes == {(16, 4, 1, 1)}  # four windows of each image


def test_what_cannot_be_trained():
    with pytest.raises(UsageError, match="P4 takes no tokens of the teacher's and has 6 channels"):
        train_modules(model(student=6, prior='none'), batches(), 1)
    with pytest.raises(UsageError, match='iterations must be at least 1'):
        train_modules(model(), batches(), 0)
    with pytest.raises(UsageError, match='the training data have no batch'):
        train_modules(model(), [], 1)
    made = model()
    made.distiller.distill_losses = nn.ModuleDict()
    with pytest.raises(UsageError, match='the config has no DPKLoss'):
        train_modules(made, batches(), 1)
