"""Products with sparse events: a dense map of an input that is mostly zero costs what the events cost.

For each event the weight's column is added to the current, and in the backward the current's gradient to the column's. On a CPU
this beats the dense product below a density that was measured (benchmarks/event_input.py); above it, and on a GPU, the dense
product is used.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

DENSITY = 0.2
"""Below this share of values that are not zero, divided by the threads of the dense product, events are faster."""
SIZE = 1 << 14
"""Inputs with fewer values are not worth the look."""


def worthwhile(signal: Tensor) -> bool:
    """Whether the product over events is the faster one for this input [M, ...]."""
    return (
        signal.device.type == "cpu"
        and signal.dtype in (torch.float32, torch.float64)
        and signal.numel() >= SIZE
        and not signal.requires_grad
        and _kernels() is not None
        and int(signal.count_nonzero()) < DENSITY / torch.get_num_threads() * signal.numel()
    )


class Traced(NamedTuple):
    """How a gradient over time uses the trace a[t] = lam a[t-1] + s[t] of a signal s instead of s itself.

    ``previous`` [B, n_in] is a before the first step; ``gains`` [T] (None: 1) weigh the bias's gradient over time.
    """

    lam: float
    previous: Tensor
    gains: Tensor | None


def sparse_linear(signal: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """signal W^T + b for a signal [M, n_in] without gradient, mostly zero; weight [n_out, n_in]; [M, n_out]."""
    return _SparseLinear.apply(signal, weight, bias, None)


def traced_sparse_linear(signal: Tensor, weight: Tensor, bias: Tensor | None, traced: Traced) -> Tensor:
    """The same for a signal [T * B, n_in], time first, whose weight's gradient uses the signal's trace.

    The trace is not sparse, so it is moved to the other factor: sum_t g[t] a[t] = sum_t e[t] s[t] + lam e[0] a[-1] with
    e[t] = g[t] + lam e[t+1].
    """
    return _SparseLinear.apply(signal, weight, bias, traced)


def bias_gradient(grad: Tensor, gains: Tensor | None) -> Tensor:
    """Sum over all but the channels of grad [T * B, C, ...], weighted over time by ``gains`` [T] (None: 1)."""
    if gains is None:
        return grad.sum([0, *range(2, grad.dim())])
    rows = grad.view(len(gains), -1, *grad.shape[1:])
    return (gains.unsqueeze(1) * rows.sum([1, *range(3, rows.dim())])).sum(0)


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signal: Tensor, weight: Tensor, bias: Tensor | None, traced: Traced | None) -> Tensor:
        rows, columns = signal.nonzero(as_tuple=True)
        values = signal[rows, columns]
        ends = np.zeros(len(signal) + 1, np.int64)
        np.cumsum(torch.bincount(rows, minlength=len(signal)).numpy(), out=ends[1:])
        start = signal.new_zeros(len(weight)) if bias is None else bias.detach()
        out = start.expand(len(signal), -1).contiguous()
        kernels = _kernels()
        assert kernels is not None
        kernels[0](ends, columns.numpy(), values.numpy(), weight.detach().t().contiguous().numpy(), out.numpy())
        ctx.save_for_backward(columns, values)
        ctx.ends, ctx.inputs, ctx.traced = ends, signal.shape[1], traced
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None, None]:
        columns, values = ctx.saved_tensors
        traced: Traced | None = ctx.traced
        for_weight = for_bias = None
        if ctx.needs_input_grad[1]:
            error = grad.contiguous()
            if traced is not None and traced.lam:
                error = _backward_sum(error.view(-1, *traced.previous.shape[:1], grad.shape[1]), traced.lam)
            sums = grad.new_zeros(ctx.inputs, grad.shape[1])
            kernels = _kernels()
            assert kernels is not None
            kernels[1](ctx.ends, columns.numpy(), values.numpy(), error.view_as(grad).numpy(), sums.numpy())
            if traced is not None and traced.lam:
                sums.addmm_(traced.previous.t(), error[0], alpha=traced.lam)
            for_weight = sums.t().contiguous()
        if ctx.needs_input_grad[2]:
            for_bias = bias_gradient(grad, None if traced is None else traced.gains)
        return None, for_weight, for_bias, None


def _backward_sum(error: Tensor, lam: float) -> Tensor:
    """e[t] = g[t] + lam e[t+1] for g [T, B, n]."""
    summed = error.clone()
    for t in range(len(summed) - 2, -1, -1):
        summed[t].add_(summed[t + 1], alpha=lam)
    return summed


@cache
def _kernels() -> tuple[Any, Any] | None:
    """Compiled (gather, scatter); None where there is no numba."""
    try:
        from lava_snnlearn.neurons.compiling import compiled
    except ImportError:
        return None
    return compiled(_gather), compiled(_scatter)


def _gather(ends, columns, values, weight_t, out):  # type: ignore[no-untyped-def]
    for row in range(len(ends) - 1):
        for at in range(ends[row], ends[row + 1]):
            column, value = columns[at], values[at]
            for n in range(out.shape[1]):
                out[row, n] += value * weight_t[column, n]


def _scatter(ends, columns, values, grad, sums):  # type: ignore[no-untyped-def]
    for row in range(len(ends) - 1):
        for at in range(ends[row], ends[row + 1]):
            column, value = columns[at], values[at]
            for n in range(grad.shape[1]):
                sums[column, n] += value * grad[row, n]
