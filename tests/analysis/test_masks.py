"""The figure of masks: each mask is what its strategy gives from the features that the loss would get."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from dpk_mm.analysis import masks as masks_module
from dpk_mm.analysis.masks import (
    draw_masks,
    mask_rows,
    pattern_features,
    read_boxes,
    show_masks,
    stage_features,
)
from dpk_mm.errors import UsageError
from dpk_mm.functional import activation_scores, foreground_scores, gap_scores, grid_mask
from dpk_mm.models.teacher.resizing import TeacherResizing

from ..helpers.small_runs import build, classifier, distilled

CONFIG = Path(__file__).parents[2] / 'configs' / 'mini' / 'faster_rcnn_dpk.py'


@pytest.fixture
def photo(tmp_path):
    image = np.zeros((64, 96, 3), np.uint8)
    image[16:32, 48:80] = (10, 120, 250)
    path = tmp_path / 'photo.png'
    cv2.imwrite(str(path), image)
    ann = dict(
        images=[dict(id=1, file_name='photo.png', width=96, height=64)],
        categories=[dict(id=1, name='thing')],
        annotations=[
            dict(id=1, image_id=1, category_id=1, bbox=[48, 16, 32, 16], area=1, iscrowd=0)
        ],
    )
    (tmp_path / 'ann.json').write_text(json.dumps(ann))
    return path


def test_patterns_alone(photo, tmp_path):
    ratios = (0.0, 0.3, 0.75)
    rows = show_masks(photo, tmp_path / 'out.png', ratios=ratios, size=64, grid=(4, 6))
    assert [row.name for row in rows] == ['random', 'block', 'grid']
    for row in rows:
        assert row.scores is None
        assert [mask.sum().item() for mask in row.masks] == [0, 7, 18]
    assert torch.equal(rows[2].masks[2].flatten(), grid_mask(1, (4, 6), 0.75).as_bool()[0])
    found = cv2.imread(str(tmp_path / 'out.png'))
    assert found.std() > 10


def test_scores_are_those_of_the_features(photo, tmp_path, monkeypatch):
    seen = {}

    def spy(*args, **kwargs):
        torch.manual_seed(0)
        seen['features'] = stage_features(*args, **kwargs)
        return seen['features']

    monkeypatch.setattr(masks_module, 'stage_features', spy)
    rows = show_masks(
        photo,
        tmp_path / 'out.png',
        CONFIG,
        ann_file=tmp_path / 'ann.json',
        stage='P4',
        ratios=(0.5,),
        size=64,
    )
    features = seen['features']
    assert features.caption == 'faster_rcnn_dpk, stage P4 (teacher untrained, student untrained)'
    assert features.teacher.shape[-2:] == (4, 6)  # a stride of 16
    scores = dict(
        teacher_activation=activation_scores(features.teacher),
        gap=gap_scores(features.student, features.teacher),
        foreground=foreground_scores([torch.tensor([[48.0, 16, 80, 32]])], (64, 96), (4, 6)),
    )
    by_name = {row.name: row for row in rows}
    assert list(by_name)[3:] == [f'{s}, {r}' for s in scores for r in ('sample', 'top', 'opposite')]
    for name, expected in scores.items():
        top = by_name[f'{name}, top']
        torch.testing.assert_close(top.scores.flatten(), expected[0])
        mask = top.masks[0].flatten()
        assert mask.sum() == 12
        assert expected[0][mask].min() >= expected[0][~mask].max()
    assert by_name['foreground, top'].masks[0][1, 3:5].all()
    # an untrained network of the same seed gives the same features
    image, _ = masks_module.read_image(photo, 64)
    torch.manual_seed(0)
    again = stage_features(CONFIG, image, stage='P4')
    assert torch.equal(again.teacher, features.teacher)
    assert again.context.boxes is None and again.context.class_weight is None


def test_a_classifier_has_uncertainty(photo):
    image, _ = masks_module.read_image(photo, 64)
    config = CONFIG.parents[1] / 'dpk' / 'imagenet' / 'resnet34_resnet18.py'
    features = stage_features(config, image)
    assert features.teacher.shape == (1, 512, 2, 3)
    assert features.context.class_weight.shape == (1000, 512)
    names = [row.name for row in mask_rows(features, (0.5,))]
    assert 'uncertainty, top' in names and 'foreground, top' not in names
    features = stage_features(config, image, stage='second_last')
    assert features.context.class_weight is None


def test_checkpoints_are_loaded(photo, tmp_path):
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmrazor.registry import MODELS

    init_default_scope('mmdet')
    torch.manual_seed(3)
    model = MODELS.build(Config.fromfile(CONFIG).model)
    for name in ('teacher', 'student'):
        torch.save(dict(state_dict=getattr(model, name).state_dict()), tmp_path / f'{name}.pth')
    image, _ = masks_module.read_image(photo, 64)
    files = [str(tmp_path / f'{name}.pth') for name in ('teacher', 'student')]
    first, second = (stage_features(CONFIG, image, *files) for _ in range(2))
    assert torch.equal(first.teacher, second.teacher) and torch.equal(first.student, second.student)
    assert 'teacher trained, student trained' in first.caption
    with pytest.raises(UsageError, match='does not fit the teacher'):
        stage_features(CONFIG, image, files[1])


def test_boxes_are_resized_with_the_image(photo, tmp_path):
    image, scale = masks_module.read_image(photo, 32)
    assert image.shape == (32, 48, 3) and scale == 0.5
    assert image[12, 32].tolist() == [250, 120, 10]  # RGB
    boxes = read_boxes(tmp_path / 'ann.json', photo, scale)
    assert boxes.tolist() == [[24, 8, 40, 16]]


def test_tokens_cover_the_picture_in_their_places(tmp_path, monkeypatch):
    """Patches of 2 x 2 over a 3 x 4 feature: the second row of patches has one row of cells."""
    drawn = []
    monkeypatch.setattr(
        'matplotlib.axes.Axes.imshow', lambda self, image, **kwargs: drawn.append(image)
    )
    image = np.zeros((6, 8, 3), np.uint8)
    row = masks_module.MaskRow('x', None, [torch.tensor([[False, True], [True, False]])])
    draw_masks(image, [row], (0.5,), tmp_path / 'out.png', ((3, 4), 2))
    expected = np.zeros((6, 8), bool)
    expected[:4, 4:] = True
    expected[4:, :4] = True
    assert np.array_equal(drawn[1].any(-1), expected)


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        (dict(ratios=(1.5,)), UsageError, r'--ratios must be in \[0, 1\], but one is 1.5'),
        (dict(only=['gap, top']), UsageError, "--rows has 'gap, top', but there are 'random', 'bl"),
        (dict(image='none.png'), FileNotFoundError, 'none.png does not exist'),
        (dict(image='ann.json'), UsageError, 'ann.json is not an image'),
        (
            dict(config=CONFIG, stage='P9'),
            UsageError,
            r"no stage 'P9'; its stages are \['P4', 'P5'",
        ),
        (
            dict(config=CONFIG.parent / 'faster_rcnn_none.py'),
            UsageError,
            'faster_rcnn_none.py has no DPKLoss',
        ),
        (dict(config=CONFIG, image='other.png', ann_file='ann.json'), UsageError, "'other.png'"),
    ],
)
def test_inputs_that_do_not_fit(photo, tmp_path, monkeypatch, kwargs, error, message):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('other.png', np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(error, match=message):
        show_masks(**{**dict(image=photo, path='out.png', size=64), **kwargs})


def test_some_rows_in_the_asked_order():
    rows = mask_rows(pattern_features((4, 4)), (0.5,), only=['gap, opposite', 'grid'])
    assert [row.name for row in rows] == ['gap, opposite', 'grid']
    assert torch.equal(rows[1].masks[0].flatten(), grid_mask(1, (4, 4), 0.5).as_bool()[0])


def test_patterns_need_no_feature():
    assert mask_rows(pattern_features((3, 5)), (1.0,), with_scores=False)[0].masks[0].all()


def small(tmp_path, pipeline=(), student=None, **kwargs):
    """A distillation of two small classifiers, and its networks, which have the weights of the files."""
    student = student or classifier()
    content = dict(
        default_scope='mmpretrain',
        model=distilled(student, classifier(16), **kwargs),
        test_dataloader=dict(dataset=dict(type='CustomDataset', pipeline=[*pipeline])),
    )
    path = tmp_path / 'small.py'
    Config(content).dump(path)
    networks = [build(student), build(classifier(16))]
    files = [str(tmp_path / f'{name}.pth') for name in ('student', 'teacher')]
    for network, file in zip(networks, files, strict=True):
        torch.save(dict(state_dict=network.state_dict()), file)
    return path, files, [network.eval() for network in networks]


LOAD = [dict(type='LoadImageFromFile')]


@pytest.mark.parametrize('pipeline', [LOAD, ()], ids=['files', 'arrays'])
def test_the_channels_are_in_the_order_of_the_data_set(photo, tmp_path, pipeline):
    """Files are read as BGR, and the networks see RGB (to_rgb); what a data set gives itself is flipped by it."""
    image, _ = masks_module.read_image(photo, 64)
    config, files, networks = small(tmp_path, pipeline)
    found = stage_features(config, image, files[1], files[0])
    seen = image if pipeline else image[..., ::-1]
    inputs = torch.from_numpy(seen.copy()).permute(2, 0, 1)[None] / 255
    for network, feature in zip(networks, (found.student, found.teacher), strict=True):
        with torch.no_grad():
            torch.testing.assert_close(network.backbone(inputs)[1], feature)


def test_a_grey_network_gets_a_grey_image(photo, tmp_path):
    image, _ = masks_module.read_image(photo, 64)
    model = {
        name: dict(
            classifier(),
            backbone=dict(classifier()['backbone'], in_channels=1),
            data_preprocessor=dict(num_classes=5, mean=[0.0], std=[255.0]),
        )
        for name in ('student', 'teacher')
    }
    config = tmp_path / 'grey.py'
    dataset = dict(type='FashionMNIST', pipeline=[])
    Config(
        dict(
            default_scope='mmpretrain',
            model=distilled(model['student'], model['teacher']),
            test_dataloader=dict(dataset=dataset),
        )
    ).dump(config)
    networks = [build(model[name]).eval() for name in ('student', 'teacher')]
    files = [str(tmp_path / f'{name}.pth') for name in ('student', 'teacher')]
    for network, file in zip(networks, files, strict=True):
        torch.save(dict(state_dict=network.state_dict()), file)
    found = stage_features(config, image, files[1], files[0])
    # the luma weights of grey
    grey = torch.from_numpy(image.copy()).double() @ torch.tensor([0.299, 0.587, 0.114]).double()
    inputs = grey.round().float()[None, None] / 255
    for network, feature in zip(networks, (found.student, found.teacher), strict=True):
        with torch.no_grad():
            torch.testing.assert_close(network.backbone(inputs)[1], feature, atol=1e-2, rtol=1e-2)


def test_a_teacher_of_another_image_size(photo, tmp_path):
    image, _ = masks_module.read_image(photo, 64)
    config, files, (_, teacher) = small(tmp_path, LOAD, teacher_input_size=(128, 96))
    found = stage_features(config, image, files[1], files[0])
    inputs = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
    resizing = TeacherResizing((128, 96))
    with torch.no_grad():
        expected = resizing.back(teacher.backbone(resizing.images(inputs))[1], (64, 96))
    torch.testing.assert_close(found.teacher, expected)
    assert found.teacher.shape[2:] == found.student.shape[2:] == (2, 3)


def test_padding_does_not_stretch_the_overlay(tmp_path, monkeypatch):
    """An image of 40x64 (height x width), padded to 64x64: of four rows of tokens two and a half are seen."""
    drawn = []
    monkeypatch.setattr(
        'matplotlib.axes.Axes.imshow', lambda self, image, **kwargs: drawn.append(image)
    )
    path = tmp_path / 'wide.png'
    cv2.imwrite(str(path), np.zeros((40, 64, 3), np.uint8))
    (tmp_path / 'ann.json').write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name='wide.png', width=64, height=40)],
                categories=[dict(id=1, name='thing')],
                annotations=[
                    dict(id=1, image_id=1, category_id=1, bbox=[16, 16, 16, 16], area=1, iscrowd=0)
                ],
            )
        )
    )
    show_masks(
        path,
        tmp_path / 'out.png',
        CONFIG,
        ann_file=tmp_path / 'ann.json',
        stage='P4',
        ratios=(4 / 16,),
        size=40,
        only=['foreground, top'],
    )
    given = drawn[2].any(-1)  # after the image and its scores
    assert given.shape == (40, 64)
    expected = np.zeros((40, 64), bool)
    expected[16:40, 16:48] = (
        True  # the box and the tokens that it touches, of which the last row is cut
    )
    assert np.array_equal(given, expected)
