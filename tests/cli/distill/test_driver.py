"""The whole command, with tools that only write what a training would."""

import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from rich.console import Console

from dpk_mm.cli.distill import driver
from dpk_mm.cli.distill.commands import Commands
from dpk_mm.cli.distill.driver import Driver, remove_earlier
from dpk_mm.cli.distill.plan import make_plan
from dpk_mm.cli.distill.request import Request
from dpk_mm.cli.distill.shown import Shown
from dpk_mm.errors import UsageError
from dpk_mm.models.pairing import Completed, Row
from tests.helpers.data_sets import write_coco

COUNT = driver.parameters
METRICS = dict(teacher=0.5, baseline=0.3, student=0.4)


class Tools:
    """Stands for the processes: notes what was asked for, and writes the files that they would."""

    def __init__(self):
        self.names = []
        self.stop_at = None

    def __call__(self, command, log, cwd, on_line, on_tick):
        name = log.stem
        self.names.append(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text('')
        if name == self.stop_at:
            raise KeyboardInterrupt
        options = [str(part) for part in command]
        if '--work-dir' in options and 'test.py' not in options[1]:
            self._train(name, Path(options[options.index('--work-dir') + 1]))
        elif name == 'export_of_the_teacher':
            Path(options[3]).write_text('weights')
        elif name == 'gradients':
            content = dict(share=0.25, cosine={}, batches=20, weights=dict(loss_dpk=0.5))
            Path(options[-1]).write_text(json.dumps(content))
        elif name.startswith('test_of'):
            out = Path(options[options.index('--out') + 1])
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps({'coco/bbox_mAP': METRICS[name.rpartition('_')[2]]}))
        return 0

    @staticmethod
    def _train(name, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'epoch_1.pth').write_text('weights')
        (folder / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))
        (folder / ('student_best.pth' if name == 'student' else 'best_mAP_epoch_1.pth')).write_text(
            'weights'
        )


@pytest.fixture(autouse=True)
def _no_look_at_the_networks(monkeypatch):
    """The short form has tests of its own, and takes seconds."""
    rows = [Row('records.feats', 'neck', 'found')]
    monkeypatch.setattr(driver, 'complete', lambda cfg: Completed(cfg, rows))
    monkeypatch.setattr(driver, 'parameters', lambda config: 1 if 'student' in config.name else 2)


@pytest.fixture
def run(tmp_path):
    tools = Tools()
    work = tmp_path / 'work'
    request = Request(
        'rtmdet_s_8xb32-300e_coco',
        'rtmdet_tiny_8xb32-300e_coco',
        work,
        work / 'distill.py',
        data=[str(write_coco(tmp_path / 'data'))],
        img_size=64,
        epochs=2,
        train=True,
        train_teacher=True,
        from_scratch=True,
        cuda=False,
    )

    def driven(**changes):
        asked = replace(request, **changes)
        shown = Shown(Console(file=io.StringIO(), width=160))
        tools.names.clear()
        commands = Commands(tmp_path, work / 'logs', shown, run=tools)
        Driver(make_plan(asked), commands, shown, 'python tools/distill.py').run()
        return shown.console.file.getvalue()

    driven.tools, driven.work = tools, work
    return driven


TRAINED = [
    *(
        'dry_run_of_the_teacher',
        'dry_run',
        'teacher',
        'export_of_the_teacher',
        'gradients',
        'student',
    ),
    *('baseline', 'test_of_the_teacher', 'test_of_the_baseline', 'test_of_the_student'),
]
WHOLE = dict(baseline=True, gradient_share=2.0)


def test_all_stages_in_order_and_once(run):
    text = run(**WHOLE)
    assert run.tools.names == TRAINED
    results = json.loads((run.work / 'results.json').read_text())['results']
    assert {role: r['metrics']['coco/bbox_mAP'] for role, r in results.items()} == METRICS
    assert results['student']['parameters'] < results['teacher']['parameters']
    assert 'num_classes' in text and 'loss_weight of loss_dpk 0.5 -> 4' in text
    # 2.0 / 0.25 of 0.5
    assert (
        Config.fromfile(run.work / 'distill.py').model.distiller.distill_losses.loss_dpk.loss_weight
        == 4.0
    )
    run(**WHOLE)
    assert run.tools.names == []


@pytest.mark.parametrize(
    'stage', ['dry_run', 'teacher', 'gradients', 'student', 'test_of_the_student']
)
def test_stopped_and_started_again_only_what_is_missing_is_done(run, stage):
    run.tools.stop_at = stage
    with pytest.raises(KeyboardInterrupt):
        run(**WHOLE)
    run.tools.stop_at = None
    run(**WHOLE)
    assert run.tools.names == TRAINED[TRAINED.index(stage) :]


def test_a_new_teacher_makes_a_new_student_necessary(run):
    run()
    shutil.rmtree(run.work / 'teacher')
    with pytest.raises(UsageError, match=r'student holds a training with other settings'):
        run(teacher_epochs=3)
    assert 'teacher' in run.tools.names


def test_another_file_of_the_teacher_is_tested_anew(run, tmp_path):
    file = tmp_path / 'teacher.pth'
    meta = dict(dataset_meta=dict(classes=('cat', 'dog')))
    torch.save(dict(meta=meta, state_dict={}), file)
    own = dict(train_teacher=False, teacher_ckpt=str(file))
    run(**own)
    os.utime(file, (1, 1))
    shutil.rmtree(run.work / 'student')
    run(**own)
    assert run.tools.names == ['student', 'test_of_the_teacher', 'test_of_the_student']


def test_a_changed_base_makes_a_new_training_necessary(run, tmp_path):
    """The written config says only what differs from the one of the user."""
    base = tmp_path / 'own.py'
    text = "_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'\n"
    base.write_text(text)
    run(student=str(base))
    run(student=str(base))
    assert run.tools.names == []
    base.write_text(f'{text}model = dict(backbone=dict(widen_factor=0.25))\n')
    with pytest.raises(UsageError, match='student holds a training with other settings'):
        run(student=str(base))


def test_without_training_the_command_says_how_to_go_on(run):
    text = run(train=False, train_teacher=False)
    assert run.tools.names == ['dry_run']
    assert 'Next: add --train --train-teacher' in text


def test_edited_configs_are_used_as_they_are(run):
    run(train=False, train_teacher=False)
    file = run.work / 'distill.py'
    file.write_text(file.read_text() + '\ntrain_cfg = dict(val_interval=5)\n')
    text = run(train=False, train_teacher=False)
    assert f'{file} was edited: it is used as it is.' in text
    assert run.tools.names == ['dry_run']  # what it depends on has changed
    with pytest.raises(UsageError, match='was edited since it was written, and the options'):
        run(train=False, train_teacher=False, method='fgd')


def test_loss_weights_of_an_edited_config_are_not_measured(run):
    run()
    file = run.work / 'distill.py'
    file.write_text(file.read_text() + '\ntrain_cfg = dict(val_interval=5)\n')
    with pytest.raises(UsageError, match='sets loss weights in .* which was edited'):
        run(gradient_share=1.0)
    assert 'gradients' not in run.tools.names


def test_starting_over(run):
    run()
    remove_earlier(run.work)
    assert not (run.work / 'student').exists() and (run.work / 'distill.py').is_file()


def test_parameters_of_a_config(run):
    run(train=False, train_teacher=False)
    student = run.work / 'distill_student.py'
    assert COUNT(student) == COUNT(run.work / 'distill.py') < COUNT(run.work / 'distill_teacher.py')
