"""The patches together: what is applied, and in which order imports may come."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dpk_mm import compat


def run(code):
    """Runs code in a fresh interpreter; what it prints, as lines."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(compat.__file__).parents[2],  # where dpk_mm is found
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_apply_is_idempotent():
    assert compat.apply() == compat.apply()


def test_every_patch_says_what_it_is_for():
    compat.apply()
    rows = compat.report()
    assert [row['name'] for row in rows] == [patch.name for patch in compat.PATCHES]
    assert len({row['name'] for row in rows}) == len(rows)
    assert {row['name'] for row in rows if row['applied']} == set(compat.apply())
    for row in rows:
        assert row['symptom'] and row['obsolete_when']


def test_patches_are_not_needed_once_applied():
    compat.apply()
    assert [patch.name for patch in compat.PATCHES if patch.needed()] == []


def test_nothing_is_needed_without_the_packages(monkeypatch):
    for module in (
        'atomic_checkpoints',
        'checkpoint',
        'inplace',
        'mmrazor_joblib',
        'mmrazor_quantization',
        'ssd_head',
        'ssd_neck',
        'timm_names',
    ):
        monkeypatch.setattr(f'dpk_mm.compat.{module}.is_installed', lambda package: False)
    monkeypatch.setattr('importlib.util.find_spec', lambda package: None)
    assert [patch.name for patch in compat.PATCHES if patch.needed()] == []


# What a user may have done before: imports that work, and imports that fail and are tried again.
FAILED_FIRST = """
    import mmengine, mmcv, mmdet, mmpretrain, mmrazor
    for name in ('mmdet.models', 'mmpretrain.models', 'mmrazor.models'):
        try:
            __import__(name)
        except ImportError as error:
            print('before:', name, 'failed')
"""

USE = """
    from dpk_mm import compat
    print('applied:', *compat.apply())
    import mmdet.models, mmdet.datasets, mmdet.engine, mmdet.evaluation, mmdet.visualization
    import mmpretrain.models, mmpretrain.datasets, mmpretrain.engine, mmpretrain.evaluation
    import mmrazor.models, mmrazor.engine, mmrazor.datasets, mmrazor.structures
    from mmengine.utils.dl_utils import mmcv_full_available
    print('ops:', mmcv_full_available())
    for registry in (mmdet.registry.MODELS, mmpretrain.registry.MODELS, mmrazor.registry.MODELS):
        print('registered:', len(registry))

    import torch
    from mmcv.ops import ModulatedDeformConv2d, nms
    print('kept:', nms(torch.tensor([[0., 0, 4, 4], [0, 0, 4, 5]]), torch.ones(2), 0.5)[1].tolist())

    from mmengine.optim import build_optim_wrapper
    model = torch.nn.Sequential(torch.nn.Sequential(ModulatedDeformConv2d(1, 1, 1)))
    model[0].offsets = torch.nn.Conv2d(1, 1, 1)
    paramwise = dict(dcn_offset_lr_mult=0.1)
    optim = dict(optimizer=dict(type='SGD', lr=1.0), paramwise_cfg=paramwise)
    groups = build_optim_wrapper(model, optim).param_groups
    print('groups:', len(groups))

    from mmrazor.structures.quantization import BackendConfigs
    try:
        BackendConfigs['native']
    except NotImplementedError as error:
        print('quantization:', error)
"""


@pytest.mark.skipif('mmcv_ops' not in compat.apply(), reason='mmcv has compiled ops here')
def test_imports_in_any_order():
    before = run(FAILED_FIRST + USE)
    print(*before, sep='\n')
    after = run(USE)
    assert before[-len(after) :] == after
    assert 'before: mmdet.models failed' in before
    assert (
        'applied: mmcv_ops mmrazor_quantization checkpoint atomic_checkpoints inplace '
        'student_optimizer timm_names ssd_head ssd_neck'
    ) in after
    assert 'ops: True' in after
    assert 'kept: [0]' in after
    assert any(line.startswith('quantization: quantization with this mmrazor') for line in after)
