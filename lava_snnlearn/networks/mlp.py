"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from lava_snnlearn.checks import flag, whole_number
from lava_snnlearn.networks.delays import DelaySettings
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
    delays: str | DelaySettings | None = None,
    max_delay: int | None = None,
    delay_input: bool = False,
) -> Network:
    """A fully connected network, e.g. ``mlp([64, 128, 128, 10])``: 64 inputs, two spiking layers of 128, 10 classes.

    Args:
        sizes: numbers of inputs, of neurons of each spiking layer, and of classes; at least three.
        neuron: parameters of all spiking layers; default ``LIF()`` (leak 0.5, threshold 1, sigmoid surrogate).
        recurrent: every spiking layer also hears its own spikes of the step before.
        delays, max_delay: learned delays of every spiking layer but the first, which reads the data; see
            :class:`~lava_snnlearn.networks.synapse.Synapse`.
        delay_input: the first layer has them as well. A chip then has to be sent the data as spikes, so this is for events and
            for the codes "rate" and "latency": ``quantize(..., input="spikes")``.
        norm, steps, encoding, dropout: see :class:`~lava_snnlearn.networks.layers.SpikingLayer` and
            :class:`~lava_snnlearn.networks.network.Network`.

    Raises:
        ValueError: fewer than three sizes, a size below 1, or delays of which no layer would have one. TypeError: a size that
            is not whole, a neuron that is no LIF, delay_input no bool. LimitError, UnknownNameError: delays that do not exist.
    """
    sizes = [whole_number(f"sizes[{index}]", size) for index, size in enumerate(sizes)]
    if len(sizes) < 3 or min(sizes) < 1:
        raise ValueError(f"sizes is {sizes}; give inputs, one or more layers and classes, each at least 1, e.g. [64, 128, 10]")
    flag("delay_input", delay_input)
    late = DelaySettings.of(delays, max_delay)
    if late is None and delay_input:
        raise ValueError("delay_input is True, but no delays are asked for; give delays='axonal' or 'synaptic'")
    if late is not None and len(sizes) == 3 and not delay_input:
        raise ValueError(
            f"sizes is {sizes}: the only spiking layer reads the data, so that no layer would have delays; add a layer, or "
            "pass delay_input=True where the data are spikes"
        )
    cell = neuron if neuron is not None else LIF()
    layers = [
        SpikingLayer(
            fan_in, fan_out, cell, norm, first=index == 0, recurrent=recurrent, delays=late if index or delay_input else None
        )
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes[:-1]))
    ]
    readout = Readout(sizes[-2], sizes[-1], spike_gain(norm), leak=readout_leak(cell))
    return Network(layers, readout, steps=steps, encoding=encoding, dropout=dropout)
