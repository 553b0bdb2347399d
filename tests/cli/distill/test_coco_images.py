"""Images that are not those that a COCO file speaks of."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dpk_mm.cli.distill.coco_file import read_coco_part
from dpk_mm.cli.distill.coco_images import check_sizes, image_folder
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import coco_content, write_images

FILE = Path('train.json')
IMAGES = coco_content()['images']  # of 64x48


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path, [image['file_name'] for image in IMAGES])
    return tmp_path


def test_the_folder_that_has_all_images(folder, tmp_path):
    (tmp_path / 'less').mkdir()
    (tmp_path / 'less' / '0.png').touch()
    assert image_folder('train', FILE, IMAGES, [tmp_path / 'less', folder]) == folder


def test_images_of_the_size_that_the_file_says(folder):
    check_sizes(FILE, IMAGES, folder)


def test_images_that_were_made_smaller_are_refused(folder):
    Image.new('RGB', (32, 24)).save(folder / '3.png')
    with pytest.raises(UsageError, match=r'3.png has 32x24 pixels, but the file says 64x48'):
        check_sizes(FILE, IMAGES, folder)
    file = folder / 'train.json'
    file.write_text(json.dumps(coco_content()))
    with pytest.raises(UsageError, match='32x24'):
        read_coco_part('train', file, [folder])


def test_images_that_are_turned_when_they_are_read_are_refused(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera on its side
    Image.new('RGB', (64, 48)).save(folder / 'turned.jpg', exif=exif)
    image = dict(IMAGES[0], file_name='turned.jpg')
    with pytest.raises(UsageError, match='48x64 pixels, turned as its EXIF data may say, but'):
        check_sizes(FILE, [image], folder)
    check_sizes(FILE, [dict(image, width=48, height=64)], folder)


def test_an_image_that_is_none(folder):
    (folder / '0.png').write_text('no image')
    with pytest.raises(UsageError, match=r'the image .*0.png cannot be read'):
        check_sizes(FILE, IMAGES, folder)


def test_only_some_of_many_images_are_read(folder):
    Image.new('RGB', (9, 9)).save(folder / 'other.png')
    many = [dict(IMAGES[i % 4], id=i) for i in range(100)]
    many[1] = dict(many[1], file_name='other.png')
    check_sizes(FILE, many, folder)  # the first and the eighth, not the second
    many[7] = many[1]
    with pytest.raises(UsageError, match='other.png has 9x9 pixels'):
        check_sizes(FILE, many, folder)
