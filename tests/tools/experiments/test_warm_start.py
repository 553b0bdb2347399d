import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from dpk_mm.cli.process import run_logged
from tools.experiments.warm_start import _start, warm_run_command


@pytest.fixture(scope='module')
def run_command():
    return warm_run_command(['json'])


def run(run_command, tmp_path, code, *arguments, **options):
    script = tmp_path / 'script.py'
    script.write_text(code)
    lines = []
    status = run_command(
        [sys.executable, 'script.py', *arguments],
        tmp_path / 'log',
        cwd=tmp_path,
        on_line=lines.append,
        on_tick=options.pop('on_tick', lambda: None),
        poll_seconds=0.02,
        **options,
    )
    return status, lines


def test_a_script_runs_as_python_runs_it(run_command, tmp_path):
    code = (
        'import os, sys\n'
        'print(__name__, sys.argv, os.getcwd(), sys.stdin.read() == "")\n'
        'print(os.environ["OMP_NUM_THREADS"], file=sys.stderr)\n'
        'sys.exit(int(sys.argv[1]))'
    )
    status, lines = run(run_command, tmp_path, code, '7')
    assert status == 7
    assert lines[0] == f"__main__ ['script.py', '7'] {tmp_path.resolve()} True"
    assert lines[1] == os.environ.get('OMP_NUM_THREADS', '1')


def test_the_modules_are_imported_before(run_command, tmp_path):
    assert run(run_command, tmp_path, 'import sys; print("json" in sys.modules)')[1] == ['True']


def test_an_error_has_its_traceback_in_the_log(run_command, tmp_path):
    status, lines = run(run_command, tmp_path, 'raise ValueError("of the script")')
    assert status == 1
    assert lines[-1] == 'ValueError: of the script'


def test_an_open_file_goes_along(run_command, tmp_path):
    reader, writer = os.pipe()
    # under which number is the new process's affair, that it is open is what a lock needs
    code = 'import os; [os.fstat(n) for n in range(3)]; import time; time.sleep(0.2)'
    assert run(run_command, tmp_path, code, keep_open=(writer,))[0] == 0
    os.close(writer)
    assert os.read(reader, 1) == b''
    os.close(reader)


def test_an_interruption_ends_the_script(run_command, tmp_path):
    begin = time.monotonic()

    def tick():
        if time.monotonic() - begin > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(run_command, tmp_path, 'import time; print("on"); time.sleep(600)', on_tick=tick)


def test_a_signal_is_a_negative_status(run_command, tmp_path):
    code = 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)'
    assert run(run_command, tmp_path, code)[0] == -9


def test_other_commands_are_started_as_they_are(run_command, tmp_path):
    lines = []
    command = [sys.executable, '-c', 'print("by itself")']
    status = run_command(
        command, tmp_path / 'log', cwd=tmp_path, on_line=lines.append, on_tick=lambda: None
    )
    assert (status, lines) == (0, ['by itself'])
    assert subprocess.run(command, check=True, capture_output=True).stdout == b'by itself\n'


def test_threads_are_those_of_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    code = 'import torch; print(torch.get_num_threads()); '
    run_command = warm_run_command(['torch'])
    assert run(run_command, tmp_path, code)[1] == ['1']
    # the forkserver runs already, with torch as it was imported
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    assert run(run_command, tmp_path, code)[1] == ['2']


def test_threads_do_not_take_each_others_status(tmp_path):
    """A status can be read once, and each start reads those of the processes of all threads."""
    busy, together = threading.Lock(), []

    def reading():
        if not busy.acquire(blocking=False):
            together.append(1)
            return 7
        time.sleep(0.005)
        busy.release()
        return 7

    class Process:
        pid = 1
        exitcode = property(lambda self: reading())

        def __init__(self, **kwargs):
            pass

        def start(self):
            reading()

    def one(number):
        for _ in range(10):
            process = _start(SimpleNamespace(Process=Process), command, tmp_path, {}, 1, ())
            assert process.poll() == process.wait(1) == 7

    command = [sys.executable, 'script.py']
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    assert not together


def test_waiting_has_an_end(tmp_path):
    running = []

    def keep(*args):
        running.append(warm_run_command(['json']).keywords['start'](*args))
        return running[0]

    def tick():
        with pytest.raises(subprocess.TimeoutExpired):
            running[0].wait(0.05)
        raise KeyboardInterrupt

    (tmp_path / 'script.py').write_text('import time; time.sleep(600)')
    with pytest.raises(KeyboardInterrupt):
        run_logged(
            [sys.executable, 'script.py'],
            tmp_path / 'log',
            cwd=tmp_path,
            on_line=lambda line: None,
            on_tick=tick,
            start=keep,
        )
    assert running[0].poll() == -signal.SIGTERM
