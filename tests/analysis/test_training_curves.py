import json

import cv2
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from dpk_mm.analysis.training_curves import (
    Scalars,
    line_style,
    load_scalars,
    plot_losses,
    plot_mask_ratio,
    smooth,
    split_loss,
)
from dpk_mm.errors import UsageError


def write_run(work_dir, stamp, records, tail=''):
    folder = work_dir / stamp / 'vis_data'
    folder.mkdir(parents=True)
    lines = ''.join(json.dumps(record) + '\n' for record in records)
    (folder / 'scalars.json').write_text(lines + tail)
    return folder / 'scalars.json'


def distilled(steps):
    return [
        {
            'loss': 5.0 + 1 / step,
            'student.loss_cls': 1.0,
            'student.loss_bbox': 1 / step,
            'student.acc': 90.0,
            'distill.loss_dpk': 4.0,
            'mask_ratio/P4': 0.3,
            'mask_ratio/P5': 0.4,
            'similarity/P4': 0.7,
            'similarity/P5': 0.6,
            'epoch': 1,
            'iter': step,
            'step': step,
        }
        for step in steps
    ]


class TestLoadScalars:
    def test_training_and_validation_records_are_told_apart(self, tmp_path):
        file = write_run(
            tmp_path,
            'a',
            [{'loss': 2.0, 'iter': 10, 'step': 10}, {'coco/bbox_mAP': 0.1, 'step': 1}],
        )
        for source in (file, tmp_path):
            scalars = load_scalars(source)
            assert [r['loss'] for r in scalars.train] == [2.0]
            assert [r['coco/bbox_mAP'] for r in scalars.val] == [0.1]

    def test_a_resumed_run_replaces_what_it_repeats(self, tmp_path):
        write_run(
            tmp_path,
            '20260101_000000',
            [
                *({'loss': 1.0, 'iter': i, 'step': i} for i in (10, 20)),
                {'coco/bbox_mAP': 0.1, 'step': 1},
                *({'loss': 1.0, 'iter': i, 'step': i} for i in (30, 40)),
                {'coco/bbox_mAP': 0.2, 'step': 2},
            ],
        )
        write_run(
            tmp_path,
            '20260102_000000',
            [
                *({'loss': 9.0, 'iter': i, 'step': i} for i in (30, 40, 50)),
                {'coco/bbox_mAP': 0.3, 'step': 2},
            ],
        )
        scalars = load_scalars(tmp_path)
        steps, values = scalars.series('loss')
        assert steps.tolist() == [10, 20, 30, 40, 50]
        assert values.tolist() == [1, 1, 9, 9, 9]
        assert [(r['step'], r['coco/bbox_mAP']) for r in scalars.val] == [(1, 0.1), (2, 0.3)]

    def test_an_attempt_that_logged_nothing_changes_nothing(self, tmp_path):
        write_run(tmp_path, 'a', [{'loss': 1.0, 'iter': 10}])
        write_run(tmp_path, 'b', [])
        assert len(load_scalars(tmp_path).train) == 1

    @pytest.mark.parametrize(
        ('begin', 'kept'), [(10, []), (30, [1]), (50, [1, 2])], ids=['anew', 'further back', 'on']
    )
    def test_old_validations_of_what_is_trained_again_are_left_out(self, tmp_path, begin, kept):
        first = [{'loss': 1.0, 'iter': i, 'step': i} for i in (10, 20, 30, 40)]
        first.insert(2, {'acc': 0.1, 'step': 1})
        write_run(tmp_path, 'a', [*first, {'acc': 0.2, 'step': 2}])
        # stopped before a validation
        write_run(tmp_path, 'b', [{'loss': 2.0, 'iter': begin, 'step': begin}])
        scalars = load_scalars(tmp_path)
        assert [r['step'] for r in scalars.val] == kept
        assert scalars.log == 'b'

    def test_validations_of_a_training_by_iterations(self, tmp_path):
        """mmengine writes epoch 0 for each; a resumed one keeps those that it does not repeat."""

        def part(begin, end, value):
            for i in range(begin, end + 1, 10):
                yield {'loss': value, 'iter': i, 'step': i}
                if i % 20 == 0:
                    yield {'acc': value + i, 'step': 0}

        write_run(tmp_path, 'a', part(10, 60, 0.0))
        write_run(tmp_path, 'b', part(50, 80, 0.5))
        found = [(r['step'], r['acc']) for r in load_scalars(tmp_path).val]
        assert found == [(20, 20), (40, 40), (60, 60.5), (80, 80.5)]

    def test_epochs_of_an_evaluation_in_two_records_stay(self, tmp_path):
        records = [{'iter': 10}, {'a': 1, 'step': 1}, {'b': 2, 'step': 1}]
        write_run(tmp_path, 'a', [{'a': 0, 'step': 0}, *records])
        assert [r['step'] for r in load_scalars(tmp_path).val] == [0, 1, 1]

    def test_a_half_written_last_line_is_left_out(self, tmp_path):
        file = write_run(tmp_path, 'a', [{'loss': 1.0, 'iter': 10}], tail='{"loss": 2.0, "it')
        assert len(load_scalars(file).train) == 1

    def test_a_spoilt_line_in_the_middle_is_an_error(self, tmp_path):
        file = tmp_path / 'scalars.json'
        file.write_text('{"iter": 1}\nnonsense\n{"iter": 2}\n')
        with pytest.raises(UsageError, match='line 2 is not a JSON object'):
            load_scalars(file)

    def test_says_what_is_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='vis_data/scalars.json does not exist'):
            load_scalars(tmp_path)
        with pytest.raises(FileNotFoundError, match='nothing.json does not exist'):
            load_scalars(tmp_path / 'nothing.json')

    def test_series_of_an_unknown_name_is_empty(self):
        steps, values = Scalars([{'iter': 1}], []).series('loss')
        assert steps.shape == values.shape == (0,)


