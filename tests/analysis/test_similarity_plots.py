import cv2
import numpy as np
import pytest

from dpk_mm.analysis.feature_similarity import StageSimilarity
from dpk_mm.analysis.similarity_plots import plot_similarity, ranked_grid
from dpk_mm.errors import UsageError


def test_the_papers_grid():
    values = np.random.default_rng(0).permutation(400) / 400
    grid = ranked_grid(list(values))
    assert grid.shape == (20, 20)
    assert grid.ravel().tolist() == sorted(values, reverse=True)


@pytest.mark.parametrize(('n', 'shape'), [(1, (1, 1)), (5, (2, 3)), (7, (3, 3)), (12, (3, 4))])
def test_grids_that_are_not_full(n, shape):
    grid = ranked_grid(list(range(n)))
    assert grid.shape == shape
    flat = grid.ravel()
    assert flat[:n].tolist() == list(range(n))[::-1]
    assert np.isnan(flat[n:]).all()


def colours(path, bgr):
    image = cv2.imread(str(path)).astype(int)
    return int((np.abs(image - bgr).max(axis=2) < 4).sum())


def test_one_scale_for_all(tmp_path):
    # viridis from its darkest to its lightest colour
    dark, light = (84, 1, 68), (37, 231, 253)
    low = StageSimilarity('before', 'backbone', [0.25] * 4)
    high = StageSimilarity('after', 'backbone', [0.75] * 4)
    plot_similarity([low, high], tmp_path / 'new' / 'both.png')
    cells = [colours(tmp_path / 'new' / 'both.png', c) for c in (dark, light)]
    assert min(cells) > 5000
    assert abs(cells[0] - cells[1]) < 0.2 * max(cells)
    plot_similarity([low], tmp_path / 'one.png')
    assert colours(tmp_path / 'one.png', light) < 0.1 * cells[1]


def test_nothing_to_draw(tmp_path):
    with pytest.raises(UsageError, match='no similarity to draw'):
        plot_similarity([], tmp_path / 'x.png')


def test_what_is_not_finite_is_not_drawn(tmp_path):
    found = [
        StageSimilarity(name, 'neck', [0.5, value])
        for name, value in (('a', 0.25), ('b', float('nan')))
    ]
    with pytest.raises(UsageError, match='student b, stage neck: the similarity of batch 2 is nan'):
        plot_similarity(found, tmp_path / 'x.png')
    assert not list(tmp_path.iterdir())
