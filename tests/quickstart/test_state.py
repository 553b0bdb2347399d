import subprocess
import sys

import pytest

from dpk_mm.quickstart.state import PhaseState, exclusive


def test_round_trip(tmp_path):
    state = PhaseState('abc', True, 12.5, 99.0, {'mAP': 0.25})
    state.save(tmp_path / 'new')
    assert PhaseState.load(tmp_path / 'new') == state


@pytest.mark.parametrize('content', ['', '{"inputs": ', '[]', '{"unknown": 1}'])
def test_what_cannot_be_read_is_no_state(tmp_path, content):
    (tmp_path / 'phase.json').write_text(content)
    assert PhaseState.load(tmp_path) is None


def test_no_state(tmp_path):
    assert PhaseState.load(tmp_path) is None


def test_a_folder_is_held_once(tmp_path):
    folder = tmp_path / 'new'
    with (
        exclusive(folder),
        pytest.raises(BlockingIOError, match='running in'),
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
    with pytest.raises(BlockingIOError), exclusive(tmp_path):
        pass
    left.communicate(b'\n')
    with exclusive(tmp_path):
        pass
