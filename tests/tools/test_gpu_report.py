"""The report from end to end on a CPU, as small as it can be, so that it does not fail where a GPU is at hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools' / 'gpu_report.py'


def run(*args):
    command = [sys.executable, '-W', 'ignore', str(SCRIPT), *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_part_finishes_without_an_error(tmp_path):
    done = run('--out', tmp_path, '--device', 'cpu', '--tiny', '--minutes', 60)
    assert done.returncode == 0, done.stdout + (tmp_path / 'log.txt').read_text()[-3000:]
    names = ['classify', 'compiled', 'device_tests', 'host_waits', 'precision', 'step_times']
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [*(f'{name}.json' for name in names), 'log.txt', 'report.md']
    )
    found = {name: json.loads((tmp_path / f'{name}.json').read_text()) for name in names}
    for name, content in found.items():
        assert content['state'] == 'finished', name
        assert not [row for row in content['rows'] if 'error' in row], name
    rows = {name: content['rows'] for name, content in found.items()}
    group, tests = rows['device_tests']
    assert group['world'] == 1 and len(group['losses']) == 2 and tests['passed'] >= 5
    assert len({row['amp'] for row in rows['precision']}) == 2
    cases = {row['case'] for row in rows['step_times']}
    assert {'student alone', 'FGD', 'DPK small + FGD', "mmrazor's PKD", 'DPK small, last'} <= cases
    assert {row['count'] for row in rows['host_waits'] if 'this config' in row.get('case', '')} == {
        1
    }
    # the graph backend that needs no compiler computes the same
    same = {r['case']: r['relative_difference'] for r in rows['compiled']}
    assert same.pop('teacher in bfloat16') < 0.02
    assert max(same.values()) < 1e-4 and len(same) == 2
    assert [row['case'] for row in rows['classify']][:3] == ['teacher', 'student alone', 'KD']
    tables = run('--tables', tmp_path)
    assert tables.returncode == 0 and tables.stdout == (tmp_path / 'report.md').read_text()


def test_without_a_folder_it_says_what_to_give():
    done = run('--tiny')
    assert done.returncode == 2 and 'give --out FOLDER' in done.stderr
