import gzip
import json
import tarfile
from pathlib import Path

import pytest

from dpk_mm.errors import UsageError
from tools.experiments import data
from tools.experiments.data import IDX_FILES, LOADERS, prepare, split_annotations

FASHION = {'kind': 'fashion_mnist'}


def test_packed_files_are_unpacked_beside_the_results(tmp_path):
    source, folder = tmp_path / 'packed', tmp_path / 'work'
    source.mkdir()
    for name in IDX_FILES:
        with gzip.open(source / f'{name}.gz', 'wb') as file:
            file.write(name.encode())
    before = sorted(source.iterdir())
    options = prepare(FASHION, source, folder)
    (unpacked,) = folder.iterdir()
    assert unpacked.name.startswith('fashion_mnist-')
    assert options == {f'{loader}.dataset.data_root': str(unpacked) for loader in LOADERS}
    for name in IDX_FILES:
        assert (unpacked / name).read_bytes() == name.encode()
    assert sorted(source.iterdir()) == before
    assert sorted(p.name for p in unpacked.iterdir()) == sorted(IDX_FILES)
    assert prepare(FASHION, source, folder) == options  # again, with the files there


def test_unpacked_files_are_taken_where_they_are(tmp_path):
    for name in IDX_FILES:
        (tmp_path / name).write_text('')
    options = prepare(FASHION, tmp_path, tmp_path / 'work')
    assert set(options.values()) == {str(tmp_path)}
    assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize(
    ('spec', 'source', 'message'),
    [
        (FASHION, '.', 'holds neither train-images-idx3-ubyte nor'),
        (FASHION, None, 'needs the fashion_mnist data: give its folder with --data'),
        ({'kind': 'coco_split'}, '.', 'has no annotations/train.json'),
        ({'kind': 'imagenet'}, '.', "data.kind is 'imagenet'; known are fashion_mnist, coco_split"),
    ],
)
def test_missing_data_is_an_error(tmp_path, spec, source, message):
    with pytest.raises(UsageError, match=message):
        prepare(spec, source and tmp_path / source, tmp_path / 'work')


def test_no_data_no_options(tmp_path):
    assert prepare({}, None, tmp_path) == {}


def coco(first, count):
    images = [{'id': first + i, 'file_name': f'{first + i}.jpg'} for i in range(count)]
    boxes = [
        {'id': 10 * image['id'] + k, 'image_id': image['id']} for image in images for k in (0, 1)
    ]
    return {'images': images, 'annotations': boxes, 'categories': [{'id': 1}]}


def ids(content):
    return [image['id'] for image in content['images']]


def test_split_keeps_each_image_with_its_boxes_once():
    content = coco(100, 20)
    train, val = split_annotations(content, 6, seed=3)
    assert len(ids(val)) == 6 and len(ids(train)) == 14
    assert sorted(ids(train) + ids(val)) == ids(content)
    for part in (train, val):
        assert part['categories'] == content['categories']
        assert ids(part) == sorted(ids(part))
        assert {box['image_id'] for box in part['annotations']} == set(ids(part))
        assert len(part['annotations']) == 2 * len(ids(part))
    backwards = {**content, 'images': content['images'][::-1]}
    assert set(ids(split_annotations(backwards, 6, seed=3)[1])) == set(ids(val))
    assert ids(split_annotations(content, 6, seed=4)[1]) != ids(val)


@pytest.mark.parametrize('num_val', [0, 20])
def test_split_without_a_part_is_refused(num_val):
    with pytest.raises(UsageError, match=f'in 1..19 for these images, got {num_val}'):
        split_annotations(coco(1, 20), num_val)


def write_coco(folder, first=100):
    (folder / 'annotations').mkdir(parents=True)
    (folder / 'images').mkdir()
    (folder / 'annotations' / 'train.json').write_text(json.dumps(coco(first, 20)))
    (folder / 'annotations' / 'val.json').write_text(json.dumps(coco(200, 5)))


