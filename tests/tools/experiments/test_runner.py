import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dpk_mm.errors import UsageError
from tools.experiments.console import GridConsole
from tools.experiments.grid import Entry, Grid
from tools.experiments.results import read_results
from tools.experiments.runner import GridRunner

EPOCHS = 2
GRID = Grid(
    name='g',
    metric='accuracy/top1',
    options={'val_dataloader.indices': -5},
    entries=(
        Entry('teacher-s0', 'configs/t.py', 'teacher', label='wide'),
        Entry('baseline-s0', 'configs/n.py', 'baseline'),
        Entry('kd-s0', 'configs/k.py', 'kd', teacher='teacher-s0', options={'lr': 0.1}),
        Entry('kd-s1', 'configs/k.py', 'kd', seed=1, teacher='teacher-s0'),
    ),
)
NAMES = [entry.name for entry in GRID.entries]


def write_training(folder, epochs, validate=True):
    """Leaves what mmengine leaves after some epochs."""
    file = folder / f'stamp{time.monotonic_ns()}' / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    lines = [{'iter': e, 'epoch': e, 'loss': 1.0, 'mask_ratio/last': 0.4} for e in epochs]
    if validate:
        lines.append({'accuracy/top1': 70.0, 'time': 0.1, 'step': EPOCHS})
    file.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    for epoch in epochs:
        (folder / f'epoch_{epoch}.pth').write_text('')
        (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{epoch}.pth'))


class FakeTools:
    """In place of tools/train.py and tools/test.py."""

    def __init__(self):
        self.commands = []
        self.fail = set()  # (script, entry)
        self.stop = None  # entry: stopped by Ctrl-C after its first epoch
        self.skip_validation = set()
        self.accuracy = 71.0
        self.running = 0
        self.together = 0
        self.meeting = None
        self.signalled = threading.main_thread().ident  # None: the thread of the entry
        self.lock = threading.Lock()

    def __call__(self, command, log, cwd, on_line, on_tick, keep_open=()):
        script = Path(command[1]).stem
        folder = Path(command[command.index('--work-dir') + 1])
        entry = folder.name if script == 'train' else folder.parent.name
        with self.lock:
            self.commands.append((script, entry, command))
            self.running += 1
            self.together = max(self.together, self.running)
        try:
            return self._run(script, entry, command, folder, log, on_line, on_tick)
        finally:
            with self.lock:
                self.running -= 1

    def _run(self, script, entry, command, folder, log, on_line, on_tick):
        on_tick()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text('one\ntwo\nRuntimeError: out of luck\n')
        if self.meeting and script == 'train':
            self.meeting.wait(20)
        if (script, entry) in self.fail:
            return 1
        if script == 'test':
            folder.mkdir(parents=True, exist_ok=True)
            metrics = {'accuracy/top1': self.accuracy, 'data_time': 0.0}
            (folder / 'metrics.json').write_text(json.dumps(metrics))
            return 0
        on_line('Epoch(train)  [1][10/10]  eta: 0:00:01  loss: 1.5')
        first = 2 if '--resume' in command else 1
        if entry == self.stop:
            write_training(folder, [1], validate=False)
            signal.pthread_kill(self.signalled or threading.get_ident(), signal.SIGINT)
            for _ in range(6000):  # as a real command that nobody ends
                time.sleep(0.01)
                on_tick()
            raise AssertionError('nobody has ended it')
        validate = entry not in self.skip_validation
        self.skip_validation.discard(entry)
        write_training(folder, range(first, EPOCHS + 1), validate)
        return 0

    def done(self):
        return [
            f'{script} {entry}' + (' resumed' if '--resume' in command else '')
            for script, entry, command in self.commands
        ]


class Stage:
    def __init__(self, root):
        self.root = root
        self.tools = FakeTools()
        self.out = io.StringIO()
        self.grid = GRID
        for name in 'tnk':
            self.write_config(name, 1)

    def write_config(self, name, value):
        path = self.root / 'configs' / f'{name}.py'
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'lr = {value}\ntrain_cfg = dict(max_epochs={EPOCHS})\n')

    def runner(self, **arguments):
        console = Console(file=self.out, width=200)
        workers = arguments.get('workers', 1)
        reporter = GridConsole(self.grid, self.folder / 'results.jsonl', workers, console)
        return GridRunner(
            self.grid,
            self.root,
            self.folder,
            reporter=reporter,
            run_command=self.tools,
            **arguments,
        )

    def run(self, only=None, **arguments):
        self.tools.commands.clear()
        return self.runner(**arguments).run(only)

    @property
    def folder(self):
        return self.root / 'out' / 'g'

    def results(self):
        return {r['entry']: r for r in read_results(self.folder / 'results.jsonl')}


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_results_do_not_say_where_a_composed_config_lies(stage):
    composed = stage.folder / 'configs' / 'n.py'
    composed.parent.mkdir(parents=True)
    composed.write_text((stage.root / 'configs' / 'n.py').read_text())
    stage.grid = replace(GRID, entries=(Entry('a', str(composed), 'x'), GRID.entries[1]))
    stage.run()
    assert [stage.results()[name]['config'] for name in ('a', 'baseline-s0')] == [
        'configs/n.py'
    ] * 2


