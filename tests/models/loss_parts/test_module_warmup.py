"""How long the modules of a DPKLoss learn alone."""

import pytest
import torch
from torch import nn

from dpk_mm.engine.hooks.warmup_hook import WarmupHook
from dpk_mm.errors import UsageError
from dpk_mm.functional.feature_error import error_and_variance
from dpk_mm.models.loss_parts.module_warmup import ModuleWarmup, rebuilt
from dpk_mm.modules import DPKTransform
from tests.helpers.small_runs import build, classifier, distilled, runner

SIZES = dict(embed_dims=8, encoder_depth=1, decoder_depth=1, num_heads=2, position_grid=2)


def test_a_number_of_iterations():
    warmup = ModuleWarmup.from_config(dict(P4=nn.Identity()), 3)
    found = []
    for warmup.iteration in range(5):
        found.append(warmup.detaches('P4'))
    assert found == [True, True, True, False, False]


class Scaled(nn.Module):
    """A module whose hybrid is the teacher's feature times a factor, from the teacher's tokens alone."""

    prior = 'teacher'
    factor = 1.0

    def num_tokens(self, shape):
        return shape[0] * shape[1]

    def forward(self, student, teacher, mask_ratio, mask):
        assert mask.teacher.shape == (2, 4) and mask.student.shape == (2, 0)
        return teacher * self.factor


def test_it_ends_with_the_error_of_the_teacher_s_tokens():
    module = Scaled()
    warmup = ModuleWarmup.from_config(
        dict(P4=module, P5=module), dict(iterations=100, error=0.2, interval=2, momentum=0.5)
    )
    teacher = torch.randn(2, 3, 2, 2)
    _, variance = error_and_variance(teacher, teacher)
    energy = teacher.square().sum() / variance

    def observe(iteration, error):
        warmup.iteration, module.factor = iteration, 1 - (error / energy).sqrt()
        warmup.observe('P4', rebuilt(module, teacher, teacher)[0], teacher)
        return warmup.errors[0].item(), warmup.detaches('P4')

    assert observe(0, 0.01)[1]  # not measured before the first step
    assert observe(1, 0.01)[1]
    assert observe(2, 0.6) == (pytest.approx(0.6, rel=1e-4), True)
    assert observe(3, 0.01) == (pytest.approx(0.6, rel=1e-4), True)
    assert observe(4, 0.1) == (pytest.approx(0.35, rel=1e-4), True)
    assert observe(6, 0.04) == (pytest.approx(0.195, rel=1e-3), False)
    assert observe(8, 0.9)[1] is False  # it does not come back
    assert warmup.detaches('P5')  # each stage by itself
    warmup.iteration = 100
    assert not warmup.detaches('P5')
    again = ModuleWarmup(['P4', 'P5'], 100, error=0.2)
    again.load_state_dict(warmup.state_dict())
    again.iteration = 11
    assert [again.detaches(stage) for stage in ('P4', 'P5')] == [False, True]


def test_its_state_is_finite_before_anything_is_measured():
    warmup = ModuleWarmup(['P4', 'P5'], 3)
    assert warmup.state_dict()['errors'].tolist() == [-1.0, -1.0]
    old = dict(warmup.state_dict(), errors=torch.tensor([0.25, float('nan')]))
    warmup.load_state_dict(old)
    assert warmup.errors.tolist() == [0.25, -1.0]


def test_a_training_with_a_warmup_writes_its_checkpoints(tmp_path):
    cfg = distilled(classifier(), classifier(16))
    cfg['distiller']['distill_losses']['loss_kd']['module_warmup'] = 2
    hooks = (WarmupHook(), dict(type='mmrazor.StudentCheckpointHook'))
    runner(build(cfg), tmp_path, *hooks).train()
    assert (tmp_path / 'epoch_2.pth').is_file() and (tmp_path / 'student_best.pth').is_file()


def test_an_iteration_that_nobody_names():
    warmup = ModuleWarmup(['P4'], 3)
    with pytest.raises(UsageError, match='module_warmup, but no hook says which iteration'):
        warmup.detaches('P4')
    with torch.no_grad():  # a tool that measures
        assert not warmup.detaches('P4')


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (-1, 'module_warmup.iterations must be a whole number >= 0, but is -1'),
        (dict(error=0.3), 'module_warmup needs iterations'),
        (dict(iterations=5, limit=0.3), "module_warmup has no argument 'limit'"),
        (dict(iterations=5, error=1.5), r'module_warmup.error must be in \(0, 1\)'),
        (dict(iterations=5, interval=0), 'module_warmup.interval must be a whole number >= 1'),
        (dict(iterations=5, momentum=1.0), r'module_warmup.momentum must be in \[0, 1\)'),
        (dict(iterations=5, interval=3), 'module_warmup.interval is of the measured error, which'),
        (dict(iterations=5, momentum=0.5), 'set error=0.3, say, or leave momentum out'),
        (dict(iterations=5, error=0.3), "stage P4 does not have; leave error out, or set prior='t"),
    ],
)
def test_bad_arguments(cfg, message):
    with pytest.raises(ValueError, match=message):
        ModuleWarmup.from_config(dict(P4=DPKTransform(3, 3, prior='none', **SIZES)), cfg)
