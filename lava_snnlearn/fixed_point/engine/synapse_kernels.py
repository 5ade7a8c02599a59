"""Synaptic sums of spikes and payloads, compiled by numba: the work grows with what is sent, not with the matrix.

Common arguments of the kernels:

sent, base, column: what the source sent, [rows, samples, n_in], C-contiguous; row 0 is that of chip step ``base``. The block of
    samples that is worked on begins at ``column``. Steps before the first row and behind the last one are silent.
total, start: the target's sums int32 [steps, B, n_out], which are added to; row 0 is that of chip step ``start``.
begin, end: the rows of ``total`` to work on.
exponent: sums are shifted left by it, or right (floor) where it is below 0.

All sums are exact: integers are added in any order, int32 wraps as Lava's channels do, and int16 registers are emptied before
they can overflow.
"""

from __future__ import annotations

import numpy as np

from lava_snnlearn.neurons.compiling import compiled, inlined


@inlined
def _shifted(value: np.int32, exponent: int) -> np.int32:
    return np.int32(np.int64(value) << exponent) if exponent >= 0 else np.int32(value >> -exponent)


@inlined
def _spiking(row: np.ndarray, index: np.ndarray) -> np.intp:
    """As :func:`_sending` for a row of zeros and ones, which needs no comparison."""
    count = np.uintp(0)
    for j in range(len(row)):
        index[count] = j
        count += np.uintp(row[j])
    return np.intp(count)


@inlined
def _sending(row: np.ndarray, index: np.ndarray) -> np.intp:
    """Write the places of all that is not zero to ``index`` (one longer than the row); returns their number.

    Without a branch: at one spike in ten a processor would guess most branches wrong.
    """
    count = np.uintp(0)
    for j in range(len(row)):
        index[count] = j
        count += np.uintp(row[j] != 0)
    return np.intp(count)


@inlined
def _gather(sent: np.ndarray, row: int, sample: int, lags: np.ndarray, out: np.ndarray) -> None:
    """What arrives when each source has a delay of its own; ``row`` is that of delay 0."""
    for j in range(len(lags)):
        at = row - lags[j]
        out[j] = sent[at, sample, j] if 0 <= at < len(sent) else 0


