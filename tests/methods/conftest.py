"""What the tests of the methods share: small random tasks, and gradients written out in numpy."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from lava_snnlearn.methods import Loss, Method, StepResult
from lava_snnlearn.networks import Network, mlp
from lava_snnlearn.neurons import LIF, Rectangle, Sigmoid, Surrogate

Gradients = dict[str, np.ndarray]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


class Task(NamedTuple):
    network: Network
    x: Tensor
    y: Tensor


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """A random network [7, 9, 8, 6, 4], float64, with biases, and a batch of 5 new random frames at every step."""

    def make(
        *,
        norm: str = "none",
        steps: int = 6,
        neuron: LIF | None = None,
        hidden: tuple[int, ...] = (9, 8, 6),
        seed: int = 0,
        static: bool = False,
        **options: float,
    ) -> Task:
        torch.manual_seed(seed)
        network = mlp([7, *hidden, 4], neuron, norm=norm, steps=steps, **options).double()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(std=0.3)
            network.readout.weight.normal_(std=0.5)
        x = torch.randn(5, 7, dtype=torch.float64) if static else torch.randn(steps, 5, 7, dtype=torch.float64)
        return Task(network, 1.5 * x, torch.randint(0, 4, (5,)))

    return make


@dataclass(frozen=True)
class Filled:
    """What a call of ``gradients`` left behind."""

    result: StepResult
    grads: Gradients

    def distance(self, other: Gradients) -> float:
        """Largest absolute difference over all parameters."""
        assert set(self.grads) == set(other)
        return max(float(np.abs(self.grads[name] - other[name]).max()) for name in other)


@pytest.fixture
def fill() -> Callable[..., Filled]:
    """Run a method on a task from empty gradients."""

    def run(method: Method, task: Task, seed: int = 0) -> Filled:
        task.network.zero_grad()
        torch.manual_seed(seed)
        result = method.gradients(task.network, task.x, task.y)
        grads = {name: p.grad.numpy().copy() for name, p in task.network.named_parameters() if p.grad is not None}
        return Filled(result, grads)

    return run


@dataclass(frozen=True)
class _Layer:
    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class _Forward:
    """Arrays [T, B, n]: what enters each layer and the readout, potentials before reset, readout."""

    inputs: list[np.ndarray]
    charged: list[np.ndarray]
    outputs: np.ndarray


def _phi(surrogate: Surrogate, x: np.ndarray) -> np.ndarray:
    a = surrogate.a
    if isinstance(surrogate, Sigmoid):
        return a * np.exp(-a * x) / (1 + np.exp(-a * x)) ** 2
    if isinstance(surrogate, Rectangle):
        return np.where(np.abs(x) <= a / 2, 1 / a, 0.0)
    return np.maximum(0.0, a - a * a * np.abs(x))


def _forward(layers: list[_Layer], readout: _Layer, neuron: LIF, x: np.ndarray) -> _Forward:
    lam, inputs, charged = 1 - neuron.leak, [x], []
    for layer in layers:
        steps, batch = x.shape[:2]
        v = np.zeros((batch, len(layer.bias)))
        spikes, potentials = [], []
        for t in range(steps):
            u = lam * v + inputs[-1][t] @ layer.weight.T + layer.bias
            s = (u >= neuron.threshold).astype(float)
            v = u - neuron.threshold * s if neuron.reset == "subtract" else u * (1 - s)
            spikes.append(s)
            potentials.append(u)
        inputs.append(np.stack(spikes))
        charged.append(np.stack(potentials))
    return _Forward(inputs, charged, inputs[-1] @ readout.weight.T + readout.bias)


def _loss_gradient(outputs: np.ndarray, y: np.ndarray, loss: Loss) -> np.ndarray:
    steps, batch, classes = outputs.shape
    hot = np.eye(classes)[y]
    target = hot if loss.target == "one_hot" else np.ones_like(hot)
    raised = np.exp(outputs - outputs.max(-1, keepdims=True))
    cross_entropy = (raised / raised.sum(-1, keepdims=True) - hot) / batch
    squared = 2 * (outputs - target) / (batch * classes)
    return ((1 - loss.mse_weight) * cross_entropy + loss.mse_weight * squared) / steps


def _leaked_sum(values: np.ndarray, lam: float) -> np.ndarray:
    sums, total = [], np.zeros_like(values[0])
    for now in values:
        total = lam * total + now
        sums.append(total)
    return np.stack(sums)


def _through_time(gs: np.ndarray, u: np.ndarray, neuron: LIF) -> np.ndarray:
    """gu[t] from gs[t]: the adjoint recursion of BPTT."""
    lam, later, gu = 1 - neuron.leak, np.zeros_like(gs[0]), np.zeros_like(gs)
    for t in reversed(range(len(gs))):
        phi = _phi(neuron.surrogate, u[t] - neuron.threshold)
        s = (u[t] >= neuron.threshold).astype(float)
        if neuron.reset == "subtract":
            by_membrane, by_spike = 1.0, -neuron.threshold
        else:
            by_membrane, by_spike = 1 - s, -u[t]
        through_reset = 0.0 if neuron.detach_reset else lam * by_spike * later
        later = phi * (gs[t] + through_reset) + lam * by_membrane * later
        gu[t] = later
    return gu


def _weight_gradient(g: np.ndarray, operand: np.ndarray) -> np.ndarray:
    return sum(g[t].T @ operand[t] for t in range(len(g)))


def numpy_gradients(
    task: Task,
    engine: str,
    loss: Loss | None = None,
    *,
    first_layer: bool = True,
    readout: bool = False,
    bias: bool = True,
    steps: Collection[int] | None = None,
) -> Gradients:
    """Gradients of engine "full", "instant" or "trace" without autograd, for networks with norm "none".

    first_layer, readout, bias: where the trace engine uses traces. steps: those with a backward (instant engine).
    """
    network = task.network
    modules = [_Layer(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in [*network.spiking_layers, network.readout]]
    neuron = network.spiking_layers[0].neuron
    lam = 1 - neuron.leak
    x = task.x.numpy() if task.x.dim() == 3 else np.repeat(task.x.numpy()[None], network.steps, axis=0)
    run = _forward(modules[:-1], modules[-1], neuron, x)
    d = _loss_gradient(run.outputs, task.y.numpy(), loss if loss is not None else Loss())
    if steps is not None:
        d = d * np.isin(np.arange(len(d)), list(steps))[:, None, None]
    operand = _leaked_sum(run.inputs[-1], lam) if readout else run.inputs[-1]
    found = {"readout.weight": _weight_gradient(d, operand), "readout.bias": d.sum((0, 1))}
    gs = d @ modules[-1].weight
    for index in reversed(range(len(modules) - 1)):
        u = run.charged[index]
        g = _through_time(gs, u, neuron) if engine == "full" else _phi(neuron.surrogate, u - neuron.threshold) * gs
        traced = engine == "trace" and (index > 0 or first_layer)
        operand = _leaked_sum(run.inputs[index], lam) if traced else run.inputs[index]
        gain = _leaked_sum(np.ones(len(g)), lam) if engine == "trace" and bias else np.ones(len(g))
        found[f"layers.{index}.weight"] = _weight_gradient(g, operand)
        found[f"layers.{index}.bias"] = (gain[:, None, None] * g).sum((0, 1))
        gs = g @ modules[index].weight
    return found


@pytest.fixture
def reference() -> Callable[..., Gradients]:
    """:func:`numpy_gradients`."""
    return numpy_gradients
