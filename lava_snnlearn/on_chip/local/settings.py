"""What a network that learns on the chip by a local three-factor rule is built from, and the integers that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import flag, instance_of, known_name, within
from lava_snnlearn.fixed_point import limits, local_learning, plasticity
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_SHIFT
from lava_snnlearn.on_chip.settings import ETA_MAX, FORMATS, LOGITS, STEPS_MAX, ChipSettings, Ranges
from lava_snnlearn.on_chip.synapses import Synapses, multiplier_and_shift

FEEDBACKS = ("transport", "fixed", "learned")
"""Where the third factor comes from: down the forward weights (OTTT), through a fixed random matrix a layer (DFA), or through a
matrix a layer that is learned from noise (OPZO)."""
LAYERS_MAX = 16
_TRACE_ROOM = 96
"""A trace of the largest lasting signal; below 127, so that it never saturates."""
_SEEDS = 64
"""Streams of random bits that belong to one seed: one a connection, then one a layer's noise."""


@dataclass(frozen=True, eq=False)
class LocalSettings(ChipSettings):
    """A dense spiking network that learns on the chip at every time step (OTTT, arXiv 2210.04195; DFA; OPZO, 2407.12516; HLOP).

    Args:
        sizes: (features, hidden 1, ..., hidden L, classes), L >= 1.
        steps: T, time steps of a sample, 1..127.
        feedback: one of :data:`FEEDBACKS`.
        update: "online" (weights change at every step, OTTT_O) or "accumulate" (once a sample, OTTT_A).
        memory: "stochastic" (8-bit weights, updates rounded at random, one number a synapse), "shadow" (16 bits behind each
            8-bit weight) or "nearest" (8 bits, rounded to nearest, for comparison: it does not learn).
        leak: share of the membrane that a hidden neuron loses in a step, 0..1. readout_leak: of a readout's output; 1: none is
            kept, and the readout learns from spikes instead of traces.
        surrogate: "triangle" or "sigmoid".
        error: "softmax" (cross-entropy by table) or "mse".
        scale_bits: 2 ** scale_bits weight units are the threshold, 1.0 of a hidden membrane.
        payload_one: payload (0..255) that an input of 1.0 is sent as. bias_payload: payload of the unit that is always on, of
            which the biases of layer 1 are the weights; 0: no bias.
        input_exponent, hidden_exponent, readout_exponent: 0..7, for inputs as sent, and for spikes of 1.
        readout_scale_bits: 2 ** readout_scale_bits weight units are a logit's 1.0.
        gain_bits: top-down signals and hidden factors are sent 2 ** gain_bits times as large, to use their 7 bits.
        eta: learning rate of the start, per time step.
        noise_bits: learned feedback: noise of 2 ** -noise_bits, 1..3, or 2..3 on spikes (then ``spike_bits`` of a payload).
            noise_position: "post" (on the spikes) or "pre" (on the membrane before the threshold).
            antithetic: each noise is followed by its negative; needs even steps.
        momentum: learned feedback is a running mean with momentum 1 - 2 ** -momentum, 0..20; it starts as a plain mean.
        baseline: bits of a running mean of the output that is subtracted before the correlation; 0: none.
        subspace_eta: HLOP: learning rate of the subspaces, per sample. subspace_average: samples a step of theirs.
        seed: of the initial weights, of stochastic rounding, and of the noise.

    Raises:
        LimitError, ValueError, TypeError, UnknownNameError: a value that does not fit; the message names it.
    """

    sizes: tuple[int, ...]
    steps: int = 8
    feedback: str = "transport"
    update: str = "online"
    memory: str = "stochastic"
    leak: float = 0.5
    readout_leak: float = 0.5
    surrogate: str = "triangle"
    error: str = "softmax"
    scale_bits: int = 11
    payload_one: int = 16
    bias_payload: int = 16
    input_exponent: int = 0
    hidden_exponent: int = 3
    readout_exponent: int = 3
    readout_scale_bits: int = 10
    gain_bits: int = 2
    eta: float = 0.01
    noise_bits: int = 2
    noise_position: str = "post"
    antithetic: bool = True
    momentum: int = 11
    baseline: int = 0
    subspace_eta: float = 0.02
    subspace_average: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_sizes(LAYERS_MAX)
        for name, names in self._choices().items():
            known_name(name, getattr(self, name), names)
        flag("antithetic", self.antithetic)
        self._check_numbers(_RANGES, _REAL_RANGES)
        if self.feedback == "learned":
            self._check_noise()
        for part in self.synapses:
            signal = limits.GRADED_MAX if part.source == 0 else 2 << self.spike_bits
            # A readout keeps some of its earlier sums.
            lasting = self._lasting(self.readout_leak)
            largest = (part.n_in * -limits.WEIGHT_MIN * signal << part.exponent) * (
                lasting if part.name == self.names[-1] else 1
            )
            remedy = "A channel, and a readout, hold no more; lower the exponent."
            within(f"{part.name}: largest sum", largest, 0, limits.CHANNEL_MAX, remedy)
            part.rate(self.eta)
        for number in range(len(self.synapses)):
            self.turn_rate(number)
        trace = max(self.payload_one, self.bias_payload) * sum((1 - self.leak) ** step for step in range(self.steps))
        remedy = "A trace has 7 bits; lower payload_one and bias_payload, raise leak, or take fewer steps."
        within("W1: trace of an input of 1.0 in every step", trace, 0, local_learning.TRACE_MAX, remedy)

    def _choices(self) -> dict[str, Any]:
        return {
            "feedback": FEEDBACKS,
            "update": local_learning.UPDATES,
            "memory": plasticity.RULES,
            "surrogate": local_learning.SURROGATES,
            "error": plasticity.ERRORS,
            "noise_position": local_learning.POSITIONS,
        }

    def _check_noise(self) -> None:
        if self.antithetic and self.steps % 2:
            raise ValueError(
                f"steps is {self.steps}; antithetic noise comes in pairs, so it must be even (or antithetic=False)"
            )
        if self.noise_position == "post":
            remedy = "Half a spike cannot be told from a spike; take smaller noise, or put it before the threshold."
            within("noise_bits", self.noise_bits, 2, 3, remedy)
            for name in ("hidden_exponent", "readout_exponent"):
                remedy = "A spike is sent as 2 ** noise_bits, for which its exponent is lowered."
                within(name, getattr(self, name), self.noise_bits, limits.EXPONENT_MAX, remedy)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the connections, in the order of all tuples: W1 .. W(L+1)."""
        return tuple(f"W{number}" for number in range(1, self.layers + 2))

    @property
    def dv(self) -> int:
        """Decay constant of the hidden neurons, 0..4096."""
        return round(self.leak * DECAY_ONE)

    @property
    def readout_dv(self) -> int:
        """Decay constant of the readout."""
        return round(self.readout_leak * DECAY_ONE)

    @property
    def spike_bits(self) -> int:
        """A spike is sent as 2 ** spike_bits, so that noise of 1 is its 2 ** -noise_bits."""
        return self.noise_bits if self.feedback == "learned" and self.noise_position == "post" else 0

    @property
    def amplitude(self) -> int:
        """Noise before the threshold, in membrane units."""
        return (self.vth << MEMBRANE_SHIFT) >> self.noise_bits if self.noise_position == "pre" else 0

    @property
    def table_shift(self) -> int:
        """Shift of the surrogate's table: its 64 entries reach to two thresholds from the threshold."""
        return self.scale_bits + MEMBRANE_SHIFT + 1 - (local_learning.TABLE_SIZE.bit_length() - 1)

    @property
    def error_shift(self) -> int:
        """Shift of the readout's error (see ``plasticity.error``)."""
        span = self.readout_scale_bits + (np.log2(LOGITS / plasticity.TABLE_SIZE) if self.error == "softmax" else -7)
        return max(0, round(span))

    @property
    def output_one(self) -> float:
        """An output of 1.0 (a logit, or an mse readout's target) in units of z, the sum of currents, if every step has the same
        current."""
        lasting = self._lasting(self.readout_leak)
        one = plasticity.ERROR_ONE << self.error_shift if self.error == "mse" else 1 << self.readout_scale_bits
        return one * self.steps / lasting

    @property
    def table_step(self) -> float:
        """How many logits two entries of the softmax's table are apart."""
        return 2.0 ** (self.error_shift - self.readout_scale_bits)

    def post_delay(self, layer: int) -> int:
        """Steps from a spike of hidden layer 1..L (or of readout L + 1: 0) to its top-down signal."""
        if layer > self.layers:
            return 0
        return 2 * (self.layers + 1 - layer) if self.feedback == "transport" else self.layers + 2 - layer

    @property
    def learn_step(self) -> int:
        """Last phase of a sample, in which the factor of layer 1's last step arrives; what is gathered changes weights here."""
        return self.steps + self.post_delay(1)

    @property
    def period(self) -> int:
        """Steps of a sample."""
        return self.learn_step + 1

    def impulse(self, layer: int) -> int:
        """What a signal of 1 adds to the trace of connection 1..L+1."""
        largest = max(self.payload_one, self.bias_payload) if layer == 1 else 1
        leak = self.readout_leak if layer > self.layers else self.leak
        return max(1, int(_TRACE_ROOM / (largest * self._lasting(leak))))

    def _lasting(self, leak: float) -> float:
        """How many times a signal that is the same in every step is in what a leak leaves of it."""
        return min(1 / leak, self.steps) if leak > 0 else self.steps

    def signal_shift(self) -> int:
        """Shift from a feedback matrix's product with the error to a top-down signal.

        Learned: the matrix is noise times output, of 2^-12 weight units of the readout. Noise before the threshold is counted
        as if its size were that of the spikes that it causes, as OPZO does.
        """
        return local_learning.FEEDBACK_BITS + self.readout_scale_bits - self.noise_bits - self.gain_bits

    @cached_property
    def synapses(self) -> tuple[Synapses, ...]:
        """All connections in the order of :attr:`names`."""
        return tuple(self._synapses(layer) for layer in range(1, self.layers + 2))

    def _synapses(self, layer: int) -> Synapses:
        first, last = layer == 1, layer > self.layers
        exponent = self.input_exponent if first else self.readout_exponent if last else self.hidden_exponent
        scale = self.readout_scale_bits if last else self.scale_bits
        one = self.payload_one if first else 1
        return Synapses(
            name=f"W{layer}",
            source=layer - 1,
            target=layer,
            n_in=self.channels if first else self.sizes[layer - 1],
            n_out=self.sizes[layer],
            exponent=exponent - (0 if first else self.spike_bits),
            back_exponent=exponent - scale + (self.gain_bits if last else 0),
            unit=2.0 ** (exponent - scale - (plasticity.SHADOW_BITS - 1)) * one,
            pre_one=float(self.impulse(layer) * one),
            post_one=float(plasticity.ERROR_ONE << (0 if last else self.gain_bits)),
            seed=2 * _SEEDS * self.seed + layer - 1,
        )

    def noise_seed(self, layer: int) -> int:
        """Seed of the noise of hidden layer 1..L."""
        return 2 * _SEEDS * self.seed + _SEEDS + layer - 1

    def turn_rate(self, number: int) -> tuple[int, int]:
        """(multiplier, shift) of a connection's subspace: velocity per sum of ``hear`` over ``subspace_average`` samples."""
        if self.subspace_eta == 0:
            return 0, 0
        part = self.synapses[number]
        one = 2.0 ** (local_learning.SUBSPACE_BITS + local_learning.VELOCITY_BITS - local_learning.MOMENTUM_BITS)
        product = part.pre_one**2 * 2.0**local_learning.PROJECTION_BITS * self.steps * self.subspace_average
        return multiplier_and_shift(f"{part.name}: subspace multiplier", self.subspace_eta * one / product)

    @cached_property
    def surrogate_table(self) -> NDArray[np.int32]:
        """The surrogate's table."""
        return local_learning.surrogate_table(self.surrogate, self.vth, self.table_shift)

    @cached_property
    def error_table(self) -> NDArray[np.int64]:
        """The softmax's table."""
        return plasticity.softmax_table(self.table_step)


