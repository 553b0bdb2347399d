import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / 'tools' / 'quickstart.sh'


def run(*arguments, cwd, **environment):
    return subprocess.run(
        ['bash', str(SCRIPT), *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_help_installs_nothing(tmp_path):
    done = run('--help', cwd=tmp_path, DPK_VENV=str(tmp_path / 'venv'))
    assert done.returncode == 0
    assert '--detector faster_rcnn|retinanet' in done.stdout
    assert not (tmp_path / 'venv').exists()


def test_hands_its_options_to_the_driver_from_the_root(tmp_path):
    python = tmp_path / 'python'
    python.write_text('#!/bin/sh\npwd\nprintf "<%s>" "$@"\nexit 5\n')
    python.chmod(0o755)
    done = run('--fresh', '--cfg-options', 'a=b c', cwd=tmp_path, DPK_PYTHON=str(python))
    assert done.returncode == 5
    folder, arguments = done.stdout.split('\n')
    assert Path(folder).resolve() == ROOT.resolve()
    assert arguments == '<-m><tools.quickstart><--fresh><--cfg-options><a=b c>'


def test_a_failing_installation_ends_it(tmp_path):
    done = run(cwd=tmp_path, DPK_VENV=str(tmp_path / 'venv'), PYTHON='no-such-python')
    assert done.returncode != 0
    assert 'no-such-python' in done.stderr
