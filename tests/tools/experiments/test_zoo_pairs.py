"""The exit status of the table of pairs; the pairs themselves run in tests/integration."""

import sys

from tools.experiments import zoo_pairs
from tools.experiments.zoo_pairs import PAIRS


def test_a_pair_that_fails_is_seen_in_the_exit_status(monkeypatch, capsys):
    def dry_run(pair, folder, work_dir):
        if pair is PAIRS['gfl']:
            raise RuntimeError('no neck')
        return zoo_pairs.Timing(1.0, 2.0)

    monkeypatch.setattr(zoo_pairs, 'draw', lambda folder, side: folder.mkdir())
    monkeypatch.setattr(zoo_pairs, 'dry_run', dry_run)
    monkeypatch.setattr(sys, 'argv', ['zoo_pairs.py', 'gfl', 'fcos'])
    assert zoo_pairs.main() == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].endswith('| failed | RuntimeError: no neck |')
    assert printed[3].endswith('| 1.0 s | 2.0 s |')  # the next pair is tried all the same
    monkeypatch.setattr(sys, 'argv', ['zoo_pairs.py', 'fcos'])
    assert zoo_pairs.main() == 0
