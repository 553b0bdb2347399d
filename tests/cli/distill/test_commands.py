import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from dpk_mm.cli.distill.commands import Commands
from dpk_mm.cli.distill.shown import Shown
from dpk_mm.errors import UsageError


@pytest.fixture
def ran(tmp_path):
    """Commands whose runs are only noted."""
    noted = []

    def run(command, log, cwd, on_line, on_tick):
        noted.append(list(command))
        log.parent.mkdir(exist_ok=True)
        log.write_text(run.text)
        return run.status

    run.status, run.text = 0, ''
    shown = Shown(Console(file=io.StringIO()))
    return Commands(tmp_path, tmp_path / 'logs', shown, run=run), noted, run


def test_a_training_goes_on_from_its_checkpoint(ran, tmp_path):
    commands, noted, _ = ran
    commands.train('student', Path('c.py'), tmp_path, 3)
    (tmp_path / 'last_checkpoint').write_text('epoch_1.pth')
    commands.train('student', Path('c.py'), tmp_path, 3, '--cfg-options', 'a=1')
    tool = str(tmp_path / 'train.py')
    assert noted[0] == [sys.executable, tool, 'c.py', '--work-dir', str(tmp_path)]
    assert noted[1][-3:] == ['--cfg-options', 'a=1', '--resume']


def test_several_processes_and_modules(ran, tmp_path):
    commands, noted, run = ran
    Commands(tmp_path, tmp_path, commands._shown, 4, run).train(
        'student', Path('c.py'), tmp_path, 3
    )
    assert noted[0][:4] == ['bash', str(tmp_path / 'dist_train.sh'), 'c.py', '4']
    commands.module('dry run', 'dry_run', 'c.py', 'folder')
    assert noted[1][1:] == ['-m', 'dpk_mm.cli.distill.dry_run', 'c.py', 'folder']
    assert not commands.has('analysis/report_page.py')


def test_the_sentence_of_a_tool_is_the_sentence(ran):
    commands, _, run = ran
    run.status, run.text = 1, 'lines\ntrain.py: model.teacher_ckpt does not fit.\nmore\n'
    with pytest.raises(
        UsageError, match=r'^test: model.teacher_ckpt does not fit. \(The log is .*test.log.\)'
    ):
        commands.tool('test', 'test.py')


def test_a_tool_that_says_nothing_shows_the_end_of_its_log(ran):
    commands, _, run = ran
    run.status, run.text = -9, 'first\nlast line\n'
    with pytest.raises(
        UsageError, match=r'(?s)was ended by signal 9; the last lines of .*\n.*last line'
    ):
        commands.tool('test', 'test.py')
    run.status = 2
    with pytest.raises(UsageError, match='ended with status 2'):
        commands.tool('test', 'test.py')


def test_what_an_earlier_run_said_is_not_the_reason(tmp_path, monkeypatch):
    (tmp_path / 'test.py').write_text(
        'import os, sys; print(os.environ["SAYS"], flush=True); sys.exit(3)'
    )
    commands = Commands(tmp_path, tmp_path / 'logs', Shown(Console(file=io.StringIO())))
    monkeypatch.setenv('SAYS', 'test.py: the disk is full.')
    with pytest.raises(UsageError, match='^test: the disk is full'):
        commands.tool('test', 'test.py', 'first')
    monkeypatch.setenv('SAYS', 'Traceback: new')
    with pytest.raises(UsageError) as error:
        commands.tool('test', 'test.py', 'second')
    said = str(error.value)
    assert said.startswith('test ended with status 3; the last lines of ')
    assert said.splitlines()[1].endswith('test.py second')
    assert said.splitlines()[2:] == ['    Traceback: new']
    assert 'disk is full' in (tmp_path / 'logs' / 'test.log').read_text()  # but still in the log
