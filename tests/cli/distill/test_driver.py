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
from dpk_mm.cli.distill.driver import Driver
from dpk_mm.cli.distill.plan import make_plan
from dpk_mm.cli.distill.request import Request
from dpk_mm.cli.distill.shown import Shown
from dpk_mm.cli.distill.stages import STATE_FILE
from dpk_mm.errors import UsageError
from dpk_mm.models.pairing import Completed, Row
from tests.helpers.data_sets import coco_content, write_coco, write_images

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
            content = dict(
                share=0.25,
                shares=dict(loss_dpk=0.25),
                cosine={},
                batches=20,
                weights=dict(loss_dpk=0.5),
            )
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

    def driven(fresh=False, **changes):
        asked = replace(request, **changes)
        shown = Shown(Console(file=io.StringIO(), width=160))
        tools.names.clear()
        commands = Commands(tmp_path, work / 'logs', shown, run=tools)
        Driver(make_plan(asked), commands, shown, 'python tools/distill.py').run(fresh=fresh)
        return shown.console.file.getvalue()

    driven.tools, driven.work, driven.data = tools, work, tmp_path / 'data'
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


def _taken(node, key):
    """All values of a key, which are taken out."""
    if not isinstance(node, dict):
        return []
    own = [node.pop(key)] if key in node else []
    return own + [value for part in node.values() for value in _taken(part, key)]


def test_a_measurement_of_before_is_gone_on_with(run):
    """It has no share of each loss; the weights it led to stay, or the student's training would be lost."""
    run(**WHOLE)
    file = run.work / 'stages.json'
    found = json.loads(file.read_text())
    (shares,) = _taken(found, 'shares')
    assert shares == dict(loss_dpk=0.25)
    file.write_text(json.dumps(found))
    before = (run.work / 'distill.py').read_text()
    run(**WHOLE)
    assert run.tools.names == []
    weight = 'loss_weight=4'
    assert weight in before and weight in (run.work / 'distill.py').read_text()


def test_loss_weights_of_an_edited_config_are_not_measured(run):
    run()
    file = run.work / 'distill.py'
    file.write_text(file.read_text() + '\ntrain_cfg = dict(val_interval=5)\n')
    with pytest.raises(UsageError, match='sets loss weights in .* which was edited'):
        run(gradient_share=1.0)
    assert 'gradients' not in run.tools.names


def test_starting_over_does_all_of_it_again(run):
    run(**WHOLE)
    mark = run.work / 'student' / 'of_the_first_run'
    mark.write_text('')
    run(fresh=True, **dict(WHOLE, epochs=3))  # other settings, which the configs say as well
    assert run.tools.names == TRAINED and not mark.exists()
    run(**dict(WHOLE, epochs=3))
    assert run.tools.names == []


def test_starting_over_leaves_what_others_put_there(run):
    run(train=False, train_teacher=False)
    for name in ('data', 'tests', 'logs', 'student'):
        (run.work / name).mkdir(exist_ok=True)
        (run.work / name / 'mine.txt').write_text('')
    run(fresh=True, train=False, train_teacher=False)
    assert run.tools.names == ['dry_run']
    assert all(
        (run.work / name / 'mine.txt').is_file() for name in ('data', 'tests', 'logs', 'student')
    )


def test_copies_of_annotations_outlive_a_new_start(run):
    content = coco_content()
    del content['annotations'][0]['area']
    write_coco(run.data, content)
    run(train=False, train_teacher=False)
    run(fresh=True, train=False, train_teacher=False)
    assert (run.work / 'data' / 'train.json').is_file()


def test_nothing_is_removed_for_a_command_that_is_refused(run, monkeypatch, tmp_path):
    run()
    before = (run.work / STATE_FILE).read_text()

    def refuse(cfg):
        raise UsageError('model.method: no.')

    with monkeypatch.context() as patched:
        patched.setattr(driver, 'complete', refuse)
        with pytest.raises(UsageError, match='--method: no'):
            run(fresh=True)
    checkpoint = run.work / 'teacher' / 'teacher.pth'
    meta = dict(dataset_meta=dict(classes=('cat', 'dog')))
    torch.save(dict(meta=meta, state_dict={}), checkpoint)
    with pytest.raises(UsageError, match='--fresh removes .*teacher, in which --teacher-ckpt'):
        run(fresh=True, teacher_ckpt=str(checkpoint), train_teacher=False)
    assert (run.work / 'student' / 'student_best.pth').is_file()
    assert json.loads((run.work / STATE_FILE).read_text())['stages'] == json.loads(before)['stages']


@pytest.mark.parametrize('edited', [False, True])
def test_another_machine_goes_on(run, monkeypatch, edited):
    """Loaders get no more processes than there are cores, and the configs say so."""
    monkeypatch.setattr('os.sched_getaffinity', lambda _: range(2), raising=False)
    file = run.work / 'distill_student.py'
    if edited:
        run(train=False, train_teacher=False)
        file.write_text(f'{file.read_text()}\ntrain_cfg = dict(val_interval=5)\n')
    run()
    before = file.read_text()
    monkeypatch.setattr('os.sched_getaffinity', lambda _: range(3), raising=False)
    run()
    assert run.tools.names == []
    assert (file.read_text() == before) == edited


def test_annotations_of_another_content_are_another_training(run):
    content = coco_content()
    run()
    content['annotations'][0]['bbox'] = [9, 8, 32, 24]
    write_coco(run.data, content)
    with pytest.raises(UsageError, match='holds a training with other settings or data'):
        run()


def test_annotations_of_the_test_alone_are_another_test(run):
    content = coco_content(2, start=200)
    write_images(run.data / 'images', ['200.png', '201.png'])
    file = run.data / 'annotations' / 'test.json'
    file.write_text(json.dumps(content))
    run()
    content['annotations'][0]['bbox'] = [9, 8, 32, 24]
    file.write_text(json.dumps(content))
    run()
    assert run.tools.names == ['test_of_the_teacher', 'test_of_the_student']


def test_a_config_that_was_broken_by_an_edit_is_one_sentence(run):
    run(train=False, train_teacher=False)
    file = run.work / 'distill.py'
    file.write_text(f'{file.read_text()}\nmodel = dict(\n')
    with pytest.raises(UsageError, match=r'distill\.py cannot be read: '):
        run(train=False, train_teacher=False)


def test_parameters_of_a_config(run):
    run(train=False, train_teacher=False)
    student = run.work / 'distill_student.py'
    assert COUNT(student) == COUNT(run.work / 'distill.py') < COUNT(run.work / 'distill_teacher.py')
