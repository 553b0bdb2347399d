import copy

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from dpk_mm.analysis import detections
from dpk_mm.analysis.detections import (
    Boxes,
    build_student,
    draw_grid,
    load_detector,
    load_ground_truth,
    predict,
    show_detections,
)
from dpk_mm.analysis.training_curves import COLOURS
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import coco_content, write_coco
from tools.shapes import SHAPES_CLASSES, generate_shapes, render_scene

DETECTOR = {
    'type': 'RetinaNet',
    'data_preprocessor': {'type': 'DetDataPreprocessor', 'pad_size_divisor': 32},
    'backbone': {
        'type': 'ResNet',
        'depth': 18,
        'base_channels': 4,
        'out_indices': (3,),
        'init_cfg': {'type': 'Pretrained', 'checkpoint': 'not://there'},
    },
    'neck': {'type': 'FPN', 'in_channels': [32], 'out_channels': 8, 'num_outs': 1},
    'bbox_head': {
        'type': 'RetinaHead',
        'num_classes': 5,
        'in_channels': 8,
        'feat_channels': 8,
        'stacked_convs': 1,
        'anchor_generator': {
            'type': 'AnchorGenerator',
            'scales': [1.0],
            'ratios': [1.0],
            'strides': [32],
        },
        'bbox_coder': {'type': 'DeltaXYWHBBoxCoder'},
    },
    'test_cfg': {
        'nms_pre': 100,
        'score_thr': 0.0,
        'nms': {'type': 'nms', 'iou_threshold': 0.5},
        'max_per_img': 10,
    },
}
TEST_DATALOADER = {
    'dataset': {
        'type': 'CocoDataset',
        'metainfo': {'classes': SHAPES_CLASSES},
        'pipeline': [
            {'type': 'LoadImageFromFile'},
            {'type': 'Resize', 'scale': (128, 128), 'keep_ratio': True},
            {
                'type': 'PackDetInputs',
                'meta_keys': ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            },
        ],
    }
}


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / 'plain.py'
    content = {'default_scope': 'mmdet', 'model': DETECTOR, 'test_dataloader': TEST_DATALOADER}
    Config(content).dump(path)
    return path


@pytest.fixture
def distilled(tmp_path):
    path = tmp_path / 'distilled.py'
    model = {
        '_scope_': 'mmrazor',
        'type': 'NotBuiltHere',
        'architecture': {'_scope_': 'mmdet', **DETECTOR},
    }
    content = {'default_scope': 'mmdet', 'model': model, 'test_dataloader': TEST_DATALOADER}
    Config(content).dump(path)
    return path


@pytest.fixture
def shapes(tmp_path):
    generate_shapes(tmp_path / 'data', 1, 5)
    return tmp_path / 'data'


def save(path, weights, prefix='', extra=None):
    state = {prefix + key: value for key, value in weights.items()}
    torch.save({'state_dict': {**state, **(extra or {})}, 'meta': {}}, path)
    return path


class TestLoadDetector:
    def test_a_distilled_checkpoint_gives_the_same_student_as_a_plain_one(
        self, tmp_path, plain, distilled, shapes
    ):
        torch.manual_seed(0)
        weights = {
            key: torch.randn_like(value) * 0.1 if value.is_floating_point() else value
            for key, value in build_student(plain).state_dict().items()
        }
        for key in weights:
            if key.endswith('running_var'):
                weights[key] = weights[key].abs() + 1
        full = save(tmp_path / 'full.pth', weights, 'architecture.', {'distiller.x': torch.ones(1)})
        alone = save(tmp_path / 'alone.pth', weights)
        models = [
            load_detector(plain, alone),
            load_detector(distilled, full),
            load_detector(distilled, alone),
        ]
        files = [shapes / 'val' / '000000.png', shapes / 'val' / '000001.png']
        found = [predict(model, files) for model in models]
        assert [len(boxes.boxes) for boxes in found[0]] == [10, 10]
        for other in found[1:]:
            for a, b in zip(found[0], other, strict=True):
                np.testing.assert_array_equal(a.boxes, b.boxes)
                np.testing.assert_array_equal(a.labels, b.labels)
                np.testing.assert_array_equal(a.scores, b.scores)
        assert not any(model.training for model in models)

    def test_a_checkpoint_of_another_model_is_refused(self, tmp_path, plain):
        weights = build_student(plain).state_dict()
        weights.pop('bbox_head.retina_cls.weight')
        checkpoint = save(tmp_path / 'less.pth', weights)
        with pytest.raises(UsageError, match='bbox_head.retina_cls.weight'):
            load_detector(plain, checkpoint)


