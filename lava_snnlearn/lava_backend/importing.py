"""``from_lava``: a live Lava process graph as a FixedNetwork, which the emulator runs with equal bits and many times faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.proc.conv.process import Conv
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, at_least, instance_of, known_name
from lava_snnlearn.fixed_point.connection import Connection
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.population import INPUT, Population
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.lava_backend.graph_import import LARGEST_CONV_SUM, GraphImport, Node, inlet
from lava_snnlearn.lava_backend.neuron_parts import sent_rows
from lava_snnlearn.lava_backend.wiring import LavaImportError, described, full_name

if TYPE_CHECKING:
    from lava_snnlearn.verification import Report

__all__ = ["LavaImport", "LavaImportError", "from_lava"]


@dataclass(frozen=True)
class _Entry:
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
    _entries: tuple[_Entry, ...]
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
        given = self.encode(signal) if isinstance(signal, Mapping) else signal
        if given is None:
            given = self._own(steps)
        array = np.asarray(given)
        count = len(array) if steps is None else at_least(1, "steps", steps)
        if count not in self._networks:
            self._networks[count] = replace(self.network, steps=count)
        return emulate(self._networks[count], array[:count] if array.ndim == 3 else array, record=record)

    def encode(self, signal: Mapping[str, ArrayLike]) -> NDArray[np.int64]:
        """The network's input [T, B, n] for integers [T, B, *shape] by name of the source; others send their own data."""
        given = {name: self._given(name, value) for name, value in signal.items()}
        shapes = {value.shape[:2] for value in given.values()}
        if len(shapes) > 1:
            raise ValueError(f"signals must have equal numbers of steps and samples, got [T, B] = {sorted(shapes)}")
        steps, samples = shapes.pop() if shapes else (self.network.steps, 1)
        result = np.zeros((steps, samples, self.network.host.size), np.int64)
        for entry in self._entries:
            own = self._rows[entry.source]
            if entry.source not in given and steps > len(own):
                raise ValueError(
                    f"source {entry.source!r} was imported for {len(own)} steps, and the signal has {steps}; import more "
                    "steps, or give its data too"
                )
            values = given[entry.source] if entry.source in given else own[:steps, None]
            result[:, :, entry.column] += values[:, :, entry.place]
        return result

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


def from_lava(process: AbstractProcess, steps: int, *, largest_input: int | None = None) -> LavaImport:
    """Import the process graph that ``process`` belongs to, as its ``fixed_pt`` models compute it.

    Lava's LIF, LIFReset, Dense, Sparse, DelayDense, DelaySparse, Conv and RingBuffers, this library's SoftResetLIF, EPNeuron,
    DelayConnection, SampleSource and Recorder, and containers of these, also lava-dl's netx blocks; connected in whatever way,
    with loops, several inputs, virtual ports and initial states. The processes themselves stay as they are and can be run.

    Args:
        process: any process of the graph; it need not have been compiled.
        steps: T, steps of a run.
        largest_input: largest magnitude of what the sources will send, for runs with other data than their own; None: that of
            their own. Sums have to stay within Lava's int32 for it.

    Raises:
        LavaImportError: a process, a parameter or a way of connecting that a FixedNetwork does not have; the message names it.
        LimitError: a value out of range. TypeError: no Lava process.
    """
    instance_of("process", process, AbstractProcess, "give any process of the graph")
    at_least(1, "steps", steps)
    least = 1 if largest_input is None else at_least(1, "largest_input", largest_input)
    graph = GraphImport(process, steps)
    if not graph.nodes:
        raise LavaImportError(f"the graph of {described(process)} has neither neurons nor connections; there is nothing to run")
    rows = {full_name(source): sent_rows(source, steps) for source in graph.parts.sources}
    host, entries = _host(graph, rows, least)
    populations = tuple(graph.population(node) for node in graph.nodes)
    connections = graph.connections()
    connections += _ties(populations, connections, host)
    network = FixedNetwork(populations, tuple(connections), host, steps, _output(graph))
    _check_conv_sums(graph, network)
    orders = {
        full_name(node.process): (node.process.s_out.shape, node.places) for node in graph.neurons.values() if node.process
    }
    result = LavaImport(
        network=network,
        signal=None,
        populations={full_name(node.process): node.name for node in graph.neurons.values() if node.process},
        sinks={name: tuple(node.name for node, _ in senders) for name, senders in graph.sinks.items()},
        sources={full_name(source): source.s_out.shape for source in graph.parts.sources},
        _rows=rows,
        _entries=entries,
        _orders=orders,
        _networks={steps: network},
        _heard={
            full_name(sink): (
                inlet(sink).shape,
                tuple((node.name, node.places[place]) for node, place in graph.sinks[full_name(sink)]),
            )
            for sink in graph.parts.sinks
        },
    )
    return replace(result, signal=result.encode({}).astype(np.int32)) if entries else result


