import runpy
import sys
from pathlib import Path

import pytest

from tools.experiments.teacher_selection import selection

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / 'configs/mini/fashion_cnn_kd.py'


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the tool with two teachers; the status comes back."""
    config = ROOT / 'configs/mini/fashion_cnn_teacher.py'
    files = [tmp_path / name / 'epoch_1.pth' for name in ('a', 'b')]
    for file in files:
        file.parent.mkdir()
        file.touch()

    def call(*arguments):
        given = [STUDENT, '--budget', '5', '--work-dir', tmp_path / 'work', *arguments]
        given += ['--teachers', *(f'{config}:{file}' for file in files)]
        monkeypatch.setattr(sys, 'argv', ['select_teacher.py', *map(str, given)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / 'tools/select_teacher.py'), run_name='__main__')
        return ended.value.code

    return call


def test_ctrl_c(run, monkeypatch, capsys):
    def select(student, candidates, folder, budget, *rest):
        assert [c.name for c in candidates] == ['a', 'b']
        assert budget == 5.0
        raise KeyboardInterrupt

    monkeypatch.setattr(selection, 'select', select)
    assert run() == 130
    assert 'Run the same command again to continue.' in capsys.readouterr().out


def test_errors_are_one_sentence(run):
    assert run('--data', 'nowhere') == 'select_teacher.py: --data: there is no folder nowhere.'


def test_teachers_that_are_no_checkpoints(run, tmp_path):
    message = run()
    assert message.startswith('select_teacher.py: no teacher fits the student; a: ')
    assert 'epoch_1.pth' in message
    assert '\n' not in message
