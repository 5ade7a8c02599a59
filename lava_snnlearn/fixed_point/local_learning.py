"""Local learning in integers, compiled by numba: traces, post factors, three-factor updates, learned feedback, subspaces.

Every function works in place on plain arrays of one sample and one step. They are shared by the simulator of on-chip learning
(:mod:`lava_snnlearn.on_chip.local`) and by the Lava processes ``OTTTDense``, ``PerturbedLIF``, ``ErrorReadout``,
``NoiseSource``, ``OPZOFeedback`` and ``HLOPLateral``, which therefore agree bit by bit. A function ``f`` is for other compiled
functions, and ``step_f`` the same for Python.

Numbers: memories are int16 [n_out, n_in] (see :mod:`lava_snnlearn.fixed_point.plasticity` for the rules and what spikes see of
them), subspaces int16 [rows, n] of 2^-14, their sums int64, all else int32.

Sources: OTTT (Xiao et al., NeurIPS 2022, eqs. 6-8), HLOP (Xiao et al., ICLR 2024), OPZO (Xiao et al., arXiv 2407.12516); the
integers are this library's.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from lava_snnlearn.fixed_point import limits, plasticity
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_MAX, MEMBRANE_SHIFT
from lava_snnlearn.neurons.compiling import compiled, inlined

TRACE_MAX = 127
"""A trace has 7 bits, saturating."""
FACTOR_MAX = 127
"""Post factors and top-down signals have 7 bits and a sign."""
FACTOR_BITS = 7
"""A factor of 1.0 is 128, as an error is; a surrogate of 1.0 too, of which 127 is the largest."""
TABLE_SIZE = 64
"""Entries of the surrogate's table."""
FEEDBACK_BITS = 12
"""Bits of a learned feedback matrix below an output unit."""
OUTPUT_MAX = (1 << 15) - 1
"""An output that a feedback matrix learns from has 16 bits."""
MEAN_BITS = 8
"""Bits of an output's running mean below an output unit."""
SUBSPACE_BITS = 14
"""A subspace's 1.0 is 2 ** 14."""
SUBSPACE_MAX = (1 << 15) - 1
"""A subspace has 16 bits."""
PROJECTION_BITS = 6
"""Bits of a projection below a trace unit."""
VELOCITY_BITS = 8
"""Bits of a subspace's velocity below a subspace unit."""
VELOCITY_MAX = (1 << 29) - 1
"""A velocity has 30 bits."""
SUMS_MAX = 1 << 46
"""What a subspace heard is clipped to this before it is multiplied."""
MOMENTUM_BITS = 3
"""A subspace's momentum is 1 - 2 ** -3."""
MOMENTUM_MAX = 20
"""A running mean (a feedback matrix, the output's) moves by at least 2 ** -20 of what it lacks."""
UPDATES = ("online", "accumulate")
"""When memories change: at every step, or once a sample."""
POSITIONS = ("post", "pre")
"""Where noise enters: on the spikes, or on the membrane before the threshold."""
SHADOW, STOCHASTIC, NEAREST = range(3)
"""Numbers of :data:`lava_snnlearn.fixed_point.plasticity.RULES`."""
SOFTMAX, MSE = range(2)
"""Numbers of :data:`lava_snnlearn.fixed_point.plasticity.ERRORS`."""

_SHADOW_BITS = plasticity.SHADOW_BITS
_SHADOW_MAX = plasticity.SHADOW_MAX
_STEP_MIN, _STEP_MAX = limits.WEIGHT_MIN // 2, limits.WEIGHT_MAX // 2
_DECAY_BITS = DECAY_ONE.bit_length() - 1
_HALF_RANGE = 1 << 31
_ROW_SPEED = 16  # synapses of a whole row, in vector code, take the time of one picked out of it
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_B27, _B30, _B31, _B64 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(64)


@inlined
def rounded(value: int, bits: int) -> int:
    """``plasticity.rounding_shift`` of a number; negative bits shift left."""
    if bits <= 0:
        return value << -bits
    return (value + (1 << bits >> 1)) >> bits


@inlined
def bounded(value: int, limit: int) -> int:
    """The value, clipped to +-limit."""
    return min(max(value, -limit), limit)


@inlined
def _mixed(value: np.uint64) -> np.uint64:
    word = (value ^ (value >> _B30)) * _FIRST
    word = (word ^ (word >> _B27)) * _SECOND
    return word ^ (word >> _B31)


