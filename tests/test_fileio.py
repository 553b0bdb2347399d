import json
import os

import pytest

from dpk_mm.fileio import write_json_atomically, write_text_atomically


def test_writes_and_replaces(tmp_path):
    path = tmp_path / 'new' / 'a.json'
    write_json_atomically(path, {'x': 1})
    write_json_atomically(path, {'x': 2})
    assert json.loads(path.read_text()) == {'x': 2}
    assert [p.name for p in path.parent.iterdir()] == ['a.json']


def test_an_interruption_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / 'a.txt'
    write_text_atomically(path, 'old')

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'replace', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text_atomically(path, 'new')
    assert path.read_text() == 'old'
    assert [p.name for p in tmp_path.iterdir()] == ['a.txt']


def test_content_that_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.json'
    write_json_atomically(path, [1])
    with pytest.raises(TypeError):
        write_json_atomically(path, object())
    assert json.loads(path.read_text()) == [1]
