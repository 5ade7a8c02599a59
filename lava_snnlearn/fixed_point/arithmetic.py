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
NUDGE_ONE = 1 << 8
"""A nudge of 1.0."""


class NeuronStep(NamedTuple):
    """Result of one integer step.

    spike: bool, same shape as the membrane; of graded neurons the payload, int64. membrane: int64, after reset and clip.
    saturated: bool, where a 24-bit register did not hold the value: the membrane was clipped, or (stock LIF) the current
    wrapped.
    """

    spike: NDArray[np.bool_] | NDArray[np.int64]
    membrane: NDArray[np.int64]
    saturated: NDArray[np.bool_]


class TernaryStep(NamedTuple):
    """Result of one integer step of the ternary neuron.

    spike: int8 of -1, 0, 1, same shape as the membrane. membrane: int64, after clip and reset. saturated: bool, where the
    membrane was clipped to 24 bit.
    """

    spike: NDArray[np.int8]
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


def ternary_step(
    membrane: IntArray,
    current: IntArray,
    *,
    dv: IntArray | int,
    bias: IntArray | int,
    vth: IntArray | int,
    delta: IntArray | int,
) -> TernaryStep:
    """One step of SPIDE's ternary neuron (arXiv 2302.00232; ide_spide spec, sections 2.2 and 3.2).

    ``v <- clip(decay(v, dv) + (current << 6) + bias)`` to 24 bit; spike 1 where ``v >= vth << 6``, -1 where
    ``v <= -(vth << 6)``; then ``v <- v - spike * (delta << 6)``. Thresholds are above 0 and have 17 bits, as ``delta``.

    The clip stands before the threshold, so that a couple of binary neurons (:func:`coupled_step`) that each clip their own
    membrane is equal to this one. After the reset nothing is left to clip: a 17-bit ``delta << 6`` is below 2**23.
    """
    theta = np.asarray(vth, dtype=np.int64) << MEMBRANE_SHIFT
    charged, saturated = _clip(decay(membrane, dv) + (np.asarray(current, dtype=np.int64) << MEMBRANE_SHIFT) + bias)
    spike = (charged >= theta).astype(np.int8) - (charged <= -theta).astype(np.int8)
    return TernaryStep(spike, charged - spike * (np.asarray(delta, dtype=np.int64) << MEMBRANE_SHIFT), saturated)


def coupled_step(
    membrane: IntArray,
    current: IntArray,
    partner: IntArray | NDArray[np.bool_],
    *,
    dv: IntArray | int,
    bias: IntArray | int,
    vth: IntArray | int,
    delta: IntArray | int,
) -> NeuronStep:
    """One step of a binary half of the couple that makes a ternary neuron; ``partner``: 0/1, its spikes of the step before.

    ``v <- v + partner * (delta << 6)`` first of all, as if the partner's spike had not been under way for a step; then
    ``v <- clip(decay(v, dv) + (current << 6) + bias)`` to 24 bit; spike where ``v >= vth << 6``; there
    ``v <- v - (delta << 6)``. Because the correction comes before the leak, it needs no factor of the leak, and the halves'
    membranes are each other's negative whenever thresholds are evaluated.
    """
    unit = np.asarray(delta, dtype=np.int64) << MEMBRANE_SHIFT
    corrected = np.asarray(membrane, dtype=np.int64) + partner * unit
    charged, saturated = _clip(decay(corrected, dv) + (np.asarray(current, dtype=np.int64) << MEMBRANE_SHIFT) + bias)
    spike = charged >= (np.asarray(vth, dtype=np.int64) << MEMBRANE_SHIFT)
    return NeuronStep(spike, charged - spike * unit, saturated)


def graded_step(
    state: IntArray,
    current: IntArray,
    *,
    bias: IntArray | int,
    shift: IntArray | int,
    top: IntArray | int,
    beta: IntArray | int = 0,
    target: IntArray | int = 0,
) -> NDArray[np.int64]:
    """One step of the graded neuron of equilibrium propagation (other_methods spec, section 2.4): the state that it sends.

    ``s <- clip((current + bias) >> shift, 0, top)``, a floor; a nudge of ``beta / 256`` adds ``(beta (target - state) + 128) >>
    8``, and may leave 0..top. The state before, ``state``, counts for the nudge alone.
    """
    total = np.asarray(current, dtype=np.int64) + bias
    free = np.clip(total >> np.asarray(shift, dtype=np.int64), 0, top)
    pull = np.asarray(beta, dtype=np.int64) * (np.asarray(target, dtype=np.int64) - state)
    return free + ((pull + NUDGE_ONE // 2) >> 8)


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
