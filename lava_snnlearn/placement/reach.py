"""Which sources some target neurons of a connection hear: those are the input axons of a core that holds the targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import Connection


@dataclass(frozen=True, eq=False)
class Reach:
    """Sources that are heard: bool ``mask`` in the part ``box`` of the sources, whose numbers have this ``shape``."""

    shape: tuple[int, ...]
    box: tuple[slice, ...]
    mask: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """How many."""
        return int(np.count_nonzero(self.mask))

    def add_to(self, counts: NDArray[np.int64]) -> None:
        """Add 1 to ``counts`` [n_source] of each source that is heard."""
        counts.reshape(self.shape)[self.box] += self.mask

    def mark(self, heard: NDArray[np.bool_]) -> None:
        """Set ``heard`` [n_source] of each source that is heard."""
        heard.reshape(self.shape)[self.box] |= self.mask


def union(several: list[Reach]) -> Reach:
    """Sources of which any of these hears; they share the numbering of the same sources."""
    if len(several) == 1:
        return several[0]
    heard = np.zeros(math.prod(several[0].shape), bool)
    for reach in several:
        reach.mark(heard)
    return Reach(heard.shape, (slice(None),), heard)


class Listener:
    """A connection, asked for the sources of some of its targets, again and again."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._present = np.asarray(connection.weight) != 0
        self._full = bool(self._present.all())
        if connection.geometry is not None:
            # The product of 0 and 1 counts, exactly, which taps and targets meet.
            self._present = self._present.astype(np.float32)

    @property
    def sources(self) -> int:
        """Number of source neurons."""
        return self.connection.shape[1]

    def reach(self, targets: NDArray[np.int64]) -> Reach:
        """Sources of these targets, numbers int64 [n >= 1]."""
        if self.connection.geometry is not None:
            return _conv_reach(self._present, self.connection.geometry, targets)
        box = (slice(0, self.sources),)
        if self._full:
            return Reach((self.sources,), box, np.ones(self.sources, bool))
        return Reach((self.sources,), box, self._present[targets].any(axis=0))


def _conv_reach(present: NDArray[np.float32], geometry: ConvShape, targets: NDArray[np.int64]) -> Reach:
    """As a product over the targets' box, tap by tap: what any of them meets is heard."""
    shape = geometry.output_shape(present.shape)
    numbers = np.unravel_index(targets, shape)
    low = [int(part.min()) for part in numbers]
    wanted = np.zeros([int(part.max()) + 1 - first for part, first in zip(numbers, low, strict=True)], np.float32)
    wanted[tuple(part - first for part, first in zip(numbers, low, strict=True))] = 1
    depth, taps = present.shape[1], present.shape[2:]
    group = shape[0] // geometry.groups
    first_group, last_group = low[0] // group, (low[0] + len(wanted) - 1) // group
    top = [first * axis.stride - axis.padding for first, axis in zip(low[1:], geometry.axes, strict=True)]
    spans = [(n - 1) * axis.stride + 1 for n, axis in zip(wanted.shape[1:], geometry.axes, strict=True)]
    sizes = [s + (k - 1) * axis.dilation for s, k, axis in zip(spans, taps, geometry.axes, strict=True)]
    met = np.zeros(((last_group + 1 - first_group) * depth, *sizes), bool)
    down, across = geometry.axes
    for g in range(first_group, last_group + 1):
        begin, end = max(g * group, low[0]), min((g + 1) * group, low[0] + len(wanted))
        here = wanted[begin - low[0] : end - low[0]].reshape(end - begin, -1)
        channels = slice((g - first_group) * depth, (g + 1 - first_group) * depth)
        for a, b in np.ndindex(*taps):
            found = (present[begin:end, :, a, b].T @ here) > 0
            rows = slice(a * down.dilation, a * down.dilation + spans[0], down.stride)
            columns = slice(b * across.dilation, b * across.dilation + spans[1], across.stride)
            met[channels, rows, columns] |= found.reshape(depth, *wanted.shape[1:])
    # What lies on the padding is no source.
    kept, box = [slice(None)], [slice(first_group * depth, (last_group + 1) * depth)]
    for first, size, axis in zip(top, sizes, geometry.axes, strict=True):
        start, stop = max(first, 0), max(min(first + size, axis.size), max(first, 0))
        kept.append(slice(start - first, stop - first))
        box.append(slice(start, stop))
    return Reach(geometry.input_shape, tuple(box), met[tuple(kept)])
