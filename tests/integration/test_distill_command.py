"""``tools/distill.py`` as a user runs it."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from dpk_mm.cli.distill.main import main
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import write_class_folders, write_coco

TOOLS = Path(__file__).parents[2] / 'tools'
CLASSIFIER = """
_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
model = dict(backbone=dict(base_channels={width}, stem_channels={width}), head=dict(in_channels={out}))
train_cfg = dict(max_epochs=2)
train_dataloader = dict(batch_size=6)
"""


@pytest.fixture(autouse=True)
def _signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Two small classifiers and a folder of class folders."""
    monkeypatch.chdir(tmp_path)
    write_class_folders(tmp_path / 'data')
    for name, width in (('student', 8), ('teacher', 16)):
        Path(f'{name}.py').write_text(CLASSIFIER.format(width=width, out=8 * width))
    return [
        '--teacher',
        'teacher.py',
        '--student',
        'student.py',
        '--data',
        'data',
        '--workers',
        '0',
    ]


@pytest.mark.slow
def test_own_images_to_a_student_in_one_command_and_again(pair, capfd):
    command = [
        *pair,
        '--method',
        'kd',
        '--train',
        '--train-teacher',
        '--baseline',
        '--gradient-share',
        '1',
    ]
    assert main(TOOLS, command) == 0
    work = Path('work_dirs/student_from_teacher')
    results = json.loads((work / 'results.json').read_text())['results']
    assert list(results) == ['teacher', 'baseline', 'student']
    assert all('accuracy/top1' in result['metrics'] for result in results.values())
    assert (work / 'student' / 'student_best.pth').is_file()
    assert 'loss_weight' in (work / 'distill.py').read_text()
    assert 'dry run: two iterations, validation, export work' in capfd.readouterr().out
    before = {file: file.stat().st_mtime_ns for file in work.rglob('*.pth')}
    assert main(TOOLS, command) == 0
    assert {file: file.stat().st_mtime_ns for file in work.rglob('*.pth')} == before


def refused(arguments):
    with pytest.raises(SystemExit) as error:
        main(TOOLS, arguments)
    text = str(error.value)
    assert text.startswith('distill.py: ') and '\n' not in text
    return text


def test_what_cannot_be_done_is_one_sentence(pair, tmp_path):
    swapped = refused(['--teacher', 'student.py', '--student', 'teacher.py', *pair[4:]])
    assert '--teacher student.py has' in swapped and 'exchange the two' in swapped
    assert 'near names' in refused(['--teacher', 'resnet18_8xb32', *pair[2:]])
    assert '--method: ' in refused([*pair, '--method', 'dpk_fgd'])
    write_coco(tmp_path / 'coco')
    assert 'is a set for detection' in refused([*pair[:5], str(tmp_path / 'coco')])


def test_networks_without_common_strides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_coco(tmp_path / 'coco')
    pair = [
        '--teacher',
        'centernet_r18_8xb16-crop512-140e_coco',
        '--student',
        'retinanet_r18_fpn_1x_coco',
    ]
    pair += ['--cfg-options', 'model.smaller_teacher=True']
    text = refused(
        [*pair, '--data', str(folder), '--method', 'fgd', '--from-scratch', '--img-size', '128']
    )
    assert 'stride' in text


def test_a_disk_that_is_full(pair, monkeypatch):
    import errno

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.replace', full)
    assert 'the disk or the quota of' in refused(pair)


def test_a_second_run_in_the_same_folder(pair):
    from dpk_mm.cli.lock import exclusive

    with exclusive('work_dirs/student_from_teacher'):
        assert 'is running in work_dirs/student_from_teacher' in refused(pair)


def test_stopping(pair, monkeypatch, capsys):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr('dpk_mm.cli.distill.main.make_plan', stop)
    assert main(TOOLS, pair) == 130
    assert 'Run the same command again to continue' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('started_over', 'words'),
    [
        (False, 'Run the same command again to continue'),
        (True, 'Run the command again without --fresh'),
    ],
)
def test_stopping_a_new_start(pair, monkeypatch, capsys, started_over, words):
    class Stopped:
        def __init__(self, *args):
            self.started_over = False

        def run(self, dry, fresh):
            assert fresh
            self.started_over = started_over
            raise KeyboardInterrupt

    monkeypatch.setattr('dpk_mm.cli.distill.main.make_plan', lambda request: None)
    monkeypatch.setattr('dpk_mm.cli.distill.main.Driver', Stopped)
    assert main(TOOLS, [*pair, '--fresh']) == 130
    assert words in capsys.readouterr().out


def test_a_closed_terminal_stops_it_as_a_kill_does(pair, monkeypatch, capsys):
    def close(request):
        assert signal.getsignal(signal.SIGHUP) is signal.default_int_handler
        signal.raise_signal(signal.SIGHUP)

    monkeypatch.setattr('dpk_mm.cli.distill.main.make_plan', close)
    assert main(TOOLS, pair) == 130
    assert 'Stopped.' in capsys.readouterr().out


def test_a_closed_terminal_does_not_stop_what_nohup_runs(pair, monkeypatch):
    def close(request):
        signal.raise_signal(signal.SIGHUP)
        raise UsageError('it went on.')

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr('dpk_mm.cli.distill.main.make_plan', close)
    assert 'it went on' in refused(pair)


def test_a_training_holds_the_folder(pair, monkeypatch):
    """It outlives a driver that is killed, and the same command would run it a second time."""
    lock = os.path.abspath('work_dirs/student_from_teacher/.lock')
    look = (
        'import os, sys; lock = os.stat(sys.argv[1])\n'
        'def same(number):\n'
        '    try: found = os.fstat(number)\n'
        '    except OSError: return False\n'
        '    return (found.st_dev, found.st_ino) == (lock.st_dev, lock.st_ino)\n'
        'sys.exit(0 if any(map(same, range(3, 256))) else 3)'
    )

    class Looking:
        started_over = False

        def __init__(self, plan, commands, shown, command):
            self.commands = commands

        def run(self, dry, fresh):
            self.commands._start('student', [sys.executable, '-c', look, lock])

    monkeypatch.setattr('dpk_mm.cli.distill.main.make_plan', lambda request: None)
    monkeypatch.setattr('dpk_mm.cli.distill.main.Driver', Looking)
    assert main(TOOLS, pair) == 0
