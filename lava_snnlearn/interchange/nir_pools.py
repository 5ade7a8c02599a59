"""Kernels in other forms: an enlarged kernel and stride is an average pool and a smaller kernel; groups are blocks of zeros."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.lowering import MATRIX_MAX, Link


class PooledKernel(NamedTuple):
    """An average pool of side ``pool``, then a convolution."""

    pool: int
    weight: NDArray[np.float64]
    stride: int
    padding: int


def pooled_kernel(link: Link) -> PooledKernel:
    """The largest pool that can be taken out of the kernel of a link (1: none). Stride and padding are those of both axes."""
    assert link.geometry is not None
    rows, _ = link.geometry.axes
    weight, stride, padding = link.weight, rows.stride, rows.padding
    largest = math.gcd(math.gcd(stride, padding), math.gcd(*weight.shape[2:]))
    for pool in range(largest, 1, -1):
        if largest % pool or (padding and any(side % pool for side in link.geometry.input_shape[1:])):
            continue
        small = weight[:, :, ::pool, ::pool]
        if np.array_equal(small.repeat(pool, 2).repeat(pool, 3), weight):
            return PooledKernel(pool, small * pool**2, stride // pool, padding // pool)
    return PooledKernel(1, weight, stride, padding)


def refuse_large(what: str, values: int) -> None:
    """Raise LimitError if a kernel would have more values than a matrix may have."""
    if values > MATRIX_MAX:
        raise LimitError(f"{what} would have {values} values, more than {MATRIX_MAX}; use fewer channels or smaller kernels")


def ungrouped(weight: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """The kernel [C_out, C_in, kh, kw] of a convolution in groups, zeros between them.

    Raises:
        LimitError: it would be too large.
    """
    if groups == 1:
        return weight
    outputs, inputs = len(weight) // groups, weight.shape[1]
    refuse_large("a convolution in groups, its kernel written out without them,", weight.size * groups)
    whole = np.zeros((len(weight), inputs * groups, *weight.shape[2:]))
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        whole[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return whole
