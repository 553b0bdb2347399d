import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from dpk_mm.analysis.linear_probe import (
    FrozenStudent,
    accuracy,
    extract,
    linear_probe,
    list_images,
    list_splits,
    load_frozen_student,
    train_linear,
)
from dpk_mm.errors import UsageError

CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict({norm}),
    backbone=dict(type='ResNet_CIFAR', depth=18, in_channels={channels}, stem_channels=4, base_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=7, in_channels=32, loss=dict(type='CrossEntropyLoss')),
)
test_dataloader = dict(dataset=dict(type='{dataset}', pipeline=[{load}dict(type='PackInputs')]))
"""
LOAD = "dict(type='LoadImageFromFile'), dict(type='Resize', scale=16), "
MEAN, STD = (120.0, 110.0, 100.0), (60.0, 55.0, 50.0)


@pytest.fixture
def student(tmp_path):
    return make_student(tmp_path)


def make_student(folder, grey=False, load=LOAD, dataset='CustomDataset', to_rgb=True):
    """Config and checkpoint of a random student whose BatchNorm statistics are not trivial."""
    norm = 'mean=[100], std=[50]' if grey else f'mean={MEAN}, std={STD}, to_rgb={to_rgb}'
    config = folder / 'student.py'
    text = CONFIG.format(norm=norm, channels=1 if grey else 3, load=load, dataset=dataset)
    config.write_text(text)
    torch.manual_seed(0)
    model = build(config)
    for name, value in model.state_dict().items():
        if name.endswith('running_mean'):
            value.uniform_(-0.3, 0.3)
        elif name.endswith('running_var'):
            value.uniform_(0.3, 1.2)
    torch.save({'state_dict': model.state_dict()}, folder / 'student.pth')
    return config, folder / 'student.pth'


def build(config):
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(Config.fromfile(config).model)


def write_images(folder, count, seed, size=16):
    """Random images of coarse colours; returns their paths and RGB arrays."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths, arrays = [], []
    for i in range(count):
        rgb = random.integers(0, 256, (4, 4, 3), np.uint8).repeat(size // 4, 0).repeat(size // 4, 1)
        paths.append(str(folder / f'{seed}_{i:04d}.png'))
        cv2.imwrite(paths[-1], rgb[..., ::-1])
        arrays.append(rgb)
    return paths, np.stack(arrays)


def write_classes(data, counts):
    for seed, (name, count) in enumerate(counts.items()):
        write_images(data / name, count, seed)


# The linear layer.


def linear_task(n=600, dims=12, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dims, generator=generator) * torch.logspace(-3, 2, dims) + 5
    weight = torch.randn(classes, dims, generator=generator) / torch.logspace(-3, 2, dims)
    scores = (x - 5) @ weight.T
    best = scores.topk(2).values
    clear = best[:, 0] - best[:, 1] > 0.3  # a margin, so that the labels can be learnt fully
    return x[clear], scores[clear].argmax(1)


def test_linear_layer_recovers_labels_that_are_a_linear_function_of_its_input():
    x, y = linear_task()
    layer = train_linear(x[:400], y[:400], 4, epochs=300, lr=0.5)
    assert accuracy(layer, x[:400], y[:400])[0] == 100
    assert accuracy(layer, x[400:], y[400:])[0] > 97


def test_labels_without_relation_to_the_features_stay_at_chance():
    x, _ = linear_task(n=4000)
    y = torch.randint(4, (len(x),), generator=torch.Generator().manual_seed(3))
    half = len(x) // 2
    layer = train_linear(x[:half], y[:half], 4, epochs=10)
    assert 20 < accuracy(layer, x[half:], y[half:])[0] < 30


def test_units_of_the_features_change_nothing():
    x, y = linear_task()
    # powers of two are exact in floating point
    scale = 2.0 ** torch.arange(x.shape[1]).sub(6)
    layer, scaled = train_linear(x, y, 4, epochs=3), train_linear(x * scale, y, 4, epochs=3)
    torch.testing.assert_close(scaled(x * scale), layer(x), rtol=1e-4, atol=1e-4)


def test_one_epoch_of_one_step_is_the_gradient_of_cross_entropy():
    x, y = linear_task(n=50)
    layer = train_linear(x, y, 4, epochs=1, lr=0.7, batch_size=50)
    z = (x - x.mean(0)) / x.std(0, correction=0)
    # weights of zero: every class has probability 1/4
    error = torch.full((len(x), 4), 0.25) - nn.functional.one_hot(y, 4)
    weight, bias = -0.7 * error.T @ z / len(x), -0.7 * error.mean(0)
    torch.testing.assert_close(layer(x), z @ weight.T + bias, rtol=1e-3, atol=1e-3)


def test_constant_features_do_no_harm():
    x, y = linear_task()
    x = torch.cat([x, torch.full((len(x), 1), 3.0)], 1)
    layer = train_linear(x, y, 4, epochs=2)
    assert torch.isfinite(layer(x)).all()


def test_seed_fixes_the_layer():
    x, y = linear_task()
    first, again, other = (train_linear(x, y, 4, 2, batch_size=32, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.bias, again.bias)
    assert not torch.equal(first.weight, other.weight)


@pytest.mark.parametrize('classes', [4, 9])
def test_accuracy_equals_a_slow_count(classes):
    torch.manual_seed(0)
    layer, x, y = nn.Linear(5, classes), torch.randn(40, 5), torch.randint(classes, (40,))
    nn.init.constant_(layer.bias, -100)  # negative scores are scores, too
    top1, top5 = accuracy(layer, x, y)
    places = []
    for row, label in zip(layer(x).tolist(), y.tolist(), strict=True):
        places.append(sorted(row, reverse=True).index(row[label]))
    assert top1 == pytest.approx(100 * sum(p < 1 for p in places) / 40)
    assert top5 == (pytest.approx(100 * sum(p < 5 for p in places) / 40) if classes > 5 else None)


# The frozen student.


@pytest.mark.parametrize(
    ('to_rgb', 'load', 'dataset'),
    [(True, LOAD, 'CustomDataset'), (False, LOAD, 'CustomDataset'), (False, '', 'CIFAR100')],
)
@pytest.mark.parametrize('kind', ['features', 'logits'])
def test_extract_equals_the_network_by_hand(tmp_path, kind, to_rgb, load, dataset):
    """Channel order: files are read as BGR, CIFAR's arrays are RGB."""
    config, checkpoint = make_student(tmp_path, load=load, dataset=dataset, to_rgb=to_rgb)
    size = 16 if load else 32
    paths, rgb = write_images(tmp_path / 'images', 5, seed=0, size=size)
    found = extract(load_frozen_student(config, checkpoint), paths, kind, batch_size=2, workers=0)

    model = build(config)
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    model.eval()
    seen = rgb if to_rgb or not load else rgb[..., ::-1]
    x = torch.from_numpy((seen.astype(np.float32) - MEAN) / STD).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        pooled = model.backbone(x)[-1].mean((2, 3))
        expected = model.head.fc(pooled) if kind == 'logits' else pooled
    assert found.shape == (5, 7 if kind == 'logits' else 32)
    assert (expected.std(0) > 1e-3).sum() > 5  # images differ in it, or nothing would be tested
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_grey_student_gets_grey_images(tmp_path):
    config, checkpoint = make_student(tmp_path, grey=True, load='', dataset='FashionMNIST')
    student = load_frozen_student(config, checkpoint)
    assert student.image_size == (28, 28)
    paths, rgb = write_images(tmp_path / 'images', 2, seed=0, size=28)
    grey = torch.from_numpy(rgb.astype(np.float32) @ np.float32([0.299, 0.587, 0.114]))
    with torch.no_grad():
        expected = student.model.backbone((grey[:, None] - 100) / 50)[-1].mean((2, 3))
    # grey values are rounded to whole numbers in between
    found = extract(student, paths, workers=0)
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.03)


def test_images_are_brought_to_the_size_of_the_student(tmp_path, student):
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 8:32] = 255  # the middle square is white, and what smoothing takes from beside it
    cv2.imwrite(str(tmp_path / 'wide.png'), wide)
    cv2.imwrite(str(tmp_path / 'white.png'), np.full((16, 16, 3), 255, np.uint8))
    paths = [str(tmp_path / name) for name in ('wide.png', 'white.png')]
    found = extract(load_frozen_student(*student), paths, workers=0)
    torch.testing.assert_close(found[0], found[1])


