import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpk_mm.checkpoint.student_config import student_config
from dpk_mm.cli.options import load_config

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/dpk/cifar100/resnet56_resnet20.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Of the small student of a distillation config, not trained."""
    from mmengine.registry import DefaultScope
    from mmrazor.registry import MODELS

    cfg = student_config(load_config(str(CONFIG)))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    path = tmp_path_factory.mktemp('student') / 'student.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    return path


@pytest.fixture
def run(monkeypatch):
    """Runs the tool in this process: starting another one would take longer than the work."""

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['linear_probe.py', *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools/analysis/linear_probe.py'), run_name='__main__')

    return call


def write_colours(data):
    """Six colours: a random network tells them apart, and so does a linear layer on it."""
    random = np.random.default_rng(0)
    for split, count in (('train', 8), ('val', 4)):
        for i in range(6):
            folder = data / split / f'colour{i}'
            folder.mkdir(parents=True)
            colour = [255 * (i >> bit & 1) for bit in range(3)]
            for j in range(count):
                noise = random.integers(-20, 21, (40, 40, 3))
                image = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(image).save(folder / f'{j}.png')


def test_command_prints_and_writes_the_accuracy(tmp_path, checkpoint, run, capsys):
    write_colours(tmp_path / 'data')
    out = tmp_path / 'probe.json'
    run(
        *(CONFIG, checkpoint, '--data', tmp_path / 'data', '--out', out),
        *('--device', 'cpu', '--workers', '1', '--epochs', '200'),
    )
    printed = capsys.readouterr().out
    assert '48 training and 24 test images, 6 classes; 64 features an image at 32x32' in printed
    assert 'test: top-1 100.00 %, top-5 100.00 %; training: top-1 100.00 %' in printed
    found = json.loads(out.read_text())
    assert found['top1'] == found['top5'] == found['train_top1'] == 100
    assert (found['num_train'], found['num_test'], found['dims']) == (48, 24, 64)
    assert found['image_size'] == [32, 32]
    assert found['input'] == 'features'


def test_mistake_is_told_in_one_sentence(tmp_path, checkpoint, run):
    with pytest.raises(SystemExit) as ended:
        run(CONFIG, checkpoint, '--data', tmp_path / 'nowhere', '--device', 'cpu')
    assert str(ended.value).startswith('linear_probe.py: --data: there is no folder')
