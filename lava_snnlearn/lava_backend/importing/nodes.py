"""A Lava process graph as a FixedNetwork: which nodes there are, how their neurons are numbered, which synapses join them.

Neurons become populations. Where connections follow each other without neurons between, or where several sources meet, their
sum is a relay. A process's neurons keep Lava's flat order, except around convolutions: Lava numbers images (W, H, C), a
FixedNetwork (C, H, W).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.proc.io.sink import Read
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.monitor.process import Monitor
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.connection import Connection
from lava_snnlearn.fixed_point.convolution import expand
from lava_snnlearn.fixed_point.population import INPUT, Population
from lava_snnlearn.lava_backend.housekeeping import network_of
from lava_snnlearn.lava_backend.importing.neurons import NEURONS, SOURCES, neuron_options
from lava_snnlearn.lava_backend.importing.synapses import SYNAPSES, SynapsePart, synapse_parts
from lava_snnlearn.lava_backend.importing.wiring import Feed, LavaImportError, check_fed, described, feeds, full_name
from lava_snnlearn.processes.recorder.process import Recorder

SINKS = (Sink, Recorder)
_WATCHERS = (Monitor, Read)
MATRIX_MAX = 1 << 27
"""Largest number of entries of a matrix that a convolution is laid out in."""


@dataclass
class Node:
    """A population to be: of a process of neurons, or a relay, or the input.

    ``at``: its index of what Lava has at flat index k; None: not yet decided, the same.
    """

    name: str
    size: int
    process: Any = None
    direct: list[Feed] = field(default_factory=list)
    synaptic: list[Feed] = field(default_factory=list)
    at: NDArray[np.int64] | None = None
    image: tuple[int, ...] | None = None

    @property
    def places(self) -> NDArray[np.int64]:
        """``at``, decided."""
        return np.arange(self.size) if self.at is None else self.at


@dataclass
class Parts:
    """The processes of a graph, by what they are."""

    sources: list[Any] = field(default_factory=list)
    neurons: list[Any] = field(default_factory=list)
    synapses: list[Any] = field(default_factory=list)
    sinks: list[Any] = field(default_factory=list)


def sorted_parts(process: AbstractProcess) -> Parts:
    """All processes that run together with ``process``; containers count as nothing but wires.

    Raises:
        LavaImportError: a process that is none of those that can be imported.
    """
    parts = Parts()
    kinds = ((SOURCES, parts.sources), (tuple(NEURONS), parts.neurons), (tuple(SYNAPSES), parts.synapses), (SINKS, parts.sinks))
    for member in network_of(process):
        place = next((found for types, found in kinds if type(member) in types), None)
        if place is not None:
            place.append(member)
        elif type(member) not in _WATCHERS and not member.procs.members:
            known = sorted({kind.__name__ for types, _ in kinds for kind in types})
            raise LavaImportError(
                f"process {full_name(member)!r} is a {type(member).__name__}, which from_lava cannot import. It takes "
                f"{', '.join(known)}, and containers that build such processes in their __init__"
            )
    names = [full_name(member) for member in (*parts.sources, *parts.neurons, *parts.sinks)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LavaImportError(f"several processes have the names {twice}; name every source, population and sink differently")
    return parts


def inlet(sink: Any) -> Any:
    """The port that a sink hears."""
    return sink.s_in if isinstance(sink, Recorder) else sink.a_in


class GraphImport:
    """The nodes of a graph and what joins them; made for ``steps`` steps."""

    def __init__(self, process: AbstractProcess, steps: int) -> None:
        self.parts = sorted_parts(process)
        self.steps = steps
        self._names: set[str] = {INPUT}
        self.neurons = {p.id: Node(self.new_name(full_name(p)), p.s_out.size, p) for p in self.parts.neurons}
        self._synapse_ids = {p.id for p in self.parts.synapses}
        self.relays: dict[tuple[Any, ...], Node] = {}
        self.synapses = {p.id: synapse_parts(p) for p in self.parts.synapses}
        for synapses in self.parts.synapses:
            check_fed(synapses, synapses.s_in)
        self.heard = {p.id: feeds(p.s_in) for p in self.parts.synapses}
        for node in self.neurons.values():
            self._take(node, feeds(node.process.a_in))
        self.input = self._only_source()
        self.sources_of = {p.id: self._senders(p, self.heard[p.id]) for p in self.parts.synapses}
        self.sinks = {full_name(p): self._senders(p, feeds(inlet(p))) for p in self.parts.sinks}
        self._turn_images()

    @property
    def nodes(self) -> list[Node]:
        """Populations: neurons, then relays."""
        return [*self.neurons.values(), *self.relays.values()]

    def new_name(self, wanted: str) -> str:
        """A population name that nobody has."""
        plain = _plain(wanted)
        plain = plain if plain.isidentifier() else f"p_{plain}"
        name, number = plain, 2
        while name in self._names:
            name, number = f"{plain}_{number}", number + 1
        self._names.add(name)
        return name

    def _take(self, node: Node, arriving: list[Feed]) -> None:
        """Sort what arrives at neurons."""
        for feed in arriving:
            if feed.process.id in self.neurons:
                raise LavaImportError(
                    f"{described(node.process)} hears the spikes of {described(feed.process)} in the same step, without a "
                    "connection between them; put a Dense there"
                )
            (node.synaptic if feed.process.id in self._synapse_ids else node.direct).append(feed)

    def _only_source(self) -> Node | None:
        """The input as a source of connections, if there is just one source and only connections hear it."""
        if len(self.parts.sources) != 1 or any(node.direct for node in self.neurons.values()):
            return None
        [source] = self.parts.sources
        listening = [arriving for arriving in self.heard.values() if any(feed.process is source for feed in arriving)]
        at_sinks = [feeds(inlet(p)) for p in self.parts.sinks]
        mixed = any(feed.process.id in self._synapse_ids for arriving in listening for feed in arriving)
        if mixed or not listening or any(feed.process is source for arriving in at_sinks for feed in arriving):
            return None
        return Node(INPUT, source.s_out.size, source)

    def _senders(self, process: Any, arriving: list[Feed]) -> list[tuple[Node, NDArray[np.int64]]]:
        """Nodes whose sum a port hears, each with the flat index in Lava's order of what arrives at every place of the port."""
        senders = [(self.neurons[feed.process.id], feed.place) for feed in arriving if feed.process.id in self.neurons]
        others = [feed for feed in arriving if feed.process.id not in self.neurons]
        if self.input is not None:
            senders += [(self.input, feed.place) for feed in others if feed.process is self.input.process]
            others = [feed for feed in others if feed.process is not self.input.process]
        if others:
            relay = self._relay(process, others)
            senders.append((relay, np.arange(relay.size)))
        return senders

    def _relay(self, process: Any, arriving: list[Feed]) -> Node:
        key = tuple(sorted((feed.process.id, feed.place.tobytes()) for feed in arriving))
        if key not in self.relays:
            [*_, last] = arriving
            name = full_name(last.process) if len(arriving) == 1 else f"into_{full_name(process)}"
            relay = Node(self.new_name(name), len(last.place))
            for feed in arriving:
                (relay.synaptic if feed.process.id in self._synapse_ids else relay.direct).append(feed)
            self.relays[key] = relay
        return self.relays[key]

    def _turn_images(self) -> None:
        """Number what a convolution joins as it numbers images; the first one of a node decides."""
        for target in self.nodes:
            for feed in target.synaptic:
                geometry = self.synapses[feed.process.id][0].geometry
                if geometry is None:
                    continue
                kernel = self.synapses[feed.process.id][0].weight.shape
                _decide(target, feed.place, geometry.output_shape(kernel))
                for source, place in self.sources_of[feed.process.id]:
                    _decide(source, _inverse(place), geometry.input_shape)

    def population(self, node: Node) -> Population:
        """The population of a node, its parameters in its own order."""
        if node.process is None:
            return Population(node.name, node.size, "relay", shape=node.image)
        options = neuron_options(node.process, self.steps)
        order = _inverse(node.places)
        turned = {key: value[order] if np.ndim(value) else value for key, value in options.items()}
        return Population(node.name, node.size, shape=node.image, **turned)

    def connections(self) -> list[Connection]:
        """All connections; those that join the same two nodes have labels."""
        found: list[tuple[tuple[str, str], str, dict[str, Any]]] = []
        for target in self.nodes:
            for feed in target.synaptic:
                senders = self.sources_of[feed.process.id]
                for part in self.synapses[feed.process.id]:
                    _check_sum(feed.process, part, len(senders))
                    label = _plain(full_name(feed.process)) + (f"_{part.label}" if part.label else "")
                    for source, place in senders:
                        options = _options(part, source, place, target, feed.place)
                        found.append(((source.name, target.name), label, options))
        pairs = Counter(ends for ends, _, _ in found)
        return [Connection(*ends, label=label if pairs[ends] > 1 else "", **options) for ends, label, options in found]