class TestLoadGroundTruth:
    def test_boxes_are_those_that_were_drawn(self, shapes):
        names, truth, classes = load_ground_truth(shapes / 'annotations' / 'val.json', 3)
        assert names == ['000000.png', '000002.png', '000004.png']
        assert classes == SHAPES_CLASSES
        for index, boxes in zip((0, 2, 4), truth, strict=True):
            drawn = render_scene('val', index).objects
            expected = [(x, y, x + w, y + h) for x, y, w, h in (o.bbox for o in drawn)]
            np.testing.assert_array_equal(boxes.boxes, expected)
            assert boxes.labels.tolist() == [o.label for o in drawn]
            assert boxes.scores is None

    def test_all_if_there_are_fewer(self, shapes):
        assert len(load_ground_truth(shapes / 'annotations' / 'val.json', 99)[0]) == 5

    def test_labels_are_those_of_mmdet(self, tmp_path):
        """The categories of the classes, in the order of the file; ids and other categories do not count."""
        content = coco_content(3)
        content['categories'] = [
            dict(id=i, name=n) for i, n in ((9, 'dog'), (4, 'sheep'), (7, 'bird'), (2, 'cat'))
        ]
        for annotation, category in zip(content['annotations'], (2, 4, 9), strict=True):
            annotation['category_id'] = category
        file = write_coco(tmp_path / 'data', content) / 'annotations' / 'train.json'
        classes = ('cat', 'dog', 'bird')
        _, truth, names = load_ground_truth(file, 3, classes)
        with DefaultScope.overwrite_default_scope('mmdet'):
            dataset = DATASETS.build(
                dict(
                    type='CocoDataset',
                    ann_file=str(file),
                    data_prefix=dict(img=''),
                    metainfo=dict(classes=classes),
                    filter_cfg=dict(filter_empty_gt=False),
                )
            )
        expected = [
            [instance['bbox_label'] for instance in dataset.get_data_info(i)['instances']]
            for i in range(3)
        ]
        assert [boxes.labels.tolist() for boxes in truth] == expected == [[2], [], [0]]
        assert names == ('dog', 'bird', 'cat')
        assert load_ground_truth(file, 3)[2] == ('dog', 'sheep', 'bird', 'cat')
        with pytest.raises(UsageError, match='train.json has no category cow, a class of the mod'):
            load_ground_truth(file, 3, ('cat', 'cow'))

    def test_none_is_refused(self, shapes):
        with pytest.raises(ValueError, match='but 0 were asked for'):
            load_ground_truth(shapes / 'annotations' / 'val.json', 0)


def count_pixels(path, hex_colour):
    image = cv2.imread(str(path)).astype(int)
    rgb = [int(hex_colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(image - rgb[::-1]).max(axis=2) < 12).sum())


