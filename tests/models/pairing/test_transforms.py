import pytest

from dpk_mm.models.pairing.levels import LevelPair
from dpk_mm.models.pairing.probe import Feature
from dpk_mm.models.pairing.transforms import MOST_TOKENS, patch_size_of, stages_of, transform_of
from dpk_mm.models.pairs import PAIRS


def level(cells, size=1344, channels=256, **kwargs):
    feature = Feature('neck', 0, channels, (cells, cells), size / cells, **kwargs)
    return LevelPair(feature, feature)


@pytest.mark.parametrize(('name', 'cells'), [('P4', 84), ('P5', 42), ('P6', 21), ('P7', 11)])
def test_a_coco_pyramid_has_the_sizes_of_the_authors(name, cells):
    expected = PAIRS['coco/retinanet'].stages[name]._asdict()
    grid = expected.pop('grid')
    assert transform_of(level(cells)) == dict(expected, position_grid=(grid, grid))


@pytest.mark.parametrize('cells', [(1, 1), (21, 21), (22, 21), (64, 64), (128, 96), (333, 200)])
def test_patches_are_the_smallest_that_keep_the_tokens_few(cells):
    def tokens(patch):
        return -(-cells[0] // patch) * -(-cells[1] // patch)

    patch = patch_size_of(cells)
    assert tokens(patch) <= MOST_TOKENS
    assert patch == 1 or tokens(patch // 2) > MOST_TOKENS


def test_fine_and_coarse_levels_are_left_out():
    levels = [level(128, 512), level(32, 512), level(16, 512), level(4, 512)]
    assert [pair.stride for pair in stages_of(levels)] == [16, 32]


def test_the_last_level_stays_where_none_is_left():
    levels = [level(64, 256), level(32, 256)]
    assert stages_of(levels) == levels[-1:]


def test_a_classifier_has_the_deepest_alone():
    levels = [level(14, 224), level(7, 224)]
    assert stages_of(levels, deepest_only=True) == levels[-1:]


def test_tokens():
    plain = Feature('a', None, 192, (4, 8), 16, 1, True)
    found = transform_of(LevelPair(plain, plain._replace(extra_tokens=2)))
    assert (found['student_extra_tokens'], found['teacher_extra_tokens']) == (1, 2)
    assert found['student_grid'] == found['teacher_grid'] == (4, 8)


def test_widths_can_be_shared_by_the_heads():
    found = transform_of(level(7, 224, channels=97))
    assert found['embed_dims'] % found['num_heads'] == 0
