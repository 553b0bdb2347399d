import base64

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from torch.utils.data import default_collate

from dpk_mm.analysis.report import examples
from dpk_mm.analysis.report.examples import collect_examples, data_uri, show_examples
from tests.helpers.small_runs import Noise


def first(count):
    return list(range(count))


class Classifier:
    """Says a class for each image by a rule on its index in the set."""

    def __init__(self, rule):
        self.rule, self.seen = rule, 0

    def val_step(self, batch):
        from mmpretrain.structures import DataSample

        found = [
            DataSample().set_pred_label(self.rule(int(sample.gt_label)))
            for sample in batch['data_samples']
        ]
        self.seen += len(found)
        return found


def collate(samples):
    return dict(
        inputs=default_collate([s['inputs'] for s in samples]),
        data_samples=[s['data_samples'] for s in samples],
    )


def test_confusions_are_counted():
    models = dict(
        teacher=Classifier(lambda label: label),
        # a rectangle is a ring and a ring a rectangle; a cross is a ring
        student=Classifier({0: 4, 1: 1, 2: 2, 3: 4, 4: 0}.__getitem__),
    )
    found = collect_examples(models, Noise(12, False), collate, lambda count: first(min(count, 12)))
    assert found['kind'] == 'confusions' and found['images'] == 12
    assert found['right'] == dict(teacher=12, student=5)  # labels 0 1 2 3 4 0 1 2 3 4 0 1
    assert [(r['truth'], r['predicted'], r['counts']) for r in found['rows']] == [
        ('rectangle', 'ring', dict(teacher=0, student=3)),
        ('cross', 'ring', dict(teacher=0, student=2)),
        ('ring', 'rectangle', dict(teacher=0, student=2)),
    ]
    shown = show_examples(found)
    assert 'the teacher 12 (100.0 %) and the student 5 (41.7 %) are right' in shown['text']
    assert shown['table'].rows[0] == ['rectangle', 'ring', '0', '3']


def test_slow_models_are_asked_for_fewer_images(monkeypatch):
    now = iter([0.0] + [20.0 * i for i in range(1, 10)])
    monkeypatch.setattr('dpk_mm.analysis.report.examples.time.monotonic', lambda: next(now))
    models = dict(model=Classifier(lambda label: label))
    found = collect_examples(models, Noise(100, False), collate, lambda n: first(min(n, 100)))
    # four batches of 25; asked at 20 s and 40 s, of which the second is after 30 s
    assert found['images'] == 50 and found['right'] == dict(model=50)


def test_without_a_confusion_there_is_no_table():
    models = dict(model=Classifier(lambda label: label))
    shown = show_examples(collect_examples(models, Noise(5, False), collate, lambda n: [0, 1]))
    assert shown['table'] is None


class Detector:
    def __init__(self, boxes, scores):
        self.boxes, self.scores = boxes, scores

    def val_step(self, batch):
        from mmdet.structures import DetDataSample

        sample = DetDataSample()
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(self.boxes).reshape(-1, 4),
            labels=torch.zeros(len(self.boxes), dtype=torch.long),
            scores=torch.tensor(self.scores),
        )
        return [sample]


@pytest.mark.parametrize('size', [64, 900])
def test_detections_are_drawn_and_counted(size):
    class Set(Noise):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            found['inputs'] = torch.zeros(3, size, size, dtype=torch.uint8)
            found['data_samples'].set_metainfo(dict(ori_shape=(size, size)))
            return found

    models = dict(
        teacher=Detector([[8.0, 8, 40, 48]], [0.9]),
        student=Detector([[8.0, 8, 40, 48], [0, 0, 9, 9]], [0.3, 0.29]),
    )
    found = collect_examples(
        models, Set(4, True), lambda samples: samples, lambda count: first(min(count, 2))
    )
    assert found['kind'] == 'detections'
    assert found['counts'] == {'ground truth': [1, 1], 'teacher': [1, 1], 'student': [1, 1]}
    kind, content = found['picture'].split(',')
    assert kind == 'data:image/jpeg;base64'
    image = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert min(image.shape[:2]) > 100
    shown = show_examples(found)
    assert shown['alt'].startswith('2 images in rows, with the boxes of ground truth, teacher, st')
    assert shown['table'].rows == [['1', '1', '1', '1'], ['2', '1', '1', '1']]


def test_a_test_set_without_boxes_has_no_column_of_them():
    class Set(Noise):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            del found['data_samples'].gt_instances
            return found

    models = dict(model=Detector([], []))
    found = collect_examples(models, Set(2, True), lambda samples: samples, lambda n: [0, 1])
    assert found['counts'] == {'model': [0, 0]}


def test_an_image_without_objects_keeps_the_ground_truth_of_the_others():
    class Set(Noise):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            if index == 0:
                sample = found['data_samples']
                sample.gt_instances = sample.gt_instances[:0]
            return found

    models = dict(model=Detector([], []))
    found = collect_examples(models, Set(2, True), lambda samples: samples, lambda n: [0, 1])
    assert found['counts'] == {'ground truth': [0, 1], 'model': [0, 0]}


@pytest.mark.parametrize('names', [5, 20])
def test_a_model_of_more_classes_than_the_set_has_names_for(names, monkeypatch):
    class Set(Noise):
        metainfo = dict(classes=tuple(f'c{i}' for i in range(names)))

    class Other(Detector):
        def val_step(self, batch):
            (sample,) = super().val_step(batch)
            sample.pred_instances.labels += 40
            return [sample]

    drawn = []
    monkeypatch.setattr(examples, 'draw_grid', lambda *args, **kwargs: drawn.append(args))
    monkeypatch.setattr(examples.Path, 'read_bytes', lambda self: b'')
    models = dict(model=Other([[8.0, 8, 40, 48]], [0.9]))
    collect_examples(models, Set(1, True), lambda samples: samples, lambda n: [0])
    _, columns, shown, _ = drawn[0]
    assert shown == ['c0', '40']
    assert columns['ground truth'][0].labels.tolist() == [0]
    assert columns['model'][0].labels.tolist() == [1]


def test_other_tasks_have_no_examples():
    class Segmenter:
        def val_step(self, batch):
            return [dict(pred_sem_seg=1)]

    assert collect_examples(dict(m=Segmenter()), Noise(2, False), collate, lambda n: [0]) is None
    assert show_examples(None) is None


def test_data_uri():
    assert data_uri(b'abc', 'image/png') == 'data:image/png;base64,YWJj'