class TestSmooth:
    def test_against_the_definition(self):
        values = np.random.default_rng(0).normal(size=30)
        expected = []
        for t in range(30):
            weights = 0.7 ** np.arange(t, -1, -1)
            expected.append((weights * values[: t + 1]).sum() / weights.sum())
        np.testing.assert_allclose(smooth(values, 0.7), expected, rtol=1e-12)

    def test_keeps_constants_and_weight_zero_changes_nothing(self):
        np.testing.assert_allclose(smooth(np.full(5, 3.0), 0.9), 3.0)
        assert smooth(np.array([1.0, 5.0]), 0.0).tolist() == [1.0, 5.0]

    def test_what_is_not_finite_is_a_gap(self):
        values = np.array([1.0, np.nan, 3.0, np.inf])
        # weights 1/4 and 1 of the values two steps apart
        expected = [1.0, np.nan, (0.25 * 1 + 3) / 1.25, np.inf]
        np.testing.assert_allclose(smooth(values, 0.5), expected)
        assert np.isnan(smooth(np.array([np.nan]), 0.5)[0])

    @pytest.mark.parametrize('weight', [-0.1, 1.0])
    def test_refuses_other_weights(self, weight):
        with pytest.raises(UsageError, match='must be in'):
            smooth(np.ones(2), weight)


class TestSplitLoss:
    def test_distilled(self):
        steps, task, distil = split_loss(Scalars(distilled([1, 2, 4]), []))
        assert steps.tolist() == [1, 2, 4]
        np.testing.assert_allclose(task, [2.0, 1.5, 1.25])
        np.testing.assert_allclose(distil, 4.0)

    def test_plain(self):
        _, task, distil = split_loss(Scalars([{'iter': 1, 'loss': 2.0, 'loss_cls': 1.5}], []))
        assert task.tolist() == [2.0] and distil.tolist() == [0.0]

    def test_without_a_loss(self):
        with pytest.raises(UsageError, match='scalars of a training'):
            split_loss(Scalars([{'iter': 1}], []))


def count_pixels(path, hex_colour):
    """Pixels close to a colour (BGR in the file)."""
    image = cv2.imread(str(path)).astype(int)
    rgb = [int(hex_colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(image - rgb[::-1]).max(axis=2) < 12).sum())


def test_21_lines_with_markers_look_different():
    looks = [tuple(line_style(index).values()) for index in range(21)]
    assert len(set(looks)) == 21
    assert looks[0] == ('#0072B2', 'o', '-', 'full')
    assert looks[7] == ('#0072B2', 'o', '--', 'none')


class TestPlots:
    def test_mask_ratio_shows_a_line_per_level_in_both_panels(self, tmp_path):
        out = tmp_path / 'new' / 'ratio.png'
        plot_mask_ratio(Scalars(distilled(range(10, 400, 10)), []), out)
        assert count_pixels(out, '#0072B2') > 500
        assert count_pixels(out, '#D55E00') > 500
        assert count_pixels(out, '#009E73') < 50

    def test_losses_of_a_plain_and_a_distilled_run(self, tmp_path):
        plain = Scalars([{'iter': i, 'loss': 2.0} for i in range(10, 400, 10)], [])
        both = {'alone': plain, 'DPK': Scalars(distilled(range(10, 400, 10)), [])}
        plot_losses(both, tmp_path / 'both.png')
        plot_losses({'alone': plain}, tmp_path / 'one.png')
        assert count_pixels(tmp_path / 'both.png', '#D55E00') > 500
        # Without distillation there is no second panel.
        heights = [cv2.imread(str(tmp_path / f'{n}.png')).shape[0] for n in ('one', 'both')]
        assert heights[0] < heights[1]

    def test_the_eighth_run_does_not_look_as_the_first(self, tmp_path, monkeypatch):
        figures = []
        monkeypatch.setattr(Figure, 'savefig', lambda self, *args, **kwargs: figures.append(self))
        plain = Scalars([{'iter': i, 'loss': 2.0} for i in range(10, 400, 10)], [])
        plot_losses({str(i): plain for i in range(22)}, tmp_path / 'x.png')
        lines = [line for line in figures[0].axes[0].lines if not line.get_label().startswith('_')]
        looks = [(line.get_color(), str(line._dash_pattern)) for line in lines]
        assert len(looks) == len(set(looks)) == 22
        assert looks[0][0] == looks[7][0]

    def test_refuses_runs_that_have_nothing_to_draw(self, tmp_path):
        with pytest.raises(UsageError, match='CKAMaskRatioHook'):
            plot_mask_ratio(Scalars([{'iter': 1, 'loss': 1.0}], []), tmp_path / 'x.png')
        with pytest.raises(UsageError, match='at least one'):
            plot_losses({}, tmp_path / 'x.png')
        with pytest.raises(UsageError, match="^killed: no record holds 'loss'"):
            plot_losses({'killed': Scalars([], [])}, tmp_path / 'x.png')
        assert not list(tmp_path.iterdir())

    def test_the_callers_backend_stays(self, tmp_path):
        before = matplotlib.get_backend()
        try:
            matplotlib.use('svg')
            plot_losses({'a': Scalars([{'iter': 1, 'loss': 1.0}], [])}, tmp_path / 'x.png')
            assert matplotlib.get_backend() == 'svg'
        finally:
            matplotlib.use(before)
