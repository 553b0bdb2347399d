"""The entries of the classifiers' grids, by value."""

from pathlib import Path

import pytest

from dpk_mm.errors import UsageError
from tools.experiments.classifiers import METHODS, decision, settings, settings_of, student, teacher
from tools.experiments.grid import load_grid

ROOT = Path(__file__).parents[3]
LOSS = 'model.distiller.distill_losses.loss_feat'


def test_a_student_with_its_setting():
    assert student('cifar', 'no_prior_share', 0.3, 2, 12) == dict(
        name='no_prior_share-share-0.3-w12-s2',
        config='configs/experiments/cifar/dpk.py',
        method='no_prior_share',
        seed=2,
        setting={'share': 0.3},
        teacher=teacher('cifar', 12)['name'],
        options={
            'default_hooks.gradient_share.type': 'mmrazor.GradientShareHook',
            'default_hooks.gradient_share.loss': 'loss_feat',
            'default_hooks.gradient_share.share': 0.3,
            'model.teacher.backbone.arch.widths': [12, 12, 24, 48],
            'model.teacher.head.in_channels': 48,
            f'{LOSS}.transforms.second_last.teacher_channels': 24,
            f'{LOSS}.transforms.second_last.prior': 'none',
            f'{LOSS}.transforms.last.teacher_channels': 48,
            f'{LOSS}.transforms.last.prior': 'none',
        },
    )
    entry = student('fashion', 'fitnets', 50.0, 0, 24, named=False)
    assert (entry['name'], entry['setting']) == ('fitnets-w24-s0', {})
    assert entry['options'][f'{LOSS}.loss_weight'] == 50.0


def test_every_method_has_as_many_settings():
    assert {len(settings_of(pair, m)) for pair in ('cifar', 'fashion') for m in METHODS} == {3}
    entries = settings('cifar', 24, (100, 101))
    assert len(entries) == 1 + 2 * 3 * len(METHODS)
    assert len({entry['name'] for entry in entries}) == len(entries)


def test_the_decision_has_the_baseline_once():
    chosen = {method: settings_of('fashion', method)[0] for method in METHODS}
    names = [e['name'] for e in decision('fashion', chosen, (0, 1), (24, 16))]
    assert len(names) == len(set(names)) == 2 + 2 * (2 * len(METHODS) - 1)
    assert names.count('baseline-s0') == 1


def test_unknown_names():
    with pytest.raises(UsageError, match="no method 'dkp'; did you mean dpk"):
        student('cifar', 'dkp', 1.0, 0, 24)
    with pytest.raises(UsageError, match="no pair 'mnist'"):
        settings('mnist', 24, (0,))


@pytest.mark.parametrize('name', ['cifar', 'fashion', 'hituav', 'deeppcb'])
def test_the_grids_of_settings_can_be_read(name):
    grid = load_grid(ROOT / 'tools' / 'experiments' / 'grids' / f'{name}_settings.py')
    assert grid.parts == ('val',)  # the held-out part is not seen
    assert {entry.seed for entry in grid.entries} == {0, 100, 101}  # the teacher's, and theirs
    assert all((ROOT / entry.config).is_file() for entry in grid.entries)
