"""The *instant* and *trace* engines: one walk through time whose backward is run and freed at each step.

Both keep no graph from one step to the next (the membrane is detached), so memory does not depend on T. Per step, with
delta the loss gradient that comes down through the layers of this step only (online_and_bptt spec, 1.1 and 2.1)::

    g[t]   = phi'(u[t]) W_next^T g_next[t]
    grad W += g[t] s_pre[t]^T          instant (SLTT)
    grad W += g[t] a_pre[t]^T          trace (OTTT), a[t] = lam a[t-1] + s[t]

The trace engine leaves all forward values as they are and replaces only the operand of the weight gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lava_snnlearn.methods.base import Loss, StepResult, check_batch
from lava_snnlearn.networks.layers import Readout, SpikingLayer
from lava_snnlearn.networks.network import Network
from lava_snnlearn.neurons.lif import step


@dataclass(frozen=True)
class TraceOptions:
    """Which gradients of the trace engine use the presynaptic trace; the defaults are the mathematically consistent ones.

    Args:
        first_layer: the data's trace for the first layer (official code: raw frame).
        readout: the trace for the readout although it has no memory (official code: yes; inexact).
        bias: the bias's own trace k[t] = sum_{j <= t} lam^j (official code: no, i.e. 1).
    """

    first_layer: bool = True
    readout: bool = False
    bias: bool = True


def run_online(
    network: Network,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    trace: TraceOptions | None = None,
    steps: Collection[int] | None = None,
    on_step: Callable[[], None] | None = None,
) -> StepResult:
    """Walk through all time steps and add the online gradient to ``.grad``.

    Args:
        network, x, y: as in :meth:`lava_snnlearn.methods.base.Method.gradients`.
        loss: loss per step, divided by T here.
        trace: None is the instant engine, otherwise the trace engine.
        steps: time steps that have a backward (SLTT-K); None means all. The others run without graph.
        on_step: called after each step's backward; it may change the parameters (the engine then takes the new ones).
    """
    signal = check_batch(network, x, y)
    total = network.steps
    walk = _Walk(network, signal.shape[1], trace)
    outputs = torch.zeros(signal.shape[1], network.classes, dtype=signal.dtype, device=signal.device)
    loss_sum = torch.zeros((), dtype=signal.dtype, device=signal.device)
    for t in range(total):
        learns = steps is None or t in steps
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            output = walk.advance(signal[t])
            loss_now = loss(output, y) / total
        if learns:
            loss_now.backward()
        outputs += output.detach()
        loss_sum += loss_now.detach()
        if on_step is not None:
            walk.flush()
            on_step()
            walk.refresh()
    walk.flush()
    return StepResult(loss_sum.item(), outputs, walk.spike_rate(total))


class _Walk:
    """State of one batch on its way through time: membranes, traces and the weights in effect."""

    def __init__(self, network: Network, batch: int, trace: TraceOptions | None) -> None:
        self.network, self.trace = network, trace
        self.masks = network.dropout_masks(batch)
        layers = network.spiking_layers
        self.membranes: list[Tensor | None] = [None] * len(layers)
        self.traces: list[Tensor | None] = [None] * (len(layers) + 1)
        self.bias_traces = [0.0] * len(layers)
        self.spikes = torch.zeros((), dtype=torch.float64)
        self.neurons = batch * sum(layer.outputs for layer in layers)
        self.refresh()

    def refresh(self) -> None:
        """Take the weights in effect from the parameters.

        A trained standardised weight is cut off here and becomes a leaf: its gradient adds up over the steps and goes
        through the standardisation once, in :meth:`flush`, not T times.
        """
        self.sources = [layer.effective_weight() for layer in self.network.spiking_layers]
        self.leaves = [
            source.detach().requires_grad_() if layer.standardise is not None and source.requires_grad else source
            for layer, source in zip(self.network.spiking_layers, self.sources, strict=True)
        ]

    def flush(self) -> None:
        """Carry the gradients gathered on standardised weights on to the parameters."""
        for source, leaf in zip(self.sources, self.leaves, strict=True):
            if leaf is not source and leaf.grad is not None:
                source.backward(leaf.grad)
                leaf.grad = None

    def advance(self, x: Tensor) -> Tensor:
        """One time step for input x [B, n]; returns the readout [B, classes]."""
        signal = x
        for index, layer in enumerate(self.network.spiking_layers):
            current = layer.normalise(self._current(index, layer, signal))
            state = step(layer.neuron, self.membranes[index], current)
            self.membranes[index] = state.membrane.detach()
            self.spikes += state.spike.detach().sum().double().cpu()
            mask = self.masks[index]
            signal = state.spike if mask is None else state.spike * mask
        return self._read(signal)

    def _current(self, index: int, layer: SpikingLayer, signal: Tensor) -> Tensor:
        scaled = signal if layer.input_gain == 1.0 else signal * layer.input_gain
        weight = self.leaves[index]
        if self.trace is None:
            return F.linear(scaled, weight, layer.bias)
        lam = layer.neuron.lam
        self.bias_traces[index] = 1.0 + lam * self.bias_traces[index]
        operand = self._follow(index, scaled, lam) if index or self.trace.first_layer else scaled.detach()
        return _TracedLinear.apply(scaled, operand, weight, layer.bias, self.bias_traces[index] if self.trace.bias else 1.0)

    def _read(self, signal: Tensor) -> Tensor:
        readout: Readout = self.network.readout
        if self.trace is None or not self.trace.readout:
            return readout(signal)
        scaled = signal * readout.input_gain
        operand = self._follow(len(self.membranes), scaled, self.network.spiking_layers[-1].neuron.lam)
        return _TracedLinear.apply(scaled, operand, readout.weight, readout.bias, 1.0)

    def _follow(self, index: int, signal: Tensor, lam: float) -> Tensor:
        before = self.traces[index]
        now = signal.detach() if before is None else lam * before + signal.detach()
        self.traces[index] = now
        return now

    def spike_rate(self, steps: int) -> float:
        """Spikes per neuron and step so far."""
        return float(self.spikes) / (self.neurons * steps)


class _TracedLinear(torch.autograd.Function):
    """x W^T + b, whose weight gradient uses ``operand`` in place of x and whose bias gradient is scaled by ``bias_gain``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operand: Tensor, weight: Tensor, bias: Tensor, bias_gain: float) -> Tensor:
        ctx.save_for_backward(operand, weight)
        ctx.bias_gain = bias_gain
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None, None]:
        operand, weight = ctx.saved_tensors
        down = grad @ weight if ctx.needs_input_grad[0] else None
        for_weight = grad.t() @ operand if ctx.needs_input_grad[2] else None
        for_bias = ctx.bias_gain * grad.sum(0) if ctx.needs_input_grad[3] else None
        return down, None, for_weight, for_bias, None
