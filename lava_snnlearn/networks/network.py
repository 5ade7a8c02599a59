"""A spiking network: a body of layers and blocks, and a non-spiking readout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lava_snnlearn import distributed
from lava_snnlearn.checks import known_name, whole_number
from lava_snnlearn.networks.classifier import Classifier
from lava_snnlearn.networks.layers import Neurons, Readout, SpikingLayer
from lava_snnlearn.networks.synapse import Shape, Synapse
from lava_snnlearn.networks.walk import Walk
from lava_snnlearn.neurons.lif import NeuronState, run

PREDICT_STEPS = 32
"""Steps that ``answer`` walks over at a time, so that long samples need no more memory than short ones."""
FEEDBACK_JOINS = ("before_norm", "behind_norm")


class Simulation(NamedTuple):
    """All steps of a forward pass: ``outputs`` [T, B, classes]; ``layers`` one NeuronState of [T, B, *shape] per population."""

    outputs: Tensor
    layers: list[NeuronState]


class Network(Classifier):
    """Spiking layers or blocks and a readout, simulated for ``steps`` time steps from rest.

    Args:
        layers: the body in order: :class:`~lava_snnlearn.networks.layers.SpikingLayer`, residual blocks, synapses, populations.
        readout: the non-spiking readout.
        steps: number of time steps T of a sample.
        encoding: how a static sample [B, n] becomes T steps: "direct" (the frame at every step), "rate" (Bernoulli spikes,
            values in [0, 1]) or "latency" (one spike, early for large values). Sequences [T, B, n] are taken as they are.
        dropout: probability that a neuron is silenced in training; one mask a sample, kept for all steps (OTTT).
        feedback: a synapse from the last spikes of the body to the current of its first layer.
        feedback_delay: steps that feedback takes, at least 1. Networks with a delay of the body's depth or more ("pipelined")
            can be put on a chip, where every layer takes a step.
        feedback_joins: whether the first layer's norm takes the sum of its own current and the feedback ("before_norm"), or the
            feedback is added behind it ("behind_norm", as in IDE).

    Raises:
        ValueError: steps < 1, dropout outside [0, 1), layers that do not fit. TypeError: steps not whole, dropout no number.
        UnknownNameError: an unknown encoding, or way in which the feedback joins.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        readout: Readout,
        *,
        steps: int = 6,
        encoding: str = "direct",
        dropout: float = 0.0,
        feedback: Synapse | None = None,
        feedback_delay: int = 1,
        feedback_joins: str = "before_norm",
    ) -> None:
        super().__init__(steps=steps, encoding=encoding, dropout=dropout)
        self.layers = nn.ModuleList(layers)
        self.readout = readout
        if not self.populations:
            raise ValueError("a network needs at least one spiking layer")
        _check_chain(layers, readout)
        self.feedback, self.feedback_delay = feedback, whole_number("feedback_delay", feedback_delay)
        self.feedback_joins = known_name("feedback_joins", feedback_joins, FEEDBACK_JOINS)
        if feedback is not None:
            _check_feedback(layers, readout, feedback, self.feedback_delay)

    @property
    def input_shape(self) -> Shape:
        """Shape of one frame: (n,) or (C, H, W)."""
        shape: Shape = self.layers[0].source
        return shape

    @property
    def classes(self) -> int:
        """Number of readout channels."""
        return self.readout.outputs

    @property
    def like(self) -> Tensor:
        """The readout's weight."""
        return self.readout.weight

    @property
    def populations(self) -> list[Any]:
        """Every module that holds neurons, in the order of the forward pass."""
        return [module for module in self.layers.modules() if isinstance(module, Neurons)]

    @property
    def spiking_layers(self) -> list[SpikingLayer]:
        """The layers of a plain chain (no residual blocks)."""
        return [layer for layer in self.layers if isinstance(layer, SpikingLayer)]

    @property
    def batch_norms(self) -> list[str]:
        """Norms of the layers of a plain chain that take statistics of a batch."""
        return [layer.norm_name for layer in self.spiking_layers if layer.batch_norm is not None]

    @property
    def needs_all_steps(self) -> bool:
        """Whether a norm takes its statistics over the whole sequence, as batch norm over time does in training."""
        norms = [population.batch_norm for population in self.populations if population.norm_name == "bn_time"]
        return any(norm.training for norm in norms)

    @property
    def longest_piece(self) -> int:
        """Steps that can be walked over at once: feedback must not be asked for before it was sent."""
        return self.feedback_delay if self.feedback is not None else self.steps

    def dropout_masks(self, batch: int) -> list[Tensor | None]:
        """One mask [B, *shape] a population, already divided by the keep rate; None outside of training or without dropout."""
        if not (self.training and self.dropout):
            return [None] * len(self.populations)
        keep = 1 - self.dropout
        like = self.readout.weight

        def mask(shape: Shape) -> Tensor:
            def draw(samples: int) -> Tensor:
                return torch.bernoulli(torch.full((samples, *shape), keep, dtype=like.dtype, device=like.device)) / keep

            return distributed.draw(draw, batch)

        return [mask(population.shape) for population in self.populations]

    def respond(self, signal: Any, walk: Any) -> Any:
        """What the body and the readout make of a signal on a walk."""
        extra = None
        if self.feedback is not None:
            extra = walk.synapse(self.feedback, walk.recall(self.feedback, self.feedback_delay))
        for index, layer in enumerate(self.layers):
            if index or extra is None:
                signal = layer.respond(signal, walk)
            else:
                signal = layer.respond(signal, walk, extra, self.feedback_joins == "behind_norm")
        if self.feedback is not None:
            walk.remember(self.feedback, signal)
        return walk.read(self.readout, signal)

    def simulate(self, x: Tensor) -> Simulation:
        """Forward pass by the plain equations that keeps every state, with graph where gradients are enabled."""
        walk = _Recording(self, self.encode(x))
        outputs = torch.cat([walk.advance(length) for length in walk.pieces(None)])
        columns = [walk.states[population] for population in self.populations]
        return Simulation(outputs, [NeuronState(*map(torch.cat, zip(*states, strict=True))) for states in columns])

    def forward(self, x: Tensor, *, chunk: int | None = None) -> Tensor:
        """Readout of every step, [T, B, classes]; computed ``chunk`` steps at a time (None: all at once)."""
        walk = Walk(self, self.encode(x))
        return torch.cat([walk.advance(length) for length in walk.pieces(chunk)])

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        """The readout collected over time [B, classes], in eval mode, in memory that does not grow with T."""
        was_training = self.training
        self.eval()
        try:
            return Walk(self, self.encode(x), leaves=True).collect(PREDICT_STEPS)
        finally:
            self.train(was_training)

    def extra_repr(self) -> str:
        if self.feedback is None:
            return ""
        return f"feedback_delay={self.feedback_delay}, feedback_joins={self.feedback_joins}"


