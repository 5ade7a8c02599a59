"""Time loops of LIF neurons on the CPU, compiled by numba; its neighbours ``fused`` and ``rates`` call it with checked arrays.

Arrays are [T, N], all neurons of all samples side by side in N (an array that is the same at every step is [1, N]). A block of
neurons goes through all time steps before the next block starts, so that its membranes stay in the first-level cache. The loops
over a block's neurons are free of branches and of arrays that overlap, so that LLVM turns them into vector instructions. No
fastmath: multiply and add stay two roundings, as in torch, so that membranes and spikes have the reference's bits.

Work is shared among plain Python threads (the kernels run without the GIL) that end with the call: no thread pool is left when
Lava forks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import types
from numba.extending import overload
from torch import Tensor

from lava_snnlearn.neurons.compiling import ERROR_MODEL, compiled, inlined
from lava_snnlearn.neurons.surrogate import FUSED, Sigmoid, Triangle
from lava_snnlearn.neurons.threads import in_threads

if TYPE_CHECKING:
    from lava_snnlearn.neurons.inputs import Dynamics

DEVICES = ("cpu",)
_BLOCK = 2048  # neurons; a row of float32 takes 8 KiB of the first-level cache
_WORTH_A_THREAD = 1 << 17  # time steps x neurons: below, starting a thread costs more than it saves
_SIGMOID, _TRIANGLE = FUSED[Sigmoid], FUSED[Triangle]
_LOG2_E = np.float32(1 / math.log(2))
_ROUNDER = np.float32(1.5 * 2**23)  # added to a small number, it leaves the nearest whole one in the lowest bits
_EXPONENT_BIAS = np.int32(127)
_LN2_HIGH = np.float32(0.693359375)  # 9 bits, so that its products with small whole numbers are exact
_LN2_LOW = np.float32(math.log(2) - 0.693359375)
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / math.factorial(n)) for n in range(2, 8))


def exp_of_negative(z: Any) -> Any:
    """exp(z) for z <= 0, in the dtype of z."""


@overload(exp_of_negative, jit_options={"error_model": ERROR_MODEL})
def _exp_by_dtype(z: Any) -> Callable[[Any], Any]:
    def by_series(z: Any) -> Any:
        # 2^n e^r with abs(r) <= ln(2) / 2: the Taylor series to r^7 is good to 1e-8, and all of it is vector instructions
        z = np.float32(-87) if z < np.float32(-87) else z
        shifted = z * _LOG2_E + _ROUNDER
        n = shifted - _ROUNDER
        r = (z - n * _LN2_HIGH) - n * _LN2_LOW
        tail = _C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * (_C6 + r * _C7))))
        two_to_n = np.int32((np.float32(shifted).view(np.int32) + _EXPONENT_BIAS) << np.int32(23)).view(np.float32)
        return two_to_n * (np.float32(1) + (r + r * r * tail))

    def by_library(z: Any) -> Any:
        return math.exp(z)

    return by_series if z == types.float32 else by_library


@inlined
def _slope_row(slope: np.ndarray, charged: np.ndarray, threshold: Any, kind: int, a: np.ndarray) -> None:
    """phi'(u - Vth). ``a`` holds the numbers of :func:`_shape`."""
    zero = slope.dtype.type(0)
    one = slope.dtype.type(1)
    first = a[0]
    second = a[1]
    if kind == _SIGMOID:
        for j in range(len(slope)):
            e = exp_of_negative(-abs(first * (charged[j] - threshold)))
            slope[j] = first * e / ((one + e) * (one + e))
    elif kind == _TRIANGLE:
        for j in range(len(slope)):
            y = first - second * abs(charged[j] - threshold)
            slope[j] = zero if y < zero else y
    else:
        for j in range(len(slope)):
            slope[j] = first if abs(charged[j] - threshold) <= second else zero


@inlined
def _charge_row(charged: np.ndarray, membrane: np.ndarray, current: np.ndarray, lam: Any) -> None:
    for j in range(len(charged)):
        charged[j] = lam * membrane[j] + current[j]


@inlined
def _charge_in_place(charged: np.ndarray, membrane: np.ndarray, lam: Any) -> None:
    for j in range(len(charged)):
        charged[j] = lam * membrane[j] + charged[j]


