"""Populations of neurons, spiking layers (synapse + norm + neurons) and the non-spiking readout.

Each says in ``respond`` what it does with a signal, in terms of a *walk* (:mod:`lava_snnlearn.networks.walk`): the walk decides
how synapses, norms and neurons are computed and what their gradients are, so that one description of a network serves every
gradient engine and the conversion to fixed point.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lava_snnlearn.checks import flag, instance_of, known_name, real_number
from lava_snnlearn.networks.delays import DelaySettings
from lava_snnlearn.networks.norms import BATCH_NORMS, NORMS, BatchNormStep, BatchNormTime, spike_gain
from lava_snnlearn.networks.synapse import Affine, Shape, Synapse, as_shape
from lava_snnlearn.neurons.fused import Integration, integrate
from lava_snnlearn.neurons.lif import LIF, Drive

if TYPE_CHECKING:
    from lava_snnlearn.networks.walk import Walk

__all__ = ["Affine", "Population", "Readout", "SpikingLayer"]


class Neurons:
    """What everything that holds neurons has: ``neuron``, ``batch_norm``, ``threshold`` and ``recurrent``.

    Mixed into modules; ``shape`` and ``outputs`` are theirs. ``threshold`` is a parameter where the neuron trains it.
    """

    neuron: LIF
    norm_name: str
    batch_norm: BatchNormStep | BatchNormTime | None
    threshold: nn.Parameter | None
    recurrent: nn.Parameter | None
    shape: Shape

    def _become_neurons(self, neuron: LIF, norm: str, channels: int) -> None:
        instance_of("neuron", neuron, LIF, "pass an instance, e.g. snn.neurons.LIF()")
        known_name("norm", norm, NORMS)
        self.neuron, self.norm_name = neuron, norm
        self.batch_norm = BATCH_NORMS[norm](channels) if norm in BATCH_NORMS else None
        self.threshold = nn.Parameter(torch.tensor(float(neuron.threshold))) if neuron.trains_threshold else None
        self.recurrent = None

    @property
    def level(self) -> float:
        """The present threshold, which training may have moved."""
        return float(self.neuron.threshold if self.threshold is None else self.threshold.detach())

    @property
    def drive(self) -> Drive:
        """How the neurons use their current and what their spikes are worth, at the present threshold."""
        return self.neuron.drive(self.level)

    def normalise(self, current: Tensor, update: bool = True, times: int = 1) -> Tensor:
        """Batch norm where there is one; current [B, n], [T, B, n] or [T, B, C, H, W]."""
        return current if self.batch_norm is None else self.batch_norm(current, update, times)

    def integrate(self, current: Tensor, membrane: Tensor | None, **options: Any) -> Integration:
        """The neurons' time loop; see :func:`lava_snnlearn.neurons.fused.integrate`."""
        return integrate(self.neuron, current, membrane, **options)


class Population(nn.Module, Neurons):
    """Neurons under a current that is made elsewhere (residual blocks): norm, then the neurons.

    Args:
        shape: n or (C, H, W).
        neuron: its parameters.
        norm: "none", "bn_step" or "bn_time".
        scale: fixed factor on the current (normaliser-free residual networks divide by the expected deviation).
    """

    def __init__(self, shape: int | Shape, neuron: LIF, norm: str = "none", *, scale: float = 1.0) -> None:
        super().__init__()
        self.shape, self.scale = as_shape("shape of a population", shape), float(scale)
        self._become_neurons(neuron, norm, self.shape[0])

    @property
    def outputs(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)

    def respond(self, current: Any, walk: Walk) -> Any:
        """Spikes for a current [T, B, *shape]."""
        scaled = current if self.scale == 1.0 else current * self.scale
        return walk.fire(self, walk.normalise(self, scaled))

    def extra_repr(self) -> str:
        return f"{self.shape}, norm={self.norm_name}, scale={self.scale:g}, neuron={self.neuron}"


