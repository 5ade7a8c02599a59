"""The integer step of every neuron: the one arithmetic that emulator and Lava models share.

All functions are pure and work on arrays of any (broadcastable) shape: the emulator calls them with a batch axis, the Lava
``fixed_pt`` models without one. Membranes are 24-bit integers in units of 1/64 of a weight unit (Loihi shifts weights and
thresholds by 6 bits before they meet the membrane). Everything is computed in int64, so that no intermediate can overflow.

Only numpy is imported: Lava's children are forked, and numpy is safe there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer]

MEMBRANE_SHIFT = 6
"""Weights and thresholds are shifted left by this many bits before they meet the membrane."""
MEMBRANE_UNIT = 1 << MEMBRANE_SHIFT
MEMBRANE_MAX = (1 << 23) - 1
"""Largest magnitude of a 24-bit membrane."""
DECAY_ONE = 1 << 12
"""Leak of 1.0: a decay constant of 4096 clears the membrane."""


class NeuronStep(NamedTuple):
    """Result of one integer step.

    spike: bool, same shape as the membrane. membrane: int64, after reset and clip. saturated: bool, where a 24-bit
    register did not hold the value: the membrane was clipped, or (stock LIF) the current wrapped.
    """

    spike: NDArray[np.bool_]
    membrane: NDArray[np.int64]
    saturated: NDArray[np.bool_]


def decay(value: IntArray, constant: IntArray | int) -> NDArray[np.int64]:
    """``sign(x) * ((|x| * (4096 - d)) >> 12)``: leak by d/4096, rounded towards zero (Loihi, Lava)."""
    wide = np.asarray(value, dtype=np.int64)
    magnitude = (np.abs(wide) * (DECAY_ONE - np.asarray(constant, dtype=np.int64))) >> 12
    return np.sign(wide) * magnitude


def bias_current(mantissa: IntArray | int, exponent: IntArray | int) -> NDArray[np.int64]:
    """``mantissa << exponent``: bias in membrane units (1/64 of a weight unit)."""
    return np.asarray(mantissa, dtype=np.int64) << np.asarray(exponent, dtype=np.int64)


def _clip(value: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    clipped = np.clip(value, -MEMBRANE_MAX, MEMBRANE_MAX)
    return clipped, clipped != value


def soft_reset_step(
    membrane: IntArray,
    current: IntArray,
    *,
    dv: IntArray | int,
    bias: IntArray | int,
    vth: IntArray | int,
    delta: IntArray | int,
) -> NeuronStep:
    """One step of the neuron with reset by subtraction, firing at ``>=`` (online_and_bptt spec, section 8.1).

    ``v <- decay(v, dv) + (current << 6) + bias``; spike where ``v >= vth << 6``; there ``v <- v - (delta << 6)``; clip to
    24 bit.
    """
    theta = np.asarray(vth, dtype=np.int64) << MEMBRANE_SHIFT
    charged = decay(membrane, dv) + (np.asarray(current, dtype=np.int64) << MEMBRANE_SHIFT) + bias
    spike = charged >= theta
    after, saturated = _clip(charged - spike * (np.asarray(delta, dtype=np.int64) << MEMBRANE_SHIFT))
    return NeuronStep(spike, after, saturated)


def zero_reset_step(
    membrane: IntArray, current: IntArray, *, dv: IntArray | int, bias: IntArray | int, vth: IntArray | int
) -> NeuronStep:
    """One step of Lava's stock LIF with an unfiltered current (du = 4095): reset to zero, firing at strict ``>``.

    The current register is 24 bit wide and wraps once, ``u = wrap(current << 6)``; then
    ``v <- clip(decay(v, dv) + u + bias)``; spike where ``v > vth << 6``; there ``v <- 0``.
    """
    shifted = np.asarray(current, dtype=np.int64) << MEMBRANE_SHIFT
    limit = MEMBRANE_MAX + 1
    u = np.where(shifted > limit, shifted - 2 * limit, np.where(shifted <= -limit, shifted + 2 * limit, shifted))
    charged, clipped = _clip(decay(membrane, dv) + u + bias)
    spike = charged > (np.asarray(vth, dtype=np.int64) << MEMBRANE_SHIFT)
    return NeuronStep(spike, np.where(spike, 0, charged), clipped | (u != shifted))
