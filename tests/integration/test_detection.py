"""The main job on a handful of drawn images, through the commands that a user types."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
import torch

from tests.helpers.forked import run_tool
from tools.shapes import generate_shapes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = ['train_cfg.max_epochs=2', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0']
SMALL += ['test_dataloader.num_workers=0', 'train_dataloader.batch_size=4']
SMALL += [f'{name}_dataloader.persistent_workers=False' for name in ('train', 'val', 'test')]


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp('detection')
    generate_shapes(folder / 'shapes', num_train=16, num_val=8)
    return folder


def data_options(place):
    root = f'{place}/shapes/'
    options = [f'{name}_dataloader.dataset.data_root={root}' for name in ('train', 'val', 'test')]
    val = f'{root}annotations/val.json'
    return [*SMALL, *options, f'val_evaluator.ann_file={val}', f'test_evaluator.ann_file={val}']


def run(*command, expect=0, **env):
    environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHON=sys.executable, **env)
    done = subprocess.run(
        [str(c) for c in command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    text = done.stdout + done.stderr
    assert (done.returncode == 0) == (expect == 0), text[-3000:]
    return text


def python(*command, **kwargs):
    return run(sys.executable, *command, **kwargs)


def forked(place, script, *arguments, expect=0):
    """The same command without the time of the imports, for what is not the first of its kind."""
    done = run_tool(script, *arguments, log=place / 'forked.log')
    assert (done.returncode == 0) == (expect == 0), done.stdout[-3000:]
    return done.stdout


def metrics(folder):
    (found,) = Path(folder).glob('*/*.json')
    return json.loads(found.read_text())


@pytest.fixture(scope='module')
def teacher(place):
    out = place / 'teacher'
    options = ['--cfg-options', *data_options(place)]
    python('tools/train.py', 'configs/mini/faster_rcnn_teacher.py', '--work-dir', out, *options)
    return out / 'epoch_2.pth'


@pytest.fixture(scope='module')
def own_config(place):
    """A user's: ours, and a hook more."""
    config = place / 'own.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/mini/faster_rcnn_dpk.py'\n"
        "custom_hooks = [dict(type='mmrazor.LossGradientHook', interval=2)]\n"
    )
    return config


@pytest.fixture(scope='module')
def trained(place, teacher, own_config):
    out = place / 'dpk'
    config = own_config
    options = ['--teacher-ckpt', teacher, '--cfg-options', *data_options(place)]
    text = python('tools/train.py', config, '--work-dir', out, *options)
    return out, text


def test_training_reports_every_part(trained):
    out, text = trained
    scalars = [
        json.loads(line) for file in out.glob('*/vis_data/scalars.json') for line in file.open()
    ]
    last = [s for s in scalars if 'loss' in s][-1]
    parts = [
        last[f'distill.loss_dpk.{p}'] for p in ('foreground', 'background', 'attention', 'context')
    ]
    assert all(p > 0 for p in parts)
    student = [v for k, v in last.items() if k.startswith('student.') and 'loss' in k]
    assert last['loss'] == pytest.approx(sum(parts) + sum(student), rel=1e-4)
    for level in ('P4', 'P5'):
        assert 0.1 <= last[f'mask_ratio/{level}'] <= 0.95
        assert -1 <= last[f'similarity/{level}'] <= 1
    assert 'Loaded the teacher' in text
    # of the hook of the user's config
    assert last['gradient/student'] > 0 and last['gradient/distill.dpk'] > 0
    assert all(last[f'gradient/distill.dpk.{p}'] > 0 for p in ('foreground', 'context'))
    assert -1 <= last['gradient_cosine/distill.dpk'] <= 1


def test_checkpoint_has_no_teacher_and_holds_the_ratio(trained):
    state = torch.load(trained[0] / 'epoch_2.pth', map_location='cpu')
    assert {key.split('.')[0] for key in state['state_dict']} == {'architecture', 'distiller'}
    assert set(state['mask_ratio']['ratios']) == {'P4', 'P5'}
    width = state['state_dict']['architecture.backbone.conv1.weight'].shape[0]
    assert width == 8  # the student's, not the teacher's 32
    count = sum(1 for group in state['optimizer']['param_groups'] for _ in group['params'])
    trainable = [k for k in state['state_dict'] if 'running_' not in k and 'num_batches' not in k]
    assert count == len(trainable)