class SpikingLayer(Synapse, Neurons):
    """current = norm(W (gain_in * pool(x)) + b), then the neurons.

    Args:
        inputs: number of inputs, or (C, H, W).
        outputs: number of neurons, or of channels of a convolution.
        neuron: its parameters.
        norm: one of :data:`lava_snnlearn.networks.norms.NORMS`.
        first: True for the layer that sees the data; deeper "sws" layers multiply their input spikes by 2.74.
        recurrent: dense layers only: every neuron also hears the layer's own spikes of the step before.
        kernel, stride, padding, pool, delays, max_delay: see :class:`~lava_snnlearn.networks.synapse.Synapse`.

    Raises:
        UnknownNameError: an unknown norm or kind of delays. LimitError: max_delay out of range.
        ValueError: "sws" with a single input, whose weights have no variance; a recurrent convolution.
        TypeError: neuron is no LIF instance.
    """

    def __init__(
        self,
        inputs: int | Shape,
        outputs: int,
        neuron: LIF,
        norm: str = "none",
        *,
        first: bool = False,
        recurrent: bool = False,
        kernel: int | None = None,
        stride: int = 1,
        padding: int | None = None,
        pool: int = 1,
        delays: str | DelaySettings | None = None,
        max_delay: int | None = None,
    ) -> None:
        instance_of("neuron", neuron, LIF, "pass an instance, e.g. snn.neurons.LIF()")
        known_name("norm", norm, NORMS)
        flag("recurrent", recurrent)
        super().__init__(
            inputs,
            outputs,
            kernel=kernel,
            stride=stride,
            padding=padding,
            pool=pool,
            standardise=norm == "sws",
            input_gain=1.0 if first else spike_gain(norm),
            delays=delays,
            max_delay=max_delay,
        )
        self._become_neurons(neuron, norm, self.shape[0])
        if norm.startswith("bn"):
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # torch.nn.Linear's; batch norm sets the scale
        if recurrent:
            if self.geometry is not None:
                raise ValueError(
                    "a convolution cannot be recurrent here; use a dense layer, or a feedback synapse of the network"
                )
            self.recurrent = nn.Parameter(torch.empty(self.outputs, self.outputs))
            nn.init.normal_(self.recurrent, std=0.2 / math.sqrt(self.outputs))

    def respond(self, signal: Any, walk: Walk, extra: Any = None, behind_norm: bool = False) -> Any:
        """Spikes for a signal [T, B, *source]; ``extra`` (feedback) is added to the synaptic current, or behind its norm."""
        current = walk.synapse(self, signal)
        if extra is not None and not behind_norm:
            current = current + extra
        current = walk.normalise(self, current)
        if extra is not None and behind_norm:
            current = current + extra
        return walk.fire(self, current, fresh=True)

    def forward(self, x: Tensor) -> Tensor:
        """Input current for x [..., *source], one step [B, ...] or all [T, B, ...]."""
        current = self.current(x)
        if current.dim() == 1 + len(self.shape) > 2:  # one step of maps, which a batch norm would take for steps of samples
            return self.normalise(current.unsqueeze(0)).squeeze(0)
        return self.normalise(current)

    @torch.no_grad()
    def folded(self) -> Affine:
        """Norm (running statistics), standardisation and input gain folded into one affine map, float64."""
        weight, bias = super().folded()
        norm = self.batch_norm
        if norm is not None:
            scale, shift = affine_of_norm(norm)
            weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
            bias = bias * scale + shift
        return Affine(weight, bias)

    def extra_repr(self) -> str:
        recurrent = ", recurrent" if self.recurrent is not None else ""
        return f"{super().extra_repr()}, norm={self.norm_name}{recurrent}, neuron={self.neuron}"


@torch.no_grad()
def affine_of_norm(norm: BatchNormStep | BatchNormTime) -> tuple[Tensor, Tensor]:
    """Scale and shift per channel (float64) that a batch norm applies in eval mode."""
    running = norm.running
    scale = norm.weight.double() * torch.rsqrt(running.variance.double() + norm.eps)
    return scale, norm.bias.double() - running.mean.double() * scale


class Readout(Synapse):
    """Non-spiking, memoryless readout o[t] = W (gain_in * pool(s[t])) + b of the flattened, or globally averaged, spikes.

    Args:
        inputs: n or (C, H, W).
        outputs: number of classes.
        input_gain: factor on the spikes.
        pool: side of an average pool before the map; the side of the source is a global average.
        leak: how the answer forgets: prediction is the argmax of sum_t (1 - leak)^(T-1-t) o[t].

    Raises:
        ValueError: leak outside [0, 1).
    """

    def __init__(self, inputs: int | Shape, outputs: int, input_gain: float = 1.0, *, pool: int = 1, leak: float = 0.0) -> None:
        super().__init__(inputs, outputs, pool=pool, input_gain=input_gain)
        real_number("readout leak", leak)
        if not 0 <= leak < 1:
            raise ValueError(f"the readout's leak is {leak}; it must lie in [0, 1)")
        self.leak = float(leak)
        nn.init.normal_(self.weight, std=0.01)

    def collect(self, outputs: Tensor, before: Tensor | None = None) -> Tensor:
        """The answer [B, classes]: ``before`` (the answer so far) and the outputs [T, B, classes], summed with the leak."""
        if not self.leak:
            return outputs.sum(0) if before is None else before + outputs.sum(0)
        keep = 1 - self.leak
        weights = keep ** torch.arange(len(outputs) - 1, -1, -1, dtype=outputs.dtype, device=outputs.device)
        total = torch.tensordot(weights, outputs, 1)
        return total if before is None else keep ** len(outputs) * before + total

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", leak={self.leak:g}" if self.leak else "")
