"""Killed at any moment and resumed, a run ends bit for bit as one that was never stopped.

`DPK_KILLS=20` in the environment asks for that many random kills instead of the few of every day.
"""

import json
import os
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.compat import load_checkpoint_file
from tools.shapes import generate_shapes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get('DPK_KILLS', '3'))
EPOCHS = 4
POINTS = ['half', 'before replace of last_checkpoint']
if KILLS >= 20:
    POINTS += ['before replace', 'after replace']

CONFIG = """
_base_ = '{root}/configs/mini/fashion_cnn_dpk.py'
model = dict(teacher_ckpt='{folder}/teacher.pth')
train_dataloader = dict(
    batch_size=8, num_workers=1, persistent_workers=True,
    dataset=dict(data_root='{folder}/fashion', indices=None),
)
val_dataloader = dict(
    batch_size=16, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{folder}/fashion'),
)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs={epochs}, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=1))
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
{more}
"""

# Iterations instead of epochs, and checkpoints that do not fall on their ends.
ITERATIONS = """
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=20, val_interval=7)
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=3, max_keep_ckpts=2),
)
param_scheduler = dict(_delete_=True, type='PolyLR', by_epoch=False, begin=0, end=20)
log_processor = dict(by_epoch=False)
"""
WITHIN_EPOCHS = """
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3, max_keep_ckpts=2))
"""


