"""Every config of `configs/methods/` builds, and holds the method that its name says."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.models.loss_parts import DistillLoss
from tests.helpers.meta import parameters_on_meta

CONFIGS = Path(__file__).parents[1] / 'configs' / 'methods'
FILES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob('*.py'))


@pytest.mark.parametrize('name', FILES)
def test_config_builds_the_method_of_its_name(name):
    cfg = Config.fromfile(CONFIGS / name)
    Config.fromstring(cfg.pretty_text, '.py')  # the run's copy of the config can be read again
    init_default_scope(cfg.default_scope)
    with parameters_on_meta():
        model = MODELS.build(cfg.model)
    assert type(model).__name__ == 'DPKDistill'
    losses = model.distiller.distill_losses
    assert any(key.removeprefix('loss_') in Path(name).stem for key in losses)
    assert all(isinstance(loss, DistillLoss) for loss in losses.values())


@pytest.mark.parametrize('name', FILES)
def test_config_is_a_pair_and_a_method(name):
    lines = (CONFIGS / name).read_text().splitlines()
    assert lines[0].startswith("_base_ = '../../_base_/pairs/")
    assert len(lines) <= 10


@pytest.mark.parametrize('name', [f for f in FILES if f.startswith('mini/faster_rcnn')])
def test_a_training_step_of_a_small_detector(name):
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
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
