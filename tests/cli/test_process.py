import os
import signal
import subprocess
import sys
import time

import pytest

from dpk_mm.cli.process import last_lines, run_logged


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

    def test_a_command_without_a_group_yet_is_ended_too(self, tmp_path):
        """A forked one makes its group itself, a moment after it has begun."""
        started = []

        def start(command, *args):
            started.append(subprocess.Popen(command))
            return started[0]

        def stop():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_logged(
                python('import time; time.sleep(600)'),
                tmp_path / 'run.log',
                cwd=tmp_path,
                on_line=lambda line: None,
                on_tick=stop,
                start=start,
            )
        assert started[0].returncode == -signal.SIGTERM

    def test_an_interruption_ends_the_command_and_its_children(self, tmp_path):
        # The child ignores SIGTERM, as a stuck data worker may.
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
        deadline = time.monotonic() + 10  # the system may need a moment to reap the grandchild
        while any(map(is_running, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [is_running(pid) for pid in pids] == [False, False]

    def test_a_second_interruption_ends_a_command_that_ignores_the_first(self, tmp_path):
        started = []

        class Impatient(subprocess.Popen):
            """Its first waiting, for the grace period, is interrupted."""

            def wait(self, timeout=None):
                if timeout is not None:
                    raise KeyboardInterrupt('second')
                return super().wait()

        def start(command, cwd, environment, out, keep_open):
            started.append(Impatient(command, stdout=out, start_new_session=True))
            return started[0]

        def stop(line):
            raise KeyboardInterrupt('first')

        code = (
            'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);'
            ' print("ready", flush=True); time.sleep(600)'
        )
        try:
            with pytest.raises(KeyboardInterrupt, match='second'):
                run(python(code), tmp_path, stop, start=start)
            assert started[0].returncode == -signal.SIGKILL
        finally:
            started[0].kill()

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


@pytest.mark.parametrize(('users', 'expected'), [(None, '1'), ('', '1'), ('3', '3')])
def test_a_command_has_one_openmp_thread_unless_the_user_says_otherwise(
    tmp_path, monkeypatch, users, expected
):
    if users is None:
        monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    else:
        monkeypatch.setenv('OMP_NUM_THREADS', users)
    lines = []
    code = 'import os; print(os.environ["OMP_NUM_THREADS"])'
    assert run(python(code), tmp_path, lines.append) == 0
    assert lines == [expected]
    # whoever repeats the command from the log gets the same
    log = (tmp_path / 'logs' / 'run.log').read_text()
    assert log.startswith(f'$ OMP_NUM_THREADS={expected} ')
