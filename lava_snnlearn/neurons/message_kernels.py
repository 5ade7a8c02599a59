"""Spiking message passing on the CPU, compiled by numba; ``networks.message_fused`` calls it with checked arrays.

A sample (one query) runs through all time steps before the next one starts, so that of a small graph everything but the kept
membranes stays in the cache, and the bits of a result depend neither on the batch nor on the number of threads.

Spikes are bits: ``bits`` [T, N, words] holds the D neurons of a node in ceil(D / 64) words. With ``masks`` [L, words], in whose
row d the neurons of a relation that have the delay d are set, the message of a pair is the OR over d of bits[t - hop - d] &
masks[d]: a few instructions for all D neurons, and a pair without spikes is passed over at once.

Without w0, a node that nothing has reached is at rest: it is left out, and its memory is never touched.

The backward is in :mod:`lava_snnlearn.neurons.message_adjoint`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from lava_snnlearn.neurons.compiling import compiled, inlined

WORD_BITS = 64


class Wiring(NamedTuple):
    """Pairs (relation, source): source, relation int32 [P]; the edges of pair p are first[p] .. last[p] (int32 [P]) of target
    int32 [E]. Sorted by source: the spikes and gradients of a source are then in the cache for all its pairs.
    """

    source: np.ndarray
    relation: np.ndarray
    first: np.ndarray
    last: np.ndarray
    target: np.ndarray


class Numbers(NamedTuple):
    """The constants, in the dtype of the run: a; kappa c; Vth."""

    a: Any
    gain: Any
    threshold: Any


class Maps(NamedTuple):
    """code [Q, D]; masks int64 [Q, R, L, words]; omega [Q, R, D], empty if all are 1; weight_t: W transposed, [Din, D], the D
    rows of the aggregate last, those of a self connection before them; offset: w0 [D], empty if
    there is none; decoding [T].
    """

    code: np.ndarray
    masks: np.ndarray
    omega: np.ndarray
    weight_t: np.ndarray
    offset: np.ndarray
    decoding: np.ndarray


def delay_masks(steps: np.ndarray, levels: int) -> np.ndarray:
    """Which neurons have the delay d: int64 [..., L, words] of whole ``steps`` [..., D] in 0 .. L - 1."""
    width = steps.shape[-1]
    words = -(-width // WORD_BITS)
    masks = np.zeros((*steps.shape[:-1], levels, words), np.uint64)
    for k in range(width):
        bit = np.uint64(1) << np.uint64(k % WORD_BITS)
        masks[..., k // WORD_BITS] |= (steps[..., None, k] == np.arange(levels)).astype(np.uint64) * bit
    return masks.view(np.int64)


def _lowest_bit(typing_context: Any, word: Any) -> tuple[Any, Callable[..., Any]]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


lowest_bit: Any = intrinsic(_lowest_bit)
"""Number of the lowest set bit of an int64 that is not 0."""


# ------------------------------------------------------------------------------------------------------------------ messages


@inlined
def gather_message(message: np.ndarray, bits: np.ndarray, newest: int, node: int, masks: np.ndarray) -> bool:
    """Message bits of one pair whose spikes without delay are those of step ``newest``; False if there are none."""
    found = np.int64(0)
    for w in range(len(message)):
        word = np.int64(0)
        for d in range(min(len(masks), newest + 1)):
            word |= bits[newest - d, node, w] & masks[d, w]
        message[w] = word
        found |= word
    return found != 0


@inlined
def expand_bits(values: np.ndarray, message: np.ndarray) -> None:
    """0 or 1 a neuron from the bits."""
    for w in range(len(message)):
        word = message[w]
        row = values[w * WORD_BITS : (w + 1) * WORD_BITS]
        for k in range(len(row)):
            row[k] = (word >> k) & 1


@inlined
def multiply_row(values: np.ndarray, factors: np.ndarray) -> None:
    """values *= factors."""
    for k in range(len(values)):
        values[k] *= factors[k]


@inlined
def add_row(total: np.ndarray, row: np.ndarray) -> None:
    """total += row."""
    for k in range(len(total)):
        total[k] += row[k]


@inlined
def add_scaled_row(total: np.ndarray, factor: Any, row: np.ndarray) -> None:
    """total += factor * row."""
    for k in range(len(total)):
        total[k] += factor * row[k]


@inlined
def send_message(received: np.ndarray, reached: np.ndarray, targets: np.ndarray, values: np.ndarray) -> None:
    """Add a pair's message to A of its targets."""
    for e in range(len(targets)):
        reached[targets[e]] = True
        add_row(received[targets[e]], values)


@inlined
def clear_reached(received: np.ndarray, reached: np.ndarray) -> None:
    """Set the rows of A that anything reached to 0."""
    for v in range(len(reached)):
        if reached[v]:
            received[v] = 0
            reached[v] = False


