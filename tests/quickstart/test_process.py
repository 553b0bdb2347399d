import os
import sys
import time

import pytest

from dpk_mm.quickstart.process import Progress, last_lines, parse_progress, run_logged

TRAIN = (
    '11/23 20:22:03 - mmengine - INFO - Epoch(train) [3][40/63]  lr: 7.5805e-04  eta: 0:01:38  '
    'time: 0.2205  data_time: 0.0086  grad_norm: 4.2744  loss: 1.6212  loss_rpn_cls: 0.0454'
)


class TestParseProgress:
    def test_training(self):
        assert parse_progress(TRAIN) == Progress('train', 3, 40, 63, '1.6212', '0:01:38')

    def test_padded_numbers_and_long_times(self):
        line = 'Epoch(train)   [ 3][ 40/630]  eta: 2 days, 1:02:03  time: 1.0  loss: nan'
        assert parse_progress(line) == Progress('train', 3, 40, 630, 'nan', '2 days, 1:02:03')

    def test_a_part_of_the_loss_is_not_the_loss(self):
        line = 'Epoch(train)  [1][10/63]  student.loss_cls: 0.5  distill.loss_dpk: 0.7  loss: 1.2'
        assert parse_progress(line).loss == '1.2'

    def test_validation_and_test(self):
        assert parse_progress('INFO - Epoch(val) [2][19/19]    coco/bbox_mAP: 0.04') == Progress(
            'val', 2, 19, 19
        )
        assert parse_progress('INFO - Epoch(test) [ 5/19]    eta: 0:00:10') == Progress(
            'test', None, 5, 19, None, '0:00:10'
        )

    @pytest.mark.parametrize('line', ['', 'Saving checkpoint at 2 epochs', 'loss: 1.0'])
    def test_other_lines(self, line):
        assert parse_progress(line) is None


def python(code):
    return [sys.executable, '-c', code]


def run(command, tmp_path, on_line=lambda line: None, **options):
    return run_logged(
        command,
        tmp_path / 'logs' / 'run.log',
        cwd=tmp_path,
        on_line=on_line,
        on_tick=lambda: None,
        poll_seconds=0.02,
        **options,
    )


def is_running(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


class TestRunLogged:
    def test_follows_both_outputs_and_returns_the_status(self, tmp_path):
        lines = []
        code = 'import sys; print("one"); print("two", file=sys.stderr); sys.exit(7)'
        assert run(python(code), tmp_path, lines.append) == 7
        assert sorted(lines) == ['one', 'two']
        log = (tmp_path / 'logs' / 'run.log').read_text()
        assert log.startswith('$ ') and 'one\n' in log and 'two\n' in log

    def test_appends_and_reads_only_its_own_lines(self, tmp_path):
        run(python('print("first")'), tmp_path)
        lines = []
        run(python('print("second")'), tmp_path, lines.append)
        assert lines == ['second']
        assert 'first' in (tmp_path / 'logs' / 'run.log').read_text()

    def test_runs_in_the_given_folder_which_is_importable(self, tmp_path):
        (tmp_path / 'a_module_of_the_test.py').write_text('print("imported")')
        lines = []
        code = 'import os; print(os.getcwd()); import a_module_of_the_test'
        assert run(python(code), tmp_path, lines.append) == 0
        assert lines == [str(tmp_path.resolve()), 'imported']

    def test_an_interruption_ends_the_command_and_its_children(self, tmp_path):
        # The child ignores the kind signal, as a stuck data worker may.
        code = (
            'import os, subprocess, sys, time;'
            'ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"'
            ' "print(\'ready\', flush=True); time.sleep(600)";'
            'child = subprocess.Popen([sys.executable, "-c", ignore], stdout=subprocess.PIPE);'
            'child.stdout.readline(); print(os.getpid(), child.pid); time.sleep(600)'
        )
        pids = []

        def stop(line):
            pids.extend(int(word) for word in line.split())
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(python(code), tmp_path, stop)
        assert len(pids) == 2
        deadline = time.monotonic() + 10  # the system may need a moment to bury the grandchild
        while any(map(is_running, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [is_running(pid) for pid in pids] == [False, False]

    def test_passes_open_files_on(self, tmp_path):
        with open(tmp_path / 'held', 'w') as file:
            code = f'import os; os.write({file.fileno()}, b"from the child")'
            assert run(python(code), tmp_path, keep_open=[file.fileno()]) == 0
        assert (tmp_path / 'held').read_text() == 'from the child'

    def test_output_that_is_no_text_does_not_stop_it(self, tmp_path):
        lines = []
        code = 'import sys; sys.stdout.buffer.write(b"\\xff\\xfe\\n")'
        assert run(python(code), tmp_path, lines.append) == 0
        assert len(lines) == 1


def test_last_lines(tmp_path):
    log = tmp_path / 'a.log'
    assert last_lines(log) == []
    log.write_text('\n'.join(map(str, range(30))))
    assert last_lines(log, 3) == ['27', '28', '29']


def test_environment_is_handed_on(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', 'elsewhere')
    lines = []
    run(python('import os; print(os.environ["PYTHONPATH"])'), tmp_path, lines.append)
    assert lines == [f'{tmp_path}{os.pathsep}elsewhere']