def _plain(name: str) -> str:
    """The name with nothing but letters, digits and underscores."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def _inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.argsort(order)


def _channels_first(image: tuple[int, ...]) -> NDArray[np.int64]:
    """Of every place of an image (C, H, W) in Lava's order (W, H, C), its index in the order C, H, W."""
    return np.arange(int(np.prod(image))).reshape(image).transpose(2, 1, 0).reshape(-1)


def _decide(node: Node, port_of: NDArray[np.int64], image: tuple[int, ...]) -> None:
    """Number a node so that it is ``image`` to the convolution; ``port_of``: the port's flat index of each of Lava's."""
    if node.at is None:
        node.at, node.image = _channels_first(image)[port_of], image


def _check_sum(process: AbstractProcess, part: SynapsePart, senders: int) -> None:
    if senders > 1 and (part.binary or part.exponent < 0):
        what = "without message bits" if part.binary else "with a weight exponent below 0"
        raise LavaImportError(
            f"{described(process)} {what} hears the sum of {senders} processes of neurons or "
            "inputs, which no connections of their own are equal to; give each of them a connection process"
        )


def _options(
    part: SynapsePart, source: Node, place: NDArray[np.int64], target: Node, out_place: NDArray[np.int64]
) -> dict[str, Any]:
    """What a Connection takes besides its ends; weights in the order of the nodes."""
    columns, rows = source.places[place], target.places[_inverse(out_place)]
    common = {"exponent": part.exponent, "sign_mode": part.sign_mode, "binary": part.binary}
    if part.geometry is None:
        return {"weight": _placed(part.weight, rows, columns), "delay": _delays(part.delay, rows, columns), **common}
    outward = part.geometry.output_shape(part.weight.shape)
    numbered = (rows == _channels_first(outward)).all() and (columns == _channels_first(part.geometry.input_shape)).all()
    if numbered and (target.image, source.image) == (outward, part.geometry.input_shape):
        return {"weight": part.weight, "geometry": part.geometry, **common}
    if len(rows) * len(columns) > MATRIX_MAX:
        raise LavaImportError(
            f"a convolution between {source.name!r} and {target.name!r}, which other convolutions number otherwise, needs a "
            f"matrix of {len(rows)} x {len(columns)} entries, more than {MATRIX_MAX}"
        )
    matrix = expand(part.weight, part.geometry).toarray()
    order = _channels_first(outward), _channels_first(part.geometry.input_shape)
    return {"weight": _placed(matrix[np.ix_(*order)], rows, columns), **common}


def _placed(matrix: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(matrix[np.ix_(_inverse(rows), _inverse(columns))], dtype=np.int64)


def _delays(delay: Any, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Any:
    """One number where all are equal."""
    delays = np.asarray(delay)
    return int(delays.min()) if delays.min() == delays.max() else _placed(delays, rows, columns)
