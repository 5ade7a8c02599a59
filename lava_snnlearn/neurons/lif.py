"""Leaky integrate-and-fire neurons, as a pure step over explicit state.

    u[t] = lam v[t-1] + I[t]                (charge; the current is not scaled by 1 - lam)
    s[t] = H(u[t] - Vth)                    (fire at >=)
    v[t] = u[t] - Vth s[t]                  (reset="subtract")   or   v[t] = u[t] (1 - s[t])   (reset="zero")

with v[-1] = 0, so that ``v`` always means the membrane after the reset and ``u`` the one before it. ``lam = 1 - leak``.
Source: online_and_bptt spec, section 0; the same form in OTTT (Xiao et al. 2022, eq. 2) and SLTT (Meng et al. 2023, eq. 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lava_snnlearn.checks import flag, known_name, real_number, shown, tensor
from lava_snnlearn.neurons.surrogate import Sigmoid, Surrogate

RESETS = ("subtract", "zero")


class Drive(NamedTuple):
    """u[t] = lam v[t-1] + gain (I[t] + bias), v[-1] = start, and a spike is worth ``amplitude`` to its targets."""

    gain: float = 1.0
    bias: float = 0.0
    start: float = 0.0
    amplitude: float = 1.0


@dataclass(frozen=True)
class LIF:
    """Parameters of a leaky integrate-and-fire population.

    Args:
        leak: fraction of the membrane lost in each step, 0 <= leak <= 1 (lam = 1 - leak = 1 - 1/tau). Loihi's dv is 4096 leak.
        threshold: firing threshold Vth > 0, in units of the input current.
        reset: "subtract" (soft reset, v = u - Vth s) or "zero" (hard reset).
        surrogate: stands in for the derivative of the spike.
        detach_reset: True drops the gradient through the reset, as most published code does.

    Raises:
        ValueError: leak or threshold out of range.
        TypeError: leak or threshold is no number, surrogate no instance of one, detach_reset no bool.
        UnknownNameError: an unknown reset.
    """

    leak: float = 0.5
    threshold: float = 1.0
    reset: str = "subtract"
    surrogate: Surrogate = field(default_factory=Sigmoid)
    detach_reset: bool = True

    def __post_init__(self) -> None:
        real_number("leak", self.leak)
        real_number("threshold", self.threshold)
        flag("detach_reset", self.detach_reset)
        if not (math.isfinite(self.leak) and 0 <= self.leak <= 1):
            raise ValueError(
                f"leak is {self.leak}; it must lie in [0, 1] (fraction of the membrane lost per step; 0 is an IF neuron)"
            )
        if not (math.isfinite(self.threshold) and self.threshold > 0):
            raise ValueError(f"threshold is {self.threshold}; it must be finite and > 0")
        known_name("reset", self.reset, RESETS)
        if not isinstance(self.surrogate, Surrogate) or type(self.surrogate) is Surrogate:
            raise TypeError(
                f"surrogate is {shown(self.surrogate)}; pass an instance of a kind of surrogate: snn.neurons.Triangle() or "
                'snn.neurons.surrogate("triangle")'
            )

    @property
    def lam(self) -> float:
        """Factor on the membrane per step, 1 - leak."""
        return 1.0 - self.leak

    @property
    def trains_threshold(self) -> bool:
        """Whether the threshold is a parameter of the layer (see :mod:`lava_snnlearn.neurons.dsr`), not a constant."""
        return False

    def drive(self, threshold: float) -> Drive:
        """How the neuron uses its current and what its spikes are worth, at this threshold."""
        return Drive()


def IF(threshold: float = 1.0, **options: object) -> LIF:  # noqa: N802 (the field's name)
    """Integrate-and-fire: a :class:`LIF` without leak. ``options`` are those of LIF but for leak."""
    return LIF(leak=0.0, threshold=threshold, **options)  # type: ignore[arg-type]


class NeuronState(NamedTuple):
    """One step's result: ``spike`` in the dtype of the current, ``charged`` = u (before reset), ``membrane`` = v (after)."""

    spike: Tensor
    charged: Tensor
    membrane: Tensor


def step(neuron: LIF, membrane: Tensor | None, current: Tensor, threshold: float | None = None) -> NeuronState:
    """One time step. ``membrane`` is v[t-1] (None: at rest), ``current`` is I[t]; any equal shapes; differentiable.

    ``threshold``: instead of the neuron's own (thresholds that are trained).
    """
    level = neuron.threshold if threshold is None else threshold
    charged = current if membrane is None else neuron.lam * membrane + current
    spike = neuron.surrogate.spike(charged - level)
    cut = spike.detach() if neuron.detach_reset else spike
    after = charged - level * cut if neuron.reset == "subtract" else charged * (1 - cut)
    return NeuronState(spike, charged, after)


def run(neuron: LIF, current: Tensor, membrane: Tensor | None = None, threshold: float | None = None) -> NeuronState:
    """All time steps of ``current`` [T, B, ...], from rest or from ``membrane`` [B, ...]; each field of the result is [T, B,
    ...].

    The plain reference of the fused kernels.

    Raises:
        ValueError: no time step. TypeError: ``current`` is no tensor.
    """
    tensor("current", current)
    if current.dim() == 0 or len(current) == 0:
        raise ValueError(f"current has shape {tuple(current.shape)}; it must be [T, B, ...] with T at least 1 time step")
    states: list[NeuronState] = []
    for now in current.unbind(0):
        states.append(step(neuron, membrane, now, threshold))
        membrane = states[-1].membrane
    return NeuronState(*(torch.stack(column) for column in zip(*states, strict=True)))
