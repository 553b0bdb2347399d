"""Pages with tables and plots of the results of grids."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpk_mm.analysis.tables import format_duration
from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_text_atomically

from .groups import PART_NAMES, evaluated_parts
from .plots import plot_curves, plot_settings, plot_student_against_teacher
from .tables import curves_table, pairs_table, results_table

#: Methods that the others are compared with, where they are there.
REFERENCES = ('baseline', 'kd', 'fitnets', 'fgd')


def write_report(
    results: Sequence[Mapping[str, Any]],
    out: Path,
    references: Sequence[str] = REFERENCES,
    title: str = '',
    readme: Path | None = None,
) -> list[Path]:
    """Writes tables and plots, ``<grid>.md`` and ``<grid>_*.png``, for each grid in the results.

    Args:
        results: Of any number of grids.
        out: Folder, made if missing.
        references: Methods that the others are compared with.
        title: Heading; by default the grid's title as it was when it ran, else its name.
        readme: Markdown file that gets the tables and plots, too, between the lines ``<!-- report GRID -->`` and
            ``<!-- end of report -->``; a grid without these lines is left out.

    Returns:
        The files.

    Raises:
        UsageError: If there is no result, or no place for any of them in ``readme``.
    """
    if not results:
        raise UsageError('there is no result yet: run tools/experiments/run.py first')
    text = None if readme is None else readme.read_text(encoding='utf-8')
    before = text
    files = []
    for grid in dict.fromkeys(result['grid'] for result in results):
        of_grid = [result for result in results if result['grid'] == grid]
        heading = title or of_grid[-1].get('title') or grid
        pictures = []
        drawings = (
            ('teachers', plot_student_against_teacher),
            ('settings', plot_settings),
            ('curves', plot_curves),
        )
        for name, draw in drawings:
            picture = out / f'{grid}_{name}.png'
            if draw(of_grid, picture, heading):
                pictures.append(picture)
        page = out / f'{grid}.md'
        links = [picture.name for picture in pictures]
        write_text_atomically(page, f'# {heading}\n\n{report_body(of_grid, references, links)}')
        files += [page, *pictures]
        if readme is not None and text is not None and f'<!-- report {grid} -->' in text:
            links = [os.path.relpath(picture, readme.parent) for picture in pictures]
            text = insert_report(text, grid, report_body(of_grid, references, links))
            files += [readme] * (readme not in files)
    if readme is not None and text is not None:
        if readme not in files:
            raise UsageError(
                f"{readme} has no line '<!-- report {results[0]['grid']} -->' followed by "
                f"'<!-- end of report -->': write them where the tables belong"
            )
        if text != before:
            write_text_atomically(readme, text)
    return files


def insert_report(text: str, grid: str, body: str) -> str:
    """Puts a report between the two lines of a Markdown text that are there for it.

    Raises:
        UsageError: If the second line is missing.
    """
    head, begin, rest = text.partition(f'<!-- report {grid} -->\n')
    _, end, tail = rest.partition('<!-- end of report -->')
    if not end:
        raise UsageError(
            f"the line '<!-- report {grid} -->' is not followed by one '<!-- end of report -->'"
        )
    return f'{head}{begin}\n{body}\n{end}{tail}'


def report_body(
    results: Sequence[Mapping[str, Any]], references: Sequence[str], pictures: Sequence[str] = ()
) -> str:
    """Tables, explanation and pictures of one grid as Markdown, without a heading.

    Args:
        results: Of one grid.
        references: Methods that the others are compared with.
        pictures: Links to pictures.
    """
    parts = evaluated_parts(results)
    lines = [results_table(results, references)]
    metric = results[0]['metric']
    of = ' and '.join(f'{PART_NAMES[part]}' for part in parts)
    notes = [
        f'{metric} in percent on the {of} part: mean ± standard deviation over n seeds.',
        'Differences are paired by seed, of the last of these parts; in brackets the 95 % interval '
        'mean ± t s/√n (s: standard deviation of the differences, t: Student with n - 1 degrees of '
        'freedom). An interval that holds 0 shows no difference.',
    ]
    if any(result['setting'] for result in results) and 'val' in parts:
        notes.append('Bold: the best setting of a method, by validation.')
    lines += [' '.join(notes), '']
    pairs = pairs_table(results)
    if pairs:
        lines += [
            'Differences over all teachers, of pairs of equal teacher and seed, with the same interval. Runs of '
            'one seed share the first weights of the student, so that it is rather too narrow:',
            '',
            pairs,
        ]
    curves = curves_table(results)
    if curves:
        lines += ['Mask ratio and similarity, means over the first and the last epoch:', '', curves]
    for picture in pictures:
        lines += [f'![{Path(picture).stem}]({Path(picture).as_posix()})', '']
    lines += [provenance(results)]
    return '\n'.join(lines)


def provenance(results: Sequence[Mapping[str, Any]]) -> str:
    """What the results were made with, one sentence."""

    def values(key: str) -> str:
        return ', '.join(dict.fromkeys(str(result.get(key)) for result in results))

    total = format_duration(sum(result['seconds'] for result in results))
    return (
        f'{len(results)} runs on {values("device")}, {values("cores")} cores, {values("workers")} '
        f'at a time with {values("threads")} threads each, {total} together; torch '
        f'{values("torch")}, commit {values("commit")}.\n'
    )
