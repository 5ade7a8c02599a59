"""Membrane scales: how many weight units one real unit is, a power of two per population.

The largest scale is taken for which incoming weights fit into their bits, the threshold leaves room for the membrane, and the
bias fits into mantissa and exponent. A power of two keeps every integer a dyadic real number, so that the quantised network can
be computed exactly in floating point as well (see ``twin``).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_MAX, MEMBRANE_UNIT
from lava_snnlearn.fixed_point.lowering import Stage

HEADROOM = 16
"""The membrane can hold this many thresholds before it is clipped."""
READOUT_MARGIN = 4
"""The readout's membrane holds this multiple of the largest sum that calibration data reach."""
_BIAS_LIMIT = limits.BIAS_MANTISSA_MAX << limits.BIAS_EXPONENT_MAX


def weight_range(weight_bits: int) -> tuple[int, int, int]:
    """Step of the weights' grid, lowest and highest weight on it, in weight units."""
    grid = 1 << (limits.WEIGHT_BITS + 1 - weight_bits)
    return grid, limits.WEIGHT_MIN, limits.WEIGHT_MAX + 2 - grid


def integers(weight: NDArray[np.float64], scale: int, weight_bits: int) -> NDArray[np.int64]:
    """Weights in weight units, on the grid of ``weight_bits``; those beyond its range are held at its ends."""
    grid, low, high = weight_range(weight_bits)
    return np.clip(grid * np.rint(weight * 2.0**scale / grid), low, high).astype(np.int64)


def beyond_range(weight: NDArray[np.float64], scale: int, weight_bits: int) -> int:
    """How many weights :func:`integers` holds at an end of their range."""
    grid, low, high = weight_range(weight_bits)
    rounded = grid * np.rint(weight * 2.0**scale / grid)
    return int(((rounded < low) | (rounded > high)).sum())


def exponent_below(limit: float, largest: float) -> int:
    """Largest k with largest * 2^k <= limit; a large number where there is nothing to hold."""
    return math.floor(math.log2(limit / largest)) if largest > 0 else 64


def _largest(stage: Stage) -> float:
    return max((float(np.abs(link.weight).max()) for link in stage.links), default=0.0)


def _sums(stage: Stage) -> NDArray[np.float64]:
    """Largest possible synaptic sum in real units, per target neuron or (convolutions) channel, spread to a common shape."""
    total = np.zeros(stage.size)
    for link in stage.links:
        rows = np.abs(link.weight).reshape(len(link.weight), -1).sum(1)
        total += np.repeat(rows, stage.size // len(rows))
    return total


def weight_scale(stage: Stage, weight_bits: int) -> int:
    """Largest scale k that holds weights and bias."""
    _, _, top = weight_range(weight_bits)
    by_bias = exponent_below(_BIAS_LIMIT / MEMBRANE_UNIT, float(np.abs(stage.bias).max()))
    return min(exponent_below(top, _largest(stage)), by_bias)


def threshold_scale(stage: Stage) -> int:
    """Largest scale k that leaves room for the membrane above the threshold."""
    return exponent_below(limits.THRESHOLD_MAX / HEADROOM, stage.threshold)


def spiking_scale(stage: Stage, weight_bits: int, largest_input: int) -> int:
    """Scale k of a spiking population: the largest that holds weights, threshold and bias.

    Raises:
        LimitError: at this scale the threshold is 0.
    """
    scale = min(weight_scale(stage, weight_bits), threshold_scale(stage))
    assert stage.neuron is not None
    if stage.neuron.reset == "zero" and stage.links:
        # Stock LIF's 24-bit current register wraps: too much excitation would turn into inhibition.
        scale = min(scale, exponent_below(limits.THRESHOLD_MAX / largest_input / 2, float(_sums(stage).max())))
    if round(stage.threshold * 2.0**scale) < 1:
        raise LimitError(
            f"{stage.name}: weights up to {_largest(stage):.4g} and biases up to {np.abs(stage.bias).max():.4g} are too large "
            f"beside the threshold {stage.threshold:g}: at the scale that holds them, the threshold rounds to 0. "
            "Train with smaller weights."
        )
    return scale


def readout_scale(stage: Stage, weight_bits: int, steps: int, peak: float | None) -> int:
    """Membrane scale of the readout, which adds up over all steps.

    Without calibration it never clips, however many spikes arrive; that costs precision in long or wide networks. ``peak`` is
    the largest sum that calibration data reach: then the scale holds a multiple of it, and clipping is counted as everywhere.

    Raises:
        LimitError: no scale is safe, and there is no calibration.
    """
    widest = weight_scale(stage, weight_bits)
    candidates = range(widest, -limits.SCALE_MAX, -1)
    safe = next((k for k in candidates if steps * _largest_step(stage, k, weight_bits) <= MEMBRANE_MAX), None)
    if peak is None:
        if safe is None:
            raise LimitError(
                f"readout: no scale keeps its 24-bit membrane from overflowing in {steps} steps, whatever spikes arrive. "
                "Use fewer steps, or pass calibration data, which tell what does arrive."
            )
        return safe
    calibrated = min(widest, exponent_below(limits.THRESHOLD_MAX / READOUT_MARGIN, peak))
    return calibrated if safe is None else max(safe, calibrated)


def _largest_step(stage: Stage, scale: int, weight_bits: int) -> int:
    """Most that one step can add to a membrane, in membrane units: all inputs spike, and the bias is rounded up."""
    sums = np.zeros(stage.size)
    for link in stage.links:
        rows = np.abs(integers(link.weight, scale, weight_bits)).reshape(len(link.weight), -1).sum(1)
        sums += np.repeat(rows, stage.size // len(rows)) * MEMBRANE_UNIT
    coarsest = 1 << limits.BIAS_EXPONENT_MAX if stage.bias.any() else 0
    return int((sums + np.ceil(np.abs(stage.bias) * 2.0**scale * MEMBRANE_UNIT) + coarsest).max())