def test_first_run_does_everything(stage):
    summary = stage.run()
    assert summary.done == NAMES and not summary.failed
    assert stage.tools.done() == [f'{s} {name}' for name in NAMES for s in ('train', 'test')]
    found = stage.results()
    assert list(found) == NAMES
    kd = found['kd-s0']
    assert kd['scores'] == {'val': 70.0, 'test': 71.0}
    assert kd['metrics']['test'] == {'accuracy/top1': 71.0}
    assert (kd['method'], kd['seed'], kd['teacher']) == ('kd', 0, 'wide')
    assert kd['teacher_scores'] == found['teacher-s0']['scores']
    assert kd['mask_ratio'] == {'last': [0.4, 0.4]}
    assert found['baseline-s0']['teacher'] is None
    assert {'commit', 'torch', 'cores', 'device', 'seconds'} <= set(kd)
    assert str(stage.root) not in (stage.folder / 'results.jsonl').read_text()
    assert 'kd-s1: val 70, test 71' in stage.out.getvalue()


def test_commands(stage):
    stage.run(data_options={'data_root': '/d'}, extra_options={'lr': 0.5}, workers=1)
    commands = {(script, entry): command for script, entry, command in stage.tools.commands}
    train = commands[('train', 'kd-s1')]
    assert train[1:3] == ['tools/train.py', 'configs/k.py']
    checkpoint = train[train.index('--teacher-ckpt') + 1]
    assert checkpoint == str(stage.folder / 'teacher-s0' / f'epoch_{EPOCHS}.pth')
    options = ['val_dataloader.indices=-5', 'randomness.seed=1', 'data_root=/d', 'lr=0.5']
    assert train[train.index('--cfg-options') + 1 :] == options
    test = commands[('test', 'kd-s0')]
    assert test[1:4] == [
        'tools/test.py',
        'configs/k.py',
        str(stage.folder / 'kd-s0' / f'epoch_{EPOCHS}.pth'),
    ]
    assert 'lr=0.5' in test and 'lr=0.1' not in test  # the extra options go over the entry's
    assert '--teacher-ckpt' not in commands[('train', 'baseline-s0')]


def test_a_path_that_a_command_cannot_hold_is_refused_before_anything_is_trained(
    stage, monkeypatch
):
    with pytest.raises(
        UsageError, match="option data_root is '/my data', but a training would rea"
    ):
        stage.run(data_options={'data_root': '/my data'})
    # the last entry takes a checkpoint out of the work folder
    last = replace(GRID.entries[-1], checkpoints={'load_from': 'teacher-s0'})
    stage.grid = replace(GRID, entries=(*GRID.entries[:-1], last))
    monkeypatch.setattr(Stage, 'folder', stage.root / 'my work')
    with pytest.raises(UsageError, match='option load_from is .*my work/teacher-s0'):
        stage.run()
    assert not stage.tools.commands


def test_second_run_does_nothing(stage):
    stage.run()
    lines = (stage.folder / 'results.jsonl').read_text()
    summary = stage.run()
    assert summary.earlier == NAMES and stage.tools.commands == []
    assert (stage.folder / 'results.jsonl').read_text() == lines


