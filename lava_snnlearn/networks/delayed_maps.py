"""The linear map of delayed spikes, forward and backward.

    y_i[t] = sum_j W_ij m_ij[t] + b_i,        m_ij[t] = x_j[t - d_ij]            (axonal: d_j)

    dL/dW_ij = sum_t g_i[t] a_ij[t]           a: m, or the delayed trace of x (trace engine)
    dL/dd_ij = sum_t g_i[t] W_ij a'_ij[t]     a': see :mod:`lava_snnlearn.networks.delays`
    dL/dx_j[t] = sum_i W_ij g_i[t + d_ij]     (full engine)
               = sum_i W_ij g_i[t]            (online engines)

Weights and delays learn from what they have heard by now, so their online gradients are local. The error of an online method
would have to be sent to the step in the past in which the spike was sent, which is gone; it goes to the neurons that the layer
below has in the present step. That is an approximation, the better the slower the activity changes.

Memory: a walk keeps the last max_delay steps of what every delayed synapse reads, [max_delay, B, n_in], the trace engine as
many of the trace, however many steps there are; BPTT's graph has them once more for every piece of time.

Axonal delays shift columns and leave one dense product. Synaptic ones go through
:mod:`lava_snnlearn.neurons.delay_kernels` on the CPU, elsewhere through one product a distinct delay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lava_snnlearn.networks.event_products import bias_gradient


@dataclass(frozen=True)
class Rule:
    """How one call of :func:`delayed_linear` is taken back; H = ``limit`` steps of the past precede the L steps of the call.

    Args:
        axonal: one delay a source neuron.
        limit: largest delay.
        prepare: what the map makes of spikes [T, B, n_in] first: ``gain`` times them, in the dtype of the product.
        gain: see there.
        error_map: for the online engines, (like, weight, gradient of the output [L * B, n_out]) -> error for the layer below
            [L * B, n_in] in the present step; None: the exact one, through the delays.
        operand: [H + L, B, n_in], what weights and delays learn from in place of the spikes; None: the spikes.
        slope: [H + L, B, n_in], what delays learn from instead of the operand's differences; None: these.
        gains: [L], what steps count in the bias's gradient; None: 1.
        binary: signal and past are 0 and 1, and may be kept in bytes.
    """

    axonal: bool
    limit: int
    prepare: Callable[[Tensor], Tensor]
    gain: float = 1.0
    error_map: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    operand: Tensor | None = None
    slope: Tensor | None = None
    gains: Tensor | None = None
    binary: bool = False


def delayed_linear(signal: Tensor, past: Tensor, weight: Tensor, bias: Tensor | None, delay: Tensor, rule: Rule) -> Tensor:
    """The map of a signal [L, B, n_in] behind the last H steps [H, B, n_in]; [L, B, n_out].

    ``weight`` [n_out, n_in]; ``delay`` whole steps as floating point, 0..H, [n_in] or [n_out, n_in].
    """
    result: Tensor = _DelayedLinear.apply(signal, past, weight, bias, delay, rule)
    return result


class _DelayedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, signal: Tensor, past: Tensor, weight: Tensor, bias: Tensor | None, delay: Tensor, rule: Rule
    ) -> Tensor:
        whole, steps = torch.cat([past, signal]), delay.long()
        heard = rule.prepare(whole)
        out = _apply(heard, weight, steps, len(signal), rule.axonal)
        ctx.rule, ctx.length = rule, len(signal)
        kept = None
        if rule.operand is None:
            kept = whole.to(torch.uint8) if rule.binary else whole
        ctx.save_for_backward(weight, steps, kept)
        ctx.dtypes = signal.dtype, delay.dtype
        return out if bias is None else out + bias

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, steps, kept = ctx.saved_tensors
        rule: Rule = ctx.rule
        signal_dtype, delay_dtype = ctx.dtypes
        to_signal, to_past, to_weight, to_bias, to_delay, _ = ctx.needs_input_grad
        error = grad.contiguous()
        for_weight = for_delay = for_bias = down = before = None
        back = None  # dL/dm of axonal delays, where the error passes once for all targets
        if to_weight or to_delay:
            heard = rule.prepare(kept.to(signal_dtype) if rule.operand is None else rule.operand)
            if to_weight:
                for_weight = _correlate(error, heard, steps, rule.axonal)
            if to_delay:
                slope = None if rule.slope is None else rule.prepare(rule.slope)
                if rule.axonal:
                    back = error @ weight
                    for_delay = _delay_gradient(back, heard, slope, steps, rule)
                else:
                    for_delay = weight * _delay_gradient(error, heard, slope, steps, rule)
                for_delay = for_delay.to(delay_dtype)
        if to_signal or to_past:
            down, before = _errors(error, weight, steps, back, rule)
            down = down.to(signal_dtype)
            before = before.to(signal_dtype) if to_past and before is not None else None
        if to_bias:
            for_bias = bias_gradient(error.flatten(0, 1), rule.gains)
        return down if to_signal else None, before, for_weight, for_bias, for_delay, None


def _errors(error: Tensor, weight: Tensor, steps: Tensor, back: Tensor | None, rule: Rule) -> tuple[Tensor, Tensor | None]:
    """Gradients of the signal and (full engine) of its past."""
    length, batch = error.shape[:2]
    if rule.error_map is not None:
        like = error.new_empty(()).expand(length * batch, weight.shape[1])
        return rule.gain * rule.error_map(like, weight, error.flatten(0, 1)).view(length, batch, -1), None
    if rule.axonal:
        whole = _unshift(error @ weight if back is None else back, steps, rule.limit)
    else:
        whole = _scatter(error, weight, steps, rule.limit)
    whole = whole if rule.gain == 1.0 else whole * rule.gain
    return whole[rule.limit :], whole[: rule.limit]


def _apply(heard: Tensor, weight: Tensor, steps: Tensor, length: int, axonal: bool) -> Tensor:
    """sum_j W_ij x_j[t - d_ij] for the last ``length`` steps of [H + L, B, n_in]."""
    if axonal:
        return F.linear(_shift(heard, steps, length), weight)
    kernels = _kernels(heard)
    if kernels is None:
        past = len(heard) - length
        parts = [_at(heard, past - d, length) @ torch.where(steps == d, weight, 0.0).t() for d in _distinct(steps)]
        return torch.stack(parts).sum(0)
    batch = heard.shape[1]
    offset = _offsets(steps, len(heard) - length, batch)
    summed = kernels.delayed_sums(_rows(heard), weight.detach().contiguous().numpy(), offset, length * batch, _threads())
    return torch.from_numpy(summed).t().reshape(length, batch, -1)


def _correlate(error: Tensor, heard: Tensor, steps: Tensor, axonal: bool) -> Tensor:
    """sum_t g_i[t] x_j[t - d_ij], [n_out, n_in]."""
    length, batch = error.shape[:2]
    if axonal:
        return error.flatten(0, 1).t() @ _shift(heard, steps, length).flatten(0, 1)
    kernels = _kernels(heard)
    past = len(heard) - length
    if kernels is None:
        flat, result = error.flatten(0, 1).t(), error.new_zeros(steps.shape)
        for d in _distinct(steps):
            result = torch.where(steps == d, flat @ _at(heard, past - d, length).flatten(0, 1), result)
        return result
    return torch.from_numpy(kernels.delayed_products(_rows(error), _rows(heard), _offsets(steps, past, batch), _threads()))


def _scatter(error: Tensor, weight: Tensor, steps: Tensor, limit: int) -> Tensor:
    """sum_i W_ij g_i[t + d_ij] at all steps of past and present, [H + L, B, n_in]."""
    length, batch = error.shape[:2]
    kernels = _kernels(error)
    if kernels is None:
        whole = error.new_zeros(limit + length, batch, weight.shape[1])
        for d in _distinct(steps):
            _at(whole, limit - d, length).add_(error @ torch.where(steps == d, weight, 0.0))
        return whole
    offset, columns = _offsets(steps, limit, batch), (limit + length) * batch
    found = kernels.delayed_back(_rows(error), weight.contiguous().numpy(), offset, columns, _threads())
    return torch.from_numpy(found).t().reshape(limit + length, batch, -1)


def _delay_gradient(error: Tensor, heard: Tensor, slope: Tensor | None, steps: Tensor, rule: Rule) -> Tensor:
    """sum_t g[t] dm[t]/dd by the slope, or by the difference of the neighbouring steps within the range."""

    def learned_at(signal: Tensor, delays: Tensor) -> Tensor:
        if rule.axonal:
            return (error * _shift(signal, delays, len(error))).sum((0, 1))
        return _correlate(error, signal, delays, False)

    if slope is not None:
        return learned_at(slope, steps)
    later, sooner = (steps + 1).clamp_(max=rule.limit), (steps - 1).clamp_(min=0)
    return (learned_at(heard, later) - learned_at(heard, sooner)) / (later - sooner)


def _shift(heard: Tensor, steps: Tensor, length: int) -> Tensor:
    """x_j[t - d_j] for the last ``length`` steps, [L, B, n]."""
    start = len(heard) - length
    at = torch.arange(start, start + length, device=heard.device).unsqueeze(1) - steps
    return heard.gather(0, at.unsqueeze(1).expand(-1, heard.shape[1], -1))


def _unshift(error: Tensor, steps: Tensor, limit: int) -> Tensor:
    """g_j[t + d_j] at all steps of past and present, [H + L, B, n]."""
    length = len(error)
    at = torch.arange(-limit, length, device=error.device).unsqueeze(1) + steps
    inside = (at >= 0) & (at < length)
    found = error.gather(0, at.clamp(0, length - 1).unsqueeze(1).expand(-1, error.shape[1], -1))
    return found * inside.unsqueeze(1)


def _at(whole: Tensor, first: int, length: int) -> Tensor:
    return whole[first : first + length]


def _distinct(steps: Tensor) -> list[int]:
    return [int(d) for d in torch.unique(steps)]


def _rows(signal: Tensor) -> Any:
    """[T, B, n] as [n, T * B]."""
    return signal.detach().flatten(0, 1).t().contiguous().numpy()


def _offsets(steps: Tensor, past: int, batch: int) -> Any:
    return ((past - steps) * batch).contiguous().numpy()


def _threads() -> int:
    return torch.get_num_threads()


def _kernels(like: Tensor) -> ModuleType | None:
    """The compiled kernels, where they can take this tensor."""
    if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return None
    return _compiled()


@cache
def _compiled() -> ModuleType | None:
    """None where there is no numba."""
    try:
        from lava_snnlearn.neurons import delay_kernels
    except ImportError:
        return None
    return delay_kernels