def test_student_stays_as_it_was(tmp_path, student):
    paths, _ = write_images(tmp_path / 'images', 6, seed=0)
    frozen = load_frozen_student(*student)
    before = {name: value.clone() for name, value in frozen.model.state_dict().items()}
    assert any('running_mean' in name for name in before)
    first = extract(frozen, paths, batch_size=3, workers=0)
    assert not any(module.training for module in frozen.model.modules())
    assert not any(p.requires_grad for p in frozen.model.parameters())
    for name, value in frozen.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(extract(frozen, paths, batch_size=3, workers=0), first)
    # one image does not see the others of its batch
    alone = extract(frozen, paths[:1], workers=0)
    torch.testing.assert_close(alone, first[:1], rtol=1e-4, atol=1e-5)


def test_weights_of_a_full_checkpoint_are_the_students(tmp_path, student):
    config, checkpoint = student
    weights = torch.load(checkpoint)['state_dict']
    full = {f'architecture.{k}': v for k, v in weights.items()}
    full['distiller.distill_losses.loss.weight'] = torch.ones(1)
    torch.save({'state_dict': full}, tmp_path / 'full.pth')
    model = load_frozen_student(config, tmp_path / 'full.pth').model
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_two_tokens_are_put_side_by_side(tmp_path, student):
    frozen = load_frozen_student(*student)
    plain = frozen.model.head.pre_logits
    paths, _ = write_images(tmp_path / 'images', 3, seed=0)
    single = extract(frozen, paths, workers=0)
    frozen.model.head.pre_logits = lambda feats: (plain(feats), 2 * plain(feats))
    double = extract(frozen, paths, workers=0)
    assert torch.equal(double, torch.cat([single, 2 * single], 1))


