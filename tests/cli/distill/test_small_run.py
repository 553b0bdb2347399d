from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATASETS, HOOKS, DefaultScope

from dpk_mm.cli.distill.small_run import small_config
from dpk_mm.models.pairing.zoo import find_config
from tests.helpers.data_sets import write_class_folders


def read(name):
    return Config.fromfile(find_config(name, '--student').file)


def test_some_batches_of_one_epoch():
    cfg = read('yolox_tiny_8xb8-300e_coco')
    small = small_config(cfg, 2, 4, batch_size=2)
    assert small.train_dataloader.batch_size == 2
    assert small.train_dataloader.dataset.dataset.indices == 4  # two batches of two
    assert small.val_dataloader.dataset.indices == 4
    assert small.train_cfg.max_epochs == 1
    assert [hook.type for hook in small.custom_hooks] == [hook.type for hook in cfg.custom_hooks]
    assert small.param_scheduler == cfg.param_scheduler
    assert 'indices' not in cfg.train_dataloader.dataset.dataset


def test_a_schedule_that_begins_later_ends_where_it_did():
    cfg = read('convnext-tiny_32xb128_in1k')
    main = small_config(cfg, 2).param_scheduler[1]
    assert (main.begin, main.end) == (20, 300)  # of one epoch: mmengine would refuse it
    assert 'end' not in cfg.param_scheduler[1]


def test_without_a_validation():
    small = small_config(read('retinanet_r18_fpn_1x_coco'), 20)
    assert small.val_dataloader is None and small.val_cfg is None
    assert small.train_dataloader.dataset.indices == 40
    assert small.default_hooks.checkpoint.save_last is False


def test_images_from_all_over_the_data(tmp_path):
    """Class folders are read one after another: the first images are of one class."""
    folder = write_class_folders(tmp_path)
    dataset = dict(type='CustomDataset', data_root=f'{folder}/train', pipeline=[])
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            train_dataloader=dict(batch_size=1, dataset=dataset),
            val=None,
        )
    )
    for spread, labels in ((False, [0, 0, 1]), (True, [0, 1, 2])):
        small = small_config(cfg, 3, spread=spread).train_dataloader.dataset
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            built = DATASETS.build(small)
        assert [built.get_data_info(i)['gt_label'] for i in range(len(built))] == labels
    assert small_config(cfg, 9, spread=True).train_dataloader.dataset.indices == 9


def test_repeated_data_sets_are_run_once():
    cfg = read('faster-rcnn_r50_fpn_1x_voc0712')
    assert small_config(cfg, 2).train_dataloader.dataset.times == 1


@pytest.mark.parametrize('kind', [None, 'mmengine.InfiniteSampler', InfiniteSampler])
def test_a_sampler_of_a_loop_of_iterations_is_replaced(kind):
    """The epoch would never end."""
    cfg = read('retinanet_r50_fpn_90k_coco')
    assert cfg.train_dataloader.sampler.type == 'InfiniteSampler'
    if kind is not None:
        cfg.train_dataloader.sampler = dict(type=kind, seed=1)
    sampler = small_config(cfg, 2).train_dataloader.sampler
    assert sampler == dict(type='DefaultSampler', shuffle=True)


def test_any_other_sampler_stays():
    cfg = read('retinanet_r18_fpn_1x_coco')
    cfg.train_dataloader.sampler = dict(type='ClassAwareSampler', num_sample_class=1)
    assert small_config(cfg, 2).train_dataloader.sampler == cfg.train_dataloader.sampler


@pytest.mark.parametrize(('epochs', 'switched'), [(300, False), (10, True)])
def test_the_mode_of_the_last_epochs_is_that_of_the_training(epochs, switched):
    """The hook counts back from the last epoch, and here the first one is the last."""
    cfg = read('yolox_tiny_8xb8-300e_coco')  # the last 15
    cfg.train_cfg.max_epochs = epochs
    small = small_config(cfg, 2)
    settings = dict(next(h for h in small.custom_hooks if 'num_last_epochs' in h))
    settings.pop('priority')  # which the Runner takes out
    with DefaultScope.overwrite_default_scope('mmdet'):
        hook = HOOKS.build(settings)
    runner = SimpleNamespace(
        epoch=0,
        max_epochs=small.train_cfg.max_epochs,
        train_dataloader=SimpleNamespace(
            dataset=SimpleNamespace(update_skip_type_keys=lambda keys: None)
        ),
        model=SimpleNamespace(bbox_head=SimpleNamespace(use_l1=False)),
        logger=SimpleNamespace(info=lambda line: None),
    )
    hook.before_train_epoch(runner)
    assert runner.model.bbox_head.use_l1 is switched


def test_the_weights_that_a_training_starts_from_stay():
    """Gradients are measured on them."""
    cfg = read('retinanet_r18_fpn_1x_coco')
    cfg.load_from, cfg.resume = 'start.pth', True
    small = small_config(cfg, 2)
    assert (small.load_from, small.resume) == ('start.pth', False)
