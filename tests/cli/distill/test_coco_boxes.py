"""Boxes that would be lost or learned wrongly, against what mmdet reads of the same file."""

import json
from collections import Counter
from pathlib import Path

import pytest
from mmdet.datasets import CocoDataset

from dpk_mm.cli.distill.coco_boxes import check_boxes, has_area, is_number
from dpk_mm.cli.distill.coco_file import read_coco_part
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import coco_content, write_images

FILE = Path('train.json')


def check(content):
    notes = []
    lists = (content[key] for key in ('images', 'annotations', 'categories'))
    return check_boxes(FILE, *lists, notes), notes


def labels_of_mmdet(folder, content, classes):
    (folder / 'read.json').write_text(json.dumps(content))
    dataset = CocoDataset(
        ann_file=str(folder / 'read.json'),
        data_prefix=dict(img=''),
        metainfo=dict(classes=classes),
        pipeline=[],
    )
    return Counter(
        classes[box['bbox_label']]
        for i in range(len(dataset))
        for box in dataset.get_data_info(i)['instances']
    )


@pytest.fixture
def odd():
    """Ids with gaps, categories out of order and with numbers for names, boxes of no area."""
    content = coco_content(classes=('7', '3'))
    for category, (key, name) in zip(content['categories'], ((90, 7), (5, 3)), strict=True):
        category.update(id=key, name=name)
    for image in content['images']:
        image['id'] = 1000 - 7 * image['id']
    for box in content['annotations']:
        box.update(
            image_id=1000 - 7 * box['image_id'], category_id={1: 90, 2: 5}[box['category_id']]
        )
    content['annotations'][0]['area'] = 0
    content['annotations'][1].pop('area')
    content['annotations'][3]['area'] = None
    return content


def test_no_box_of_an_odd_file_is_lost(tmp_path, odd):
    write_images(tmp_path, [image['file_name'] for image in odd['images']])
    file = tmp_path / 'train.json'
    file.write_text(json.dumps(odd))
    found, classes, notes = read_coco_part('train', file, [tmp_path])
    assert classes == ('7', '3') and found.part.boxes == 4
    corrected = found.part.content
    assert labels_of_mmdet(tmp_path, corrected, classes) == {'7': 2, '3': 2}
    assert [box['area'] for box in corrected['annotations']] == [32 * 24] * 4
    assert 'have numbers for names' in notes[0] and 'lack area' in notes[1]


def test_ignored_boxes_are_not_counted(tmp_path):
    content = coco_content()
    content['annotations'][0]['ignore'] = 1
    usable, notes = check(content)
    assert len(usable) == 3 == labels_of_mmdet(tmp_path, content, ('cat', 'dog')).total()
    assert notes[0] == '1 of 4 boxes of train.json are to be ignored and not used.'


def test_corners_in_place_of_a_size_are_refused():
    content = coco_content()
    for box in content['annotations']:
        x, y, width, height = box['bbox']
        box['bbox'] = [x + 20, y + 10, x + 20 + width, y + 10 + height]  # images of 64x48
    with pytest.raises(UsageError, match='4 of 4 boxes reach beyond their images, as .x1, y1, x2'):
        check(content)


def test_some_boxes_that_reach_beyond_their_images_are_said():
    content = coco_content()
    content['annotations'][2]['bbox'] = [40, 8, 30, 24]
    usable, notes = check(content)
    assert len(usable) == 4
    assert notes == [
        '1 of 4 boxes of train.json reach beyond the right or lower edge of their images: their bbox should be '
        '[x, y, width, height].'
    ]
    content['annotations'][2]['bbox'] = [40, 8, 24.6, 40.5]  # by rounding
    assert check(content)[1] == []


@pytest.mark.parametrize('number', [float('nan'), float('inf'), True, '8', None])
def test_what_is_no_number(number):
    assert not is_number(number)
    content = coco_content()
    content['annotations'][1]['bbox'][0] = number
    with pytest.raises(UsageError, match='the annotation of id 2 has the bbox'):
        check(content)


@pytest.mark.parametrize(('area', 'has'), [(4, True), (0.5, True), (0, False), (None, False)])
def test_areas(area, has):
    assert has_area(dict(area=area)) is has
    assert not has_area({})
