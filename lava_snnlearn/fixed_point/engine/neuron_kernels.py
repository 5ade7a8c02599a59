"""Integer steps of the neurons over a window of time, compiled by numba: :mod:`lava_snnlearn.fixed_point.arithmetic` once more,
in the narrowest integers that hold every value on the way (the tests compare the two over all ranges).

Common arguments of the kernels:

total: int32 [steps, B, n], synaptic sums in weight units. begin, end: its rows to work on, one for each step.
sent, at: uint8 [., B, n], gets the spikes of row i at row at + i; of size 0: nothing is kept.
membranes, kept, column: int32 [T, samples, n], gets the membranes of row i at row kept + i, samples ``column`` and on; of size
    0: nothing is kept.

Registers are int32 where the largest sum leaves room for the shift by 6 bits, else int64; the kernel computes in their dtype.
They return the number of neuron-steps that a 24-bit register did not hold.
"""

from __future__ import annotations

import numpy as np

from lava_snnlearn.neurons.compiling import compiled, inlined

_TOP = (1 << 23) - 1


@inlined
def _leaked(like: np.ndarray, value: int, rest: int) -> int:
    """``sign(x) * ((|x| * rest) >> 12)`` for rest 0..4096, by halves of 12 bits: where |x| <= 2^23, no product exceeds 25 bits.

    Casts to the dtype of ``like`` keep numba from widening every operation to int64.
    """
    kind = like.dtype.type
    magnitude = kind(abs(value))
    high, low = kind(magnitude >> 12), kind(magnitude & 4095)
    left = kind(kind(high * kind(rest)) + kind(kind(low * kind(rest)) >> 12))
    return left if value >= 0 else kind(-left)


@compiled
def soft_reset(
    total: np.ndarray, begin: int, end: int, v: np.ndarray, bias: np.ndarray, rest: int, theta: int, drop: int,
    sent: np.ndarray, at: int, membranes: np.ndarray, kept: int, column: int,
) -> int:  # fmt: skip
    """Reset by subtraction, and accumulators.

    Args:
        v: [B, n], membranes; bias: [n] of the same dtype. rest: 4096 - dv. theta: vth << 6. drop: delta << 6, or 0.
    """
    kind = v.dtype.type
    threshold, fall, top, low = kind(theta), kind(drop), kind(_TOP), kind(-_TOP)
    clipped = 0
    unread = np.empty(v.shape[1], sent.dtype)
    for b in range(len(v)):
        membrane = v[b]
        for i in range(begin, end):
            current = total[i, b]
            spikes = sent[at + i, b] if sent.size else unread
            wide = 0
            for k in range(len(membrane)):
                charged = kind(kind(_leaked(v, membrane[k], rest) + kind(kind(current[k]) << 6)) + bias[k])
                fired = charged >= threshold
                after = kind(charged - fall) if fired else charged
                held = min(max(after, low), top)
                wide += held != after
                membrane[k] = held
                spikes[k] = fired
            clipped += wide
            if membranes.size:
                membranes[kept + i, column + b] = membrane
    return clipped


@compiled
def stock_lif(
    total: np.ndarray, begin: int, end: int, u: np.ndarray, v: np.ndarray, bias: np.ndarray, rest_u: int, rest_v: int,
    theta: int, first: int, interval: int, offset: int, sent: np.ndarray, at: int, membranes: np.ndarray, kept: int,
    column: int,
) -> int:  # fmt: skip
    """Lava's LIF: reset to zero, filtered current, sums of int32; LIFReset.

    Args:
        u, v: [B, n], currents and membranes; bias: [n]; all of one dtype.
        rest_u: 4095 - du. rest_v: 4096 - dv. theta: vth << 6.
        first: the sample's step that row ``begin`` is, counted from 1.
        interval, offset: u = v = 0 before the steps that leave ``offset`` when divided by ``interval``; interval 0: never.
    """
    kind = v.dtype.type
    threshold, top, low, edge, round_trip = kind(theta), kind(_TOP), kind(-_TOP), kind(1 << 23), kind(1 << 24)
    clipped = 0
    for b in range(len(v)):
        filtered, membrane = u[b], v[b]
        for i in range(begin, end):
            if interval and (first + i - begin - offset) % interval == 0:
                filtered[:] = 0
                membrane[:] = 0
            current, spikes = total[i, b], sent[at + i, b]
            wide = 0
            for k in range(len(membrane)):
                arrived = kind(_leaked(u, filtered[k], rest_u) + kind(kind(current[k]) << 6))
                register = kind(np.int32(arrived))
                wrapped = kind(register - round_trip) if register > edge else register
                wrapped = kind(register + round_trip) if register <= -edge else wrapped
                after = kind(kind(_leaked(v, membrane[k], rest_v) + wrapped) + bias[k])
                held = min(max(kind(np.int32(after)), low), top)
                wide += (held != after) | (wrapped != arrived)
                fired = held > threshold
                filtered[k] = wrapped
                membrane[k] = kind(0) if fired else held
                spikes[k] = fired
            clipped += wide
            if membranes.size:
                membranes[kept + i, column + b] = membrane
    return clipped


@compiled
def graded(
    total: np.ndarray, begin: int, end: int, v: np.ndarray, bias: np.ndarray, shift: int, top: int,
    sent: np.ndarray, at: int, membranes: np.ndarray, kept: int, column: int,
) -> None:  # fmt: skip
    """States (sum + bias) >> shift, held in 0..top; v: int64 [B, n], the last of them."""
    for b in range(len(v)):
        for i in range(begin, end):
            current, payloads = total[i, b], sent[at + i, b]
            for k in range(len(payloads)):
                state = min(max((np.int64(current[k]) + bias[k]) >> shift, 0), top)
                v[b, k] = state
                payloads[k] = state
            if membranes.size:
                membranes[kept + i, column + b] = v[b].astype(np.int32)
