"""The rows of the controls, by value."""

from pathlib import Path

import pytest

from dpk_mm.errors import UsageError
from tools.experiments.detectors import (
    FORMS,
    PAIRS,
    decision,
    form,
    rows,
    setting_entry,
    settings,
    student,
    students,
    teacher,
)
from tools.experiments.grid import format_options, load_grid

ROOT = Path(__file__).parents[3]
LOSS = 'model.distiller.distill_losses'


def test_a_row_is_a_config_and_options():
    entry = student('shapes', 'dpk_x10', 3, options={'a': 1})
    assert entry == dict(
        name='dpk_x10-w32-s3',
        config='configs/experiments/shapes/dpk.py',
        method='dpk_x10',
        seed=3,
        teacher=teacher('shapes')['name'],
        options={
            'model.teacher.backbone.base_channels': 32,
            'model.teacher.neck.in_channels': [32, 64, 128, 256],
            f'{LOSS}.loss_dpk.transforms.P4.weight': 10.0,
            f'{LOSS}.loss_dpk.transforms.P5.weight': 10.0,
            'a': 1,
        },
    )
    assert student('deeppcb', 'baseline', 1) == dict(
        name='baseline-s1',
        config='configs/experiments/deeppcb/alone.py',
        method='baseline',
        seed=1,
        options={},
    )


def test_fgd_has_the_factor_on_the_same_levels():
    assert rows('deeppcb')['fgd_x3'] == (
        'fgd',
        {f'{LOSS}.loss_fgd.levels.1.weight': 3.0, f'{LOSS}.loss_fgd.levels.2.weight': 3.0},
    )
    assert set(rows('shapes')['fgd_without'][1].values()) == {0.0}


def test_every_control_is_there():
    known = rows('shapes')
    wanted = [f'{row}_x{f}' for row in ('dpk', 'no_prior', 'fgd') for f in (3, 10, 30)]
    wanted += ['dpk', 'no_prior', 'zeros', 'teacher_only', 'sum', 'fgd', 'fgd_without']
    wanted += ['fixed_0.1', 'fixed_0.5', 'fixed_0.9', 'blocks_1_1', 'blocks_2_2', 'blocks_4_4']
    assert set(wanted) <= set(known)
    assert rows('hituav')['teacher_only'][1] == {
        'default_hooks.mask_ratio._delete_': True,
        'default_hooks.mask_ratio.type': 'mmrazor.FixedMaskRatioHook',
        'default_hooks.mask_ratio.ratio': 1.0,
    }


def test_not_inheriting_has_a_name_of_its_own():
    entry = student('shapes', 'fgd', 0, inherit=False)
    assert entry['method'] == 'fgd_not_inheriting'
    assert entry['options']['model.inherit'] is None
    assert 'model.inherit=None' in format_options(entry['options'])


def test_seed_by_seed():
    names = [e['name'] for e in students('shapes', ('baseline', 'fgd'), (0, 1))]
    assert names == ['baseline-s0', 'fgd-w32-s0', 'baseline-s1', 'fgd-w32-s1']


def test_unknown_names():
    with pytest.raises(UsageError, match="no row 'dpk_x11'; did you mean dpk_x10?"):
        student('shapes', 'dpk_x11', 0)
    with pytest.raises(UsageError, match="no data set 'coco'"):
        teacher('coco')


@pytest.mark.parametrize('name', ['shapes_controls', 'hituav_forms'])
def test_the_grids_can_be_read(name):
    grid = load_grid(ROOT / 'tools' / 'experiments' / 'grids' / f'{name}.py')
    assert {entry.config for entry in grid.entries} <= {
        config for pair in PAIRS.values() for config in pair.configs.values()
    }