@inlined
def stream(seed: int, number: int) -> np.uint64:
    """Where the random bits of (seed, number) begin; see :func:`draw`."""
    first = _mixed(np.uint64(seed) * _GOLDEN + _GOLDEN) + np.uint64(number)
    return _mixed(first * _GOLDEN + _GOLDEN)


@inlined
def draw(start: np.uint64, place: int, bits: int) -> Any:
    """``plasticity.random_bits(..., bits, seed, number)`` at a flat ``place``; bits 1..63."""
    return np.int64(_mixed(np.uint64(place) * _GOLDEN + start) >> (_B64 - np.uint64(bits)))


@inlined
def seen_weight(memory: int, rule: int) -> Any:
    """The 8-bit weight that spikes see of a memory, even, -256..254."""
    if rule != SHADOW:
        return np.int64(memory)
    return 2 * min(max(rounded(np.int64(memory), _SHADOW_BITS), _STEP_MIN), _STEP_MAX)


@inlined
def changed(memory: int, exact: int, shift: int, rule: int, start: np.uint64, place: int) -> Any:
    """A memory after a change of ``exact / 2 ** shift`` shadow units is subtracted; see ``plasticity.learned``."""
    if rule == SHADOW:
        return bounded(memory - rounded(exact, shift), _SHADOW_MAX)
    bits = shift + _SHADOW_BITS
    noise = draw(start, place, bits) if rule == STOCHASTIC else np.int64(1 << bits >> 1)
    return 2 * min(max((memory >> 1) - ((exact + noise) >> bits), _STEP_MIN), _STEP_MAX)


@inlined
def filter_trace(trace: np.ndarray, spikes: np.ndarray, dv: int, impulse: int) -> None:
    """``trace <- min(((trace (4096 - dv)) >> 12) + impulse spikes, 127)``; spikes (or payloads) of at least 0, [n]."""
    for j in range(len(trace)):
        trace[j] = min(((trace[j] * (DECAY_ONE - dv)) >> _DECAY_BITS) + impulse * max(spikes[j], 0), TRACE_MAX)


@inlined
def clean(sent: np.ndarray, bits: int, spikes: np.ndarray) -> None:
    """Spikes without the noise that rides on them: ``(sent + half) >> bits``, for a spike of 2 ** bits and noise below half."""
    for j in range(len(sent)):
        spikes[j] = (sent[j] + (1 << bits >> 1)) >> bits


@inlined
def forward(memory: np.ndarray, rule: int, sent: np.ndarray, exponent: int, sums: np.ndarray) -> bool:
    """``sums = (W sent) << exponent`` [n_out]; returns whether all sums fit into 32 bits."""
    active = np.flatnonzero(sent)
    fits = True
    sparse = _ROW_SPEED * len(active) < len(sent)
    for i in range(len(sums)):
        total = np.int64(0)
        if sparse:
            for j in active:
                total += seen_weight(memory[i, j], rule) * sent[j]
        else:
            for j in range(len(sent)):
                total += seen_weight(memory[i, j], rule) * np.int64(sent[j])
        total <<= exponent
        fits = fits and bool(-_HALF_RANGE < total < _HALF_RANGE)
        sums[i] = total
    return fits


@inlined
def backward(memory: np.ndarray, rule: int, factor: np.ndarray, exponent: int, sums: np.ndarray) -> None:
    """``sums = W^T factor`` [n_in], shifted left by ``exponent`` or, if negative, rounded right; clipped to +-127."""
    total = np.zeros(len(sums), np.int64)
    for i in range(len(factor)):
        if factor[i] != 0:
            for j in range(len(sums)):
                total[j] += seen_weight(memory[i, j], rule) * np.int64(factor[i])
    for j in range(len(sums)):
        sums[j] = bounded(rounded(total[j], -exponent), FACTOR_MAX)


@inlined
def learn(
    memory: np.ndarray, rule: int, pre: np.ndarray, post: np.ndarray, multiplier: int, shift: int, seed: int, number: int
) -> None:  # fmt: skip
    """One online update: every memory changes by ``-multiplier post pre / 2 ** shift`` shadow units.

    pre: traces, or their residuals [n_in]. post: factors [n_out]. seed, number: of the random bits of rule STOCHASTIC, one
    number per synapse.
    """
    active = np.flatnonzero(pre)
    start = stream(seed, number)
    for i in range(len(post)):
        if post[i] != 0:
            scaled = np.int64(multiplier) * post[i]
            for j in active:
                memory[i, j] = changed(np.int64(memory[i, j]), scaled * pre[j], shift, rule, start, i * len(pre) + j)