@inlined
def _fire_row(spike: np.ndarray, membrane: np.ndarray, charged: np.ndarray, threshold: Any, hard: bool) -> None:
    zero = spike.dtype.type(0)
    one = spike.dtype.type(1)
    if hard:
        for j in range(len(spike)):
            s = one if charged[j] >= threshold else zero
            spike[j] = s
            membrane[j] = charged[j] * (one - s)
    else:
        for j in range(len(spike)):
            s = one if charged[j] >= threshold else zero
            spike[j] = s
            membrane[j] = charged[j] - threshold * s


@compiled
def _forward(
    start: int, stop: int, current: np.ndarray, membrane: np.ndarray, spike: np.ndarray, charged: np.ndarray, keep: bool,
    in_place: bool, trace: np.ndarray, previous: np.ndarray, traced: bool, lam: Any, threshold: Any, hard: bool, trace_lam: Any,
) -> None:  # fmt: skip
    scratch = np.empty(_BLOCK, spike.dtype)
    for low in range(start, stop, _BLOCK):
        high = min(low + _BLOCK, stop)
        v = membrane[low:high]
        for t in range(len(spike)):
            u = charged[t, low:high] if keep else scratch[: high - low]
            s = spike[t, low:high]
            if in_place:
                _charge_in_place(u, v, lam)
            else:
                _charge_row(u, v, current[min(t, len(current) - 1), low:high], lam)
            _fire_row(s, v, u, threshold, hard)
            if traced:
                _charge_row(trace[t, low:high], trace[t - 1, low:high] if t else previous[low:high], s, trace_lam)


@inlined
def _adjoint_row(
    grad: np.ndarray, later: np.ndarray, slope: np.ndarray, grad_spike: np.ndarray, charged: np.ndarray, lam: Any,
    threshold: Any, hard: bool, detach: bool,
) -> None:  # fmt: skip
    """dL/du[t] into ``grad`` from ``later`` = dL/dv[t], which becomes dL/dv[t-1]."""
    zero = grad.dtype.type(0)
    n = len(grad)
    if hard and detach:
        for j in range(n):
            g = slope[j] * grad_spike[j] + (zero if charged[j] >= threshold else later[j])
            grad[j] = g
            later[j] = lam * g
    elif hard:
        for j in range(n):
            g = slope[j] * (grad_spike[j] - charged[j] * later[j]) + (zero if charged[j] >= threshold else later[j])
            grad[j] = g
            later[j] = lam * g
    elif detach:
        for j in range(n):
            g = slope[j] * grad_spike[j] + later[j]
            grad[j] = g
            later[j] = lam * g
    else:
        for j in range(n):
            g = slope[j] * (grad_spike[j] - threshold * later[j]) + later[j]
            grad[j] = g
            later[j] = lam * g


@inlined
def _add_row(total: np.ndarray, row: np.ndarray) -> None:
    for j in range(len(total)):
        total[j] += row[j]


@compiled
def _backward_full(
    start: int, stop: int, grad: np.ndarray, later: np.ndarray, charged: np.ndarray, grad_spike: np.ndarray, lam: Any,
    threshold: Any, hard: bool, detach: bool, kind: int, a: np.ndarray,
) -> None:  # fmt: skip
    slopes = np.empty(_BLOCK, grad.dtype)
    scratch = np.empty(_BLOCK, grad.dtype)
    summed = len(grad) == 1
    for low in range(start, stop, _BLOCK):
        high = min(low + _BLOCK, stop)
        slope = slopes[: high - low]
        if summed:
            grad[0, low:high] = 0
        for t in range(len(charged) - 1, -1, -1):
            u = charged[t, low:high]
            g = scratch[: high - low] if summed else grad[t, low:high]
            _slope_row(slope, u, threshold, kind, a)
            gs = grad_spike[min(t, len(grad_spike) - 1), low:high]
            _adjoint_row(g, later[low:high], slope, gs, u, lam, threshold, hard, detach)
            if summed:
                _add_row(grad[0, low:high], g)


@inlined
def _product_row(product: np.ndarray, slope: np.ndarray, grad_spike: np.ndarray) -> None:
    for j in range(len(product)):
        product[j] = slope[j] * grad_spike[j]


@inlined
def _add_scaled_product(total: np.ndarray, weight: Any, slope: np.ndarray, grad_spike: np.ndarray) -> None:
    for j in range(len(total)):
        total[j] += weight * (slope[j] * grad_spike[j])


