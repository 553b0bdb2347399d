import json
import os
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


def test_the_config_is_that_of_the_training(tmp_path):
    folder = write_run(tmp_path / 'run', None, config='a = 1\n')
    # a test later in the same folder: its config, and a log folder without scalars
    (folder / 'config_test.py').write_text('a = 2\n')
    os.utime(folder / 'config.py', (1, 1))
    tested = folder / 'stamp_2' / 'vis_data'
    tested.mkdir(parents=True)
    (tested / 'config.py').write_text('a = 3\n')
    assert load_run(folder).config_text == 'a = 1\n'
    # as an older tools/test.py wrote it
    (folder / 'config.py').write_text('a = 4\n')
    (folder / 'stamp' / 'vis_data' / 'config.py').write_text('a = 5\n')
    assert load_run(folder).config_text == 'a = 5\n'


def test_validations_of_a_training_by_iterations(tmp_path):
    """mmengine's LoggerHook writes epoch 0 for each, by default."""
    folder = write_run(tmp_path / 'a', distillation(by_epoch=False), metrics=())
    lines = []
    for step in range(1, 61):
        lines.append({'iter': step, 'loss': 1.0})
        if step % 20 == 0:
            lines.append({'step': 0, 'coco/bbox_mAP': step / 100})
    file = folder / 'stamp' / 'vis_data' / 'scalars.json'
    file.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    expected = [(20.0, 0.2), (40.0, 0.4), (60.0, 0.6)]
    assert load_run(folder).metrics('coco/bbox_mAP') == expected
    # without a record, as of a killed one
    (folder / 'report.json').unlink()
    run = load_run(folder)
    assert not run.by_epoch
    assert run.metrics('coco/bbox_mAP', iterations=True) == expected
