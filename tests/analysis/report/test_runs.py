import json
from pathlib import Path

import pytest

from dpk_mm.analysis.report.runs import load_run
from dpk_mm.errors import UsageError
from tests.helpers.report_runs import distillation, plain, write_run

ROOT = Path(__file__).parents[3]


def test_what_a_folder_says(tmp_path):
    folder = write_run(tmp_path / 'dpk', distillation())
    (folder / 'chosen.json').write_text(json.dumps([['levels', ['P4'], 'equal strides']]))
    run = load_run(folder)
    assert run.name == 'dpk' and load_run(folder, 'other').name == 'other'
    assert run.metric_names() == ['coco/bbox_mAP']
    assert run.metrics('coco/bbox_mAP') == [(1.0, 0.1), (2.0, 0.25), (3.0, 0.2)]
    assert run.chosen == [('levels', "['P4']", 'equal strides')]
    assert run.config_text == 'lr = 0.01  # <rate>\n'
    assert run.distils and run.record['metric'] == 'coco/bbox_mAP'
    assert not load_run(write_run(tmp_path / 'plain', plain())).distils


def test_whether_validations_are_counted_in_epochs(tmp_path):
    recorded = load_run(write_run(tmp_path / 'a', distillation(by_epoch=False)))
    assert not recorded.by_epoch
    # a killed training: its log has 3 epochs
    killed = write_run(tmp_path / 'b', None)
    assert load_run(killed).by_epoch
    with open(killed / 'stamp' / 'vis_data' / 'scalars.json', 'a') as file:
        file.write('{"step": 20, "coco/bbox_mAP": 0.1}\n')
    assert not load_run(killed).by_epoch


def test_metrics_by_class_are_no_curve(tmp_path):
    folder = write_run(tmp_path / 'a', None, metrics=())
    with open(folder / 'stamp' / 'vis_data' / 'scalars.json', 'a') as file:
        file.write('{"step": 1, "precision_classwise": [1.0, 2.0], "top1": 3.0}\n')
    run = load_run(folder)
    assert run.metric_names() == ['top1'] and run.metrics('top1') == [(1.0, 3.0)]


def test_the_record_of_an_earlier_training_in_the_folder_is_not_taken(tmp_path):
    folder = write_run(tmp_path / 'a', distillation(log='stamp'))
    assert load_run(folder).distils
    later = folder / 'stamp_2' / 'vis_data'
    later.mkdir(parents=True)
    (later / 'scalars.json').write_text('{"iter": 1, "epoch": 1, "loss": 9.0}\n')
    run = load_run(folder)
    assert run.record == {'models': []}
    assert run.scalars.series('loss')[1].tolist() == [9.0] and run.metric_names() == []


def test_epochs_as_iterations_for_a_picture_with_others(tmp_path):
    run = load_run(write_run(tmp_path / 'a', None))  # epochs end after 20, 41 and 60 iterations
    assert [step for step, _ in run.metrics('coco/bbox_mAP')] == [1, 2, 3]
    assert [step for step, _ in run.metrics('coco/bbox_mAP', iterations=True)] == [20, 41, 60]
    other = load_run(write_run(tmp_path / 'b', distillation(by_epoch=False)))
    assert [step for step, _ in other.metrics('coco/bbox_mAP', iterations=True)] == [1, 2, 3]


@pytest.mark.parametrize(
    ('config', 'role'), [('faster_rcnn_dpk.py', 'student'), ('faster_rcnn_none.py', 'model')]
)
def test_without_a_record_the_config_tells_the_size(tmp_path, config, role):
    from mmengine.config import Config

    folder = write_run(tmp_path / 'run', None, config=None)
    Config.fromfile(ROOT / 'configs' / 'mini' / config).dump(folder / config)
    (model,) = load_run(folder).record['models']
    assert (model['role'], model['parameters']) == (role, 791_665)


def test_a_config_that_cannot_be_built_leaves_the_size_out(tmp_path):
    folder = write_run(tmp_path / 'run', None, config='model = dict(type="NoSuchModel")\n')
    assert load_run(folder).record == {'models': []}


def test_bad_folders_in_one_sentence(tmp_path):
    with pytest.raises(UsageError, match='there is no work folder'):
        load_run(tmp_path / 'nothing')
    with pytest.raises(UsageError, match='give the work dir of a training'):
        load_run(tmp_path)
    folder = write_run(tmp_path / 'run', distillation())
    (folder / 'report.json').write_text('{"version": 1,')
    with pytest.raises(UsageError, match=r'report\.json is damaged: a JSON dict was expected'):
        load_run(folder)
    (folder / 'report.json').unlink()
    for content, words in (
        ('{}', 'a JSON list'),
        ('[["a", "b"]]', r'rows of \[what, value, why\]'),
    ):
        (folder / 'chosen.json').write_text(content)
        with pytest.raises(UsageError, match=words):
            load_run(folder)