@inlined
def gather(gradient: np.ndarray, pre: np.ndarray, post: np.ndarray) -> None:
    """``gradient += post pre^T``, int32 [n_out, n_in]: what an accumulating synapse keeps until the end of a sample."""
    active = np.flatnonzero(pre)
    for i in range(len(post)):
        if post[i] != 0:
            for j in active:
                gradient[i, j] += post[i] * pre[j]


@inlined
def apply_gathered(
    memory: np.ndarray, rule: int, gradient: np.ndarray, multiplier: int, shift: int, seed: int, number: int
) -> None:  # fmt: skip
    """As :func:`learn`, with what was gathered, which is set to zero."""
    start = stream(seed, number)
    width = memory.shape[1]
    for i in range(memory.shape[0]):
        for j in range(width):
            if gradient[i, j] != 0:
                exact = np.int64(multiplier) * gradient[i, j]
                memory[i, j] = changed(np.int64(memory[i, j]), exact, shift, rule, start, i * width + j)
                gradient[i, j] = 0


@inlined
def fire(
    membrane: np.ndarray, current: np.ndarray, noise: np.ndarray, spikes: np.ndarray, psi: np.ndarray, dv: int, vth: int,
    amplitude: int, table: np.ndarray, table_shift: int,
) -> int:  # fmt: skip
    """``soft_reset_step`` with a surrogate, and noise before the threshold; returns how many membranes were clipped.

    ``v <- decay(v) + (current << 6)``; ``u = v + amplitude noise``; spike where ``u >= vth << 6``, there
    ``v <- v - (vth << 6)``; clip to 24 bit; ``psi = table[|u - (vth << 6)| >> table_shift]``, 0 beyond the table. All [n].
    """
    theta = np.int64(vth) << MEMBRANE_SHIFT
    clipped = 0
    for i in range(len(membrane)):
        before = np.int64(membrane[i])
        kept = (abs(before) * (DECAY_ONE - dv)) >> _DECAY_BITS
        charged = (kept if before >= 0 else -kept) + (np.int64(current[i]) << MEMBRANE_SHIFT)
        above = charged + np.int64(amplitude) * noise[i] - theta
        spikes[i] = 1 if above >= 0 else 0
        place = abs(above) >> table_shift
        psi[i] = table[place] if place < TABLE_SIZE else 0
        after = charged - spikes[i] * theta
        membrane[i] = bounded(after, MEMBRANE_MAX)
        clipped += membrane[i] != after
    return clipped


@inlined
def modulate(psi: np.ndarray, signal: np.ndarray, factor: np.ndarray) -> None:
    """``factor = round(psi clip(signal, +-127) / 128)``: the post factor, +-127; all [n]."""
    for i in range(len(psi)):
        factor[i] = rounded(psi[i] * bounded(signal[i], FACTOR_MAX), FACTOR_BITS)


@inlined
def rademacher(noise: np.ndarray, seed: int, number: int, antithetic: bool) -> None:
    """+-1 [n] of time step ``number``; antithetic: odd steps repeat the step before with the other sign."""
    sign = -1 if antithetic and number % 2 == 1 else 1
    start = stream(seed, number - number % 2 if antithetic else number)
    for i in range(len(noise)):
        noise[i] = sign * (2 * draw(start, i, 1) - 1)


@inlined
def integrate(output: np.ndarray, current: np.ndarray, dv: int) -> None:
    """``output <- decay(output, dv) + current`` [classes]: a leaky readout."""
    for c in range(len(output)):
        before = np.int64(output[c])
        kept = (abs(before) * (DECAY_ONE - dv)) >> _DECAY_BITS
        output[c] = (kept if before >= 0 else -kept) + current[c]


@inlined
def output_error(kind: int, output: np.ndarray, label: int, table: np.ndarray, shift: int, error: np.ndarray) -> None:
    """``plasticity.error`` of one sample whose class is ``label``; -1: none is given, and the error is 0."""
    error[:] = 0
    if label < 0:
        return
    if kind == SOFTMAX:
        top = np.int64(output.max())
        total = np.int64(0)
        for c in range(len(output)):
            total += table[min((top - output[c]) >> shift, len(table) - 1)]
        for c in range(len(output)):
            error[c] = (plasticity.ERROR_ONE * np.int64(table[min((top - output[c]) >> shift, len(table) - 1)])) // total
    else:
        for c in range(len(output)):
            error[c] = min(max(rounded(np.int64(output[c]), shift), -_HALF_RANGE + 256), _HALF_RANGE - 1)
    error[label] -= plasticity.ERROR_ONE
    for c in range(len(output)):
        error[c] = min(max(error[c], plasticity.ERROR_MIN), plasticity.ERROR_MAX)


