"""Students' scores by teacher and method: the paper's Fig. 1 and 3, and the layouts of its tables 13 and 14.

Reads the results of ``tools/experiments``, or lines written by hand with the same keys.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..errors import UsageError, first_few
from .loading import PathLike
from .metric_units import metric_unit, percent_factor
from .training_curves import line_style

#: What the students trained without a teacher are called.
BASELINE = 'baseline'
TEACHER = 'teacher'
PARTS = ('test', 'val')
LAYOUTS = ('pairs', 'teachers')
_MISSING = '-'
#: Beginning of a setting that says which student is trained, not how it was tuned, such as ``student width 4``.
_STUDENT = 'student '


@dataclass
class Row:
    """The runs of one student with one teacher and one method, which differ in the seed alone.

    Attributes:
        student: Name of the student; '' if there is but one.
        method: Name of the method, ``'baseline'`` without a teacher; with its settings, such as ``'fgd, weight 10'``.
        teacher: Name of the teacher; '' without one.
        teacher_scores: Scores of the teachers, one for each run; in percent where the unit of the metric is known.
        scores: Scores of the students, likewise.
    """

    student: str
    method: str
    teacher: str
    teacher_scores: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Mean of the students' scores."""
        return sum(self.scores) / len(self.scores)

    @property
    def deviation(self) -> float | None:
        """Standard deviation (n - 1) of the students' scores; None for a single run."""
        if len(self.scores) < 2:
            return None
        squares = math.fsum((score - self.mean) ** 2 for score in self.scores)
        return math.sqrt(squares / (len(self.scores) - 1))

    @property
    def teacher_mean(self) -> float | None:
        """Mean of the teachers' scores; None without a teacher."""
        return sum(self.teacher_scores) / len(self.teacher_scores) if self.teacher_scores else None


def read_rows(paths: Iterable[PathLike], part: str | None = None) -> tuple[list[Row], str]:
    """Reads results files.

    A line needs ``method``, ``scores`` (by part) and, but for the baseline, ``teacher`` (a name) and
    ``teacher_scores``; ``student``, or a setting that begins so, names the student where there are several, ``metric``
    what counts. Other settings stand with the method. Of several lines of a ``grid`` and ``entry`` the last one counts.

    Args:
        paths: Of ``results.jsonl`` files.
        part: ``'test'`` or ``'val'``; by default the former where there is one.

    Returns:
        The rows in the order of the files, without those of the teachers, and the name of the metric.

    Raises:
        FileNotFoundError: If a file does not exist.
        UsageError: If a line cannot be read, no run has a score of this part, or the scores are of several metrics.
    """
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for path in paths:
        for number, text in enumerate(Path(path).read_text(encoding='utf-8').splitlines(), 1):
            if not text.strip():
                continue
            try:
                line = json.loads(text)
                line['method'], line['scores'].keys()
            except (ValueError, KeyError, TypeError, AttributeError):
                raise UsageError(
                    f'{path}, line {number} is no result: expected a JSON object with method and scores, as '
                    'tools/experiments/run.py writes it.'
                ) from None
            key = (line.get('grid'), line.get('entry'))
            if None in key:  # written by hand
                key = (str(path), number)
            found.pop(key, None)
            found[key] = line
    lines = list(found.values())
    part = part or next((p for p in PARTS if any(p in line['scores'] for line in lines)), 'val')
    rows: dict[tuple[str, str, str], Row] = {}
    metric, factor = '', 1.0
    for line in lines:
        if line['method'] == TEACHER or line['scores'].get(part) is None:
            continue
        own = line.get('metric') or ''
        if rows and own != metric:
            raise UsageError(
                f'these results have scores of {metric or "no named metric"} and of {own or "no named metric"}: give '
                'those of one metric.'
            )
        metric, factor = own, percent_factor(own)  # mmdet gives fractions
        student, method = _student_and_method(line)
        names = (student, method, line.get('teacher') or '')
        row = rows.setdefault(names, Row(*names))
        row.scores.append(factor * line['scores'][part])
        theirs = (line.get('teacher_scores') or {}).get(part)
        if theirs is not None:
            row.teacher_scores.append(factor * theirs)
    if not rows:
        raise UsageError(f"no run in these files has a score of the part '{part}'.")
    return list(rows.values()), metric


def _student_and_method(line: Mapping[str, Any]) -> tuple[str, str]:
    settings = [f'{key} {value}' for key, value in (line.get('setting') or {}).items()]
    of_student = [text for text in settings if text.startswith(_STUDENT)]
    others = [text for text in settings if text not in of_student]
    student = line.get('student') or ', '.join(of_student)
    return student, ', '.join([line['method'], *others])


def score_name(metric: str) -> str:
    """What the scores of :func:`read_rows` are called: the metric, and percent where they are that."""
    return f'{metric or "score"} (percent)' if metric_unit(metric) else metric or 'score'