@compiled
def _backward_instant(
    start: int, stop: int, grad: np.ndarray, charged: np.ndarray, grad_spike: np.ndarray, weights: np.ndarray, threshold: Any,
    kind: int, a: np.ndarray,
) -> None:  # fmt: skip
    slopes = np.empty(_BLOCK, grad.dtype)
    summed = len(grad) == 1
    for low in range(start, stop, _BLOCK):
        high = min(low + _BLOCK, stop)
        slope = slopes[: high - low]
        if summed:
            grad[0, low:high] = 0
        for t in range(len(charged)):
            _slope_row(slope, charged[t, low:high], threshold, kind, a)
            gs = grad_spike[min(t, len(grad_spike) - 1), low:high]
            if summed:
                _add_scaled_product(grad[0, low:high], weights[t], slope, gs)
            else:
                _product_row(grad[t, low:high], slope, gs)


@compiled
def _leaky_sum(start: int, stop: int, total: np.ndarray, signal: np.ndarray, previous: np.ndarray, lam: Any) -> None:
    for low in range(start, stop, _BLOCK):
        high = min(low + _BLOCK, stop)
        for t in range(len(total)):
            before = total[t - 1, low:high] if t else previous[low:high]
            _charge_row(total[t, low:high], before, signal[min(t, len(signal) - 1), low:high], lam)


@inlined
def _next_gain(
    gain: np.ndarray, slope: np.ndarray, charged: np.ndarray, lam: Any, threshold: Any, hard: bool, detach: bool
) -> None:
    """k[t+1] from k[t] in place."""
    zero = gain.dtype.type(0)
    one = gain.dtype.type(1)
    n = len(gain)
    if hard and detach:
        for j in range(n):
            gain[j] = one + gain[j] * lam * (zero if charged[j] >= threshold else one)
    elif hard:
        for j in range(n):
            kept = zero if charged[j] >= threshold else one
            gain[j] = one + gain[j] * lam * (kept - charged[j] * slope[j])
    else:
        for j in range(n):
            gain[j] = one + gain[j] * lam * (one - threshold * slope[j])


@inlined
def _add_scaled_row(total: np.ndarray, weight: Any, row: np.ndarray) -> None:
    for j in range(len(total)):
        total[j] += weight * row[j]


@compiled
def _rate(
    start: int, stop: int, current: np.ndarray, membrane: np.ndarray, spike: np.ndarray, gain: np.ndarray, per_neuron: bool,
    sums: np.ndarray, weights: np.ndarray, gains: np.ndarray, lam: Any, threshold: Any, hard: bool, detach: bool, kind: int,
    a: np.ndarray,
) -> None:  # fmt: skip
    charges = np.empty(_BLOCK, spike.dtype)
    slopes = np.empty(_BLOCK, spike.dtype)
    for low in range(start, stop, _BLOCK):
        high = min(low + _BLOCK, stop)
        u = charges[: high - low]
        slope = slopes[: high - low]
        for t in range(len(spike)):
            i = current[min(t, len(current) - 1), low:high]
            s = spike[t, low:high]
            _charge_row(u, membrane[low:high], i, lam)
            _fire_row(s, membrane[low:high], u, threshold, hard)
            _slope_row(slope, u, threshold, kind, a)
            _add_scaled_row(sums[0, low:high], weights[t], s)
            _add_scaled_row(sums[2, low:high], weights[t], i)
            if per_neuron:
                _add_scaled_product(sums[1, low:high], weights[t], slope, gain[low:high])
                _next_gain(gain[low:high], slope, u, lam, threshold, hard, detach)
            else:
                _add_scaled_row(sums[1, low:high], gains[t], slope)


