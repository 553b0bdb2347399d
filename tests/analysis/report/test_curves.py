from dpk_mm.analysis.report.curves import draw_curves
from dpk_mm.analysis.report.runs import load_run
from tests.helpers.report_runs import distillation, plain, write_run


def rows(charts):
    return {chart.title: [row[:3] for row in chart.table.rows] for chart in charts}


def test_curves_of_a_distillation(tmp_path):
    run = load_run(write_run(tmp_path / 'a', distillation()))
    assert rows(draw_curves([run], 'coco/bbox_mAP')) == {
        'Validation': [['student', '0.1', '0.2']],
        "The task's own loss": [["The task's own loss", '0.9917', '0.5']],
        'Losses of the distillation': [['loss_dpk', '1.992', '1.5']],
        'Gradient share of the distillation': [['Gradient share of the distillation', '2', '2']],
        'Mask ratio': [['P4', '0.5', '0.5'], ['P5', '0.25', '0.25']],
        'Similarity of student and teacher': [['P4', '0.5', '0.5'], ['P5', '0.75', '0.75']],
    }


def test_a_plain_training_has_its_loss_and_metric(tmp_path):
    run = load_run(write_run(tmp_path / 'a', plain(), distils=False))
    assert rows(draw_curves([run], 'coco/bbox_mAP')) == {
        'Validation': [['model', '0.1', '0.2']],
        "The task's own loss": [["The task's own loss", '2.983', '2']],
    }
    assert list(rows(draw_curves([run], None))) == ["The task's own loss"]


def test_several_runs_are_named_in_each_chart(tmp_path):
    runs = [
        load_run(write_run(tmp_path / 'a', plain(), distils=False)),
        load_run(write_run(tmp_path / 'b', distillation())),
    ]
    found = rows(draw_curves(runs, 'coco/bbox_mAP'))
    assert [row[0] for row in found['Validation']] == ['a', 'b']
    assert [row[0] for row in found["The task's own loss"]] == ['a', 'b']
    # the sum of the distillation: the total without the student's own
    assert found['Losses of the distillation'] == [['b', '1.992', '1.5']]
    assert [row[0] for row in found['Mask ratio']] == ['b: P4', 'b: P5']


def test_the_teacher_is_a_level_of_the_validation(tmp_path):
    run = load_run(write_run(tmp_path / 'a', distillation()))
    assert '>teacher<' in draw_curves([run], 'coco/bbox_mAP')[0].svg
