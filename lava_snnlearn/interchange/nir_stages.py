"""From a flat NIR graph to stages: populations, and the links between them.

An edge that closes a loop is read one step late: what it carries was sent in the step before, as every tool with a time step
has it. Which edge of a loop that is follows from the order of the graph: the one that leads back to a population from which
the search from the Input came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.fixed_point.graph import INPUT
from lava_snnlearn.fixed_point.lowering import Link, Stage
from lava_snnlearn.interchange.nir_maps import Shape, Way, way_of
from lava_snnlearn.interchange.nir_tree import MAX_VALUES, NEURONS, FlatGraph, Node
from lava_snnlearn.interchange.nir_units import LARGEST, Cell, cell_of
from lava_snnlearn.neurons.lif import LIF

_MAX_WAYS = 1000
_SPIKING = tuple(kind for kind in NEURONS if kind != "LI")


@dataclass(frozen=True)
class Found:
    """What a graph holds: its stages (the readout last), the share that filtered currents lose in a step, by the stage's name,
    and the shape of the input."""

    stages: list[Stage]
    input_shape: Shape
    filters: Mapping[str, float] = field(default_factory=dict)


def back_edges(first: str, following: Mapping[str, Sequence[str]]) -> tuple[list[str], set[tuple[str, str]]]:
    """Names in an order in which each comes behind all that lead to it, and the edges left out of that: those which lead back
    to a name from which a search in depth came."""
    back: set[tuple[str, str]] = set()
    done: list[str] = []
    visited, open_ = {first}, {first}
    stack = [(first, iter(following.get(first, ())))]
    while stack:
        name, rest = stack[-1]
        for other in rest:
            if other in open_:
                back.add((name, other))
            elif other not in visited:
                visited.add(other)
                open_.add(other)
                stack.append((other, iter(following.get(other, ()))))
                break
        else:
            stack.pop()
            open_.discard(name)
            done.append(name)
    return done[::-1], back


def found_in(graph: FlatGraph, dt: float, reset: str | None) -> Found:
    """The stages of a graph.

    Args:
        graph: checked.
        dt: seconds a step.
        reset: "zero" or "subtract" for all neurons; None: as the nodes say.

    Raises:
        FileFormatError: a graph that is not consistent. LimitError: one that means something, but nothing that populations and
        synapses here can do.
    """
    sink = _sink(graph)
    ways = {name: _ways(graph, name) for name in (*_populations(graph), sink)}
    following: dict[str, list[str]] = {}
    for target, found in ways.items():
        for source, _ in found:
            if target not in following.setdefault(source, []):
                following[source].append(target)
    order, back = back_edges(graph.input, following)
    lost = [name for name in ways if name not in order]
    if lost:
        raise FileFormatError(f"nothing leads from the Input to {graph.nodes[lost[0]].where}")
    builder = _Builder(graph, dt, reset, {name: {pair for pair in back if pair[1] == name} for name in ways})
    for name in order[1:]:
        if name != sink:
            builder.forward(name, ways[name])
    for name in order[1:]:
        if name != sink:
            builder.stage(name, ways[name])
    builder.readout(sink, ways[sink])
    return Found(builder.stages, graph.nodes[graph.input].shape, builder.filters)


def _populations(graph: FlatGraph) -> list[str]:
    found = [name for name, node in graph.nodes.items() if node.kind in _SPIKING]
    if not found:
        raise FileFormatError(f"the NIR graph has no neurons that spike ({', '.join(_SPIKING)})")
    return found


def _sink(graph: FlatGraph) -> str:
    """The Output, or the leaky integrator that it reads."""
    read = [first for first, second in graph.edges if second == graph.output]
    sink = read[0] if len(read) == 1 and graph.nodes[read[0]].kind == "LI" else graph.output
    for name, node in graph.nodes.items():
        if node.kind == "LI" and (name != sink or [second for first, second in graph.edges if first == name] != [graph.output]):
            raise LimitError(f"{node.where} is a leaky integrator within the network; supported is one as the readout")
    return sink


def _ways(graph: FlatGraph, target: str) -> list[tuple[str, tuple[Node, ...]]]:
    """All ways into a population or the output: their source, and the nodes between in the order of the signal."""
    before: dict[str, list[str]] = {}
    for first, second in graph.edges:
        before.setdefault(second, []).append(first)
    found: list[tuple[str, tuple[Node, ...]]] = []
    open_: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in before.get(target, ())]
    while open_:
        name, path = open_.pop(0)
        node = graph.nodes[name]
        if name in path:
            raise FileFormatError(f"{node.where} is part of a loop without neurons")
        if name == graph.input or node.kind in _SPIKING:
            between = tuple(graph.nodes[part] for part in path)
            found.append((name, tuple(part for part in between if part.kind not in ("Input", "Output"))))
        else:
            open_ += [(earlier, (name, *path)) for earlier in before.get(name, ())]
        if len(found) + len(open_) > _MAX_WAYS:
            raise LimitError(f"more than {_MAX_WAYS} ways lead to {graph.nodes[target].where}; merge the maps in front of it")
    if not found:
        raise FileFormatError(f"nothing leads to {graph.nodes[target].where}")
    return found


@dataclass
class _Builder:
    """Makes stages in order; ``shapes`` and ``names`` (in the network) of the sources known so far."""

    graph: FlatGraph
    dt: float
    reset: str | None
    back: Mapping[str, set[tuple[str, str]]]
    stages: list[Stage] = field(default_factory=list)
    filters: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shapes: dict[str, Shape] = {self.graph.input: self.graph.nodes[self.graph.input].shape}
        self.names: dict[str, str] = {self.graph.input: INPUT}
        self.values = 0
        self.known: dict[str, list[tuple[Way, int]]] = {}

    def forward(self, target: str, ways: Sequence[tuple[str, tuple[Node, ...]]]) -> None:
        """Compose the ways that lead forward, which give a population its shape."""
        found = [self._way(source, nodes) for source, nodes in ways if (source, target) not in self.back[target]]
        self.known[target] = [(way, 0) for way in found]
        self.shapes[target] = self._agreed(target, found)
        self.names[target] = f"layer{len(self.names)}"

    def stage(self, target: str, ways: Sequence[tuple[str, tuple[Node, ...]]]) -> None:
        """The population with all its links."""
        late = [self._way(source, nodes) for source, nodes in ways if (source, target) in self.back[target]]
        self._agreed(target, late)
        node, shape = self.graph.nodes[target], self.shapes[target]
        cell, factor = cell_of(node.where, node.kind, node.fields, self.dt, node.metadata, self.reset)
        links, bias = self._links(target, [*self.known[target], *((way, 1) for way in late)], factor)
        name = self.names[target]
        if cell.filter < 1:
            self.filters[name] = cell.filter
        self.stages.append(Stage(name, shape, _neuron(node, cell), cell.threshold, links, bias, start=cell.start))

    def readout(self, sink: str, ways: Sequence[tuple[str, tuple[Node, ...]]]) -> None:
        """The readout: what the Output hears, or a leaky integrator in front of it."""
        found = [self._way(source, nodes) for source, nodes in ways]
        node = self.graph.nodes[sink]
        self.shapes[sink] = self._agreed(sink, found)
        leak, factor = 0.0, None
        if node.kind == "LI":
            fields = {**node.fields, "v_reset": node.fields["v_leak"], "v_threshold": node.fields["v_leak"] + 1.0}
            if np.any(node.fields["v_leak"]):
                raise LimitError(f"{node.where}: v_leak must be 0 in a readout; add it to a bias")
            cell, _ = cell_of(node.where, "LIF", fields, self.dt, {}, None)
            leak, factor = cell.leak, node.fields["r"] * cell.leak
        links, bias = self._links(sink, [(way, 0) for way in found], factor)
        self.stages.append(Stage("readout", (math.prod(self.shapes[sink]),), None, 0.0, links, bias, leak=leak))

    def _way(self, source: str, nodes: Sequence[Node]) -> Way:
        way = way_of(source, self.shapes[source], nodes, self.dt)
        self.values += way.weight.size + way.bias.size
        if self.values > MAX_VALUES:
            raise LimitError(f"all weights and neurons together are more than {MAX_VALUES} values")
        return way

    def _agreed(self, target: str, ways: Sequence[Way]) -> Shape:
        node = self.graph.nodes[target]
        given = node.shape if node.kind == "Output" else np.shape(next(iter(node.fields.values())))
        shapes = {way.shape for way in ways} | ({self.shapes[target]} if target in self.shapes else set())
        if math.prod(given) > 1:
            shapes.add(tuple(given))
        if len(shapes) > 1:
            raise FileFormatError(f"{node.where}: shapes of what it hears and its own do not fit: {sorted(shapes)}")
        return shapes.pop() if shapes else tuple(given)

    def _links(
        self, target: str, ways: Sequence[tuple[Way, int]], factor: NDArray[np.float64] | None
    ) -> tuple[tuple[Link, ...], NDArray[np.float64]]:
        where, shape = self.graph.nodes[target].where, self.shapes[target]
        bias = np.zeros(math.prod(shape))
        links: list[Link] = []
        for way, lag in ways:
            bias = bias + way.bias
            link = _late(Link(self.names[way.source], way.weight, way.geometry), way.delay, lag)
            for index, other in enumerate(links):
                if other.source == link.source and bool(other.lag) == bool(link.lag):
                    links[index] = _merged(where, other, link)
                    break
            else:
                links.append(link)
        if factor is None:
            return tuple(_plain(where, link) for link in links), _ordinary(where, bias)
        rows = np.broadcast_to(factor, shape).ravel() if np.size(factor) > 1 else np.full(bias.shape, np.ravel(factor)[0])
        return tuple(_plain(where, _scaled(where, link, rows)) for link in links), _ordinary(where, bias * rows)


def _neuron(node: Node, cell: Cell) -> LIF:
    if cell.filter < 1 and cell.reset != "zero":
        raise LimitError(f"{node.where}: neurons with a filtered current are reset to zero on the chip, not by subtraction")
    return LIF(leak=cell.leak, threshold=cell.threshold, reset=cell.reset)


def _late(link: Link, delay: NDArray[np.int64], lag: int) -> Link:
    """A link with its delay: all of it in the lag where it closes a loop and is the same everywhere."""
    if delay.size == 1:
        steps = int(delay.flat[0])
        if lag:
            return replace(link, lag=lag + steps)
        if not steps:
            return link
        return replace(link, delay=np.array(steps) if link.geometry is not None else np.full(link.weight.shape, steps))
    return replace(link, lag=lag, delay=delay)


def _merged(where: str, first: Link, second: Link) -> Link:
    """Two links from the same source as one."""
    if first.geometry != second.geometry:
        raise LimitError(
            f"{where} hears {first.source} through several maps, one of them a convolution; there is one connection between "
            "two populations. Add the maps up."
        )
    delays = [np.asarray(link.lag if link.delay is None else link.lag + link.delay) for link in (first, second)]
    if np.array_equal(delays[0], delays[1]):
        return replace(first, weight=first.weight + second.weight)
    used = [link.weight != 0 for link in (first, second)]
    if first.geometry is not None or (used[0] & used[1]).any():
        raise LimitError(
            f"{where} hears {first.source} twice, with different delays; a synapse here has one delay. Put neurons between."
        )
    least = min(first.lag, second.lag)
    total = np.where(used[0], delays[0], np.where(used[1], delays[1], least))
    return replace(first, weight=first.weight + second.weight, lag=least, delay=total - least)


def _scaled(where: str, link: Link, rows: NDArray[np.float64]) -> Link:
    """A link into neurons that have a factor each."""
    if link.geometry is None:
        return replace(link, weight=link.weight * rows[:, None])
    channels = rows.reshape(len(link.weight), -1)
    if np.ptp(channels, axis=1).any():
        raise LimitError(
            f"{where}: thresholds or resistances differ within a channel, whose neurons share the weights of a convolution"
        )
    return replace(link, weight=link.weight * channels[:, :1, None, None])


def _plain(where: str, link: Link) -> Link:
    return replace(link, weight=_ordinary(where, link.weight))


def _ordinary(where: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights or biases in the range of single precision; what is smaller than its least normal number is 0."""
    size = np.abs(values)
    if not (size < LARGEST).all():
        raise LimitError(f"{where}: weights or biases of {size.max():.3g}; at most {LARGEST:g} is possible")
    tiny = (size > 0) & (size < np.finfo(np.float32).tiny)
    return np.where(tiny, 0.0, values) if tiny.any() else values
