"""Every config of a method builds and is documented; those of CIFAR-100 are trained for a step."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.models.loss_parts import DistillLoss
from dpk_mm.models.loss_parts.warmup import Warmup
from tests.helpers.meta import parameters_on_meta

ROOT = Path(__file__).parents[1]
METHODS = ROOT / 'configs' / 'methods'
FILES = sorted(path.relative_to(METHODS).as_posix() for path in METHODS.rglob('*.py'))
CIFAR = [name for name in FILES if name.startswith('cifar100/')]
# factors of the student's cross entropy; 1 for the others
CROSS_ENTROPY = {
    'cifar100/kd.py': 0.1,
    'cifar100/kd_standardized.py': 0.1,
    'cifar100/hard.py': 0.5,
}
# methods on features: the published loss_weight, and how many stages are compared
FEATURES = {
    'cifar100/ab.py': (1.0, 3),
    'cifar100/afd.py': (200.0, 3),
    'cifar100/at.py': (1000.0, 3),
    'cifar100/fitnet.py': (100.0, 1),
    'cifar100/ft.py': (200.0, 1),
    'cifar100/ickd.py': (2.5, 1),
    'cifar100/ofd.py': (1e-3, 3),
    'cifar100/reviewkd.py': (0.6, 4),
    'cifar100/vid.py': (1.0, 3),
}


def load(name):
    cfg = Config.fromfile(METHODS / name)
    init_default_scope(cfg.default_scope)
    return cfg


@pytest.mark.parametrize('name', FILES)
def test_it_builds(name):
    cfg = load(name)
    Config.fromstring(cfg.pretty_text, '.py')  # the run's copy of the config can be read again
    with torch.random.fork_rng(devices=[]), parameters_on_meta():
        model = MODELS.build(cfg.model)
    losses = model.distiller.distill_losses.values()
    assert losses and all(isinstance(loss, DistillLoss) for loss in losses)


@pytest.mark.parametrize('name', FILES)
def test_it_is_a_pair_and_a_method_and_documented(name):
    lines = (METHODS / name).read_text().splitlines()
    assert lines[0].startswith("_base_ = '../../_base_/pairs/")
    assert (ROOT / 'docs' / 'methods.md').read_text().count(f'methods/{name}') == 1


@pytest.mark.parametrize('name', CIFAR)
def test_the_weight_of_the_cross_entropy(name):
    loss = load(name).model.architecture.head.loss
    assert loss.get('loss_weight', 1.0) == CROSS_ENTROPY.get(name, 1.0)


@pytest.mark.parametrize('name', CIFAR)
def test_a_step_reaches_every_parameter(name):
    from mmpretrain.structures import DataSample

    cfg = load(name)
    cfg.model.teacher_ckpt = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    for loss in model.distiller.distill_losses.values():
        if isinstance(getattr(loss, 'warmup', None), Warmup):
            loss.warmup.done = 0  # as its hook does
    images = torch.rand(4, 3, 32, 32) * 255
    samples = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(i) for i in range(4)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    losses = model(**data, mode='loss')
    for key in model.distiller.distill_losses:
        values = [losses[k] for k in losses if k.split('.')[:2] == ['distill', key]]
        assert values and torch.isfinite(sum(values)) and sum(values) != 0
    model.parse_losses(losses)[0].backward()
    missing = [key for key, value in model.named_parameters() if value.grad is None]
    if cfg.find_unused_parameters:  # an initialisation without the classifier
        missing = [key for key in missing if 'head.fc' not in key]
    assert missing == []
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize('name', [f for f in FILES if f.startswith('mini/faster_rcnn')])
def test_a_training_step_of_a_small_detector(name):
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    cfg = load(name)
    torch.manual_seed(0)
    cfg.model.teacher_ckpt = None
    model = MODELS.build(cfg.model).train()
    boxes = torch.tensor(
        [[10.0, 12.0, 60.0, 70.0], [40.0, 50.0, 100.0, 90.0], [5.0, 5.0, 30.0, 25.0]]
    )
    inputs, samples = [], []
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(img_shape=(128, 128), pad_shape=(128, 128)))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 1, 2]))
        samples.append(sample)
        inputs.append(torch.randint(0, 255, (3, 128, 128), dtype=torch.uint8))
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), training=True)
    losses = model(**data, mode='loss')
    distilled = {key: value for key, value in losses.items() if key.startswith('distill.')}
    assert distilled and all(torch.isfinite(value) and value > 0 for value in distilled.values())
    sum(distilled.values()).backward()
    for loss in model.distiller.distill_losses.values():
        assert all(p.grad is not None for p in loss.parameters())
    reached = [p.grad for p in model.architecture.backbone.parameters() if p.grad is not None]
    assert any(bool(grad.any()) for grad in reached)


@pytest.mark.parametrize('name', FEATURES)
def test_methods_on_features_have_their_published_weights_and_stages(name):
    losses = dict(load(name).model.distiller.distill_losses)
    kd = losses.pop('loss_kd', None)  # only SAD is published beside it
    assert (kd and (kd.loss_weight, kd.tau)) == ((0.9, 4.0) if 'afd' in name else None)
    (loss,) = losses.values()
    assert (loss.loss_weight, len(loss.stages)) == FEATURES[name]


def test_crd_knows_the_images_of_the_training_set():
    (loss,) = load('cifar100/crd.py').model.distiller.distill_losses.values()
    assert (loss.num_images, loss.loss_weight) == (50000, 0.8)
    built = MODELS.build(dict(loss, _scope_='mmrazor'))
    assert (built.negatives, built.temperature, built.momentum) == (16384, 0.07, 0.5)
