import os
import random

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric, DumpResults, Evaluator

from dpk_mm.engine.runner.teacher_metrics import (
    class_count,
    evaluate_teacher,
    try_to_evaluate_teacher,
)
from dpk_mm.engine.runner.validation_part import evaluator_copy
from tests.helpers.small_runs import Counted, build, classifier, distilled, runner, yolox


def run(folder, teacher=None, **kwargs):
    made = runner(build(distilled(classifier(), teacher or classifier(16))), folder, **kwargs)
    _ = made.val_loop  # built here, as in training
    return made


def test_metrics_of_the_teacher_and_nothing_else_changes(tmp_path, monkeypatch):
    made = run(tmp_path)
    seen = []
    monkeypatch.setattr(made.model.teacher, 'val_step', lambda batch: seen.append(1) or [{}] * 4)
    made.model.teacher.backbone.train()
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert evaluate_teacher(made) == {'acc': 1.0}
    assert try_to_evaluate_teacher(made) == ({'acc': 1.0}, None)
    assert len(seen) == 2  # one batch of four each
    assert made.model.teacher.backbone.training
    assert made.val_evaluator.metrics[0].calls == 0
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_the_teacher_is_evaluated_on_images_of_its_size(tmp_path):
    model = build(distilled(classifier(), classifier(16), teacher_input_size=(96, 32)))
    made = runner(model, tmp_path)
    _ = made.val_loop
    seen = []
    model.teacher.backbone.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape))
    assert evaluate_teacher(made) == {'acc': 1.0}
    assert seen == [(4, 3, 96, 32)]


def test_other_classes_are_a_reason(tmp_path):
    head = dict(type='LinearClsHead', num_classes=7, in_channels=128)
    made = run(tmp_path, classifier(16, head=head))
    assert try_to_evaluate_teacher(made) == ({}, 'it has 7 classes and the student 5')


class Failing(BaseMetric):
    """Raises in one of its two steps."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def process(self, data_batch, data_samples):
        if self.step == 'process':
            raise IndexError('no such class')
        self.results.append(1)

    def compute_metrics(self, results):
        raise KeyError('no such file')


@pytest.mark.parametrize(
    ('step', 'reason'),
    [('process', 'IndexError: no such class'), ('compute', "KeyError: 'no such file'")],
)
def test_an_error_is_a_reason(tmp_path, step, reason):
    made = run(tmp_path)
    made.val_evaluator.metrics = [Failing(step), Counted()]
    assert try_to_evaluate_teacher(made) == ({}, reason)
    with pytest.raises((IndexError, KeyError)):
        evaluate_teacher(made)


def test_a_teacher_that_fails_is_a_reason(tmp_path, monkeypatch):
    made = run(tmp_path)

    def broken(batch):
        raise RuntimeError('shapes do not fit')

    monkeypatch.setattr(made.model.teacher, 'val_step', broken)
    assert try_to_evaluate_teacher(made) == ({}, 'RuntimeError: shapes do not fit')


class Writing(BaseMetric):
    """Writes as CocoMetric and CocoPanopticMetric do: a file, and a folder whose name is made once."""

    def __init__(self, prefix, name='acc'):
        super().__init__()
        self.name = name
        self.outfile_prefix = prefix
        self.folder = f'{prefix}.masks'

    def process(self, data_batch, data_samples):
        os.makedirs(self.folder, exist_ok=True)
        self.results.append(1)

    def compute_metrics(self, results):
        with open(f'{self.outfile_prefix}.json', 'w') as file:
            file.write('predictions')
        return {self.name: 1.0}


@pytest.mark.parametrize(
    'evaluate', [evaluate_teacher, lambda made: try_to_evaluate_teacher(made)[0]]
)
def test_files_of_the_student_are_not_replaced(tmp_path, evaluate):
    made = run(tmp_path)
    (tmp_path / 'student').mkdir()
    metrics = made.val_evaluator.metrics = [
        DumpResults(out_file_path=str(tmp_path / 'student' / 'all.pkl')),
        Writing(str(tmp_path / 'student' / 'results')),
        Writing(str(tmp_path / 'student'), 'recall'),  # a folder that is there
    ]
    assert evaluate(made) == {'acc': 1.0, 'recall': 1.0}
    assert list((tmp_path / 'student').iterdir()) == []
    assert not (tmp_path / 'student.json').exists()
    assert not (tmp_path / 'student.masks').exists()
    assert [type(metric) for metric in metrics] == [DumpResults, Writing, Writing]
    assert metrics[1].outfile_prefix == str(tmp_path / 'student' / 'results')


def test_the_folder_of_a_copy_is_there_as_long_as_the_copy():
    evaluator = Evaluator([Writing('/nowhere/results'), Counted()])
    with evaluator_copy(evaluator) as own:
        first, second = own.metrics
        assert first.folder == f'{first.outfile_prefix}.masks'
        assert os.path.isdir(os.path.dirname(first.outfile_prefix))
        assert isinstance(second, Counted) and second is not evaluator.metrics[1]
    assert not os.path.exists(os.path.dirname(first.outfile_prefix))
    assert evaluator.metrics[0].outfile_prefix == '/nowhere/results'


def test_what_only_begins_as_a_path_does_is_left_alone():
    evaluator = Evaluator([Writing('coco')])
    evaluator.metrics[0].prefix = 'coco'
    evaluator.metrics[0].ann_file = 'cocoval.json'
    with evaluator_copy(evaluator) as own:
        (metric,) = own.metrics
        assert (metric.prefix, metric.ann_file) == ('coco', 'cocoval.json')
        assert metric.outfile_prefix != 'coco' and metric.folder == f'{metric.outfile_prefix}.masks'


def test_class_count():
    assert class_count(build(classifier())) == 5
    assert class_count(build(yolox())) == 5
    assert class_count(torch.nn.Linear(1, 1)) is None
