"""A checkpoint that would run code runs none, by whichever way it comes in."""

import functools
import http.server
import os
import runpy
import struct
import sys
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dpk_mm  # noqa: F401

ROOT = Path(__file__).parents[2]
KD = 'configs/mini/fashion_cnn_kd.py'
ALONE = 'configs/mini/fashion_cnn_none.py'


@pytest.fixture(autouse=True)
def own_place(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('LOCAL_RANK', '0')


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / 'it_ran'
    yield path
    assert not path.exists()


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def save(path, payload):
    state = dict(
        meta=dict(epoch=1, iter=1, seed=0),
        state_dict=OrderedDict(w=torch.zeros(1)),
        optimizer={},
        message_hub={},
        extra=payload,
    )
    torch.save(state, path)
    return str(path)


@pytest.fixture
def hostile(tmp_path, marker):
    return save(tmp_path / 'epoch_1.pth', Payload(marker))


def test_the_payload_is_real(hostile, tmp_path):
    torch.load(hostile, weights_only=False)
    (tmp_path / 'it_ran').unlink()  # fails where it did not run


@pytest.fixture
def options(tmp_path):
    """A handful of noise images in place of the data set."""
    for name, count in (('train', 16), ('t10k', 8)):
        for kind, array in (
            ('images-idx3', np.zeros((count, 28, 28), np.uint8)),
            ('labels-idx1', np.arange(count, dtype=np.uint8) % 10),
        ):
            head = struct.pack('>BBBB', 0, 0, 8, array.ndim)
            head += struct.pack(f'>{array.ndim}I', *array.shape)
            (tmp_path / f'{name}-{kind}-ubyte').write_bytes(head + array.tobytes())
    loaders = ('train', 'val', 'test')
    result = [f'{name}_dataloader.dataset.data_root={tmp_path}' for name in loaders]
    result += [f'{name}_dataloader.num_workers=0' for name in loaders]
    result += [f'{name}_dataloader.persistent_workers=False' for name in loaders]
    result += ['train_dataloader.batch_size=8', 'train_dataloader.dataset.indices=None']
    return [*result, 'train_cfg.max_epochs=1']


def tool(script, *arguments):
    """Runs a command of ours; what it says when it ends early."""
    before = sys.argv
    sys.argv = [script, *map(str, arguments)]
    try:
        runpy.run_path(str(ROOT / 'tools' / script), run_name='__main__')
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = before


def assert_refused(said, name):
    assert said is not None, 'it was not refused'
    assert f'{name} was not loaded, because it refers to posix.system' in said
    assert '\n' not in said


def train(tmp_path, config, options, *arguments):
    options = ['--cfg-options', *options]
    return tool('train.py', config, '--work-dir', tmp_path / 'run', *arguments, *options)


def test_teacher(tmp_path, hostile, options):
    assert_refused(train(tmp_path, KD, options, '--teacher-ckpt', hostile), hostile)


def test_teacher_by_address(tmp_path, hostile, options, monkeypatch):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}/epoch_1.pth'
        assert_refused(train(tmp_path, KD, options, '--teacher-ckpt', address), address)
        # the second time from torch's folder of downloads
        assert list((tmp_path / 'torch').rglob('epoch_1.pth'))
        assert_refused(train(tmp_path, KD, options, '--teacher-ckpt', address), address)
        server.shutdown()


def test_resume_from_a_file(tmp_path, hostile, options):
    said = train(tmp_path, ALONE, options, '--resume', hostile)
    assert_refused(said, hostile)


def test_resume_from_the_newest(tmp_path, marker, options):
    (tmp_path / 'run').mkdir()
    path = save(tmp_path / 'run' / 'epoch_1.pth', Payload(marker))
    (tmp_path / 'run' / 'last_checkpoint').write_text(path)
    assert_refused(train(tmp_path, ALONE, options, '--resume'), path)


def test_resume_does_not_execute_the_text_of_a_config(tmp_path, marker, options):
    """mmengine reads `meta['config']` as Python, which no unpickling guard would notice."""
    text = f'import os\nos.system("touch {marker}")\ngpu_ids = [0]\n'
    assert train(tmp_path, ALONE, options) is None
    path = tmp_path / 'run' / 'epoch_1.pth'
    state = torch.load(path)
    state['meta']['config'] = text
    torch.save(state, path)
    options = [*options[:-1], 'train_cfg.max_epochs=2']
    assert train(tmp_path, ALONE, options, '--resume') is None
    assert (tmp_path / 'run' / 'epoch_2.pth').exists()


def test_weights_to_start_from(tmp_path, hostile, options):
    said = train(tmp_path, ALONE, [*options, f'load_from={hostile}'])
    assert_refused(said, hostile)


def test_weights_of_the_backbone(tmp_path, hostile, options):
    init = 'model.backbone.init_cfg'
    options = [*options, f'{init}.type=Pretrained', f'{init}.checkpoint={hostile}']
    assert_refused(train(tmp_path, ALONE, options), hostile)


@pytest.mark.parametrize('config', [KD, ALONE])
def test_test(tmp_path, hostile, options, config):
    arguments = [config, hostile, '--work-dir', tmp_path / 'run', '--cfg-options', *options]
    assert_refused(tool('test.py', *arguments), hostile)


def test_export(tmp_path, hostile):
    assert_refused(tool('export_student.py', hostile, tmp_path / 'student.pth'), hostile)
    assert not (tmp_path / 'student.pth').exists()


def test_linear_probe(tmp_path, hostile):
    for part in ('train', 'val'):
        for name in ('a', 'b'):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new('RGB', (8, 8)).save(tmp_path / part / name / '1.png')
    said = tool('analysis/linear_probe.py', ALONE, hostile, '--data', tmp_path)
    assert_refused(said, hostile)


def test_convert_cifar_teacher(tmp_path, hostile):
    said = tool('convert_cifar_teacher.py', hostile, tmp_path / 'teacher.pth')
    assert said and 'posix.system' in str(said)
