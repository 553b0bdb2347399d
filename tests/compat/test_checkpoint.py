import copy
import functools
import http.server
import os
import pickle
import threading
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import CheckpointLoader, Runner, checkpoint
from torch import nn
from torch.utils.data import Dataset

from dpk_mm import compat
from dpk_mm.compat import checkpoint as patch
from dpk_mm.compat import load_checkpoint_file
from dpk_mm.errors import CheckpointError, DamagedCheckpointError, UnsafeCheckpointError

compat.apply()


class Numbers(Dataset):
    METAINFO = {'classes': ('odd', 'even'), 'palette': np.arange(6, dtype=np.uint8).reshape(2, 3)}
    metainfo = METAINFO | {'info': ConfigDict(author='nobody', sizes=[1, 2])}

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {'inputs': torch.full((4,), float(index))}


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.bn = nn.BatchNorm1d(2)

    def forward(self, inputs, mode='tensor'):
        x = self.bn(self.linear(torch.stack(list(inputs))))
        return {'loss': x.square().mean()} if mode == 'loss' else x


class NumpyInfo(Hook):
    """Puts into the message hub what evaluators and hooks put there."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.message_hub.update_info('best_score', np.float64(0.25))
        runner.message_hub.update_info(
            'numpy',
            {
                'float32': np.float32(1.5),
                'int': np.int64(-3),
                'bool': np.bool_(True),
                'half': np.float16(0.5),
                'matrix': np.arange(6.0).reshape(2, 3).T,
                'flags': np.array([True, False]),
                'none': np.zeros((0, 4), dtype=np.float32),
            },
        )


def build_runner(work_dir, name, **kwargs):
    torch.manual_seed(0)
    return Runner(
        Model(),
        str(work_dir),
        experiment_name=name,
        train_dataloader={
            'batch_size': 2,
            'dataset': Numbers(),
            'sampler': {'type': DefaultSampler, 'shuffle': False},
            'collate_fn': {'type': 'pseudo_collate'},
        },
        train_cfg={'by_epoch': False, 'max_iters': 4},
        optim_wrapper={
            'type': OptimWrapper,
            'optimizer': {'type': 'AdamW', 'lr': 0.1},
            'clip_grad': {'max_norm': 1.0},
        },
        param_scheduler=[
            {'type': 'LinearLR', 'start_factor': 0.5, 'by_epoch': False, 'begin': 0, 'end': 2},
            {'type': 'MultiStepLR', 'milestones': [1, 3], 'by_epoch': False},
        ],
        custom_hooks=[NumpyInfo()],
        default_hooks={
            'checkpoint': {'type': 'CheckpointHook', 'interval': 1, 'by_epoch': False},
            'logger': {'type': 'LoggerHook', 'interval': 1},
        },
        log_level='ERROR',
        **kwargs,
    )


def test_what_a_runner_writes_is_loaded_and_resumed(tmp_path):
    whole = build_runner(tmp_path, 'whole')
    whole.train()
    path = tmp_path / 'iter_2.pth'

    saved = load_checkpoint_file(path)
    assert set(saved) >= {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers'}
    assert saved['meta']['iter'] == 2
    assert saved['meta']['dataset_meta']['classes'] == ('odd', 'even')
    assert saved['meta']['dataset_meta']['info'] == ConfigDict(author='nobody', sizes=[1, 2])
    np.testing.assert_array_equal(
        saved['meta']['dataset_meta']['palette'], Numbers.METAINFO['palette']
    )
    loss = saved['message_hub']['log_scalars']['train/loss']
    assert type(loss) is HistoryBuffer and len(loss.data[0]) == 2
    assert loss.statistics('mean') == loss.data[0].mean()
    info = saved['message_hub']['runtime_info']
    assert type(info['best_score']) is np.float64 and info['best_score'] == 0.25
    assert {k: v.dtype for k, v in info['numpy'].items()} == {
        'float32': np.float32,
        'int': np.int64,
        'bool': np.bool_,
        'half': np.float16,
        'matrix': np.float64,
        'flags': np.bool_,
        'none': np.float32,
    }
    np.testing.assert_array_equal(info['numpy']['matrix'], [[0, 3], [1, 4], [2, 5]])
    assert info['numpy']['none'].shape == (0, 4)

    # Two iterations, a stop and two more are the same as four.
    resumed = build_runner(tmp_path / 'again', 'resumed', load_from=str(path), resume=True)
    resumed.train()
    for key in ('train/loss', 'train/lr'):
        expected = whole.message_hub.get_scalar(key).data[0]
        assert len(expected) == 4 and len(set(expected)) > 2
        np.testing.assert_array_equal(resumed.message_hub.get_scalar(key).data[0], expected)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


@pytest.mark.parametrize(
    'name, arguments',
    [
        ('CosineAnnealingLR', {'T_max': 5}),
        ('PolyLR', {'power': 0.9}),
        ('OneCycleLR', {'eta_max': 1.0, 'total_steps': 10}),
        ('ReduceOnPlateauLR', {'monitor': 'loss'}),
        ('CosineRestartLR', {'periods': [5, 5], 'restart_weights': [1, 0.5], 'eta_min': 0}),
    ],
)
def test_states_of_schedulers(tmp_path, name, arguments):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1, momentum=0.9)
    state = PARAM_SCHEDULERS.get(name)(optimizer, **arguments).state_dict()
    torch.save({'param_schedulers': [state]}, tmp_path / 'x.pth')
    assert load_checkpoint_file(tmp_path / 'x.pth')['param_schedulers'] == [state]


@pytest.mark.parametrize('old, new', [(b'numpy.core.', b'numpy._core.')])
@pytest.mark.parametrize('written_by', [1, 2])
def test_files_of_either_numpy(tmp_path, old, new, written_by):
    content = {
        'x': np.float32(1.5),
        'a': np.arange(3),
        'hub': HistoryBuffer([1.0, 3.0], [1, 1]),
    }
    torch.save(content, tmp_path / 'x.pth', _use_new_zipfile_serialization=False)
    data = (tmp_path / 'x.pth').read_bytes().replace(new, old)
    assert data.count(old) >= 2
    (tmp_path / 'x.pth').write_bytes(data if written_by == 1 else data.replace(old, new))
    loaded = load_checkpoint_file(tmp_path / 'x.pth')
    assert loaded['x'] == 1.5 and loaded['x'].dtype == np.float32
    assert loaded['a'].tolist() == [0, 1, 2]
    assert loaded['hub'].mean() == 2


# What must not be loaded.


class Reduces:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def witness(path):
    """A command that leaves a file behind."""
    return f'touch {path}'


def hostile(folder):
    """Name -> an object whose loading would run something, with what the refusal names."""
    touched = folder / 'touched'
    return {
        'system': (Reduces(os.system, witness(touched)), 'posix.system'),
        'eval': (Reduces(eval, f'open({str(touched)!r}, "w").close()'), 'eval'),
        'exec': (Reduces(exec, f'open({str(touched)!r}, "w").close()'), 'exec'),
        'import': (Reduces(__import__, 'antigravity'), '__import__'),
        'partial': (functools.partial(os.system, witness(touched)), 'functools.partial'),
        # Through the stand-in for getattr.
        'getattr of a function': (
            Reduces(getattr, HistoryBuffer.mean, '__globals__'),
            'builtins.getattr',
        ),
        'getattr of a dunder': (Reduces(getattr, HistoryBuffer, '__init__'), 'builtins.getattr'),
        'getattr of a private': (
            Reduces(getattr, HistoryBuffer, '_statistics_methods'),
            'builtins.getattr',
        ),
        'getattr of an instance': (
            Reduces(getattr, HistoryBuffer([1.0], [1]), 'mean'),
            'builtins.getattr',
        ),
        'getattr of a scheduler': (
            Reduces(getattr, OneCycleParamScheduler, '_annealing_cos.__globals__'),
            'builtins.getattr',
        ),
        'getattr of torch': (Reduces(getattr, torch.Tensor, 'backward'), 'builtins.getattr'),
        # Through numpy.
        'object dtype': (Reduces(np.dtype, 'O'), 'numpy.dtype'),
        'structured dtype': (Reduces(np.dtype, [('a', 'O')]), 'numpy.dtype'),
        'object array': (np.array([1, 'a'], dtype=object), 'numpy.dtype'),
        'memory map': (Reduces(np.empty(0).__reduce__()[0], np.memmap, (0,), b'b'), 'numpy.memmap'),
        'large array': (
            Reduces(np.empty(0).__reduce__()[0], np.ndarray, (10**12,), b'b'),
            'numpy._core.multiarray._reconstruct',
        ),
    }


HOSTILE = [
    'system',
    'eval',
    'exec',
    'import',
    'partial',
    'getattr of a function',
    'getattr of a dunder',
    'getattr of a private',
    'getattr of an instance',
    'getattr of a scheduler',
    'getattr of torch',
    'object dtype',
    'structured dtype',
    'object array',
    'memory map',
    'large array',
]


def write_hostile(folder, name, zipped=True):
    payload, refused = hostile(folder)[name]
    path = folder / 'hostile.pth'
    content = {'state_dict': OrderedDict(w=torch.zeros(1)), 'meta': payload}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path, refused


def assert_refused(error, path, refused):
    message = str(error.value)
    assert message.startswith(f'{path} was not loaded, because it refers to {refused},')
    assert "save its 'state_dict' alone" in message
    assert '\n' not in message and 'weights_only' not in message
    assert error.value.__cause__ is None and error.value.__suppress_context__


def test_the_payload_is_real(tmp_path):
    pickle.loads(pickle.dumps(hostile(tmp_path)['system'][0]))
    assert (tmp_path / 'touched').exists()


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_file_is_refused(tmp_path, name, zipped):
    path, refused = write_hostile(tmp_path, name, zipped)
    with pytest.raises(UnsafeCheckpointError) as error:
        load_checkpoint_file(path)
    assert_refused(error, path, refused)
    assert not (tmp_path / 'touched').exists()


@pytest.mark.parametrize('name', ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None])
def test_mmengine_refuses_it_too(tmp_path, monkeypatch, name):
    if name:  # the gate stays closed
        monkeypatch.setenv(name, '1')
    path, refused = write_hostile(tmp_path, 'system')
    with pytest.raises(UnsafeCheckpointError) as error:
        checkpoint.load_checkpoint(Model(), str(path))
    assert_refused(error, path, refused)
    runner = build_runner(tmp_path / 'work', f'hostile {name}', load_from=str(path), resume=True)
    with pytest.raises(UnsafeCheckpointError):
        runner.train()
    assert not (tmp_path / 'touched').exists()


def test_a_dtype_keeps_its_flags_whatever_the_file_says(tmp_path):
    number = np.dtype('f8')
    flags, fields = number.flags, number.fields

    class Tampered:
        def __reduce__(self):
            state = (3, '>', None, None, None, -1, -1, 63)
            return (np.dtype, ('f8', False, True), state)

    torch.save({'x': Tampered()}, tmp_path / 'x.pth')
    loaded = load_checkpoint_file(tmp_path / 'x.pth')['x']
    assert (loaded.flags, loaded.fields, loaded.byteorder) == (flags, fields, '=')


def test_plain_torch_load_knows_the_allowed_and_only_those(tmp_path):
    torch.save({'hub': HistoryBuffer([1.0], [1])}, tmp_path / 'x.pth')
    assert torch.load(tmp_path / 'x.pth')['hub'].mean() == 1
    path, _ = write_hostile(tmp_path, 'getattr of a function')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)


@pytest.mark.parametrize('version, expected', [('2.5.1', False), ('2.6.0+cu124', True)])
def test_it_is_needed_from_torch_2_6_on(monkeypatch, version, expected):
    monkeypatch.setattr(torch, '__version__', version)
    own = {'': checkpoint.load_from_local}
    monkeypatch.setattr(CheckpointLoader, '_schemes', own)
    assert patch.needed() is expected


# Downloads.


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves ``tmp_path`` on this machine; torch keeps its downloads in a folder of its own."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()


@pytest.mark.parametrize('scheme', ['http://', 'torchvision://', 'open-mmlab://'])
def test_downloads_pass_the_same_gate(tmp_path, monkeypatch, server, scheme):
    _, refused = write_hostile(tmp_path, 'system')
    torch.save({'hub': HistoryBuffer([2.0], [1])}, tmp_path / 'good.pth')
    urls = {name: f'{server}/{name}.pth' for name in ('hostile', 'good', 'missing')}
    monkeypatch.setattr(checkpoint, 'get_torchvision_models', lambda: urls)
    monkeypatch.setattr(checkpoint, 'get_external_models', lambda: urls)
    address = urls.__getitem__ if scheme == 'http://' else scheme.__add__

    assert load_checkpoint_file(address('good'))['hub'].mean() == 2
    with pytest.raises(UnsafeCheckpointError) as error:
        load_checkpoint_file(address('hostile'))
    assert_refused(error, address('hostile'), refused)
    assert not (tmp_path / 'touched').exists()
    with pytest.raises(CheckpointError, match=r'cannot be downloaded \(HTTP Error 404'):
        load_checkpoint_file(address('missing'))


def test_every_scheme_of_mmengine_is_guarded():
    for prefix, loader in CheckpointLoader._schemes.items():
        assert loader.__wrapped__.__name__.removeprefix('_').startswith('load_from_'), prefix


# What is no checkpoint.


def content():
    return {
        'state_dict': {'w': torch.arange(400.0), 'b': torch.zeros(3)},
        'message_hub': HistoryBuffer([1.0, 2.0], [1, 1]),
        'best': np.float64(1),
    }


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('left', [0.0, 0.3, 0.6, 0.99])
def test_a_truncated_file(tmp_path, zipped, left):
    path = tmp_path / 'x.pth'
    torch.save(content(), path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])
    with pytest.raises(DamagedCheckpointError) as error:
        load_checkpoint_file(path)
    message = str(error.value)
    assert message.startswith(f'{path} is truncated or corrupt, or it is no checkpoint')
    assert '\n' not in message and error.value.__suppress_context__


def test_a_config_in_place_of_a_checkpoint(tmp_path):
    # its first letter is an opcode of pickle, which takes the rest of the line for a name
    path = tmp_path / 'config.py'
    path.write_text("custom_imports = dict(imports=['dpk_mm'])\nlr = 0.1\n")
    with pytest.raises(DamagedCheckpointError, match=r'config\.py is .* or it is no checkpoint'):
        load_checkpoint_file(path)


@pytest.mark.parametrize('zipped', [True, False])
def test_changed_bytes_end_in_our_errors_or_in_a_checkpoint(tmp_path, zipped):
    path = tmp_path / 'x.pth'
    torch.save(content(), path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        changed = bytearray(data)
        for position in generator.integers(0, min(len(data), 1500), size=3):
            changed[position] = generator.integers(256)
        path.write_bytes(changed)
        try:
            load_checkpoint_file(path)
        except CheckpointError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 20


@pytest.mark.parametrize('text', ['version https://git-lfs.github.com/spec/v1\n', '<html>', '\x80'])
def test_another_kind_of_file(tmp_path, text):
    path = tmp_path / 'x.pth'
    path.write_text(text, encoding='latin1')
    with pytest.raises(DamagedCheckpointError, match='no checkpoint'):
        load_checkpoint_file(path)


def test_a_tensor_is_no_checkpoint(tmp_path):
    torch.save(torch.zeros(2), tmp_path / 'x.pth')
    with pytest.raises(DamagedCheckpointError, match='holds a Tensor, but a dict was expected'):
        load_checkpoint_file(tmp_path / 'x.pth')


def test_a_missing_file_keeps_its_error(tmp_path):
    with pytest.raises(FileNotFoundError, match='missing.pth'):
        load_checkpoint_file(tmp_path / 'missing.pth')


def test_errors_of_memory_and_devices_are_not_the_file(tmp_path, monkeypatch):
    torch.save(content(), tmp_path / 'x.pth')
    with pytest.raises(RuntimeError, match='location') as error:
        load_checkpoint_file(tmp_path / 'x.pth', map_location='nowhere')
    assert not isinstance(error.value, CheckpointError)

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(torch, 'load', full)
    with pytest.raises(torch.OutOfMemoryError):
        load_checkpoint_file(tmp_path / 'x.pth')


def test_loading_leaves_the_statistics_of_mmengine_alone(tmp_path):
    torch.save(content(), tmp_path / 'x.pth')  # the first buffer of a process registers them
    before = copy.copy(HistoryBuffer._statistics_methods)
    load_checkpoint_file(tmp_path / 'x.pth')
    assert HistoryBuffer._statistics_methods == before
