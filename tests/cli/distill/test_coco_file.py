import copy
import json

import pytest

from dpk_mm.cli.distill.coco_file import read_coco_part
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import coco_content, write_images


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / 'images', [f'{i}.png' for i in range(4)])
    return tmp_path


def read(folder, content, classes=None, part='train'):
    file = folder / f'{part}.json'
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_coco_part(part, file, [folder, folder / 'images'], classes)


def refused(folder, content, classes=None):
    with pytest.raises(UsageError) as error:
        read(folder, content, classes)
    text = str(error.value)
    assert (
        text.startswith(f'--data {folder}/train.json') and text.endswith('.') and '\n' not in text
    )
    return text


def changed(**lists):
    return {**coco_content(), **lists}


def boxes(**values):
    return changed(annotations=[{**box, **values} for box in coco_content()['annotations']])


def test_a_good_file(folder):
    found, classes, notes = read(folder, coco_content())
    assert classes == ('cat', 'dog')
    assert (found.part.count, found.part.boxes, found.part.content, notes) == (4, 4, None, [])
    assert found.part.images == folder / 'images'
    assert found.part.sizes[0] == (64, 48)
    assert found.file_names == {f'{i}.png' for i in range(4)}
    assert not found.masks
    assert read(folder, boxes(segmentation=[[0, 0, 9, 0, 9, 9]]))[0].masks


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('{', 'is no JSON file'),
        ([], 'is no COCO file: it has no list images'),
        ({'images': []}, 'has no list annotations'),
        (changed(images=[]), 'has no images'),
        (changed(categories=[]), 'has no categories'),
        (dict(images=[], annotations=[], categories=[]), 'has no images'),
        (changed(annotations=[]), 'cannot be learned from or tested on: it has no box'),
        (boxes(bbox=[1, 1, 0, 5]), '4 boxes are all narrower than a pixel or crowds'),
        (boxes(iscrowd=1), 'narrower than a pixel or crowds'),
        (boxes(bbox=[0.1, 0.1, 1.0, 1.2]), 'as shares of the image would'),
        (boxes(bbox=[1, 2, 3]), 'id 1 has the bbox [1, 2, 3], and [x, y, width, height]'),
        (boxes(bbox=None), 'has the bbox None'),
        (boxes(category_id=0), '4 annotations have the category_id 0, but categories has 1, 2'),
        (boxes(image_id=77), '4 annotations have the image_id 77'),
        (
            changed(categories=[dict(id=1, name='a'), dict(id=2, name='a')]),
            'the name a stands more than once',
        ),
        (changed(images=[dict(id=1, file_name='0.png')]), 'images[0] has no width'),
        (changed(annotations=[dict(id=1)]), 'annotations[0] has no image_id'),
    ],
)
def test_what_would_stop_or_spoil_a_training_is_one_sentence(folder, content, words):
    assert words in refused(folder, content)


def test_missing_images(folder):
    (folder / 'images' / '2.png').unlink()
    text = refused(folder, coco_content())
    assert f'1 of its 4 images are not in {folder}/images: 2.png' in text
    content = coco_content(start=50)
    assert 'none of its 4 images, such as 50.png, is in' in refused(folder, content)
    file = folder / 'train.json'
    with pytest.raises(UsageError, match='no folder of images was found for train'):
        read_coco_part('train', file, [])


def test_other_classes_than_in_training(folder):
    text = refused(folder, coco_content(), ('cat', 'cow'))
    assert 'lacks the class cow' in text
    assert 'has the class dog besides' in refused(folder, coco_content(), ('cat',))


def test_classes_in_another_order_are_put_into_that_of_training(folder):
    content = coco_content()
    content['categories'].reverse()
    before = copy.deepcopy(content)
    found, classes, notes = read(folder, content, ('cat', 'dog'), 'val')
    assert classes == ('cat', 'dog')
    assert [c['name'] for c in found.part.content['categories']] == ['cat', 'dog']
    # the ids stay with their names, so that the boxes keep their classes
    assert {c['id']: c['name'] for c in found.part.content['categories']} == {1: 'cat', 2: 'dog'}
    assert found.part.content['annotations'] == before['annotations']
    assert 'another order' in notes[0]


def test_what_mmdet_needs_of_each_box_is_added(folder):
    content = coco_content()
    for box in content['annotations']:
        del box['area'], box['iscrowd']
    found, _, notes = read(folder, content)
    assert {(b['area'], b['iscrowd']) for b in found.part.content['annotations']} == {(32 * 24, 0)}
    assert 'lack area or iscrowd' in notes[0]


@pytest.mark.parametrize(
    'ids', [[0, 1, 2, 3], ['a', 'b', 'c', 'd'], [1, 1, 2, 3], [1, 2, 3.5, True]]
)
def test_ids_that_pycocotools_cannot_use_are_numbers_in_a_copy(folder, ids):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = coco_content()
    for box, key in zip(content['annotations'], ids, strict=True):
        box['id'] = key
    before = copy.deepcopy(content)
    found, _, notes = read(folder, content)
    corrected = found.part.content
    assert [box['id'] for box in corrected['annotations']] == [1, 2, 3, 4]
    for old, new in zip(before['annotations'], corrected['annotations'], strict=True):
        assert {**old, 'id': new['id']} == new
    assert len(notes) == 1 and 'a copy with the ids 1, 2, 3, ... is used' in notes[0]
    # boxes that are found exactly
    truth = COCO()
    truth.dataset = corrected
    truth.createIndex()
    exact = [
        dict(image_id=b['image_id'], category_id=b['category_id'], bbox=b['bbox'], score=0.9)
        for b in before['annotations']
    ]
    metric = COCOeval(truth, truth.loadRes(exact), 'bbox')
    for step in (metric.evaluate, metric.accumulate, metric.summarize):
        step()
    assert metric.stats[0] == pytest.approx(1.0)


def test_what_a_user_may_want_to_know(folder):
    content = coco_content(classes=('cat', 'dog', 'nothing'))
    content['annotations'] = content['annotations'][:2]
    content['annotations'].append(dict(content['annotations'][0], id=9, bbox=[1, 1, 0.2, 5]))
    content['annotations'].append(dict(content['annotations'][0], id=10, bbox=[70, 1, 9, 5]))
    notes = ' '.join(read(folder, content)[2])
    assert '1 of 4 boxes' in notes and 'narrower than a pixel' in notes
    assert 'lie outside of their images' in notes
    assert '2 of 4 images' in notes and 'have no box' in notes
    assert 'is of the class nothing' in notes


@pytest.mark.parametrize('width', ['64', None, 0])
def test_sizes_that_are_none(folder, width):
    images = [{**image, 'width': width} for image in coco_content()['images']]
    text = refused(folder, changed(images=images))
    assert f'the image 0.png has the width {width!r} and the height 48' in text
