import mmengine.optim
import pytest
import torch
from mmengine.config import Config

from dpk_mm.cli.distill.schedule import (
    check_begins,
    set_batch,
    set_ends,
    set_epochs,
    set_machine,
)
from dpk_mm.errors import UsageError
from dpk_mm.models.pairing.zoo import find_config


def read(name):
    return Config.fromfile(find_config(name, '--student').file)


def test_the_learning_rate_goes_by_the_images_of_a_step():
    cfg = read('retinanet_r18_fpn_1x_coco')  # lr 0.01 for 8 GPUs of 2 images
    rows = set_batch(cfg, None, None)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.01 * 2 / 16)
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=2)
    assert rows[0].what == 'optim_wrapper.optimizer.lr' and 'meant for 16 images' in rows[0].why
    cfg = read('retinanet_r18_fpn_1x_coco')
    assert set_batch(cfg, None, None, gpus=8) == []
    assert cfg.optim_wrapper.optimizer.lr == 0.01


def test_the_name_goes_before_an_inherited_number():
    cfg = read('rtmdet_tiny_8xb32-300e_coco')  # inherits a base_batch_size of 16
    set_batch(cfg, 16, None)
    assert cfg.train_dataloader.batch_size == 16
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.004 * 16 / 256)
    # where a schedule ends is a number of its own
    assert cfg.param_scheduler[1].eta_min == pytest.approx(0.0002 * 16 / 256)


def test_a_given_learning_rate_is_used_as_it_is():
    cfg = read('retinanet_r18_fpn_1x_coco')
    (row,) = set_batch(cfg, None, 0.5)
    assert (cfg.optim_wrapper.optimizer.lr, row.value) == (0.5, '0.5')
    with pytest.raises(UsageError, match=r'--lr 0.5: .* has no optim_wrapper.optimizer.lr'):
        set_batch(Config(dict(train_dataloader={}, optim_wrapper={})), None, 0.5)


def test_milestones_go_with_the_epochs():
    cfg = read('retinanet_r18_fpn_1x_coco')  # 12 epochs, steps at 8 and 11
    set_epochs(cfg, 24, None)
    assert cfg.train_cfg.max_epochs == 24
    assert (cfg.param_scheduler[1].milestones, cfg.param_scheduler[1].end) == ([16, 22], 24)
    assert cfg.param_scheduler[0].end == 500  # counted in iterations
    cfg = read('retinanet_r18_fpn_1x_coco')
    set_epochs(cfg, 1, None)
    assert cfg.param_scheduler[1].milestones == [1]


