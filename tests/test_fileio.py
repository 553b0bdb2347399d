import errno
import json
import os
import subprocess
import sys

import pytest

from dpk_mm import fileio
from dpk_mm.fileio import (
    DiskFullError,
    remove_leftovers,
    replacing,
    write_bytes_atomically,
    write_json_atomically,
    write_text_atomically,
)


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


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda f: (order.append('fsync'), fsync(f)))
    monkeypatch.setattr(os, 'replace', lambda a, b: (order.append('replace'), replace(a, b)))
    write_bytes_atomically(tmp_path / 'a', b'x')
    assert order == ['fsync', 'replace', 'fsync']  # the file, its name, the folder


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / 'a').write_text('old')
    (tmp_path / 'link').symlink_to(tmp_path / 'a')
    write_text_atomically(tmp_path / 'link', 'new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'a').read_text() == 'new'


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said(tmp_path, number):
    path = tmp_path / 'a.pth'
    path.write_text('old')
    with pytest.raises(DiskFullError) as error, replacing(path) as temporary:
        temporary.write_text('ne')
        raise OSError(number, os.strerror(number))
    message = str(error.value)
    assert message.startswith(f'{path} could not be written, which stays as it was: the disk')
    assert f'{tmp_path} is full (' in message and ' MB free)' in message
    assert error.value.errno == number
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['a.pth']


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), replacing(tmp_path / 'a'):
        raise PermissionError(errno.EACCES, 'no')


def test_leftovers_of_the_dead_are_removed_and_nothing_else(tmp_path):
    ended = subprocess.Popen([sys.executable, '-c', ''])
    ended.wait()
    for name in (f'.epoch_3.pth.{ended.pid}.tmp', f'.a.b.{ended.pid}.tmp'):
        (tmp_path / name).touch()
    kept = [f'.mine.{os.getpid()}.tmp', '.other.tmp', f'x.{ended.pid}.tmp', 'epoch_2.pth']
    for name in kept:
        (tmp_path / name).touch()
    removed = remove_leftovers(tmp_path)
    assert removed == sorted([f'.a.b.{ended.pid}.tmp', f'.epoch_3.pth.{ended.pid}.tmp'])
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
    assert remove_leftovers(tmp_path / 'none') == []


def test_a_process_of_another_user_lives(monkeypatch):
    def kill(pid, signal):
        raise PermissionError

    monkeypatch.setattr(os, 'kill', kill)
    assert fileio._alive(1)
