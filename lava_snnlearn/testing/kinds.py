"""A small network of every kind that the library builds, with parameters at which all of its populations spike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lava_snnlearn.checks import known_name
from lava_snnlearn.networks import Network, alexnet_f, conv_net, feedback_net, mlp, nf_resnet, preact_resnet, vgg
from lava_snnlearn.neurons.dsr import DSRIF, DSRLIF
from lava_snnlearn.neurons.feedback import FeedbackLIF
from lava_snnlearn.neurons.lif import LIF

CLASSES = 4
_SIZES = (24, 20, 16, CLASSES)
_FRAME, _MAPS, _MAPS_DENSE = (1, 8, 8), "6C3-P2-8C3-GAP", "6C3-P2-8C3-12"
# DSR's thresholds are trained from values that the rates of a new network do not reach in a few steps.
_DSR_IF, _DSR_LIF = DSRIF(threshold=1.5), DSRLIF(threshold=0.3, dt=0.25)
_SPIDE_IF, _SPIDE_LIF = FeedbackLIF(threshold=1.0, firing=0.5), FeedbackLIF(leak=0.125, threshold=1.0, firing=0.5)

KINDS: dict[str, Callable[..., Network]] = {
    "dense": partial(mlp, _SIZES),
    "dense, recurrent": partial(mlp, _SIZES, recurrent=True),
    "dense, batch norm over time": partial(mlp, _SIZES, norm="bn_time"),
    "convolutions": partial(conv_net, _FRAME, _MAPS, CLASSES),
    "convolutions, stride 2": partial(conv_net, (2, 9, 7), "6C3s2-8C3-12", CLASSES),
    "convolutions, batch norm, dense": partial(conv_net, _FRAME, _MAPS_DENSE, CLASSES, norm="bn_step"),
    "convolutions, sizes that pools cut": partial(conv_net, (1, 7, 7), _MAPS, CLASSES),
    "convolutions, reset to zero": partial(conv_net, _FRAME, _MAPS, CLASSES, LIF(reset="zero")),
    "convolutions, DSR's IF": partial(conv_net, _FRAME, _MAPS_DENSE, CLASSES, _DSR_IF, norm="bn_time"),
    "convolutions, DSR's LIF": partial(conv_net, _FRAME, _MAPS_DENSE, CLASSES, _DSR_LIF, norm="bn_time"),
    "pre-activation residual": partial(preact_resnet, _FRAME, CLASSES, blocks=(2, 2), width=4),
    "normaliser-free residual": partial(nf_resnet, _FRAME, CLASSES, blocks=(2, 1), width=4),
    "feedback": partial(vgg, _FRAME, CLASSES, feedback=True, width=0.06),
    "feedback, pipelined": partial(alexnet_f, _FRAME, CLASSES, width=0.06, feedback_delay=5),
    "feedback at equilibrium": partial(feedback_net, 24, (20,), CLASSES),
    "feedback at equilibrium, three layers": partial(feedback_net, 24, (20, 16, 12), CLASSES, _SPIDE_LIF),
    "feedback at equilibrium, convolutions": partial(feedback_net, _FRAME, "6C3-8C3s2", CLASSES, _SPIDE_IF, norm="bn_step"),
    "dense, synaptic delays": partial(mlp, _SIZES, delays="synaptic", max_delay=3),
    "dense, axonal delays": partial(mlp, _SIZES, norm="bn_step", delays="axonal", max_delay=3),
}
"""Builders by name; options are those of the builders in :mod:`lava_snnlearn.networks`, such as ``steps``."""


def small_network(kind: str, *, seed: int = 0, **options: Any) -> Network:
    """A network of one of :data:`KINDS` in training mode, float32, with parameters far from those that it starts training with.

    Biases are positive and gains above 1, so that even the last populations of deep networks spike; running statistics of batch
    norms are those of :func:`samples`. The global random state is left alone.

    Raises:
        UnknownNameError: another kind.
    """
    build = KINDS[known_name("kind of network", kind, KINDS)]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = build(**options)
        for name, parameter in network.named_parameters():
            _enliven(name, parameter)
        has_statistics = any(population.batch_norm is not None for population in network.populations)
        for draw in range(20 if has_statistics else 0):
            network(samples(network, 64, seed=seed + draw))
    return network


def _enliven(name: str, parameter: Tensor) -> None:
    role = name.split(".")[-1]
    if role == "gain":
        parameter.fill_(1.5 if parameter.dim() else 0.7)
    elif "batch_norm" in name:
        parameter.uniform_(1.2, 1.8) if role == "weight" else parameter.normal_(0.4, 0.2)
    elif role == "bias":
        parameter.normal_(0.2, 0.1)
    elif name in ("feedback.weight", "readout.weight"):
        parameter.normal_(std=0.1 if name.startswith("feedback") else 0.3)


def samples(network: Network, count: int, *, seed: int = 0, frames: bool = False) -> Tensor:
    """Data, uniform in [-2.5, 2.5]: [count, features], or with ``frames`` new ones in every step, [T, count, features]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (network.steps, count, network.inputs) if frames else (count, network.inputs)
    return (5 * torch.rand(shape, generator=generator, dtype=torch.float64) - 2.5).to(network.readout.weight.dtype)
