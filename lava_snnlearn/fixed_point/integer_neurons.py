"""The chip's neurons inside of torch: values from the emulator's integer step, gradients of the neurons they stand for.

Forward, in integers of 1/64 weight unit, by :mod:`lava_snnlearn.fixed_point.arithmetic`. Backward as in
:mod:`lava_snnlearn.neurons.fused`, at u[t] = lam v[t-1] + I[t] (which the chip rounds to 1/64 unit) and at the spikes that
were sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_UNIT, NeuronStep, soft_reset_step, zero_reset_step
from lava_snnlearn.fixed_point.population import UNFILTERED, Population
from lava_snnlearn.neurons.lif import LIF


@dataclass(frozen=True)
class IntegerNeurons:
    """Neurons of one population, for currents in real units.

    Args:
        population: in integers, bias included.
        included: float64 [n], the part of the bias that currents hold already; the integer step adds the bias itself.
        missing: float64 [n], the part that they do not hold.
    """

    population: Population
    included: NDArray[np.float64]
    missing: NDArray[np.float64]

    @property
    def unit(self) -> float:
        """Weight units of one real unit."""
        return 2.0**self.population.scale_bits

    def integers(self, current: Tensor) -> NDArray[np.int64]:
        """Synaptic input [M, B, n] in weight units, rounded half up, as the host does; synaptic sums are whole as they come."""
        return np.floor((_rows(current) - self.included) * self.unit + 0.5).astype(np.int64)

    def charged(self, current: Tensor, before: Tensor | None, lam: float) -> Tensor:
        """u = lam v + I [M, B, *shape] for currents and the membranes before them (None: at rest)."""
        whole = current + torch.from_numpy(self.missing).to(current).view(current.shape[2:])
        return whole if before is None else whole + lam * before

    def run(self, current: NDArray[np.int64], membrane: NDArray[np.int64], steps: int, keep: bool) -> _States:
        """All steps for input [steps or 1, B, n] in weight units, from membranes [B, n] in 1/64 unit."""
        advance = _stepper(self.population)
        spikes = np.empty((steps, *membrane.shape), np.bool_)
        before = np.empty(spikes.shape, np.int32) if keep else None
        for t in range(steps):
            if before is not None:
                before[t] = membrane
            spikes[t], membrane, _ = advance(membrane, current[t if len(current) > 1 else 0])
        return _States(spikes, membrane, before)


@dataclass(frozen=True)
class _States:
    """Spikes [T, B, n], membranes after the last step [B, n], and (if kept) those before each step [T, B, n]."""

    spikes: NDArray[np.bool_]
    last: NDArray[np.int64]
    before: NDArray[np.int32] | None


@dataclass(frozen=True)
class _Call:
    neurons: IntegerNeurons
    neuron: LIF
    steps: int | None
    full: bool
    time_weights: Tensor | None
    dtype: torch.dtype


def integrate_integers(
    neurons: IntegerNeurons,
    neuron: LIF,
    current: Tensor,
    membrane: Tensor | None,
    *,
    steps: int | None,
    gradient: str,
    time_weights: Tensor | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Spikes [T, B, *shape] and membranes after the last step [B, *shape], real units, of ``dtype``.

    ``neuron`` has the population's leak, threshold and reset in real units, and the surrogate. The other arguments are those of
    :func:`lava_snnlearn.neurons.fused.integrate`.
    """
    call = _Call(neurons, neuron, steps, gradient == "full", time_weights, dtype)
    result: tuple[Tensor, Tensor] = _Integrate.apply(current, membrane, call)
    return result


class _Integrate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, membrane: Tensor | None, call: _Call) -> tuple[Tensor, Tensor]:
        neurons, static = call.neurons, call.steps is not None
        whole = current.unsqueeze(0) if static else current
        fine = neurons.unit * MEMBRANE_UNIT
        integers = neurons.integers(whole)
        shape = integers.shape[1:]
        start = np.full(shape, neurons.population.v_init, np.int64)
        if membrane is not None:
            start = np.rint(_rows(membrane.unsqueeze(0))[0] * fine).astype(np.int64)
        found = neurons.run(integers, start, call.steps or len(whole), keep=any(ctx.needs_input_grad))

        def real(values: NDArray[Any], unit: float) -> Tensor:
            scaled = torch.from_numpy(values).to(call.dtype).div_(unit).to(current.device)
            return scaled.view(*values.shape[:-1], *whole.shape[2:])

        spike, last = real(found.spikes, 1.0), real(found.last, fine)
        ctx.call = call
        ctx.set_materialize_grads(False)
        if found.before is not None:
            charged = neurons.charged(whole, real(found.before, fine), call.neuron.lam)
            ctx.save_for_backward(charged.to(call.dtype), spike)
            ctx.current_dtype = current.dtype
        if not call.full:
            ctx.mark_non_differentiable(last)
        return spike, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spike: Tensor | None, grad_membrane: Tensor | None) -> tuple[Tensor, Tensor | None, None]:
        charged, spike = ctx.saved_tensors
        call: _Call = ctx.call
        arriving = torch.zeros_like(charged) if grad_spike is None else grad_spike
        neuron = call.neuron
        slope = neuron.surrogate(charged - neuron.threshold)
        before = None
        if call.full:
            grad, before = _through_time(neuron, charged, spike, slope, arriving, grad_membrane)
        else:
            grad = slope * arriving
            if call.time_weights is not None:
                grad = grad * call.time_weights.view(-1, *[1] * (grad.dim() - 1))
        grad = grad.sum(0) if call.steps is not None else grad
        return grad.to(ctx.current_dtype), before if ctx.needs_input_grad[1] else None, None


def _through_time(
    neuron: LIF, charged: Tensor, spike: Tensor, slope: Tensor, arriving: Tensor, later: Tensor | None
) -> tuple[Tensor, Tensor]:
    """dL/dI[t] for all t, and dL/dv before the first step; equations in :mod:`lava_snnlearn.neurons.fused`."""
    grad = torch.empty_like(charged)
    adjoint = torch.zeros_like(charged[0]) if later is None else later
    hard = neuron.reset == "zero"
    for t in range(len(charged) - 1, -1, -1):
        through_spike = arriving[t]
        if not neuron.detach_reset:
            through_spike = through_spike - adjoint * (charged[t] if hard else neuron.threshold)
        grad[t] = slope[t] * through_spike + (adjoint * (1 - spike[t]) if hard else adjoint)
        adjoint = neuron.lam * grad[t]
    return grad, adjoint


def _rows(values: Tensor) -> NDArray[np.float64]:
    """[M, B, *shape] as float64 [M, B, n]."""
    return values.detach().flatten(2).double().cpu().numpy()


def _stepper(population: Population) -> Callable[[NDArray[Any], NDArray[Any]], NeuronStep]:
    """The integer step (membrane, current) -> NeuronStep of a population whose membrane is its whole state."""
    assert population.kind not in ("graded", "relay")
    bias = population.bias
    if population.kind == "lif":
        assert population.du == UNFILTERED
        return lambda v, a: zero_reset_step(v, a, dv=population.dv, bias=bias, vth=population.vth)
    delta = population.delta if population.spiking else 0
    assert delta is not None
    return lambda v, a: soft_reset_step(v, a, dv=population.dv, bias=bias, vth=population.vth, delta=delta)
