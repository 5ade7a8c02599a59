"""The picture of an explanation: nodes over time, and the spikes that went from one to the other."""

from __future__ import annotations

import itertools
import textwrap
from collections import Counter
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.transforms import Bbox

from lava_snnlearn.reasoning.explanation import CarriedEdge, CarriedPath, Explanation
from lava_snnlearn.report.plots import _tidy, _whole_ticks

_COLOURS = ("#3b6ea8", "#c2571a", "#4c8c4a", "#7d5ba6", "#b8860b", "#2a8c8c")
_QUIET = "#b0b0b0"
_THIN, _THICK, _BEND = 1.0, 4.0, 0.2
_PLACES = (0.5, 0.35, 0.65, 0.25, 0.75, 0.15, 0.85)


def plot_explanation(explanation: Explanation, *, paths: int | None = None) -> Figure:
    """Nodes as rows (the head above, the tail below), time to the right, an arrow for each carried spike.

    An arrow starts where its source spiked and ends where it arrives; it is named by relation and delay, and is wider the more
    important it is. What several paths share is drawn once, in the colour of the best of them. A dotted line is a node
    between the arrival and the spike that goes on. Dots are all spikes of a node's neurons in a step, larger for more.

    Args:
        paths: the best so many; None: all that were found.

    Raises:
        ValueError: less than one path.
    """
    if paths is not None and paths < 1:
        raise ValueError(f"paths is {paths}; it must be at least 1")
    shown = explanation.paths[:paths]
    named = {name for path in shown for edge in path.steps for name in (edge.source, edge.target)}
    ends = (explanation.query[0], explanation.query[2])
    rows = {name: row for row, name in enumerate(node for node in explanation.activity if node in named or node in ends)}
    steps = len(next(iter(explanation.activity.values())))
    head, relation, tail = explanation.query
    title = f"{head} --{relation}--> {tail}?{explanation.verdict}"
    figure = Figure(figsize=(max(8.0, 0.75 * steps + 2, 0.085 * len(title)), 2.0 + 0.9 * len(rows)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    axes = figure.subplots()
    axes.set_yticks(list(rows.values()), list(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    arrivals = [edge.arrival for path in shown for edge in path.steps]
    axes.set_xlim(-0.8, min(max(arrivals, default=steps) + 1.5, steps - 0.5))
    _tidy(axes, "", "time step", "")
    _whole_ticks(axes)
    _draw_activity(axes, explanation, rows)
    if explanation.note:
        figure.supxlabel(textwrap.fill(explanation.note, 100), x=0.01, ha="left", fontsize=9)
        return figure
    axes.legend(
        handles=_legend(shown, explanation.ranked_by), frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1)
    )
    arrows = _arrows(shown)
    for path, colour in zip(shown, itertools.cycle(_COLOURS)):
        for before, after in itertools.pairwise(path.steps):
            axes.plot([before.arrival, after.sent], [rows[after.source]] * 2, ":", color=colour, linewidth=1.5, zorder=2)
    for arrow in arrows:
        _draw(axes, arrow, rows)
    figure.draw_without_rendering()  # settles the layout, so that the places and extents of names are right
    _label(axes, arrows, rows)
    return figure


class _Arrow(NamedTuple):
    """One carried edge: colour of its best path, width in points, and how far it is bent aside, for parallel edges."""

    edge: CarriedEdge
    colour: str
    width: float
    bend: float


def _arrows(paths: tuple[CarriedPath, ...]) -> list[_Arrow]:
    most = max(abs(edge.importance) for path in paths for edge in path.steps) or 1.0
    arrows: dict[tuple[int, int, int], _Arrow] = {}
    parallel: Counter[tuple[str, int, str, int]] = Counter()
    for path, colour in zip(paths, itertools.cycle(_COLOURS)):
        for edge in path.steps:
            key = (edge.edge, edge.sent, edge.arrival)
            if key not in arrows:
                ends = (edge.source, edge.sent, edge.target, edge.arrival)
                width = _THIN + (_THICK - _THIN) * abs(edge.importance) / most
                arrows[key] = _Arrow(edge, colour, width, _BEND * parallel[ends])
                parallel[ends] += 1
    return list(arrows.values())


def _draw_activity(axes: Axes, explanation: Explanation, rows: dict[str, int]) -> None:
    dots = [(step, row, count) for name, row in rows.items() for step, count in enumerate(explanation.activity[name]) if count]
    if dots:
        most = max(count for _, _, count in dots)
        x, y, counts = zip(*dots, strict=True)
        axes.scatter(x, y, s=[12 + 60 * count / most for count in counts], color=_QUIET, zorder=1)


def _draw(axes: Axes, arrow: _Arrow, rows: dict[str, int]) -> None:
    edge = arrow.edge
    patch = FancyArrowPatch(
        (edge.sent, rows[edge.source]),
        (edge.arrival, rows[edge.target]),
        arrowstyle="-|>",
        connectionstyle=f"arc3,rad={arrow.bend}",
        mutation_scale=10,
        linewidth=arrow.width,
        color=arrow.colour,
        shrinkA=3,
        shrinkB=3,
        zorder=3,
    )
    axes.add_patch(patch)


def _label(axes: Axes, arrows: list[_Arrow], rows: dict[str, int]) -> None:
    """Name the arrows, each at a place along it where no other name is, as far as there is one."""
    taken: list[Bbox] = []
    for arrow in arrows:
        text = axes.text(
            0,
            0,
            f"{arrow.edge.relation}, delay {arrow.edge.delay}",
            ha="center",
            va="center",
            fontsize=7,
            color=arrow.colour,
            zorder=4,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )
        for place in (*_PLACES, _PLACES[0]):
            text.set_position(_on_arrow(axes, arrow, rows, place))
            box = text.get_window_extent().expanded(1.05, 1.2)
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def _on_arrow(axes: Axes, arrow: _Arrow, rows: dict[str, int], place: float) -> tuple[float, float]:
    """A place (0: source, 1: target) on the arrow, which is a parabola in the units of the screen."""
    edge = arrow.edge
    ends = [(edge.sent, rows[edge.source]), (edge.arrival, rows[edge.target])]
    start, end = axes.transData.transform(ends)
    across = np.array([end[1] - start[1], start[0] - end[0]])
    middle = (start + end) / 2 + arrow.bend * across
    point = (1 - place) ** 2 * start + 2 * place * (1 - place) * middle + place**2 * end
    x, y = axes.transData.inverted().transform(point)
    return float(x), float(y)


def _legend(paths: tuple[CarriedPath, ...], ranked_by: str) -> list[Line2D]:
    handles = []
    for number, path in enumerate(paths):
        about = f"importance {path.importance:+.2g}" if ranked_by == "importance" else f"arrives at t={path.arrival}"
        colour = _COLOURS[number % len(_COLOURS)]
        handles.append(Line2D([], [], color=colour, linewidth=2, label=f"path {number + 1}: {about}"))
    handles.append(Line2D([], [], color=_QUIET, marker="o", linestyle="none", label="all spikes of a node"))
    return handles
