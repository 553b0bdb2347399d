import json
import subprocess

import pytest

from dpk_mm.analysis.teacher_pass import TeacherPass
from dpk_mm.errors import UsageError
from tools.experiments.groups import group_results
from tools.experiments.results import (
    git_commit,
    metric_value,
    percent,
    read_curves,
    read_results,
    read_validation,
    write_results,
)
from tools.experiments.teacher_selection.selection import Selection


def result(entry, score=1.0, grid='g'):
    return {'grid': grid, 'entry': entry, 'scores': {'val': score}}


def test_the_last_line_of_an_entry_counts(tmp_path):
    path = tmp_path / 'results.jsonl'
    write_results(path, [result('a', 1.0), result('b'), result('a', 2.0), result('a', 3.0, 'h')])
    assert len(path.read_text().splitlines()) == 4
    found = read_results(path)
    assert [(r['grid'], r['entry'], r['scores']['val']) for r in found] == [
        ('g', 'b', 1.0),
        ('g', 'a', 2.0),
        ('h', 'a', 3.0),
    ]


@pytest.mark.parametrize('line', ['{"grid": "g"}', 'half a li', '[1]'])
def test_a_strange_line_is_an_error(tmp_path, line):
    path = tmp_path / 'results.jsonl'
    path.write_text(f'{json.dumps(result("a"))}\n{line}\n')
    with pytest.raises(UsageError, match='line 2 is not a result'):
        read_results(path)


def records():
    train = [
        {'iter': i, 'epoch': 1 + i // 2, 'loss': 1.0, 'mask_ratio/P4': ratio, 'similarity/P4': s}
        for i, (ratio, s) in enumerate([(0.9, 0.1), (0.7, 0.3), (0.5, 0.5), (0.25, 0.75)])
    ]
    train.append({'iter': 4, 'epoch': 3, 'loss': 1.0})
    return train


def write_scalars(folder, lines):
    file = folder / 'stamp' / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))


def test_curves_and_validation_of_a_training(tmp_path):
    val = [
        {'coco/bbox_mAP': 0.1, 'time': 1.0, 'step': 2},
        {'coco/bbox_mAP': 0.2, 'data_time': 0.1, 'step': 3},
    ]
    write_scalars(tmp_path, [*records(), *val])
    curves = read_curves(tmp_path)
    assert curves['mask_ratio']['P4'][:2] == [0.8, 0.375]
    assert set(curves) == {'mask_ratio', 'similarity'}
    assert read_validation(tmp_path, 3) == {'coco/bbox_mAP': 0.2}
    assert read_validation(tmp_path, 4) is None


def test_a_training_without_ratio_has_no_curves(tmp_path):
    write_scalars(tmp_path, [{'iter': 1, 'epoch': 1, 'loss': 1.0}])
    assert read_curves(tmp_path) == {}


def test_metric_value():
    assert metric_value({'accuracy/top1': 91.5, 'accuracy/top5': 99.0}, 'accuracy/top1') == 91.5
    assert metric_value({}, 'coco/bbox_mAP') == 0.0  # not one detection
    with pytest.raises(UsageError, match='gave no coco/segm_mAP, only coco/bbox_mAP'):
        metric_value({'coco/bbox_mAP': 0.1}, 'coco/segm_mAP')
    with pytest.raises(UsageError, match='gave no accuracy/top1, only nothing'):
        metric_value({}, 'accuracy/top1')


def test_git_commit(tmp_path):
    assert git_commit(tmp_path / 'nowhere') is None

    def git(*arguments):
        identity = ['-c', 'user.name=n', '-c', 'user.email=e@example.com']
        command = ['git', '-C', str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git('init')
    (tmp_path / 'a').write_text('1')
    git('add', 'a')
    git('commit', '-m', 'one')
    commit = git('rev-parse', 'HEAD')
    (tmp_path / 'results').write_text('')  # untracked files change no result
    assert git_commit(tmp_path) == commit
    (tmp_path / 'a').write_text('2')
    assert git_commit(tmp_path) == f'{commit}-dirty'


@pytest.mark.parametrize(
    ('metric', 'shown'),
    [('coco/bbox_mAP', 78.0), ('pascal_voc/mAP', 78.0), ('accuracy/top1', 0.78)],
)
def test_fractions_are_made_percent(metric, shown):
    assert percent(metric, 0.78) == pytest.approx(shown)
    (group,) = group_results(
        [dict(method='kd', teacher=None, setting={}, seed=3, metric=metric, scores=dict(val=0.78))]
    )
    assert group.scores('val') == {3: pytest.approx(shown)}
    look = TeacherPass({metric: 0.78}, 1, None, 1.0, 1, 1.0, None, {})
    assert Selection(metric, passes={'t': look}).teacher_score('t') == pytest.approx(shown)
