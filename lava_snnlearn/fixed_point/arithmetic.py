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


class LifStep(NamedTuple):
    """Result of one integer step of the stock LIF, all of the state's shape.

    spike: bool. current, membrane: int64, the two 24-bit registers after the step, in 1/64 weight units. charged: int64, the
    membrane before its reset. wrapped: bool, where the current left its register and came in again at the other end. saturated:
    bool, where the membrane was clipped.
    """

    spike: NDArray[np.bool_]
    current: NDArray[np.int64]
    membrane: NDArray[np.int64]
    charged: NDArray[np.int64]
    wrapped: NDArray[np.bool_]
    saturated: NDArray[np.bool_]


class TernaryStep(NamedTuple):
    """Result of one integer step of the ternary neuron.

    spike: int8 of -1, 0, 1, same shape as the membrane. membrane: int64, after clip and reset. saturated: bool, where the
    membrane was clipped to 24 bit.
    """

    spike: NDArray[np.int8]
    membrane: NDArray[np.int64]
    saturated: NDArray[np.bool_]


def decay(value: IntArray | int, constant: IntArray | int) -> NDArray[np.int64]:
    """``sign(x) * ((|x| * (4096 - d)) >> 12)``: leak by d/4096, rounded towards zero (Loihi, Lava)."""
    wide = np.asarray(value, dtype=np.int64)
    magnitude = (np.abs(wide) * (DECAY_ONE - np.asarray(constant, dtype=np.int64))) >> 12
    return np.sign(wide) * magnitude


def bias_current(mantissa: IntArray | int, exponent: IntArray | int) -> NDArray[np.int64]:
    """``mantissa << exponent``: bias in membrane units (1/64 of a weight unit)."""
    return np.asarray(mantissa, dtype=np.int64) << np.asarray(exponent, dtype=np.int64)


def shifted(total: NDArray[np.int64], exponent: int) -> NDArray[np.int64]:
    """``total << exponent``; for an exponent below zero ``total >> -exponent``, a floor (Lava's weight exponent)."""
    return total << exponent if exponent >= 0 else total >> -exponent


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


def lif_step(
    current: IntArray | int,
    membrane: IntArray,
    arriving: IntArray | int,
    *,
    du: IntArray | int,
    dv: IntArray | int,
    bias: IntArray | int,
    vth: IntArray | int,
) -> LifStep:
    """One step of Lava's stock LIF: filtered current, reset to zero, firing at strict ``>`` (Loihi, Lava).

    ``u <- wrap(decay(u, du + 1) + (arriving << 6))``, ``v <- clip(decay(v, dv) + u + bias)``; spike where ``v > vth << 6``;
    there ``v <- 0``. The leak of the current has a hidden one (du = -1: no leak, du = 4095: forgets at once), the
    other has not. A current beyond 24 bit wraps once, as in Lava: 2^23 stays, -2^23 becomes 2^23. Sums are int32 before that,
    which matters where inputs beyond +-2^18 have brought the current out of its 24 bits.

    Args:
        current, membrane: the registers u and v, 24 bit, 1/64 weight units.
        arriving: synaptic sum of this step in weight units, int32.
        du: -1..4095, dv: 0..4096, bias: in 1/64 weight units (see :func:`bias_current`), vth: weight units.
    """
    charged = decay(current, np.asarray(du, dtype=np.int64) + 1) + (np.asarray(arriving, dtype=np.int64) << MEMBRANE_SHIFT)
    limit = MEMBRANE_MAX + 1
    u = _int32(charged)
    u = np.where(u > limit, u - 2 * limit, np.where(u <= -limit, u + 2 * limit, u))
    driven = decay(membrane, dv) + u + bias
    v, _ = _clip(_int32(driven))
    spike = v > (np.asarray(vth, dtype=np.int64) << MEMBRANE_SHIFT)
    return LifStep(spike, u, np.where(spike, 0, v), v, u != charged, v != driven)


def _int32(value: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value as an int32 register holds it, bits above thrown away."""
    return np.asarray(value).astype(np.int32).astype(np.int64)


def zero_reset_step(
    membrane: IntArray, current: IntArray, *, dv: IntArray | int, bias: IntArray | int, vth: IntArray | int
) -> NeuronStep:
    """One step of Lava's stock LIF with an unfiltered current: :func:`lif_step` with du = 4095, which keeps no u."""
    step = lif_step(0, membrane, current, du=DECAY_ONE - 1, dv=dv, bias=bias, vth=vth)
    return NeuronStep(step.spike, step.membrane, step.saturated | step.wrapped)