@inlined
def momentum_bits(count: int, most: int) -> int:
    """Shift of the ``count``-th update (from 1) of a running mean: floor(log2(count)), at most ``most``."""
    bits = 0
    while bits < most and count >> (bits + 1) > 0:
        bits += 1
    return bits


@inlined
def learn_feedback(matrix: np.ndarray, noise: np.ndarray, output: np.ndarray, bits: int) -> None:
    """``M <- M + round(((noise output^T << 12) - M) / 2 ** bits)``, int32 [n, classes]: a running mean with momentum
    1 - 2 ** -bits. noise: +-1 or 0 [n]. output: clipped to 16 bits [classes]."""
    for i in range(len(noise)):
        for c in range(len(output)):
            target = (np.int64(noise[i]) * bounded(np.int64(output[c]), OUTPUT_MAX)) << FEEDBACK_BITS
            matrix[i, c] += rounded(target - matrix[i, c], bits)


@inlined
def centre(output: np.ndarray, mean: np.ndarray, bits: int, centred: np.ndarray) -> None:
    """``centred = output - mean``, then ``mean <- mean + (output - mean) / 2 ** bits``; all [classes], the mean of 2^-8.

    output: clipped to 16 bits, which keeps the mean within 24.
    """
    for c in range(len(output)):
        held = bounded(np.int64(output[c]), OUTPUT_MAX)
        centred[c] = held - rounded(np.int64(mean[c]), MEAN_BITS)
        mean[c] += rounded((held << MEAN_BITS) - mean[c], bits)


@inlined
def feed_back(matrix: np.ndarray, error: np.ndarray, shift: int, signal: np.ndarray) -> None:
    """``signal = round(M error / 2 ** shift)``, clipped to +-127, [n]."""
    for i in range(len(signal)):
        total = np.int64(0)
        for c in range(len(error)):
            total += np.int64(matrix[i, c]) * error[c]
        signal[i] = bounded(rounded(total, shift), FACTOR_MAX)


@inlined
def reconstruct(subspace: np.ndarray, rows: int, trace: np.ndarray, response: np.ndarray, image: np.ndarray) -> None:
    """``y = H x`` in ``response`` [rows], of 2^-6, and ``H^T y`` in ``image`` [n], both rounded, of the first ``rows`` rows."""
    total = np.zeros(len(trace), np.int64)
    for r in range(rows):
        y = np.int64(0)
        for j in range(len(trace)):
            y += np.int64(subspace[r, j]) * trace[j]
        y = rounded(y, SUBSPACE_BITS - PROJECTION_BITS)
        response[r] = y
        for j in range(len(trace)):
            total[j] += y * subspace[r, j]
    for j in range(len(trace)):
        image[j] = rounded(total[j], SUBSPACE_BITS + PROJECTION_BITS)


@inlined
def residual(
    subspace: np.ndarray, rows: int, trace: np.ndarray, response: np.ndarray, image: np.ndarray, rest: np.ndarray
) -> None:  # fmt: skip
    """``rest = clip(x - H^T H x, +-127)`` [n]: what is left of a trace outside the first ``rows`` rows of the subspace."""
    reconstruct(subspace, rows, trace, response, image)
    for j in range(len(trace)):
        rest[j] = bounded(trace[j] - image[j], TRACE_MAX)


@inlined
def hear(
    subspace: np.ndarray, old: int, rows: int, trace: np.ndarray, response: np.ndarray, image: np.ndarray, sums: np.ndarray
) -> None:  # fmt: skip
    """``sums += y (x - H^T y)^T`` of the rows old..rows, with y of all ``rows``: Hebbian and anti-Hebbian part (HLOP)."""
    if not trace.any():
        return
    reconstruct(subspace, rows, trace, response, image)
    for r in range(old, rows):
        for j in range(len(trace)):
            sums[r, j] += np.int64(response[r]) * (trace[j] - image[j])


