"""Charts as inline SVG: text stays text, and takes the page's colour, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from ..training_curves import smooth
from .table import Column, Table, number

#: Okabe and Ito's colours without black and yellow, readable on white and on black.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00')
_DASHES = ('-', '--', '-.', ':', (0, (5, 1)), (0, (3, 1, 1, 1)))
# Stands for the colour of the page's text, which is put in its place.
_TEXT = '#010203'
# More points than this become means of neighbours; from so many on a line is smoothed.
_MOST_POINTS, _SMOOTHED_FROM = 300, 20
_SMOOTHING = 0.6


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: In the legend.
        steps: ``[n]``.
        values: ``[n]``; those that are not finite are left out.
    """

    name: str
    steps: np.ndarray
    values: np.ndarray

    def finite(self) -> Series:
        """The same without values that are not finite."""
        keep = np.isfinite(self.values)
        return Series(self.name, self.steps[keep], self.values[keep])


@dataclass(frozen=True)
class Chart:
    """A chart with what is said of it.

    Attributes:
        title: Its heading.
        svg: The drawing, an ``<svg>`` element.
        table: For those who do not see it: first, last, least and greatest value of each line.
        note: How to read it.
    """

    title: str
    svg: str
    table: Table
    note: str


def draw_chart(
    title: str,
    series: Sequence[Series],
    ylabel: str,
    xlabel: str = 'training iteration',
    log: bool = False,
    limits: tuple[float | None, float | None] = (None, None),
    levels: Mapping[str, float] | None = None,
    note: str = '',
) -> Chart | None:
    """Draws lines.

    Args:
        title: Of the chart; also where the identifiers inside the SVG begin, so it is used once on a page.
        series: The lines.
        ylabel: With the unit.
        xlabel: With the unit.
        log: Whether values over more than a decade have a logarithmic scale; those that are not positive are left out.
        limits: Of the values; None for the data's.
        levels: Horizontal lines by name.
        note: How to read it.

    Returns:
        The chart; None if there is nothing to draw.
    """
    kept = [s.finite() for s in series]
    if log:
        kept = [Series(s.name, s.steps[s.values > 0], s.values[s.values > 0]) for s in kept]
    kept = [s for s in kept if len(s.values)]
    if not kept:
        return None
    everything = np.concatenate([*(s.values for s in kept), list((levels or {}).values())])
    log = log and bool(everything.max() > 10 * everything.min())
    settings = {
        'svg.fonttype': 'none',
        'svg.hashsalt': title,
        'font.size': 9,
        **dict.fromkeys(
            ('text.color', 'axes.edgecolor', 'axes.labelcolor', 'xtick.color', 'ytick.color'), _TEXT
        ),
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(5.0, 3.3), layout='constrained')
        axis = figure.subplots()
        smoothed = False
        for index, line in enumerate(kept):
            smoothed |= _draw(axis, line, index)
        for index, (name, value) in enumerate((levels or {}).items()):
            dash = _DASHES[(index + 1) % len(_DASHES)]
            axis.axhline(value, color=_TEXT, linewidth=1.2, linestyle=dash, label=name)
        axis.set(xlabel=xlabel, ylabel=ylabel, yscale='log' if log else 'linear')
        if not log and limits[0] is None and everything.min() >= 0:
            limits = (0, limits[1])
        axis.set_ylim(*limits)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if log:
            axis.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
        axis.grid(color=_TEXT, alpha=0.18, linewidth=0.6)
        axis.spines[['top', 'right']].set_visible(False)
        names = len(axis.get_legend_handles_labels()[1])
        if names > 1 or kept[0].name:
            figure.legend(
                loc='outside lower center', ncols=2 if names > 1 else 1, frameon=False, fontsize=8
            )
        buffer = io.StringIO()
        figure.savefig(buffer, format='svg', transparent=True, metadata={'Date': None})
    if smoothed:
        note = f'{note} Thin: as logged. Thick: moving average of it.'.strip()
    return Chart(title, _inline(buffer.getvalue(), title), _table(title, ylabel, kept), note)


def _draw(axis: object, line: Series, index: int) -> bool:
    colour, dash = COLOURS[index % len(COLOURS)], _DASHES[index % len(_DASHES)]
    steps, values = _thinned(line.steps), _thinned(line.values)
    smoothed = len(values) >= _SMOOTHED_FROM
    plot = axis.plot  # type: ignore[attr-defined]
    if smoothed:
        plot(steps, values, color=colour, alpha=0.35, linewidth=0.8)
        values = smooth(values, _SMOOTHING)
    marker = 'o' if len(values) < 8 else ''
    plot(
        steps,
        values,
        color=colour,
        linestyle=dash,
        linewidth=1.8,
        marker=marker,
        markersize=4,
        label=line.name,
    )
    return smoothed


def _thinned(values: np.ndarray) -> np.ndarray:
    if len(values) <= _MOST_POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, _MOST_POINTS)])


def _inline(svg: str, title: str) -> str:
    """The element alone, with identifiers of its own, the page's colour and no fixed size."""
    svg = svg[svg.index('<svg') :]
    prefix = re.sub(r'\W+', '_', title).lower()
    svg = re.sub(r'\bid="', f'id="{prefix}_', svg)
    svg = re.sub(r'(url\(#|href="#)', rf'\g<1>{prefix}_', svg)
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
    svg = svg.replace(_TEXT, 'currentColor')
    head, rest = svg.split('>', 1)
    head = re.sub(r' (width|height)="[^"]*"', '', head)
    return f'{head} aria-hidden="true" focusable="false">{rest}'


def _table(title: str, ylabel: str, lines: Sequence[Series]) -> Table:
    names = ('first', 'last', 'least', 'greatest')
    rows = []
    for line in lines:
        v = line.values
        rows.append([line.name or title, *map(number, (v[0], v[-1], v.min(), v.max()))])
    return Table(f'{title}: {ylabel}', [Column('curve', False), *map(Column, names)], rows)
