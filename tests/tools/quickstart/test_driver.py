import io
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from tools.quickstart.__main__ import main, parse_args
from tools.quickstart.driver import Driver, PhaseFailed
from tools.quickstart.plan import Plan

ROLES = ['teacher', 'baseline', 'fgd', 'dpk']
FILES = ['teacher', 'none', 'fgd', 'dpk']
SCORES = {'teacher': 0.31, 'baseline': 0.12, 'fgd': 0.2, 'dpk': 0.22}
TRAIN_LINE = 'Epoch(train)  [{}][10/10]  eta: 0:00:01  loss: 1.5'


def role_of(command):
    return ROLES[FILES.index(Path(command[2]).stem.rpartition('_')[2])]


class FakeTools:
    """Leaves the files that tools/train.py and tools/test.py leave."""

    def __init__(self):
        self.commands = []
        self.stop_at = None  # (script, role): interrupted there
        self.fail_at = None
        self.scores = dict(SCORES)

    def __call__(self, command, log, cwd, on_line, on_tick, keep_open=()):
        self.commands.append(command)
        script = Path(command[1]).stem
        role = role_of(command)
        work_dir = Path(command[command.index('--work-dir') + 1])
        work_dir.mkdir(parents=True, exist_ok=True)
        on_tick()
        if script == 'train':
            scalars = work_dir / 'stamp' / 'vis_data' / 'scalars.json'
            scalars.parent.mkdir(parents=True, exist_ok=True)
            scalars.write_text('{"iter": 1, "epoch": 1, "loss": 1.5}\n')
            for epoch in (1, 2):
                on_line(TRAIN_LINE.format(epoch))
                checkpoint = work_dir / f'epoch_{epoch}.pth'
                checkpoint.write_text(role)
                (work_dir / 'last_checkpoint').write_text(str(checkpoint))
                if self.stop_at == (script, role):
                    raise KeyboardInterrupt
                if self.fail_at == (script, role):
                    log.write_text('line\n' * 50 + 'RuntimeError: out of luck\n')
                    return 1
        else:
            if self.fail_at == (script, role):
                return 0  # but no metrics
            metrics = {
                'coco/bbox_mAP': self.scores[role],
                'coco/bbox_mAP_50': self.scores[role] + 0.1,
            }
            Path(command[command.index('--out') + 1]).write_text(json.dumps(metrics))
        return 0

    def done(self):
        """What was run: `train teacher`, `test teacher`, ..."""
        return [
            f'{Path(c[1]).stem} {role_of(c)}' + (' resumed' if '--resume' in c else '')
            for c in self.commands
        ]


ALL = [f'{script} {role}' for role in ROLES for script in ('train', 'test')]


class Stage:
    def __init__(self, root):
        self.root = root
        self.tools = FakeTools()
        self.drawn = 0
        self.page_error = None
        self.out = io.StringIO()
        (root / 'configs' / 'mini').mkdir(parents=True)
        for name in FILES:
            self.write_config(name, 1)

    def write_config(self, name, value):
        (self.root / 'configs' / 'mini' / f'faster_rcnn_{name}.py').write_text(
            f'lr = {value}\ntrain_cfg = dict(max_epochs=2)\n'
        )

    def draw(self, plan, checkpoints):
        self.drawn += 1
        assert list(checkpoints) == ROLES
        pictures = [plan.picture('losses')]
        for picture in pictures:
            picture.write_text('')
        return pictures

    def report(self, plan):
        if self.page_error:
            raise self.page_error
        plan.page().write_text('page')
        return plan.page()

    def run(self, fresh=False, **options):
        """Runs it; returns the verdict and what was run."""
        self.tools.commands.clear()
        plan = Plan(self.root, self.root / 'out', **options)
        console = Console(file=self.out, width=200)
        driver = Driver(
            plan,
            console,
            self.tools,
            parameters=lambda config: 1000,
            draw=self.draw,
            write_report=self.report,
        )
        try:
            return driver.run(fresh), self.tools.done()
        except KeyboardInterrupt:
            return None, self.tools.done()

    def results(self):
        return json.loads((self.root / 'out' / 'faster_rcnn_results.json').read_text())

    def state(self, role):
        return json.loads((self.root / 'out' / f'faster_rcnn_{role}' / 'phase.json').read_text())