@pytest.mark.parametrize('kind', ['features', 'logits'])
def test_probe_finds_labels_that_the_student_knows(tmp_path, student, kind):
    """Images are put into class folders by a linear function of the student's own output."""
    paths, _ = write_images(tmp_path / 'all', 500, seed=0)
    x = extract(load_frozen_student(*student), paths, kind, workers=0)
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-9)
    score = x @ torch.randn(x.shape[1], generator=torch.Generator().manual_seed(1))
    for i in score.argsort()[torch.arange(500).lt(180) | torch.arange(500).ge(320)].tolist():
        split = 'test' if i % 4 == 0 else 'train'
        folder = tmp_path / 'data' / split / ('low' if score[i] < score.median() else 'up')
        folder.mkdir(parents=True, exist_ok=True)
        os.rename(paths[i], folder / Path(paths[i]).name)
    result = linear_probe(*student, tmp_path / 'data', kind=kind, workers=0, epochs=200, lr=0.3)
    assert result.dims == (7 if kind == 'logits' else 32)
    assert result.num_train + result.num_test == 360
    assert result.num_classes == 2
    assert result.train_top1 == 100
    assert result.top1 > 95
    assert result.top5 is None
    again = linear_probe(*student, tmp_path / 'data', kind=kind, workers=0, epochs=200, lr=0.3)
    assert again == result


# The images.


def test_classes_are_folders(tmp_path):
    write_classes(tmp_path / 'train', {'b': 2, 'a': 3})
    (tmp_path / 'train' / 'a' / 'notes.txt').write_text('no image')
    images = list_images(tmp_path / 'train')
    assert images.classes == ['a', 'b']
    assert images.labels == [0, 0, 0, 1, 1]
    assert [Path(p).parent.name for p in images.paths] == ['a', 'a', 'a', 'b', 'b']


def tiny_imagenet(root):
    for seed, name in enumerate(('n02', 'n01')):
        write_images(root / 'train' / name / 'images', 2, seed)
    (root / 'train' / 'n01' / 'n01_boxes.txt').write_text('n01_0.JPEG\t0\t0\t9\t9\n')
    paths, _ = write_images(root / 'val' / 'images', 3, seed=7)
    names = [Path(path).name for path in paths]
    lines = [f'{n}\t{c}\t0\t0\t9\t9\n' for n, c in zip(names, ('n02', 'n01', 'n02'), strict=True)]
    (root / 'val' / 'val_annotations.txt').write_text(''.join(lines))
    write_images(root / 'test' / 'images', 4, seed=8)  # without labels
    return paths


