"""Populations cut into slices, each of which fits a core.

A population is cut into as few equal slices as hold, in the order of its neurons. An image that hears convolutions is also cut
into tiles (all channels of places that lie together), because neighbouring places hear almost the same sources; the order that
needs fewer slices is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.fan import fan_in, sources_of
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.placement.chips import DELAY_FREE, Chip, synapse_bits
from lava_snnlearn.placement.reach import Listener, Reach, union

Slice = NDArray[np.int64]
"""Numbers of neurons of one population."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Neurons of a population that stay together."""

    part: Part
    neurons: Slice

    @cached_property
    def reaches(self) -> dict[str, Reach]:
        """What they hear, by source; kept, since it takes longest to find."""
        return self.part.reaches(self.neurons)

    @property
    def name(self) -> str:
        """That of the population."""
        return self.part.population.name


@dataclass(frozen=True, eq=False)
class _Kernel:
    """A kernel that a core holds once for each output channel on it: neurons and bits of a channel."""

    places: int
    bits: NDArray[np.int64]

    def on(self, neurons: Slice) -> int:
        return int(self.bits[np.unique(neurons // self.places)].sum())


class Part:
    """A population on its way to cores.

    Attributes:
        population, listeners: its neurons, and the connections that end at them.
        heard: int64 [n], sources that each neuron hears.
        broken: limits that a single neuron breaks, and so no cut can keep: name -> (neuron, its load).
    """

    def __init__(self, network: FixedNetwork, population: Population, chip: Chip) -> None:
        self.population, self._chip = population, chip
        self.listeners = [Listener(connection) for connection in network.incoming(population.name)]
        size = population.size
        self.heard, self._bits, longest = np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._kernels: list[_Kernel] = []
        for several in self._by_source().values():
            self.heard += sources_of([one.connection for one in several])
        for connection in network.incoming(population.name):
            synapses, bits = fan_in(connection), synapse_bits(connection.max_delay > 0)
            if connection.geometry is not None and chip.shared_kernels:
                stored = np.count_nonzero(connection.weight, axis=(1, 2, 3)).astype(np.int64) * bits
                self._kernels.append(_Kernel(size // len(stored), stored))
            else:
                self._bits += synapses * bits
            longest = np.maximum(longest, _longest_delay(connection))
        self._entries = np.maximum(longest, DELAY_FREE)
        self.broken = self._broken()

    @property
    def size(self) -> int:
        """Number of neurons."""
        return self.population.size

    def loads(self, neurons: Slice) -> dict[str, int]:
        """What these neurons take of a core, axons apart."""
        bits = int(self._bits[neurons].sum()) + sum(kernel.on(neurons) for kernel in self._kernels)
        loads = {"neurons": len(neurons), "synaptic_bits": bits}
        if "delay_entries" in self._chip.core:
            loads["delay_entries"] = int(self._entries[neurons].sum())
        return loads

    def reaches(self, neurons: Slice) -> dict[str, Reach]:
        """What these neurons hear, by source."""
        return {source: union([one.reach(neurons) for one in several]) for source, several in self._by_source().items()}

    def _by_source(self) -> dict[str, list[Listener]]:
        """Connections that labels tell apart have the same source."""
        found: dict[str, list[Listener]] = {}
        for listener in self.listeners:
            found.setdefault(listener.connection.source, []).append(listener)
        return found

    def _kept(self) -> dict[str, int]:
        """Limits that a cut can keep."""
        return {name: top for name, top in self._chip.core.items() if name not in self.broken}

    def _broken(self) -> dict[str, tuple[int, int]]:
        """See the class."""
        bits = self._bits.copy()
        for kernel in self._kernels:
            bits += np.repeat(kernel.bits, kernel.places)
        single = {"synaptic_bits": bits, "input_axons": self.heard, "delay_entries": self._entries}
        return {
            name: (int(load.argmax()), int(load.max()))
            for name, load in single.items()
            if name in self._chip.core and load.max() > self._chip.core[name]
        }

    def cut(self, least: int = 1) -> list[Piece]:
        """At least so many pieces, as few and as equal as hold."""
        kept = self._kept()
        totals = {"neurons": self.size, "synaptic_bits": int(self._bits.sum()), "delay_entries": int(self._entries.sum())}
        least = max([least, *(math.ceil(total / kept[name]) for name, total in totals.items() if name in kept)])
        best, number = np.arange(self.size, dtype=np.int64), self.size
        for order in self._orders():
            fewer = _fewest(partial(self._hold, order, kept), min(least, number), number)
            if fewer < number:
                best, number = order, fewer
        return [Piece(self, best[_bounds(self.size, number, index)]) for index in range(number)]

    def _hold(self, order: Slice, kept: dict[str, int], number: int) -> bool:
        """So many slices fit a core each."""
        few_sources = sum(several[0].sources for several in self._by_source().values()) <= kept.get("input_axons", math.inf)
        # Most cuts that fail do so everywhere: the slice in the middle of an image, far from its padding, tells first.
        for index in (number // 2, *range(number)):
            neurons = order[_bounds(self.size, number, index)]
            if any(load > kept.get(name, load) for name, load in self.loads(neurons).items()):
                return False
            if not few_sources and sum(reach.count for reach in self.reaches(neurons).values()) > kept["input_axons"]:
                return False
        return True

    def _orders(self) -> list[Slice]:
        """Where there are convolutions that of tiles, then that of the neurons."""
        plain = np.arange(self.size, dtype=np.int64)
        shapes = {
            listener.connection.geometry.output_shape(np.shape(listener.connection.weight))
            for listener in self.listeners
            if listener.connection.geometry is not None
        }
        if len(shapes) != 1:
            return [plain]
        return [tiles(*shapes.pop()), plain]


def tiles(channels: int, rows: int, columns: int) -> Slice:
    """Numbers of the neurons of an image [C, H, W], place by place; places in Morton order, so that any run of them lies close
    together."""
    row, column = (axis.reshape(-1) for axis in np.indices((rows, columns)))
    code = np.zeros(rows * columns, np.int64)
    for bit in range(max(rows, columns).bit_length()):
        code |= ((row >> bit & 1) << (2 * bit + 1)) | ((column >> bit & 1) << (2 * bit))
    places = np.argsort(code)
    return (np.arange(channels)[None] * (rows * columns) + places[:, None]).reshape(-1).astype(np.int64)


def _bounds(size: int, number: int, index: int) -> slice:
    """Of ``number`` slices, equal up to one neuron, the one at ``index``."""
    return slice(size * index // number, size * (index + 1) // number)


def _longest_delay(connection: Connection) -> NDArray[np.int64] | int:
    """Of each target neuron, over its synapses that are not zero."""
    delay, weight = np.asarray(connection.delay), np.asarray(connection.weight)
    if delay.ndim == 0:
        return int(delay)
    longest: NDArray[np.int64] = np.where(weight != 0, delay, 0).max(axis=1).astype(np.int64)
    return longest


def _fewest(holds: Callable[[int], bool], least: int, most: int) -> int:
    """A number from ``least`` to ``most`` that holds while one less does not; ``most`` holds."""
    low, high = least - 1, least
    while high < most and not holds(high):
        low, high = high, min(most, high + max(1, high // 2))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
