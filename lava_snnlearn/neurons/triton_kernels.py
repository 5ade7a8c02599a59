"""Time loops of LIF neurons on a GPU, written in Triton; :mod:`lava_snnlearn.neurons.fused` calls them with checked arrays.

Arrays are [T, N] as in ``numba_kernels``; [1, N] where all steps are the same: their stride in time is 0. Each program takes a
block of neurons through all time steps, with the membranes in registers. Multiply and add are not contracted, so that membranes
and spikes have the bits of torch.

With TRITON_INTERPRET=1 the kernels run on CPU tensors, slowly; so they are tested without a GPU. For the interpreter of
Triton 2, nothing is negated, annotations are no strings, and all numbers, 0 and 1 too, come in a tensor in the dtype of the
current (which float64 needs anyway: Triton passes plain numbers in single precision).
"""

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lava_snnlearn.neurons.surrogate import FUSED, Sigmoid, Triangle

if TYPE_CHECKING:
    from lava_snnlearn.neurons.inputs import Dynamics

DEVICES = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)
_BLOCK = 256


@triton.jit
def _slope(charged, threshold, first, second, zero, one, SIGMOID: tl.constexpr, TRIANGLE: tl.constexpr):  # type: ignore[no-untyped-def]
    """phi'(u - Vth); ``first`` and ``second`` as :func:`_numbers` gives them."""
    x = charged - threshold
    if SIGMOID:
        e = tl.exp(zero - tl.abs(first * x))
        slope = first * e / ((one + e) * (one + e))
    elif TRIANGLE:
        slope = first - second * tl.abs(x)
        slope = tl.where(slope < zero, zero, slope)  # not a maximum, which would hide a NaN
    else:
        slope = tl.where(tl.abs(x) <= second, first, zero)
    return slope


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    current, membrane, spike, charged, trace, previous, numbers, N, T, stride,
    KEEP: tl.constexpr, TRACED: tl.constexpr, HARD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < N
    lam = tl.load(numbers)
    threshold = tl.load(numbers + 1)
    trace_lam = tl.load(numbers + 2)
    zero = tl.load(numbers + 5)
    one = tl.load(numbers + 6)
    v = tl.load(membrane + at, mask=mask)
    a = tl.load(previous + at, mask=mask)
    current += at
    spike += at
    charged += at
    trace += at
    for _ in range(T):
        u = lam * v + tl.load(current, mask=mask)
        s = tl.where(u >= threshold, one, zero)
        tl.store(spike, s, mask=mask)
        if KEEP:
            tl.store(charged, u, mask=mask)
        if TRACED:
            a = trace_lam * a + s
            tl.store(trace, a, mask=mask)
        if HARD:
            v = u * (one - s)
        else:
            v = u - threshold * s
        current += stride
        spike += N
        charged += N
        trace += N
    tl.store(membrane + at, v, mask=mask)


