import json

import pytest

from tools.experiments.state import EntryState, last_checkpoint


def test_round_trip(tmp_path):
    state = EntryState('abc', True, 12.5, 2.5, 99.0)
    state.save(tmp_path / 'new')
    assert EntryState.load(tmp_path / 'new') == state
    assert state.seconds == 15.0


@pytest.mark.parametrize('content', ['', '{"inputs": ', '[]', '{"unknown": 1}'])
def test_what_cannot_be_read_is_no_state(tmp_path, content):
    (tmp_path / 'phase.json').write_text(content)
    assert EntryState.load(tmp_path) is None


def test_what_an_earlier_version_wrote_is_read(tmp_path):
    content = {'inputs': 'abc', 'complete': False, 'seconds': 3.0, 'finished_at': 5.0, 'result': {}}
    (tmp_path / 'phase.json').write_text(json.dumps(content))
    assert EntryState.load(tmp_path) == EntryState('abc', finished_at=5.0)


def test_no_state(tmp_path):
    assert EntryState.load(tmp_path) is None


def test_last_checkpoint(tmp_path):
    assert last_checkpoint(tmp_path) is None
    checkpoint = tmp_path / 'epoch_2.pth'
    (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
    assert last_checkpoint(tmp_path) is None  # named, but gone
    checkpoint.write_text('')
    assert last_checkpoint(tmp_path) == str(checkpoint)