@inlined
def mark_recent(recent: np.ndarray, bits: np.ndarray, newest: int, levels: int) -> None:
    """Which nodes have fired in the steps that messages can come from."""
    first = max(0, newest - levels + 1)
    for node in range(len(recent)):
        found = np.int64(0)
        for n in range(first, newest + 1):
            for w in range(bits.shape[2]):
                found |= bits[n, node, w]
        recent[node] = found != 0


@inlined
def _aggregate(
    received: np.ndarray, reached: np.ndarray, wiring: Wiring, bits: np.ndarray, newest: int, masks: np.ndarray,
    omega: np.ndarray, recent: np.ndarray, message: np.ndarray, values: np.ndarray,
) -> None:  # fmt: skip
    """A [N, D] at the step ``newest`` + hop, and the nodes that anything reached."""
    clear_reached(received, reached)
    if newest < 0:
        return
    mark_recent(recent, bits, newest, masks.shape[1])
    for p in range(len(wiring.source)):
        node, r = wiring.source[p], wiring.relation[p]
        if not recent[node] or not gather_message(message, bits, newest, node, masks[r]):
            continue
        expand_bits(values, message)
        if len(omega):
            multiply_row(values, omega[r])
        send_message(received, reached, wiring.target[wiring.first[p] : wiring.last[p]], values)


# ------------------------------------------------------------------------------------------------------------------- forward


@inlined
def _drive(
    x: np.ndarray, received: np.ndarray, reached: bool, before: np.ndarray, weight_t: np.ndarray, offset: np.ndarray
) -> None:
    """x = W [s[t-1]; A] + w0 of one node."""
    width = len(x)
    x[:] = 0
    if len(offset):
        x[:] = offset
    own = len(weight_t) - width
    if reached:
        for j in range(width):
            if received[j] != 0:
                add_scaled_row(x, received[j], weight_t[own + j])
    if own:
        for w in range(len(before)):
            word = before[w]
            while word:
                add_row(x, weight_t[w * WORD_BITS + lowest_bit(word)])
                word &= word - 1


@inlined
def _charge(charged: np.ndarray, current: np.ndarray, membrane: np.ndarray, x: np.ndarray, a: Any, gain: Any) -> None:
    for k in range(len(x)):
        i = a * current[k] + gain * x[k]
        current[k] = i
        charged[k] = a * membrane[k] + i


@inlined
def _fire(
    membrane: np.ndarray, feature: np.ndarray, charged: np.ndarray, threshold: Any, decoding: Any, words: np.ndarray
) -> int:
    """Spikes of one node as bits, into the features, and out of the membrane; their number."""
    zero = charged.dtype.type(0)
    count = 0
    for k in range(len(charged)):
        s = charged[k] >= threshold
        membrane[k] = zero if s else charged[k]
        feature[k] += decoding if s else zero
        count += s
    for w in range(len(words)):
        row = charged[w * WORD_BITS : (w + 1) * WORD_BITS]
        word = np.int64(0)
        if count:
            for k in range(len(row)):
                word |= np.int64(row[k] >= threshold) << k
        words[w] = word
    return count


@compiled
def forward(
    start: int, stop: int, charged: np.ndarray, bits: np.ndarray, features: np.ndarray, counts: np.ndarray, wiring: Wiring,
    hop: int, numbers: Numbers, maps: Maps, source: np.ndarray, row: np.ndarray,
) -> None:  # fmt: skip
    """Samples start .. stop of the batch.

    ``charged`` [B, T, N, D] (or empty: it is not kept) receives u before the reset, ``bits`` int64 [B, T, N, words] the spikes,
    ``features`` [B, N, D] h, ``counts`` int64 [B] the number of spikes; all start at 0. ``source``, ``row`` [B]: node and row
    of ``maps`` of each sample.
    """
    nodes, width = features.shape[1:]
    current, membrane, received = np.zeros((3, nodes, width), features.dtype)
    reached, recent, resting = np.zeros((3, nodes), np.bool_)
    values, x = np.empty((2, width), features.dtype)
    message = np.empty(bits.shape[3], np.int64)
    none = maps.omega[:0].reshape((0, width))
    for b in range(start, stop):
        q = row[b]
        omega = maps.omega[q] if len(maps.omega) else none
        resting[:] = len(maps.offset) == 0
        resting[source[b]] = False
        current[:] = 0
        membrane[:] = 0
        for t in range(len(maps.decoding)):
            if t:
                _aggregate(received, reached, wiring, bits[b], t - hop, maps.masks[q], omega, recent, message, values)
            for v in range(nodes):
                if resting[v]:
                    if t == 0 or not reached[v]:
                        continue
                    resting[v] = False
                u = charged[b, t, v] if len(charged) else x
                if t:
                    _drive(x, received[v], reached[v], bits[b, t - 1, v], maps.weight_t, maps.offset)
                    _charge(u, current[v], membrane[v], x, numbers.a, numbers.gain)
                else:
                    u[:] = 0
                if v == source[b]:
                    add_row(u, maps.code[q])
                counts[b] += _fire(membrane[v], features[b, v], u, numbers.threshold, maps.decoding[t], bits[b, t, v])