def test_tiny_imagenet_as_it_is_unpacked(tmp_path, student):
    paths = tiny_imagenet(tmp_path)
    train, test = list_splits(tmp_path)
    assert train.classes == test.classes == ['n01', 'n02']
    assert train.labels == [0, 0, 1, 1]
    assert test.paths == paths
    assert test.labels == [1, 0, 1]
    result = linear_probe(*student, tmp_path, workers=0, epochs=1)
    assert (result.num_train, result.num_test) == (4, 3)


def test_val_goes_before_test_unless_told(tmp_path):
    for split, count in (('train', 1), ('val', 2), ('test', 3)):
        write_classes(tmp_path / split, {'a': count, 'b': count})
    assert len(list_splits(tmp_path)[1].paths) == 4
    assert len(list_splits(tmp_path, 'test')[1].paths) == 6


# What a user gets wrong.


def test_missing_folders(tmp_path):
    with pytest.raises(UsageError, match='there is no folder .*nowhere'):
        list_splits(tmp_path / 'nowhere')
    with pytest.raises(UsageError, match='there is no folder .*train'):
        list_splits(tmp_path)
    write_classes(tmp_path / 'train', {'a': 1})
    with pytest.raises(UsageError, match='there is no folder .*test'):
        list_splits(tmp_path)


def test_no_class_or_no_image(tmp_path):
    (tmp_path / 'train').mkdir()
    with pytest.raises(UsageError, match='folder of images per class'):
        list_images(tmp_path / 'train')
    (tmp_path / 'train' / 'empty').mkdir()
    with pytest.raises(UsageError, match='empty'):
        list_images(tmp_path / 'train')


def test_annotations_without_their_images(tmp_path):
    paths = tiny_imagenet(tmp_path)
    os.remove(paths[1])
    with pytest.raises(UsageError, match=Path(paths[1]).name):
        list_splits(tmp_path)


def test_classes_differ(tmp_path):
    write_classes(tmp_path / 'train', {'a': 1, 'b': 1})
    write_classes(tmp_path / 'val', {'a': 1, 'c': 1, 'd': 1})
    with pytest.raises(UsageError, match="2 classes and .* 3, which differ in 'b' and 2 more"):
        list_splits(tmp_path)


@pytest.mark.parametrize('workers', [0, 1])
def test_broken_image_is_named(tmp_path, student, workers):
    paths, _ = write_images(tmp_path / 'images', 2, seed=0)
    Path(paths[1]).write_bytes(b'no image')
    with pytest.raises(UsageError, match=f'{Path(paths[1]).name} cannot be read'):
        extract(load_frozen_student(*student), paths, workers=workers)


def test_checkpoint_of_another_student(tmp_path, student):
    config, checkpoint = student
    weights = torch.load(checkpoint)['state_dict']
    weights['head.fc.weight'] = torch.zeros(9, 32)
    torch.save(weights, checkpoint)
    with pytest.raises(UsageError, match='student.pth does not fit the student.*head.fc.weight'):
        load_frozen_student(config, checkpoint)


def test_detector_is_refused(tmp_path, student):
    root = Path(__file__).parents[2]
    with pytest.raises(UsageError, match='needs a classifier'):
        load_frozen_student(root / 'configs/mini/retinanet_dpk.py', student[1])


def test_classifier_without_features_is_sent_to_its_logits(tmp_path, student):
    frozen = load_frozen_student(*student)
    frozen.model.head = nn.Identity()
    with pytest.raises(UsageError, match='--input logits'):
        extract(FrozenStudent(frozen.model, 'RGB', (16, 16)), [], workers=0)


def test_counts_below_one(tmp_path, student):
    with pytest.raises(UsageError, match='--batch-size must be at least 1'):
        linear_probe(*student, tmp_path, batch_size=0)


@pytest.mark.skipif(
    'DPK_TEST_IMAGES' not in os.environ,
    reason='DPK_TEST_IMAGES names no folder with train/<class>/* and val/ or test/',
)
def test_real_images_are_told_apart_better_than_by_chance(student):
    result = linear_probe(*student, os.environ['DPK_TEST_IMAGES'], workers=0, epochs=30)
    assert result.top1 > 1.5 * 100 / result.num_classes