def test_full_student_exported_and_stock_mmdet_score_the_same(place, trained):
    out = trained[0]
    config = 'configs/mini/faster_rcnn_dpk.py'
    plain = 'configs/mini/faster_rcnn_none.py'
    options = ['--cfg-options', *data_options(place)]
    python('tools/export_student.py', out / 'epoch_2.pth', place / 'student.pth')
    scores = {}
    command = ['tools/test.py', config, out / 'epoch_2.pth', '--work-dir', place / 'full']
    python(*command, *options)
    command = ['tools/test.py', plain, out / 'student_last.pth', '--work-dir', place / 'student']
    forked(place, *command, *options)
    scores.update({name: metrics(place / name) for name in ('full', 'student')})
    # mmdet's own test script; dpk_mm is imported for the ops that mmcv-lite lacks
    script = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'test.py'
    start = 'import dpk_mm, runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")'
    command = ['-c', start, script, plain, place / 'student.pth', '--work-dir', place / 'stock']
    python(*command, *options)
    scores['stock'] = metrics(place / 'stock')
    kept = {n: {k: v for k, v in s.items() if 'bbox_' in k} for n, s in scores.items()}
    assert len(kept['full']) >= 6
    assert kept['full'] == kept['student'] == kept['stock']


def test_resume_goes_on_where_it_stopped(place, trained, teacher):
    options = [o for o in data_options(place) if 'max_epochs' not in o]
    # a copy: other tests look at the files of the two epochs
    resumed = place / 'resumed'
    shutil.copytree(trained[0], resumed)
    text = forked(
        place,
        *('tools/train.py', 'configs/mini/faster_rcnn_dpk.py', '--work-dir', resumed, '--resume'),
        *('--teacher-ckpt', teacher, '--cfg-options', *options, 'train_cfg.max_epochs=3'),
    )
    assert 'resumed epoch: 2' in text
    assert (resumed / 'epoch_3.pth').exists()


def test_modules_are_measured_by_their_error(place, trained, teacher):
    out = place / 'errors.json'
    config = 'configs/mini/faster_rcnn_dpk.py'
    command = ['tools/analysis/hybrid_error.py', config, trained[0] / 'epoch_2.pth']
    command += ['--teacher-ckpt', teacher, '--ratios', 0, 1, '--batches', 1, '--out', out]
    text = forked(place, *command, '--cfg-options', *data_options(place))
    assert 'loss_dpk.P4' in text and 'ratio 1' in text
    rows = json.loads(out.read_text())['rows']
    assert [row['stage'] for row in rows] == ['P4', 'P5']
    for row in rows:
        assert all(value > 0 for value in [*row['by_ratio'].values(), row['student']])
    command[2] = trained[0] / 'student_last.pth'
    text = forked(place, *command, '--cfg-options', *data_options(place), expect=1)
    assert 'a checkpoint of the whole training is needed' in text.splitlines()[-1]
    assert 'Traceback' not in text


def test_two_processes_without_a_gpu(place, teacher, own_config):
    out = place / 'two'
    text = run(
        *('bash', 'tools/dist_train.sh', own_config, 2, '--work-dir', out),
        *('--teacher-ckpt', teacher, '--cfg-options', *data_options(place)),
        CUDA_VISIBLE_DEVICES='',
        OMP_NUM_THREADS='1',
    )
    assert 'bbox_mAP' in text and 'gradient/distill.dpk:' in text
    assert (out / 'epoch_2.pth').exists()


def test_a_missing_teacher_stops_before_training(place):
    text = forked(
        place,
        *('tools/train.py', 'configs/mini/faster_rcnn_dpk.py', '--work-dir', place / 'missing'),
        *('--cfg-options', *data_options(place), f'model.teacher_ckpt={place}/none.pth'),
        expect=1,
    )
    said = text.splitlines()[-1]
    assert 'none.pth' in said and 'does not exist' in said
    assert 'python tools/train.py configs/mini/faster_rcnn_teacher.py' in said
    assert 'Traceback' not in text


def test_a_wrong_teacher_stops_before_training(place, trained):
    text = forked(
        place,
        *('tools/train.py', 'configs/mini/faster_rcnn_dpk.py', '--work-dir', place / 'wrong'),
        *('--teacher-ckpt', trained[0] / 'student_last.pth', '--cfg-options', *data_options(place)),
        expect=1,
    )
    said = text.splitlines()[-1]
    assert 'does not fit the teacher' in said and 'is (8, 3, 7, 7) instead of (32, 3, 7, 7)' in said
    assert 'Traceback' not in text
