import pytest
from mmengine.config import ConfigDict

from dpk_mm.errors import UsageError
from dpk_mm.models.pairing.checks import check_exchanged, check_images, check_task
from dpk_mm.models.pairing.networks import Network
from dpk_mm.models.pairing.probe import Look


def network(scope):
    return Network('model.x', ConfigDict(type='X'), scope)


def test_tasks():
    check_task(network('mmdet'), network('mmdet'), ['fgd'])
    with pytest.raises(
        UsageError, match='architecture is a detector and model.teacher a classifier'
    ):
        check_task(network('mmdet'), network('mmpretrain'), ['fgd'])
    with pytest.raises(UsageError, match='fgd is not for a classifier; there are dpk, kd'):
        check_task(network('mmpretrain'), network('mmpretrain'), ['fgd'])


def look(parameters, operations, backbone='ResNet'):
    attributes = dict(backbone=backbone)
    return Look(
        'detector',
        'X',
        (1, 1),
        None,
        parameters=parameters,
        operations=operations,
        attributes=attributes,
    )


def test_images_of_as_many_channels():
    grey, colour = look(20, 20), look(20, 20)
    grey.image_channels = 1
    check_images(grey, grey)
    check_images(colour, colour)
    with pytest.raises(UsageError, match='takes images of 1 channel, and model.teacher of 3 chan'):
        check_images(grey, colour)


@pytest.mark.parametrize('teacher', [(20, 20), (19, 19), (5, 20), (20, 5)])
def test_pairs_the_right_way_round(teacher):
    check_exchanged(look(20, 20), look(*teacher))


def test_exchanged():
    with pytest.raises(UsageError, match='exchange the two, or set model.smaller_teacher=True'):
        check_exchanged(look(20, 20), look(10, 10))
    with pytest.raises(UsageError, match='exchange the two'):
        check_exchanged(look(20, 20), look(4, 4, 'MobileNetV3'))


def test_another_kind_may_be_better_at_a_smaller_size():
    check_exchanged(look(20, 20), look(10, 10, 'EfficientNet'))
