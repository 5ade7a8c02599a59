"""Synapses with delays: each spike costs its own synapses, and nothing else.

The synapses are sorted by source once. What is under way lies in a ring of ``max_delay + 1`` rows, one for each of the next
steps. A spike adds the weights of its synapses to the rows in which they arrive; the time of a step grows with the spikes and
their fan-out, not with the matrix or the delays. Shared by the Lava process ``DelayConnection`` and by emulators, which
therefore agree bit by bit: int32 sums wrap as in Lava's ``DelayDense``, float64 sums are added in the order of the sources.

A function ``f`` is for other compiled functions, and ``step_f`` the same for Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.neurons.compiling import holding, inlined


@inlined
def deliver(
    ring: np.ndarray, place: int, sent: np.ndarray, graded: bool, first: np.ndarray, target: np.ndarray, delay: np.ndarray,
    weight: np.ndarray,
) -> None:  # fmt: skip
    """Add to the ring what the spikes of a step send.

    Args:
        ring: [max_delay + 1, n_out], int32 or float64. place: row of delay 0, the next step's.
        sent: [n_in], int32 or float64; graded: its values are payloads, else anything but 0 is a spike.
        first: int64 [n_in + 1]: source j has the synapses first[j] .. first[j + 1] - 1 of those that follow.
        target: int32 [S]. delay: uint8 [S], at most max_delay (not checked). weight: [S], of the ring's dtype.
    """
    rows = len(ring)
    for j in range(len(sent)):
        if sent[j] != 0:
            payload = sent[j] if graded else 1
            for k in range(first[j], first[j + 1]):
                row = place + delay[k]
                if row >= rows:
                    row -= rows
                ring[row, target[k]] += weight[k] * payload


step_deliver = holding(deliver.py_func)


@dataclass(frozen=True, eq=False)
class Synapses:
    """Synapses sorted by source, ready for :func:`deliver`; see there."""

    first: NDArray[np.int64]
    target: NDArray[np.int32]
    delay: NDArray[np.uint8]
    weight: NDArray[Any]

    def deliver(self, ring: NDArray[Any], place: int, sent: NDArray[Any], graded: bool) -> None:
        """As :func:`deliver`, which does not check its arguments; ``sent`` of the ring's dtype, contiguous."""
        step_deliver(ring, place, sent, graded, self.first, self.target, self.delay, self.weight)


@dataclass(frozen=True, eq=False)
class Fanout:
    """Where synapses lead, sorted by source, and which entry of a table of weights and of delays each of them has.

    first: int64 [n_in + 1], target, weight_index, delay_index: [S]; see :func:`deliver`.
    """

    first: NDArray[np.int64]
    target: NDArray[np.int32]
    weight_index: NDArray[np.int32]
    delay_index: NDArray[np.int32]

    @classmethod
    def of(
        cls,
        n_in: int,
        source: NDArray[np.integer],
        target: NDArray[np.integer],
        weight_index: NDArray[np.integer],
        delay_index: NDArray[np.integer],
    ) -> Fanout:
        """Sort synapses, given in any order [S]; those of one source keep their order."""
        order = np.argsort(source, kind="stable")
        first = np.zeros(n_in + 1, np.int64)
        np.cumsum(np.bincount(source, minlength=n_in), out=first[1:])
        return cls(first, *(column[order].astype(np.int32) for column in (target, weight_index, delay_index)))

    def carrying(self, weights: NDArray[Any], delays: NDArray[np.integer]) -> Synapses:
        """The synapses with these tables (delays within 0..255); those of weight 0 carry nothing and are left out."""
        weight = weights[self.weight_index]
        kept = weight != 0
        before = np.zeros(len(kept) + 1, np.int64)
        np.cumsum(kept, out=before[1:])
        delay = delays[self.delay_index[kept]].astype(np.uint8)
        return Synapses(before[self.first], self.target[kept], delay, weight[kept])


@cache
def prepare() -> None:
    """Have the kernel compiled, or loaded from numba's cache, in this process; from the second call on it does nothing.

    Processes call it where they are built: Lava's children are forked from there and find the kernel ready.
    """
    none = np.zeros(0, np.int64)
    fanout = Fanout.of(1, none, none, none, none)
    for dtype in (np.int32, np.float64):
        ring, sent, table = np.zeros((1, 1), dtype), np.zeros(1, dtype), np.zeros(0, dtype)
        fanout.carrying(table, none).deliver(ring, 0, sent, True)
