"""The backward of :mod:`lava_snnlearn.neurons.message_kernels`, compiled by numba: sample after sample, in reverse time.

From gs[t] = dL/ds[t] (of the decoding, and of messages that arrive later), with phi' at u[t] - Vth and u before the reset:

    gu[t] = phi' (gs[t] - a u[t] gu[t+1]) + a (1 - s[t]) gu[t+1];   gI[t] = gu[t] + a gI[t+1];   gy[t] = kappa c gI[t]
    gA[t] = W^T gy[t];   G_p[t] = sum of gA[t] over the targets of pair p;   gs[t - hop - dhat] += omega G_p[t]
    gdelay += omega G_p[t] slope[t - hop - dhat];   gomega += G_p[t] s[t - hop - dhat];   gW += gy[t] A[t]^T

A[t] is made again from the bits, so that the forward keeps only membranes and bits. Parameters' gradients are added up per
sample, so that their bits do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lava_snnlearn.neurons.compiling import compiled, inlined
from lava_snnlearn.neurons.message_kernels import (
    WORD_BITS,
    Maps,
    Numbers,
    Wiring,
    add_row,
    add_scaled_row,
    clear_reached,
    expand_bits,
    gather_message,
    lowest_bit,
    mark_recent,
    multiply_row,
    send_message,
)
from lava_snnlearn.neurons.numba_kernels import exp_of_negative

_SHARPNESS = 4.0  # of the surrogate 4 sg(4x) (1 - sg(4x))


class Slopes(NamedTuple):
    """Of the delays: steps dhat int8 [Q, R, D]; shortest int8 [Q, R], the shortest of a relation; the exact slope's factors of
    s[n] and s[n-1], in the dtype of the run; whether the published trace takes its place, with its factors of P and Q.
    """

    steps: np.ndarray
    shortest: np.ndarray
    now: Any
    before: Any
    traced: bool
    of_p: Any
    of_q: Any


class Gradients(NamedTuple):
    """Per sample, from 0: code [B, D], delay [B, R, D], omega [B, R, D] (or empty), weight_t [B, Din, D], offset [B, D]
    (or [B, 0]).
    """

    code: np.ndarray
    delay: np.ndarray
    omega: np.ndarray
    weight_t: np.ndarray
    offset: np.ndarray


class _Scratch(NamedTuple):
    """Of one sample. by_spike: gs [N, slots + 1, D], a ring over time with a last slot for what would be sent before t = 0."""

    by_spike: np.ndarray
    trace: np.ndarray
    gu: np.ndarray
    gi: np.ndarray
    gy: np.ndarray
    ga: np.ndarray
    received: np.ndarray
    live: np.ndarray
    reached: np.ndarray
    recent: np.ndarray
    slot: np.ndarray
    message: np.ndarray
    earlier: np.ndarray
    values: np.ndarray
    row: np.ndarray


@inlined
def _adjoint_row(
    gu: np.ndarray, gi: np.ndarray, gy: np.ndarray, charged: np.ndarray, by_spike: np.ndarray, by_feature: np.ndarray,
    a: Any, gain: Any, threshold: Any, decoding: Any,
) -> bool:  # fmt: skip
    """gu, gI of t + 1 become those of t, and gy = kappa c gI; whether any of it is not 0. ``by_spike`` is used up."""
    zero, one = gu.dtype.type(0), gu.dtype.type(1)
    sharp = gu.dtype.type(_SHARPNESS)
    for k in range(len(gu)):
        u = charged[k]
        e = exp_of_negative(-abs(sharp * (u - threshold)))
        slope = sharp * e / ((one + e) * (one + e))
        later = a * gu[k]
        g = slope * (by_spike[k] + decoding * by_feature[k] - u * later) + (zero if u >= threshold else later)
        i = g + a * gi[k]
        by_spike[k] = zero
        gu[k] = g
        gi[k] = i
        gy[k] = gain * i
    found = False
    for k in range(len(gy)):
        found |= gy[k] != 0
    return found


@inlined
def _neurons(
    s: _Scratch, t: int, first: np.ndarray, charged: np.ndarray, by_feature: np.ndarray, weight: np.ndarray, numbers: Numbers,
    decoding: Any,
) -> None:  # fmt: skip
    """gy and gA [N, D] of step t; through the self connection, the gradient of the spikes one step earlier."""
    gu, gi, gy, ga, live, by_spike = s.gu, s.gi, s.gy, s.ga, s.live, s.by_spike
    a, gain, threshold = numbers.a, numbers.gain, numbers.threshold
    nodes, width = gu.shape
    slots = by_spike.shape[1] - 1
    now, before = t % slots, (t - 1) % slots
    own = weight.shape[1] - width
    for v in range(nodes):
        live[v] = False
        if first[v] > t:
            continue
        live[v] = _adjoint_row(gu[v], gi[v], gy[v], charged[v], by_spike[v, now], by_feature[v], a, gain, threshold, decoding)
        if live[v]:
            ga[v] = 0
            for m in range(width):
                add_scaled_row(ga[v], gy[v, m], weight[m, own:])
                if own:
                    add_scaled_row(by_spike[v, before], gy[v, m], weight[m, :own])


@inlined
def _collect(total: np.ndarray, targets: np.ndarray, ga: np.ndarray, live: np.ndarray) -> bool:
    """G of a pair, the sum of gA over its targets; False if it is 0."""
    total[:] = 0
    found = False
    for e in range(len(targets)):
        v = targets[e]
        if live[v]:
            add_row(total, ga[v])
            found = True
    return found


@inlined
def _add_at_spikes(total: np.ndarray, row: np.ndarray, message: np.ndarray, factor: Any) -> None:
    """total += factor * row for the neurons whose bit is set: few."""
    for w in range(len(message)):
        word = message[w]
        while word:
            k = w * WORD_BITS + lowest_bit(word)
            total[k] += factor * row[k]
            word &= word - 1


@inlined
def _traced_delay_row(gdelay: np.ndarray, row: np.ndarray, trace: np.ndarray, newest: int, steps: np.ndarray) -> None:
    for k in range(len(steps)):
        n = newest - steps[k]
        if n >= 0:
            gdelay[k] += row[k] * trace[n, k]


@inlined
def _scatter(by_spike: np.ndarray, slot: np.ndarray, steps: np.ndarray, row: np.ndarray) -> None:
    for k in range(len(row)):
        by_spike[slot[steps[k]], k] += row[k]


@inlined
def _pairs(
    s: _Scratch, newest: int, first: np.ndarray, wiring: Wiring, bits: np.ndarray, masks: np.ndarray,
    omega: np.ndarray, steps: np.ndarray, slopes: Slopes, gdelay: np.ndarray, gomega: np.ndarray,
) -> None:  # fmt: skip
    """The messages that arrive ``hop`` after ``newest``: A again, and the gradients of delays, weights and earlier spikes."""
    by_spike, slot, recent, message, earlier, values, row = s.by_spike, s.slot, s.recent, s.message, s.earlier, s.values, s.row
    received, reached, ga, live = s.received, s.reached, s.ga, s.live
    traced, of_now, of_before, one = slopes.traced, slopes.now, slopes.before, row.dtype.type(1)
    slots = by_spike.shape[1] - 1
    for d in range(len(slot)):
        slot[d] = (newest - d) % slots if newest >= d else slots
    mark_recent(recent, bits, newest, len(slot) + 1)
    for p in range(len(wiring.source)):
        node, r = wiring.source[p], wiring.relation[p]
        if first[node] > newest:
            continue
        targets = wiring.target[wiring.first[p] : wiring.last[p]]
        sent = recent[node] and gather_message(message, bits, newest, node, masks[r])
        if _collect(row, targets, ga, live):
            if len(omega):
                if sent:
                    _add_at_spikes(gomega[r], row, message, one)
                multiply_row(row, omega[r])
            if traced:
                _traced_delay_row(gdelay[r], row, s.trace[node], newest, steps[r])
            elif recent[node]:
                if sent:
                    _add_at_spikes(gdelay[r], row, message, of_now)
                if gather_message(earlier, bits, newest - 1, node, masks[r]):
                    _add_at_spikes(gdelay[r], row, earlier, of_before)
            _scatter(by_spike[node], slot, steps[r], row)
        if sent:
            expand_bits(values, message)
            if len(omega):
                multiply_row(values, omega[r])
            send_message(received, reached, targets, values)


@inlined
def _outer(s: _Scratch, own_spikes: np.ndarray, gweight_t: np.ndarray, goffset: np.ndarray) -> None:
    """Gradients of W and w0 at one step. ``own_spikes``: bits [N, words] of the step before."""
    gy, live, reached, received = s.gy, s.live, s.reached, s.received
    nodes, width = gy.shape
    own = len(gweight_t) - width
    for v in range(nodes):
        if not live[v]:
            continue
        if len(goffset):
            add_row(goffset, gy[v])
        if reached[v]:
            for j in range(width):
                if received[v, j] != 0:
                    add_scaled_row(gweight_t[own + j], received[v, j], gy[v])
        if own:
            for w in range(own_spikes.shape[1]):
                word = own_spikes[v, w]
                while word:
                    add_row(gweight_t[w * WORD_BITS + lowest_bit(word)], gy[v])
                    word &= word - 1


@inlined
def _fill_trace(trace: np.ndarray, first: np.ndarray, bits: np.ndarray, a: Any, slopes: Slopes) -> None:
    """tr [N, T, D] of the nodes that take part: P <- a P + s, Q <- a (Q + P of before)."""
    zero, one = trace.dtype.type(0), trace.dtype.type(1)
    for node in range(len(trace)):
        if first[node] >= trace.shape[1]:
            continue
        for k in range(trace.shape[2]):
            p = q = zero
            for n in range(trace.shape[1]):
                q = a * (q + p)
                p = a * p + ((bits[n, node, k // WORD_BITS] >> (k % WORD_BITS)) & 1) * one
                trace[node, n, k] = slopes.of_p * p + slopes.of_q * q


@inlined
def _scratch(nodes: int, width: int, slots: int, traced: int, levels: int, words: int, like: np.ndarray) -> _Scratch:
    kind = like.dtype
    gu, gi, gy, ga, received = np.zeros((5, nodes, width), kind)
    live, reached, recent = np.zeros((3, nodes), np.bool_)
    message, earlier = np.empty((2, words), np.int64)
    values, row = np.empty((2, width), kind)
    return _Scratch(
        np.zeros((nodes, slots + 1, width), kind), np.empty((nodes if traced else 0, traced, width), kind),
        gu, gi, gy, ga, received, live, reached, recent, np.empty(levels, np.int64), message, earlier, values, row,
    )  # fmt: skip


@inlined
def _mark_first(
    first: np.ndarray, length: int, wiring: Wiring, hop: int, shortest: np.ndarray, source: int, everywhere: bool
) -> None:
    """The first step at which a spike could reach each node, T if none can; 0 if w0 drives the nodes everywhere.

    Before it, whatever happens at the node depends on no parameter.
    """
    first[:] = 0 if everywhere else length
    first[source] = 0
    for t in range(0 if everywhere else length):
        for p in range(len(wiring.source)):
            arrival = t + hop + shortest[wiring.relation[p]]
            if first[wiring.source[p]] == t and arrival < length:
                for e in range(wiring.first[p], wiring.last[p]):
                    first[wiring.target[e]] = min(first[wiring.target[e]], arrival)


@compiled
def backward(
    start: int, stop: int, by_feature: np.ndarray, charged: np.ndarray, bits: np.ndarray,
    wiring: Wiring, hop: int, numbers: Numbers, maps: Maps, slopes: Slopes, weight: np.ndarray, source: np.ndarray,
    row: np.ndarray, gradients: Gradients,
) -> None:  # fmt: skip
    """Samples start .. stop: ``gradients`` of by_feature [B, N, D] = dL/dh; the others as the forward took and left them.

    ``weight``: W [D, Din], the transpose of the one in ``maps``.
    """
    length, nodes, width = charged.shape[1:]
    levels = maps.masks.shape[2]
    slots = min(levels + hop, length)  # of the steps whose gradient is not complete yet
    s = _scratch(nodes, width, slots, length if slopes.traced else 0, levels, bits.shape[3], by_feature)
    first = np.empty(nodes, np.int64)
    none = maps.omega[:0].reshape((0, width))
    for b in range(start, stop):
        q = row[b]
        omega = maps.omega[q] if len(maps.omega) else none
        gomega = gradients.omega[b] if len(maps.omega) else none
        _mark_first(first, length, wiring, hop, slopes.shortest[q], source[b], len(maps.offset) > 0)
        if slopes.traced:
            _fill_trace(s.trace, first, bits[b], numbers.a, slopes)
        s.gu[:] = 0
        s.gi[:] = 0
        for t in range(length - 1, 0, -1):
            _neurons(s, t, first, charged[b, t], by_feature[b], weight, numbers, maps.decoding[t])
            add_row(gradients.code[b], s.gu[source[b]])
            clear_reached(s.received, s.reached)
            if t >= hop:
                _pairs(
                    s, t - hop, first, wiring, bits[b], maps.masks[q], omega, slopes.steps[q], slopes, gradients.delay[b],
                    gomega,
                )  # fmt: skip
            _outer(s, bits[b, t - 1], gradients.weight_t[b], gradients.offset[b])
        x = source[b]  # at t = 0, nobody else has any input
        _adjoint_row(
            s.gu[x], s.gi[x], s.gy[x], charged[b, 0, x], s.by_spike[x, 0], by_feature[b, x],
            numbers.a, numbers.gain, numbers.threshold, maps.decoding[0],
        )  # fmt: skip
        add_row(gradients.code[b], s.gu[x])
        for v in range(nodes):
            if first[v] < length:
                s.by_spike[v] = 0
