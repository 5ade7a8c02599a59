"""Units of neurons: from the discrete ones of this library to the continuous ones of NIR, and back.

See :mod:`lava_snnlearn.interchange.nir` for the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.interchange.nir_tree import number_of
from lava_snnlearn.neurons.lif import RESETS

DT = 1e-4
"""Seconds a step, as in snnTorch."""
LARGEST = 1e30
"""Largest threshold, weight and bias."""
_SAME = 1e-6
"""Relative difference of single-precision numbers that were meant to be the same."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """Neurons of one population in steps; all of them have the same parameters.

    Args:
        leak: share of the membrane lost in a step, 0..1. threshold: fires at >=, real units of the current.
        reset: "zero" or "subtract". start: membrane before the first step.
        filter: share of the synaptic current lost in a step (CubaLIF), 0..1; 1: the current is not filtered.
    """

    leak: float
    threshold: float
    reset: str = "zero"
    start: float = 0.0
    filter: float = 1.0


def fields_of(cell: Cell, shape: tuple[int, ...], dt: float) -> tuple[str, dict[str, Array]]:
    """Kind of the NIR node of these neurons, and its fields, float64 arrays of ``shape``."""
    # NIR fires at strict >, which is >= the next number.
    level = float(np.nextafter(np.float32(cell.threshold), np.float32(-np.inf)))
    values = {"v_threshold": level, "v_reset": 0.0, "r": 1.0}
    kind = "IF"
    if cell.filter < 1:
        tau_syn, tau_mem = dt / cell.filter, dt / cell.leak
        kind = "CubaLIF"
        values |= {"tau_syn": tau_syn, "tau_mem": tau_mem, "w_in": tau_syn / dt, "r": tau_mem / dt, "v_leak": 0.0}
    elif cell.leak > 0:
        kind = "LIF"
        values |= {"tau": dt / cell.leak, "v_threshold": cell.leak * level, "v_leak": 0.0}
    return kind, {name: np.full(shape, value) for name, value in values.items()}


def cell_of(
    where: str, kind: str, fields: Mapping[str, Array], dt: float, metadata: Mapping[str, Any], reset: str | None
) -> tuple[Cell, Array | None]:
    """Neurons of a NIR node, and the factor per neuron on all that they hear (None: 1).

    Thresholds and resistances that differ between the neurons of a population become factors on their synapses, because a
    neuron that hears half as much and has half the threshold does the same.

    Raises:
        LimitError: parameters that no population here has; the message names the node.
    """
    leak = np.zeros(1)
    gain = fields["r"]
    filter_ = np.ones(1)
    if kind == "LIF":
        leak = _leak(where, "tau", fields["tau"], dt)
        gain = gain * leak
    elif kind == "CubaLIF":
        leak = _leak(where, "tau_mem", fields["tau_mem"], dt)
        filter_ = _leak(where, "tau_syn", fields["tau_syn"], dt)
        # A filter of 1 passes the current on as it is.
        gain = gain * leak * fields["w_in"] * filter_
    rest = fields["v_reset"]
    if "v_leak" in fields and not np.allclose(fields["v_leak"], rest, rtol=_SAME, atol=0):
        raise LimitError(
            f"{where}: v_leak and v_reset differ ({_first(fields['v_leak'])} and {_first(rest)}), and tools do not agree from "
            "which of the two the membrane starts; make them equal, e.g. both 0, and add the rest to a bias"
        )
    if not (np.isfinite(gain).all() and (gain > 0).all()):
        raise LimitError(f"{where}: the resistance must be above 0; found {_first(gain[~(gain > 0)])}")
    gain = np.where(np.abs(gain - 1) < _SAME, 1.0, gain)
    level = (fields["v_threshold"] - rest) / gain
    if not ((level > 0) & (level < LARGEST)).all():
        raise LimitError(
            f"{where}: v_threshold must lie above v_reset, in single precision; found {_first(fields['v_threshold'])}"
        )
    same = float(np.ptp(level)) <= _SAME * float(level.max())
    factor = None if same else 1 / np.broadcast_to(level, np.broadcast_shapes(level.shape, gain.shape))
    kept = metadata.get("reset", "zero") if reset is None else reset
    if not isinstance(kept, str) or kept not in RESETS:
        raise FileFormatError(f"{where}: reset in the metadata is {kept!r}; expected one of {RESETS}")
    cell = Cell(
        _one(where, "time constant of the membrane", leak),
        _level(level) if same else 1.0,
        kept,
        number_of(where, metadata, "start", 0.0),
        _one(where, "time constant of the current", filter_),
    )
    return cell, factor


def _level(level: Array) -> float:
    """The least single-precision number above, in its shortest decimal form."""
    return float(str(np.nextafter(np.float32(level.flat[0]), np.float32(np.inf))))


def _leak(where: str, name: str, tau: Array, dt: float) -> Array:
    with np.errstate(divide="ignore"):
        leak = dt / tau
    good = (leak > 0) & (leak <= 1 + _SAME)
    if not good.all():
        raise LimitError(
            f"{where}: {name} is {_first(tau[~good])} s; at a step of {dt} s it must be finite and at least the step. Pass "
            "another dt."
        )
    # Twelve digits bring decimal numbers back that went through a division.
    return np.array([float(f"{value:.12g}") for value in np.unique(np.minimum(leak, 1.0))])


def _one(where: str, what: str, values: Array) -> float:
    if float(np.ptp(values)) > _SAME * float(np.abs(values).max()):
        raise LimitError(
            f"{where}: the {what} differs between its neurons (steps^-1 from {values.min():.6g} to {values.max():.6g}); a "
            "population has one. Split it into several nodes."
        )
    return float(values.flat[0])


def _first(values: Array) -> float:
    return float(np.ravel(values)[0])
