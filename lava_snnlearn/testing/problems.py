"""Tiny problems with known answers, which every gradient engine and every neuron is run against.

The answers are closed forms written out by hand; none of them is computed by the code that they judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lava_snnlearn.checks import known_name
from lava_snnlearn.methods.base import Loss
from lava_snnlearn.networks.mlp import mlp
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.lif import IF, LIF
from lava_snnlearn.neurons.surrogate import Sigmoid

ENGINES = ("full", "instant", "trace")
"""Gradient engines with closed forms: BPTT; the membrane cut at every step (SLTT); the same with presynaptic traces (OTTT)."""

_LAM, _THRESHOLD, _SHARPNESS = 0.5, 1.0, 4.0
_WEIGHTS, _BIASES = (1.25, 1.5), (0.1, -0.2)
_READOUT, _READOUT_BIAS = np.array([0.7, -0.3]), np.array([0.05, -0.02])
_FRAMES = np.array([[1.0, 0.6], [0.5, 1.0]])
_LABELS = np.array([1, 0])


@dataclass(frozen=True)
class ChainProblem:
    """Two neurons in a chain, 1 -> 1 -> 1 -> 2 classes, two samples, one or two steps, float64.

    In step 0 the neurons of the first sample spike, in step 1 those of the second, so that the leak carries something over a
    spike as well as over a silent step.

    Args:
        name: for messages.
        steps: 1 or 2.
        detach_reset: of the neurons.
    """

    name: str
    steps: int
    detach_reset: bool = True

    def network(self) -> Network:
        """A fresh network with the problem's parameters."""
        neuron = LIF(leak=1 - _LAM, threshold=_THRESHOLD, surrogate=Sigmoid(_SHARPNESS), detach_reset=self.detach_reset)
        network = mlp([1, 1, 1, 2], neuron, norm="none", steps=self.steps).double()
        values = [*zip(_WEIGHTS, _BIASES, strict=True), (_READOUT, _READOUT_BIAS)]
        with torch.no_grad():
            for layer, (weight, bias) in zip([*network.spiking_layers, network.readout], values, strict=True):
                layer.weight.copy_(torch.as_tensor(weight, dtype=torch.float64).reshape(layer.weight.shape))
                assert layer.bias is not None
                layer.bias.copy_(torch.as_tensor(bias, dtype=torch.float64).reshape(layer.bias.shape))
        return network

    @property
    def x(self) -> Tensor:
        """Input [steps, 2, 1] float64."""
        return torch.from_numpy(_FRAMES[: self.steps, :, None].copy())

    @property
    def y(self) -> Tensor:
        """Labels [2] int64."""
        return torch.from_numpy(_LABELS.copy())

    def gradients(self, engine: str, loss: Loss) -> Mapping[str, NDArray[np.float64]]:
        """Exact gradient of every parameter, by its name in the network.

        Raises:
            UnknownNameError: no closed form for this engine.
        """
        known_name("engine", engine, ENGINES)
        s1, u1 = _neuron(_WEIGHTS[0] * _FRAMES + _BIASES[0])
        s2, u2 = _neuron(_WEIGHTS[1] * s1 + _BIASES[1])
        phi1, phi2 = _surrogate(u1), _surrogate(u2)
        d = _loss_gradient(s2[..., None] * _READOUT + _READOUT_BIAS, loss, self.steps)
        e = d @ _READOUT
        if engine == "full":
            g2 = _adjoint(e, phi2, self.detach_reset)
            g1 = _adjoint(_WEIGHTS[1] * g2, phi1, self.detach_reset)
            x1, x2, ones = _FRAMES, s1, np.ones_like(_FRAMES)
        else:
            g2 = phi2 * e
            g1 = phi1 * _WEIGHTS[1] * g2
            x1, x2, ones = (_trace(v) if engine == "trace" else v for v in (_FRAMES, s1, np.ones_like(_FRAMES)))
        return {
            "layers.0.weight": (g1 * x1).sum().reshape(1, 1),
            "layers.0.bias": (g1 * ones).sum().reshape(1),
            "layers.1.weight": (g2 * x2).sum().reshape(1, 1),
            "layers.1.bias": (g2 * ones).sum().reshape(1),
            "readout.weight": (d * s2[..., None]).sum((0, 1)).reshape(2, 1),
            "readout.bias": d.sum((0, 1)),
        }


