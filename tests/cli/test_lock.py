import subprocess
import sys

import pytest

from dpk_mm.cli.lock import exclusive
from dpk_mm.errors import UsageError


def test_a_folder_is_held_once(tmp_path):
    folder = tmp_path / 'new'
    with (
        exclusive(folder),
        pytest.raises(UsageError, match='running in'),
        exclusive(folder),
    ):
        pass
    with exclusive(folder):
        pass


def test_a_command_that_outlives_the_driver_holds_the_folder(tmp_path):
    with exclusive(tmp_path) as lock:
        left = subprocess.Popen(
            [sys.executable, '-c', 'input()'], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]
        )
    with pytest.raises(UsageError), exclusive(tmp_path):
        pass
    left.communicate(b'\n')
    with exclusive(tmp_path):
        pass
