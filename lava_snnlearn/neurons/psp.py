"""Postsynaptic potentials of delayed spikes, and what a spike train gives the gradient of its delay.

A neuron with the current I <- a I + kappa x and the membrane u <- a u + I, a = exp(-1/tau), kappa = e/tau, answers one unit of
input at step 0 with the alpha function

    eps(k) = kappa (k + 1) a^k                 eps'(k) = kappa (1 - (k + 1)/tau) a^k,      k = 0, 1, ... steps later.

A spike train s that arrives d steps late gives u(t) = sum_i s[i] eps(t - d - i). Its derivative by d can be written on the side
of the message, before the filter: a signal whose filtered value is du/dd (:func:`exact_slope`), or as the published rule, which
takes the filtered derivative itself and multiplies it by the gradient of the unfiltered message (:func:`published_trace`).

Source: M. Xiao et al., "Temporal spiking neural networks with synaptic delay for graph reasoning", ICML 2024 (GRSNN);
grsnn spec, sections 1.2 and 1.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lava_snnlearn.checks import positive, tensor


def decay_factor(tau: float) -> float:
    """a = exp(-1/tau), the share of a current or membrane that is left after one step; ``tau`` in steps."""
    positive("tau", tau)
    return math.exp(-1 / tau)


def input_gain(tau: float) -> float:
    """kappa = e/tau, with which the alpha function peaks at 1 (between the steps tau - 2 and tau)."""
    positive("tau", tau)
    return math.e / tau


def psp(k: Tensor, tau: float) -> Tensor:
    """eps(k): membrane ``k`` steps (real numbers, any shape) after one unit of input; 0 before it has arrived (k <= -1)."""
    value = input_gain(tau) * (k + 1) * decay_factor(tau) ** k
    return torch.where(k > -1, value, torch.zeros_like(value))


def psp_slope(k: Tensor, tau: float) -> Tensor:
    """eps'(k), the derivative of :func:`psp`; 0 for k <= -1."""
    value = input_gain(tau) * (1 - (k + 1) / tau) * decay_factor(tau) ** k
    return torch.where(k > -1, value, torch.zeros_like(value))


def exact_slope(spikes: Tensor, tau: float) -> Tensor:
    """te[n] = -((1 - 1/tau) s[n] - a s[n-1]): the derivative by its delay of a spike train, before the filter eps.

    Filtered by eps it is the derivative of sum_i s[i] eps(t - d - i) over the spikes that have arrived by t, at a whole delay
    d; the reset of the neuron that receives them is ignored. It needs two steps only.

    Args:
        spikes: s, floating point [T, ...], time first.
        tau: time constant of current and membrane, in steps.

    Returns:
        [T, ...], to be delayed as the spikes are.

    Raises:
        TypeError: no floating-point tensor. ValueError: no time axis, or tau not finite and > 0.
    """
    _spike_train(spikes)
    a = decay_factor(tau)
    slope = (1 / tau - 1) * spikes
    slope[1:] += a * spikes[:-1]
    return slope


def published_trace(spikes: Tensor, tau: float) -> Tensor:
    """tr[n] = -sum_{i <= n} s[i] eps'(n - i): the published rule of the delay's gradient.

    By the recursion P <- a P + s, Q <- a (Q + P_old), tr = -kappa ((1 - 1/tau) P - Q/tau).

    Args:
        spikes: s, floating point [T, ...], time first.
        tau: time constant of current and membrane, in steps.

    Returns:
        [T, ...], to be delayed as the spikes are.

    Raises:
        TypeError: no floating-point tensor. ValueError: no time axis, or tau not finite and > 0.
    """
    return continued_trace(spikes, tau)[0]


def continued_trace(spikes: Tensor, tau: float, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """:func:`published_trace` of a part of a spike train, from the state [2, ...] (P and Q) behind the part before it.

    ``state`` None is the start of a train. Returns the trace [T, ...] and the state behind it [2, ...]; raises as
    :func:`published_trace`.
    """
    _spike_train(spikes)
    a, kappa = decay_factor(tau), input_gain(tau)
    trace = torch.empty_like(spikes)
    p, q = torch.zeros_like(spikes[:1]).expand(2, *spikes.shape[1:]) if state is None else state
    for n, now in enumerate(spikes):
        p, q = a * p + now, a * (q + p)
        trace[n] = -kappa * ((1 - 1 / tau) * p - q / tau)
    return trace, torch.stack([p, q])


def _spike_train(spikes: Tensor) -> None:
    tensor("spikes", spikes)
    if not spikes.is_floating_point():
        raise TypeError(f"spikes have dtype {spikes.dtype}; pass floating point, e.g. spikes.float()")
    if spikes.dim() < 1 or not len(spikes):
        raise ValueError(f"spikes have shape {list(spikes.shape)}; expected [T, ...] with at least one time step")