def _teachers(rows: Sequence[Row]) -> list[str]:
    """Names of the teachers from the lowest score to the highest."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row.teacher:
            scores.setdefault(row.teacher, []).extend(row.teacher_scores)
    return sorted(scores, key=lambda t: sum(scores[t]) / len(scores[t]) if scores[t] else 0.0)


def plot_accuracy(rows: Sequence[Row], path: PathLike, metric: str = '', title: str = '') -> None:
    """Draws the students' scores under each teacher, a line for each method (Fig. 1 and 3), a panel for each student.

    Teachers stand from the lowest score to the highest; the baseline is a horizontal line.

    Args:
        rows: Of :func:`read_rows`.
        path: Image to write; the suffix chooses the format.
        metric: Label.
        title: Put above the figure.

    Raises:
        UsageError: If there are less than two teachers.
    """
    teachers = _teachers(rows)
    if len(teachers) < 2:
        raise UsageError(
            f'a picture of the students by teacher needs two teachers, but these results have '
            f'{first_few(teachers) or "none"}.'
        )
    students = list(dict.fromkeys(row.student for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows if row.teacher))
    figure = Figure(figsize=(2.2 + 3.6 * len(students), 3.8), layout='constrained')
    axes = figure.subplots(1, len(students), squeeze=False)[0]
    for axis, student in zip(axes, students, strict=True):
        own = [row for row in rows if row.student == student]
        for index, method in enumerate(methods):
            points = {row.teacher: row for row in own if row.method == method and row.teacher}
            shown = [t for t in teachers if t in points]
            axis.errorbar(
                [teachers.index(t) for t in shown],
                [points[t].mean for t in shown],
                yerr=[points[t].deviation or 0.0 for t in shown],
                capsize=3,
                label=method,
                **line_style(index),
            )
        for row in own:
            if not row.teacher:
                axis.axhline(row.mean, color='0.4', linestyle='--', label=row.method)
        labels = []
        for teacher in teachers:
            theirs = next((r.teacher_mean for r in rows if r.teacher == teacher), None)
            labels.append(teacher if theirs is None else f'{teacher}\n{theirs:.1f}')
        axis.set_xticks(range(len(teachers)), labels, fontsize='small')
        axis.set(xlabel='teacher, and its score', title=student)
        axis.grid(alpha=0.3)
        axis.spines[['top', 'right']].set_visible(False)
    axes[0].set_ylabel(f"student's {score_name(metric)}")
    handles = {  # of all panels: a student may lack a method
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    axes[-1].legend(
        list(handles.values()),
        list(handles),
        loc='upper left',
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
    )
    if title:
        figure.suptitle(title)
    figure.supxlabel(
        'Means over seeds; bars: one standard deviation.', fontsize='small', color='0.35'
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def table_of_pairs(rows: Sequence[Row]) -> list[list[str]]:
    """The layout of table 13: a block for each teacher and student, a line for each method, the baseline first.

    Returns:
        Header and lines; the cells of teacher and student stand in the first line of a block only.
    """
    lines = [['teacher', "teacher's score", 'student', 'method', "student's score"]]
    for student in dict.fromkeys(row.student for row in rows):
        own = [row for row in rows if row.student == student]
        alone = [row for row in own if not row.teacher]
        for teacher in _teachers(own):
            block = [*alone, *(row for row in own if row.teacher == teacher)]
            theirs = next(row.teacher_mean for row in block if row.teacher)
            for number, row in enumerate(block):
                head = [teacher, _score(theirs), student or _MISSING] if number == 0 else [''] * 3
                lines.append([*head, row.method, _spread(row)])
    return lines


def table_of_teachers(rows: Sequence[Row]) -> list[list[str]]:
    """The layout of table 14: a line for each student and teacher, from the lowest score up, a column for each method.

    Returns:
        Header and lines.
    """
    methods = list(dict.fromkeys(row.method for row in rows))
    lines = [['student', 'teacher', "teacher's score", *methods]]
    for student in dict.fromkeys(row.student for row in rows):
        own = [row for row in rows if row.student == student]
        for teacher in _teachers(own):
            by_method = {row.method: row for row in own if row.teacher in ('', teacher)}
            theirs = next(row.teacher_mean for row in own if row.teacher == teacher)
            cells = [_spread(by_method[m]) if m in by_method else _MISSING for m in methods]
            lines.append([student or _MISSING, teacher, _score(theirs), *cells])
    return lines


def to_markdown(lines: Sequence[Sequence[str]], left: int) -> str:
    """Writes a header and lines as a Markdown table.

    Args:
        lines: The header first.
        left: How many columns are aligned to the left.
    """
    rule = ['---'] * left + ['---:'] * (len(lines[0]) - left)
    cells = [[cell.replace('|', r'\|') for cell in line] for line in lines]
    return ''.join(f'| {" | ".join(line)} |\n' for line in [cells[0], rule, *cells[1:]])


def _score(value: float | None) -> str:
    return _MISSING if value is None else f'{value:.2f}'


def _spread(row: Row) -> str:
    deviation = row.deviation
    return f'{row.mean:.2f}' if deviation is None else f'{row.mean:.2f} ± {deviation:.2f}'
