"""Integer learning on the chip: synaptic sums in both directions, weight updates from counts, and the error of the readout.

All functions are pure. They are shared by the simulator of on-chip learning (:mod:`lava_snnlearn.on_chip`) and by the Lava
processes ``SpideSynapse`` and ``ErrorStage``, which therefore agree bit by bit. Everything is computed in int64.

A synapse has one memory, read in both directions. A *view* is what a spike sees: an even integer -256..254 in weight units
(Lava's stored 8-bit weight of mixed sign). It is the rounded upper byte of a 16-bit *shadow*, or, where there is no shadow,
the memory itself.

Only numpy is imported: Lava's children are forked, and numpy is safe there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import IntArray

RULES = ("shadow", "stochastic", "nearest")
"""What a memory is: see :func:`count_update`, :func:`stochastic_update`, :func:`nearest_update`."""
ERRORS = ("softmax", "mse")
"""See :func:`softmax_error`, :func:`mse_error`."""
SHADOW_MAX = (1 << 15) - 1
"""Largest magnitude of a shadow."""
SHADOW_BITS = 8
"""Bits of a shadow below its view: 2 ** 8 shadow units are one 8-bit step, 2 weight units."""
MULTIPLIER_MAX = (1 << 15) - 1
SHIFT_MAX = 40
"""Range of the two constants of an update: 0..MULTIPLIER_MAX and 0..SHIFT_MAX."""
ERROR_ONE = 1 << 7
"""An error of 1.0."""
ERROR_MIN, ERROR_MAX = -128, 127
"""An error is sent as 8 bits."""
TABLE_ONE = 1 << 15
"""exp(0) in the table of the softmax."""
TABLE_SIZE = 256

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


def rounding_shift(value: IntArray, bits: int) -> NDArray[np.int64]:
    """``(value + half) >> bits``: division by 2 ** bits, rounded to nearest, halves up; bits 0..62."""
    wide = np.asarray(value, dtype=np.int64)
    return (wide + (1 << bits >> 1)) >> bits


def view_of(shadow: IntArray) -> NDArray[np.int16]:
    """``2 clip((shadow + 128) >> 8, -128, 127)``: the weights that spikes see, even, -256..254 weight units."""
    return (2 * np.clip(rounding_shift(shadow, SHADOW_BITS), -128, 127)).astype(np.int16)


def forward_sums(view: IntArray, spikes: IntArray, exponent: int) -> NDArray[np.int64]:
    """``(W s) << exponent``; view [n_out, n_in], spikes (or payloads) [..., n_in], result [..., n_out]."""
    return _product(spikes, np.asarray(view).T) << exponent


def backward_sums(view: IntArray, spikes: IntArray, exponent: int) -> NDArray[np.int64]:
    """The same synapses read backward, ``W^T b``, shifted left by ``exponent`` or, if it is negative, rounded right.

    view [n_out, n_in], spikes (or errors) [..., n_out], result [..., n_in].
    """
    sums = _product(spikes, np.asarray(view))
    return sums << exponent if exponent >= 0 else rounding_shift(sums, -exponent)


def _product(spikes: IntArray, matrix: IntArray) -> NDArray[np.int64]:
    # BLAS multiplies floats only. Exact: views are below 2^9 and signals below 2^31, sums of 2^13 of them below 2^53.
    return (np.asarray(spikes, dtype=np.float64) @ matrix.astype(np.float64)).astype(np.int64)


def count_update(
    shadow: IntArray, pre: IntArray, post: IntArray, multiplier: int, shift: int, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.int16]:
    """The shadow after a sample: ``clip(shadow - ((multiplier post pre^T + half) >> shift), +-32767)``.

    Args:
        shadow: int16 [n_out, n_in].
        pre: forward spikes (or payloads) that came in, summed over the sample, [n_in].
        post: backward spikes (or errors) that came in, summed over the sample, [n_out].
        multiplier, shift: the learning rate, ``multiplier / 2 ** shift`` shadow units per product of counts.
        mask: [n_out, n_in], False where there is no synapse: nothing changes there.
    """
    change = rounding_shift(_scaled_outer(pre, post, multiplier, mask), shift)
    return np.clip(shadow - change, -SHADOW_MAX, SHADOW_MAX).astype(np.int16)


def nearest_update(
    view: IntArray, pre: IntArray, post: IntArray, multiplier: int, shift: int, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.int16]:
    """As :func:`count_update`, but with 8-bit weights as the only memory: each change is rounded to nearest.

    Changes of less than half an 8-bit step are lost, so that a small learning rate learns nothing; for comparison.
    """
    change = rounding_shift(_scaled_outer(pre, post, multiplier, mask), shift + SHADOW_BITS)
    return _stepped(view, change)


def stochastic_update(
    view: IntArray,
    pre: IntArray,
    post: IntArray,
    multiplier: int,
    shift: int,
    seed: int,
    sample: int,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.int16]:
    """As :func:`count_update`, but with 8-bit weights as the only memory: each change is rounded up or down at random.

    The mean of the change is exact. The random bits are a hash of (seed, sample, place of the synapse), so that simulator
    and Lava draw the same, and samples can be replayed. Give each connection a seed of its own.

    Args:
        view: the memory, int16 [n_out, n_in], even, -256..254; the result is of the same form.
        seed, sample: 0 or more; sample counts the updates.
        (the others as in :func:`count_update`; multiplier / 2 ** shift still counts shadow units, 256 to an 8-bit step)
    """
    bits = shift + SHADOW_BITS
    exact = _scaled_outer(pre, post, multiplier, mask)
    if mask is None:
        noise = random_bits(np.shape(view), bits, seed, sample)
    else:
        noise = np.where(mask, random_bits(np.shape(view), bits, seed, sample), 0)
    return _stepped(view, (exact + noise) >> bits)


def random_bits(shape: tuple[int, ...], bits: int, seed: int, sample: int) -> NDArray[np.int64]:
    """Numbers in 0..2 ** bits - 1, a function of (seed, sample, place) only; bits 1..63 (the finaliser of SplitMix64)."""
    start = _mixed_integer(_mixed_integer(seed) + sample)
    place = np.arange(int(np.prod(shape)), dtype=np.uint64).reshape(shape)
    word = place * np.uint64(_GOLDEN) + np.uint64(start)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((word ^ (word >> np.uint64(31))) >> np.uint64(64 - bits)).astype(np.int64)


def _mixed_integer(value: int) -> int:
    # Plain integers: numpy warns when a scalar wraps.
    word = (value * _GOLDEN + _GOLDEN) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def seen(rule: str, memory: IntArray) -> NDArray[np.int16]:
    """The 8-bit weights that spikes see, of a memory of one of :data:`RULES`; the memory itself where it is they."""
    return view_of(memory) if rule == "shadow" else np.asarray(memory, dtype=np.int16)


def learned(
    rule: str,
    memory: IntArray,
    pre: IntArray,
    post: IntArray,
    multiplier: int,
    shift: int,
    seed: int,
    sample: int,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.int16]:
    """The memory after a sample by one of :data:`RULES`; see their functions (seed and sample are those of "stochastic")."""
    if rule == "stochastic":
        return stochastic_update(memory, pre, post, multiplier, shift, seed, sample, mask)
    return (count_update if rule == "shadow" else nearest_update)(memory, pre, post, multiplier, shift, mask)


def _scaled_outer(pre: IntArray, post: IntArray, multiplier: int, mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    product = multiplier * np.multiply.outer(np.asarray(post, dtype=np.int64), np.asarray(pre, dtype=np.int64))
    return product if mask is None else product * mask


def _stepped(view: IntArray, change: NDArray[np.int64]) -> NDArray[np.int16]:
    return (2 * np.clip((np.asarray(view, dtype=np.int64) >> 1) - change, -128, 127)).astype(np.int16)


def softmax_table(step: float) -> NDArray[np.int64]:
    """``round(2^15 exp(-i step))`` for i = 0..255; ``step`` is the difference of logits from entry to entry (positive)."""
    return np.rint(TABLE_ONE * np.exp(-step * np.arange(TABLE_SIZE))).astype(np.int64)


def softmax_error(z: IntArray, target: IntArray, table: IntArray, shift: int) -> NDArray[np.int64]:
    """Gradient of the cross-entropy of a softmax by table, ``p - y`` in units of 1/128, -128..127.

    ``p = (128 w) // sum(w)`` with ``w = table[min((max(z) - z) >> shift, 255)]``.

    Args:
        z: sums of the readout [..., classes].
        target: one-hot 0/1 [..., classes]; all zero (no target given) makes the error zero.
        table: from :func:`softmax_table`. shift: entries of the table are 2 ** shift units of z apart.
    """
    wide = np.asarray(z, dtype=np.int64)
    index = np.minimum((wide.max(-1, keepdims=True) - wide) >> shift, TABLE_SIZE - 1)
    weight = np.asarray(table, dtype=np.int64)[index]
    probability = (ERROR_ONE * weight) // weight.sum(-1, keepdims=True)
    return _error(probability, target)


def mse_error(z: IntArray, target: IntArray, shift: int) -> NDArray[np.int64]:
    """Gradient of the squared error, ``z / 2 ** (7 + shift) - y`` in units of 1/128, rounded and clipped to -128..127.

    z, target, result: as in :func:`softmax_error`; an output of 1.0 is ``128 << shift``.
    """
    return _error(rounding_shift(z, shift), target)


def error(kind: str, z: IntArray, target: IntArray, table: IntArray, shift: int) -> NDArray[np.int64]:
    """The error by one of :data:`ERRORS`; see their functions (the table is that of "softmax")."""
    return softmax_error(z, target, table, shift) if kind == "softmax" else mse_error(z, target, shift)


def _error(output: NDArray[np.int64], target: IntArray) -> NDArray[np.int64]:
    wanted = np.asarray(target, dtype=np.int64)
    error = np.clip(output - ERROR_ONE * wanted, ERROR_MIN, ERROR_MAX)
    return np.where(wanted.any(-1, keepdims=True), error, 0)
