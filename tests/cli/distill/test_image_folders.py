import pytest

from dpk_mm.cli.distill.image_folders import class_folders, has_images, read_folder_part
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import write_class_folders, write_images


def test_classes_are_numbered_as_mmpretrain_does(tmp_path):
    from mmpretrain.datasets import CustomDataset

    folder = write_class_folders(tmp_path, ('b', 'a', 'Z')) / 'train'
    classes, count, notes = read_folder_part('train', folder)
    dataset = CustomDataset(data_root=str(tmp_path), data_prefix='train', with_label=True)
    assert list(classes) == list(dataset.CLASSES)
    assert count == len(dataset) == 6 and notes == []


def test_images_are_counted_as_mmpretrain_reads_them(tmp_path):
    from mmpretrain.datasets import CustomDataset

    folder = write_class_folders(tmp_path) / 'train'
    write_images(folder / 'ant', ['2.JPG', '3.Jpeg', '.hidden.png'])
    write_images(folder / 'bee' / 'inside', ['4.png'])
    write_images(tmp_path / 'elsewhere', ['5.png', '6.BMP', '7.png'])
    (folder / 'dog').symlink_to(tmp_path / 'elsewhere')
    write_images(folder, ['of_no_class.png'])
    write_images(folder / 'cow', ['8.webp', '9.TIFF'])
    classes, count, notes = read_folder_part('train', folder)
    dataset = CustomDataset(data_root=str(tmp_path), data_prefix='train', with_label=True)
    assert list(classes) == list(dataset.CLASSES) == ['ant', 'bee', 'cow', 'dog']
    assert count == len(dataset) == 6 + 2 + 1 + 3
    assert f'2 files of {folder} end in' in notes[0] and 'are not read' in notes[0]
    assert f'1 images lie in {folder} itself' in notes[1]


def test_a_folder_of_hidden_files_has_no_image(tmp_path):
    folder = write_class_folders(tmp_path) / 'train'
    write_images(folder / 'fox', ['._0.png'])  # what macOS leaves on other disks
    with pytest.raises(UsageError, match=r'fox has no image'):
        read_folder_part('train', folder)


def test_folders_without_images(tmp_path):
    folder = write_class_folders(tmp_path) / 'train'
    (folder / 'fox').mkdir()
    assert not has_images(folder / 'fox')
    assert class_folders(folder) == ['ant', 'bee', 'cow', 'fox']
    with pytest.raises(UsageError, match=r'fox has no image'):
        read_folder_part('train', folder)
    assert class_folders(folder / 'fox') == class_folders(folder / 'nowhere') == []
    with pytest.raises(UsageError, match='has 0 class folder'):
        read_folder_part('val', folder / 'fox')
