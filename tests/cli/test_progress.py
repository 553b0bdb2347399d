import pytest

from dpk_mm.cli.progress import Progress, describe, parse_progress

TRAIN = (
    '11/23 20:22:03 - mmengine - INFO - Epoch(train) [3][40/63]  lr: 7.5805e-04  eta: 0:01:38  '
    'time: 0.2205  data_time: 0.0086  grad_norm: 4.2744  loss: 1.6212  loss_rpn_cls: 0.0454'
)


class TestParseProgress:
    def test_training(self):
        assert parse_progress(TRAIN) == Progress('train', 3, 40, 63, '1.6212', '0:01:38')

    def test_padded_numbers_and_long_times(self):
        line = 'Epoch(train)   [ 3][ 40/630]  eta: 2 days, 1:02:03  time: 1.0  loss: nan'
        assert parse_progress(line) == Progress('train', 3, 40, 630, 'nan', '2 days, 1:02:03')

    def test_a_part_of_the_loss_is_not_the_loss(self):
        line = 'Epoch(train)  [1][10/63]  student.loss_cls: 0.5  distill.loss_dpk: 0.7  loss: 1.2'
        assert parse_progress(line).loss == '1.2'

    def test_validation_and_test(self):
        assert parse_progress('INFO - Epoch(val) [2][19/19]    coco/bbox_mAP: 0.04') == Progress(
            'val', 2, 19, 19
        )
        assert parse_progress('INFO - Epoch(test) [ 5/19]    eta: 0:00:10') == Progress(
            'test', None, 5, 19, None, '0:00:10'
        )

    @pytest.mark.parametrize('line', ['', 'Saving checkpoint at 2 epochs', 'loss: 1.0'])
    def test_other_lines(self, line):
        assert parse_progress(line) is None


def test_describe():
    assert describe(Progress('test', None, 5, 19, None, '0:00:10')) == (
        'evaluation batch 5/19, 0:00:10 left'
    )
    assert describe(Progress('train', 2, 5, 19, '1.5', '0:01:10'), 8) == (
        'epoch 2/8, iteration 5/19, loss 1.5, 0:01:10 left'
    )
