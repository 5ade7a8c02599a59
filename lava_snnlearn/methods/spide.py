"""SPIDE: both phases in spikes (Xiao et al. 2023, Neural Networks, doi 10.1016/j.neunet.2023.01.026, arXiv 2302.00232).

Forward as in IDE, with neurons that reset to -V. Backward: *ternary* neurons under the injected current S g,

    u <- u + W^T (m s') / Delta + S g;      s = +1 (u >= V_B), -1 (u <= -V_B);      u <- u - Delta_B s;      s' = Delta_B s

with Delta_B = 2 V_B, whose mean output over T_B steps settles at S times the adjoint beta (ide_spide spec, 2.3); it is clamped
to +-Delta_B, and what is below Delta_B / (2 T_B) is not seen. Weights change by products of two counts of spikes (2.4).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lava_snnlearn.checks import at_least, known_name, positive, real_number
from lava_snnlearn.methods.base import Loss, Preset, StepResult, check_loss
from lava_snnlearn.methods.equilibrium import MASKS, Adjoint, Errors, run_equilibrium
from lava_snnlearn.methods.norm_limit import check_limit, project
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.feedback import FeedbackLIF

_FILL = 0.5
"""The automatic gain lets the largest injected current of a sample lie between half of this and this, times Delta_B: with
feedback of at most half of Delta, hardly an adjoint then exceeds Delta_B."""
_LARGEST_EXPONENT = 100
"""Of the automatic gain: samples without a gradient, which a sure answer has in float32, get this one."""


class BackwardPhase(NamedTuple):
    """``adjoints``: mean of Delta_B s over T_B, one [B, *shape] a layer (S times the adjoint). ``counts``: sums of s."""

    adjoints: Errors
    counts: Errors


@dataclass(frozen=True)
class SPIDE:
    """Spike-based implicit differentiation, for networks of :func:`~lava_snnlearn.networks.feedback_net`.

    Args:
        steps_backward: T_B.
        gain: s_eff, the factor S on the gradient of one sample (the published S belongs to losses averaged over batches of 128:
            s_eff = S / 128). None: a power of two for each sample, by its largest gradient.
        threshold_backward: V_B; only S g / (2 V_B) matters.
        reset_backward: U_r of the ternary neurons; None is -V_B.
        loss: of the readout of the mean rates, once a sample; the readout is trained in real numbers.
        norm_limit, norm_kind: bound on the feedback weight; see :class:`~lava_snnlearn.methods.ide.IDE`.
        mask: "rate" (published), or "preact".

    Each epoch's table has the share of a sample's active backward neurons that spiked in every step and that never did, and the
    median of their counts (at least 2 is wanted), all as means over the samples.

    Raises:
        ValueError: a value out of range. TypeError: one of another type. UnknownNameError: an unknown mask or norm_kind.
    """

    steps_backward: int = 100
    gain: float | None = None
    threshold_backward: float = 0.5
    reset_backward: float | None = None
    loss: Loss = field(default_factory=lambda: Loss(mse_weight=0.0))
    norm_limit: float | None = 1.0
    norm_kind: str = "spectral"
    mask: str = "rate"
    name = "spide"
    engine = "equilibrium"
    optimiser_every = "batch"

    def __post_init__(self) -> None:
        at_least(1, "steps_backward", self.steps_backward)
        check_loss(self.loss)
        check_limit(self.norm_limit, self.norm_kind)
        known_name("mask", self.mask, MASKS)
        for name, value in (("gain", 1.0 if self.gain is None else self.gain), ("threshold_backward", self.threshold_backward)):
            positive(name, value)
        if self.reset_backward is not None:
            real_number("reset_backward", self.reset_backward)
            if not -math.inf < self.reset_backward < self.threshold_backward:
                raise ValueError(
                    f"reset_backward is {self.reset_backward}; it must lie below threshold_backward = {self.threshold_backward}"
                )

    @property
    def delta_backward(self) -> float:
        """Delta_B, what a ternary spike subtracts and is worth."""
        reset = -self.threshold_backward if self.reset_backward is None else self.reset_backward
        return self.threshold_backward - reset

    @property
    def preset(self) -> Preset:
        """IF neurons with V = 1 and U_r = -1, no norm, T = 30 (published learning rates: 0.05 and 0.1)."""
        return Preset(neuron=FeedbackLIF(firing=0.5), norm="none", steps=30, learning_rate=0.1, feedback=True)

    def constrain(self, network: Network) -> None:
        """Bring the feedback's norm back to its limit."""
        project(network, self.norm_limit, self.norm_kind)

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add the gradient from two phases of spikes to ``.grad``. x: [B, n] or [T, B, n] float; y: int64 [B]. ``on_step`` is
        not used.

        Raises:
            ValueError: a network that is no chain of feedback neurons; samples or labels that do not fit.
        """

        def solve(adjoint: Adjoint, gradient: Tensor) -> tuple[Errors, dict[str, float]]:
            samples = len(gradient)
            per_sample = gradient * samples
            gain = self._gains(per_sample)
            phase = self.backward_phase(adjoint, per_sample * gain)
            scale = 1 / (gain * samples)
            errors = [adjoint.derivative(index, beta * _scale_like(scale, beta)) for index, beta in enumerate(phase.adjoints)]
            return errors, self._figures(adjoint, phase.counts)

        return run_equilibrium(network, x, y, self.loss, self.mask, solve)

    def _gains(self, gradient: Tensor) -> Tensor:
        """One factor a sample, [B, 1, ...]."""
        shape = (-1, *[1] * (gradient.dim() - 1))
        if self.gain is not None:
            return gradient.new_full((len(gradient),), self.gain).view(shape)
        largest = gradient.flatten(1).abs().amax(1)
        exponent = torch.floor(math.log2(_FILL * self.delta_backward) - torch.log2(largest))
        return torch.exp2(exponent.clamp(max=_LARGEST_EXPONENT)).view(shape)

    @torch.no_grad()
    def backward_phase(self, adjoint: Adjoint, injected: Tensor) -> BackwardPhase:
        """Simulate the ternary neurons of all layers from rest under the current ``injected`` = S g [B, *shape of the last].

        Feedback runs from the first layer to the last, and takes as many steps as in the forward phase.
        """
        lam = 1 - adjoint.network.readout.leak
        height, last = self.delta_backward, len(adjoint.rates) - 1
        membranes = [torch.zeros_like(rate) for rate in adjoint.rates]
        sums = [torch.zeros_like(rate) for rate in adjoint.rates]
        counts = [torch.zeros_like(rate) for rate in adjoint.rates]
        on_the_way: deque[Tensor] = deque([torch.zeros_like(injected)] * adjoint.network.feedback_delay)
        for _ in range(self.steps_backward):
            arriving = injected + on_the_way.popleft()
            for index in range(last, -1, -1):
                charged = membranes[index] + arriving
                spike = (charged >= self.threshold_backward).to(charged) - (charged <= -self.threshold_backward).to(charged)
                membranes[index] = lam * (charged - height * spike)
                sums[index] = lam * sums[index] + height * spike
                counts[index] += spike
                arriving = adjoint.back(index, adjoint.derivative(index, height * spike))
            on_the_way.append(arriving)
        norm = self.steps_backward if lam == 1 else (1 - lam**self.steps_backward) / (1 - lam)
        return BackwardPhase([total / norm for total in sums], counts)

    def _figures(self, adjoint: Adjoint, counts: Errors) -> dict[str, float]:
        """Means over samples, so that several processes add up to the same as one."""
        active = _joined(adjoint.masks) > 0
        size = _joined(counts).abs().where(active, torch.nan)
        number = active.sum(1).clamp(min=1)
        return {
            "saturated": float(((size >= self.steps_backward).sum(1) / number).double().mean()),
            "dead_zone": float(((size == 0).sum(1) / number).double().mean()),
            "median_count": float(size.nanmedian(1).values.nan_to_num(0.0).double().mean()),
        }


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Values of all layers side by side, [B, n]."""
    return torch.cat([part.flatten(1) for part in parts], 1)


def _scale_like(scale: Tensor, values: Tensor) -> Tensor:
    """One factor a sample [B, 1, ...], in the dimensions of ``values``."""
    return scale.view(-1, *[1] * (values.dim() - 1))
