"""Table and picture of a choice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from dpk_mm.analysis.training_curves import COLOURS

from ..intervals import spread
from ..tables import format_spread
from ..tables import markdown as markdown_table

if TYPE_CHECKING:
    from .selection import Selection

_MISSING = '-'


def table(selection: Selection) -> list[list[str]]:
    """Header and a line for each teacher, the most promising first, those that do not fit last."""
    header = ['teacher', 'parameters', 'score', 'calibration error', 'ms an image', 'MB', 'CKA']
    header += [f'{r.fraction:g} of the schedule' for r in selection.rounds]
    lines = [header]
    for name in [*selection.order, *selection.misfits]:
        if name in selection.misfits:
            lines.append([name, 'does not fit', *[_MISSING] * (len(header) - 2)])
            continue
        look = selection.passes[name]
        error = look.calibration_error
        cka = sum(look.cka.values()) / len(look.cka) if look.cka else None
        memory = look.megabytes if look.peak_megabytes is None else look.peak_megabytes
        cells = [
            name,
            f'{look.parameters / 1e6:.3g} M',
            f'{selection.teacher_score(name):.2f}',
            _MISSING if error is None else f'{100 * error:.1f}',
            f'{look.milliseconds:.2f}',
            f'{memory:.1f}',
            _MISSING if cka is None else f'{cka:.2f}',
        ]
        for race in selection.rounds:
            cells.append(format_spread(race.scores.get(name, {})))
        lines.append(cells)
    return lines


def markdown(selection: Selection) -> str:
    """The table, the verdict, and what did not fit."""
    lines = table(selection)
    rule = ['---'] + ['---:'] * (len(lines[0]) - 1)
    rows = markdown_table([lines[0], rule, *lines[1:]])
    text = ['# Choice of a teacher', '', rows, selection.sentence, '']
    text += selection.notes
    text += [f'- {name} does not fit: {why}' for name, why in selection.misfits.items()]
    return '\n'.join(text).rstrip() + '\n'


def draw(selection: Selection, path: Path, metric: str) -> None:
    """Scores of the students in each round, one dot for each seed, teachers from the lowest score to the highest."""
    names = list(reversed(selection.order))
    figure = Figure(figsize=(max(5.0, 1.2 + 1.1 * len(names)), 4.0), layout='constrained')
    axis = figure.subplots()
    for index, race in enumerate(selection.rounds):
        colour = COLOURS[index % len(COLOURS)]
        shown = [name for name in names if race.scores.get(name)]
        shift = 0.12 * (index - (len(selection.rounds) - 1) / 2)
        for name in shown:
            runs = list(race.scores[name].values())
            axis.plot([names.index(name) + shift] * len(runs), runs, 'o', color=colour, alpha=0.5)
        axis.plot(
            [names.index(name) + shift for name in shown],
            [spread(list(race.scores[name].values())).mean for name in shown],
            '_',
            color=colour,
            markersize=18,
            markeredgewidth=2.5,
            label=f'{race.fraction:g} of the schedule',
        )
    labels = [f'{name}\n{selection.teacher_score(name):.1f}' for name in names]
    axis.set_xticks(range(len(names)), labels, fontsize='small')
    axis.set(xlabel='teacher, and its score', ylabel=f"student's {metric} (percent)")
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.grid(alpha=0.3)
    axis.spines[['top', 'right']].set_visible(False)
    if selection.rounds:
        axis.legend(frameon=False, loc='upper left', bbox_to_anchor=(1.0, 1.0))
    figure.supxlabel(selection.sentence, fontsize='small', color='0.35', wrap=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
