"""Sums over synapses that each have a delay of their own, compiled by numba.

Signals are [n, M], one row a neuron, with M = steps x samples side by side (time first), so that a delay is an offset into a
row and every synapse one multiply-add of whole rows. The work is that of one dense product; a product for each distinct delay
does max_delay times as much. The order of summation does not depend on the length of the rows: a step's sums have the same bits
whatever piece of time they are made in, and for any number of threads.

All arrays are C-contiguous; ``offset`` [n_out, n_in] int64 says where in a row of the source a synapse begins to read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lava_snnlearn.neurons.compiling import compiled, inlined
from lava_snnlearn.neurons.threads import in_threads

_COLUMNS = 2048
"""Columns at a time: a row of float32 takes 8 KiB of the first-level cache."""
_ROWS = 8
"""Rows of the result that share one row of the source while it lies in the cache."""
_WORTH_A_THREAD = 1 << 20  # multiply-adds


@compiled
def _sums(first: int, last: int, source: np.ndarray, weight: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
    columns = out.shape[1]
    for begin in range(0, columns, _COLUMNS):
        end = min(begin + _COLUMNS, columns)
        for tile in range(first, last, _ROWS):
            for j in range(len(source)):
                for i in range(tile, min(tile + _ROWS, last)):
                    w = weight[i, j]
                    if w != 0:
                        row = out[i, begin:end]
                        read = source[j, offset[i, j] + begin : offset[i, j] + end]
                        for k in range(len(row)):
                            row[k] += w * read[k]


@compiled
def _back(first: int, last: int, error: np.ndarray, weight: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
    columns = error.shape[1]
    for j in range(first, last):
        for i in range(len(error)):
            w = weight[i, j]
            if w != 0:
                row = out[j, offset[i, j] : offset[i, j] + columns]
                read = error[i]
                for k in range(columns):
                    row[k] += w * read[k]


# The sum of a product may be split over the lanes of a vector register: the one place where the order of a sum is left open. It
# is the same for any number of threads.
@inlined(fastmath={"reassoc"})
def _dot(a: np.ndarray, b: np.ndarray) -> Any:
    total = a.dtype.type(0)
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@compiled
def _products(first: int, last: int, error: np.ndarray, source: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
    columns = error.shape[1]
    for begin in range(0, columns, _COLUMNS):
        end = min(begin + _COLUMNS, columns)
        for tile in range(first, last, _ROWS):
            for j in range(len(source)):
                for i in range(tile, min(tile + _ROWS, last)):
                    at = offset[i, j]
                    out[i, j] += _dot(error[i, begin:end], source[j, at + begin : at + end])


def delayed_sums(source: np.ndarray, weight: np.ndarray, offset: np.ndarray, columns: int, threads: int = 1) -> np.ndarray:
    """out[i, k] = sum_j weight[i, j] source[j, offset[i, j] + k], [n_out, columns], in the dtype of ``weight``.

    Args:
        source: [n_in, M]. weight: [n_out, n_in], floating point or int64.
        offset: see above; offset + columns <= M.
        columns: length of the result's rows.
        threads: at most so many.
    """
    out = np.zeros((len(weight), columns), weight.dtype)
    _shared(_sums, len(weight), out.size * len(source), threads, source, weight, offset, out)
    return out


def delayed_back(error: np.ndarray, weight: np.ndarray, offset: np.ndarray, columns: int, threads: int = 1) -> np.ndarray:
    """The transposed map: out[j, offset[i, j] + k] += weight[i, j] error[i, k], [n_in, columns]; ``error`` [n_out, M]."""
    out = np.zeros((weight.shape[1], columns), error.dtype)
    _shared(_back, weight.shape[1], error.size * weight.shape[1], threads, error, weight, offset, out)
    return out


def delayed_products(error: np.ndarray, source: np.ndarray, offset: np.ndarray, threads: int = 1) -> np.ndarray:
    """out[i, j] = sum_k error[i, k] source[j, offset[i, j] + k], [n_out, n_in]; ``error`` [n_out, M], ``source`` [n_in, M']."""
    out = np.zeros(offset.shape, error.dtype)
    _shared(_products, len(error), error.size * len(source), threads, error, source, offset, out)
    return out


def _shared(kernel: Callable[..., Any], rows: int, work: int, threads: int, *arguments: np.ndarray) -> None:
    """Run a kernel on ``rows`` rows of its result."""
    workers = max(1, min(threads, rows, work // _WORTH_A_THREAD))
    in_threads(kernel, [rows * i // workers for i in range(workers + 1)], *arguments)
