import json
import shutil

import pytest

from dpk_mm.cli.distill.own_data import read_data
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import coco_content, write_class_folders, write_coco


def test_detection(tmp_path):
    data = read_data([str(write_coco(tmp_path))])
    assert (data.task, data.classes, data.notes) == ('detection', ('cat', 'dog'), [])
    assert {name: part.count for name, part in data.parts.items()} == dict(train=4, val=2)


def test_validation_images_that_are_training_images_are_said(tmp_path):
    data = read_data([str(write_coco(tmp_path, val=coco_content(2)))])
    assert 'the metric is too good' in data.notes[0]


def test_an_empty_validation(tmp_path):
    folder = write_coco(tmp_path)
    content = coco_content(2, start=100)
    content['annotations'] = []
    (folder / 'annotations' / 'val.json').write_text(json.dumps(content))
    with pytest.raises(
        UsageError, match=r'val\.json cannot be learned from or tested on: it has no box'
    ):
        read_data([str(folder)])


def test_classification(tmp_path):
    data = read_data([str(write_class_folders(tmp_path))])
    assert (data.task, data.classes) == ('classification', ('ant', 'bee', 'cow'))
    assert data.parts['val'].count == 6


@pytest.mark.parametrize('part', ['train', 'val'])
def test_class_folders_have_to_be_the_same(tmp_path, part):
    folder = write_class_folders(tmp_path)
    shutil.rmtree(folder / part / 'bee')
    words = 'lacks bee' if part == 'val' else 'has bee besides'
    with pytest.raises(UsageError, match=f'{words}, but the class folders'):
        read_data([str(folder)])


def test_the_state_of_a_part_is_what_its_annotations_say(tmp_path):
    folder = write_coco(tmp_path / 'coco')
    before = read_data([str(folder)]).parts
    content = coco_content()
    content['annotations'][0]['bbox'] = [9, 8, 32, 24]  # as many images and boxes
    write_coco(folder, content)
    after = read_data([str(folder)]).parts
    assert before['val'].state() == after['val'].state()
    assert (
        after['train'].state()
        != read_data([str(write_coco(tmp_path / 'coco'))]).parts['train'].state()
    )


def test_the_state_of_class_folders_is_the_list_of_their_files(tmp_path):
    folder = write_class_folders(tmp_path)
    before = {name: part.state() for name, part in read_data([str(folder)]).parts.items()}
    again = write_class_folders(tmp_path / 'elsewhere')
    assert before == {name: part.state() for name, part in read_data([str(again)]).parts.items()}
    (folder / 'train' / 'ant' / '0.png').rename(folder / 'train' / 'bee' / '2.png')
    after = {name: part.state() for name, part in read_data([str(folder)]).parts.items()}
    assert after['val'] == before['val'] and after['train'] != before['train']
