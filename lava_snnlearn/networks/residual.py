"""Residual networks with an analogue shortcut: pre-activation blocks with batch norm, and normaliser-free ones.

The shortcut carries currents, not spikes. On a chip it costs nothing: a sum of currents is linear, so every later population of
a stage gets synapses from all earlier blocks of the stage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lava_snnlearn.checks import positive, whole_number
from lava_snnlearn.networks.layers import Population, Readout
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.norms import spike_gain
from lava_snnlearn.networks.synapse import Shape, Synapse
from lava_snnlearn.networks.walk import Walk
from lava_snnlearn.neurons.dsr import readout_leak
from lava_snnlearn.neurons.lif import LIF


class _Block(nn.Module):
    """What both blocks do: neurons, convolution, neurons, convolution, beside a shortcut of x or of the first spikes."""

    fire1: Population
    conv1: Synapse
    fire2: Population
    conv2: Synapse
    shortcut: Synapse | None

    @property
    def shape(self) -> Shape:
        """(C, H, W) of the output."""
        return self.conv2.shape

    def _parts(self, x: Any, walk: Walk) -> tuple[Any, Any]:
        """Shortcut and branch, which the block adds."""
        spikes = self.fire1.respond(x, walk)
        kept = x if self.shortcut is None else walk.synapse(self.shortcut, spikes)
        return kept, walk.synapse(self.conv2, self.fire2.respond(walk.synapse(self.conv1, spikes), walk))


class PreActBlock(_Block):
    """x' = shortcut + conv2(n2(conv1(s))), s = n1(x), with norm and neurons n1, n2 in front of the convolutions.

    The shortcut is x itself, or a 1x1 convolution of s where size or channels change (He et al. 2016).

    Args:
        source: (C, H, W) of the analogue input x.
        channels: of the output.
        neuron, norm: of both populations; norm "none", "bn_step" or "bn_time".
        stride: of conv1 (and of the shortcut).
    """

    def __init__(self, source: Shape, channels: int, neuron: LIF, norm: str, stride: int = 1) -> None:
        super().__init__()
        self.source = source
        self.fire1 = Population(source, neuron, norm)
        self.conv1 = Synapse(source, channels, kernel=3, stride=stride, bias=norm == "none")
        self.fire2 = Population(self.conv1.shape, neuron, norm)
        self.conv2 = Synapse(self.conv1.shape, channels, kernel=3, bias=norm == "none")
        changes = stride != 1 or channels != source[0]
        self.shortcut = Synapse(source, channels, kernel=1, stride=stride, bias=False) if changes else None

    def respond(self, x: Any, walk: Walk) -> Any:
        """Analogue output for an analogue input."""
        kept, branch = self._parts(x, walk)
        return kept + branch


class NFBlock(_Block):
    """x' = shortcut + alpha gain conv2(n2(conv1(s))), s = n1(x / beta), with standardised weights and no other norm.

    ``gain`` is a trained scalar that starts at 0; beta is the deviation that x is expected to have, sqrt of ``variance``. In a
    transition the shortcut is a 1x1 convolution of the spikes (Brock et al. 2021; with spikes: Xiao et al. 2022).

    Args:
        source, channels, neuron, stride: as in :class:`PreActBlock`.
        variance: expected variance of x.
        alpha: weight of the branch.
    """

    def __init__(
        self, source: Shape, channels: int, neuron: LIF, stride: int = 1, *, variance: float, alpha: float = 0.2
    ) -> None:
        super().__init__()
        self.source, self.alpha = source, float(alpha)
        gain = spike_gain("sws")
        self.fire1 = Population(source, neuron, scale=1 / math.sqrt(variance))
        self.conv1 = Synapse(source, channels, kernel=3, stride=stride, standardise=True, input_gain=gain)
        self.fire2 = Population(self.conv1.shape, neuron)
        self.conv2 = Synapse(self.conv1.shape, channels, kernel=3, standardise=True, input_gain=gain)
        self.gain = nn.Parameter(torch.zeros(()))
        self.shortcut = None
        if stride != 1 or channels != source[0]:
            self.shortcut = Synapse(source, channels, kernel=1, stride=stride, standardise=True, input_gain=gain)
        self.variance = (1.0 if self.shortcut is not None else variance) + self.alpha**2

    def respond(self, x: Any, walk: Walk) -> Any:
        """Analogue output for an analogue input."""
        kept, branch = self._parts(x, walk)
        return kept + branch * (self.alpha * self.gain)


def preact_resnet(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    neuron: LIF | None = None,
    *,
    blocks: Sequence[int] = (2, 2, 2, 2),
    width: int = 64,
    norm: str = "bn_step",
    **options: Any,
) -> Network:
    """A pre-activation residual network; the defaults are PreAct-ResNet-18 for CIFAR, which SLTT and DSR use.

    Stem 3x3 convolution of the data; stages of ``blocks`` blocks with ``width`` channels, doubled (and the size halved) from
    stage to stage; norm and neurons; global average; readout.

    Args:
        input_shape: (channels, height, width) with equal height and width.
        classes: readout channels. neuron: of all populations; default ``LIF()``.
        norm: "bn_step" (SLTT), "bn_time" (DSR, rate-BP, BPTT) or "none".
        options: steps, encoding, dropout of :class:`~lava_snnlearn.networks.network.Network`.

    Raises:
        ValueError: sizes that do not fit.
    """
    cell = LIF() if neuron is None else neuron
    stages = _stages(input_shape, blocks, width)
    stem = Synapse(input_shape, width, kernel=3, bias=norm == "none")
    body: list[Any] = [stem]
    for channels, stride in stages:
        body.append(PreActBlock(body[-1].shape, channels, cell, norm, stride))
    body.append(Population(body[-1].shape, cell, norm))
    readout = Readout(body[-1].shape, classes, pool=body[-1].shape[1], leak=readout_leak(cell))
    return Network(body, readout, **options)


def nf_resnet(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    neuron: LIF | None = None,
    *,
    blocks: Sequence[int] = (2, 2, 2, 2),
    width: int = 64,
    alpha: float = 0.2,
    **options: Any,
) -> Network:
    """A normaliser-free residual network with standardised weights, as OTTT and SLTT use on ImageNet.

    Like :func:`preact_resnet` with :class:`NFBlock`; the readout reads the global average of the last analogue maps.

    Raises:
        ValueError: sizes that do not fit, alpha not > 0.
    """
    positive("alpha", alpha)
    cell = LIF() if neuron is None else neuron
    stages = _stages(input_shape, blocks, width)
    body: list[Any] = [Synapse(input_shape, width, kernel=3, standardise=True)]
    variance = 1.0
    for channels, stride in stages:
        body.append(NFBlock(body[-1].shape, channels, cell, stride, variance=variance, alpha=alpha))
        variance = body[-1].variance
    readout = Readout(body[-1].shape, classes, pool=body[-1].shape[1], leak=readout_leak(cell))
    return Network(body, readout, **options)


def _stages(input_shape: Shape, blocks: Sequence[int], width: int) -> list[tuple[int, int]]:
    """(channels, stride) of every block."""
    counts = [whole_number("blocks", count) for count in blocks]
    if not counts or min(counts) < 1 or whole_number("width", width) < 1:
        raise ValueError(
            f"blocks is {tuple(blocks)} and width {width}; each stage needs at least 1 block, and width at least 1"
        )
    if len(input_shape) != 3 or input_shape[1] != input_shape[2]:
        raise ValueError(f"input_shape is {tuple(input_shape)}; the global average at the end needs square frames (C, H, H)")
    return [(width << stage, 2 if stage and not number else 1) for stage, count in enumerate(counts) for number in range(count)]
