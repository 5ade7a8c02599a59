"""DSR: differentiation on spike representation (Meng et al., CVPR 2022): the *rate* engine with a clamp's gradient.

The (weighted) mean output of a neuron is about a clamp of its (weighted) mean input (their eqs. 7, 10):

    IF    a  ~ clamp(Ibar, 0, Vth)                LIF   a^ ~ clamp(Ibar / tau, 0, Vth / dt)

so one backward through clamps at the network's own mean inputs, with weight gradients (G mask) abar^T, is the gradient.
Thresholds are trained: dL/dVth sums G where the clamp is at its top. No surrogate, no recursion over time, memory flat in T.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lava_snnlearn.checks import flag, known_name
from lava_snnlearn.methods.base import Loss, Preset, StepResult, check_loss, check_spiking
from lava_snnlearn.methods.online_engine import check_chunk
from lava_snnlearn.methods.rate_engine import RateWalk, run_rate
from lava_snnlearn.networks.layers import Neurons
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.dsr import DSRIF, DSRLIF, DSRNeuron


@dataclass(frozen=True)
class DSR:
    """Differentiation on spike representation, for networks of :class:`~lava_snnlearn.neurons.dsr.DSRIF` or ``DSRLIF`` neurons.

    Args:
        neuron: "if" or "lif": which neuron the preset has (the gradient goes by the network's own).
        loss: of the (weighted) mean readout over time, once a sample.
        official: the published code's scale of the LIF's gradients: dL/dVth is multiplied by dt instead of 1/dt, and the last
            layer's G carries the factor T sum w_t^2.
        chunk: time steps per matrix product of the forward; None chooses by the size of network and batch. It sets memory and
            speed, not the result; with norm "bn_time" the forward takes all steps at once.

    Raises:
        UnknownNameError: an unknown neuron. ValueError: chunk < 1. TypeError: a value of another type.
    """

    neuron: str = "if"
    loss: Loss = field(default_factory=lambda: Loss(mse_weight=0.0))
    official: bool = False
    chunk: int | None = None
    name = "dsr"
    engine = "clamp"
    optimiser_every = "batch"

    def __post_init__(self) -> None:
        known_name("DSR neuron", self.neuron, ("if", "lif"))
        check_loss(self.loss)
        flag("official", self.official)
        check_chunk(self.chunk)

    @property
    def preset(self) -> Preset:
        """IF with Vth 6 and alpha 0.5, or LIF with Vth 0.3 and alpha 0.3; batch norm over time, T = 20."""
        neuron = DSRIF() if self.neuron == "if" else DSRLIF()
        return Preset(neuron=neuron, norm="bn_time", steps=20)

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add DSR's gradient to ``.grad``. x: [B, n] or [T, B, n] float; y: int64 [B]. ``on_step`` is not used.

        Thresholds below the neuron's bound are raised to it first.

        Raises:
            ValueError: neurons that are not DSR's, or of which some leak otherwise than others.
        """
        check_spiking(network)
        weights = _weights(network)
        last = network.populations[-1]

        def fire(population: Neurons, current: Tensor, walk: RateWalk) -> Tensor:
            extra = float(network.steps * (weights**2).sum()) if self.official and population is last else 1.0
            return _fire(population, current, walk, self.official, extra)

        _raise_thresholds(network)
        return run_rate(network, x, y, self.loss, self.chunk, weights, fire)


def _weights(network: Network) -> Tensor:
    """w_t, uniform for IF and proportional to exp(-(T-1-t) dt/tau) for LIF neurons; they sum to 1."""
    neurons = [population.neuron for population in network.populations]
    wrong = next((neuron for neuron in neurons if not isinstance(neuron, DSRNeuron)), None)
    if wrong is not None:
        raise ValueError(f"DSR trains networks of DSRIF or DSRLIF neurons, not of {wrong}; see snn.methods.DSR().preset.neuron")
    lams = {neuron.lam for neuron in neurons}
    if len(lams) > 1:
        raise ValueError(f"DSR weighs time by the neurons' leak, which must be the same in all layers; found {sorted(lams)}")
    weights = lams.pop() ** torch.arange(network.steps - 1, -1, -1, dtype=torch.float64)
    return weights / weights.sum()


@torch.no_grad()
def _raise_thresholds(network: Network) -> None:
    for population in network.populations:
        population.threshold.clamp_(min=population.neuron.bound)


def _fire(population: Neurons, current: Tensor, walk: RateWalk, official: bool, extra: float) -> Tensor:
    """The population's mean output, with the gradient of the clamp at its mean input."""
    assert isinstance(population, nn.Module)
    assert population.threshold is not None
    neuron, sums = population.neuron, walk.rates[population].sums
    threshold = float(population.threshold.detach())
    drive = neuron.drive(threshold)
    mean_input = sums.current / drive.gain - drive.bias
    if isinstance(neuron, DSRLIF):
        top, slope = threshold * neuron.tau / neuron.dt, 1 / neuron.tau
        by_threshold = neuron.dt if official else 1 / neuron.dt
    else:
        top, slope, by_threshold = threshold, 1.0, 1.0
    inside = ((mean_input >= 0) & (mean_input <= top)).to(current.dtype)
    above = (mean_input > top).to(current.dtype)
    rate = sums.spike * drive.amplitude
    result: Tensor = _Clamp.apply(current, population.threshold, rate, extra * slope * inside, extra * by_threshold * above)
    return result


class _Clamp(torch.autograd.Function):
    """Value of a rate; gradients for the current and for the threshold by these factors."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, threshold: Tensor, rate: Tensor, inside: Tensor, above: Tensor) -> Tensor:
        ctx.save_for_backward(inside, above)
        return rate.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        inside, above = ctx.saved_tensors
        return grad * inside, (grad * above).sum(), None, None, None