def test_workers_train_together(stage):
    stage.tools.meeting = threading.Barrier(2)  # breaks, and fails the runs, if only one is there
    summary = stage.run(workers=2)
    assert sorted(summary.done) == sorted(NAMES)
    assert stage.tools.together == 2
    assert list(stage.results()) == NAMES  # in the grid's order


def test_students_wait_for_their_teacher(stage):
    stage.run(workers=4)
    done = stage.tools.done()
    for student in ('kd-s0', 'kd-s1'):
        assert done.index('test teacher-s0') < done.index(f'train {student}')


def test_a_failure_is_shown_and_the_others_go_on(stage):
    stage.tools.fail = {('train', 'kd-s0')}
    summary = stage.run()
    assert summary.failed == ['kd-s0']
    assert summary.done == ['teacher-s0', 'baseline-s0', 'kd-s1']
    text = stage.out.getvalue()
    assert (
        'kd-s0: training ended with exit status 1' in text and 'RuntimeError: out of luck' in text
    )
    stage.tools.fail = set()
    assert stage.run().done == ['kd-s0']
    assert list(stage.results()) == NAMES


def test_students_of_a_failed_teacher_are_not_run(stage):
    stage.tools.fail = {('test', 'teacher-s0')}
    summary = stage.run()
    assert (summary.failed, summary.done) == (['teacher-s0'], ['baseline-s0'])
    assert summary.skipped == ['kd-s0', 'kd-s1']


def test_an_error_of_our_own_is_a_failure_of_its_entry(stage, monkeypatch):
    def broken(folder):
        raise ZeroDivisionError('what')

    monkeypatch.setattr('tools.experiments.entry_run.read_curves', broken)
    summary = stage.run('baseline-s0')
    assert summary.failed == ['baseline-s0']
    assert 'baseline-s0: ZeroDivisionError: what' in stage.out.getvalue()


@pytest.fixture
def heeds_ctrl_c():
    # a shell starts what runs in the background with SIGINT ignored, and Python leaves it at that
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('heeds_ctrl_c')
@pytest.mark.parametrize('workers', [1, 2])
def test_interrupted_training_is_resumed(stage, workers):
    stage.tools.stop = 'kd-s0'
    with pytest.raises(KeyboardInterrupt):
        stage.run(workers=workers)
    assert 'kd-s0' not in stage.results()
    stage.tools.stop = None
    summary = stage.run(workers=workers)
    assert 'train kd-s0 resumed' in stage.tools.done()
    assert 'teacher-s0' in summary.earlier
    if workers == 1:  # with two, the baseline was training beside it and may have been interrupted
        assert 'baseline-s0' in summary.earlier
    assert list(stage.results()) == NAMES
    assert stage.results()['kd-s0']['mask_ratio'] == {'last': [0.4, 0.4]}


@pytest.mark.usefixtures('heeds_ctrl_c')
def test_a_signal_that_wakes_nobody_stops_it_too(stage):
    """It may come in the moment before the main thread waits, or to another thread."""
    stage.tools.stop, stage.tools.signalled = 'kd-s0', None
    with pytest.raises(KeyboardInterrupt):
        stage.run()
    assert 'kd-s0' not in stage.results()


def test_trained_but_not_evaluated(stage):
    stage.tools.fail = {('test', 'baseline-s0')}
    assert stage.run('baseline-s0').failed == ['baseline-s0']
    stage.tools.fail = set()
    stage.run('baseline-s0')
    assert stage.tools.done() == ['test baseline-s0']


def test_trained_but_not_validated_starts_over(stage):
    stage.tools.skip_validation = {'baseline-s0'}
    assert stage.run('baseline-s0').done == ['baseline-s0']
    assert stage.tools.done() == ['train baseline-s0', 'train baseline-s0', 'test baseline-s0']


def test_a_config_that_never_validates_its_last_epoch_fails(stage):
    real = stage.tools._run

    def without_validation(*args):
        stage.tools.skip_validation = {'baseline-s0'}
        return real(*args)

    stage.tools._run = without_validation
    assert stage.run('baseline-s0').failed == ['baseline-s0']
    assert stage.tools.done() == ['train baseline-s0'] * 2
    assert 'without a validation of the last epoch' in stage.out.getvalue()


