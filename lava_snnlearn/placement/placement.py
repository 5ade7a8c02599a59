"""What :func:`~lava_snnlearn.placement.place.place` returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.table import aligned
from lava_snnlearn.placement.chips import Chip
from lava_snnlearn.placement.refusals import UNITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 32
"""Cores that the table shows one by one."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Neurons dealt to cores.

    Attributes:
        chip: what they were placed on.
        core: per population int64 [n], the core of each neuron.
        loads: int64 [cores] for each limit of a core: "neurons", "synaptic_bits", "input_axons", "output_axons" and, on
            Loihi 1, "delay_entries"; how they are counted: :mod:`lava_snnlearn.placement.place`.
        destinations: per population, and "input", int64 [n]: on how many cores each neuron (or input channel) has synapses.
        errors: what breaks a firm limit. advice: what breaks one that is not firm, and remarks.
    """

    chip: Chip
    core: Mapping[str, NDArray[np.int64]]
    loads: Mapping[str, NDArray[np.int64]]
    destinations: Mapping[str, NDArray[np.int64]]
    errors: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def cores(self) -> int:
        """How many cores are used."""
        return len(self.loads["neurons"])

    @property
    def chips(self) -> int:
        """How many chips are used; cores are numbered through, ``chip.cores`` a chip."""
        return math.ceil(self.cores / self.chip.cores)

    @property
    def told(self) -> str:
        """How many cores and chips, as text."""
        return f"{self.cores} core{'s' * (self.cores > 1)}, {self.chips} chip{'s' * (self.chips > 1)} of {self.chip.cores}"

    @property
    def fill(self) -> NDArray[np.float64]:
        """Of each core the limit that is nearest, float64 [cores]; 1.0 is full."""
        shares = [load / self.chip.core[name] for name, load in self.loads.items()]
        filled: NDArray[np.float64] = np.max(shares, axis=0)
        return filled

    def check(self) -> Placement:
        """Itself, if it has no errors.

        Raises:
            LimitError: with all errors.
        """
        if self.errors:
            raise LimitError("; ".join(self.errors))
        return self

    def held(self) -> list[dict[str, int]]:
        """Of each core, how many neurons of which populations it holds."""
        found: list[dict[str, int]] = [{} for _ in range(self.cores)]
        for name, cores in self.core.items():
            for core, neurons in zip(*np.unique(cores, return_counts=True), strict=True):
                found[core][name] = int(neurons)
        return found

    def limit_rows(self) -> list[list[str]]:
        """Header and one row a limit of a core, as text cells: most, mean, limit, use."""
        rows = [["of a core", "most", "mean", "limit", "use"]]
        for name, load in self.loads.items():
            top = self.chip.core[name]
            rows.append([UNITS[name], str(load.max()), f"{load.mean():.1f}", str(top), f"{load.max() / top:.1%}"])
        return rows

    def core_rows(self, most: int = SHOWN) -> list[list[str]]:
        """Header and one row a core, as text cells; the first ``most`` of them."""
        rows = [["core", *(UNITS[name] for name in self.loads), "fill", "holds"]]
        fill, held = self.fill, self.held()
        for core in range(min(self.cores, most)):
            loads = [str(load[core]) for load in self.loads.values()]
            rows.append([str(core), *loads, f"{fill[core]:.0%}", ", ".join(f"{n} {name}" for name, n in held[core].items())])
        return rows

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Picture of the cores, coloured by how full they are; also written to ``path`` (.png, .svg, .pdf) if there is one.

        Raises:
            OSError: the file cannot be written. ValueError: an ending that matplotlib does not know.
        """
        from lava_snnlearn.placement.picture import draw

        return draw(self, path)

    def __str__(self) -> str:
        parts = [
            f"Placement on {self.chip.title}: {self.told}"
            + ("" if self.chip.firm else "; its limits are not published as a whole, so this is advice"),
            "",
            aligned(self.limit_rows()),
            "",
            aligned(self.core_rows()),
        ]
        if self.cores > SHOWN:
            parts.append(f"... and {self.cores - SHOWN} more cores")
        kernels = "one kernel a core" if self.chip.shared_kernels else "convolutions laid out"
        parts += ["", f"synaptic memory: weights and delay fields, {kernels}; lists and headers are not counted"]
        return "\n".join([*parts, *(f"error: {line}" for line in self.errors), *(f"advice: {line}" for line in self.advice)])