@pytest.fixture
def stage(tmp_path, monkeypatch):
    # The set itself is tested elsewhere; a small one is quicker.
    def small(out, *args, **kwargs):
        out.mkdir(parents=True, exist_ok=True)
        marker = out / 'shapes.json'
        new = not marker.exists()
        if new:
            marker.write_text('{}')
        return new

    monkeypatch.setattr('tools.quickstart.driver.generate_shapes', small)
    return Stage(tmp_path)


class TestDriver:
    def test_first_run_does_everything_in_order(self, stage):
        assert stage.run() == (True, ALL)
        results = stage.results()
        assert [r['name'] for r in results['results']] == [
            'teacher',
            'student baseline',
            'FGD',
            'DPK + FGD',
        ]
        assert [r['mAP'] for r in results['results']] == list(SCORES.values())
        assert [r['AP50'] for r in results['results']] == [v + 0.1 for v in SCORES.values()]
        assert {r['parameters'] for r in results['results']} == {1000}
        assert results['seed'] == 0 and results['smoke'] is False
        markdown = (stage.root / 'out' / 'faster_rcnn_results.md').read_text()
        assert '| DPK + FGD | 0.220 | +10.0 |' in markdown
        text = stage.out.getvalue()
        assert '[1/10] shapes set' in text and '[10/10] pictures: drawing' in text
        assert 'epoch 2/2, iteration 10/10, loss 1.5, 0:00:01 left' in text
        assert 'out/faster_rcnn_teacher/train.log' in text

    def test_commands(self, stage):
        stage.run(options=('a.b=1',), seed=3)
        out = stage.root / 'out'
        train, test = stage.tools.commands[6:]
        assert train[1:] == [
            'tools/train.py',
            'configs/mini/faster_rcnn_dpk.py',
            '--work-dir',
            str(out / 'faster_rcnn_dpk'),
            '--teacher-ckpt',
            str(out / 'faster_rcnn_teacher' / 'epoch_2.pth'),
            '--cfg-options',
            'randomness.seed=3',
            'a.b=1',
        ]
        assert test[1:] == [
            'tools/test.py',
            'configs/mini/faster_rcnn_dpk.py',
            str(out / 'faster_rcnn_dpk' / 'epoch_2.pth'),
            '--work-dir',
            str(out / 'faster_rcnn_dpk' / 'test'),
            '--out',
            str(out / 'faster_rcnn_dpk' / 'test' / 'metrics.json'),
            '--cfg-options',
            'randomness.seed=3',
            'a.b=1',
        ]
        with_teacher = ['--teacher-ckpt' in c for c in stage.tools.commands]
        assert with_teacher == [False] * 4 + [True, False, True, False]

    def test_second_run_does_nothing(self, stage):
        stage.run()
        before = stage.results()
        assert stage.run() == (True, [])
        assert stage.results() == before
        assert stage.drawn == 1

    def test_continues_after_an_interruption(self, stage):
        stage.tools.stop_at = ('train', 'fgd')
        assert stage.run() == (None, ALL[:5])
        state = stage.state('fgd')
        assert not state['trained'] and state['train_seconds'] > 0
        stage.tools.stop_at = None
        assert stage.run() == (True, ['train fgd resumed', *ALL[5:]])

    def test_seconds_of_all_attempts_are_added(self, stage, monkeypatch):
        now = [0.0]
        monkeypatch.setattr('tools.experiments.entry_run.time.monotonic', lambda: now[0])
        tools = stage.tools

        def slow(*args, **kwargs):
            now[0] += 60
            return tools(*args, **kwargs)

        slow.commands, slow.done = tools.commands, tools.done
        stage.tools = slow
        tools.stop_at = ('train', 'teacher')
        stage.run()
        assert stage.state('teacher')['train_seconds'] == 60
        tools.stop_at = None
        stage.run()
        seconds = [r['train_seconds'] for r in stage.results()['results']]
        assert seconds == [120, 60, 60, 60]

    def test_time_is_kept_when_the_driver_is_killed(self, stage, monkeypatch):
        now = [0.0]
        monkeypatch.setattr('tools.experiments.entry_run.time.monotonic', lambda: now[0])
        seen = []
        tools = stage.tools

        def slow(command, log, cwd, on_line, on_tick, keep_open=()):
            now[0] += 30
            on_tick()
            state = stage.state(role_of(command))
            field = 'train_seconds' if '/train.py' in command[1] else 'test_seconds'
            seen.append(state[field])
            return tools(command, log, cwd, on_line, on_tick, keep_open)

        slow.commands, slow.done = tools.commands, tools.done
        stage.tools = slow
        stage.run()
        assert seen == [30.0] * 8

    def test_no_checkpoint_yet_means_no_resume(self, stage):
        def killed_early(command, *args, **kwargs):
            raise KeyboardInterrupt

        tools, stage.tools = stage.tools, killed_early
        killed_early.commands, killed_early.done = [], list
        stage.run()
        stage.tools = tools
        assert stage.run()[1][0] == 'train teacher'

    def test_fresh_starts_over(self, stage):
        stage.run()
        left = stage.root / 'out' / 'faster_rcnn_teacher' / 'left'
        foreign = stage.root / 'out' / 'foreign.txt'
        left.write_text('')
        foreign.write_text('')
        assert stage.run(fresh=True) == (True, ALL)
        assert not left.exists() and foreign.exists()
        assert stage.drawn == 2

    def test_a_changed_student_config_redoes_only_that_student(self, stage):
        stage.run()
        stage.write_config('fgd', 2)
        assert stage.run() == (True, ['train fgd', 'test fgd'])
        assert stage.drawn == 2
        assert 'FGD: its settings, data or what it needs changed' in stage.out.getvalue()

    def test_another_teacher_redoes_the_distilled_students(self, stage):
        stage.run()
        stage.write_config('teacher', 2)
        expected = [
            f'{script} {r}' for r in ('teacher', 'fgd', 'dpk') for script in ('train', 'test')
        ]
        assert stage.run() == (True, expected)

    def test_other_data_redoes_everything(self, stage):
        stage.run()
        (stage.root / 'data' / 'shapes' / 'shapes.json').write_text('{"seed": 1}')
        assert stage.run() == (True, ALL)

    def test_a_lost_checkpoint_is_trained_again(self, stage):
        stage.run()
        (stage.root / 'out' / 'faster_rcnn_baseline' / 'epoch_2.pth').unlink()
        assert stage.run() == (True, ['train baseline', 'test baseline'])

    def test_a_lost_picture_is_drawn_again(self, stage):
        stage.run()
        (stage.root / 'out' / 'faster_rcnn_losses.png').unlink()
        assert stage.run() == (True, [])
        assert stage.drawn == 2

    def test_a_failing_training_shows_the_end_of_its_log(self, stage):
        stage.tools.fail_at = ('train', 'fgd')
        with pytest.raises(PhaseFailed) as caught:
            stage.run()
        text = str(caught.value)
        log = stage.root / 'out' / 'faster_rcnn_fgd' / 'train.log'
        assert 'FGD: training ended with exit status 1' in text
        assert 'RuntimeError: out of luck' in text
        assert text.endswith(f'The whole log: {log}')
        assert text.count('    line') == 19
        assert stage.tools.done() == ALL[:5]
        # Mended, it goes on from there.
        stage.tools.fail_at = None
        assert stage.run() == (True, ['train fgd resumed', *ALL[5:]])

    def test_a_test_without_metrics_fails(self, stage):
        stage.tools.fail_at = ('test', 'baseline')
        with pytest.raises(PhaseFailed, match='student baseline: evaluation wrote no metrics'):
            stage.run()
        assert not (stage.root / 'out' / 'faster_rcnn_results.json').exists()

    def test_a_failing_picture_fails(self, stage, monkeypatch):
        def broken(plan, checkpoints):
            raise KeyError('no ratio')

        monkeypatch.setattr(stage, 'draw', broken)
        with pytest.raises(PhaseFailed, match="KeyError: 'no ratio'"):
            stage.run()

    @pytest.mark.parametrize(('teacher', 'verdict'), [(0.22, True), (0.2199, False)])
    def test_the_teacher_has_to_lead_by_ten_points(self, stage, teacher, verdict):
        stage.tools.scores['teacher'] = teacher
        assert stage.run()[0] is verdict
        assert ('says nothing about distillation' in stage.out.getvalue()) is not verdict
        assert len(stage.results()['results']) == 4

    def test_a_smoke_run_is_not_judged(self, stage):
        stage.tools.scores['teacher'] = 0.0
        assert stage.run(smoke=True) == (True, ALL)
        assert 'train_cfg.max_epochs=1' in stage.tools.commands[0]

    def test_two_detectors_do_not_mix(self, stage):
        for name in FILES:
            (stage.root / 'configs' / 'mini' / f'retinanet_{name}.py').write_text('lr = 1\n')
        stage.run()
        assert stage.run(detector='retinanet') == (True, ALL)
        assert stage.run() == (True, [])

    def test_a_missing_config_is_an_error_before_anything_runs(self, stage):
        (stage.root / 'configs' / 'mini' / 'faster_rcnn_dpk.py').unlink()
        with pytest.raises(PhaseFailed, match='configs/mini/faster_rcnn_dpk.py does not exist'):
            stage.run()
        assert stage.tools.commands == []

    def test_data_that_cannot_be_made(self, stage, monkeypatch):
        def refused(out):
            raise ValueError('other parameters')

        monkeypatch.setattr('tools.quickstart.driver.generate_shapes', refused)
        with pytest.raises(PhaseFailed, match='could not be made. other parameters'):
            stage.run()


