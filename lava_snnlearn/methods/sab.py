"""Sparse attentive backtracking: credit over long delays through a few remembered states, not through every step between.

The recurrent chain is cut every k_trunc steps (h[t] detached), as in truncated backpropagation through time; the gradient also
flows into the memories that attention selected, and from each of them back to the cut before it. With k_top = 0 it *is*
truncated backpropagation; without cuts, and with all memories selected, it is the exact gradient of the network.

Source: N. R. Ke et al., "Sparse attentive backtracking: temporal credit assignment through reminding", NeurIPS 2018, section
3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lava_snnlearn.checks import at_least, instance_of, tensor
from lava_snnlearn.methods.base import Loss, check_loss
from lava_snnlearn.networks.attentive import AttentiveNetwork


class SequenceResult(NamedTuple):
    """What one batch of sequences gave. ``loss``: float. ``outputs``: readout of every step, detached [T, B, classes].
    ``spike_rate``: spikes per neuron and step, float."""

    loss: float
    outputs: Tensor
    spike_rate: float


@dataclass(frozen=True)
class SAB:
    """Sparse attentive backtracking, for :class:`~lava_snnlearn.networks.attentive.AttentiveNetwork`.

    k_top and k_att, on which the forward pass depends too, are the network's. Published: k_top 5 to 10, k_att 2, k_trunc 5 to
    10, Adam at 1e-3, gradients clipped to norm 1.

    Args:
        k_trunc: steps between cuts of the recurrent chain; None cuts nowhere.
        loss: of one step; averaged over the chosen steps.

    Raises:
        ValueError: k_trunc < 1. TypeError: k_trunc not whole, loss not callable.
    """

    k_trunc: int | None = 5
    loss: Callable[[Tensor, Tensor], Tensor] = field(default_factory=lambda: Loss(mse_weight=0.0))
    name = "sab"
    optimiser_every = "batch"

    def __post_init__(self) -> None:
        if self.k_trunc is not None:
            at_least(1, "k_trunc", self.k_trunc)
        check_loss(self.loss)

    def gradients(self, network: AttentiveNetwork, x: Tensor, y: Tensor, mask: Tensor | None = None) -> SequenceResult:
        """Add dL/dparameters to ``.grad``.

        Args:
            network: the network.
            x: [T, B, inputs] floating point.
            y: int64 [T, B], the class at each step; ignored where the mask is False.
            mask: bool [T], the steps that count; None: all.

        Raises:
            ValueError: shapes, dtypes or classes that do not fit, or no step chosen.
            TypeError: a network of another kind, or an argument that is no tensor.
        """
        instance_of("network", network, AttentiveNetwork, "sparse attentive backtracking needs an AttentiveNetwork")
        tensor("input", x)
        if mask is None:
            mask = torch.ones(len(x), dtype=torch.bool, device=x.device)
        _check_targets(x, y, mask, network.classes)
        run = network.simulate(x, self.k_trunc)
        loss = self.loss(run.outputs[mask].flatten(0, 1), y[mask].flatten())
        loss.backward()
        return SequenceResult(loss.item(), run.outputs.detach(), float(run.spikes.mean()))


def _check_targets(x: Tensor, y: Tensor, mask: Tensor, classes: int) -> None:
    tensor("labels", y)
    tensor("mask", mask)
    if y.dtype != torch.int64 or y.shape != x.shape[:2]:
        raise ValueError(
            f"labels have shape {tuple(y.shape)} and dtype {y.dtype}; expected int64 {list(x.shape[:2])}, one a step and sample"
        )
    if mask.dtype != torch.bool or mask.shape != x.shape[:1]:
        raise ValueError(f"mask has shape {tuple(mask.shape)} and dtype {mask.dtype}; expected bool [{len(x)}], one a step")
    if not bool(mask.any()):
        raise ValueError("mask chooses no step; set at least one to True, or pass None for all")
    counted = y[mask]
    if counted.numel() and (int(counted.min()) < 0 or int(counted.max()) >= classes):
        raise ValueError(
            f"labels reach from {int(counted.min())} to {int(counted.max())} in the chosen steps; "
            f"this network has classes 0..{classes - 1}"
        )
