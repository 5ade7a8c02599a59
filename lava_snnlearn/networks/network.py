"""A feed-forward spiking network: layers of (linear map + norm + neuron) and a non-spiking readout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lava_snnlearn.checks import known_name, real_number, tensor, whole_number
from lava_snnlearn.data.encoders import ENCODINGS, encode
from lava_snnlearn.networks.layers import Readout, SpikingLayer
from lava_snnlearn.neurons.lif import NeuronState, run


class Simulation(NamedTuple):
    """All steps of a forward pass: ``outputs`` [T, B, classes]; ``layers`` one NeuronState of [T, B, n] per spiking layer."""

    outputs: Tensor
    layers: list[NeuronState]


class Network(nn.Module):
    """Spiking layers and a readout, simulated for ``steps`` time steps from rest.

    Args:
        layers: spiking layers in order.
        readout: the non-spiking readout.
        steps: number of time steps T of a sample.
        encoding: how a static sample [B, n] becomes T steps: "direct" (the frame at every step), "rate" (Bernoulli spikes,
            values in [0, 1]) or "latency" (one spike, early for large values). Sequences [T, B, n] are taken as they are.
        dropout: probability that a neuron is silenced in training; one mask a sample, kept for all steps (OTTT).

    Raises:
        ValueError: steps < 1, dropout outside [0, 1), layers that do not fit. TypeError: steps not whole, dropout no number.
        UnknownNameError: an unknown encoding.
    """

    def __init__(
        self,
        layers: Sequence[SpikingLayer],
        readout: Readout,
        *,
        steps: int = 6,
        encoding: str = "direct",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        steps = whole_number("steps", steps)
        if steps < 1:
            raise ValueError(f"steps is {steps}; a network needs at least 1 time step")
        real_number("dropout", dropout)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; it must lie in [0, 1)")
        if not layers:
            raise ValueError("a network needs at least one spiking layer")
        self.layers = nn.ModuleList(layers)
        self.readout = readout
        self.steps, self.encoding, self.dropout = steps, known_name("encoding", encoding, ENCODINGS), float(dropout)
        fan_ins = [layer.weight.shape[1] for layer in [*layers[1:], readout]]
        for index, (layer, fan_in) in enumerate(zip(layers, fan_ins, strict=True)):
            if layer.outputs != fan_in:
                raise ValueError(f"layer {index} has {layer.outputs} neurons, but what follows expects {fan_in} inputs")

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return int(self.spiking_layers[0].weight.shape[1])

    @property
    def classes(self) -> int:
        """Number of readout channels."""
        return self.readout.outputs

    @property
    def spiking_layers(self) -> list[SpikingLayer]:
        """The spiking layers, typed."""
        return list(self.layers)

    def encode(self, x: Tensor) -> Tensor:
        """Time-first input [T, B, n] of x, which is [B, n] (static) or [T, B, n]; checked for shape, dtype, NaN and infinity.

        Random codes draw from torch's generator in training mode and from a fixed seed in eval mode.

        Raises:
            ValueError: another shape or dtype than the network's, NaN or infinity. TypeError: x is no tensor.
        """
        tensor("input", x)
        if x.dim() not in (2, 3) or x.shape[-1] != self.inputs or (x.dim() == 3 and x.shape[0] != self.steps):
            raise ValueError(
                f"input has shape {tuple(x.shape)}; this network takes [batch, {self.inputs}] or "
                f"[{self.steps} (time), batch, {self.inputs}]. Flatten images with x.reshape(len(x), -1)."
            )
        if not x.is_floating_point():
            raise ValueError(f"input has dtype {x.dtype}; pass floats (x.float()), spikes as 0.0 and 1.0")
        if x.dtype != self.readout.weight.dtype:
            raise ValueError(
                f"input has dtype {x.dtype}, the weights have {self.readout.weight.dtype}; convert one of them with .to"
            )
        if not bool(torch.isfinite(x).all()):
            raise ValueError("input holds NaN or infinite values; clean or drop these samples")
        return x if x.dim() == 3 else encode(x, self.steps, self.encoding, seed=None if self.training else 0)

    def dropout_masks(self, batch: int) -> list[Tensor | None]:
        """One mask [B, n] a layer, already divided by the keep rate; None outside of training or without dropout."""
        if not (self.training and self.dropout):
            return [None] * len(self.layers)
        keep = 1 - self.dropout
        like = self.readout.weight
        return [
            torch.bernoulli(torch.full((batch, layer.outputs), keep, dtype=like.dtype, device=like.device)) / keep
            for layer in self.spiking_layers
        ]

    def simulate(self, x: Tensor) -> Simulation:
        """Forward pass over all steps, layer by layer, with graph where gradients are enabled; x as in :meth:`encode`."""
        signal = self.encode(x)
        masks = self.dropout_masks(signal.shape[1])
        states = []
        for layer, mask in zip(self.spiking_layers, masks, strict=True):
            states.append(run(layer.neuron, layer(signal)))
            signal = states[-1].spike if mask is None else states[-1].spike * mask
        return Simulation(self.readout(signal), states)

    def forward(self, x: Tensor) -> Tensor:
        """Readout of every step, [T, B, classes]."""
        return self.simulate(x).outputs

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Class of each sample, int64 [B], in eval mode."""
        was_training = self.training
        self.eval()
        try:
            return self.forward(x).sum(0).argmax(1)
        finally:
            self.train(was_training)
