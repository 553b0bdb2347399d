import pytest

from dpk_mm.cli.distill.image_folders import class_folders, has_images, read_folder_part
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import write_class_folders


def test_classes_are_numbered_as_mmpretrain_does(tmp_path):
    from mmpretrain.datasets import CustomDataset

    folder = write_class_folders(tmp_path, ('b', 'a', 'Z')) / 'train'
    classes, count = read_folder_part('train', folder)
    dataset = CustomDataset(data_root=str(tmp_path), data_prefix='train', with_label=True)
    assert list(classes) == list(dataset.CLASSES)
    assert count == len(dataset) == 6


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
