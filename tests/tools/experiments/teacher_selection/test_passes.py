import json

import pytest
from mmengine.config import Config

from dpk_mm.analysis.teacher_pass import TeacherPass
from dpk_mm.errors import UsageError
from tools.experiments.teacher_selection import passes
from tools.experiments.teacher_selection.passes import Passes, digest

LOOK = TeacherPass({'accuracy/top1': 90.0}, 500, 0.1, 2.0, 1000, 4.0, None, {'backbone': 0.5})


@pytest.fixture
def looks(monkeypatch):
    """Calls of what looks at a teacher."""
    calls = []
    monkeypatch.setattr(passes, 'why_it_does_not_fit', lambda cfg: calls.append('fits'))
    monkeypatch.setattr(
        passes,
        'measure_teacher',
        lambda cfg, ckpt, images, device: calls.append((ckpt, images)) or LOOK,
    )
    return calls


def config(ckpt, width=8):
    return Config(dict(model=dict(width=width, teacher_ckpt=str(ckpt))))


def test_what_is_known_is_not_looked_at_again(tmp_path, looks):
    ckpt = tmp_path / 'teacher.pth'
    ckpt.write_text('1')
    for _ in range(2):
        made = Passes(tmp_path, 500)
        assert made.misfit('a', config(ckpt)) is None
        assert made.measure('a', config(ckpt), 'student.pth') == LOOK
        assert made.seconds >= 0
    assert looks == ['fits', ('student.pth', 500)]
    assert json.loads((tmp_path / 'passes.json').read_text())['a']['found']['images'] == 500


def test_what_did_not_fit_is_looked_at_again(tmp_path, monkeypatch):
    ckpt = tmp_path / 'teacher.pth'
    ckpt.write_text('1')
    found = ['no such folder', None]
    monkeypatch.setattr(passes, 'why_it_does_not_fit', lambda cfg: found.pop(0))
    assert Passes(tmp_path, 500).misfit('a', config(ckpt)) == 'no such folder'
    assert Passes(tmp_path, 500).misfit('a', config(ckpt)) is None
    assert Passes(tmp_path, 500).misfit('a', config(ckpt)) is None and not found


def test_what_changed_is_looked_at_again(tmp_path, looks):
    ckpt = tmp_path / 'teacher.pth'
    ckpt.write_text('1')
    Passes(tmp_path, 500).measure('a', config(ckpt), None)
    Passes(tmp_path, 400).measure('a', config(ckpt), None)
    Passes(tmp_path, 400).measure('a', config(ckpt, 16), None)
    ckpt.write_text('22')
    Passes(tmp_path, 400).measure('a', config(ckpt, 16), None)
    Passes(tmp_path, 400).measure('a', config(ckpt, 16), None)
    assert looks == [(None, 500), (None, 400), (None, 400), (None, 400)]


def test_a_url_counts_by_its_name(tmp_path):
    cfg = Config(dict(a=1))
    assert digest(cfg, 'https://host/a.pth') == digest(cfg, 'https://host/a.pth')
    assert digest(cfg, 'https://host/a.pth') != digest(cfg, 'https://host/b.pth')
    assert digest(cfg) != digest(Config(dict(a=2)))


@pytest.mark.parametrize('text', ['{"a": ', '[1, 2]', '7'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / 'passes.json').write_text(text)
    with pytest.raises(
        UsageError, match=r'passes\.json is not what select_teacher\.py wrote.*remove it'
    ):
        Passes(tmp_path, 500)