def test_a_changed_option_is_trained_again(stage):
    stage.run()
    entries = [replace(e, options={'lr': 0.2}) if e.name == 'kd-s0' else e for e in GRID.entries]
    stage.grid = replace(GRID, entries=tuple(entries))
    assert stage.run().done == ['kd-s0']
    assert stage.tools.done() == ['train kd-s0', 'test kd-s0']  # from the start
    assert stage.results()['kd-s0']['options']['lr'] == 0.2
    assert 'its settings, data or what it needs changed' in stage.out.getvalue()


def test_a_changed_teacher_brings_its_students(stage):
    stage.run()
    stage.write_config('t', 2)
    assert stage.run().done == ['teacher-s0', 'kd-s0', 'kd-s1']


WARM = Entry(
    'warm-s0',
    'configs/k.py',
    'warm',
    teacher='teacher-s0',
    checkpoints={'model.distiller.init_cfg.checkpoint': 'kd-s1'},
)


def test_an_entry_starts_from_the_checkpoint_of_another(stage):
    stage.grid = replace(GRID, entries=(*GRID.entries, WARM))
    assert stage.run('warm-s0', workers=3).done == ['teacher-s0', 'kd-s1', 'warm-s0']
    commands = {(script, entry): command for script, entry, command in stage.tools.commands}
    option = f'model.distiller.init_cfg.checkpoint={stage.folder / "kd-s1" / f"epoch_{EPOCHS}.pth"}'
    for script in ('train', 'test'):
        assert option in commands[script, 'warm-s0']
        assert option not in commands[script, 'kd-s1']
    # no path of this machine in the results
    assert str(stage.folder) not in json.dumps(stage.results()['warm-s0'])
    assert stage.run('warm-s0').done == []
    # its checkpoint is not needed any more, but what changes the other entry changes this one
    (stage.folder / 'kd-s1' / f'epoch_{EPOCHS}.pth').unlink()
    assert stage.run('warm-s0').done == []
    assert stage.run('warm-s0', keep_checkpoints=True).done == ['kd-s1']
    entries = [replace(e, options={'lr': 0.2}) if e.name == 'kd-s1' else e for e in GRID.entries]
    stage.grid = replace(GRID, entries=(*entries, WARM))
    assert stage.run('warm-s0').done == ['kd-s1', 'warm-s0']


def test_an_entry_whose_start_failed_is_not_run(stage):
    stage.grid = replace(GRID, entries=(*GRID.entries, WARM))
    stage.tools.fail = {('train', 'kd-s1')}
    summary = stage.run('warm-s0')
    assert (summary.failed, summary.skipped) == (['kd-s1'], ['warm-s0'])
    assert 'warm-s0: not run, since kd-s1 failed' in stage.out.getvalue()


def test_a_stale_line_does_not_outlive_a_failure(stage):
    stage.run()
    stage.write_config('n', 2)
    stage.tools.fail = {('train', 'baseline-s0')}
    assert stage.run('baseline-s0').failed == ['baseline-s0']
    assert 'baseline-s0' not in stage.results()


def test_a_stale_line_does_not_outlive_the_failure_of_its_teacher(stage):
    stage.run()
    stage.write_config('t', 2)
    stage.tools.fail = {('train', 'teacher-s0')}
    assert stage.run().skipped == ['kd-s0', 'kd-s1']
    assert list(stage.results()) == ['baseline-s0']


def test_a_line_that_still_holds_outlives_the_failure_of_its_teacher(stage):
    stage.run()
    (stage.folder / 'teacher-s0' / f'epoch_{EPOCHS}.pth').unlink()
    more = Entry('kd-s2', 'configs/k.py', 'kd', seed=2, teacher='teacher-s0')
    stage.grid = replace(GRID, entries=(*GRID.entries, more))
    stage.tools.fail = {('train', 'teacher-s0')}
    assert stage.run().skipped == ['kd-s0', 'kd-s1', 'kd-s2']
    assert list(stage.results()) == NAMES


