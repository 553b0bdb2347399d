"""The entries of the classifiers' grids, by value."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from tools.experiments.classifiers import (
    METHODS,
    decision,
    form,
    forms,
    on_dist,
    settings,
    settings_of,
    student,
    teacher,
)
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
            **{
                f'{LOSS}.transforms.{stage}.{part}_depth': 1
                for stage in ('second_last', 'last')
                for part in ('encoder', 'decoder')
            },
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
    assert names[2 * len(METHODS) + 1] == 'teacher-w16-s0'
    assert names.count('baseline-s0') == 1
    entries = decision('cifar', {**chosen, 'dpk': 10.0}, (0,), (24,), form_name='head')
    with_prior, without = entries[-2:]
    assert (with_prior['name'], without['name']) == ('dpk_form-w24-s0', 'no_prior_form-w24-s0')
    assert with_prior['options'][f'{LOSS}.criterion.feature_weight'] == 10.0
    priors = {f'{LOSS}.transforms.{s}.prior': 'none' for s in ('second_last', 'last')}
    assert without['options'] == with_prior['options'] | priors


def test_a_form_is_dpk_and_its_options():
    plain = student('cifar', 'dpk', 50.0, 1, 24, named=False)
    assert form('cifar', 'dpk', 50.0, 1, 24) == plain
    found = form('cifar', 'orthogonal', 50.0, 1, 24)
    embed = {f'{LOSS}.transforms.{s}.student_embed': 'orthogonal' for s in ('second_last', 'last')}
    assert found == plain | dict(
        name='orthogonal-w24-s1', method='orthogonal', options=plain['options'] | embed
    )
    head = form('fashion', 'head', 50.0, 1, 24, config='fitnets')
    assert (head['name'], head['config'].split('/')[-1]) == ('fitnets_head-w24-s1', 'fitnets.py')
    # the error of the features weighs as much as without the head
    assert head['options'][f'{LOSS}.loss_weight'] == 1.0
    assert head['options'][f'{LOSS}.criterion.feature_weight'] == 50.0
    with pytest.raises(UsageError, match="no form 'heads'; did you mean head"):
        form('cifar', 'heads', 1.0, 0, 24)


def test_dist_in_the_place_of_kd():
    kd = student('cifar', 'kd', 0.8, 3, 24, named=False)
    entry = on_dist(kd)
    assert entry['name'] == 'dist-w24-s3'
    assert entry['config'] == 'configs/experiments/cifar/dist.py'
    assert kd['options'].keys() - entry['options'].keys() == {
        'model.distiller.distill_losses.loss_kd.loss_weight'
    }
    dpk = student('cifar', 'dpk_share', 1.0, 3, 24, named=False)
    entry = on_dist(dpk)
    assert (entry['name'], entry['method']) == ('dist_dpk_share-w24-s3', 'dist_dpk_share')
    assert entry['options'] == dpk['options']
    for config, losses in (('dist', ['loss_dist']), ('dist_dpk', ['loss_dist', 'loss_feat'])):
        cfg = Config.fromfile(ROOT / f'configs/experiments/cifar/{config}.py')
        assert sorted(cfg.model.distiller.distill_losses) == losses
    assert cfg.model.distiller.distill_losses.loss_feat == (
        Config.fromfile(ROOT / dpk['config']).model.distiller.distill_losses.loss_feat
    )


@pytest.mark.parametrize('name', forms('cifar'))
def test_a_form_builds(name):
    entry = form('cifar', name, 50.0, 0, 24)
    cfg = Config.fromfile(ROOT / entry['config'])
    cfg.merge_from_dict(entry['options'])
    init_default_scope(cfg.default_scope)
    loss = MODELS.build(cfg.model).distiller.distill_losses.loss_feat
    assert set(loss.stages) == {'second_last', 'last'}
    assert loss.loss_weight == {'head': 1.0, 'head_no_prior': 1.0, 'normalized': 2.0}.get(name, 50)


def test_unknown_names():
    with pytest.raises(UsageError, match="no method 'dkp'; did you mean dpk"):
        student('cifar', 'dkp', 1.0, 0, 24)
    with pytest.raises(UsageError, match="no pair 'mnist'"):
        settings('mnist', 24, (0,))


@pytest.mark.parametrize('name', ['cifar', 'fashion', 'hituav', 'deeppcb'])
def test_the_grids_of_settings_can_be_read(name):
    grid = load_grid(ROOT / 'tools' / 'experiments' / 'grids' / f'{name}_settings.py')
    assert grid.parts == ('val',)  # the held-out part is not seen
    assert {entry.seed for entry in grid.entries} <= {0, 100, 101}  # the teacher's, and theirs
    assert all((ROOT / entry.config).is_file() for entry in grid.entries)
