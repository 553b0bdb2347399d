import json

import pytest

from dpk_mm.cli.distill.find_data import find_parts
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import coco_content, write_class_folders, write_coco, write_images


def test_annotations_beside_images(tmp_path):
    found = find_parts([str(write_coco(tmp_path))])
    assert found.task == 'detection'
    assert found.files == {
        part: tmp_path / 'annotations' / f'{part}.json' for part in ('train', 'val')
    }
    assert tmp_path / 'images' in found.images['train']


def test_coco_itself(tmp_path):
    for part in ('train', 'val'):
        (tmp_path / f'{part}2017').mkdir()
        for kind in ('instances', 'captions', 'person_keypoints'):
            file = tmp_path / 'annotations' / f'{kind}_{part}2017.json'
            file.parent.mkdir(exist_ok=True)
            file.write_text('{}')
    found = find_parts([str(tmp_path)])
    assert found.files['val'] == tmp_path / 'annotations' / 'instances_val2017.json'
    assert found.images['train'][0] == tmp_path / 'train2017'


def test_annotations_in_the_folders_of_the_images(tmp_path):
    for part in ('train', 'valid', 'test'):
        (tmp_path / part).mkdir()
        (tmp_path / part / '_annotations.coco.json').write_text('{}')
    found = find_parts([str(tmp_path)])
    assert list(found.files) == ['train', 'val', 'test']
    assert found.images['val'][0] == tmp_path / 'valid'


def test_two_files_and_their_images(tmp_path):
    write_coco(tmp_path)
    files = [str(tmp_path / 'annotations' / f'{part}.json') for part in ('train', 'val')]
    assert find_parts(files).images['val'][0] == tmp_path / 'images'
    one = find_parts(files, [str(tmp_path)])
    assert one.images == dict(train=[tmp_path], val=[tmp_path])
    two = find_parts(files, [str(tmp_path), str(tmp_path / 'images')])
    assert two.images['val'] == [tmp_path / 'images']


def test_class_folders(tmp_path):
    found = find_parts([str(write_class_folders(tmp_path))])
    assert found.task == 'classification'
    assert found.folders == dict(train=tmp_path / 'train', val=tmp_path / 'val')


def refused(paths, images=()):
    with pytest.raises(UsageError) as error:
        find_parts([str(path) for path in paths], [str(image) for image in images])
    text = str(error.value)
    assert text.startswith('--') and text.endswith('.') and '\n' not in text
    return text


def test_what_cannot_be_used_is_one_sentence(tmp_path):
    assert 'does not exist' in refused([tmp_path / 'nowhere'])
    (tmp_path / 'empty').mkdir()
    assert 'holds nothing' in refused([tmp_path / 'empty'])
    file = tmp_path / 'train.json'
    file.write_text(json.dumps(coco_content()))
    assert 'add the COCO file of the validation' in refused([file])
    assert 'but got 4' in refused([file] * 4)
    assert 'takes one folder' in refused([file, tmp_path])
    assert 'nothing for val' in refused([tmp_path])
    assert 'is no folder' in refused([file, file], [file])
    assert 'one for each of the 2 files' in refused([file, file], [tmp_path] * 3)
    other = tmp_path / 'labels.txt'
    other.write_text('')
    assert 'a COCO file (.json)' in refused([file, other])


def test_class_folders_without_parts_and_with_images(tmp_path):
    folder = write_class_folders(tmp_path / 'a')
    assert 'not clear: put the class folders into train/ and val/' in refused([folder / 'train'])
    assert '--images is for COCO files' in refused([folder], [folder])
    for part in ('train', 'val'):
        (tmp_path / 'b' / 'annotations').mkdir(parents=True, exist_ok=True)
        (tmp_path / 'b' / 'annotations' / f'{part}.json').write_text('{}')
    (tmp_path / 'b' / 'annotations' / 'train_small.json').write_text('{}')
    assert 'which file is that of train is not clear' in refused([tmp_path / 'b'])


@pytest.mark.parametrize(
    ('name', 'parts'), [('trainval', 'train and val'), ('latest_train', 'train and test')]
)
def test_one_file_is_not_taken_for_two_parts(tmp_path, name, parts):
    """A student would be tested on the images that it learned."""
    write_coco(tmp_path)
    annotations = tmp_path / 'annotations'
    (annotations / 'train.json').rename(annotations / f'{name}.json')
    if 'val' in name:
        (annotations / 'val.json').unlink()
    assert f'{name}.json has the name of {parts}: name the files' in refused([tmp_path])


@pytest.mark.parametrize(
    ('images', 'boxes', 'kind'),
    [
        ('train/images', 'train/labels/0.txt', 'YOLO'),
        ('images/train', 'labels/train/0.txt', 'YOLO'),
        ('images', 'labels/0.txt', 'YOLO'),
        ('JPEGImages', 'Annotations/0.xml', 'Pascal VOC'),
        ('VOC2007/JPEGImages', 'VOC2007/Annotations/0.xml', 'Pascal VOC'),
        ('train', 'train/0.xml', 'Pascal VOC'),
    ],
)
def test_boxes_of_other_formats_are_not_taken_for_class_folders(tmp_path, images, boxes, kind):
    write_images(tmp_path / images, ['0.png'])
    file = tmp_path / boxes
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('')
    text = refused([tmp_path])
    assert f'{file} looks like boxes of {kind}' in text and 'convert them to COCO' in text


def test_classes_with_other_files_stay_classes(tmp_path):
    folder = write_class_folders(tmp_path, ('images', 'labels'))
    for file in ('train/labels/notes.txt', 'train/about.xml', 'about.xml'):
        (folder / file).write_text('')
    assert find_parts([str(folder)]).task == 'classification'