def test_a_result_of_another_metric_is_not_one_of_now(stage):
    stage.run()
    stage.grid = replace(GRID, metric='accuracy/top5')
    assert stage.runner().of_these_settings() == []
    assert set(stage.runner().status().values()) == {'started'}
    # the evaluation gives no such metric, and what was measured by another one is not reported
    assert stage.run('baseline-s0').failed == ['baseline-s0']
    assert 'baseline-s0' not in stage.results()


def test_data_may_move(stage):
    stage.run('baseline-s0', data_options={'data_root': '/a'})
    assert stage.run('baseline-s0', data_options={'data_root': '/b'}).earlier == ['baseline-s0']


def test_a_teacher_without_its_checkpoint_is_trained_again_where_a_student_is_missing(stage):
    stage.run()
    (stage.folder / 'teacher-s0' / f'epoch_{EPOCHS}.pth').unlink()
    (stage.folder / 'baseline-s0' / f'epoch_{EPOCHS}.pth').unlink()
    assert stage.run().done == []  # nobody needs them
    assert stage.run(keep_checkpoints=True).done == ['teacher-s0', 'baseline-s0']
    (stage.folder / 'teacher-s0' / f'epoch_{EPOCHS}.pth').unlink()
    more = Entry('kd-s2', 'configs/k.py', 'kd', seed=2, teacher='teacher-s0')
    stage.grid = replace(GRID, entries=(*GRID.entries, more))
    assert stage.runner().status()['teacher-s0'] == 'missing'
    assert stage.run().done == ['teacher-s0', 'kd-s2']


def test_students_of_a_teacher_that_changed_are_of_other_settings(stage):
    stage.run()
    assert {r['entry'] for r in stage.runner().of_these_settings()} == set(NAMES)
    stage.write_config('t', 2)
    assert [r['entry'] for r in stage.runner().of_these_settings()] == ['baseline-s0']
    assert [name for name, state in stage.runner().status().items() if state == 'done'] == [
        'baseline-s0'
    ]


def test_results_without_their_folders_are_gone_on_with(stage):
    stage.run()
    for name in NAMES:
        shutil.rmtree(stage.folder / name)
    more = Entry('kd-s2', 'configs/k.py', 'kd', seed=2, teacher='teacher-s0')
    stage.grid = replace(GRID, entries=(*GRID.entries, more))
    assert stage.run().done == ['teacher-s0', 'kd-s2']  # the teacher repeats its result
    # a teacher that does not is another one
    shutil.rmtree(stage.folder / 'teacher-s0')
    stage.tools.accuracy = 70.5
    stage.grid = replace(stage.grid, entries=(*stage.grid.entries, replace(more, name='kd-x')))
    assert stage.run().done == ['teacher-s0', 'kd-s0', 'kd-s1', 'kd-s2', 'kd-x']


def test_a_grid_that_chooses_leaves_the_held_out_part_alone(stage):
    stage.grid = replace(GRID, parts=('val',))
    stage.run('baseline-s0')
    assert stage.tools.done() == ['train baseline-s0']
    assert stage.results()['baseline-s0']['scores'] == {'val': 70.0}


@pytest.mark.usefixtures('heeds_ctrl_c')
def test_status(stage):
    stage.tools.stop = 'kd-s0'
    with pytest.raises(KeyboardInterrupt):
        stage.run()
    assert stage.runner().status() == {
        'teacher-s0': 'done',
        'baseline-s0': 'done',
        'kd-s0': 'started',
        'kd-s1': 'missing',
    }


def test_a_training_that_counts_iterations_is_refused(stage):
    path = stage.root / 'configs' / 'n.py'
    path.write_text("train_cfg = dict(type='IterBasedTrainLoop', max_iters=9)\n")
    with pytest.raises(UsageError, match=r'n.py has no train_cfg.max_epochs'):
        stage.run()
    assert not stage.tools.commands


def test_a_folder_that_was_moved_is_gone_on_with(stage):
    stage.tools.fail = {('test', 'kd-s0')}
    assert stage.run().failed == ['kd-s0']
    stage.folder.rename(stage.root / 'other')
    stage.tools.fail = set()
    stage.tools.commands.clear()
    runner = GridRunner(
        stage.grid, stage.root, stage.root / 'other', run_command=stage.tools, workers=1
    )
    assert runner.run().done == ['kd-s0']
    assert stage.tools.done() == ['test kd-s0']  # its training is not repeated
    checkpoint = stage.tools.commands[0][2][3]
    assert checkpoint == str(stage.root / 'other' / 'kd-s0' / f'epoch_{EPOCHS}.pth')