def test_sets_of_one_kind_do_not_take_each_others_place(tmp_path):
    write_coco(tmp_path / 'a', 100)
    write_coco(tmp_path / 'b', 300)
    file = 'train_dataloader.dataset.ann_file'
    found = {}
    for name, num_val in (('a', 6), ('b', 6), ('a', 7)):
        spec = {'kind': 'coco_split', 'num_val': num_val}
        found[name, num_val] = prepare(spec, tmp_path / name, tmp_path / 'work')[file]
    lists = {}
    for key, path in found.items():  # after all were written: a training reads its own later
        with open(path) as opened:
            lists[key] = ids(json.load(opened))
    assert {key: (len(images), min(images) // 100) for key, images in lists.items()} == {
        ('a', 6): (14, 1),
        ('b', 6): (14, 3),
        ('a', 7): (13, 1),
    }
    # again, by another way to the same folder
    again = prepare(
        {'kind': 'coco_split', 'num_val': 6}, tmp_path / 'b' / '..' / 'a', tmp_path / 'work'
    )
    assert again[file] == found['a', 6]


def test_packed_files_of_another_source_are_unpacked_beside_them(tmp_path):
    roots = []
    for source in ('a', 'b'):
        (tmp_path / source).mkdir()
        for name in IDX_FILES:
            with gzip.open(tmp_path / source / f'{name}.gz', 'wb') as file:
                file.write(source.encode())
        options = prepare(FASHION, tmp_path / source, tmp_path / 'work')
        roots.append(Path(options['train_dataloader.dataset.data_root']))
    assert [(root / IDX_FILES[0]).read_text() for root in roots] == ['a', 'b']


def test_the_last_training_images_of_fashion_mnist_can_be_those_of_the_validation(tmp_path):
    for name in IDX_FILES:
        (tmp_path / name).write_text('')
    plain = prepare(FASHION, tmp_path, tmp_path / 'work')
    options = prepare({**FASHION, 'num_val': 7}, tmp_path, tmp_path / 'work')
    assert {key: value for key, value in options.items() if key not in plain} == {
        'val_dataloader.dataset.split': 'train',
        'val_dataloader.dataset.test_mode': False,
        'val_dataloader.dataset.indices': -7,
    }


def test_coco_parts(tmp_path):
    write_coco(tmp_path)
    options = prepare({'kind': 'coco_split', 'num_val': 6}, tmp_path, tmp_path / 'work')
    parts = {}
    for part in ('train', 'val', 'test'):
        dataset = f'{part}_dataloader.dataset'
        assert options[f'{dataset}.data_root'] == f'{tmp_path}/'
        assert options[f'{dataset}.data_prefix.img'] == 'images/'
        with open(options[f'{dataset}.ann_file']) as file:
            parts[part] = ids(json.load(file))
        if part != 'train':
            assert options[f'{part}_evaluator.ann_file'] == options[f'{dataset}.ann_file']
    assert [len(parts[part]) for part in ('train', 'val', 'test')] == [14, 6, 5]
    assert not set(parts['train']) & set(parts['val'])
    assert parts['test'] == [200, 201, 202, 203, 204]


def image_folders(folder, per_class=6, classes=('ant', 'bee', 'cat', 'dog')):
    for part in ('train', 'test'):
        for name in classes:
            (folder / part / name).mkdir(parents=True)
            for number in range(per_class):
                (folder / part / name / f'{number}.jpg').write_text(f'{name} {number}')


def read_list(options, name):
    with open(f'{options["train_dataloader.dataset.data_root"]}/{name}.txt') as file:
        return [line.split() for line in file]


FOLDERS = {'kind': 'image_folders', 'every_class': 2, 'val': 2, 'subsets': {'small': 1, 'large': 4}}


def test_lists_of_image_folders_are_disjoint_and_nested(tmp_path):
    image_folders(tmp_path / 'source')
    options = prepare(FOLDERS, tmp_path / 'source', tmp_path / 'work')
    small, large, val, test = (
        {tuple(line) for line in read_list(options, name)}
        for name in ('small', 'large', 'val', 'test')
    )
    assert (len(small), len(large), len(val), len(test)) == (2, 8, 4, 12)
    assert small < large and not large & val
    assert {(path.split('/')[0], label) for path, label in large} == {('ant', '0'), ('cat', '1')}
    assert options['val_dataloader.dataset.data_prefix.img_path'] == str(tmp_path / 'source/train')
    assert options['test_dataloader.dataset.data_prefix.img_path'] == str(tmp_path / 'source/test')
    before = read_list(options, 'large')
    assert read_list(prepare(FOLDERS, tmp_path / 'source', tmp_path / 'work'), 'large') == before


def test_an_archive_of_image_folders_is_unpacked_beside_the_results(tmp_path):
    image_folders(tmp_path / 'images')
    (tmp_path / 'source').mkdir()
    with tarfile.open(tmp_path / 'source' / 'all.tar.xz', 'w:xz') as archive:
        for part in ('train', 'test'):
            archive.add(tmp_path / 'images' / part, part)
    for _ in range(2):  # again, with the images there
        options = prepare(FOLDERS, tmp_path / 'source', tmp_path / 'work')
        (prepared,) = (tmp_path / 'work').iterdir()
        images = prepared / 'images'
        assert options['train_dataloader.dataset.data_prefix.img_path'] == str(images / 'train')
        path, _ = read_list(options, 'small')[0]
        assert (images / 'train' / path).is_file()
    assert [p.name for p in (tmp_path / 'source').iterdir()] == ['all.tar.xz']


@pytest.mark.parametrize(
    ('per_class', 'message'), [(0, 'has no folders train'), (5, 'has 5 images, but 2 to choose on')]
)
def test_image_folders_that_do_not_suffice_are_named(tmp_path, per_class, message):
    if per_class:
        image_folders(tmp_path, per_class)
    with pytest.raises(UsageError, match=message):
        prepare(FOLDERS, tmp_path, tmp_path / 'work')


def test_drawn_shapes_need_no_folder_and_are_held_out_by_another_seed(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(data, 'generate_shapes', lambda out, **kwargs: drawn.append((out, kwargs)))
    options = prepare({'kind': 'shapes', 'num_held_out': 7}, None, tmp_path)
    assert drawn == [
        (tmp_path / 'shapes' / 'set', {}),
        (tmp_path / 'shapes' / 'held_out', dict(num_train=1, num_val=7, seed=1)),
    ]
    assert options['train_dataloader.dataset.ann_file'] == 'annotations/train.json'
    assert options['val_dataloader.dataset.data_root'] == f'{tmp_path}/shapes/set/'
    assert options['test_dataloader.dataset.data_root'] == f'{tmp_path}/shapes/held_out/'
    assert options['test_evaluator.ann_file'] == (
        f'{tmp_path}/shapes/held_out/annotations/val.json'
    )
