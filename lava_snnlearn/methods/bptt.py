"""Backpropagation through time with surrogate gradients: the *full* engine, baseline of all other methods.

Adjoint recursion (online_and_bptt spec, 0.1), with gs = dL/ds and gu = dL/du::

    gu[t] = phi'(u[t]) (gs[t] - [reset attached] lam Vth gu[t+1]) + lam gu[t+1]
    dL/dW = sum_t gu[t] s_pre[t]^T

Memory grows linearly with T. Sources: Werbos 1990; Neftci, Mostafa and Zenke 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lava_snnlearn.checks import known_name
from lava_snnlearn.methods.base import Loss, Preset, StepResult, check_batch, check_loss
from lava_snnlearn.networks.network import Network

REDUCTIONS = ("per_step", "mean_logit")


@dataclass(frozen=True)
class BPTT:
    """Full backpropagation through time.

    Args:
        loss: per-step loss.
        reduction: "per_step" averages the loss of every step over T (as the online methods do); "mean_logit" takes the loss
            of the readout's mean over T, which is at most as large (convexity).

    Whether the reset carries gradient is a property of the neuron: ``LIF(detach_reset=False)`` attaches it.

    Raises:
        UnknownNameError: an unknown reduction. TypeError: loss is not callable.
    """

    loss: Loss = field(default_factory=Loss)
    reduction: str = "per_step"
    name = "bptt"
    optimiser_every = "batch"

    def __post_init__(self) -> None:
        known_name("loss reduction", self.reduction, REDUCTIONS)
        check_loss(self.loss)

    @property
    def engine(self) -> str | None:
        """ "full": the exact gradient of the per-step loss; None for the mean logit, which is another loss."""
        return "full" if self.reduction == "per_step" else None

    @property
    def preset(self) -> Preset:
        """leak 0.5, sigmoid surrogate, scaled weight standardisation, T = 6."""
        return Preset()

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add dL/dparameters to ``.grad``. x: [B, n] or [T, B, n] float; y: int64 [B]. ``on_step`` is not used."""
        result = network.simulate(check_batch(network, x, y))
        outputs = result.outputs
        if self.reduction == "mean_logit":
            loss = self.loss(outputs.mean(0), y)
        else:
            loss = torch.stack([self.loss(now, y) for now in outputs.unbind(0)]).mean()
        loss.backward()
        with torch.no_grad():
            spikes = torch.stack([state.spike.sum() for state in result.layers]).sum()
            neurons = sum(state.spike.numel() for state in result.layers)
        return StepResult(loss.item(), outputs.detach().sum(0), float(spikes) / neurons)
