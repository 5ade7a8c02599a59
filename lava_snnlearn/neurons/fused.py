"""All time steps of a population in one call, forward and backward.

The equations are those of :mod:`lava_snnlearn.neurons.lif`. What runs them is chosen in :mod:`lava_snnlearn.neurons.backends`:
compiled kernels, or the plain torch loop over :func:`lava_snnlearn.neurons.lif.step`. Both give the same spikes, and gradients
that differ by less than 1e-6 of their maximum in float32, 1e-12 in float64.

Backward, from gs[t] = dL/ds[t] and w[t] = dL/dv[t] (w[T-1] arrives from outside), with phi' at u[t] - Vth:

    gradient="full"      gu[t] = phi' (gs[t] + w[t] dv/ds) + w[t] dv/du,   w[t-1] = lam gu[t]        (online_and_bptt spec, 0.1)
                         dv/du = 1 (subtract) or 1 - s (zero);  dv/ds = 0 (detached), -Vth (subtract) or -u (zero)
    gradient="instant"   gu[t] = phi' gs[t]                                                          (SLTT, OTTT; spec, 1.1)
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lava_snnlearn.checks import flag, known_name, real_number
from lava_snnlearn.neurons.backends import kernels_for
from lava_snnlearn.neurons.inputs import Dynamics, as_rows, by_step, dynamics_of, extent, row_copy, same_kind, threshold_of
from lava_snnlearn.neurons.lif import LIF, step

GRADIENTS = ("full", "instant")


class Integration(NamedTuple):
    """Result of :func:`integrate`.

    spike: [T, B, ...], 0 or 1, in the dtype of the current. membrane: [B, ...], v after the last step; detached with
    gradient="instant". trace: [T, B, ...], detached; None unless asked for. charged: u [T, B, ...], detached; None where it was
    not kept for a backward of the kernels.
    """

    spike: Tensor
    membrane: Tensor
    trace: Tensor | None
    charged: Tensor | None = None


def integrate(
    neuron: LIF,
    current: Tensor,
    membrane: Tensor | None = None,
    *,
    steps: int | None = None,
    gradient: str = "full",
    time_weights: Tensor | None = None,
    trace_lam: float | None = None,
    trace: Tensor | None = None,
    threshold: float | None = None,
    donate: bool = False,
    once: bool = False,
) -> Integration:
    """Run ``neuron`` through all time steps of ``current``; differentiable with respect to ``current`` (and ``membrane``).

    Args:
        neuron: the population's parameters.
        current: I[t], floating point, [T, B, ...]; with ``steps`` a static current [B, ...], the same at every step.
        membrane: v before the first step, [B, ...]; None is rest (0).
        steps: T of a static current.
        gradient: "full" (BPTT: through membrane and, unless detached, reset) or "instant" (no path through time).
        time_weights: w[T], only for a static current and gradient="instant": its gradient is sum_t w[t] g[t],
            not sum_t g[t].
        trace_lam: also return the presynaptic trace a[t] = trace_lam a[t-1] + s[t].
        trace: a before the first step, [B, ...]; None is 0.
        threshold: stands in for ``neuron.threshold`` (a trained one). It gets no gradient.
        once: the graph will be walked back once only (no ``retain_graph``): an instant gradient may then take u's memory.
        donate: nobody else reads ``current``, and its memory may be overwritten with u, which saves [T, B, ...] numbers.

    Raises:
        TypeError: no tensor, no floating-point dtype, a number or flag of another type.
        ValueError: no time step, shapes, dtypes or devices that do not fit, options that do not go together, or a backend that
            was chosen by name and cannot run this.
        UnknownNameError: an unknown ``gradient``.
    """
    length, shape = extent(current, steps)
    known_name("gradient", gradient, GRADIENTS)
    flag("donate", donate)
    flag("once", once)
    same_kind("membrane", membrane, shape, current)
    same_kind("trace", trace, shape, current)
    if trace_lam is not None:
        real_number("trace_lam", trace_lam)
    elif trace is not None:
        raise ValueError("trace is given, but trace_lam is not; pass the factor of the trace, e.g. trace_lam=neuron.lam")
    if time_weights is not None:
        if steps is None or gradient != "instant":
            raise ValueError(
                'time_weights needs a static current (steps=T) and gradient="instant"; scale the gradients otherwise'
            )
        same_kind("time_weights", time_weights, (length,), current)
    level = threshold_of(neuron, threshold)
    kernels = kernels_for(current, neuron.surrogate)
    if kernels is None:
        return _loop(neuron, level, by_step(current, steps), membrane, gradient, time_weights, trace_lam, trace)
    plan = _Plan(
        kernels=kernels,
        dynamics=dynamics_of(neuron, level, trace_lam),
        length=length,
        shape=shape,
        static=steps is not None,
        full=gradient == "full",
        time_weights=time_weights,
        traced=trace_lam is not None,
        trace=trace,
        donate=donate,
        once=once,
    )
    through_time = plan.full and membrane is not None and membrane.requires_grad
    if torch.is_grad_enabled() and (current.requires_grad or through_time):
        return Integration(*_Integrate.apply(current, membrane, plan))
    return _forward(plan, as_rows(current, length, steps), membrane, None)


def leaky_sum(signal: Tensor, lam: float, previous: Tensor | None = None, *, steps: int | None = None) -> Tensor:
    """a[t] = lam a[t-1] + signal[t], [T, B, ...]; no gradient.

    ``signal`` is [T, B, ...], or with ``steps`` = T one [B, ...] for every step; ``previous`` [B, ...] is a[-1] (None: 0).

    Raises:
        TypeError, ValueError: as :func:`integrate`.
    """
    length, shape = extent(signal, steps, "signal")
    real_number("lam", lam)
    same_kind("previous", previous, shape, signal)
    kernels = kernels_for(signal)
    before = signal.new_zeros(shape) if previous is None else previous.detach()
    if kernels is not None and hasattr(kernels, "leaky_sum"):
        total = kernels.empty((length, *shape), signal)
        kernels.leaky_sum(as_rows(total, length), as_rows(signal, length, steps), before.reshape(-1).contiguous(), lam)
        return total
    total = signal.new_empty((length, *shape))
    for t, now in enumerate(by_step(signal.detach(), steps)):
        before = torch.add(lam * before, now, out=total[t])
    return total


@dataclass(frozen=True)
class _Plan:
    """One call of :func:`integrate`, as its backward needs it again. ``shape`` is [B, ...]."""

    kernels: ModuleType
    dynamics: Dynamics
    length: int
    shape: tuple[int, ...]
    static: bool
    full: bool
    time_weights: Tensor | None
    traced: bool
    trace: Tensor | None
    donate: bool
    once: bool

    @property
    def shape_in_time(self) -> tuple[int, ...]:
        return (self.length, *self.shape)


def _forward(plan: _Plan, current: Tensor, membrane: Tensor | None, charged: Tensor | None) -> Integration:
    """Run the kernel; ``charged`` [T, N] receives u (it may be ``current``)."""
    neurons = current.shape[-1]
    spike = plan.kernels.empty((plan.length, neurons), current)
    after = _state(membrane, current)
    trace = plan.kernels.empty((plan.length, neurons), current) if plan.traced else None
    previous = _state(plan.trace, current) if plan.traced else None
    plan.kernels.forward(plan.dynamics, current, after, spike, charged, trace, previous)
    return Integration(
        spike.view(plan.shape_in_time), after.view(plan.shape), None if trace is None else trace.view(plan.shape_in_time)
    )


def _state(values: Tensor | None, rows: Tensor) -> Tensor:
    """``values`` [B, ...] (None: zeros) as [N], to be written to by a kernel on ``rows`` [T, N]."""
    return rows.new_zeros(rows.shape[-1]) if values is None else row_copy(values)


class _Integrate(torch.autograd.Function):
    """The kernels as one node of the graph, which keeps nothing but u."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, membrane: Tensor | None, plan: _Plan) -> tuple[Tensor | None, ...]:
        rows = as_rows(current, plan.length, plan.length if plan.static else None)
        own = rows.data_ptr() != current.data_ptr()  # a copy made here, which nobody else can read
        reusable = len(rows) == plan.length and (own or plan.donate) and not plan.static
        charged = rows if reusable else plan.kernels.empty((plan.length, rows.shape[-1]), rows)
        result = _forward(plan, rows, membrane, charged)
        ctx.save_for_backward(charged)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        kept = charged.view(plan.shape_in_time)
        fixed = [value for value in (None if plan.full else result.membrane, result.trace, kept) if value is not None]
        ctx.mark_non_differentiable(*fixed)
        return result.spike, result.membrane, result.trace, kept

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_spike: Tensor | None, grad_membrane: Tensor | None, *_: None
    ) -> tuple[Tensor, Tensor | None, None]:
        (charged,) = ctx.saved_tensors
        plan: _Plan = ctx.plan
        arriving = charged.new_zeros((1, charged.shape[-1])) if grad_spike is None else as_rows(grad_spike, plan.length)
        # A gradient of a single row is a sum, which starts at 0 before u has been read.
        reuse = plan.once and not plan.full and not plan.static and plan.length > 1
        rows = 1 if plan.static else plan.length
        grad = charged if reuse else plan.kernels.empty((rows, charged.shape[-1]), charged)
        before = None
        if plan.full:
            later = _state(grad_membrane, charged)
            plan.kernels.backward_full(plan.dynamics, charged, arriving, grad, later)
            before = later.view(plan.shape) if ctx.needs_input_grad[1] else None
        else:
            weights = charged.new_ones(plan.length) if plan.time_weights is None else plan.time_weights.contiguous()
            plan.kernels.backward_instant(plan.dynamics, charged, arriving, grad, weights)
        return grad.view(plan.shape if plan.static else plan.shape_in_time), before, None


def _loop(
    neuron: LIF,
    threshold: float,
    currents: tuple[Tensor, ...],
    membrane: Tensor | None,
    gradient: str,
    time_weights: Tensor | None,
    trace_lam: float | None,
    trace: Tensor | None,
) -> Integration:
    """The same in plain torch, step by step."""
    spikes, traces = [], []
    for t, now in enumerate(currents):
        if gradient == "instant" and membrane is not None:
            membrane = membrane.detach()
        if time_weights is not None and now.requires_grad:
            now = now.view_as(now)
            now.register_hook(lambda grad, weight=time_weights[t]: grad * weight)
        state = step(neuron, membrane, now, threshold)
        membrane = state.membrane
        spikes.append(state.spike)
        if trace_lam is not None:
            trace = state.spike.detach() if trace is None else trace_lam * trace.detach() + state.spike.detach()
            traces.append(trace)
    assert membrane is not None
    last = membrane.detach() if gradient == "instant" else membrane
    return Integration(torch.stack(spikes), last, torch.stack(traces) if traces else None)
