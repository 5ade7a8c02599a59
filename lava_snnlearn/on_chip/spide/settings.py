"""What a network that learns on the chip by SPIDE is built from: sizes, steps, number formats, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, instance_of, known_name
from lava_snnlearn.fixed_point import limits, plasticity
from lava_snnlearn.on_chip.settings import ETA_MAX, FORMATS, LOGITS, STEPS_MAX, ChipSettings, Ranges
from lava_snnlearn.on_chip.synapses import Synapses

_DELTA_BITS = 1
DELTA = 1 << _DELTA_BITS
"""A spike subtracts twice the threshold, forward (V = 1, reset target -V) and backward (V_B = delta / 2)."""
BACKWARD_STEPS_MAX = 255
"""Sums of ternary spikes have 8 bits and a sign."""
SYNAPSES_MAX = 64
"""Connections of a network at most; each has one stream of random bits for its updates and one for the norm limit."""
_ERROR_BITS = plasticity.ERROR_ONE.bit_length() - 1
_VIEW_BITS = plasticity.SHADOW_BITS - 1
"""128 shadow units are one weight unit."""


@dataclass(frozen=True, eq=False)
class OnChipSettings(ChipSettings):
    """A dense network with feedback from its last to its first hidden layer that learns by SPIDE (arXiv 2302.00232).

    Args:
        sizes: (features, hidden 1, ..., hidden L, classes), L >= 1; with L = 1 the hidden layer feeds back onto itself.
        steps: T_F, steps of the forward phase, 1..127.
        backward_steps: T_B, steps of the backward phase, 1..255.
        scale_bits: 2 ** scale_bits weight units are 1.0 of a hidden neuron's membrane; it is the threshold.
        payload_one: payload (0..255) that an input of 1.0 is sent as.
        bias_payload: payload of the unit that is always on, of which the hidden biases of layer 1 are the weights; 0: no bias.
        input_exponent, hidden_exponent, readout_exponent: 0..7, of F, of the W and R, and of C.
        readout_scale_bits: 2 ** readout_scale_bits weight units are a logit's 1.0, of a spike rate of 1.0, per step.
        gain_bits: the gain of the injected gradient is s_eff = 2 ** gain_bits (spec: batch 1, so scale S / B).
        eta: learning rate of the start.
        error: "softmax" (cross-entropy by table) or "mse".
        memory: "shadow" (16 bits behind each 8-bit weight), "stochastic" (8 bits, updates rounded at random) or "nearest" (8
            bits, updates rounded to nearest, for comparison: it does not learn).
        seed: of the initial weights and of stochastic rounding.
        gamma: the host keeps the feedback loop's spectral norms below gamma * delta (per layer gamma^(1/L) * delta), 0..1.
        masks: by synapse name, bool [n_out, n_in]: False where there is no synapse. F has a last column for the bias unit.
        frozen: names of synapses that do not learn.

    Raises:
        LimitError, ValueError, TypeError, UnknownNameError: a value that does not fit; the message names it.
    """

    sizes: tuple[int, ...]
    steps: int = 30
    backward_steps: int = 100
    scale_bits: int = 11
    payload_one: int = 16
    bias_payload: int = 16
    input_exponent: int = 0
    hidden_exponent: int = 3
    readout_exponent: int = 0
    readout_scale_bits: int = 7
    gain_bits: int = 1
    eta: float = 0.03
    error: str = "softmax"
    memory: str = "shadow"
    seed: int = 0
    gamma: float = 0.5
    masks: Mapping[str, ArrayLike] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_sizes(SYNAPSES_MAX - 2)
        self._check_numbers(_RANGES, _REAL_RANGES)
        known_name("error", self.error, plasticity.ERRORS)
        known_name("memory", self.memory, plasticity.RULES)
        instance_of("frozen", self.frozen, (tuple, list), "it must be a tuple of synapse names, e.g. ('F',)")
        object.__setattr__(self, "frozen", tuple(known_name("frozen synapses", name, self.names) for name in self.frozen))
        object.__setattr__(self, "masks", self._checked_masks())
        for part in self.synapses:
            part.rate(self.eta)

    def _checked_masks(self) -> dict[str, NDArray[np.bool_]]:
        instance_of("masks", self.masks, Mapping, "it must be a dict from synapse name to a bool array")
        shapes = {name: (n_out, n_in) for name, _, _, n_in, n_out in self._ends()}
        checked = {}
        for name, values in self.masks.items():
            known_name("synapses with a mask", name, self.names)
            mask = np.array(values)
            if mask.dtype != np.bool_ or mask.shape != shapes[name]:
                raise ValueError(f"mask of {name} is {mask.dtype} of shape {mask.shape}; expected bool of shape {shapes[name]}")
            mask.setflags(write=False)
            checked[name] = mask
        return checked

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the synapses, in the order of all tuples: F, W1 .. W(L-1), R, C."""
        return ("F", *(f"W{layer}" for layer in range(1, self.layers)), "R", "C")

    @property
    def delta(self) -> int:
        """What a hidden spike subtracts, in weight units, and the limit of the injected gradient."""
        return DELTA << self.scale_bits

    @property
    def error_step(self) -> int:
        """Step of the sample (from 0) in which the error is computed and sent: after the last sum of the readout."""
        return self.layers + self.steps

    @property
    def learn_step(self) -> int:
        """Step of the sample in which the weights change."""
        return self.error_step + self.backward_steps + self.layers

    @property
    def period(self) -> int:
        """Steps of a sample."""
        return self.learn_step + 1

    @property
    def logit_one(self) -> int:
        """A logit of 1.0 in units of z, the readout's sum over the forward phase."""
        return self.steps << self.readout_scale_bits

    @property
    def output_one(self) -> float:
        """An output of 1.0 (a logit, or the target of "mse") in units of z."""
        return float(plasticity.ERROR_ONE << self.error_shift if self.error == "mse" else self.logit_one)

    @property
    def error_shift(self) -> int:
        """Shift of the error stage.

        Softmax: entries of the table are 2 ** error_shift units of z apart. Mse: an output of 1.0 is 128 << error_shift, the
        power of two next to :attr:`logit_one`.
        """
        span = self.logit_one * (LOGITS / plasticity.TABLE_SIZE if self.error == "softmax" else 2.0**-_ERROR_BITS)
        return max(0, round(math.log2(span)))

    @property
    def table_step(self) -> float:
        """How many logits two entries of the softmax's table are apart."""
        return float(2.0**self.error_shift / self.logit_one)

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """The softmax's table."""
        return plasticity.softmax_table(self.table_step)

    def error_of(self, z: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.int64]:
        """The error [..., classes] of the readout's sums ``z`` for the one-hot ``target``, in units of 1/128."""
        return plasticity.error(self.error, z, target, self.table, self.error_shift)

    @property
    def norm_limit(self) -> float:
        """Largest spectral norm of R and of each W, in real units."""
        return float(DELTA * self.gamma ** (1 / self.layers))

    @cached_property
    def synapses(self) -> tuple[Synapses, ...]:
        """All connections in the order of :attr:`names`."""
        return tuple(self._synapses(number, *ends) for number, ends in enumerate(self._ends()))

    def _ends(self) -> list[tuple[str, int, int, int, int]]:
        """(name, source, target, n_in, n_out)."""
        last, sizes = self.layers, (self.channels, *self.sizes[1:])
        pairs = [*((layer, layer + 1) for layer in range(last)), (last, 1), (last, last + 1)]
        return [(name, *pair, sizes[pair[0]], sizes[pair[1]]) for name, pair in zip(self.names, pairs, strict=True)]

    def _synapses(self, number: int, name: str, source: int, target: int, n_in: int, n_out: int) -> Synapses:
        readout, mask = name == "C", self.masks.get(name)
        exponent = {"F": self.input_exponent, "C": self.readout_exponent}.get(name, self.hidden_exponent)
        scale = self.readout_scale_bits if readout else self.scale_bits
        largest = self.payload_one if name == "F" else 1
        # The gradient C^T e / 128, times the gain, in units of the backward neurons, of which delta is 1.0.
        injected = self.gain_bits + self.scale_bits + _DELTA_BITS - _ERROR_BITS + exponent - scale
        bound = (n_in * -limits.WEIGHT_MIN * (limits.GRADED_MAX if name == "F" else 1)) << exponent
        if bound > limits.CHANNEL_MAX:
            raise LimitError(
                f"{name}: {n_in} inputs can sum up to {bound}, more than a channel's {limits.CHANNEL_MAX}; lower its exponent"
            )
        return Synapses(
            name=name,
            source=source,
            target=target,
            n_in=n_in,
            n_out=n_out,
            exponent=exponent,
            back_exponent=injected if readout else exponent,
            unit=2.0 ** (exponent - scale - _VIEW_BITS) * largest,
            pre_one=float(self.steps * largest),
            post_one=float(1 << _ERROR_BITS if readout else 2.0**self.gain_bits * DELTA * self.backward_steps),
            seed=2 * SYNAPSES_MAX * self.seed + number,
            mask=None if mask is None else np.asarray(mask),
            frozen=name in self.frozen,
        )


_RANGES: Ranges = {
    **FORMATS,
    "steps": (1, STEPS_MAX, "Forward counts have 7 bits."),
    "backward_steps": (1, BACKWARD_STEPS_MAX, "Backward counts have 8 bits and a sign."),
    "scale_bits": (1, 15, "The threshold register has 17 bits."),
    "gain_bits": (-20, 20, "See choose_gain."),
    "seed": (0, 1 << 48, "A seed is a number from 0 on."),
}
_REAL_RANGES: Ranges = {
    "eta": (0, ETA_MAX, "Choose a learning rate near 0.03."),
    "gamma": (0, 1, "The feedback loop must contract."),
}


def check_settings(settings: Any) -> None:
    """Raise TypeError if these are no OnChipSettings."""
    instance_of("settings", settings, OnChipSettings, "pass OnChipSettings(sizes=(features, hidden, classes))")
