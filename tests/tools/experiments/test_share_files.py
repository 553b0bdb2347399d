import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from dpk_mm.errors import UsageError
from tools.experiments.share_files import ShareFiles


class Commands:
    """Of one entry, as of a grid."""

    def __init__(self, digest='one'):
        self.digest = digest

    def inputs(self, entry):
        return self.digest

    def train(self, entry, resume):
        return ['python', 'tools/train.py', 'c.py', '--work-dir', 'x', '--cfg-options', 'a=1']


@pytest.fixture
def files(tmp_path):
    commands = []

    def run_command(command, log, cwd, on_line, on_tick):
        commands.append(command)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text('the end\n')
        if fails:
            return 1
        with open(command[command.index('--out') + 1], 'w') as file:
            json.dump(dict(factors=dict(loss_kd=2.0), published=dict(loss_kd=0.5)), file)
        return 0

    fails = []
    found = ShareFiles(tmp_path / 'shares', tmp_path, 12, run_command)
    return SimpleNamespace(files=found, commands=commands, fails=fails, folder=tmp_path / 'shares')


def measure(files, digest='one'):
    console = Console(quiet=True)
    return files.files.measure('kd', Commands(digest), SimpleNamespace(seed=3), console)


def test_the_command_is_that_of_the_training_for_a_few_batches(files):
    assert measure(files) == {'loss_kd': 2.0}
    _, script, config, *options = files.commands[0]
    assert (script, config) == ('tools/experiments/shares.py', 'c.py')
    assert options[options.index('--batches') + 1] == '12'
    assert options[options.index('--work-dir') + 1] == str(files.folder / 'kd')
    assert options[-2:] == ['--cfg-options', 'a=1']


def test_it_is_measured_once_and_again_when_config_or_teacher_changed(files):
    entry = SimpleNamespace(seed=3)
    assert files.files.current('kd', Commands('two'), entry) is None
    for digest, runs in (('one', 1), ('one', 1), ('two', 2)):
        measure(files, digest)
        assert len(files.commands) == runs
    found = files.files.current('kd', Commands('two'), entry)
    assert found['factors'] == {'loss_kd': 2.0} and found['published'] == {'loss_kd': 0.5}
    assert found == files.files.read('kd') and found['seed'] == 3
    # what was measured under another teacher says nothing of this one
    assert files.files.current('kd', Commands('one'), entry) is None


def test_a_failure_shows_the_log(files):
    files.fails.append(True)
    with pytest.raises(UsageError, match='share of kd could not be measured(.|\n)*the end'):
        measure(files)