def write_idx(path, array):
    header = struct.pack('>BBBB', 0, 0, 8, array.ndim) + struct.pack(
        f'>{array.ndim}I', *array.shape
    )
    path.write_bytes(header + array.tobytes())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('kills')
    (folder / 'fashion').mkdir()
    generator = np.random.default_rng(0)
    for name, count in (('train', 48), ('t10k', 32)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(folder / 'fashion' / f'{name}-images-idx3-ubyte', images)
        write_idx(folder / 'fashion' / f'{name}-labels-idx1-ubyte', labels)
    teacher = Config.fromfile(ROOT / 'configs' / 'mini' / 'fashion_cnn_teacher.py').model
    torch.manual_seed(0)
    teacher['_scope_'] = 'mmpretrain'  # whatever scope the tests before have left as the default
    torch.save(dict(state_dict=MODELS.build(teacher).state_dict()), folder / 'teacher.pth')
    for name, more in (('epochs', ''), ('iterations', ITERATIONS), ('within', WITHIN_EPOCHS)):
        text = CONFIG.format(root=ROOT, folder=folder, epochs=EPOCHS, more=more)
        if more:
            # a config that is read after the other's keys, so that both are merged
            (folder / f'base_of_{name}.py').write_text(text.replace(more, ''))
            text = f"_base_ = './base_of_{name}.py'\n{more}"
        (folder / f'{name}.py').write_text(text)
    return folder


@pytest.fixture(scope='module')
def train(folder):
    """Runs tools/train.py on one of the configs; answers with exit status and seconds of training."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    environment['CUDA_VISIBLE_DEVICES'] = ''
    server = subprocess.Popen(
        [sys.executable, '-W', 'ignore', str(Path(__file__).with_name('forked_train.py'))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert server.stdout.readline() == 'ready\n'

    def run(config, work_dir, *options, **order):
        arguments = [str(folder / f'{config}.py'), '--work-dir', str(work_dir), *options]
        order = dict(arguments=arguments, log=f'{work_dir}.log', **order)
        print(json.dumps(order), file=server.stdin, flush=True)
        answer = json.loads(server.stdout.readline())
        assert answer['status'] != 'hung', Path(order['log']).read_text()[-6000:]
        return answer

    yield run
    server.stdin.close()
    server.wait()


@pytest.fixture(scope='module')
def whole(folder, train):
    """Work folder and seconds of training of an uninterrupted run, made when first asked for."""
    runs = {}

    def get(config):
        if config not in runs:
            done = train(config, folder / f'whole_{config}')
            assert done['status'] == 0, (folder / f'whole_{config}.log').read_text()[-3000:]
            runs[config] = folder / f'whole_{config}', done['seconds']
        return runs[config]

    return get


def final(work_dir):
    """The last checkpoint, without what is about clocks and places."""
    name = (work_dir / 'last_checkpoint').read_text()
    state = load_checkpoint_file(name)
    state['meta'] = {key: state['meta'][key] for key in ('epoch', 'iter', 'seed')}
    hub = state['message_hub']
    hub['log_scalars'] = {
        key: [part.tolist() for part in value.data]
        for key, value in hub['log_scalars'].items()
        if not key.endswith('time')
    }
    hub['runtime_info'] = {k: v for k, v in hub['runtime_info'].items() if k in ('epoch', 'iter')}
    del hub['resumed_keys']
    return Path(name).name, state


def logged(work_dir):
    """Step -> what vis_data/scalars.json say of it; every process that logged it says the same."""
    steps = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # the process was killed in the middle of it
                continue
            record = {k: v for k, v in record.items() if 'time' not in k and k != 'memory'}
            kind = 'train' if 'loss' in record else 'val'
            assert steps.setdefault((kind, record['step']), record) == record
    return steps


def assert_same(left, right, path='checkpoint'):
    assert type(left) is type(right), path
    if isinstance(left, dict):
        assert list(left) == list(right), path
        for key in left:
            assert_same(left[key], right[key], f'{path}.{key}')
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), path
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f'{path}.{number}')
    elif isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype and torch.equal(left, right), path
    else:
        assert left == right, path


def resume_and_compare(train, whole, config, work_dir):
    done = train(config, work_dir, '--resume')
    text = Path(f'{work_dir}.log').read_text()
    assert done['status'] == 0, text[-3000:]
    expected, seconds = whole(config)
    assert len(logged(expected)) > 15 and 'val' in {kind for kind, _ in logged(expected)}
    assert_same(dict(sorted(logged(work_dir).items())), dict(sorted(logged(expected).items())))
    name, state = final(work_dir)
    expected_name, expected_state = final(expected)
    assert name == expected_name
    assert {'optimizer', 'mask_ratio', 'ema_state_dict', 'param_schedulers'} <= set(state)
    assert_same(state, expected_state)
    for file in ('student_best.pth', 'student_last.pth'):
        one, other = (load_checkpoint_file(place / file) for place in (work_dir, expected))
        assert_same(one['state_dict'], other['state_dict'], file)
        assert one['meta']['iter'] == other['meta']['iter']
    assert not list(work_dir.glob('.*.tmp'))
    return text


@pytest.mark.parametrize('number', range(KILLS))
def test_killed_at_any_moment(folder, train, whole, number):
    config = ('epochs', 'within', 'iterations')[number % 3]
    work_dir = folder / f'any_{number}'
    generator = random.Random(number)
    # every second run is killed twice
    for _ in range(1 + number % 2):
        moment = generator.uniform(0, whole(config)[1])
        done = train(config, work_dir, '--resume', kill_after=moment)
        assert done['status'] in (-9, 0)  # 0: it was through already
    resume_and_compare(train, whole, config, work_dir)


@pytest.mark.parametrize('point', POINTS)
def test_killed_while_it_saves(folder, train, whole, point):
    work_dir = folder / point.replace(' ', '_')
    # the third checkpoint; the best student is written before it, too, but not in that way
    number = 3 if point in ('half', 'before replace of last_checkpoint') else 4
    done = train('epochs', work_dir, point=point, number=number)
    assert done['status'] == -9
    whole_files = sorted(path.name for path in work_dir.glob('epoch_*.pth'))
    assert whole_files[-1] in ('epoch_2.pth', 'epoch_3.pth')
    for name in whole_files:
        assert set(load_checkpoint_file(work_dir / name)) >= {'state_dict', 'optimizer'}
    resume_and_compare(train, whole, 'epochs', work_dir)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(folder, train, whole):
    work_dir = folder / 'damaged'
    options = ['--cfg-options', 'default_hooks.checkpoint.max_keep_ckpts=3']
    assert train('epochs', work_dir, *options, point='half', number=4)['status'] == -9
    path = work_dir / 'epoch_3.pth'
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    content[record.header_offset + record.file_size // 2] ^= 1  # one bit
    path.write_bytes(content)
    text = resume_and_compare(train, whole, 'epochs', work_dir)
    assert f'{path} is truncated or corrupt; resuming from {work_dir / "epoch_2.pth"}.' in text


def test_detection(tmp_path, train, folder, whole):
    generate_shapes(tmp_path / 'shapes', num_train=8, num_val=4)
    data = f'{tmp_path}/shapes/'
    (folder / 'detection.py').write_text(f"""
_base_ = '{ROOT}/configs/mini/faster_rcnn_dpk.py'
model = dict(teacher_ckpt=None)
train_dataloader = dict(batch_size=2, dataset=dict(data_root='{data}', pipeline=[
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=(64, 64), ratio_range=(0.8, 1.2), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]))
val_dataloader = dict(dataset=dict(data_root='{data}'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{data}annotations/val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs={EPOCHS})
default_hooks = dict(logger=dict(interval=1))
custom_hooks = [dict(type='EMAHook')]
""")
    work_dir = folder / 'detection_killed'
    done = train('detection', work_dir, point='half', number=3)
    assert done['status'] == -9
    resume_and_compare(train, whole, 'detection', work_dir)