class _Recording(Walk):
    """Keeps spikes, potentials and membranes of every step."""

    def __init__(self, network: Network, signal: Tensor) -> None:
        super().__init__(network, signal)
        self.states: dict[nn.Module, list[NeuronState]] = {population: [] for population in network.populations}

    def _integrate(self, population: Any, current: Tensor, threshold: float, steps: int | None, donate: bool) -> Tensor:
        whole = current if steps is None else current.expand(steps, *current.shape)
        state = run(population.neuron, whole, self.membranes.get(population), threshold)
        self.states[population].append(state)
        self.membranes[population] = state.membrane[-1]
        return state.spike


def _check_chain(layers: Sequence[nn.Module], readout: Readout) -> None:
    """Whether each module reads what the one before sends (all have ``shape``, those with synapses ``source``)."""
    for index, (layer, following) in enumerate(zip(layers, [*layers[1:], readout], strict=True)):
        sent, heard = layer.shape, getattr(following, "source", following.shape)
        if sent != heard:
            raise ValueError(
                f"layer {index} has {math.prod(sent)} neurons, but what follows expects {math.prod(heard)} inputs "
                f"(shapes {sent} and {heard})"
            )


def _check_feedback(layers: Sequence[nn.Module], readout: Readout, feedback: Synapse, delay: int) -> None:
    first = layers[0]
    if not isinstance(first, SpikingLayer):
        raise ValueError("feedback goes to the current of a SpikingLayer; the first layer of this network is another block")
    if feedback.shape != first.shape or feedback.source != readout.source:
        raise ValueError(
            f"feedback from {feedback.source} to {feedback.shape} does not fit a body that sends {readout.source} and begins "
            f"with neurons of shape {first.shape}"
        )
    if delay < 1:
        raise ValueError(f"feedback_delay is {delay}; feedback takes at least 1 step")
