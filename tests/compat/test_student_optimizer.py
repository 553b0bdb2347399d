"""Every registered optimizer constructor, with a distillation in place of the plain student: rates by value."""

import importlib

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, init_default_scope
from torch import nn

from dpk_mm.errors import UsageError
from tests.helpers.small_runs import build, classifier, convnext, distilled, runner

for name in ('mmdet.engine', 'mmpretrain.engine', 'mmrazor.engine'):
    importlib.import_module(name)

ADAMW = dict(type='AdamW', lr=0.01, weight_decay=0.05)
MMDET = dict(decay_rate=0.5, num_layers=4)
MMPRETRAIN = dict(
    layer_decay_rate=0.5,
    norm_decay_mult=0.0,
    bias_decay_mult=0.0,
    custom_keys={'.gamma': dict(decay_mult=0.5)},
)
DEFAULT = dict(
    norm_decay_mult=0.0,
    custom_keys=dict(head=dict(lr_mult=10.0), backbone=dict(lr_mult=0.1, decay_mult=0.5)),
)

# scope.Name -> the settings with which it is tried on a student
ROWS = {
    'mmengine.DefaultOptimWrapperConstructor': [DEFAULT],
    'mmdet.LearningRateDecayOptimizerConstructor': [
        dict(MMDET, decay_type='layer_wise'),
        dict(MMDET, decay_type='stage_wise'),
    ],
    'mmpretrain.LearningRateDecayOptimWrapperConstructor': [MMPRETRAIN],
    # of several optimizers: refused before training, see test_upstream_hooks.py
    'mmrazor.SeparateOptimWrapperConstructor': [],
}


def registered(registry):
    found = {
        f'{kind.__module__.split(".")[0]}.{name}': registry.scope
        for name, kind in registry.module_dict.items()
        if kind.__module__.split('.')[0] != 'dpk_mm'
    }
    for child in registry.children.values():
        found.update(registered(child))
    return found


def test_every_registered_constructor_has_a_row():
    missing = sorted(set(registered(OPTIM_WRAPPER_CONSTRUCTORS)) - set(ROWS))
    assert not missing, (
        f'{", ".join(missing)}: registered, but not tried with a DPKDistill. Add a row to ROWS with settings for a '
        'small ConvNeXt; the rates of the student have to be those that it would have alone.'
    )


def settings_of(model, wrapper):
    """Name of each parameter -> what decides its step."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: {k: group.get(k) for k in ('lr', 'weight_decay', 'lr_scale')}
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    }


class Wrapped(nn.Module):
    """As DistributedDataParallel holds a model."""

    def __init__(self, module):
        super().__init__()
        self.module = module


CASES = [(key, settings) for key, rows in ROWS.items() for settings in rows]


@pytest.mark.parametrize('key, settings', CASES)
@pytest.mark.parametrize('way', ['plain', 'wrapped', 'part'])
def test_the_student_has_the_rates_that_it_would_have_alone(key, settings, way):
    student, teacher = convnext(8), convnext(16)
    alone, model = build(student), build(distilled(student, teacher))
    init_default_scope('mmpretrain')
    cfg = dict(constructor=key, optimizer=ADAMW, paramwise_cfg=settings)
    if key.startswith('mmengine'):
        cfg['constructor'] = key.split('.')[1]
    expected = settings_of(alone, build_optim_wrapper(alone, ConfigDict(cfg)))
    assert len({row['lr'] for row in expected.values()}) > 1  # the settings do something
    if way == 'part':
        other = dict(optimizer=dict(type='AdamW', lr=0.02, weight_decay=0.0))
        joint = dict(
            constructor='mmrazor.DPKOptimWrapperConstructor', architecture=cfg, distiller=other
        )
        found = {}
        for wrapper in build_optim_wrapper(model, ConfigDict(joint)).values():
            found.update(settings_of(model, wrapper))
    else:
        given = Wrapped(model) if way == 'wrapped' else model
        wrapper = build_optim_wrapper(given, ConfigDict(cfg))
        assert type(wrapper) is OptimWrapper
        found = settings_of(model, wrapper)
    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, row in expected.items():
        assert found[f'architecture.{name}'] == row, name
    base = (0.02, 0.0) if way == 'part' else (0.01, 0.05)
    for name, row in found.items():
        if name.startswith('distiller.'):
            assert row['lr'] == base[0], name
            norm = 'norm_decay_mult' in settings and '.norm' in name
            bias = 'bias_decay_mult' in settings and name.endswith('.bias')
            if way != 'part':
                assert row['weight_decay'] == (0.0 if norm or bias else base[1]), name


def test_a_key_that_names_the_distiller_reaches_it():
    model = build(distilled(classifier(), classifier(16)))
    keys = dict(
        head=dict(lr_mult=10.0), distiller=dict(lr_mult=3.0), architecture=dict(lr_mult=2.0)
    )
    cfg = ConfigDict(optimizer=ADAMW, paramwise_cfg=dict(custom_keys=keys))
    found = settings_of(model, build_optim_wrapper(model, cfg))
    rates = {name: row['lr'] for name, row in found.items()}
    for name, rate in rates.items():
        # the longest key decides, as in mmengine
        assert rate == pytest.approx(0.02 if name.startswith('architecture') else 0.03), name


def test_a_constructor_of_several_optimizers_is_no_part():
    model = build(distilled(classifier(), classifier(16)))
    part = dict(
        constructor='mmrazor.SeparateOptimWrapperConstructor', optimizer=dict(optimizer=ADAMW)
    )
    cfg = ConfigDict(
        constructor='mmrazor.DPKOptimWrapperConstructor',
        architecture=part,
        distiller=dict(optimizer=ADAMW),
    )
    with pytest.raises((UsageError, KeyError)):
        build_optim_wrapper(model, cfg)


@pytest.mark.parametrize('part', [False, True])
def test_it_trains_and_resumes(part, tmp_path):
    cfg = dict(
        constructor='LearningRateDecayOptimWrapperConstructor',
        optimizer=ADAMW,
        paramwise_cfg=MMPRETRAIN,
    )
    if part:
        cfg = dict(
            constructor='mmrazor.DPKOptimWrapperConstructor',
            architecture=cfg,
            distiller=dict(optimizer=ADAMW),
        )

    def train(folder, epochs, **kwargs):
        model = build(distilled(convnext(8), convnext(16)))
        run = runner(
            model,
            tmp_path / folder,
            optim_wrapper=cfg,
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
            validation=False,
            **kwargs,
        )
        before = {name: p.clone() for name, p in model.named_parameters()}
        run.train()
        return model, before

    model, before = train('a', 1)
    for name, p in model.named_parameters():
        assert not torch.equal(p, before[name]) or '.norm2.' in name, name
    resumed, _ = train('b', 2, resume=True, load_from=str(tmp_path / 'a/epoch_1.pth'))
    assert any(
        not torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True)
    )
