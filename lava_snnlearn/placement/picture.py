"""Picture of a placement."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from lava_snnlearn.files import replacing
from lava_snnlearn.placement.refusals import UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lava_snnlearn.placement.placement import Placement

COLUMNS = 16
NAMED = 64
"""Cores up to which each square names its populations."""
LINED = 1024
"""Cores up to which lines part the squares."""


def draw(placement: Placement, path: str | PathLike[str] | None = None) -> Figure:
    """Cores as squares, coloured by how full they are (left), and the fullest core by each limit (right).

    Raises:
        As :meth:`lava_snnlearn.placement.Placement.plot`.
    """
    rows = -(-placement.cores // COLUMNS)
    figure = Figure(figsize=(10, min(1.6 + 0.5 * max(rows, 3), 12)), layout="constrained")
    squares, bars = figure.subplots(1, 2, width_ratios=(3, 1))
    _squares(placement, squares, rows)
    names = list(placement.loads)
    use = [float(placement.loads[name].max()) / placement.chip.core[name] for name in names]
    bars.barh([UNITS[name] for name in names], use, color=["#b3261e" if share > 1 else "#3b6ea8" for share in use])
    bars.axvline(1, color="#8a8a8a", linestyle="--", linewidth=1)
    bars.invert_yaxis()
    bars.set_title("fullest core, of its limit", fontsize=10, loc="left")
    bars.spines[["top", "right"]].set_visible(False)
    if path is not None:
        ending = Path(path).suffix.lstrip(".") or "png"
        with replacing(path) as temporary:
            figure.savefig(temporary, format=ending, dpi=110)
    return figure


def _squares(placement: Placement, axes: Axes, rows: int) -> None:
    filled = np.full(rows * COLUMNS, np.nan)
    filled[: placement.cores] = placement.fill
    columns = min(COLUMNS, placement.cores)
    image = axes.imshow(filled.reshape(rows, COLUMNS)[:, :columns], cmap="YlGnBu", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, label="fill (nearest limit)", shrink=0.8)
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    if placement.cores <= LINED:
        axes.grid(which="minor", color="white", linewidth=2)
    if placement.cores <= NAMED:
        size = 9 if placement.cores <= COLUMNS // 2 else 6
        for core, held in enumerate(placement.held()):
            label = "\n".join(name[:7] for name in list(held)[:3])
            colour = "white" if filled[core] > 0.5 else "black"
            axes.text(core % COLUMNS, core // COLUMNS, label, ha="center", va="center", fontsize=size, color=colour)
    for chip in range(1, placement.chips):
        axes.axhline(chip * placement.chip.cores / COLUMNS - 0.5, color="#b3261e", linewidth=1)
    axes.tick_params(which="minor", length=0)
    axes.set_xticks([])
    firsts = range(0, rows, max(1, rows // 8))
    axes.set_yticks(firsts, [str(row * COLUMNS) for row in firsts])
    axes.set_ylabel("first core of the row")
    axes.set_title(f"{placement.chip.title}: {placement.told}", fontsize=10, loc="left")
