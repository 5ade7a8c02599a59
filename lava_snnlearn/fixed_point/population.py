"""Population: neurons of one kind with their integer parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import known_name, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_MAX, MEMBRANE_UNIT, bias_current
from lava_snnlearn.fixed_point.convolution import image_shape

KINDS = ("accumulator", "graded", "lif", "relay", "soft_reset_lif")
INPUT = "input"
"""Name of the input as the source of a connection."""
UNFILTERED = limits.DECAY_MAX - 1
"""The current's decay constant with which nothing of it is kept."""
_STEPS_MAX = 1 << 30


def frozen_integers(where: str, values: ArrayLike, dtype: type[np.integer[Any]], shape: tuple[int, ...]) -> NDArray[Any]:
    """A read-only integer array of this shape (scalars are spread); refuses floats, so that nothing is rounded in silence."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{where} has dtype {array.dtype}; fixed-point parameters must be integers (round them first, e.g. quantize)"
        )
    if array.size:
        info = np.iinfo(dtype)
        within(where, array, info.min, info.max, f"It does not fit into {np.dtype(dtype).name}.")
    if array.shape not in (shape, ()):
        raise ValueError(f"{where} has shape {array.shape}, expected {shape}")
    result = np.broadcast_to(array, shape).astype(dtype)
    result.setflags(write=False)
    return result


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons of one kind.

    Args:
        name: unique; letters, digits, underscore.
        size: number of neurons.
        kind: "soft_reset_lif" (reset by subtraction of delta, fires at >=), "lif" (Lava's stock LIF: reset to zero, fires at
            strict >, its current filtered by du), "accumulator" (never spikes; its membrane is the network's output), "graded"
            (no memory: its state, and the payload that it sends in each step, is (sum + bias) >> shift, held in 0..top) or
            "relay" (no memory, no parameters: sends its synaptic sum as it is; what lies between two of Lava's connections that
            follow each other without neurons).
        vth: threshold, 0..131071 weight units. Not used by accumulators, graded neurons and relays.
        delta: what a spike subtracts, 0..131071; None means vth.
        dv: leak per step in 1/4096, 0..4096.
        bias_mant, bias_exp: bias = bias_mant << bias_exp in 1/64 units (of graded neurons: in units of the sum); mantissa
            -4096..4095 (scalar or [size]), exponent 0..7.
        v_init: membrane at the start of a sample, 24 bit, 1/64 units; of "lif" also [size].
        t_start: first active step of a sample.
        scale_bits: 2 ** scale_bits weight units are one real unit (for reading traces in real units).
        shape: of the population as an image (C, H, W), in the order of which its neurons are numbered; None: just a row.
        shift, top: of graded neurons, see above: 0..23, and 1..255 (which is 1.0).
        du: of "lif": the current u loses (du + 1)/4096 of itself in each step before the synaptic sum is added, -1..4095.
            -1: it loses nothing; 4095: nothing remains, the current is not filtered.
        u_init: of "lif": current at the start of a sample, 24 bit, 1/64 units, scalar or [size].
        reset_interval, reset_offset: of "lif": current and membrane are set to zero before the update of the steps t, counted
            from 1 at the start of a sample, with ``t % reset_interval == reset_offset % reset_interval`` (Lava's LIFReset).
            Interval 0: never.

    Raises:
        LimitError: a value out of range. TypeError: a float. UnknownNameError: an unknown kind. ValueError: a shape of
        another size, a parameter that the kind does not have.
    """

    name: str
    size: int
    kind: str = "soft_reset_lif"
    vth: int = 1
    delta: int | None = None
    dv: int = 0
    bias_mant: ArrayLike = 0
    bias_exp: int = 0
    v_init: ArrayLike = 0
    t_start: int = 0
    scale_bits: int = 0
    shape: tuple[int, ...] | None = None
    shift: int = 0
    top: int = 0
    du: int = UNFILTERED
    u_init: ArrayLike = 0
    reset_interval: int = 0
    reset_offset: int = 0

    def __post_init__(self) -> None:
        where = f"population {self.name!r}"
        if not isinstance(self.name, str) or not self.name.isidentifier() or self.name == INPUT:
            raise ValueError(f"{where}: a name must be letters, digits and underscores, and not {INPUT!r}")
        known_name(f"kind of {where}", self.kind, KINDS)
        if self.delta is None:
            object.__setattr__(self, "delta", self.vth)
        for key in (*_RANGES, "shift", "top"):
            object.__setattr__(self, key, whole_number(f"{where}: {key}", getattr(self, key)))
        for key, (low, high, remedy) in _RANGES.items():
            within(f"{where}: {key}", getattr(self, key), low, high, remedy)
        bias = frozen_integers(f"{where}: bias_mant", self.bias_mant, np.int16, (self.size,))
        mantissas = limits.BIAS_MANTISSA_MIN, limits.BIAS_MANTISSA_MAX
        within(f"{where}: bias_mant", bias, *mantissas, "Raise bias_exp or lower scale_bits.")
        object.__setattr__(self, "bias_mant", bias)
        for key in ("v_init", "u_init"):
            object.__setattr__(self, key, self._initial(f"{where}: {key}", getattr(self, key)))
        if self.shape is not None:
            object.__setattr__(self, "shape", image_shape(f"{where}: shape", self.shape))
            if math.prod(self.shape) != self.size:
                raise ValueError(f"{where}: shape {self.shape} has {math.prod(self.shape)} neurons, but size is {self.size}")
        self._check_lif(where)
        self._check_graded(where)

    def _initial(self, where: str, value: ArrayLike) -> int | NDArray[np.int32]:
        """A state at the start of a sample: one integer for all or, of stock LIFs, one a neuron."""
        if np.ndim(value) and self.kind == "lif":
            kept: int | NDArray[np.int32] = frozen_integers(where, value, np.int32, (self.size,))
        else:
            kept = whole_number(where, value)
        within(where, kept, -MEMBRANE_MAX, MEMBRANE_MAX, "The membrane has 24 bits.")
        return kept

    def _check_lif(self, where: str) -> None:
        if self.kind == "lif":
            if self.delta != self.vth:
                raise ValueError(f"{where}: Lava's LIF resets to zero; delta must be left out")
        elif self.du != UNFILTERED or np.any(self.u_init) or self.reset_interval or self.reset_offset:
            raise ValueError(f"{where}: du, u_init and resets at fixed times belong to stock LIFs, not to {self.kind}")

    def _check_graded(self, where: str) -> None:
        memory = self.dv or np.any(self.v_init)
        if self.kind == "graded":
            within(f"{where}: shift", self.shift, 0, limits.GRADED_SHIFT_MAX, "The state is the sum >> shift.")
            within(f"{where}: top", self.top, 1, limits.GRADED_MAX, "The state is sent as a payload of 8 bits.")
            if memory:
                raise ValueError(f"{where}: graded neurons have no memory; dv and v_init must be 0")
        elif self.shift or self.top:
            raise ValueError(f"{where}: shift and top belong to graded neurons, not to {self.kind}")
        elif self.kind == "relay" and (memory or np.any(self.bias_mant)):
            raise ValueError(f"{where}: a relay sends its synaptic sum as it is; dv, v_init and bias_mant must be 0")

    @property
    def bias(self) -> NDArray[np.int64]:
        """What each active step adds, scalar or [size]: ``bias_mant << bias_exp``."""
        return bias_current(np.asarray(self.bias_mant), self.bias_exp)

    @property
    def pauses(self) -> bool:
        """True if on Lava it is idle outside of its active steps; stock LIFs and relays go on sending before and after them."""
        return self.kind not in ("lif", "relay")

    @property
    def spiking(self) -> bool:
        """False for accumulators; graded neurons send their state in each step, relays their sum."""
        return self.kind != "accumulator"

    @property
    def sends_payloads(self) -> bool:
        """True if what it sends has a value, which in each step is its state or sum; spikes are only there or not."""
        return self.kind in ("graded", "relay")

    @property
    def counted(self) -> bool:
        """True if the population answers by spike counts; False if by its membrane or state after the last step."""
        return self.kind in ("lif", "soft_reset_lif")

    @property
    def running(self) -> bool:
        """True if a sample must begin or go on in a way that Lava's process of this kind offers only from the start of a run:
        from a state other than zero, or with resets at fixed times."""
        return self.kind == "lif" and bool(np.any(self.v_init) or np.any(self.u_init) or self.reset_interval)

    @property
    def sent_dtype(self) -> type[np.integer[Any]]:
        """Type of what it sends in a Trace: sums of relays are int32, spikes and payloads uint8."""
        return np.int32 if self.kind == "relay" else np.uint8

    @property
    def one(self) -> float:
        """Membrane (of graded neurons and relays: what they send) that is one real unit."""
        if self.kind == "graded":
            return float(self.top)
        return (1 if self.kind == "relay" else MEMBRANE_UNIT) * 2.0**self.scale_bits

    def resets_at(self, step: int) -> bool:
        """True if its state is set to zero before the update of this step, counted from 0 at the start of a sample."""
        return bool(self.reset_interval) and (step + 1 - self.reset_offset) % self.reset_interval == 0


_RANGES = {
    "size": (1, 1 << 24, "A population needs at least one neuron."),
    "vth": (0, limits.THRESHOLD_MAX, "Lower the membrane scale (scale_bits)."),
    "delta": (0, limits.THRESHOLD_MAX, "Lower the membrane scale (scale_bits)."),
    "dv": (0, limits.DECAY_MAX, "The leak is dv/4096."),
    "bias_exp": (0, limits.BIAS_EXPONENT_MAX, "Lower the membrane scale (scale_bits)."),
    "t_start": (0, _STEPS_MAX, "Steps are counted from 0."),
    "scale_bits": (-limits.SCALE_MAX, limits.SCALE_MAX, "2^scale_bits must be a normal float."),
    "du": (-1, UNFILTERED, "The current loses (du + 1)/4096."),
    "reset_interval": (0, _STEPS_MAX, "0 means never."),
    "reset_offset": (0, _STEPS_MAX, "Steps are counted from 1."),
}
"""Least and largest value of every parameter that is one number, and what to do; shift and top have those of graded neurons."""
