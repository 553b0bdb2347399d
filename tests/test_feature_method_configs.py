"""The configs of the methods on features: their weights, and a step of those of CIFAR-100."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.models.loss_parts import DistillLoss
from tests.helpers.meta import parameters_on_meta

ROOT = Path(__file__).parents[1]
METHODS = ROOT / 'configs' / 'methods'
# as published, see docs/methods.md: loss_weight, and how many stages are compared
PUBLISHED = {
    'cifar100/ab.py': (1.0, 3),
    'cifar100/afd.py': (200.0, 3),
    'cifar100/at.py': (1000.0, 3),
    'cifar100/fitnet.py': (100.0, 1),
    'cifar100/ft.py': (200.0, 1),
    'cifar100/ickd.py': (4.0, 1),
    'cifar100/ofd.py': (1e-3, 3),
    'cifar100/reviewkd.py': (0.6, 4),
    'cifar100/vid.py': (1.0, 3),
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpretrain')


def load(name):
    return Config.fromfile(METHODS / name)


@pytest.mark.parametrize('name', [*PUBLISHED, 'cifar100/crd.py', 'imagenet/manifold.py'])
def test_it_builds(name):
    cfg = load(name)
    Config.fromstring(cfg.pretty_text, '.py')  # the run's copy of the config can be read again
    with torch.random.fork_rng(devices=[]), parameters_on_meta():
        model = MODELS.build(cfg.model)
    losses = model.distiller.distill_losses.values()
    assert losses and all(isinstance(loss, DistillLoss) for loss in losses)
    assert f'methods/{name})' in (ROOT / 'docs' / 'methods.md').read_text()


@pytest.mark.parametrize('name', PUBLISHED)
def test_weights_and_stages_are_the_published_ones(name):
    (loss,) = load(name).model.distiller.distill_losses.values()
    assert (loss.loss_weight, len(loss.stages)) == PUBLISHED[name]


def test_crd_knows_the_images_of_the_training_set():
    (loss,) = load('cifar100/crd.py').model.distiller.distill_losses.values()
    assert (loss.num_images, loss.loss_weight) == (50000, 0.8)
    built = MODELS.build(dict(loss, _scope_='mmrazor'))
    assert (built.negatives, built.temperature, built.momentum) == (16384, 0.07, 0.5)


@pytest.mark.parametrize('name', [*PUBLISHED, 'cifar100/crd.py'])
def test_a_step_reaches_every_part_that_the_loss_compares(name):
    from mmpretrain.structures import DataSample

    cfg = load(name)
    cfg.model.teacher_ckpt = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    images = torch.rand(4, 3, 32, 32) * 255
    samples = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(i) for i in range(4)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    losses = model(**data, mode='loss')
    distilled = {key: value for key, value in losses.items() if key.startswith('distill.')}
    assert distilled and all(torch.isfinite(value) for value in distilled.values())
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    missing = [key for key, value in model.named_parameters() if value.grad is None]
    if cfg.find_unused_parameters:  # an initialisation without the classifier
        assert [key for key in missing if 'head.fc' not in key] == []
    else:
        assert missing == []
