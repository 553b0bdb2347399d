import pytest
from mmengine.hub import get_config

from dpk_mm.errors import UsageError
from dpk_mm.models.pairing.zoo import find_config, near_names, published_checkpoint


def test_a_name_a_package_and_a_file_are_the_same_config():
    by_name = find_config('retinanet_r50_fpn_1x_coco', '--teacher')
    assert by_name.source == 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    assert find_config('retinanet_r50_fpn_1x_coco.py', '--teacher') == by_name
    assert find_config(by_name.source, '--teacher') == by_name
    assert find_config(by_name.source.removesuffix('.py'), '--teacher') == by_name
    assert find_config(str(by_name.file), '--teacher') == by_name


def test_the_checkpoint_is_that_of_the_metafile():
    found = find_config('retinanet_r50_fpn_1x_coco', '--teacher')
    assert found.checkpoint.endswith('retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth')
    assert found.trained_on == 'COCO'
    classifier = find_config('resnet18_8xb32_in1k', '--student')
    assert classifier.source == 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
    assert classifier.checkpoint.endswith('resnet18_8xb32_in1k_20210831-fbbb1da6.pth')


def test_of_several_checkpoints_of_a_config_the_one_of_its_name_counts():
    found = find_config('convnext-tiny_32xb128_in1k', '--teacher')
    assert '/convnext-tiny_32xb128_in1k_' in found.checkpoint
    # a model of the metafile that has no config of its own name
    other = find_config('convnext-tiny_in21k-pre_3rdparty_in1k', '--teacher')
    assert other.source == found.source
    assert 'in21k-pre' in other.checkpoint


@pytest.mark.parametrize(
    'name',
    [
        'mmdet::retinanet/retinanet_r101_fpn_2x_coco.py',
        'mmdet::retinanet/retinanet_r18_fpn_1x_coco',
        'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py',
        'mmpretrain::resnet/resnet18_8xb32_in1k.py',
    ],
)
def test_the_published_checkpoint_is_the_one_that_mmengine_finds(name):
    config = get_config(f'{name.removesuffix(".py")}.py', pretrained=True)
    url = published_checkpoint(name)
    assert url == config.model_path and url.endswith('.pth')
    assert published_checkpoint(str(find_config(name, '--teacher').file)) == url
    assert published_checkpoint(config.filename) == url


def test_what_no_zoo_publishes():
    several = (
        'mmdet::deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py'
    )
    assert isinstance(get_config(several, pretrained=True).model_path, list)
    for name in (None, 'some/file.py', 'mmdet::retinanet/nothing.py', 'timm::resnet18', several):
        assert published_checkpoint(name) is None


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text('model = dict()')
    found = find_config(str(file), '--teacher')
    assert (found.source, found.checkpoint, found.stem) == (str(file), None, 'mine')


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('retinanet_r5_fpn_1x', 'retinanet_r50_fpn_1x_coco'),
        ('rtmdet_tiny', 'rtmdet_tiny_8xb32-300e_coco'),
        ('mmdet::retinanet/retinanet_r50_fpn_1x.py', 'no such config of mmdet'),
        ('mmdet::fcos/retinanet_r50_fpn_1x_coco.py', 'retinanet_r50_fpn_1x_coco'),
        ('timm::resnet18', 'it is one of mmdet, mmpretrain'),
        ('@@@', 'no name is similar'),
    ],
)
def test_an_unknown_name_lists_near_ones(name, words):
    with pytest.raises(UsageError, match=r'^--student ') as error:
        find_config(name, '--student')
    assert words in str(error.value)
    assert str(error.value).endswith('.')


def test_a_file_that_is_no_config(tmp_path):
    file = tmp_path / 'teacher.pth'
    file.write_text('')
    with pytest.raises(UsageError, match='is no config'):
        find_config(str(file), '--teacher')


def test_names_that_begin_so_come_first():
    assert near_names('fcos_r50')[0].startswith('fcos_r50')
    assert all('::' not in name for name in near_names('resnet', 'mmpretrain'))
