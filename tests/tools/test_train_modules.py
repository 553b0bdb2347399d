"""tools/train_modules.py on a folder of a few generated images."""

import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from ..helpers.small_runs import build, classifier, distilled

TOOL = Path(__file__).parents[2] / 'tools' / 'train_modules.py'


@pytest.fixture
def run(monkeypatch):
    """Runs the tool in this process."""

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', [TOOL.name, *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name='__main__')

    return call


@pytest.fixture
def config(tmp_path):
    """A distillation without a teacher's checkpoint, and six images of noise."""
    random = np.random.default_rng(0)
    for index in range(6):
        folder = tmp_path / 'data' / f'class{index % 2}'
        folder.mkdir(parents=True, exist_ok=True)
        image = random.integers(0, 256, (64, 64, 3), np.uint8)
        cv2.imwrite(str(folder / f'{index}.png'), image)
    content = dict(
        default_scope='mmpretrain',
        model=distilled(classifier(), classifier()),
        train_dataloader=dict(
            batch_size=3,
            num_workers=0,
            dataset=dict(
                type='CustomDataset',
                data_prefix=str(tmp_path / 'data'),
                pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
            ),
            sampler=dict(type='DefaultSampler', shuffle=True),
        ),
    )
    path = tmp_path / 'config.py'
    Config(content).dump(path)
    return path


def teacher(path, seed):
    model = build(classifier())
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 4
    torch.save({'state_dict': model.state_dict()}, path)
    return path


def test_the_modules_are_those_of_the_teacher(run, config, tmp_path):
    found = []
    for number, seed in enumerate((1, 1, 2)):
        checkpoint = teacher(tmp_path / f'teacher{seed}.pth', seed)
        out = tmp_path / 'new' / f'{number}.pth'
        # once each by the option and by the config
        given = ['--teacher-ckpt', checkpoint]
        if number == 1:
            given = ['--cfg-options', f'model.teacher_ckpt={checkpoint}']
        run(config, out, '--iterations', 2, *given)
        found.append(torch.load(out, weights_only=False))
    first, same, other = (content['state_dict'] for content in found)
    assert first.keys() == same.keys() == other.keys() and len(first) > 10
    assert all(torch.equal(first[key], same[key]) for key in first)
    head = next(key for key in first if key.endswith('head.weight'))
    assert not torch.equal(first[head], other[head])
    errors = [content['meta']['errors']['loss_kd.last'] for content in found]
    assert errors[0] == errors[1] != errors[2]
    # the folder holds the modules alone, and a distillation takes them
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['0.pth', '1.pth', '2.pth']
    model = distilled(classifier(), classifier())
    model['distiller']['modules_ckpt'] = str(tmp_path / 'new' / '0.pth')
    distiller = build(model).distiller
    distiller.init_weights()
    assert torch.equal(distiller.state_dict()[head.removeprefix('distiller.')], first[head])


def test_a_missing_checkpoint_is_one_sentence(run, config, tmp_path):
    out = tmp_path / 'modules.pth'
    with pytest.raises(
        SystemExit, match='train_modules.py: the teacher has no checkpoint: give it'
    ):
        run(config, out)
    with pytest.raises(SystemExit, match=r'--teacher-ckpt: there is no file .*none\.pth'):
        run(config, out, '--teacher-ckpt', tmp_path / 'none.pth')
    with pytest.raises(SystemExit, match="teacher_ckpt: 'none.pth' does not exist"):
        run(config, out, '--cfg-options', 'model.teacher_ckpt=none.pth')
    plain = tmp_path / 'plain.py'
    Config(dict(default_scope='mmpretrain', model=classifier())).dump(plain)
    with pytest.raises(SystemExit, match='plain.py has no DPKLoss'):
        run(plain, out)
    assert not out.exists()


def test_a_write_that_fails_leaves_the_file_of_before(run, config, tmp_path, monkeypatch):
    checkpoint = teacher(tmp_path / 'teacher.pth', 1)
    out = tmp_path / 'out' / 'modules.pth'
    out.parent.mkdir()
    out.write_text('of before')

    def half(content, file):
        Path(file).write_text('half')
        raise OSError('no such device')

    monkeypatch.setattr(torch, 'save', half)
    with pytest.raises((OSError, SystemExit), match='no such device'):
        run(config, out, '--iterations', 1, '--teacher-ckpt', checkpoint)
    assert [(path.name, path.read_text()) for path in out.parent.iterdir()] == [
        ('modules.pth', 'of before')
    ]
