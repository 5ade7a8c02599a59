"""The *rate* engine: all steps forward without a graph, then one backward through a network of rates.

In the spiking pass every population keeps weighted means over time: of its spikes (the rate r), of its current, and of its
slope e, the derivative of its mean spike by a constant current (online_and_bptt spec, 4.1). The rate pass goes once through the
same layers with rates as signals,

    c^l = norm(W^l r^(l-1) + b^l),    value r^l,    gradient dr^l/dc^l = e^l  (rate-BP)  or  a clamp's  (DSR)

so that neither the backward's time nor the memory depends on T. Batch norms have the values of the spiking pass's statistics
and the gradient of the rate batch's (straight through).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lava_snnlearn.methods.base import StepResult, check_batch, refuse_delays
from lava_snnlearn.networks.layers import Neurons, Readout
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.norms import BatchNorm, Statistics
from lava_snnlearn.networks.synapse import Synapse
from lava_snnlearn.networks.walk import Walk
from lava_snnlearn.neurons.rates import RateState, rate_integrate

Fire = Callable[[Neurons, Tensor, "RateWalk"], Tensor]
"""(population, its rate current [B, ...], the spiking walk) -> its rate, with the method's gradient."""


def run_rate(
    network: Network,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    chunk: int | None,
    weights: Tensor,
    fire: Fire,
) -> StepResult:
    """Add the gradient of the loss of the mean readout to ``.grad``.

    Args:
        network, x, y: as in :meth:`lava_snnlearn.methods.base.Method.gradients`.
        loss: of the mean readout, once.
        chunk: steps per piece of the spiking pass (None: by the size of network and batch); with batch norm over time, that
            pass takes all steps at once.
        weights: [T], summing to 1: what a step counts in every mean.
        fire: the neurons' part of the rate pass.

    Raises:
        ValueError: recurrent networks, networks with delays, samples or labels that do not fit.
    """
    signal = check_batch(network, x, y)
    if network.feedback is not None or any(population.recurrent is not None for population in network.populations):
        raise ValueError(
            "rate-based methods have no gradient for recurrent connections; train this network with BPTT, SLTT or OTTT"
        )
    refuse_delays(network, "rates do not depend on delays, which would learn nothing")
    with torch.no_grad():
        walk = RateWalk(network, signal, weights.to(signal.device, signal.dtype))
        answer = walk.collect(None if network.needs_all_steps else walk.length_of_piece(chunk))
    outputs = _RatePass(network, walk, fire).outputs
    value = loss(outputs, y)
    value.backward()
    return StepResult(value.item(), answer, walk.spike_rate())


class RateWalk(Walk):
    """The spiking pass: keeps weighted sums over time, and the statistics of batch norms."""

    def __init__(self, network: Network, signal: Tensor, weights: Tensor) -> None:
        super().__init__(network, signal, leaves=True)
        self.weights = weights
        self.rates: dict[nn.Module, RateState] = {}
        self.statistics: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self.mean_input: Tensor | None = None

    def advance(self, length: int) -> Tensor:
        """As in Walk; the mean input grows by this piece."""
        if not self.static:
            now = self.signal[self.elapsed : self.elapsed + length]
            mean = torch.tensordot(self._piece_weights(length), now, 1)
            self.mean_input = mean if self.mean_input is None else self.mean_input + mean
        return super().advance(length)

    @property
    def frame(self) -> Tensor:
        """Weighted mean over time of the input [B, *input shape]."""
        if self.mean_input is None:
            return self.signal[0]
        return self.mean_input

    def _piece_weights(self, length: int) -> Tensor:
        return self.weights[self.elapsed : self.elapsed + length]

    def normalise(self, population: Neurons, current: Tensor) -> Tensor:
        """As in Walk; means over time of each step's mean and reciprocal deviation are kept."""
        norm = population.batch_norm
        if norm is not None and norm.training:
            assert isinstance(population, nn.Module)
            pieces = [current.flatten(0, 1)] if population.norm_name == "bn_time" else list(current.unbind(0))
            share = self.length / self.steps / len(pieces)
            for piece in pieces:
                mean, variance = norm.statistics(piece)
                found = (share * mean, share * torch.rsqrt(variance + norm.eps))
                before = self.statistics.get(population)
                self.statistics[population] = found if before is None else (before[0] + found[0], before[1] + found[1])
        return super().normalise(population, current)

    def _integrate(self, population: Neurons, current: Tensor, threshold: float, steps: int | None, donate: bool) -> Tensor:
        assert isinstance(population, nn.Module)
        state = self.rates.get(population)
        spikes, self.rates[population] = rate_integrate(
            population.neuron,
            current,
            state,
            self._piece_weights(self.length),
            steps=steps,
            threshold=threshold,
            membrane=self.membranes.get(population) if state is None else None,
        )
        return spikes


class _RatePass:
    """One walk through the layers with rates as signals [1, B, *shape]."""

    def __init__(self, network: Network, walk: RateWalk, fire: Fire) -> None:
        self.walk, self._fire = walk, fire
        self.outputs: Tensor = network.respond(walk.frame.unsqueeze(0), self)[0]

    def synapse(self, synapse: Synapse, signal: Tensor) -> Tensor:
        return synapse.current(signal)

    def normalise(self, population: Neurons, current: Tensor) -> Tensor:
        norm = population.batch_norm
        if norm is None:
            return current
        if not norm.training:
            return norm(current)
        assert isinstance(population, nn.Module)
        return _straight_through(norm, current[0], *self.walk.statistics[population]).unsqueeze(0)

    def fire(self, population: Neurons, current: Tensor, fresh: bool = False) -> Tensor:
        assert isinstance(population, nn.Module)
        rate = self._fire(population, current[0], self.walk)
        mask = self.walk.masks[population]
        return (rate if mask is None else rate * mask).unsqueeze(0)

    def read(self, readout: Readout, signal: Tensor) -> Tensor:
        return readout(signal)


def _straight_through(norm: BatchNorm, current: Tensor, mean: Tensor, reciprocal: Tensor) -> Tensor:
    """Batch norm with the values of these statistics and the gradient through those of the rate batch."""
    found: Statistics = norm.statistics(current)
    centre = mean + (found.mean - found.mean.detach())
    scale = norm.weight * torch.rsqrt(reciprocal**-2 + (found.variance - found.variance.detach()))
    shape = (1, -1, *[1] * (current.dim() - 2))
    return (current - centre.view(shape)) * scale.view(shape) + norm.bias.view(shape)


class StraightThrough(torch.autograd.Function):
    """Value of a rate, gradient slope * (gradient of the rate) for the current."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, rate: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return rate.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None, None
