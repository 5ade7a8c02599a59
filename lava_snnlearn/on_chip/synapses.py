"""What plastic connections of every network that learns on the chip have in common: number formats, rates, checked memories."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import finite, instance_of, within
from lava_snnlearn.fixed_point import limits, plasticity


@dataclass(frozen=True, eq=False)
class Synapses:
    """One plastic connection, as simulator and Lava build it.

    Attributes:
        name: of the connection.
        source, target: layers 1..L that it joins; 0 is the input, L + 1 the readout.
        n_in, n_out: its size; the memory is [n_out, n_in].
        exponent, back_exponent: shifts of the sums in the two directions.
        unit: the real weight of one shadow unit.
        pre_one, post_one: what the two factors of an update are where the signals are 1.0.
        seed: of its random bits.
        mask: bool [n_out, n_in], False where there is no synapse; None: all are there.
        frozen: it does not learn.
    """

    name: str
    source: int
    target: int
    n_in: int
    n_out: int
    exponent: int
    back_exponent: int
    unit: float
    pre_one: float
    post_one: float
    seed: int
    mask: NDArray[np.bool_] | None = None
    frozen: bool = False

    def rate(self, eta: float) -> tuple[int, int]:
        """(multiplier, shift) with ``multiplier / 2 ** shift`` shadow units per product of factors, for learning rate ``eta``.

        Raises:
            LimitError: the rate is too large for the multiplier.
        """
        if eta == 0 or self.frozen:
            return 0, 0
        return multiplier_and_shift(f"{self.name}: update multiplier", eta / (self.pre_one * self.post_one * self.unit))

    def check(self, memory: Any, rule: str) -> None:
        """Raise LimitError, ValueError or TypeError where this is no memory of the connection under one of the RULES."""
        instance_of(f"memory of {self.name}", memory, np.ndarray, "it must be an int16 array")
        shape = (self.n_out, self.n_in)
        if memory.dtype != np.int16 or memory.shape != shape:
            raise ValueError(
                f"memory of {self.name} is {memory.dtype} of shape {memory.shape}; expected int16 of shape {shape}"
            )
        if rule == "shadow":
            within(f"memory of {self.name}", memory, -plasticity.SHADOW_MAX, plasticity.SHADOW_MAX, "Shadows have 16 bits.")
        else:
            within(f"memory of {self.name}", memory, limits.WEIGHT_MIN, limits.WEIGHT_MAX, "Weights have 8 bits.")
            if (memory & 1).any():
                raise ValueError(f"memory of {self.name} holds odd weights; 8-bit weights of mixed sign are even")
        if self.mask is not None and memory[~self.mask].any():
            raise ValueError(f"memory of {self.name} is not 0 where its mask says that there is no synapse")

    def real(self, view: NDArray[np.int16]) -> NDArray[np.float64]:
        """Real weights of those that spikes see."""
        return view * (self.unit * (1 << plasticity.SHADOW_BITS - 1))

    def memory_of(self, weight: ArrayLike, rule: str, remedy: str) -> NDArray[np.int16]:
        """The memory next to real weights [n_out, n_in]; 0 where there is no synapse.

        Raises:
            LimitError: a weight that the format cannot hold; the message ends with ``remedy``. ValueError: shape, NaN.
        """
        real = np.array(weight, dtype=np.float64)
        if real.shape != (self.n_out, self.n_in):
            raise ValueError(f"weights of {self.name} have shape {real.shape}; expected {(self.n_out, self.n_in)}")
        finite(f"weights of {self.name}", real)
        within(f"weights of {self.name}", real, -self.largest, self.largest, remedy)
        if self.mask is not None:
            real *= self.mask
        steps = real / self.unit if rule == "shadow" else real / (self.unit * (1 << plasticity.SHADOW_BITS))
        return kept(np.rint(steps), rule)

    @property
    def largest(self) -> float:
        """Largest magnitude of a real weight."""
        return plasticity.SHADOW_MAX * self.unit


def steps_of(memory: NDArray[np.int16], rule: str) -> NDArray[np.int64]:
    """Shadow units, or 8-bit steps of two weight units."""
    wide = memory.astype(np.int64)
    return wide if rule == "shadow" else wide >> 1


def kept(steps: NDArray[np.float64], rule: str) -> NDArray[np.int16]:
    """Inverse of :func:`steps_of` for whole numbers; clipped to the format."""
    if rule == "shadow":
        return np.clip(steps, -plasticity.SHADOW_MAX, plasticity.SHADOW_MAX).astype(np.int16)
    return (2 * np.clip(steps, -128, 127)).astype(np.int16)


def multiplier_and_shift(what: str, exact: float) -> tuple[int, int]:
    """A positive factor as ``multiplier / 2 ** shift``, with the largest multiplier of 15 bits and so the least rounding.

    Raises:
        LimitError: the factor is too large. (A tiny one ends at 0.)
    """
    shift = min(max(14 - math.floor(math.log2(exact)), 0), plasticity.SHIFT_MAX)
    multiplier = round(exact * 2.0**shift)
    if multiplier > plasticity.MULTIPLIER_MAX and shift > 0:
        shift, multiplier = shift - 1, round(exact * 2.0 ** (shift - 1))
    within(what, multiplier, 0, plasticity.MULTIPLIER_MAX, "Lower the learning rate.")
    return multiplier, shift


def payload_of(x: ArrayLike, features: int, one: int, bias: int) -> NDArray[np.int64]:
    """What the source sends: int64 [..., channels], with the constant of the bias unit, if there is one, in the last channel.

    Args:
        x: data [..., features], floats 0..1 (1.0 is sent as ``one``), or integers that are taken as the payloads.
        bias: payload of the bias unit, 0: none.

    Raises:
        LimitError: a value that a payload cannot hold. ValueError: shape, NaN. TypeError: neither floats nor integers.
    """
    values = np.asarray(x)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"data have dtype {values.dtype}; pass floats, or integer payloads")
    if values.shape[-1:] != (features,):
        raise ValueError(f"data of shape {values.shape} do not fit; expected [..., {features}] features")
    finite("data", values)
    scaled = np.rint(values * one) if values.dtype.kind == "f" else values
    within("payload", scaled, 0, limits.GRADED_MAX, "Graded spikes have 8 bits; scale the data to 0..1.")
    constant = np.full((*values.shape[:-1], int(bias > 0)), bias)
    return np.concatenate([scaled.astype(np.int64), constant], axis=-1)


def checked_labels(labels: ArrayLike, samples: int, classes: int) -> NDArray[np.int64]:
    """Labels int64 [samples]; raises ValueError, TypeError or LimitError where they are no classes."""
    values = np.asarray(labels)
    if values.shape != (samples,):
        raise ValueError(f"labels have shape {values.shape}; expected one for each of the {samples} samples")
    if values.dtype.kind not in "iu":
        raise TypeError(f"labels have dtype {values.dtype}; they must be integers")
    within("labels", values, 0, classes - 1, "Classes are counted from 0.")
    return values.astype(np.int64)
