"""tools/train.py, up to the training itself."""

import json
import sys

import pytest
from mmengine.config import Config

import tools.train as tool

from ..helpers.small_runs import classifier


@pytest.mark.parametrize('init', [None, dict(type='Pretrained', checkpoint='other.pth')])
def test_a_short_config_takes_the_teachers_file_of_the_option(tmp_path, monkeypatch, init):
    """It was completed before: without a file it was refused, and with one that file was named."""
    model = dict(type='DPKDistill', _scope_='mmrazor', method='kd', architecture=classifier())
    model['teacher'] = classifier(16, init_cfg=init)
    dataset = dict(type='Own', pipeline=[dict(type='Resize', scale=(64, 64))])
    content = dict(
        default_scope='mmpretrain',
        model=model,
        train_dataloader=dict(batch_size=4, dataset=dataset),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
    )
    Config(content).dump(tmp_path / 'short.py')
    (tmp_path / 't.pth').touch()
    found = []

    def stop(cfg):
        found.append(cfg)
        sys.exit('stopped')

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(tool, 'build_runner', stop)
    monkeypatch.setattr(sys, 'argv', ['train.py', 'short.py', '--teacher-ckpt', 't.pth'])
    with pytest.raises(SystemExit, match='stopped'):
        tool.main()
    assert found[0].model.teacher_ckpt == 't.pth'
    rows = json.loads((tmp_path / 'work_dirs' / 'short' / 'chosen.json').read_text())
    assert 'records.logits' in [row[0] for row in rows]
    assert 'teacher_ckpt' not in [row[0] for row in rows]