def _run(kernel: compiled, steps: int, neurons: int, *arguments: Any) -> None:
    """Run ``kernel`` on all neurons, in as many threads as torch uses (in this one, if it is small or torch has one)."""
    blocks = -(-neurons // _BLOCK)
    workers = max(1, min(torch.get_num_threads(), blocks, steps * neurons // _WORTH_A_THREAD))
    in_threads(kernel, [min(neurons, blocks * i // workers * _BLOCK) for i in range(workers + 1)], *arguments)


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Memory for a result, in the dtype of ``like``.

    From numpy, which asks for huge pages: the page faults of fresh memory from torch take longer than a kernel does.
    """
    return torch.from_numpy(np.empty(shape, np.float32 if like.dtype == torch.float32 else np.float64))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def _scalars(dtype: torch.dtype, *values: float) -> list[Any]:
    kind = np.float32 if dtype == torch.float32 else np.float64
    return [kind(value) for value in values]


def _shape(dynamics: Dynamics, dtype: torch.dtype) -> np.ndarray:
    """The two numbers of a surrogate that :func:`_slope_row` needs: its factor, and its slope or half width."""
    a = dynamics.a
    numbers = {_SIGMOID: (a, 0.0), _TRIANGLE: (a, a * a)}.get(dynamics.kind, (1 / a, a / 2))
    return np.array(_scalars(dtype, *numbers))


def forward(
    dynamics: Dynamics,
    current: Tensor,
    membrane: Tensor,
    spike: Tensor,
    charged: Tensor | None,
    trace: Tensor | None,
    previous: Tensor | None,
) -> None:
    """Fill ``spike`` [T, N] (and ``charged``, ``trace`` unless None) from ``current`` [T or 1, N]; ``membrane`` [N] is updated.

    ``charged`` may be ``current`` itself. ``previous`` [N] is the trace before the first step.
    """
    dtype = spike.dtype
    none = spike.new_empty((0, 0))
    lam, threshold, trace_lam = _scalars(dtype, dynamics.lam, dynamics.threshold, dynamics.trace_lam)
    _run(
        _forward, *spike.shape,
        _array(current), _array(membrane), _array(spike),
        _array(none if charged is None else charged), charged is not None, charged is current,
        _array(none if trace is None else trace), _array(membrane if previous is None else previous), trace is not None,
        lam, threshold, dynamics.hard, trace_lam,
    )  # fmt: skip


def backward_full(dynamics: Dynamics, charged: Tensor, grad_spike: Tensor, grad: Tensor, grad_membrane: Tensor) -> None:
    """BPTT: ``grad`` [T, N] (or [1, N]: their sum) of the current; ``grad_membrane`` [N] goes from dL/dv[T-1] to dL/dv[-1]."""
    dtype = charged.dtype
    lam, threshold = _scalars(dtype, dynamics.lam, dynamics.threshold)
    _run(
        _backward_full, *charged.shape,
        _array(grad), _array(grad_membrane), _array(charged), _array(grad_spike),
        lam, threshold, dynamics.hard, dynamics.detach, dynamics.kind, _shape(dynamics, dtype),
    )  # fmt: skip


def backward_instant(dynamics: Dynamics, charged: Tensor, grad_spike: Tensor, grad: Tensor, weights: Tensor) -> None:
    """No path through time: ``grad`` [T, N], or [1, N]: the sum over time weighted by ``weights`` [T]."""
    dtype = charged.dtype
    (threshold,) = _scalars(dtype, dynamics.threshold)
    _run(
        _backward_instant, *charged.shape,
        _array(grad), _array(charged), _array(grad_spike), _array(weights),
        threshold, dynamics.kind, _shape(dynamics, dtype),
    )  # fmt: skip


def leaky_sum(total: Tensor, signal: Tensor, previous: Tensor, lam: float) -> None:
    """Fill ``total`` [T, N] from ``signal`` [T or 1, N] and ``previous`` [N]."""
    _run(_leaky_sum, *total.shape, _array(total), _array(signal), _array(previous), *_scalars(total.dtype, lam))


def rate(
    dynamics: Dynamics, current: Tensor, membrane: Tensor, spike: Tensor, gain: Tensor | float, sums: Tensor, weights: Tensor
) -> Tensor | float:
    """Fill ``spike`` [T, N]; update ``membrane`` [N] and ``sums`` [3, N] (spike, slope, current); return the gain afterwards.

    ``gain`` is [N], which is updated, or one number for all neurons (soft reset, detached). ``weights`` is [T].
    """
    dtype = spike.dtype
    gains, per_neuron = [0.0] * len(spike), isinstance(gain, Tensor)
    after = gain
    if not isinstance(after, Tensor):
        for t in range(len(spike)):
            gains[t] = after
            after = 1.0 + dynamics.lam * after
    lam, threshold = _scalars(dtype, dynamics.lam, dynamics.threshold)
    _run(
        _rate, *spike.shape,
        _array(current), _array(membrane), _array(spike),
        _array(gain) if isinstance(gain, Tensor) else _array(spike.new_empty(0)), per_neuron,
        _array(sums), _array(weights), _array(weights * weights.new_tensor(gains)),
        lam, threshold, dynamics.hard, dynamics.detach, dynamics.kind, _shape(dynamics, dtype),
    )  # fmt: skip
    return after
