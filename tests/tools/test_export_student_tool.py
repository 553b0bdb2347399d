import pytest
import torch
from mmengine.config import Config

from tests.helpers.forked import run_tool
from tests.helpers.small_runs import build, classifier

pytest.importorskip('onnxruntime')


def test_onnx_on_the_command_line(tmp_path):
    file, config, out = tmp_path / 'model.pth', tmp_path / 'config.py', tmp_path / 'student.onnx'
    torch.save(dict(meta={}, state_dict=build(classifier()).state_dict()), file)
    Config(dict(model=classifier(), default_scope='mmpretrain')).dump(config)

    def export(*arguments):
        return run_tool('tools/export_student.py', file, out, *arguments, log=tmp_path / 'log')

    done = export('--onnx', config, '--shape', 64, 64)
    assert done.returncode == 0, done.stdout
    assert 'pixels [N, 3, 64, 64], float32, 0 to 255' in done.stdout
    assert '  logits [N, 5]' in done.stdout and '(accepted: 0.001)' in done.stdout
    again = export()
    assert again.returncode == 1
    assert 'for an ONNX file add --onnx CONFIG.' in again.stdout