_RANGES: Ranges = {
    **FORMATS,
    "steps": (1, STEPS_MAX, "Sums of a sample have a limited range."),
    "scale_bits": (5, 15, "The threshold register has 17 bits."),
    "gain_bits": (0, 10, "Signals have 7 bits and a sign."),
    "noise_bits": (1, 3, "Noise is 1/2, 1/4 or 1/8 of a spike."),
    "momentum": (0, local_learning.MOMENTUM_MAX, "A feedback matrix holds no finer mean."),
    "baseline": (0, local_learning.MOMENTUM_MAX, "The mean holds no finer steps."),
    "subspace_average": (1, 1 << 16, "Subspaces turn at least so often."),
    "seed": (0, 1 << 40, "A seed is a number from 0 on."),
}
_REAL_RANGES: Ranges = {
    "leak": (0, 1, "It is a share of the membrane."),
    "readout_leak": (0, 1, "It is a share of the output."),
    "eta": (0, ETA_MAX, "Choose a learning rate near 0.01."),
    "subspace_eta": (0, 1e3, "Choose a learning rate near 0.02."),
}


def check_settings(settings: Any) -> None:
    """Raise TypeError if these are no LocalSettings."""
    instance_of("settings", settings, LocalSettings, "pass LocalSettings(sizes=(features, hidden, classes))")
