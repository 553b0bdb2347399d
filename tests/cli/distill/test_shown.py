import io

from rich.console import Console

from dpk_mm.cli.distill.shown import Shown, short_metrics
from dpk_mm.models.pairing import Row

VAL = (
    '11/27 00:19:49 - mmengine - INFO - Epoch(val) [1][1/1]    coco/bbox_mAP: 0.1230  coco/bbox_mAP_50: 0.2  '
    'coco/bbox_mAP_75: 0.1  coco/bbox_mAP_s: 0.0  data_time: 0.05  time: 1.47'
)
STEP = '11/27 00:19:47 - mmengine - INFO - Epoch(val) [1][1/1]    eta: 0:00:00  time: 1.4778  data_time: 0.0530'
TRAIN = '11/27 00:19:29 - mmengine - INFO - Epoch(train) [2][5/10]  lr: 1e-3  eta: 0:00:05  time: 5.2  loss: 2.89'


def shown():
    return Shown(Console(file=io.StringIO(), width=120, force_terminal=False))


def test_metrics_of_a_validation_are_shown_and_its_steps_are_not():
    on = shown()
    with on.bar('student', 2) as line:
        for text in (TRAIN, STEP, VAL, 'something else'):
            line(text)
    assert (
        on.console.file.getvalue().strip() == 'bbox_mAP 0.123, bbox_mAP_50 0.200, bbox_mAP_75 0.100'
    )


def test_a_bar_counts_iterations_of_all_epochs():
    on = Shown(Console(file=io.StringIO(), width=120, force_terminal=True))
    with on.bar('student', 4) as line:
        line(TRAIN)
        (task,) = on._bars.tasks
        assert (task.completed, task.total) == (15, 40)
        assert 'loss 2.89' in task.fields['info']
    assert on._bars.tasks == []


def test_rows_and_brackets():
    on = shown()
    on.rows('The student', [Row('head[0]', '[1, 2]', 'why')])
    on.rows('Nothing', [])
    terminal = Shown(Console(file=io.StringIO(), width=120, force_terminal=True))
    terminal.rows('The student', [Row('head[0]', '[1, 2]', 'why')])
    assert 'head[0]' in terminal.console.file.getvalue()
    text = on.console.file.getvalue()
    assert text.splitlines()[0] == 'The student'
    assert 'head[0]' in text and '[1, 2]' in text and 'Nothing' not in text


def test_metrics_that_are_not_numbers():
    assert short_metrics('accuracy/top1: 50.1234  accuracy/top5: nan') == 'top1 50.123, top5 nan'
