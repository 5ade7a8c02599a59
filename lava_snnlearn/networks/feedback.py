"""Feedback networks: a chain of spiking layers whose last one also drives the first (IDE, Xiao et al. 2021; SPIDE, 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lava_snnlearn.checks import known_name, whole_number
from lava_snnlearn.networks.convolutional import conv_net, feedback_synapse
from lava_snnlearn.networks.mlp import mlp
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.synapse import Shape, Synapse
from lava_snnlearn.neurons.feedback import FeedbackLIF

TIMINGS = ("instant", "pipelined")


def feedback_net(
    source: int | Shape,
    layers: Sequence[int] | str,
    classes: int,
    neuron: FeedbackLIF | None = None,
    *,
    norm: str = "none",
    steps: int = 30,
    timing: str = "pipelined",
    encoding: str = "direct",
    dropout: float = 0.0,
    width: float = 1.0,
    feedback_kernel: int | None = None,
) -> Network:
    """A network whose last spiking layer feeds back to the first, for training at equilibrium by IDE or SPIDE.

    Dense layers are fed back densely, maps by a convolution, or by a transposed one where the first maps are larger. All
    weights start as random rows of length 1, biases at 0 (IDE's code).

    Args:
        source: number of inputs, or (C, H, W).
        layers: sizes of dense layers, e.g. (400,); or a text of :func:`~lava_snnlearn.networks.conv_net`, e.g. "64C5s2".
        classes: readout channels.
        neuron: default ``FeedbackLIF()``, IDE's IF neuron.
        norm: "none"; a batch norm behind every forward connection (not the feedback); or "sws", their weights standardised.
        steps: T of the forward phase.
        timing: what feedback takes: one step ("instant": layers answer within the step, as in the papers), or as many as there
            are layers ("pipelined": every layer takes a step, as on the chip; only this can be quantised). One layer: the same.
        encoding, dropout, width: see :class:`~lava_snnlearn.networks.Network` and :func:`~lava_snnlearn.networks.conv_net`.
        feedback_kernel: side of the feedback's kernel; None: that of a single convolution, else 3.

    Raises:
        ValueError: layers between which feedback is not possible. UnknownNameError: an unknown timing or norm.
    """
    known_name("timing", timing, TIMINGS)
    cell = FeedbackLIF() if neuron is None else neuron
    if isinstance(layers, str):
        shape = source if isinstance(source, tuple) else (source,)
        network = conv_net(shape, layers, classes, cell, norm=norm, width=width)
    else:
        features = math.prod(source) if isinstance(source, tuple) else source
        network = mlp([features, *layers, classes], cell, norm=norm)
    chain = network.spiking_layers
    first, last = chain[0], chain[-1]
    kernel = feedback_kernel
    if kernel is None:
        kernel = first.geometry.kernel if len(chain) == 1 and first.geometry is not None else 3
    synapse = feedback_synapse(last.shape, first.shape, whole_number("feedback_kernel", kernel))
    network = Network(
        chain,
        network.readout,
        steps=steps,
        encoding=encoding,
        dropout=dropout,
        feedback=synapse,
        feedback_delay=1 if timing == "instant" else len(chain),
        feedback_joins="behind_norm",
    )
    for module in (*chain, synapse, network.readout):
        unit_rows_(module)
    return network


def rows_of(synapse: Synapse) -> Tensor:
    """The weight as a matrix with a row for each output neuron or channel: [out, in], or [out, in * k * k] of kernels."""
    transposed = synapse.geometry is not None and synapse.geometry.transposed
    return (synapse.weight.transpose(0, 1) if transposed else synapse.weight).flatten(1)


@torch.no_grad()
def unit_rows_(synapse: Synapse) -> None:
    """Fill the weight with uniform draws and scale every row (all weights of an output neuron or channel) to length 1."""
    weight = nn.init.uniform_(synapse.weight, -1, 1)
    if synapse.geometry is not None and synapse.geometry.transposed:
        weight = weight.transpose(0, 1)
    weight.div_(rows_of(synapse).norm(dim=1).view(-1, *[1] * (weight.dim() - 1)))