def test_wrong_input_is_an_error(stage):
    with pytest.raises(UsageError, match='--workers must be at least 1, got 0'):
        stage.runner(workers=0)
    stage.grid = replace(GRID, entries=(Entry('a', 'configs/none.py', 'baseline'),))
    with pytest.raises(UsageError, match='Entry a: there is no config configs/none.py'):
        stage.run()


# The same with real processes, through the command line.

TRAIN = """
import json, os, sys, time
from pathlib import Path
folder = Path(sys.argv[sys.argv.index('--work-dir') + 1])
first = 2 if '--resume' in sys.argv else 1
file = folder / str(time.monotonic_ns()) / 'vis_data' / 'scalars.json'
file.parent.mkdir(parents=True)
for epoch in range(first, 3):
    with open(file, 'a') as out:
        out.write(json.dumps({'iter': epoch, 'epoch': epoch, 'loss': 1.0}) + '\\n')
    (folder / f'epoch_{epoch}.pth').write_text(str(first))
    (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{epoch}.pth'))
    hold = Path('hold')
    if epoch == 1 and hold.exists():
        (folder / 'pid').write_text(str(os.getpid()))
        time.sleep(300)
with open(file, 'a') as out:
    out.write(json.dumps({'accuracy/top1': 50.0 + first, 'step': 2}) + '\\n')
"""
TEST = """
import sys
from pathlib import Path
out = Path(sys.argv[sys.argv.index('--out') + 1])
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text('{"accuracy/top1": 60.0}')
"""
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def repository(tmp_path):
    """A repository with our command line and stand-ins for its tools."""
    (tmp_path / 'tools' / 'experiments').mkdir(parents=True)
    run = REPOSITORY / 'tools' / 'experiments' / 'run.py'
    (tmp_path / 'tools' / 'experiments' / 'run.py').write_text(run.read_text())
    (tmp_path / 'tools' / 'train.py').write_text(TRAIN)
    (tmp_path / 'tools' / 'test.py').write_text(TEST)
    (tmp_path / 'c.py').write_text('train_cfg = dict(max_epochs=2)\n')
    entries = [dict(name=f'baseline-s{seed}', config='c.py', method='baseline') for seed in (0, 1)]
    content = {'metric': 'accuracy/top1', 'entries': entries}
    (tmp_path / 'g.json').write_text(json.dumps(content))
    return tmp_path


def command(repository):
    return [
        sys.executable,
        'tools/experiments/run.py',
        'g.json',
        *('--work-dir', 'out', '--workers', '2'),
    ]


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_command_line_stopped_and_continued(repository):
    path = os.pathsep.join([str(REPOSITORY), os.environ.get('PYTHONPATH', '')])
    keywords = dict(cwd=repository, env=dict(os.environ, PYTHONPATH=path), text=True)
    (repository / 'hold').write_text('')
    # Not in our process group, and with Ctrl-C not ignored, whatever started the tests.
    process = subprocess.Popen(
        command(repository),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **keywords,
    )
    pids = [repository / 'out' / 'g' / f'baseline-s{seed}' / 'pid' for seed in (0, 1)]
    try:
        wait_until(
            lambda: (
                process.poll() is not None or all(pid.is_file() and pid.read_text() for pid in pids)
            )
        )
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert 'Stopped. Run the same command again to continue.' in output
    assert not any(alive(int(pid.read_text())) for pid in pids)
    assert not (repository / 'out' / 'g' / 'results.jsonl').exists()

    (repository / 'hold').unlink()
    done = subprocess.run(command(repository), capture_output=True, **keywords)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '2 done, 0 done earlier, 0 failed, 0 not run' in done.stdout
    results = read_results(repository / 'out' / 'g' / 'results.jsonl')
    # 52: by a training that went on from its first epoch
    assert [r['scores'] for r in results] == [{'val': 52.0, 'test': 60.0}] * 2
