"""Which sizes are a pair."""

import pytest

from dpk_mm.errors import UsageError
from dpk_mm.models.loss_parts.resizing import check_pair


def refused(student, teacher, resize=False):
    try:
        check_pair(student, teacher, resize, 'Loss: level 0', 'name others')
    except UsageError:
        return True
    return False


@pytest.mark.parametrize('stride', [4, 8, 16, 32])
@pytest.mark.parametrize('image', [64, 96, 224, 320, 333, 500, 801, 1333])
def test_strides_of_a_pyramid(stride, image):
    """Sizes are those of 3x3 convolutions of stride 2 and padding 1: halved upwards."""

    def cells(stride):
        size = image
        while stride > 1:
            size, stride = (size + 1) // 2, stride // 2
        return size

    own, other = cells(stride), cells(2 * stride)
    assert not refused((own, own), (own, own))
    if other > 2:  # of fewer cells nothing can be said
        assert refused((own, own), (other, other))
        assert refused((other, other), (own, own))
        assert not refused((other, other), (own, own), resize=True)


@pytest.mark.parametrize(
    ('student', 'teacher', 'expected'),
    [
        ((14, 14), (16, 16), False),  # patches of 16 and of 14
        ((14, 14), (24, 24), False),
        ((7, 7), (14, 14), True),
        ((5, 7), (8, 12), False),
        ((8, 6), (8, 12), True),  # in one direction
        ((1, 1), (2, 2), True),
        ((2, 3), (3, 3), False),
    ],
)
def test_sizes(student, teacher, expected):
    assert refused(student, teacher) is expected


def test_the_sentence():
    with pytest.raises(UsageError) as error:
        check_pair((10, 12), (20, 24), False, 'FGDLoss: level 0', 'give other indices')
    assert str(error.value) == (
        "FGDLoss: level 0 compares the student's map of 10x12 with the teacher's of 20x24, which has another stride: "
        'give other indices, or set resize=True there if the two are to be compared.'
    )
