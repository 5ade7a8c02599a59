"""EP: equilibrium propagation (Scellier and Bengio 2017; Ernoult et al., NeurIPS 2019).

A free phase of T steps settles in s*; from there, K steps with the last layer nudged towards its target settle in s^beta. With
the network's primitive Phi (see :mod:`lava_snnlearn.networks.energy`) and the loss L = |s_L - y|^2 / 2,

    - dL/dW ~ (dPhi/dW(s^beta) - dPhi/dW(s*)) / beta              (one-sided, an error of order beta)
    - dL/dW ~ (dPhi/dW(s^beta) - dPhi/dW(s^-beta)) / (2 beta)     (centred, of order beta^2)

which for beta -> 0 is the gradient of backpropagation through the last K steps of the free phase, step by step (their theorem
1). Both sides are local: products of the states of neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lava_snnlearn.checks import at_least, instance_of, known_name, real_number
from lava_snnlearn.fixed_point.arithmetic import NUDGE_ONE
from lava_snnlearn.fixed_point.energy_networks import TOP, energy_integers, nudge_integer
from lava_snnlearn.methods.base import Preset, StepResult, check_batch
from lava_snnlearn.methods.relaxation import relax
from lava_snnlearn.networks.classifier import Classifier
from lava_snnlearn.networks.energy import EnergyNetwork, State

NUDGES = ("centred", "one_sided", "random_sign")
ARITHMETICS = ("float", "integer")


@dataclass(frozen=True)
class EP:
    """Equilibrium propagation, for networks of :func:`~lava_snnlearn.networks.energy_net`.

    Args:
        beta: strength of the nudge, in (0, 1].
        nudged_steps: K.
        nudge: "centred" (two nudged phases, with beta and -beta), "one_sided", or "random_sign" (one-sided, the sign drawn
            anew for each batch from torch's generator).
        arithmetic: "float"; or "integer": all phases in the integers of the chip (weights rounded to 8 bits for each batch from
            the float ones that are trained, states 0..127; setting "prototypical", hard sigmoid), on the CPU.
        layer_rate: the gradient of layer l is multiplied by layer_rate^(l - 1), since published learning rates fall from layer
            to layer by factors of 2 to 10. 1 gives the gradient itself.

    Each epoch's table has the residuals of both phases (largest change of a state in the last step; 0 is an equilibrium) and
    the events of both phases: changes of the states, in 127 levels, a sample. spike_rate is that of the free phase.

    Raises:
        ValueError: a value out of range; a beta that is 0 in 1/256 (integer). TypeError: a value of another type.
        UnknownNameError: an unknown nudge or arithmetic.
    """

    beta: float = 0.5
    nudged_steps: int = 10
    nudge: str = "centred"
    arithmetic: str = "float"
    layer_rate: float = 0.5
    name = "ep"
    engine = "energy"
    optimiser_every = "batch"

    def __post_init__(self) -> None:
        for name, value in (("beta", self.beta), ("layer_rate", self.layer_rate)):
            real_number(name, value)
            if not 0 < value <= 1:
                raise ValueError(f"{name} is {value}; it must lie in (0, 1]")
        at_least(1, "nudged_steps", self.nudged_steps)
        known_name("nudge", self.nudge, NUDGES)
        if known_name("arithmetic", self.arithmetic, ARITHMETICS) == "integer":
            nudge_integer(self.beta)

    @property
    def preset(self) -> Preset:
        """T = 25; the learning rate suits batches of 20 (with momentum 0.9)."""
        return Preset(steps=25, learning_rate=0.03, energy=True)

    @torch.no_grad()
    def gradients(self, network: Classifier, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add the estimated gradient to ``.grad``. x: [B, n] float in [0, 1]; y: int64 [B]. ``on_step`` is not used.

        Raises:
            ValueError: samples or labels that do not fit; with integers, a network that the chip does not compute.
            TypeError: no energy network. LimitError: weights that 8 bits cannot hold.
        """
        instance_of("network", network, EnergyNetwork, "build one with snn.networks.energy_net, e.g. energy_net([64, 64, 10])")
        assert isinstance(network, EnergyNetwork)
        frame = check_batch(network, x, y, spiking=False)[0]
        phases = (_float_phases if self.arithmetic == "float" else _integer_phases)(network, frame, y)
        free = _run(phases, 0.0, phases.rest, network.steps)
        sign = 1 - 2 * int(torch.randint(2, (1,))) if self.nudge == "random_sign" else 1
        nudged = _run(phases, sign * self.beta, free.state, self.nudged_steps)
        other = _run(phases, -self.beta, free.state, self.nudged_steps) if self.nudge == "centred" else free
        span = (2 if self.nudge == "centred" else sign) * phases.strength(self.beta) * len(y)
        grown, fallen = (phases.gradient(phase.state) for phase in (nudged, other))
        layers = len(network.weights)
        for index, (parameter, more, less) in enumerate(zip(network.parameters(), grown, fallen, strict=True)):
            change = (less - more) / span * self.layer_rate ** (index % layers)
            change = change.to(parameter)
            parameter.grad = change if parameter.grad is None else parameter.grad + change
        output = phases.output(free.state)
        loss = 0.5 * float((output - F.one_hot(y, network.classes).to(output)).square().sum()) / len(y)
        diagnostics = {
            "free_residual": free.residual,
            "nudged_residual": nudged.residual,
            "free_events": free.events / len(y),
            "nudged_events": nudged.events / len(y),
        }
        rate = free.events / (len(y) * network.neurons * network.steps)
        return StepResult(loss, output, rate, diagnostics)


@dataclass(frozen=True)
class _Phases:
    """A batch in one of the two arithmetics. ``strength``: the nudge as it is computed with. ``unit``: a state of 1.0."""

    rest: State
    dynamics: Callable[[float], Callable[[State], State]]
    gradient: Callable[[State], Sequence[Tensor]]
    output: Callable[[State], Tensor]
    strength: Callable[[float], float]
    unit: float


def _float_phases(network: EnergyNetwork, frame: Tensor, y: Tensor) -> _Phases:
    target = F.one_hot(y, network.classes).to(frame)

    def dynamics(beta: float) -> Callable[[State], State]:
        return network.dynamics(frame, beta, target if beta else None)

    return _Phases(
        network.rest(frame),
        dynamics,
        lambda state: network.primitive_gradient(frame, state),
        lambda state: state[-1],
        lambda beta: beta,
        1.0,
    )


def _integer_phases(network: EnergyNetwork, frame: Tensor, y: Tensor) -> _Phases:
    chip = energy_integers(network)
    payloads = chip.payloads(frame)
    target = TOP * F.one_hot(y.cpu(), network.classes)

    def dynamics(beta: float) -> Callable[[State], State]:
        strength = int(math.copysign(nudge_integer(abs(beta)), beta)) if beta else 0
        return chip.dynamics(payloads, strength, target if beta else None)

    def gradient(state: State) -> Sequence[Tensor]:
        real = tuple(layer.double() / TOP for layer in state)
        return network.primitive_gradient(payloads.double() / TOP, real)

    return _Phases(
        chip.rest(len(y)),
        dynamics,
        gradient,
        lambda state: (state[-1].double() / TOP).to(frame),
        lambda beta: nudge_integer(beta) / NUDGE_ONE,
        float(TOP),
    )


class _Phase(NamedTuple):
    state: State
    residual: float
    events: float


def _run(phases: _Phases, beta: float, start: State, steps: int) -> _Phase:
    """Settle for ``steps`` steps; count how often a state changes, in levels of 1/127."""
    update, scale = phases.dynamics(beta), TOP / phases.unit
    counts: list[Tensor] = []

    def counted(state: State) -> State:
        new = update(state)
        counts.extend((_levels(after, scale) != _levels(before, scale)).sum() for before, after in zip(state, new, strict=True))
        return new

    settled = relax(counted, start, steps=steps, scale=phases.unit)
    return _Phase(settled.state, settled.residual, float(torch.stack(counts).sum()))


def _levels(state: Tensor, scale: float) -> Tensor:
    return (state * scale).round() if state.is_floating_point() else state