@triton.jit
def _backward_full(  # type: ignore[no-untyped-def]
    grad, grad_membrane, charged, grad_spike, numbers, N, T, last, step, last_arriving, step_arriving,
    SUMMED: tl.constexpr, HARD: tl.constexpr, DETACH: tl.constexpr, SIGMOID: tl.constexpr, TRIANGLE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < N
    lam = tl.load(numbers)
    threshold = tl.load(numbers + 1)
    first = tl.load(numbers + 3)
    second = tl.load(numbers + 4)
    zero = tl.load(numbers + 5)
    one = tl.load(numbers + 6)
    later = tl.load(grad_membrane + at, mask=mask)
    total = tl.where(mask, zero, zero)
    charged += at + last
    grad_spike += at + last_arriving
    row = grad + at
    if not SUMMED:
        row += last
    for _ in range(T):
        u = tl.load(charged, mask=mask)
        slope = _slope(u, threshold, first, second, zero, one, SIGMOID, TRIANGLE)
        arriving = tl.load(grad_spike, mask=mask)
        if not DETACH:
            if HARD:
                arriving = arriving - u * later
            else:
                arriving = arriving - threshold * later
        if HARD:
            g = slope * arriving + tl.where(u >= threshold, zero, later)
        else:
            g = slope * arriving + later
        later = lam * g
        if SUMMED:
            total += g
        else:
            tl.store(row, g, mask=mask)
            row += step
        charged += step
        grad_spike += step_arriving
    if SUMMED:
        tl.store(row, total, mask=mask)
    tl.store(grad_membrane + at, later, mask=mask)


@triton.jit
def _backward_instant(  # type: ignore[no-untyped-def]
    grad, charged, grad_spike, weights, numbers, N, T, stride,
    SUMMED: tl.constexpr, SIGMOID: tl.constexpr, TRIANGLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < N
    threshold = tl.load(numbers + 1)
    first = tl.load(numbers + 3)
    second = tl.load(numbers + 4)
    zero = tl.load(numbers + 5)
    one = tl.load(numbers + 6)
    charged += at
    grad_spike += at
    grad += at
    total = tl.where(mask, zero, zero)
    for _ in range(T):
        slope = _slope(tl.load(charged, mask=mask), threshold, first, second, zero, one, SIGMOID, TRIANGLE)
        g = slope * tl.load(grad_spike, mask=mask)
        if SUMMED:
            total += tl.load(weights) * g
            weights += 1
        else:
            tl.store(grad, g, mask=mask)
            grad += N
        charged += N
        grad_spike += stride
    if SUMMED:
        tl.store(grad, total, mask=mask)


@lru_cache(maxsize=256)
def _numbers(dynamics: "Dynamics", dtype: torch.dtype, device: torch.device) -> Tensor:
    """lam, Vth, lam of the trace, the surrogate's factor and its slope or half width, 0 and 1."""
    a = dynamics.a
    shape = {FUSED[Sigmoid]: (a, 0.0), FUSED[Triangle]: (a, a * a)}.get(dynamics.kind, (1 / a, a / 2))
    return torch.tensor([dynamics.lam, dynamics.threshold, dynamics.trace_lam, *shape, 0.0, 1.0], dtype=dtype, device=device)


def _launch(kernel: Any, neurons: int, *arguments: Any, **flags: bool) -> None:
    if neurons:
        with torch.cuda.device_of(arguments[0]):
            kernel[(-(-neurons // _BLOCK),)](*arguments, **flags, BLOCK=_BLOCK, enable_fp_fusion=False)


def _kind(dynamics: "Dynamics") -> dict[str, bool]:
    return {"SIGMOID": dynamics.kind == FUSED[Sigmoid], "TRIANGLE": dynamics.kind == FUSED[Triangle]}


def _stride(rows: Tensor) -> int:
    """From one time step to the next; 0 for rows that are the same at every step."""
    return 0 if len(rows) == 1 else rows.shape[1]


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Memory for a result, in dtype and place of ``like``."""
    return like.new_empty(shape)


def forward(
    dynamics: "Dynamics",
    current: Tensor,
    membrane: Tensor,
    spike: Tensor,
    charged: Tensor | None,
    trace: Tensor | None,
    previous: Tensor | None,
) -> None:
    """As ``numba_kernels.forward``."""
    steps, neurons = spike.shape
    # Triton wants a pointer for every argument; where the flags say that it is not used, any will do.
    _launch(
        _forward, neurons, current, membrane, spike,
        spike if charged is None else charged, spike if trace is None else trace, membrane if previous is None else previous,
        _numbers(dynamics, spike.dtype, spike.device), neurons, steps, _stride(current),
        KEEP=charged is not None, TRACED=trace is not None, HARD=dynamics.hard,
    )  # fmt: skip


def backward_full(dynamics: "Dynamics", charged: Tensor, grad_spike: Tensor, grad: Tensor, grad_membrane: Tensor) -> None:
    """As ``numba_kernels.backward_full``."""
    steps, neurons = charged.shape
    _launch(
        _backward_full, neurons, grad, grad_membrane, charged, grad_spike,
        _numbers(dynamics, charged.dtype, charged.device), neurons, steps,
        (steps - 1) * neurons, -neurons, (len(grad_spike) - 1) * neurons, -_stride(grad_spike),
        SUMMED=len(grad) == 1, HARD=dynamics.hard, DETACH=dynamics.detach, **_kind(dynamics),
    )  # fmt: skip


def backward_instant(dynamics: "Dynamics", charged: Tensor, grad_spike: Tensor, grad: Tensor, weights: Tensor) -> None:
    """As ``numba_kernels.backward_instant``."""
    steps, neurons = charged.shape
    _launch(
        _backward_instant, neurons, grad, charged, grad_spike, weights,
        _numbers(dynamics, charged.dtype, charged.device), neurons, steps, _stride(grad_spike),
        SUMMED=len(grad) == 1, **_kind(dynamics),
    )  # fmt: skip
