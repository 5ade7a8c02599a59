"""A synapse's map as one node of the graph, which keeps less, or takes back other gradients, than autograd would."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lava_snnlearn.networks.event_products import bias_gradient
from lava_snnlearn.networks.synapse import Synapse


class SpikeMap(torch.autograd.Function):
    """A synapse's map of 0/1 spikes, which are kept for the backward in a byte each."""

    @staticmethod
    def forward(ctx: Any, spikes: Tensor, weight: Tensor, bias: Tensor | None, synapse: Synapse) -> Tensor:
        ctx.save_for_backward(spikes.to(torch.uint8), weight)
        ctx.synapse = synapse
        return synapse.map(synapse.prepare(spikes), weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        kept, weight = ctx.saved_tensors
        synapse: Synapse = ctx.synapse
        prepared = synapse.prepare(kept.to(grad.dtype))
        down = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            down = synapse.input_gradient(prepared, weight, grad)
            down = down if synapse.input_gain == 1.0 else down * synapse.input_gain
        if ctx.needs_input_grad[1]:
            for_weight = synapse.operand_gradient(prepared, grad)
        if ctx.needs_input_grad[2]:
            for_bias = bias_gradient(grad, None)
        return down, for_weight, for_bias, None


class OperandMap(torch.autograd.Function):
    """A synapse's map of x, whose weight gradient uses ``operand`` in place of x and whose bias gradient is weighted over time.

    ``gains`` [steps] or None: x and the output have steps * B rows, time first. With ``adds`` the gradient of a weight that is
    a leaf is added to ``.grad`` here: with a backward for every piece of time, a product that adds saves a third of autograd's
    memory traffic. (Its sum is rounded otherwise than that of the products alone.)
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        operand: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        gains: Tensor | None,
        synapse: Any,
        adds: bool,
    ) -> Tensor:
        ctx.save_for_backward(operand, weight, gains)
        ctx.synapse, ctx.leaf = synapse, weight if adds and weight.is_leaf else None
        result: Tensor = synapse.map(x, weight, bias)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        operand, weight, gains = ctx.saved_tensors
        synapse, for_weight = ctx.synapse, None
        down = synapse.input_gradient(operand, weight, grad) if ctx.needs_input_grad[0] else None
        if ctx.needs_input_grad[2]:
            if ctx.leaf is None:
                for_weight = synapse.operand_gradient(operand, grad)
            else:
                synapse.add_operand_gradient(ctx.leaf, operand, grad)
        for_bias = bias_gradient(grad, gains) if ctx.needs_input_grad[3] else None
        return down, None, for_weight, for_bias, None, None, None