def _host(graph: GraphImport, rows: dict[str, NDArray[np.int64]], largest: int) -> tuple[HostInput, tuple[_Entry, ...]]:
    """How the sources become the network's input, and their part of it; ``largest``: what they send at least."""
    if graph.input is not None:
        node, [source] = graph.input, graph.parts.sources
        data = rows[full_name(source)]
        entries = (_Entry(full_name(source), np.arange(node.size), node.places),)
        largest = max(largest, int(np.abs(data).max()))
        if data.min() >= 0 and largest == 1:
            return HostInput("spikes", node.size), entries
        return HostInput("graded", node.size, largest=largest), entries
    fed = [node for node in graph.nodes if node.direct] or graph.nodes[:1]
    found, first, least = [], 0, largest
    for node in fed:
        total = np.zeros((graph.steps, node.size), np.int64)
        for feed in node.direct:
            found.append(_Entry(full_name(feed.process), feed.place, first + node.places))
            total += rows[full_name(feed.process)][:, feed.place]
        largest = max(largest, least * len(node.direct), int(np.abs(total).max()))
        first += node.size
    return HostInput("current", first, tuple(node.name for node in fed), largest=largest), tuple(found)


def _ties(populations: tuple[Population, ...], connections: list[Connection], host: HostInput) -> list[Connection]:
    """Connections of weight 0 to what no connection joins with the input: a FixedNetwork hangs together, and a Lava graph may
    do so only through its sinks."""
    start = host.targets[0] if host.targets else INPUT
    size = next((p.size for p in populations if p.name == start), host.size)
    reached, ties = _reached(connections, start), []
    for population in populations:
        if population.name not in reached:
            ties.append(Connection(start, population.name, np.zeros((population.size, size), int)))
            reached = _reached([*connections, *ties], start)
    return ties


def _reached(connections: list[Connection], start: str) -> set[str]:
    reached, before = {start}, 0
    while len(reached) > before:
        before = len(reached)
        for connection in connections:
            ends = {connection.source, connection.target}
            reached |= ends if ends & reached else set()
    return reached


def _output(graph: GraphImport) -> str:
    """The population that answers: the last one that a sink hears, else the last one of neurons."""
    heard: list[Node] = [node for senders in graph.sinks.values() for node, _ in senders]
    return [*graph.relays.values(), *graph.neurons.values(), *heard][-1].name


def _check_conv_sums(graph: GraphImport, network: FixedNetwork) -> None:
    """Lava's Conv wraps sums beyond 24 bits."""
    for process in graph.parts.synapses:
        if not isinstance(process, Conv):
            continue
        weight = np.abs(np.asarray(process.weight.init, dtype=np.int64))
        binary = graph.synapses[process.id][0].binary
        largest = sum(1 if binary else network.largest_sent(node.name) for node, _ in graph.sources_of[process.id])
        reach = int(weight.reshape(len(weight), -1).sum(1).max()) * largest
        if reach > LARGEST_CONV_SUM:
            raise LimitError(
                f"{described(process)}: its sums can reach {reach}, more than {LARGEST_CONV_SUM}, beyond which Lava "
                "wraps them. Use smaller weights or payloads"
            )
