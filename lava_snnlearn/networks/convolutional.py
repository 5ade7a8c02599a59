"""Convolutional networks from a short text: ``conv_net((1, 28, 28), "16C3-P2-32C3-P2", 10)``, and the published ones."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from lava_snnlearn.checks import positive, whole_number
from lava_snnlearn.networks.layers import Readout, SpikingLayer
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.norms import spike_gain
from lava_snnlearn.networks.synapse import Shape, Synapse, as_shape
from lava_snnlearn.neurons.dsr import readout_leak
from lava_snnlearn.neurons.lif import LIF

VGG = "64C3-128C3-P2-256C3-256C3-P2-512C3-512C3-P2-512C3-512C3-GAP"
"""OTTT's network for CIFAR (Xiao et al. 2022)."""
ALEXNET_F = "96C3s2-256C3-384C3s2-384C3-256C3-GAP"
CIFARNET_F = "128C3s2-256C3-512C3s2-1024C3-512C3-GAP"
"""The feedback networks of IDE and SPIDE (Xiao et al. 2021, 2023), without their feedback."""
_TOKEN = re.compile(r"(?:(?P<channels>\d+)C(?P<kernel>\d+)(?:s(?P<stride>\d+))?|P(?P<pool>\d+)|(?P<gap>GAP)|(?P<neurons>\d+))")


@dataclass(frozen=True)
class _Plan:
    """Layers as options of SpikingLayer, and what the readout reads."""

    layers: list[dict[str, Any]]
    shape: Shape
    pool: int


def conv_net(
    input_shape: Shape,
    layers: str,
    classes: int,
    neuron: LIF | None = None,
    *,
    norm: str = "sws",
    steps: int = 6,
    encoding: str = "direct",
    dropout: float = 0.0,
    width: float = 1.0,
    feedback: Synapse | None = None,
    feedback_delay: int = 1,
    feedback_joins: str = "before_norm",
) -> Network:
    """A network from a text of layers separated by "-".

    ======  =================================================================================================
    text    meaning
    ======  =================================================================================================
    64C3    spiking convolution: 64 channels, kernel 3 (odd kernels keep the size)
    64C3s2  the same with stride 2
    P2      average pool 2 of the spikes, in front of what follows
    GAP     global average of the last map, in front of the readout
    128     spiking dense layer of 128 neurons
    ======  =================================================================================================

    Args:
        input_shape: (channels, height, width) of a frame.
        layers: see above, e.g. "16C3-P2-32C3-P2-128".
        classes: readout channels.
        neuron: parameters of all neurons; default ``LIF()``.
        norm, steps, encoding, dropout, feedback, feedback_delay, feedback_joins: see
            :class:`~lava_snnlearn.networks.layers.SpikingLayer` and :class:`~lava_snnlearn.networks.network.Network`.
        width: factor on all numbers of channels and neurons.

    Raises:
        ValueError: a text that cannot be read, or maps that get too small; says where.
    """
    cell = LIF() if neuron is None else neuron
    plan = _read(as_shape("input_shape", input_shape), layers, width)
    body = [SpikingLayer(neuron=cell, norm=norm, first=index == 0, **options) for index, options in enumerate(plan.layers)]
    readout = Readout(plan.shape, classes, spike_gain(norm), pool=plan.pool, leak=readout_leak(cell))
    return Network(
        body,
        readout,
        steps=steps,
        encoding=encoding,
        dropout=dropout,
        feedback=feedback,
        feedback_delay=feedback_delay,
        feedback_joins=feedback_joins,
    )


def _read(shape: Shape, text: str, width: float) -> _Plan:
    positive("width", width)
    found: list[dict[str, Any]] = []
    pool = 1
    tokens = text.split("-")
    for token in tokens:
        match = _TOKEN.fullmatch(token.strip())
        if match is None:
            raise ValueError(f'layer {token!r} of {text!r} cannot be read; use e.g. "64C3", "64C3s2", "P2", "128", "GAP"')
        part = match.groupdict()
        if part["gap"] or part["pool"]:
            pool *= _pool(part, shape, pool, token is tokens[-1])
            continue
        options = _layer(part, shape, pool, width)
        found.append(options)
        probe = Synapse(shape, options["outputs"], kernel=options.get("kernel"), stride=options.get("stride", 1), pool=pool)
        shape, pool = probe.shape, 1
    if not found:
        raise ValueError(f"{text!r} names no layer with neurons")
    return _Plan(found, shape, pool)


