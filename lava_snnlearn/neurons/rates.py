"""The forward pass of the rate-based methods: spikes of all time steps without a graph, and the sums that their backward needs.

Source: rate-based backpropagation (Yu et al. 2024); online_and_bptt spec, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lava_snnlearn.checks import instance_of
from lava_snnlearn.neurons.backends import kernels_for
from lava_snnlearn.neurons.inputs import as_rows, by_step, dynamics_of, extent, row_copy, same_kind, threshold_of
from lava_snnlearn.neurons.lif import LIF, step


@dataclass(frozen=True)
class RateSums:
    """Sums over the time steps so far, [B, ...] each: w[t] s[t], w[t] phi'(u[t] - Vth) k[t], w[t] I[t]."""

    spike: Tensor
    slope: Tensor
    current: Tensor


@dataclass(frozen=True)
class RateState:
    """Where a run stands between two chunks of time.

    v: [B, ...], the membrane. k: [B, ...], du[t]/dI at the next step for a current I that is constant in time; one number for
    all neurons with a detached soft reset. sums: what :func:`rate_integrate` has added up.
    """

    v: Tensor
    k: Tensor | float
    sums: RateSums


@torch.no_grad()
def rate_integrate(
    neuron: LIF,
    current: Tensor,
    state: RateState | None,
    weights: Tensor,
    *,
    steps: int | None = None,
    threshold: float | None = None,
    membrane: Tensor | None = None,
) -> tuple[Tensor, RateState]:
    """Spikes [T, B, ...] of a chunk of time steps, and the state after it; no gradient. Chunks add up to what one call gives.

        k[0] = 1;   k[t+1] = 1 + lam k[t] g[t],   g = 1 (subtract, detached), 1 - Vth phi' (subtract),
                                                      1 - s (zero, detached), 1 - s - u phi' (zero)

    Args:
        current: I[t], [T, B, ...]; with ``steps`` a static current [B, ...].
        state: as the previous chunk left it; None at the first chunk.
        weights: w[t] of this chunk's steps, [T].
        threshold: stands in for ``neuron.threshold``.
        membrane: v before the first step of the first chunk, [B, ...] (None: 0).

    Raises:
        TypeError, ValueError: as :func:`lava_snnlearn.neurons.integrate`; both ``state`` and ``membrane``.
    """
    length, shape = extent(current, steps)
    same_kind("weights", weights, (length,), current)
    same_kind("membrane", membrane, shape, current)
    level = threshold_of(neuron, threshold)
    uniform = neuron.reset == "subtract" and bool(neuron.detach_reset)
    if state is None:
        rest = current.new_zeros(shape) if membrane is None else membrane
        state = RateState(rest, 1.0 if uniform else current.new_ones(shape), RateSums(*current.new_zeros((3, *shape))))
    else:
        _check(state, shape, current, uniform)
        if membrane is not None:
            raise ValueError("both state and membrane are given; the state holds the membrane, leave membrane out")
    kernels = kernels_for(current, neuron.surrogate)
    if kernels is None or not hasattr(kernels, "rate"):
        return _loop(neuron, level, by_step(current, steps), state, weights)
    v, sums = row_copy(state.v), torch.stack([total.reshape(-1) for total in _parts(state.sums)])
    k = state.k if isinstance(state.k, float) else row_copy(state.k)
    spike = kernels.empty((length, *shape), current)
    k = kernels.rate(
        dynamics_of(neuron, level), as_rows(current, length, steps), v, as_rows(spike, length), k, sums, weights.contiguous()
    )
    return spike, RateState(v.view(shape), k if isinstance(k, float) else k.view(shape), RateSums(*sums.view(3, *shape)))


def _parts(sums: RateSums) -> tuple[Tensor, Tensor, Tensor]:
    return sums.spike, sums.slope, sums.current


def _check(state: RateState, shape: tuple[int, ...], current: Tensor, uniform: bool) -> None:
    instance_of("state", state, RateState, "pass what the previous call of rate_integrate returned, or None")
    for name, value in (("state.v", state.v), *zip(("spike", "slope", "current"), _parts(state.sums), strict=True)):
        same_kind(name, value, shape, current)
    if isinstance(state.k, float) != uniform:
        raise ValueError(
            "state belongs to a neuron with another reset or detach_reset; go on with the neuron that it began with"
        )
    if not isinstance(state.k, float):
        same_kind("state.k", state.k, shape, current)


def _loop(
    neuron: LIF, threshold: float, currents: tuple[Tensor, ...], state: RateState, weights: Tensor
) -> tuple[Tensor, RateState]:
    """The same in plain torch, step by step."""
    v, k, spikes = state.v, state.k, []
    spike, slope, current = _parts(state.sums)
    for weight, now in zip(weights, currents, strict=True):
        fired, charged, v = step(neuron, v, now, threshold)
        phi = neuron.surrogate(charged - threshold)
        spike, slope, current = spike + weight * fired, slope + weight * (phi * k), current + weight * now
        kept: Tensor | float = 1.0 if neuron.reset == "subtract" else 1 - fired
        if not neuron.detach_reset:
            kept = kept - phi * (threshold if neuron.reset == "subtract" else charged)
        k = 1 + neuron.lam * k * kept
        spikes.append(fired)
    return torch.stack(spikes), RateState(v, k, RateSums(spike, slope, current))
