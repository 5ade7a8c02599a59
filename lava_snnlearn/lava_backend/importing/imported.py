"""LavaImport: an imported network, with the names, shapes and order that the Lava graph has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, at_least, known_name
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.trace import Trace

if TYPE_CHECKING:
    from lava_snnlearn.verification import Report


@dataclass(frozen=True)
class Entry:
    """Where a source's values go: its flat index ``place`` is added to the column ``column`` of the chip's input."""

    source: str
    place: NDArray[np.int64]
    column: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LavaImport:
    """A network that was a Lava process graph.

    Attributes:
        network: the FixedNetwork; one sample is a run of ``network.steps`` steps.
        signal: int32 [T, 1, n], what the graph's own sources send, as the network takes it; None if there is no source.
        populations: name of a process of neurons -> name of its population.
        sinks: name of a RingBuffer sink or Recorder -> names of the populations whose sum it hears.
        sources: name of a source -> shape of what it sends in a step.
    """

    network: FixedNetwork
    signal: NDArray[np.int32] | None
    populations: Mapping[str, str]
    sinks: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, tuple[int, ...]]
    _rows: Mapping[str, NDArray[np.int64]]
    _entries: tuple[Entry, ...]
    _orders: Mapping[str, tuple[tuple[int, ...], NDArray[np.int64]]]
    _heard: Mapping[str, tuple[tuple[int, ...], tuple[tuple[str, NDArray[np.int64]], ...]]]
    _networks: dict[int, FixedNetwork]

    def run(
        self, steps: int | None = None, signal: Mapping[str, ArrayLike] | ArrayLike | None = None, *, record: str = "all"
    ) -> Trace:
        """Emulate the graph: the same bits as its run on Lava's simulator.

        Args:
            steps: T; None: as imported, or as long as ``signal`` is. At most the imported ones where the graph's own sources
                are heard.
            signal: what the sources send instead of their own data: integers [T, B, *shape] by name of the source (others send
                their own), or the network's own input [T, B, n].
            record: as in ``emulate``.

        Raises:
            ValueError, LimitError, TypeError, UnknownNameError: a signal that does not fit.
        """
        if signal is None:
            array: NDArray[Any] = self._own(steps)
        elif isinstance(signal, Mapping):
            array = self.encode(signal)
        else:
            array = np.asarray(signal)
            size = self.network.host.size
            if array.ndim != 3 or array.shape[2] != size:
                raise ValueError(f"signal has shape {array.shape}, expected [T, B, {size}]")
            if array.dtype.kind in "iu":
                self._check_range(array)
        count = len(array) if steps is None else at_least(1, "steps", steps)
        if count not in self._networks:
            self._networks[count] = replace(self.network, steps=count)
        return emulate(self._networks[count], array[:count], record=record)

    def encode(self, signal: Mapping[str, ArrayLike]) -> NDArray[np.int64]:
        """The network's input [T, B, n] for integers [T, B, *shape] by name of the source; others send their own data.

        Raises:
            ValueError, LimitError, TypeError, UnknownNameError: a signal that does not fit.
        """
        given = {name: self._given(name, value) for name, value in signal.items()}
        shapes = {value.shape[:2] for value in given.values()}
        if len(shapes) > 1:
            raise ValueError(f"signals must have equal numbers of steps and samples, got [T, B] = {sorted(shapes)}")
        steps, samples = shapes.pop() if shapes else (self.network.steps, 1)
        result = np.zeros((steps, samples, self.network.host.size), np.int64)
        largest = 0
        for entry in self._entries:
            own = self._rows[entry.source]
            if entry.source not in given and steps > len(own):
                raise ValueError(
                    f"source {entry.source!r} was imported for {len(own)} steps, and the signal has {steps}; import more "
                    "steps, or give its data too"
                )
            values = given[entry.source] if entry.source in given else own[:steps, None]
            result[:, :, entry.column] += values[:, :, entry.place]
            largest = max(largest, int(np.abs(values).max(initial=0)))
        self._check_range(result, largest)
        return result

    def _check_range(self, values: NDArray[Any], largest: int | None = None) -> None:
        """Whether the network's input holds what the sources send.

        Args:
            values: [T, B, n]. largest: largest magnitude of what a single source sends; None: that of ``values``.
        """
        low, high = self.network.host.value_range
        least, most = int(values.min(initial=0)), int(values.max(initial=0))
        if low <= least and most <= high:
            return
        # With 1 an input that was 0 and 1 only would be one of spikes again.
        remedy = max(2, max(-least, most) if largest is None else largest)
        raise LimitError(
            f"what the sources send reaches from {values.min()} to {values.max()}, but the graph was imported for {low} to "
            f"{high}; import it with from_lava(..., largest_input={remedy})"
        )

    def _given(self, name: str, value: ArrayLike) -> NDArray[np.int64]:
        shape = self.sources[known_name("source", name, self.sources)]
        array = np.asarray(value)
        if array.dtype.kind not in "biu":
            raise TypeError(f"signal of source {name!r} has dtype {array.dtype}; sources of fixed_pt models send integers")
        if array.ndim < 2 or array.shape[2:] != shape:
            raise ValueError(
                f"signal of source {name!r} has shape {array.shape}, expected [T, B, {', '.join(map(str, shape))}]"
            )
        return array.reshape(*array.shape[:2], -1).astype(np.int64)

    def _own(self, steps: int | None) -> NDArray[np.int32]:
        """What the graph's sources send, zeros if there is none."""
        count = self.network.steps if steps is None else at_least(1, "steps", steps)
        if self.signal is None:
            return np.zeros((count, 1, self.network.host.size), np.int32)
        if count > len(self.signal):
            raise ValueError(
                f"the graph was imported for {len(self.signal)} steps, and {count} are asked for; import more steps"
            )
        return self.signal[:count]

    def spikes(self, trace: Trace, process: str) -> NDArray[Any]:
        """What a process of neurons sent: [T, B, *shape], numbered as in Lava."""
        return self._as_lava(trace.spikes, process)

    def membranes(self, trace: Trace, process: str) -> NDArray[np.int32]:
        """The Var v of a process of neurons after each step: int32 [T, B, *shape], numbered as in Lava."""
        return self._as_lava(trace.membranes, process)

    def _as_lava(self, values: Mapping[str, NDArray[Any]], process: str) -> NDArray[Any]:
        name = self.populations[known_name("process", process, self.populations)]
        shape, places = self._orders[process]
        rows = values[name][:, :, places]
        return rows.reshape(*rows.shape[:2], *shape)

    def received(self, trace: Trace, sink: str) -> NDArray[np.int64]:
        """What a RingBuffer sink or Recorder received in each step: [T, B, *shape], numbered as in Lava."""
        shape, senders = self._heard[known_name("sink", sink, self.sinks)]
        steps, samples = next(iter(trace.spikes.values())).shape[:2]
        total = np.zeros((steps, samples, int(np.prod(shape))), np.int64)
        for name, places in senders:
            total += trace.spikes[name][:, :, places]
        return total.reshape(steps, samples, *shape)

    def verify(self) -> Report:
        """Compare the emulator with Lava's simulator, on fresh processes built from the network, on the graph's own input."""
        from lava_snnlearn.verification import verify

        return verify(self.network, self._own(None), against=["lava"])
