"""Checks of the parameters that plastic synapses share: memories, exponents, learning rate, random numbers, times."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import known_name, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.plasticity import MULTIPLIER_MAX, RULES, SHADOW_MAX, SHIFT_MAX
from lava_snnlearn.processes.parameters import PERIOD_MAX, SAMPLE_MAX, SEED_MAX, ranged

BACK_EXPONENT_MIN, BACK_EXPONENT_MAX = -40, 31
SPIKE_BITS_MAX = 16
"""Of a spike that noise rides on: it is sent as 2 ** spike_bits."""

_SCALE = "Move factors of two to the neurons' scale."
_RATE = f"The learning rate is multiplier / 2**shift, of 0..{MULTIPLIER_MAX} and 0..{SHIFT_MAX}: scale the two together."
RANGES = {
    "exponent": (limits.EXPONENT_MIN, limits.EXPONENT_MAX, _SCALE),
    "back_exponent": (BACK_EXPONENT_MIN, BACK_EXPONENT_MAX, _SCALE),
    "multiplier": (0, MULTIPLIER_MAX, _RATE),
    "shift": (0, SHIFT_MAX, _RATE),
    "seed": (0, SEED_MAX, "Any number of this range will do."),
    "sample": (0, SAMPLE_MAX, "It counts samples from 0."),
    "learn_phase": (0, PERIOD_MAX - 1, f"A sample has at most {PERIOD_MAX} steps."),
}
"""Least and largest value of a parameter, and the remedy."""


def plastic_constants(process: str, given: Mapping[str, int]) -> dict[str, int]:
    """The constants of plastic synapses as integers, checked.

    given: exponent, back_exponent, multiplier, shift, seed, sample, learn_phase and reset_interval. Raises TypeError for one
    that is not whole, LimitError for one that is out of range.
    """
    values = {name: ranged(process, name, given[name], *limit) for name, limit in RANGES.items()}
    phase = values["learn_phase"]
    inside = f"The phase of the update, {phase}, has to lie in it."
    values["reset_interval"] = ranged(process, "reset_interval", given["reset_interval"], phase + 1, PERIOD_MAX, inside)
    return values


def plastic_memory(process: str, memory: ArrayLike, rule: str) -> NDArray[np.int64]:
    """The memory [n_out, n_in] of one of the RULES, int64, checked; raises what ``SpideSynapse`` documents."""
    known_name(f"{process} rule", rule, RULES)
    weights = np.asarray(memory)
    if weights.dtype.kind not in "iu":
        raise TypeError(f"{process}: memory is of type {weights.dtype}. Give integers [n_out, n_in]: quantise weights first.")
    if weights.ndim != 2 or weights.size == 0:
        raise ValueError(f"{process}: memory has shape {weights.shape}. Give [n_out, n_in], at least one of each.")
    if rule == "shadow":
        within(f"{process}: memory", weights, -SHADOW_MAX, SHADOW_MAX, "Shadows have 16 bits: choose a larger exponent.")
    else:
        narrow = f"With rule {rule!r} weights have 8 bits: choose a larger exponent."
        within(f"{process}: memory", weights, limits.WEIGHT_MIN, limits.WEIGHT_MAX, narrow)
        if (weights % 2).any():
            odd = int(weights[weights % 2 != 0][0])
            raise ValueError(f"{process}: memory holds {odd}; 8-bit weights of mixed sign are even. Round them to even ones.")
    return weights.astype(np.int64)
