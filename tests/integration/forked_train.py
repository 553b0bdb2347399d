"""Runs tools/train.py in processes that are forked after the imports, and kills them.

Not a test: the tests start it with this Python, and talk to it in lines of JSON. Each run is a
process of its own that ends by itself or by SIGKILL; only the seconds of importing are shared.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
# seconds; a run takes a few, and one that hangs says where and is ended
HUNG_AFTER = 300


def die():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # until the signal arrives


def arm(point, number):
    """Kills this process at the `number`-th passing of a point in the writing of a checkpoint."""
    from dpk_mm import fileio
    from dpk_mm.compat import atomic_checkpoints

    passed = 0

    def count():
        nonlocal passed
        passed += 1
        return passed == number

    replace, put = os.replace, atomic_checkpoints.write_bytes_atomically

    def replace_armed(source, target):
        wanted = str(target).endswith('last_checkpoint' if 'last' in point else '.pth')
        now = wanted and 'replace' in point and count()
        if now and point.startswith('before'):
            die()
        replace(source, target)
        if now:
            die()

    def half(path, content):
        if count():
            with fileio.replacing(path) as temporary, open(temporary, 'wb') as file:
                file.write(content[: len(content) // 2])
                file.flush()
                die()
        put(path, content)

    os.replace = replace_armed
    if point == 'half':
        atomic_checkpoints.write_bytes_atomically = half


def announce_training(pipe):
    """Says when the training loop begins, from which the time to a kill is counted."""
    from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

    for loop in (EpochBasedTrainLoop, IterBasedTrainLoop):

        def run(self, original=loop.run):
            os.write(pipe, b'x')
            return original(self)

        loop.run = run


def child(order, pipe):
    log = os.open(order['log'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.register(signal.SIGUSR1)  # of its data workers, too
    if 'point' in order:
        arm(order['point'], order['number'])
    announce_training(pipe)
    sys.argv = ['tools/train.py', *order['arguments']]
    status = 0
    try:
        runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')
    except SystemExit as end:
        status = 1 if end.code else 0
        print(end.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run(order):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)  # with its data workers
        child(order, writer)
    began = status = None
    started, hung = time.monotonic(), False
    limit = order.get('kill_after')
    while status is None:
        if began is None:
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 1)
                began = time.monotonic()
        found, code = os.waitpid(pid, os.WNOHANG)
        if found:
            status = os.waitstatus_to_exitcode(code)
        elif limit is not None and began is not None and time.monotonic() - began >= limit:
            os.kill(pid, signal.SIGKILL)
            limit = None
        elif not hung and time.monotonic() - started > HUNG_AFTER:
            os.killpg(pid, signal.SIGUSR1)
            time.sleep(1)
            os.kill(pid, signal.SIGKILL)
            hung = True
        else:
            time.sleep(0.003)
    seconds = 0 if began is None else time.monotonic() - began
    os.close(reader)
    os.close(writer)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # a worker notices only later that its parent is gone
    return dict(status='hung' if hung else status, seconds=seconds)


def main():
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    from tests.helpers.forked import IMPORTED

    for name in IMPORTED:
        importlib.import_module(name)
    from mmengine.config import config

    # every checkpoint holds the config's text, and laying it out takes longer than an epoch here
    config.FormatCode = lambda text, **kwargs: (text, True)

    answers = os.fdopen(os.dup(1), 'w')
    print('ready', file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == '__main__':
    main()