@inlined
def turn(
    subspace: np.ndarray, velocity: np.ndarray, sums: np.ndarray, old: int, rows: int, multiplier: int, shift: int
) -> None:  # fmt: skip
    """One step of the new rows: ``V <- V - round(V / 8) + round(multiplier sums / 2 ** shift)``, ``H <- H + round(V / 256)``;
    the sums are set to zero. H is clipped to 16 bits, V to 30."""
    for r in range(old, rows):
        for j in range(subspace.shape[1]):
            now = np.int64(velocity[r, j])
            now += rounded(bounded(sums[r, j], SUMS_MAX) * multiplier, shift) - rounded(now, MOMENTUM_BITS)
            velocity[r, j] = bounded(now, VELOCITY_MAX)
            subspace[r, j] = bounded(subspace[r, j] + rounded(np.int64(velocity[r, j]), VELOCITY_BITS), SUBSPACE_MAX)
            sums[r, j] = 0


def surrogate_table(kind: str, vth: int, shift: int) -> np.ndarray:
    """The surrogate's derivative over the distance from the threshold: int32 [64], a peak of 1.0 is 128, at most 127.

    Entry i stands for distances from ``i << shift`` to before ``(i + 1) << shift`` membrane units, by their middle.

    Args:
        kind: one of :data:`SURROGATES`. vth: threshold in weight units, the surrogate's unit of distance.
    """
    distance = (np.arange(TABLE_SIZE) + 0.5) * 2.0**shift / (vth << MEMBRANE_SHIFT)
    return np.minimum(np.rint((1 << FACTOR_BITS) * SURROGATES[kind](distance)), FACTOR_MAX).astype(np.int32)


def _triangle(distance: Any) -> Any:
    return np.maximum(1 - distance, 0)


def _sigmoid(distance: Any) -> Any:
    grown = 1 / (1 + np.exp(-4 * distance))
    return 4 * grown * (1 - grown)


SURROGATES = {"triangle": _triangle, "sigmoid": _sigmoid}
"""Derivatives over the distance |u - vth| / vth: OTTT's two surrogates, both 1 at the threshold."""

step_filter_trace = compiled(filter_trace.py_func)
step_clean = compiled(clean.py_func)
step_forward = compiled(forward.py_func)
step_backward = compiled(backward.py_func)
step_learn = compiled(learn.py_func)
step_gather = compiled(gather.py_func)
step_apply_gathered = compiled(apply_gathered.py_func)
step_fire = compiled(fire.py_func)
step_modulate = compiled(modulate.py_func)
step_rademacher = compiled(rademacher.py_func)
step_integrate = compiled(integrate.py_func)
step_output_error = compiled(output_error.py_func)
step_learn_feedback = compiled(learn_feedback.py_func)
step_centre = compiled(centre.py_func)
step_feed_back = compiled(feed_back.py_func)
step_residual = compiled(residual.py_func)
step_hear = compiled(hear.py_func)
step_turn = compiled(turn.py_func)


@cache
def prepare() -> None:
    """Have every kernel compiled, or loaded from numba's cache, in this process; from the second call on it does nothing.

    Processes call it where they are built: Lava's children are forked from there and find the kernels ready, so that none has
    to compile within its time limit. The kernels are ready for int32 arrays (memories and subspaces int16, sums and tables of
    the softmax int64), contiguous and writeable, and Python's int and bool.
    """
    row, matrix, sums = np.zeros(1, np.int32), np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int64)
    memory, table, weights = np.zeros((1, 1), np.int16), np.zeros(TABLE_SIZE, np.int32), np.ones(1, np.int64)
    step_filter_trace(row, row, 0, 1)
    step_clean(row, 0, row)
    step_forward(memory, SHADOW, row, 0, row)
    step_backward(memory, SHADOW, row, 0, row)
    step_learn(memory, SHADOW, row, row, 0, 0, 0, 0)
    step_gather(matrix, row, row)
    step_apply_gathered(memory, SHADOW, matrix, 0, 0, 0, 0)
    step_fire(row, row, row, row, row, 0, 1, 0, table, 0)
    step_modulate(row, row, row)
    step_rademacher(row, 0, 0, False)
    step_integrate(row, row, 0)
    step_output_error(SOFTMAX, row, -1, weights, 0, row)
    step_learn_feedback(matrix, row, row, 0)
    step_centre(row, row, 1, row)
    step_feed_back(matrix, row, 0, row)
    step_residual(memory, 1, row, row, row, row)
    step_hear(memory, 0, 1, row, row, row, sums)
    step_turn(memory, matrix, sums, 0, 1, 0, 0)
