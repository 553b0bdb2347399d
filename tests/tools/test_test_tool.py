"""tools/test.py in the work folder of the training, where it writes by default."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

import tools.test as tool
from dpk_mm.analysis.report.runs import load_run

from ..helpers.small_runs import build, classifier, distilled

TOOL = Path(__file__).parents[2] / 'tools' / 'test.py'


def test_the_config_of_the_training_stays(tmp_path, monkeypatch):
    images = tmp_path / 'images' / 'class0'
    images.mkdir(parents=True)
    for index in range(2):
        cv2.imwrite(str(images / f'{index}.png'), np.full((64, 64, 3), 90 * index, np.uint8))
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=dict(type='CustomDataset', data_prefix=str(images.parent), pipeline=pipeline),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    content = dict(
        default_scope='mmpretrain',
        model=distilled(classifier(), classifier(16)),
        test_dataloader=loader,
        test_cfg=dict(),
        test_evaluator=dict(type='Accuracy', topk=(1,)),
    )
    folder = tmp_path / 'work_dirs' / 'own'
    config = tmp_path / 'own.py'
    Config(content).dump(config)
    # what a training left
    logs = folder / 'stamp' / 'vis_data'
    logs.mkdir(parents=True)
    (logs / 'scalars.json').write_text(json.dumps({'iter': 1, 'epoch': 1, 'loss': 1.0}))
    (folder / 'own.py').write_bytes(config.read_bytes())
    torch.save(dict(state_dict=build(classifier()).state_dict()), tmp_path / 'student.pth')

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['test.py', 'own.py', 'student.pth', '--out', 'found.json'])
    runpy.run_path(str(TOOL), run_name='__main__')
    assert 'accuracy/top1' in json.loads(Path('found.json').read_text())
    assert (folder / 'own.py').read_bytes() == config.read_bytes()
    tested = Config.fromfile(folder / 'own_test.py')
    assert tested.model.type == 'ImageClassifier'
    run = load_run(folder)
    assert run.config_text == config.read_text()
    assert run.record['models'][0]['role'] == 'student'


def test_a_short_config_needs_no_file_of_its_teacher(tmp_path, monkeypatch):
    pipeline = [dict(type='Resize', scale=(64, 64))]
    student = dict(
        default_scope='mmpretrain',
        model=classifier(),
        train_dataloader=dict(batch_size=4, dataset=dict(type='Own', pipeline=pipeline)),
        test_dataloader=dict(batch_size=7),
        test_cfg=dict(),
        work_dir='elsewhere',
    )
    Config(student).dump(tmp_path / 'student.py')
    model = dict(type='DPKDistill', _scope_='mmrazor', method='kd', architecture='student.py')
    model['teacher'] = classifier(16)
    Config(dict(default_scope='mmpretrain', model=model)).dump(tmp_path / 'short.py')
    found = []

    def stop(cfg):
        found.append(cfg)
        sys.exit('stopped')

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(tool, 'read_student', lambda *args, **kwargs: ({}, None))
    monkeypatch.setattr(tool, 'build_runner', stop)
    monkeypatch.setattr(sys, 'argv', ['test.py', 'short.py', 'student.pth'])
    with pytest.raises(SystemExit, match='stopped'):
        tool.main()
    assert found[0].model.type == 'ImageClassifier'
    assert found[0].test_dataloader.batch_size == 7
    assert found[0].work_dir == './work_dirs/short'
