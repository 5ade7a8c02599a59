"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from lava_snnlearn.checks import whole_number
from lava_snnlearn.networks.layers import Readout, SpikingLayer
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.norms import spike_gain
from lava_snnlearn.neurons.dsr import readout_leak
from lava_snnlearn.neurons.lif import LIF


def mlp(
    sizes: Sequence[int],
    neuron: LIF | None = None,
    *,
    norm: str = "sws",
    steps: int = 6,
    encoding: str = "direct",
    dropout: float = 0.0,
    recurrent: bool = False,
) -> Network:
    """A fully connected network, e.g. ``mlp([64, 128, 128, 10])``: 64 inputs, two spiking layers of 128, 10 classes.

    Args:
        sizes: numbers of inputs, of neurons of each spiking layer, and of classes; at least three.
        neuron: parameters of all spiking layers; default ``LIF()`` (leak 0.5, threshold 1, sigmoid surrogate).
        recurrent: every spiking layer also hears its own spikes of the step before.
        norm, steps, encoding, dropout: see :class:`~lava_snnlearn.networks.layers.SpikingLayer` and
            :class:`~lava_snnlearn.networks.network.Network`.

    Raises:
        ValueError: fewer than three sizes, or a size below 1. TypeError: a size that is not whole, a neuron that is no LIF.
    """
    sizes = [whole_number(f"sizes[{index}]", size) for index, size in enumerate(sizes)]
    if len(sizes) < 3 or min(sizes) < 1:
        raise ValueError(f"sizes is {sizes}; give inputs, one or more layers and classes, each at least 1, e.g. [64, 128, 10]")
    cell = neuron if neuron is not None else LIF()
    layers = [
        SpikingLayer(fan_in, fan_out, cell, norm, first=index == 0, recurrent=recurrent)
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes[:-1]))
    ]
    readout = Readout(sizes[-2], sizes[-1], spike_gain(norm), leak=readout_leak(cell))
    return Network(layers, readout, steps=steps, encoding=encoding, dropout=dropout)
