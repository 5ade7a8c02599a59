"""What a training method is: a rule that fills gradients, the loss it minimises, and the settings it was published with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lava_snnlearn.checks import instance_of, known_name, real_number, shown, tensor
from lava_snnlearn.networks.classifier import Classifier
from lava_snnlearn.networks.delays import delays_of
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.lif import LIF

TARGETS = ("one_hot", "ones")


class StepResult(NamedTuple):
    """What one batch gave. ``loss``: float. ``outputs``: readout summed over time, detached [B, classes]. ``spike_rate``:
    spikes per neuron and step, float. ``diagnostics``: further means over the batch's samples, which the Trainer logs."""

    loss: float
    outputs: Tensor
    spike_rate: float
    diagnostics: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Preset:
    """Settings of the network that a method was published with. ``feedback``: whether it is a feedback network. ``energy``:
    whether it is an energy network, which takes data of [0, 1] and has neither ``neuron`` nor ``norm``."""

    neuron: LIF = field(default_factory=LIF)
    norm: str = "sws"
    steps: int = 6
    learning_rate: float = 0.1
    feedback: bool = False
    energy: bool = False


class Method(Protocol):
    """A training method.

    ``optimiser_every`` is "batch" (the optimiser steps once after :meth:`gradients`) or "step" (the method calls ``on_step``
    after each time step, and there the optimiser steps).

    A method may also have an attribute ``engine``: the one of ``lava_snnlearn.testing.problems.ENGINES`` whose closed forms its
    gradients equal, or another name or None if there is none; ``lava_snnlearn.testing.check_method`` then holds it to them.
    One with a true attribute ``perturbs`` adds noise to its forward pass in training mode, so that its outputs there are not
    those of the network's own.
    A method with a function ``constrain(network)`` keeps weights within bounds: it is called before the first batch and after
    each step of the optimiser. One with ``check_optimiser(optimiser, weight_decay)`` raises there for an optimiser of the
    Trainer that does not suit it.

    A method for sequences of tasks may have ``begin_task(network, task)``, called with the task's number (from 0) before it is
    trained, and ``end_task(network, x)``, called with its training samples afterwards; and ``check_tasks(network, tasks)``,
    which raises before the first of so many tasks where it cannot learn them all.
    """

    @property
    def name(self) -> str:
        """Name in the registry and on the command line."""

    @property
    def optimiser_every(self) -> str:
        """ "batch" or "step"."""

    @property
    def preset(self) -> Preset:
        """Published network settings."""

    def gradients(self, network: Any, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        """Add the gradient of the loss on (x, y) to ``.grad`` of the network's parameters. network: a
        :class:`~lava_snnlearn.networks.classifier.Classifier` of the kind that the method trains."""


@dataclass(frozen=True)
class Loss:
    """L[t] = (1/T) ((1 - a) CE(o[t], y) + a MSE(o[t], target)), the MSE averaged over batch and classes.

    Args:
        mse_weight: a in [0, 1]; OTTT and SLTT use 0.05 on CIFAR.
        target: "one_hot" (OTTT), or "ones": the constant 1 in every class, a regulariser (SLTT's official code).

    Raises:
        ValueError: mse_weight outside [0, 1]. TypeError: it is no number.
        UnknownNameError: an unknown target.
    """

    mse_weight: float = 0.05
    target: str = "one_hot"

    def __post_init__(self) -> None:
        real_number("mse_weight", self.mse_weight)
        if not (math.isfinite(self.mse_weight) and 0 <= self.mse_weight <= 1):
            raise ValueError(f"mse_weight is {self.mse_weight}; it must lie in [0, 1]")
        known_name("loss target", self.target, TARGETS)

    def __call__(self, output: Tensor, y: Tensor) -> Tensor:
        """Loss of one step before the division by T; output [B, classes], y int64 [B]; scalar."""
        total = (1 - self.mse_weight) * F.cross_entropy(output, y)
        if self.mse_weight:
            hot = F.one_hot(y, output.shape[1]).to(output.dtype) if self.target == "one_hot" else torch.ones_like(output)
            total = total + self.mse_weight * F.mse_loss(output, hot)
        return total


def loss_over_time(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, y: Tensor) -> Tensor:
    """Sum of the loss of every step, for outputs [T, B, classes]; scalar."""
    if isinstance(loss, Loss):
        # Each step's loss is a mean over equally many samples, so their sum is T times the mean over all.
        return len(outputs) * loss(outputs.flatten(0, 1), y.repeat(len(outputs)))
    return torch.stack([loss(now, y) for now in outputs.unbind(0)]).sum()


def check_loss(loss: Any) -> None:
    """Raise TypeError if ``loss`` cannot be called, or is a class."""
    if isinstance(loss, type) or not callable(loss):
        raise TypeError(f"loss is {shown(loss)}; pass an instance, e.g. snn.methods.Loss()")


def check_method(method: Any) -> None:
    """Raise TypeError if ``method`` trains no classifier: a name, a class, an object without ``gradients``, or GRSNN."""
    from lava_snnlearn.methods.grsnn import GRSNN

    if isinstance(method, GRSNN):
        raise TypeError(f"method is {shown(method)}, which trains a GraphReasoner; use snn.reasoning.ReasoningTrainer")
    if isinstance(method, type) or not callable(getattr(method, "gradients", None)):
        raise TypeError(
            f'method is {shown(method)}; pass an instance, e.g. snn.methods.get("ottt") or snn.methods.OTTT(), or an object of '
            "your own with a method gradients(network, x, y, on_step)"
        )


def check_spiking(network: Any) -> None:
    """Raise TypeError if ``network`` is no spiking network, e.g. an energy network."""
    remedy = "this method trains spiking networks; build one, e.g. snn.networks.mlp([64, 128, 10])"
    instance_of("network", network, Network, remedy)


def refuse_delays(network: Network, reason: str) -> None:
    """Raise ValueError for a network whose synapses have delays; ``reason``: why the method cannot train them."""
    if delays_of(network):
        raise ValueError(
            f"this network's synapses have delays, but {reason}; train it with BPTT, SLTT, OTTT, FA, DFA or OPZO, or build it "
            "without delays"
        )


def check_batch(network: Classifier, x: Tensor, y: Tensor, *, spiking: bool = True) -> Tensor:
    """Encoded input [T, B, *input shape] of a training batch; raises ValueError where samples and labels do not fit the
    network, TypeError where one of them is no tensor or, if ``spiking``, the network no spiking one."""
    if spiking:
        check_spiking(network)
    signal = network.encode(x)
    tensor("labels", y)
    if y.dtype != torch.int64 or y.dim() != 1 or len(y) != signal.shape[1]:
        raise ValueError(
            f"labels have shape {tuple(y.shape)} and dtype {y.dtype}; expected int64 [{signal.shape[1]}], one a sample"
        )
    if len(y) == 0:
        raise ValueError("the batch is empty; pass at least one sample")
    if int(y.min()) < 0 or int(y.max()) >= network.classes:
        raise ValueError(
            f"labels reach from {int(y.min())} to {int(y.max())}; this network has classes 0..{network.classes - 1}"
        )
    return signal
