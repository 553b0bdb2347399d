import pytest
from mmengine.config import Config

from dpk_mm.errors import UsageError
from tools.experiments.teacher_selection.schedule import (
    check_rounds,
    length_of,
    short_length,
    shortened,
)


def config(**more):
    return Config(
        dict(
            train_cfg=dict(by_epoch=True, max_epochs=40, val_interval=1),
            param_scheduler=[
                dict(type='LinearLR', begin=0, end=500, by_epoch=False),
                dict(type='MultiStepLR', begin=0, end=40, milestones=[20, 30], by_epoch=True),
                dict(type='CosineAnnealingLR', T_max=40, end=40, eta_min=0.1),
            ],
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='x')),
            **more,
        )
    )


def test_everything_is_scaled():
    cfg = config()
    short = shortened(cfg, 0.25)
    assert length_of(short) == 10
    assert short.train_cfg.val_interval == 10
    warmup, steps, cosine = short.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 125)
    assert (steps.end, steps.milestones) == (10, [5, 8])
    assert (cosine.T_max, cosine.end, cosine.eta_min) == (10, 10, 0.1)
    assert short.default_hooks.checkpoint == dict(
        type='CheckpointHook', interval=10, max_keep_ckpts=1
    )
    assert length_of(cfg) == 40 and cfg.train_cfg.val_interval == 1


def test_a_single_scheduler_and_one_for_each_optimizer():
    cfg = Config(
        dict(
            train_cfg=dict(max_epochs=1000),
            param_scheduler=dict(
                architecture=dict(type='PolyLR', end=1000),
                distiller=[dict(type='PolyLR', end=500)],
            ),
        )
    )
    short = shortened(cfg, 0.1)
    assert length_of(short) == 100
    assert short.param_scheduler.architecture.end == 100
    assert short.param_scheduler.distiller[0].end == 50
    cfg.param_scheduler = dict(type='PolyLR', end=1000)
    assert shortened(cfg, 0.5).param_scheduler.end == 500


def test_one_epoch_is_left_and_the_schedulers_follow_it():
    short = shortened(config(), 0.001)
    assert length_of(short) == 1
    assert short.param_scheduler[2].T_max == 1
    assert short.param_scheduler[0].end == round(500 / 40)


@pytest.mark.parametrize('fraction', [0, -0.5, 1.5])
def test_other_parts(fraction):
    with pytest.raises(UsageError, match=r'must be in \(0, 1\]'):
        shortened(config(), fraction)


def test_a_config_without_a_length():
    for train in (dict(type='Loop'), dict(by_epoch=False, max_iters=1000)):
        with pytest.raises(UsageError, match='no train_cfg.max_epochs: .* that counts epochs'):
            length_of(Config(dict(train_cfg=train)))


def test_rounds_get_longer():
    check_rounds(config(), (0.1, 0.3, 1.0))
    assert [short_length(40, f) for f in (0.1, 0.3, 1.0, 0.001)] == [4, 12, 40, 1]
    with pytest.raises(UsageError, match=r'--rounds 0.01 0.02 of 40 epochs are 1, 1: each round'):
        check_rounds(config(), (0.01, 0.02))
    with pytest.raises(UsageError, match='are 20, 10'):
        check_rounds(config(), (0.5, 0.25))
    with pytest.raises(UsageError, match='are none'):
        check_rounds(config(), ())


def test_one_cycle_is_cut_and_what_would_not_begin_is_left_out():
    schedulers = [
        dict(type='OneCycleLR', eta_max=0.1, total_steps=1000, by_epoch=False),
        dict(type='LinearLR', begin=0, end=5),
        dict(type='CosineAnnealingLR', begin=5, end=40),
        dict(type='LinearLR', begin=990, end=1000, by_epoch=False),
    ]
    cfg = Config(dict(train_cfg=dict(max_epochs=40), param_scheduler=schedulers))
    short = shortened(cfg, 0.25).param_scheduler
    assert short[0].total_steps == 250
    assert [(s.get('begin'), s.get('end')) for s in short[1:]] == [(0, 1), (1, 10), (248, 250)]
    # one epoch: the warm-up takes it, and mmengine would refuse what begins at its end
    shortest = shortened(cfg, 0.025).param_scheduler
    assert [(s.get('begin'), s.get('end')) for s in shortest[1:]] == [(0, 1)]
    parts = dict(architecture=schedulers[1:3], distiller=dict(type='LinearLR', begin=30, end=40))
    cfg.param_scheduler = parts
    cut = shortened(cfg, 0.025).param_scheduler
    assert [s.type for s in cut.architecture] == ['LinearLR'] and cut.distiller == []
    assert len(cfg.param_scheduler.architecture) == 2


def test_the_warm_up_of_a_loss_takes_the_same_part():
    losses = dict(
        dkd=dict(type='DecoupledKDLoss', warmup=20),
        kd=dict(type='KDLoss'),
        a=dict(warmup=0),
        gone=None,
    )
    cfg = config(model=dict(distiller=dict(distill_losses=losses)))
    found = shortened(cfg, 0.25).model.distiller.distill_losses
    assert (found.dkd.warmup, found.a.warmup, 'warmup' in found.kd) == (5, 0, False)
    assert shortened(cfg, 0.01).model.distiller.distill_losses.dkd.warmup == 1
    assert cfg.model.distiller.distill_losses.dkd.warmup == 20
    assert found.gone is None  # a loss that was taken out
    assert shortened(config(model=dict(distiller=None)), 0.25).model.distiller is None
