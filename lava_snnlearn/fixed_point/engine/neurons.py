"""Neurons of a population in a block of samples: their registers, and the kernel that advances them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_MAX, MEMBRANE_SHIFT
from lava_snnlearn.fixed_point.engine import neuron_kernels
from lava_snnlearn.fixed_point.limits import FILTERED_INPUT_MAX
from lava_snnlearn.fixed_point.population import UNFILTERED, Population

_INT32_MAX = (1 << 31) - 1
NOTHING = np.zeros((0, 0, 0), np.int32)
"""Where membranes go that nobody asked for."""
_SILENT = np.zeros((0, 0, 0), np.uint8)


@dataclass(frozen=True)
class Target:
    """Where what the neurons send goes, [., B, n], and its row for row 0 of the sums."""

    values: NDArray[Any]
    row: int


@dataclass(frozen=True)
class Kept:
    """Where membranes go: int32 [T, samples, n], its row for row 0 of the sums, and the block's first sample."""

    values: NDArray[np.int32] = field(default_factory=lambda: NOTHING)
    row: int = 0
    column: int = 0


class Neurons:
    """Registers [B, n] of one population.

    Args:
        population: the neurons.
        batch: B.
        largest: largest magnitude of a synaptic sum; it decides the registers' dtype.
        kernels: the compiled functions; others may stand for those of :mod:`~.neuron_kernels`, by the same names.
    """

    def __init__(self, population: Population, batch: int, largest: int, kernels: ModuleType = neuron_kernels) -> None:
        self.population = population
        self._kernels = kernels
        bias = population.bias
        # Leaked membrane, shifted sum, bias, and what a spike takes: the largest value on the way.
        reach = 2 * (MEMBRANE_MAX + 1) + (largest << MEMBRANE_SHIFT) + int(np.abs(bias).max())
        # A filtered current that larger sums drive out of its 24 bits stays outside.
        wild = population.kind == "lif" and population.du != UNFILTERED and largest > FILTERED_INPUT_MAX
        wide = reach > _INT32_MAX or wild or population.sends_payloads
        dtype: type[np.integer[Any]] = np.int64 if wide else np.int32
        shape = batch, population.size
        self.bias = bias.astype(dtype)
        self.v = np.zeros(shape, dtype)
        self.v[:] = population.v_init
        self.u = np.zeros(shape if population.kind == "lif" else (0, 0), dtype)
        if population.kind == "lif":
            self.u[:] = population.u_init

    def advance(self, total: NDArray[np.int32], begin: int, end: int, first: int, to: Target | None, kept: Kept) -> int:
        """Run the rows begin .. end - 1 of the sums [steps, B, n]; returns how many neuron-steps were clipped or wrapped.

        ``first``: row ``begin`` is this active step of the population, counted from 0. ``to`` is None for accumulators only.
        """
        p = self.population
        sent, at = (_SILENT, 0) if to is None else (to.values, to.row)
        places = sent, at, kept.values, kept.row, kept.column
        if p.kind == "relay":
            return self._relay(total[begin:end], *places, begin)
        theta = p.vth << MEMBRANE_SHIFT
        if p.kind == "lif":
            decays = DECAY_ONE - 1 - p.du, DECAY_ONE - p.dv
            resets = first + 1, p.reset_interval, p.reset_offset
            return int(self._kernels.stock_lif(total, begin, end, self.u, self.v, self.bias, *decays, theta, *resets, *places))
        if p.kind == "graded":
            self._kernels.graded(total, begin, end, self.v, self.bias, p.shift, p.top, *places)
            return 0
        assert p.delta is not None
        drop = p.delta << MEMBRANE_SHIFT if p.spiking else 0
        return int(self._kernels.soft_reset(total, begin, end, self.v, self.bias, DECAY_ONE - p.dv, theta, drop, *places))

    def _relay(
        self, rows: NDArray[np.int32], sent: NDArray[Any], at: int, kept: NDArray[np.int32], row: int, column: int, begin: int
    ) -> int:
        """Sums go on as they are."""
        if len(rows):
            sent[at + begin : at + begin + len(rows)] = rows
            self.v[:] = rows[-1]
            if kept.size:
                kept[row + begin : row + begin + len(rows), column : column + rows.shape[1]] = rows
        return 0
