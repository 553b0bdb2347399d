import json
import sys
import time

import pytest

from tools.gpu_suites import driver
from tools.gpu_suites.driver import PARTS, Part, run_parts
from tools.gpu_suites.record import Options, Record
from tools.gpu_suites.tables import markdown

SCRIPT = """
import json, os, subprocess, sys, time
out = sys.argv[sys.argv.index('--out') + 1]
part = sys.argv[sys.argv.index('--run') + 1]
seconds = json.loads(sys.argv[sys.argv.index('--options') + 1])['seconds']
rows = [dict(what='group', case=part, seconds=seconds)]
def write(state):
    with open(os.path.join(out, part + '.json'), 'w') as file:
        json.dump(dict(part=part, state=state, rows=rows), file)
write('running')
if part == 'fails':
    sys.exit(3)
if part == 'hangs':
    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
    rows.append(dict(what='group', case='child', count=child.pid))
    write('running')
    time.sleep(600)
if part == 'errs':
    rows.append(dict(what='group', case='x', error='no'))
write('finished')
"""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'gpu_report.py').write_text(SCRIPT)
    monkeypatch.setattr(driver, 'ROOT', tmp_path)
    found = [Part(name, name, 600, name) for name in ('works', 'fails', 'errs', 'after')]
    monkeypatch.setattr(driver, 'PARTS', found)
    return tmp_path / 'out'


def states(out):
    return {p.stem: json.loads(p.read_text())['state'] for p in out.glob('*.json')}


def test_what_fails_is_written_down_and_the_next_part_runs(parts):
    said = []
    assert not run_parts(['works', 'fails', 'errs', 'after'], parts, Options(), 1.0, said.append)
    assert states(parts) == dict(
        works='finished', fails='ended with status 3', errs='finished', after='finished'
    )
    assert any('fails: ended with status 3' in line for line in said)
    assert any('1 rows with an error' in line for line in said)
    report = (parts / 'report.md').read_text()
    assert 'This part is not whole: ended with status 3.' in report and '### after' in report
    assert run_parts(['works'], parts, Options(), 1.0, said.append)


def test_what_an_earlier_run_left_is_not_this_ones(parts, monkeypatch):
    parts.mkdir()
    for name in ('fails', 'works', 'after'):
        content = dict(part=name, state='finished', rows=[dict(what='old', case='old')])
        (parts / f'{name}.json').write_text(json.dumps(content))
    # dies before it writes, and the time is over then
    monkeypatch.setattr(driver, '_run', lambda *args: 'ended with status 1')
    assert not run_parts(['fails', 'works'], parts, Options(), 1.0, lambda line: None)
    fails = json.loads((parts / 'fails.json').read_text())
    assert (fails['state'], fails['rows']) == ('ended with status 1', [])
    assert json.loads((parts / 'works.json').read_text())['rows'] == []
    assert not run_parts(['fails', 'works'], parts, Options(), 0.0, lambda line: None)
    assert states(parts) == dict(after='finished')  # of another choice, which stays


@pytest.mark.slow
def test_a_part_that_takes_too_long_is_ended_with_its_processes_and_keeps_its_rows(
    parts, monkeypatch
):
    monkeypatch.setattr(driver, 'PARTS', [Part('hangs', 'hangs', 150, ''), Part('b', 'b', 0, '')])
    assert not run_parts(['hangs', 'b'], parts, Options(), 0.4, lambda line: None)
    assert states(parts) == dict(hangs='stopped at its limit', b='finished')
    rows = json.loads((parts / 'hangs.json').read_text())['rows']
    child = rows[1]['count']
    for _ in range(50):
        try:
            with open(f'/proc/{child}/stat') as file:
                if file.read().split()[2] == 'Z':
                    break
        except OSError:
            break
        time.sleep(0.1)
    else:
        pytest.fail('its child lives on')


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads what Linux shows')
def test_limits_fit_in_the_whole():
    fixed = sum(part.seconds for part in PARTS)
    assert fixed < 60 * driver.MINUTES and PARTS[-1].seconds == 0
    assert [part.name for part in PARTS] == list('abcdef')


def test_every_row_is_on_the_disk_at_once(tmp_path):
    path = tmp_path / 'x.json'
    record = Record(path, 'x', Options(seconds=100), dict(device='cpu'))
    with record.attempt(what='a', case='good') as row:
        row['count'] = 1
    with record.attempt(what='a', case='bad'):
        assert json.loads(path.read_text())['rows'][0] == dict(what='a', case='good', count=1)
        raise RuntimeError('out of | luck')
    content = json.loads(path.read_text())
    assert content['state'] == 'running'
    assert content['rows'][1]['error'] == 'RuntimeError: out of | luck'
    assert 0 < record.left <= 100
    text = markdown(tmp_path, dict(x='Title'))
    assert 'device cpu.' in text and '| bad |  | RuntimeError: out of \\| luck |' in text


def test_runs_of_one_method_are_one_line(tmp_path):
    record = Record(tmp_path / 'x.json', 'x', Options(), {})
    for seed, accuracy in enumerate((70.0, 74.0)):
        record.add(what='w', case='KD', seed=seed, epochs=2, accuracy=accuracy, training=3.0)
    record.add(what='w', case='KD', seed=2, error='no time')
    text = markdown(tmp_path, dict(x='Title'))
    assert '| KD | 2 | 2 | 72.00 | 2.83 | 3 |  |' in text
    # what failed has no part of what the others reached
    assert '| KD |  |  |  |  |  | no time |' in text
