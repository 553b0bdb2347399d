import pytest

from dpk_mm.models.pairing.levels import LevelPair, pair_by_stride
from dpk_mm.models.pairing.probe import Feature


def pyramid(size, cells):
    return [Feature('neck', i, 8, (n, n), size / n) for i, n in enumerate(cells)]


def indices(pairs):
    return [(pair.student.index, pair.teacher.index) for pair in pairs]


def test_by_stride_and_not_by_place():
    two_stage, one_stage = pyramid(512, [128, 64, 32, 16, 8]), pyramid(512, [64, 32, 16, 8, 4])
    assert indices(pair_by_stride(two_stage, one_stage)) == [(1, 0), (2, 1), (3, 2), (4, 3)]


def test_strides_that_are_no_powers_of_two():
    lite, ssd = pyramid(320, [20, 10, 5, 3, 2, 1]), pyramid(320, [40, 20, 10, 5, 3, 1])
    assert indices(pair_by_stride(lite, ssd)) == [(0, 1), (1, 2), (2, 3), (3, 4), (5, 5)]


def test_sizes_that_differ_by_rounding():
    assert indices(pair_by_stride(pyramid(300, [38, 19]), pyramid(300, [37, 18]))) == [
        (0, 0),
        (1, 1),
    ]


def test_twice_the_size_is_no_pair():
    assert pair_by_stride(pyramid(64, [8]), pyramid(64, [4, 16])) == []


def test_of_several_of_one_stride_the_deepest():
    assert indices(pair_by_stride(pyramid(64, [16, 16]), pyramid(64, [16, 16]))) == [(1, 1)]


@pytest.mark.parametrize(
    ('size', 'cells', 'stride', 'name'),
    [(1344, 11, 128, 'P7'), (300, 19, 16, 'P4'), (300, 10, 32, 'P5'), (300, 3, 100, 's100')],
)
def test_names(size, cells, stride, name):
    feature = pyramid(size, [cells])[0]
    pair = LevelPair(feature, feature)
    assert (pair.stride, pair.name) == (stride, name)