@compiled
def dense_spikes(
    sent: np.ndarray, base: int, column: int, ones: bool, weight: np.ndarray, lag: int, lags: np.ndarray, chunk: int,
    exponent: int, total: np.ndarray, start: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Add the weight rows of the sources that spiked.

    Args:
        sent: uint8 or int32. ones: it holds zeros and ones only; else whatever is not zero counts as one.
        weight: int8 or int16 [n_in, n_padded >= n_out].
        lag: delay of all sources. lags: int64 [n_in], what each source has beyond it; or [0], if nothing.
        chunk: so many weights, whichever they are, fit into int16 together.
    """
    n_in, padded = weight.shape
    n_out = total.shape[2]
    index = np.empty(n_in + 1, np.int32)
    heard = np.empty(len(lags), sent.dtype)
    part, whole = np.empty(padded, np.int16), np.empty(padded, np.int32)
    for b in range(total.shape[1]):
        for i in range(begin, end):
            row = start + i - 1 - lag - base
            if len(lags):
                _gather(sent, row, column + b, lags, heard)
                arrived = heard
            elif 0 <= row < len(sent):
                arrived = sent[row, column + b]
            else:
                continue
            count = _spiking(arrived, index) if ones else _sending(arrived, index)
            if count == 0:
                continue
            whole[:] = 0
            for first in range(0, count, chunk):
                last = min(first + chunk, count)
                part[:] = 0
                # Eight rows at a time: the sum goes through memory once for all of them.
                at = first
                while at + 8 <= last:
                    w0, w1, w2, w3 = weight[index[at]], weight[index[at + 1]], weight[index[at + 2]], weight[index[at + 3]]
                    w4, w5, w6, w7 = weight[index[at + 4]], weight[index[at + 5]], weight[index[at + 6]], weight[index[at + 7]]
                    for k in range(padded):
                        low = np.int16(w0[k]) + np.int16(w1[k]) + np.int16(w2[k]) + np.int16(w3[k])
                        high = np.int16(w4[k]) + np.int16(w5[k]) + np.int16(w6[k]) + np.int16(w7[k])
                        part[k] += np.int16(low) + np.int16(high)
                    at += 8
                while at < last:
                    w0 = weight[index[at]]
                    for k in range(padded):
                        part[k] += np.int16(w0[k])
                    at += 1
                for k in range(padded):
                    whole[k] += np.int32(part[k])
            out = total[i, b]
            for k in range(n_out):
                out[k] += _shifted(whole[k], exponent)


@compiled
def dense_payloads(
    sent: np.ndarray, base: int, column: int, weight: np.ndarray, lag: int, lags: np.ndarray, exponent: int,
    total: np.ndarray, start: int, begin: int, end: int,
) -> None:  # fmt: skip
    """As :func:`dense_spikes` for payloads: uint8 or int32."""
    n_in, padded = weight.shape
    n_out = total.shape[2]
    index = np.empty(n_in + 1, np.int32)
    heard = np.empty(n_in, sent.dtype)
    whole = np.empty(padded, np.int32)
    for b in range(total.shape[1]):
        for i in range(begin, end):
            row = start + i - 1 - lag - base
            if len(lags):
                _gather(sent, row, column + b, lags, heard)
            elif 0 <= row < len(sent):
                heard[:] = sent[row, column + b]
            else:
                continue
            count = _sending(heard, index)
            if count == 0:
                continue
            whole[:] = 0
            at = 0
            while at + 4 <= count:
                j0, j1, j2, j3 = index[at], index[at + 1], index[at + 2], index[at + 3]
                p0, p1, p2, p3 = np.int32(heard[j0]), np.int32(heard[j1]), np.int32(heard[j2]), np.int32(heard[j3])
                w0, w1, w2, w3 = weight[j0], weight[j1], weight[j2], weight[j3]
                for k in range(padded):
                    low = np.int32(p0 * np.int32(w0[k])) + np.int32(p1 * np.int32(w1[k]))
                    high = np.int32(p2 * np.int32(w2[k])) + np.int32(p3 * np.int32(w3[k]))
                    whole[k] += np.int32(low) + np.int32(high)
                at += 4
            while at < count:
                p0, w0 = np.int32(heard[index[at]]), weight[index[at]]
                for k in range(padded):
                    whole[k] += np.int32(p0 * np.int32(w0[k]))
                at += 1
            out = total[i, b]
            for k in range(n_out):
                out[k] += _shifted(whole[k], exponent)


@compiled
def scattered(
    sent: np.ndarray, base: int, column: int, first: np.ndarray, place: np.ndarray, weight: np.ndarray, pending: np.ndarray,
    binary: bool, exponent: int, total: np.ndarray, start: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Synapses one by one: sparse matrices, and delays that differ from synapse to synapse.

    The steps of a run come in order, none is left out: what is under way at the end of a call waits in ``pending``.

    Args:
        sent: uint8 or int32; a payload counts as often as it says or, if ``binary``, once.
        first: int64 [n_in + 1]; source j has the synapses first[j] .. first[j + 1] - 1 of those that follow.
        place: int32 [S], delay * n_out + target. weight: int16 [S].
        pending: int32 [B, max_delay, n_out], sums before the exponent of the next steps.
    """
    steps, (_, longest, n_out) = end - begin, pending.shape
    buffer = np.empty((steps + longest, n_out), np.int32)
    flat = buffer.reshape(-1)
    index = np.empty(len(first), np.int32)
    for b in range(total.shape[1]):
        buffer[:longest] = pending[b]
        buffer[longest:] = 0
        for i in range(steps):
            row = start + begin + i - 1 - base
            if 0 <= row < len(sent):
                heard, offset = sent[row, column + b], i * n_out
                for at in range(_sending(heard, index)):
                    j = index[at]
                    payload = np.int32(1) if binary else np.int32(heard[j])
                    for k in range(first[j], first[j + 1]):
                        flat[np.uintp(offset + place[k])] += np.int32(payload * np.int32(weight[k]))
        for i in range(steps):
            out = total[begin + i, b]
            for k in range(n_out):
                out[k] += _shifted(buffer[i, k], exponent)
        pending[b] = buffer[steps:]


@compiled
def convolved(
    sent: np.ndarray, base: int, column: int, runs: np.ndarray, run_first: np.ndarray, run_length: np.ndarray,
    reach_first: np.ndarray, reach: np.ndarray, columns: np.ndarray, phase: np.ndarray, image: np.ndarray, margin: int,
    lag: int, binary: bool, exponent: int, total: np.ndarray, start: int, begin: int, end: int,
) -> None:  # fmt: skip
    """A convolution: each spike adds the kernel, turned round, to the places that see it.

    The image of sums has the order group, row, column, channel, with a margin of columns, so that the taps of a kernel's row,
    with all channels, are one run of numbers in memory, and no spike has to look whether it lies at the border.

    Args:
        sent: uint8 or int32 [rows, samples, C_in * H * W]; a payload counts as often as it says or, if ``binary``, once.
        runs: int16 [C_in, S], the runs of a channel, one behind the other.
        run_first, run_length: int64 [kh, phases], where in them the run of tap row a and a phase lies.
        reach_first, reach: int64 [H + 1] and [., 2]; row y meets the tap rows and rows of the image of sums
            reach[reach_first[y]] .. reach[reach_first[y + 1] - 1].
        columns, phase: int64 [W], column of the image of sums at which the run begins, and its phase.
        image: int16 or int32 [groups, H_out, columns with margin, channels of a group], zeros; it is left so.
        margin: columns left of the image proper.
    """
    height, width, c_in = len(reach_first) - 1, len(columns), len(runs)
    groups, tall, wide, depth = image.shape
    across = total.shape[2] // (groups * depth * tall)
    index = np.empty(sent.shape[2] + 1, np.int32)
    touched = np.zeros((groups, tall), np.bool_)
    flat = image.reshape(-1)
    for b in range(total.shape[1]):
        for i in range(begin, end):
            row = start + i - 1 - lag - base
            if not 0 <= row < len(sent):
                continue
            heard = sent[row, column + b]
            for at in range(_sending(heard, index)):
                place = index[at]
                channel, y, x = place // (height * width), place // width % height, place % width
                group, kind = channel * groups // c_in, phase[x]
                payload = np.int32(1) if binary else np.int32(heard[place])
                for meeting in range(reach_first[y], reach_first[y + 1]):
                    tap, r = reach[meeting, 0], reach[meeting, 1]
                    touched[group, r] = True
                    length, first = run_length[tap, kind], run_first[tap, kind]
                    begins = ((group * tall + r) * wide + columns[x]) * depth
                    run, seen = runs[channel, first : first + length], flat[begins : begins + length]
                    for k in range(length):
                        seen[k] += image.dtype.type(np.int32(run[k]) * payload)
            for group in range(groups):
                for r in range(tall):
                    if touched[group, r]:
                        touched[group, r] = False
                        for o in range(depth):
                            first = ((group * depth + o) * tall + r) * across
                            out = total[i, b, first : first + across]
                            for c in range(across):
                                out[c] += _shifted(image[group, r, margin + c, o], exponent)
                        image[group, r] = 0
