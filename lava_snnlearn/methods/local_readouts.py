"""Local readouts: a linear classifier on the spikes of a population, trained beside the network and kept in its memory.

Local learning gives deep networks errors that do not have to come from far (OPZO, arXiv 2407.12516; grsnn_hlop_opzo_msg spec,
3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lava_snnlearn import distributed
from lava_snnlearn.methods.base import loss_over_time
from lava_snnlearn.networks.network import Network


class LocalError(NamedTuple):
    """``outputs`` and ``errors`` dL/do [T, B, classes] of a local readout; ``signals`` dL/ds [T, B, n]."""

    outputs: Tensor
    errors: Tensor
    signals: Tensor


class LocalReadouts:
    """The local readouts of one batch; those of the network's memory, ``<prefix>.weight.<population>`` and ``.bias``.

    They start at 0 and take steps of plain gradient descent.

    Args:
        network: whose memory and populations. prefix: of the keys. chosen: numbers of the populations.
        loss: of a readout at one step. rate: learning rate.
    """

    def __init__(
        self, network: Network, prefix: str, chosen: Sequence[int], loss: Callable[[Tensor, Tensor], Tensor], rate: float
    ) -> None:
        self.memory, self.loss, self.rate, self.steps = network.memory, loss, rate, network.steps
        self.keys = {index: (f"{prefix}.weight.{index}", f"{prefix}.bias.{index}") for index in chosen}
        self.gathered: dict[str, Tensor] = {}
        like = network.like
        for index, (weight, bias) in self.keys.items():
            shape = (network.classes, network.populations[index].outputs)
            for key, size in ((weight, shape), (bias, shape[:1])):
                self.memory[key] = self.memory.get(key, torch.zeros(size)).to(like.device, like.dtype)

    def errors(self, index: int, spikes: Tensor, y: Tensor) -> LocalError:
        """What the readout of a population makes of its spikes [T, B, n]; its gradient is gathered for :meth:`step`."""
        weight_key, bias_key = self.keys[index]
        weight = self.memory[weight_key]
        with torch.enable_grad():
            outputs = (spikes @ weight.t() + self.memory[bias_key]).requires_grad_()
            (errors,) = torch.autograd.grad(loss_over_time(self.loss, outputs, y) / self.steps, outputs)
        rows = errors.flatten(0, 1)
        for key, gradient in ((weight_key, rows.t() @ spikes.flatten(0, 1)), (bias_key, rows.sum(0))):
            self.gathered[key] = self.gathered[key] + gradient if key in self.gathered else gradient
        return LocalError(outputs.detach(), errors, errors @ weight)

    def step(self) -> None:
        """Take a step down the gradients gathered since the last one, those of all processes."""
        for key, gradient in zip(self.gathered, distributed.join_means(list(self.gathered.values())), strict=True):
            self.memory[key] = self.memory[key] - self.rate * gradient
        self.gathered = {}
