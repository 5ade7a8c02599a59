"""Rate-based backpropagation (Yu et al., NeurIPS 2024): the *rate* engine with surrogate slopes.

Forward all steps without a graph; each population keeps its rate r and e = mean of phi'(u[t]) k[t], the exact derivative of its
mean spike by a constant current, with k[0] = 1 and k[t+1] = 1 + lam k[t] (reset detached). One backward through c = W r + b
with dr/dc = e. Kept of BPTT: the spatial chain and the mean gain of a neuron over time. Dropped: all covariance over time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lava_snnlearn.checks import real_number
from lava_snnlearn.methods.base import Loss, Preset, StepResult, check_loss
from lava_snnlearn.methods.online_engine import check_chunk
from lava_snnlearn.methods.rate_engine import RateWalk, StraightThrough, run_rate
from lava_snnlearn.networks.layers import Neurons
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.lif import LIF


@dataclass(frozen=True)
class RateBP:
    """Rate-based backpropagation.

    Args:
        loss: of the mean readout over time, once a sample.
        grad_scale: factor on the gradient (the published trainer for CIFAR uses 1/T).
        chunk: time steps per matrix product of the forward; None chooses by the size of network and batch. It sets memory and
            speed, not the result; with norm "bn_time" the forward takes all steps at once.

    Raises:
        ValueError: chunk < 1, grad_scale not finite. TypeError: a value of another type.
    """

    loss: Loss = field(default_factory=lambda: Loss(mse_weight=0.0))
    grad_scale: float = 1.0
    chunk: int | None = None
    name = "rate_bp"
    engine = "rate"
    optimiser_every = "batch"

    def __post_init__(self) -> None:
        check_loss(self.loss)
        real_number("grad_scale", self.grad_scale)
        if not abs(self.grad_scale) < float("inf"):
            raise ValueError(f"grad_scale is {self.grad_scale}; it must be finite")
        check_chunk(self.chunk)

    @property
    def preset(self) -> Preset:
        """lam 0.2 (tau 1.25), sigmoid surrogate, batch norm over time, T = 4."""
        return Preset(neuron=LIF(leak=0.8), norm="bn_time", steps=4)

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add the rate gradient to ``.grad``. x: [B, n] or [T, B, n] float; y: int64 [B]. ``on_step`` is not used."""
        weights = torch.full((network.steps,), 1 / network.steps, dtype=torch.float64)

        def loss(outputs: Tensor, labels: Tensor) -> Tensor:
            value = self.loss(outputs, labels)
            if self.grad_scale == 1.0:
                return value
            return value.detach() + self.grad_scale * (value - value.detach())

        return run_rate(network, x, y, loss, self.chunk, weights, _fire)


def _fire(population: Neurons, current: Tensor, walk: RateWalk) -> Tensor:
    """The population's rate, worth of a spike included; derivative by the current: its mean slope."""
    assert isinstance(population, nn.Module)
    state = walk.rates[population]
    if population.neuron.trains_threshold:
        raise ValueError("RateBP takes neurons with a fixed threshold (LIF, IF); use the method DSR with DSR's neurons")
    result: Tensor = StraightThrough.apply(current, state.sums.spike, state.sums.slope)
    return result
