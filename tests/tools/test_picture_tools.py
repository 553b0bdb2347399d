"""The commands that draw the paper's pictures, run in this process."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from dpk_mm.analysis.feature_similarity import StageSimilarity

ANALYSIS = Path(__file__).parents[2] / 'tools' / 'analysis'


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a tool; what it printed comes back."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        runpy.run_path(str(ANALYSIS / f'{name}.py'), run_name='__main__')
        return capsys.readouterr().out

    return call


def results(folder):
    lines = [
        {'method': 'baseline', 'teacher': None, 'scores': {'test': 60.0}, 'teacher_scores': None},
        *(
            {'method': 'kd', 'teacher': t, 'scores': {'test': s}, 'teacher_scores': {'test': own}}
            for t, s, own in (('a', 63.0, 80.0), ('b', 64.0, 90.0))
        ),
    ]
    path = folder / 'results.jsonl'
    path.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    return path


def test_scores_by_teacher_as_a_table_and_as_a_picture(run, tmp_path):
    path = results(tmp_path)
    printed = run('teacher_results', path, '--out', tmp_path / 'table.md')
    assert '90.00' in printed and str(tmp_path / 'table.md') in printed.replace('\n', '')
    assert (tmp_path / 'table.md').read_text() == (
        "| student | teacher | teacher's score | baseline | kd |\n"
        '| --- | --- | ---: | ---: | ---: |\n'
        '| - | a | 80.00 | 60.00 | 63.00 |\n'
        '| - | b | 90.00 | 60.00 | 64.00 |\n'
    )
    run('teacher_results', path, '--layout', 'pairs', '--out', tmp_path / 'pairs.md')
    assert '| b | 90.00 | - | baseline | 60.00 |' in (tmp_path / 'pairs.md').read_text()
    run('teacher_results', path, '--out', tmp_path / 'picture.svg')
    assert 'svg' in (tmp_path / 'picture.svg').read_text()[:500]


def test_scores_by_teacher_for_another_kind_of_file(run, tmp_path):
    with pytest.raises(SystemExit, match=r'x.txt: the suffix .* one of .*\.md, .*\.png, '):
        run('teacher_results', results(tmp_path), '--out', tmp_path / 'x.txt')


def test_curves_by_epoch(run, tmp_path):
    for name in ('a', 'b'):
        file = tmp_path / name / 'stamp' / 'vis_data' / 'scalars.json'
        file.parent.mkdir(parents=True)
        record = {'iter': 1, 'epoch': 1, 'mask_ratio/last': 0.5, 'similarity/last': 0.5}
        file.write_text(json.dumps(record))
    out = tmp_path / 'epochs.png'
    runs = [f'small={tmp_path / "a"}', f'large={tmp_path / "b"}']
    assert run('epoch_curves', *runs, '--out', out) == f'{out}: 2 runs, stages last\n'
    assert out.stat().st_size > 5000
    with pytest.raises(
        SystemExit, match=r'epoch_curves.py: .*none does not exist: give the work dir'
    ):
        run('epoch_curves', tmp_path / 'none', '--out', out)
    with pytest.raises(SystemExit, match='two runs are called small'):
        run('epoch_curves', runs[0], f'small={tmp_path / "b"}', '--out', out)


PICTURES = {
    'epoch_curves': ['none'],
    'feature_similarity': ['none.py', 'a=none.pth'],
    'plot_curves': ['losses', 'none'],
    'show_detections': [
        *('--model', 'a', 'none.py', 'none.pth'),
        *('--ann-file', 'none.json', '--images', 'none'),
    ],
    'show_masks': ['none.png'],
    'teacher_results': ['none.jsonl'],
}


@pytest.mark.parametrize('name', ['x', 'x.pgn'])
@pytest.mark.parametrize('tool', PICTURES)
def test_a_picture_of_an_unknown_kind_is_refused_before_anything_is_read(run, tool, name):
    with pytest.raises(SystemExit, match=rf'{tool}.py: --out {name}: the suffix'):
        run(tool, *PICTURES[tool], '--out', name)


def test_a_name_that_is_given_twice(run):
    with pytest.raises(SystemExit, match='two students are called a, x.pth and y.pth: give each'):
        run('feature_similarity', 'c.py', 'a=x.pth', 'a=y.pth', '--out', 'x.png')
    models = ['--model', 'a', 'c.py', 'x.pth', '--model', 'a', 'd.py', 'y.pth']
    with pytest.raises(SystemExit, match='two models are called a, '):
        run('show_detections', *models, '--ann-file', 'n', '--images', 'n', '--out', 'x.png')


def test_the_values_are_there_even_if_the_picture_fails(run, tmp_path, monkeypatch):
    def measured(*args):
        return [StageSimilarity('a', 'neck', [0.5])]

    def fail(*args):
        raise RuntimeError('no font')

    monkeypatch.setattr('dpk_mm.analysis.feature_similarity.measure_similarity', measured)
    monkeypatch.setattr('dpk_mm.analysis.similarity_plots.plot_similarity', fail)
    file = tmp_path / 'values.json'
    with pytest.raises((RuntimeError, SystemExit), match='no font'):
        run('feature_similarity', 'c.py', 'a=x', '--out', tmp_path / 'x.png', '--json', file)
    assert json.loads(file.read_text())['rows'] == [
        {'student': 'a', 'stage': 'neck', 'mean': 0.5, 'values': [0.5]}
    ]


def test_similarities_need_a_name_for_each_student(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run('feature_similarity', 'c.py', 'x.pth', '--out', tmp_path / 'x.png')
    assert 'x.pth has no name: write NAME=CHECKPOINT' in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r'feature_similarity.py: there is no config c.py'):
        run('feature_similarity', 'c.py', 'a=x.pth', '--out', tmp_path / 'x.png')


def test_samples_are_not_ignored_for_the_cosine(run, capsys):
    arguments = ['c.py', 'a=x.pth', '--out', 'x.png', '--metric', 'cosine']
    with pytest.raises(SystemExit, match='^2$'):
        run('feature_similarity', *arguments, '--samples', 'positions')
    assert '--samples positions is of CKA' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--ann-file', '--teacher-ckpt', '--student-ckpt', '--stage'])
def test_what_masks_need_a_config_for_is_not_ignored(run, capsys, option):
    with pytest.raises(SystemExit, match='^2$'):
        run('show_masks', 'none.png', '--out', 'x.png', option, 'x')
    assert f'{option} is of the features of a --config: give one' in capsys.readouterr().err
