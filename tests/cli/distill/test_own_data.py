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