class TestCommandLine:
    def test_options(self):
        args = parse_args(['--detector', 'retinanet', '--fresh', '--cfg-options', 'a=1', 'b=2'])
        assert (args.detector, args.fresh, args.cfg_options) == ('retinanet', True, ['a=1', 'b=2'])

    def test_outside_the_repository(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert main([]) == 1
        assert 'holds no tools/train.py' in capsys.readouterr().out

    def test_a_failing_script_gives_a_status_and_its_log(self, tmp_path, monkeypatch, capsys):
        make_repository(tmp_path, 'raise SystemExit("cannot train")')
        monkeypatch.chdir(tmp_path)
        assert main([]) == 1
        out = capsys.readouterr().out
        assert 'cannot train' in out and 'train.log' in out

    @pytest.mark.slow
    @pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
    def test_stopped_by_a_signal(self, tmp_path, number):
        waiting = 'import os, time; open("pid", "w").write(str(os.getpid())); time.sleep(600)'
        make_repository(tmp_path, waiting)
        package_root = Path(__file__).parents[3]
        driver = subprocess.Popen(
            [sys.executable, '-m', 'tools.quickstart'],
            cwd=tmp_path,
            env=dict(os.environ, PYTHONPATH=str(package_root)),
            stdout=subprocess.PIPE,
            text=True,
            # tests that run in the background inherit an ignored SIGINT, a user's shell gives none
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        try:
            pid_file = tmp_path / 'pid'
            deadline = time.monotonic() + 120
            while not (pid_file.exists() and pid_file.read_text()):
                assert driver.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            driver.send_signal(number)
            out, _ = driver.communicate(timeout=60)
        finally:
            driver.kill()
        assert driver.returncode == 130
        assert 'Stopped. Run the same command again to continue.' in out
        assert not Path(f'/proc/{pid_file.read_text()}').exists()


def make_repository(root, train_script):
    """A folder that looks like the repository to the driver."""
    (root / 'tools').mkdir()
    (root / 'tools' / 'train.py').write_text(train_script)
    (root / 'configs' / 'mini').mkdir(parents=True)
    for name in FILES:
        (root / 'configs' / 'mini' / f'faster_rcnn_{name}.py').write_text('lr = 1\n')