class TestDrawGrid:
    def draw(self, tmp_path, boxes, **options):
        out = tmp_path / 'new' / 'grid.png'
        # No class names, so that no legend adds to the colours.
        image = np.zeros((40, 60, 3), np.uint8)
        draw_grid([image], {'a': [boxes]}, [], out, **options)
        return [count_pixels(out, colour) for colour in COLOURS[:3]]

    def test_the_label_chooses_the_colour(self, tmp_path):
        box = np.array([[10.0, 10, 40, 30]])
        first, second, third = self.draw(tmp_path, Boxes(box, np.array([1])))
        assert first == third == 0 and second > 500

    def test_a_longer_outline_takes_more_ink_in_proportion(self, tmp_path):
        small = self.draw(tmp_path, Boxes(np.array([[10.0, 10, 20, 20]]), np.array([0])))[0]
        large = self.draw(tmp_path, Boxes(np.array([[10.0, 10, 40, 30]]), np.array([0])))[0]
        assert large / small == pytest.approx(100 / 40, rel=0.1)

    def test_low_scores_are_left_out(self, tmp_path):
        boxes = np.array([[10.0, 10, 40, 30], [5, 5, 20, 20]])
        found = Boxes(boxes, np.array([0, 1]), np.array([0.5, 0.49]))
        first, second, _ = self.draw(tmp_path, found, score_threshold=0.5)
        assert first > 500 and second == 0

    def test_a_column_of_another_length_is_refused(self, tmp_path):
        image = np.zeros((4, 4, 3), np.uint8)
        with pytest.raises(ValueError, match="'a' has boxes of 0 images, but 1"):
            draw_grid([image], {'a': []}, [], tmp_path / 'x.png')


class TestShowDetections:
    def test_writes_a_row_per_image(self, tmp_path, plain, shapes):
        checkpoint = save(tmp_path / 'a.pth', build_student(plain).state_dict())
        heights = []
        for rows in (1, 3):
            out = tmp_path / f'{rows}.png'
            show_detections(
                {'model': (plain, checkpoint)},
                shapes / 'annotations' / 'val.json',
                shapes / 'val',
                out,
                num_images=rows,
            )
            heights.append(cv2.imread(str(out)).shape[0])
        assert heights[1] > 2 * heights[0]

    def with_classes(self, path, classes):
        loader = copy.deepcopy(TEST_DATALOADER)
        loader['dataset'].pop('metainfo')
        if classes:
            loader['dataset']['metainfo'] = {'classes': classes}
        dataset = {'type': 'RepeatDataset', 'times': 2, 'dataset': loader['dataset']}
        content = {
            'default_scope': 'mmdet',
            'model': DETECTOR,
            'test_dataloader': {'dataset': dataset},
        }
        Config(content).dump(path)
        return path

    def test_classes_are_those_of_the_models(self, tmp_path, shapes, monkeypatch):
        drawn = []
        monkeypatch.setattr(detections, 'draw_grid', lambda *args: drawn.append(args))
        two = SHAPES_CLASSES[1:3]
        config = self.with_classes(tmp_path / 'two.py', two)
        checkpoint = save(tmp_path / 'a.pth', build_student(config).state_dict())
        show_detections(
            {'model': (config, checkpoint)},
            shapes / 'annotations' / 'val.json',
            shapes / 'val',
            tmp_path / 'x.png',
            num_images=5,
        )
        _, columns, names, *_ = drawn[0]
        assert names == two
        expected = [
            [o.label - 1 for o in render_scene('val', i).objects if o.label in (1, 2)]
            for i in range(5)
        ]
        assert [boxes.labels.tolist() for boxes in columns['ground truth']] == expected
        assert load_detector(config, checkpoint).dataset_meta['classes'] == two
        # without metainfo they are those of the data set's type
        coco = load_detector(self.with_classes(tmp_path / 'coco.py', None), checkpoint)
        assert coco.dataset_meta['classes'][0] == 'person'

    def test_models_that_do_not_go_together_are_refused(self, tmp_path, shapes):
        models = {
            'a': (self.with_classes(tmp_path / 'a.py', SHAPES_CLASSES), 'a.pth'),
            'b': (self.with_classes(tmp_path / 'b.py', SHAPES_CLASSES[::-1]), 'b.pth'),
        }
        where = (shapes / 'annotations' / 'val.json', shapes / 'val', tmp_path / 'x.png')
        with pytest.raises(UsageError, match='a has the classes .*, and b .*: colours stand'):
            show_detections(models, *where)
        with pytest.raises(UsageError, match="a model is called 'ground truth'"):
            show_detections({'ground truth': models['a']}, *where)

    def test_a_missing_image_is_named(self, tmp_path, shapes):
        with pytest.raises(FileNotFoundError, match='000000.png, named in'):
            show_detections({}, shapes / 'annotations' / 'val.json', tmp_path, tmp_path / 'x.png')
