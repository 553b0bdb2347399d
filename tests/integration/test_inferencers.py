"""mmdet's inferencers, given a distillation config and a file of the student."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.student_config import student_config
from tools.shapes import generate_shapes

MINI = Path(__file__).parents[2] / 'configs' / 'mini'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """The student's file, a full checkpoint, and the config with data that are there."""
    folder = tmp_path_factory.mktemp('files')
    generate_shapes(folder / 'shapes', num_train=2, num_val=2)
    cfg = Config.fromfile(str(MINI / 'faster_rcnn_dpk.py'))
    cfg.test_dataloader.dataset.data_root = f'{folder}/shapes/'
    init_default_scope('mmdet')
    torch.manual_seed(0)
    student = MODELS.build(student_config(cfg).model)
    student.init_weights()
    state, meta = student.state_dict(), dict(dataset_meta=dict(classes=('a', 'b', 'c')))
    torch.save(dict(state_dict=state, meta=meta), folder / 'plain.pth')
    full = {f'architecture.{k}': v for k, v in state.items()}
    torch.save(
        dict(state_dict={**full, 'distiller.a': torch.ones(1)}, meta=meta), folder / 'full.pth'
    )
    return folder, cfg


IMAGE = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def expected(files):
    folder, cfg = files
    return scores(student_config(cfg), folder / 'plain.pth')


def scores(cfg, weights):
    # a copy: mmdet changes the loading step of the pipeline that it is given
    inferencer = DetInferencer(copy.deepcopy(cfg), str(weights), device='cpu', show_progress=False)
    return inferencer(IMAGE)['predictions'][0]['scores']


@pytest.mark.parametrize('name', ['plain.pth', 'full.pth'])
def test_the_inferencer_has_the_students_weights(files, expected, name):
    folder, cfg = files
    assert len(expected) > 0 and scores(cfg, folder / name) == expected


def test_init_detector_with_the_config_of_the_distillation(files, expected):
    folder, cfg = files
    # without cfg_options it looks for model.backbone, which only a plain model has
    own = copy.deepcopy(cfg)  # the model keeps it, and the loading step is changed in it
    model = init_detector(own, str(folder / 'plain.pth'), device='cpu', cfg_options={})
    assert inference_detector(model, IMAGE).pred_instances.scores.tolist() == expected
