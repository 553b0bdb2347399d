import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from dpk_mm.analysis.epoch_curves import epoch_means, plot_epochs
from dpk_mm.analysis.training_curves import Scalars
from dpk_mm.errors import UsageError


def records(stages=('P4',), shift=0.0):
    train = []
    for i, (ratio, s) in enumerate([(0.9, 0.1), (0.7, 0.3), (0.5, 0.5), (0.25, 0.75)]):
        record = {'iter': i, 'epoch': 1 + i // 2, 'loss': 1.0}
        for stage in stages:
            record[f'mask_ratio/{stage}'] = ratio - shift
            record[f'similarity/{stage}'] = s + shift
        train.append(record)
    train.append({'iter': 4, 'epoch': 3, 'loss': 1.0})
    return train


def test_means_of_each_epoch():
    assert epoch_means(Scalars(records(), []), 'mask_ratio/') == {'P4': [0.8, 0.375, None]}
    assert epoch_means(Scalars(records(), []), 'similarity/') == {'P4': [0.2, 0.625, None]}
    assert epoch_means(Scalars([{'iter': 1, 'epoch': 1, 'loss': 1.0}], []), 'mask_ratio/') == {}


def test_what_is_not_finite_does_not_count():
    train = records()
    train[0]['mask_ratio/P4'] = train[2]['mask_ratio/P4'] = train[3]['mask_ratio/P4'] = float('nan')
    assert epoch_means(Scalars(train, []), 'mask_ratio/') == {'P4': [0.7, None, None]}


def count_pixels(path, hex_colour):
    image = cv2.imread(str(path)).astype(int)
    rgb = [int(hex_colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(image - rgb[::-1]).max(axis=2) < 12).sum())


def test_a_line_for_each_run_and_a_column_for_each_stage(tmp_path):
    runs = {
        name: Scalars(records(('P4', 'P5'), shift), [])
        for name, shift in (('small', 0.0), ('large', 0.1))
    }
    assert plot_epochs(runs, tmp_path / 'new' / 'two.png', 'Title') == ['P4', 'P5']
    assert count_pixels(tmp_path / 'new' / 'two.png', '#0072B2') > 300
    assert count_pixels(tmp_path / 'new' / 'two.png', '#D55E00') > 300
    assert count_pixels(tmp_path / 'new' / 'two.png', '#009E73') < 30
    assert plot_epochs({'a': Scalars(records(), [])}, tmp_path / 'one.png') == ['P4']
    widths = [cv2.imread(str(p)).shape[1] for p in (tmp_path / 'one.png', tmp_path / 'new/two.png')]
    assert widths[0] < widths[1]


def test_the_eighth_run_does_not_look_as_the_first(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, 'savefig', lambda self, *args, **kwargs: figures.append(self))
    plot_epochs({str(i): Scalars(records(), []) for i in range(9)}, tmp_path / 'x.png')
    for axis in figures[0].axes:
        looks = [
            (line.get_color(), line.get_linestyle(), line.get_fillstyle()) for line in axis.lines
        ]
        assert len(looks) == len(set(looks)) == 9
        assert looks[0][0] == looks[7][0]


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(UsageError, match="baseline: no record holds 'mask_ratio/<stage>'"):
        plot_epochs({'baseline': Scalars([{'iter': 1, 'epoch': 1}], [])}, tmp_path / 'x.png')
    with pytest.raises(UsageError, match='give at least one'):
        plot_epochs({}, tmp_path / 'x.png')
    assert not list(tmp_path.iterdir())


def test_a_training_by_iterations_has_no_epochs(tmp_path):
    train = [{'iter': i, 'mask_ratio/P4': 0.5, 'similarity/P4': 0.5} for i in range(3)]
    runs = {'good': Scalars(records(), []), 'iterations': Scalars(train, [])}
    with pytest.raises(UsageError, match='^iterations: no record of a mask ratio holds an epoch'):
        plot_epochs(runs, tmp_path / 'x.png')
    assert not list(tmp_path.iterdir())