def _pool(part: dict[str, Any], shape: Shape, before: int, last: bool) -> int:
    if len(shape) != 3:
        raise ValueError(f"a pool needs maps, but it stands behind a dense layer of {shape[0]} neurons")
    if not part["gap"]:
        return whole_number("pool", int(part["pool"]))
    if shape[1] != shape[2] or not last:
        raise ValueError(f"GAP stands at the end, behind square maps; here behind {shape}")
    return shape[1] // before


def _layer(part: dict[str, Any], shape: Shape, pool: int, width: float) -> dict[str, Any]:
    wanted = int(part["channels"] or part["neurons"])
    if wanted < 1:
        raise ValueError("a layer of 0 channels or neurons; each needs at least 1")
    size = max(1, round(width * wanted))  # a small width leaves 1
    options: dict[str, Any] = {"inputs": shape, "outputs": size, "pool": pool}
    if part["channels"]:
        options |= {"kernel": int(part["kernel"]), "stride": int(part["stride"] or 1)}
    return options


def vgg(
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    neuron: LIF | None = None,
    *,
    feedback: bool = False,
    feedback_delay: int = 1,
    width: float = 1.0,
    **options: Any,
) -> Network:
    """OTTT's VGG (Xiao et al. 2022); with ``feedback`` its VGG-F.

    The feedback takes the last maps, enlarged (nearest neighbour) to the size of the first, through a 3x3 convolution that
    starts at zero. ``width`` scales the channels; ``options`` are those of :func:`conv_net`.
    """
    synapse = None
    if feedback:
        plan = _read(as_shape("input_shape", input_shape), VGG, width)
        first = plan.layers[0]
        factor = input_shape[1] // plan.shape[1]
        synapse = Synapse(plan.shape, first["outputs"], kernel=3, upsample=factor, bias=False)
        nn.init.zeros_(synapse.weight)
    return conv_net(input_shape, VGG, classes, neuron, feedback=synapse, feedback_delay=feedback_delay, width=width, **options)


def alexnet_f(input_shape: Shape = (3, 32, 32), classes: int = 10, neuron: LIF | None = None, **options: Any) -> Network:
    """AlexNet-F of IDE (Xiao et al. 2021): five convolutions and a transposed one back from the last maps to the first.

    ``options`` are those of :func:`conv_net`. Trained through time (BPTT, SLTT, OTTT); for IDE and SPIDE build it with
    ``feedback_net(input_shape, ALEXNET_F, classes)``.
    """
    return _feedback_net(ALEXNET_F, input_shape, classes, neuron, options)


def cifarnet_f(input_shape: Shape = (3, 32, 32), classes: int = 10, neuron: LIF | None = None, **options: Any) -> Network:
    """CIFARNet-F of IDE (Xiao et al. 2021); see :func:`alexnet_f`."""
    return _feedback_net(CIFARNET_F, input_shape, classes, neuron, options)


def _feedback_net(text: str, input_shape: Shape, classes: int, neuron: LIF | None, options: dict[str, Any]) -> Network:
    plan = _read(as_shape("input_shape", input_shape), text, options.get("width", 1.0))
    first = SpikingLayer(neuron=LIF(), **plan.layers[0])
    feedback = feedback_synapse(plan.shape, first.shape)
    nn.init.normal_(feedback.weight, std=0.1 / math.sqrt(9 * plan.shape[0]))
    return conv_net(input_shape, text, classes, neuron, feedback=feedback, **options)


def feedback_synapse(source: Shape, target: Shape, kernel: int = 3) -> Synapse:
    """The synapse from the last neurons back to the first: dense, a convolution, or a transposed one to larger maps.

    Raises:
        ValueError: neurons and maps, or maps whose sides are no multiples of the source's.
    """
    if len(source) == 1 and len(target) == 1:
        return Synapse(source, target[0], bias=False)
    if len(source) == 3 and len(target) == 3:
        factor = target[1] // source[1]
        if factor >= 1 and target[1:] == (factor * source[1], factor * source[2]):
            return Synapse(source, target[0], kernel=kernel, stride=factor, transposed=factor > 1, bias=False)
    raise ValueError(
        f"feedback from {source} to {target} is not possible: both must be dense, or maps whose sides in the first layer are "
        "whole multiples of those in the last"
    )
