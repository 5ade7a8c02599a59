"""Energy networks in integers: 8-bit weights, states of 7 bits, and both phases of equilibrium propagation, batched and exact.

A state of 1.0 is 127. One shift k serves all layers, since neighbours share a matrix: weights count 2^-k, and
``s_l <- clip((W_l s_{l-1} + W_{l+1}^T s_{l+1} + b_l) >> k, 0, 127)`` (other_methods spec, section 2.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lava_snnlearn.checks import LimitError, finite, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import NUDGE_ONE, bias_current, graded_step
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.scales import exponent_below, integers, weight_range
from lava_snnlearn.networks.energy import EnergyNetwork, State

TOP = 127
"""A state (or an input) of 1.0."""
_SHIFT_MAX = 12
"""Weights are never counted in finer units: all are tiny then, and sums need no more room."""
_OUTPUT = "readout"


@dataclass(frozen=True)
class EnergyIntegers:
    """An energy network's numbers on a chip.

    ``weights``: even integers [n_l, n_{l-1}] of each layer. ``mantissas`` [n_l], ``exponents``: of the biases. ``shift``: k.
    ``weight_error``: relative rms error of each layer's weights.
    """

    weights: tuple[NDArray[np.int64], ...]
    mantissas: tuple[NDArray[np.int64], ...]
    exponents: tuple[int, ...]
    shift: int
    weight_error: tuple[float, ...]

    @property
    def host(self) -> HostInput:
        """Inputs of [0, 1] as payloads 0..127."""
        return HostInput("graded", self.weights[0].shape[1], step=1 / TOP)

    def payloads(self, x: Tensor) -> Tensor:
        """Input [B, n] in [0, 1] as integers, int64."""
        return torch.from_numpy(self.host.encode(x.detach().cpu().numpy(), 1)[0].astype(np.int64))

    def rest(self, samples: int) -> State:
        """The state at the start of a sample: zeros, int64 [samples, n_l]."""
        return tuple(torch.zeros(samples, len(weight), dtype=torch.int64) for weight in self.weights)

    def dynamics(self, payloads: Tensor, beta: int = 0, target: Tensor | None = None) -> Callable[[State], State]:
        """The map of the state (int64) from step to step, free, or nudged by ``beta`` / 256 towards ``target``.

        payloads int64 [B, n] and target int64 [B, classes] count 127 as 1.0. What the chip's EPNeurons compute, bit for bit.
        """
        # BLAS multiplies floats only; sums of weights below 2^9 times states below 2^20 are exact up to 2^24 of them.
        matrices = [weight.astype(np.float64) for weight in self.weights]
        biases = [bias_current(mantissa, exponent) for mantissa, exponent in zip(self.mantissas, self.exponents, strict=True)]
        first = (payloads.numpy().astype(np.float64) @ matrices[0].T).astype(np.int64)
        last = len(matrices) - 1
        wanted = None if target is None else target.numpy()

        def update(state: State) -> State:
            before = [layer.numpy() for layer in state]
            sent = [layer.astype(np.float64) for layer in before]
            new = []
            for index, layer in enumerate(before):
                total = first if index == 0 else (sent[index - 1] @ matrices[index].T).astype(np.int64)
                if index < last:
                    total = total + (sent[index + 1] @ matrices[index + 1]).astype(np.int64)
                nudge = {} if index < last or wanted is None else {"beta": beta, "target": wanted}
                new.append(graded_step(layer, total, bias=biases[index], shift=self.shift, top=TOP, **nudge))
            return tuple(torch.from_numpy(layer) for layer in new)

        return update

    def assemble(self, steps: int) -> FixedNetwork:
        """The network that runs the free phase of T = ``steps`` steps: the input at step 0, all layers from step 1 on."""
        names = [*(f"layer{index + 1}" for index in range(len(self.weights) - 1)), _OUTPUT]
        populations = [
            Population(
                name,
                len(weight),
                "graded",
                bias_mant=mantissa,
                bias_exp=exponent,
                t_start=1,
                scale_bits=self.shift,
                shift=self.shift,
                top=TOP,
            )
            for name, weight, mantissa, exponent in zip(names, self.weights, self.mantissas, self.exponents, strict=True)
        ]
        up = [Connection(a, b, weight) for a, b, weight in zip([INPUT, *names], names, self.weights, strict=False)]
        down = [Connection(b, a, weight.T) for a, b, weight in zip(names, names[1:], self.weights[1:], strict=False)]
        notes = [
            f"{name}: weights in units of 2^-{self.shift}, relative rms error {error:.2%}"
            for name, error in zip(names, self.weight_error, strict=True)
        ]
        return FixedNetwork(tuple(populations), (*up, *down), self.host, steps, _OUTPUT, tuple(notes))


def energy_integers(network: EnergyNetwork, weight_bits: int = 8) -> EnergyIntegers:
    """Round an energy network of the prototypical setting with hard sigmoids.

    Raises:
        ValueError: another setting or activation; NaN or infinity. LimitError: weights or biases that no shift can hold, or
        weight_bits outside 2..8. TypeError: weight_bits not whole.
    """
    if (network.setting, network.activation) != ("prototypical", "hard_sigmoid"):
        raise ValueError(
            f"setting is {network.setting!r} and activation {network.activation!r}; a chip's graded neurons compute "
            "'prototypical' with 'hard_sigmoid'. Build the network with these."
        )
    within("weight_bits", whole_number("weight_bits", weight_bits), 2, limits.WEIGHT_BITS, "Loihi holds up to 8 bits a weight.")
    weights, biases = ([value.detach().double().cpu().numpy() for value in part] for part in (network.weights, network.biases))
    for name, values in (("weights", weights), ("biases", biases)):
        for index, value in enumerate(values):
            finite(f"network parameter {name}.{index}", value)
    shift = _shift(weights, biases, weight_bits)
    # The half makes the floor of the shift a rounding.
    sums = [2.0**shift * (TOP * bias + 0.5) for bias in biases]
    exponents = [
        max(0, math.ceil(math.log2(max(float(np.abs(total).max()), 1.0) / limits.BIAS_MANTISSA_MAX))) for total in sums
    ]
    rounded = [integers(weight, shift, weight_bits) for weight in weights]
    errors = [
        float(np.sqrt(np.mean((found / 2.0**shift - weight) ** 2)) / (np.sqrt(np.mean(weight**2)) or 1.0))
        for found, weight in zip(rounded, weights, strict=True)
    ]
    mantissas = [np.rint(total / 2.0**exponent).astype(np.int64) for total, exponent in zip(sums, exponents, strict=True)]
    return EnergyIntegers(tuple(rounded), tuple(mantissas), tuple(exponents), shift, tuple(errors))


def _shift(weights: Sequence[NDArray[np.float64]], biases: Sequence[NDArray[np.float64]], weight_bits: int) -> int:
    """Largest k that holds all weights and biases."""
    _, _, top = weight_range(weight_bits)
    largest, bias = (max(float(np.abs(value).max()) for value in values) for values in (weights, biases))
    by_bias = exponent_below(limits.BIAS_MANTISSA_MAX << limits.BIAS_EXPONENT_MAX, TOP * bias + 0.5)
    shift = min(exponent_below(top, largest), by_bias, _SHIFT_MAX)
    if shift < 0:
        raise LimitError(
            f"weights up to {largest:.4g} and biases up to {bias:.4g} are too large for 8 bits beside states of at most 1; "
            "lower the learning rate or use weight decay"
        )
    return shift


def nudge_integer(beta: float) -> int:
    """A nudge in 1/256.

    Raises:
        ValueError: it rounds to 0.
    """
    whole = round(NUDGE_ONE * beta)
    if not whole:
        raise ValueError(f"beta is {beta}; integers count it in 1/256, so it must be at least 1/512")
    return whole
