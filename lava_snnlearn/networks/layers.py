"""A spiking layer (linear map + optional norm + neuron) and the non-spiking readout."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lava_snnlearn.checks import instance_of, known_name
from lava_snnlearn.networks.norms import NORMS, BatchNormStep, BatchNormTime, ScaledWeightStandardisation, spike_gain
from lava_snnlearn.neurons.lif import LIF


class Affine(NamedTuple):
    """Real-valued weight [n_out, n_in] and bias [n_out] (float64) that a layer applies to plain 0/1 spikes or to its input."""

    weight: Tensor
    bias: Tensor


class SpikingLayer(nn.Module):
    """current = norm(W (gain_in * x) + b), then the neuron.

    Args:
        inputs, outputs: numbers of neurons.
        neuron: its parameters.
        norm: one of :data:`lava_snnlearn.networks.norms.NORMS`.
        first: True for the layer that sees the data; deeper "sws" layers multiply their input spikes by 2.74.

    Raises:
        UnknownNameError: an unknown norm.
        ValueError: "sws" with a single input, whose weights have no variance.
        TypeError: neuron is no LIF instance.
    """

    def __init__(self, inputs: int, outputs: int, neuron: LIF, norm: str = "none", *, first: bool = False) -> None:
        super().__init__()
        instance_of("neuron", neuron, LIF, "pass an instance, e.g. snn.neurons.LIF()")
        known_name("norm", norm, NORMS)
        if norm == "sws" and inputs < 2:
            raise ValueError(
                f"a layer with {inputs} input cannot have norm='sws': the variance of its weights needs at least 2 inputs. "
                "Use norm='none' or 'bn_step'."
            )
        self.neuron, self.norm_name = neuron, norm
        self.input_gain = 1.0 if first else spike_gain(norm)
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if norm.startswith("bn"):
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # torch.nn.Linear's; batch norm sets the scale
        else:
            nn.init.kaiming_normal_(self.weight)  # smaller weights would leave deep layers without a norm silent
        self.standardise = ScaledWeightStandardisation(outputs) if norm == "sws" else None
        self.batch_norm = {"bn_step": BatchNormStep, "bn_time": BatchNormTime}[norm](outputs) if norm.startswith("bn") else None

    @property
    def outputs(self) -> int:
        """Number of neurons."""
        return int(self.weight.shape[0])

    def effective_weight(self) -> Tensor:
        """Weight after standardisation [n_out, n_in]; the parameter itself where there is none."""
        return self.weight if self.standardise is None else self.standardise(self.weight)

    def normalise(self, current: Tensor) -> Tensor:
        """Batch norm where there is one; current [B, n] or [T, B, n]."""
        return current if self.batch_norm is None else self.batch_norm(current)

    def forward(self, x: Tensor) -> Tensor:
        """Input current for x [..., n_in], one step [B, n] or all [T, B, n]."""
        scaled = x if self.input_gain == 1.0 else x * self.input_gain
        return self.normalise(F.linear(scaled, self.effective_weight(), self.bias))

    @torch.no_grad()
    def folded(self) -> Affine:
        """Norm (running statistics), standardisation and input gain folded into one affine map, float64."""
        weight, bias = self.effective_weight().detach().double() * self.input_gain, self.bias.detach().double()
        norm = self.batch_norm
        if norm is not None:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
            weight = weight * scale.unsqueeze(1)
            bias = (bias - norm.running_mean.double()) * scale + norm.bias.double()
        return Affine(weight, bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]} -> {self.outputs}, norm={self.norm_name}, neuron={self.neuron}"


class Readout(nn.Module):
    """Non-spiking, memoryless readout o[t] = W (gain_in * s[t]) + b; prediction is argmax of the sum over t."""

    def __init__(self, inputs: int, outputs: int, input_gain: float = 1.0) -> None:
        super().__init__()
        self.input_gain = input_gain
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=0.01)

    @property
    def outputs(self) -> int:
        """Number of classes."""
        return int(self.weight.shape[0])

    def forward(self, x: Tensor) -> Tensor:
        """Readout for spikes [..., n_in]."""
        return F.linear(x if self.input_gain == 1.0 else x * self.input_gain, self.weight, self.bias)

    @torch.no_grad()
    def folded(self) -> Affine:
        """Input gain folded into the weight, float64."""
        return Affine(self.weight.detach().double() * self.input_gain, self.bias.detach().double())

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]} -> {self.outputs}"
