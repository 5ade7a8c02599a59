"""V9: BPTT against finite differences of a smooth twin, in which every spike is the surrogate's primitive."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from lava_snnlearn.methods import BPTT, Loss
from lava_snnlearn.neurons import LIF, Sigmoid, Surrogate, Triangle

STEP = 1e-5
TOLERANCE = 1e-6


class _SmoothSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, inner):
        ctx.save_for_backward(x)
        ctx.inner = inner
        return inner.primitive(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * ctx.inner(x), None


@dataclass(frozen=True)
class Smooth(Surrogate):
    """Spikes by the primitive, differentiates by phi': the library's backward, in a network that has a true gradient."""

    inner: Surrogate = field(default_factory=Sigmoid)

    def spike(self, x: torch.Tensor) -> torch.Tensor:
        return _SmoothSpike.apply(x, self.inner)


def sigmoid_primitive(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-4.0 * x))


def triangle_primitive(x: np.ndarray) -> np.ndarray:
    rising, falling = (1 + x) ** 2 / 2, 1 - (1 - x) ** 2 / 2
    return np.where(x <= -1, 0.0, np.where(x <= 0, rising, np.where(x <= 1, falling, 1.0)))


@dataclass
class SmoothTwin:
    """The smooth network in numpy. With ``frozen``, resets are made by those spikes, so that no gradient goes through them."""

    neuron: LIF
    primitive: Callable[[np.ndarray], np.ndarray]
    frozen: list[np.ndarray] | None = None

    def loss(self, parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[float, list[np.ndarray]]:
        signal, spikes = x, []
        for index in range(0, len(parameters) - 2, 2):
            weight, bias = parameters[index : index + 2]
            v, out = np.zeros((x.shape[1], len(bias))), []
            for t in range(len(x)):
                u = (1 - self.neuron.leak) * v + signal[t] @ weight.T + bias
                s = self.primitive(u - self.neuron.threshold)
                cut = s if self.frozen is None else self.frozen[index // 2][t]
                v = u - self.neuron.threshold * cut if self.neuron.reset == "subtract" else u * (1 - cut)
                out.append(s)
            signal = np.stack(out)
            spikes.append(signal)
        o = signal @ parameters[-2].T + parameters[-1]
        log_p = o - np.log(np.exp(o).sum(-1, keepdims=True))
        hot = np.eye(o.shape[-1])[y]
        cross_entropy = -(log_p * hot).sum(-1).mean()
        return 0.8 * cross_entropy + 0.2 * ((o - hot) ** 2).mean(), spikes


SURROGATES = {"sigmoid": (Sigmoid(), sigmoid_primitive), "triangle": (Triangle(), triangle_primitive)}


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("kind", SURROGATES)
def test_bptt_is_the_gradient_of_the_smooth_twin(make_task, fill, kind, detach, reset):
    inner, primitive = SURROGATES[kind]
    neuron = LIF(leak=0.4, threshold=0.9, reset=reset, detach_reset=detach)
    task = make_task(hidden=(5, 4), steps=4, neuron=dataclasses.replace(neuron, surrogate=Smooth(inner=inner)))
    found = fill(BPTT(loss=Loss(0.2)), task)

    values = [p.detach().numpy().copy() for p in task.network.parameters()]
    x, y = task.x.numpy(), task.y.numpy()
    loss, spikes = SmoothTwin(neuron, primitive).loss(values, x, y)
    assert found.result.loss == pytest.approx(loss, rel=1e-12)
    twin = SmoothTwin(neuron, primitive, spikes if detach else None)
    for index, (name, _) in enumerate(task.network.named_parameters()):
        slope = np.zeros_like(values[index])
        for place in np.ndindex(slope.shape):
            around = []
            for sign in (1, -1):
                moved = [value.copy() for value in values]
                moved[index][place] += sign * STEP
                around.append(twin.loss(moved, x, y)[0])
            slope[place] = (around[0] - around[1]) / (2 * STEP)
        assert np.abs(slope).max() > 1e-4
        np.testing.assert_allclose(found.grads[name], slope, rtol=0, atol=TOLERANCE)


def test_attached_and_detached_reset_differ(make_task, fill):
    neuron = LIF(leak=0.4, threshold=0.9)
    attached, detached = (
        fill(BPTT(), make_task(neuron=dataclasses.replace(neuron, detach_reset=detach))) for detach in (False, True)
    )
    assert attached.distance(detached.grads) > 1e-3