def test_settings_and_decision():
    entry = setting_entry('hituav', 'dpk_apart', 'dpk_x3', 100, 16, fgd_weight=0.5)
    assert entry['name'] == 'dpk_apart-form-dpk_x3-w16-s100'
    assert (entry['method'], entry['setting']) == ('dpk_apart', {'form': 'dpk_x3'})
    assert entry['options'][f'{LOSS}.loss_dpk.loss_weight'] == 0.5
    assert entry['options'][f'{LOSS}.loss_dpk.transforms.P4.weight'] == 3.0
    shared = student('hituav', 'share_0.3', 100)['options']
    assert shared['default_hooks.gradient_share.share'] == 0.3
    entries = settings('hituav', 32, (100, 101), 1.0)
    methods = ('baseline', 'fgd', 'dpk', *FORMS)
    assert len(entries) == len({e['name'] for e in entries}) == 1 + 2 * 3 * len(methods)
    assert {e['method'] for e in settings('hituav', 32, (100,), None)}.isdisjoint(FORMS)
    # what the forms need of FGD comes before them
    of_forms = [i for i, e in enumerate(entries) if e['method'] in FORMS]
    assert min(of_forms) > max(i for i, e in enumerate(entries) if e['method'] == 'fgd')
    chosen = {'baseline': 4e-3, 'fgd': 3.0, 'dpk': 1.0, 'dpk_apart': 'dpk_x30'}
    chosen['no_prior_apart'] = 'no_prior_x3'
    found = {e['name']: e for e in decision('hituav', chosen, (0, 1), (32, 16))}
    # all and FGD without levels under the first teacher; FGD and what has a prior under the second
    assert len(found) == 1 + 2 * (5 + 1) + 1 + 2 * 3
    assert list(found)[13] == 'teacher-w16-s0'
    apart = found['dpk_apart-w16-s1']['options']
    assert apart[f'{LOSS}.loss_dpk.loss_weight'] == 3.0
    assert apart[f'{LOSS}.loss_dpk.transforms.P5.weight'] == 30.0
    assert found['fgd_without-w32-s0']['options'][f'{LOSS}.loss_fgd.loss_weight'] == 3.0
    entries = {e['name']: e for e in decision('hituav', chosen, (0, 1), (32, 16), form_name='sum')}
    # with its control under the first teacher
    assert entries.keys() - found.keys() == {
        *(f'{name}_form-w32-s{seed}' for name in ('dpk', 'no_prior') for seed in (0, 1)),
        *(f'dpk_form-w16-s{seed}' for seed in (0, 1)),
    }
    assert all(entries[name] == entry for name, entry in found.items())
    with_prior = entries['dpk_form-w32-s1']['options']
    assert with_prior[f'{LOSS}.loss_fgd.loss_weight'] == 3.0
    assert with_prior[f'{LOSS}.loss_dpk.loss_weight'] == 1.0
    priors = {f'{LOSS}.loss_dpk.transforms.{stage}.prior': 'none' for stage in ('P4', 'P5')}
    assert entries['no_prior_form-w32-s1']['options'] == with_prior | priors


def test_forms_of_the_finer_levels():
    entry = form('hituav', 'sum_fine_tied', 3, 32, 0.5, 2.0, prior=False)
    assert (entry['name'], entry['method']) == (
        'no_prior_sum_fine_tied-w32-s3',
        'no_prior_sum_fine_tied',
    )
    assert entry['config'] == 'configs/experiments/hituav/sum_fine.py'
    plain = student('hituav_fine', 'sum', 3, 32)['options']
    assert entry['options'] == plain | {
        f'{LOSS}.loss_fgd.loss_weight': 0.5,
        f'{LOSS}.loss_dpk.loss_weight': 2.0,
        **{
            f'{LOSS}.loss_dpk.transforms.{stage}.{key}': value
            for stage in ('P2', 'P3')
            for key, value in dict(
                student_embed='tied', teacher_encoder='shared', prior='none'
            ).items()
        },
    }
    # the student's own feature is not compared in the paper's form
    assert f'{LOSS}.loss_fgd.loss_weight' not in form('hituav', 'dpk_fine', 3, 32, 1, 1)['options']
    with pytest.raises(UsageError, match="no form 'sums'; did you mean sum"):
        form('hituav', 'sums', 0, 32, 1.0, 1.0)
    with pytest.raises(UsageError, match="no data set 'deeppcb_fine'"):
        form('deeppcb', 'sum_fine', 0, 32, 1.0, 1.0)
