"""The lines of a results file, and what they take from a finished training."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dpk_mm.analysis.epoch_curves import epoch_means
from dpk_mm.analysis.metric_units import FRACTIONS
from dpk_mm.analysis.training_curves import MASK_RATIO_PREFIX, SIMILARITY_PREFIX, load_scalars
from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_text_atomically

RESULTS_FILE = 'results.jsonl'
#: Methods by the names that earlier versions wrote.
_RENAMED = {'alone': 'baseline'}


def read_results(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the results of a file; of several lines of one entry the last one counts.

    Raises:
        FileNotFoundError: If there is no such file.
        UsageError: If a line is not a result.
    """
    results: dict[tuple[str, str], dict[str, Any]] = {}
    with open(path, encoding='utf-8') as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                result = json.loads(line)
                key = (result['grid'], result['entry'])
            except (ValueError, KeyError, TypeError):
                raise UsageError(
                    f'{path}, line {number} is not a result of tools/experiments/run.py.'
                ) from None
            method = result.get('method')
            results.pop(key, None)
            results[key] = {**result, 'method': _RENAMED.get(method, method)}
    return list(results.values())


def write_results(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Writes results as JSON lines, all of them or none."""
    write_text_atomically(path, ''.join(f'{json.dumps(result)}\n' for result in results))


class ResultsFile:
    """The results of a grid by entry, in memory and in a file.

    Args:
        path: The file.
        order: Names of the entries as the file is to have them, whatever was finished first.
    """

    def __init__(self, path: Path, order: Sequence[str]) -> None:
        self.path = path
        self._order = {name: number for number, name in enumerate(order)}
        self._lines: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def load(self) -> None:
        """Reads the file, if there is one."""
        self._lines = {}
        if self.path.is_file():
            self._lines = {result['entry']: result for result in read_results(self.path)}

    def get(self, name: str) -> dict[str, Any] | None:
        """The result of an entry, None if there is none."""
        return self._lines.get(name)

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self._lines[name]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(list(self._lines.values()))

    def record(self, name: str, result: dict[str, Any] | None) -> None:
        """Puts the result of an entry in place of an earlier one, or takes that away, and writes the file."""
        with self._lock:
            if self._lines.pop(name, None) is None and result is None:
                return
            if result is not None:
                self._lines[name] = result
            lines = sorted(self._lines.values(), key=lambda r: self._order.get(r['entry'], -1))
            write_results(self.path, lines)


def read_curves(folder: Path) -> dict[str, dict[str, list[float | None]]]:
    """Mask ratio and similarity of a training by stage and epoch; empty for one without them."""
    scalars = load_scalars(folder)
    curves = {
        'mask_ratio': epoch_means(scalars, MASK_RATIO_PREFIX),
        'similarity': epoch_means(scalars, SIMILARITY_PREFIX),
    }
    return {name: stages for name, stages in curves.items() if stages}


def read_validation(folder: Path, epochs: int) -> dict[str, float] | None:
    """Metrics of the validation after the last epoch; None if it was not done."""
    records = [record for record in load_scalars(folder).val if record['step'] >= epochs]
    return only_metrics(records[-1]) if records else None


def only_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Takes times and counters out of a record; mmengine's metrics have a slash in their names."""
    return {key: value for key, value in record.items() if '/' in key}


def metric_value(metrics: Mapping[str, float], name: str) -> float:
    """The metric that counts.

    Raises:
        UsageError: If it is not there; but a detector without a single detection, for which mmdet
            gives no box metrics at all, scores 0.
    """
    if name in metrics:
        return float(metrics[name])
    if name.startswith('coco/') and not any(key.startswith('coco/') for key in metrics):
        return 0.0
    raise UsageError(
        f'the evaluation gave no {name}, only {", ".join(metrics) or "nothing"}: set the metric to one of them.'
    )


def percent(metric: str, value: float) -> float:
    """A value of a metric in percent, whether the evaluation gives it so or as a fraction."""
    return 100 * value if metric.startswith(FRACTIONS) else value


def describe_machine() -> dict[str, Any]:
    """What the numbers were made with; no names of hosts or folders."""
    return {
        'device': torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu',
        'cores': usable_cores(),
        'torch': torch.__version__,
    }


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def git_commit(root: Path) -> str | None:
    """The commit of the repository, with ``-dirty`` if a tracked file differs; None without git."""
    try:
        commit = _git(root, 'rev-parse', 'HEAD')
        changed = _git(root, 'status', '--porcelain', '--untracked-files=no')
    except (OSError, subprocess.CalledProcessError):
        return None
    return f'{commit}-dirty' if changed else commit


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ['git', '-C', str(root), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