def rates(schedule, steps):
    """The learning rates of mmengine's own schedule, for an optimizer's 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    arguments = {k: v for k, v in schedule.items() if k not in ('type', 'convert_to_iter_based')}
    built = getattr(mmengine.optim, schedule['type'])(optimizer, **arguments)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        built.step()
    return found


def test_a_short_training_leaves_its_warm_up():
    """One step of a LinearLR is its first value, which would then be that of the whole training."""
    cfg = read('retinanet_r18_fpn_1x_coco')
    set_epochs(cfg, 1, 4)  # two iterations
    assert cfg.param_scheduler[0].end == 2
    assert rates(cfg.param_scheduler[0], 4) == pytest.approx([0.001, 1, 1, 1])
    schedules = [
        dict(type='LinearLR', start_factor=0.25, by_epoch=True, end=5),
        dict(type='ConstantLR', factor=0.1, by_epoch=True, begin=0, end=20),
    ]
    cfg = Config(
        dict(
            train_cfg=dict(max_epochs=300), param_scheduler=schedules, train_dataloader={}, model={}
        )
    )
    set_epochs(cfg, 6, None)
    assert [rates(schedule, 3)[-1] for schedule in cfg.param_scheduler] == pytest.approx([1, 1])


def test_schedules_to_the_end_of_the_training_say_where_that_is():
    cfg = read('convnext-tiny_32xb128_in1k')  # 300 epochs, of which 20 are a warm-up
    set_ends(cfg)
    assert [(s.get('begin', 0), s.end) for s in cfg.param_scheduler] == [(0, 20), (20, 300)]
    cfg = read('shufflenet-v1-1x_16xb64_in1k')  # counted in iterations, in a loop of epochs
    set_ends(cfg)
    assert [s.end for s in cfg.param_scheduler] == [5000, 10**9]
    cfg = read('shufflenet-v1-1x_16xb64_in1k')
    set_ends(cfg, unknown=False)  # that of the second follows from the batches of an epoch
    assert [s.get('end') for s in cfg.param_scheduler] == [5000, None]
    schedules = dict(type='PolyLR', by_epoch=False)
    cfg = Config(dict(train_cfg=dict(max_iters=700), param_scheduler=schedules))
    set_ends(cfg)
    assert cfg.param_scheduler.end == 700


def test_hooks_at_the_end_go_with_the_epochs():
    cfg = read('rtmdet_tiny_8xb32-300e_coco')  # 300 epochs, another pipeline from 280
    set_epochs(cfg, 30, None)
    assert cfg.custom_hooks[1].switch_epoch == 28
    assert cfg.train_cfg.dynamic_intervals is None and cfg.train_cfg.val_interval == 3
    assert (cfg.param_scheduler[1].begin, cfg.param_scheduler[1].T_max) == (15, 15)
    cfg = read('yolox_tiny_8xb8-300e_coco')  # the mode is switched for the last 15
    set_epochs(cfg, 60, None)
    assert next(h for h in cfg.custom_hooks if 'num_last_epochs' in h).num_last_epochs == 3


def test_recipes_that_are_switched_go_with_the_epochs():
    cfg = read('mobileone-s1_8xb32_in1k')  # 300 epochs, other pipelines from 37 and 112
    before = next(h for h in cfg.custom_hooks if 'schedule' in h).schedule
    assert [recipe.action_epoch for recipe in before] == [37, 112]
    set_epochs(cfg, 30, None)
    after = next(h for h in cfg.custom_hooks if 'schedule' in h).schedule
    assert [recipe.action_epoch for recipe in after] == [5, 12]
    assert after[1].pipeline == before[1].pipeline


def test_recipes_that_fall_together_are_one():
    recipes = [dict(action_epoch=3, loss='b'), dict(action_epoch=2, loss='a', batch_augments=1)]
    hook = dict(type='SwitchRecipeHook', schedule=recipes)
    cfg = Config(dict(train_cfg=dict(max_epochs=300), train_dataloader=dict(), custom_hooks=[hook]))
    set_epochs(cfg, 3, None)
    (recipe,) = cfg.custom_hooks[0].schedule
    assert recipe == dict(action_epoch=1, loss='b', batch_augments=1)


def test_a_short_training_has_checkpoints_to_go_on_from():
    cfg = read('rtmdet_tiny_8xb32-300e_coco')
    assert cfg.default_hooks.checkpoint.interval == 10
    set_epochs(cfg, 6, None)
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval == 1
    cfg = read('rtmdet_tiny_8xb32-300e_coco')
    set_epochs(cfg, 200, None)
    assert cfg.default_hooks.checkpoint.interval == 10
    loop = dict(type='IterBasedTrainLoop', max_iters=10**5, val_interval=10**4)
    hooks = dict(checkpoint=dict(interval=10**4, by_epoch=False))
    cfg = Config(dict(train_cfg=loop, default_hooks=hooks, train_dataloader=dict(batch_size=2)))
    set_epochs(cfg, 20, 200)
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval == 200


def test_an_epoch_is_one_pass():
    cfg = read('faster-rcnn_r50_fpn_1x_voc0712')  # 4 epochs of three passes each
    rows = set_epochs(cfg, 4, None)
    assert cfg.train_dataloader.dataset.times == 1
    assert [(row.what, row.value) for row in rows] == [('times of the data set', '1')]
    cfg = read('faster-rcnn_r50_fpn_1x_voc0712')
    warm_up = dict(type='LinearLR', by_epoch=False, begin=0, end=500)
    cfg.param_scheduler = [warm_up, *cfg.param_scheduler]
    assert set_epochs(cfg, None, 100)[0].value == '60 iterations'  # 4 x 3 x 50, and a tenth of it
    assert cfg.train_dataloader.dataset.times == 3


def test_warm_up_takes_no_more_than_a_tenth():
    cfg = read('retinanet_r18_fpn_1x_coco')
    rows = set_epochs(cfg, None, 100)  # 50 iterations an epoch, 600 in all
    assert cfg.param_scheduler[0].end == 60
    assert rows[-1].what == 'warm-up'
    cfg = read('retinanet_r18_fpn_1x_coco')
    assert set_epochs(cfg, None, 10**6) == []


def test_a_constant_warm_up_is_shortened_and_what_follows_begins_earlier():
    cfg = read('shufflenet-v1-1x_16xb64_in1k')  # a tenth of the rate for 5000 iterations
    set_epochs(cfg, None, 640)  # 10 iterations an epoch, 3000 in all
    warm_up, main = cfg.param_scheduler
    assert (warm_up.end, main.begin) == (300, 300)
    assert rates(warm_up, 301)[298:] == pytest.approx([0.1, 1, 1])
    schedules = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=500),
        dict(type='CosineAnnealingLR', T_max=500, by_epoch=False, begin=500, end=1000),
        dict(type='MultiStepLR', milestones=[100, 300], by_epoch=False, begin=500, end=1000),
    ]
    loop = dict(type='IterBasedTrainLoop', max_iters=1000)
    cfg = Config(dict(train_cfg=loop, param_scheduler=schedules, train_dataloader={}))
    set_epochs(cfg, None, 50)
    warm_up, cosine, steps = cfg.param_scheduler
    assert warm_up.end == cosine.begin == steps.begin == 100
    assert cosine.T_max == 900  # its end stays where it was, and so do the steps
    assert steps.milestones == [500, 700]


@pytest.mark.parametrize(
    ('schedule', 'loop', 'place'),
    [
        (dict(by_epoch=False, begin=60), dict(max_epochs=3), 'iteration 60, .* 60'),
        (dict(by_epoch=False, begin=50), dict(max_iters=50), 'iteration 50, .* 50'),
        (dict(by_epoch=False, begin=9, end=9), dict(max_epochs=3), 'iteration 9, .* 9'),
        (dict(begin=3), dict(max_epochs=3), 'epoch 3, .* 3'),
        (dict(begin=1), dict(max_iters=50), 'epoch 1, .* 1'),
    ],
)
def test_a_schedule_that_begins_after_the_end(schedule, loop, place):
    cfg = Config(dict(param_scheduler=dict(type='PolyLR', **schedule), train_cfg=loop))
    with pytest.raises(UsageError, match=f'^the config: PolyLR of .* begins at {place}'):
        check_begins(cfg, lambda: 60)
    cfg.param_scheduler.begin -= 1
    check_begins(cfg, lambda: 60)


def test_the_iterations_of_a_training_are_asked_for_only_where_they_matter():
    cfg = read('retinanet_r18_fpn_1x_coco')
    check_begins(cfg, lambda: pytest.fail('a data set would be read for it'))
    cfg = read('shufflenet-v1-1x_16xb64_in1k')
    check_begins(cfg)
    with pytest.raises(UsageError, match=r'PolyLR .* begins at iteration 2, .* \(at 2\)'):
        set_epochs(cfg, 1, 100)


def test_loops_of_iterations():
    cfg = read('retinanet_r18_fpn_1x_coco')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000, val_interval=100)
    cfg.param_scheduler[1].update(by_epoch=False, milestones=[800], end=1000)
    set_epochs(cfg, 4, 200)
    assert cfg.train_cfg.max_iters == 400
    assert cfg.param_scheduler[1].milestones == [320]
    set_epochs(cfg, 4, 200, gpus=4)
    assert cfg.train_cfg.max_iters == 100
    with pytest.raises(UsageError, match='the number of training images is not known'):
        set_epochs(cfg, 4, None)


def test_a_machine_of_few_cores_without_a_gpu():
    cfg = read('mask-rcnn_r50_fpn_amp-1x_coco')
    rows = set_machine(cfg, 0, cuda=False)
    assert cfg.optim_wrapper.type == 'OptimWrapper' and 'loss_scale' not in cfg.optim_wrapper
    assert cfg.train_dataloader.num_workers == 0
    assert cfg.train_dataloader.persistent_workers is False
    assert [row.what for row in rows] == ['num_workers', 'optim_wrapper.type']
    cfg = read('mask-rcnn_r50_fpn_amp-1x_coco')
    set_machine(cfg, None, cuda=True)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
