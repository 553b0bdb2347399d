"""The command line of tools/convert_cifar_teacher.py, run as a user runs it."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dpk_mm.models.backbones import CIFARWideResNet

ROOT = Path(__file__).resolve().parents[2]


def convert(*args):
    return subprocess.run(
        [sys.executable, str(ROOT / 'tools' / 'convert_cifar_teacher.py'), *map(str, args)],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )


@pytest.fixture
def published(tmp_path):
    torch.manual_seed(0)
    weights = CIFARWideResNet('wrn_16_2').state_dict()
    weights.update({'fc.weight': torch.randn(100, 128), 'fc.bias': torch.randn(100)})
    path = tmp_path / 'ckpt_epoch_240.pth'
    torch.save(dict(epoch=240, model=weights, accuracy=torch.tensor(73.3)), path)
    return path, weights


def test_converted_file_has_mmpretrain_names_and_the_same_values(published, tmp_path):
    path, weights = published
    out = tmp_path / 'new' / 'wrn.pth'
    done = convert(path, out, '--arch', 'wrn_16_2')
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith('wrn.pth: 83 weights')
    converted = torch.load(out, weights_only=True)['state_dict']
    assert len(converted) == len(weights) == 83
    for key, value in weights.items():
        name = f'head.{key}' if key.startswith('fc.') else f'backbone.{key}'
        assert torch.equal(converted[name], value)


def test_wrong_network_is_refused_in_one_line_and_writes_nothing(published, tmp_path):
    path, _ = published
    out = tmp_path / 'wrong.pth'
    done = convert(path, out, '--arch', 'wrn_40_2')
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(
        f"error: {path}: The checkpoint does not fit arch 'wrn_40_2': missing"
    )
    assert "these are the weights of 'wrn_16_2'" in message
    assert not out.exists()


def test_a_write_that_fails_leaves_the_file_of_before(published, tmp_path, monkeypatch):
    path, _ = published
    out = tmp_path / 'out' / 'wrn.pth'
    out.parent.mkdir()
    out.write_text('of before')

    def half(content, file):
        Path(file).write_text('half')
        raise OSError('no such device')

    tool = str(ROOT / 'tools' / 'convert_cifar_teacher.py')
    monkeypatch.setattr(torch, 'save', half)
    monkeypatch.setattr(sys, 'argv', [tool, str(path), str(out), '--arch', 'wrn_16_2'])
    with pytest.raises(SystemExit, match='no such device'):
        runpy.run_path(tool, run_name='__main__')
    assert [(file.name, file.read_text()) for file in out.parent.iterdir()] == [
        ('wrn.pth', 'of before')
    ]