# Each helper writes out both steps; arrays are [2 steps, 2 samples]. With one step, the loss gradient of step 1 is zero, which
# removes all of its terms.


def _neuron(current: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    u_0 = current[0]
    s_0 = 1.0 * (u_0 >= _THRESHOLD)
    u_1 = _LAM * (u_0 - _THRESHOLD * s_0) + current[1]
    s_1 = 1.0 * (u_1 >= _THRESHOLD)
    return np.stack([s_0, s_1]), np.stack([u_0, u_1])


def _surrogate(u: NDArray[np.float64]) -> NDArray[np.float64]:
    return _SHARPNESS / (2 * np.cosh(_SHARPNESS * (u - _THRESHOLD) / 2)) ** 2


def _trace(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([v[0], v[1] + _LAM * v[0]])


def _adjoint(gs: NDArray[np.float64], phi: NDArray[np.float64], detached: bool) -> NDArray[np.float64]:
    gu_1 = phi[1] * gs[1]
    through_reset = 0.0 if detached else _LAM * _THRESHOLD * gu_1
    return np.stack([phi[0] * (gs[0] - through_reset) + _LAM * gu_1, gu_1])


def _loss_gradient(o: NDArray[np.float64], loss: Loss, steps: int) -> NDArray[np.float64]:
    """dL/do of the mixture of cross-entropy and squared error, [2, 2 samples, 2 classes]."""
    hot = np.eye(2)[_LABELS]
    target = hot if loss.target == "one_hot" else np.ones_like(hot)
    softmax = np.exp(o) / np.exp(o).sum(-1, keepdims=True)
    samples, entries = 2, 4
    a = loss.mse_weight
    d: NDArray[np.float64] = ((1 - a) * (softmax - hot) / samples + a * 2 * (o - target) / entries) / steps
    d[steps:] = 0.0
    return d


CHAIN_PROBLEMS = (
    ChainProblem("one step: all engines agree", 1),
    ChainProblem("two steps, reset detached", 2),
    ChainProblem("two steps, reset attached", 2, detach_reset=False),
)


@dataclass(frozen=True)
class SpikeCountProblem:
    """A neuron under a constant current from rest: it spikes ``count`` times in ``steps`` steps, first at step ``first``.

    Without leak and with reset by subtraction the charge is conserved: count = floor(steps I / Vth) for I <= Vth. With reset to
    zero the period is ceil(Vth / I). With a leak the membrane before the first spike is I (1 - lam^(t+1)) / (1 - lam), so
    that currents below (1 - lam) Vth never fire. All values are dyadic, so the counts hold in any float format.
    """

    name: str
    neuron: LIF
    current: float
    steps: int
    count: int
    first: int | None


def _conserving(current: float, threshold: float, steps: int) -> SpikeCountProblem:
    first = math.ceil(threshold / current) - 1
    return SpikeCountProblem(
        f"IF, I={current}, Vth={threshold}", IF(threshold), current, steps, math.floor(steps * current / threshold), first
    )


def _hard(current: float, threshold: float, steps: int) -> SpikeCountProblem:
    period = math.ceil(threshold / current)
    neuron = IF(threshold, reset="zero")
    return SpikeCountProblem(f"IF to zero, I={current}, Vth={threshold}", neuron, current, steps, steps // period, period - 1)


SPIKE_COUNT_PROBLEMS = (
    _conserving(0.375, 1.0, 20),
    _conserving(0.25, 1.0, 16),  # every spike is a tie of membrane and threshold
    _conserving(1.0, 1.0, 7),
    _conserving(0.75, 2.5, 30),
    _hard(0.375, 1.0, 20),
    _hard(0.25, 1.0, 16),
    SpikeCountProblem("LIF below its rheobase", LIF(leak=0.5), 0.4375, 40, 0, None),
    # u = .75, 1.125 (fires, .125 stays), .8125, 1.15625 (.15625 stays), .828125, 1.1640625, ...: every second step
    SpikeCountProblem("LIF every second step", LIF(leak=0.5), 0.75, 12, 6, 1),
    # reset to zero: u = .75, 1.125 -> 0, .75, 1.125 -> 0
    SpikeCountProblem("LIF to zero every second step", LIF(leak=0.5, reset="zero"), 0.75, 12, 6, 1),
)
