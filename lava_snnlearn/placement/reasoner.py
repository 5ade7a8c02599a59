"""What a graph reasoner costs on a chip and on Lava's simulator, and how the nodes of a graph are dealt to cores.

Counts for N nodes, E edges (inverse ones included) and width D; a synapse with a delay has 8 + 6 bits, one without 8:

    exact     N D neurons     E D^2 synapses with delay
    staged    2 N D neurons (dendrites and LIFs)     E D synapses with delay, N D^2 without
    both      N D^2 more for a self connection, N D and one neuron more for w0

An input axon of a core is a neuron anywhere that has synapses there; its output axons are the cores that each of its neurons
has synapses on. Figures of a core are those of Loihi 1 (Davies et al. 2018): 1024 neurons, 128 KB of synapses, 4096 axons each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError, instance_of, known_name, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.reasoner import MAPPINGS, FixedReasoner
from lava_snnlearn.graphs.graph import Graph, check_graph
from lava_snnlearn.placement.chips import LOIHI1, synapse_bits

LAVA_SYNAPSES_MAX = 1 << 25
"""Synapses of one connection on Lava's simulator: 4 to 6 GB while it is built (some 120 bytes a synapse in the parent, half as
many in the child)."""
ORDERS = ("degree", "nodes")


@dataclass(frozen=True)
class ReasonerShape:
    """What costs depend on, besides the graph: mapping, width, longest delay, whether there are self connections and w0."""

    mapping: str
    width: int
    max_delay: int = 0
    self_connected: bool = False
    offset: bool = False

    def __post_init__(self) -> None:
        known_name("mapping", self.mapping, MAPPINGS)
        within("width", whole_number("width", self.width), 1, 1 << 10, "It is the number of neurons of a node.")

    @property
    def remedy(self) -> str:
        """What to do about a graph that is too large."""
        other = "the staged mapping (train with hop=2), " if self.mapping == "exact" else ""
        return f"Use {other}a smaller width, or a part of the graph; the emulator has no such limit."

    @classmethod
    def of(cls, reasoner: FixedReasoner | ReasonerShape) -> ReasonerShape:
        """The shape of a reasoner; a shape as it is."""
        instance_of("reasoner", reasoner, (FixedReasoner, ReasonerShape), "it must be a FixedReasoner or a ReasonerShape")
        if isinstance(reasoner, ReasonerShape):
            return reasoner
        return cls(
            reasoner.mapping,
            reasoner.width,
            reasoner.max_delay,
            reasoner.self_weight is not None,
            reasoner.offset is not None,
        )

    @property
    def node_neurons(self) -> int:
        """Neurons of a node."""
        return self.width * (1 if self.mapping == "exact" else 2)

    @property
    def edge_synapses(self) -> int:
        """Synapses of an edge; they have delays."""
        return self.width**2 if self.mapping == "exact" else self.width

    @property
    def node_synapses(self) -> int:
        """Synapses of a node that are there without any edge; they have no delays."""
        blocks = int(self.self_connected) + int(self.mapping == "staged")
        return blocks * self.width**2 + self.width * int(self.offset)

    @property
    def edge_bits(self) -> int:
        """Synaptic memory of an edge."""
        return self.edge_synapses * synapse_bits(delayed=True)

    @property
    def node_bits(self) -> int:
        """Synaptic memory of a node without edges."""
        return self.node_synapses * synapse_bits(delayed=False)


@dataclass(frozen=True)
class ReasonerCosts:
    """Totals for one graph.

    Attributes:
        shape, nodes, edges: what they are for. neurons, synapses, synaptic_bits: of the whole graph.
        delayed, blocks: synapses with and without a delay.
        fan_in: most input axons of one node. max_delay: longest delay in steps.
        cores: fewest Loihi 1 cores by neurons and by memory; :func:`partition` says how many it takes.
    """

    shape: ReasonerShape
    nodes: int
    edges: int
    neurons: int
    synapses: int
    synaptic_bits: int
    delayed: int
    blocks: int
    fan_in: int
    max_delay: int
    cores: int

    def check_lava(self) -> None:
        """Refuse what Lava's simulator could not build in reasonable memory.

        Raises:
            LimitError: with the number of synapses, the limit, and what to do.
        """
        largest = max(self.delayed, self.blocks)
        if largest > LAVA_SYNAPSES_MAX:
            raise LimitError(
                f"the {self.shape.mapping} mapping of {self.nodes} nodes and {self.edges} edges with width {self.shape.width} "
                f"has a connection of {largest} synapses; Lava's simulator takes {LAVA_SYNAPSES_MAX}. {self.shape.remedy}"
            )

    def __str__(self) -> str:
        rows = {
            "mapping": self.shape.mapping,
            "graph": f"{self.nodes} nodes, {self.edges} edges",
            "neurons": self.neurons,
            "synapses": f"{self.synapses} ({self.delayed} with delays of 0..{self.max_delay})",
            "synaptic memory": f"{self.synaptic_bits / 1000:.1f} kbit",
            "largest fan-in": f"{self.fan_in} axons",
            "Loihi 1 cores": f"at least {self.cores} ({limits.CORES_PER_CHIP} a chip)",
        }
        return "\n".join(f"{name:16} {value}" for name, value in rows.items())


def reasoner_costs(reasoner: FixedReasoner | ReasonerShape, graph: Graph) -> ReasonerCosts:
    """Count what a reasoner takes on a graph; see the module.

    Raises:
        TypeError: other kinds of objects.
    """
    shape = ReasonerShape.of(reasoner)
    check_graph(graph)
    offset = int(shape.offset)
    neurons = graph.nodes * shape.node_neurons + offset
    delayed, blocks = graph.edges * shape.edge_synapses, graph.nodes * shape.node_synapses
    bits = graph.edges * shape.edge_bits + graph.nodes * shape.node_bits
    first, _ = _sources(graph, shape.self_connected)
    own = (shape.width if shape.mapping == "staged" else 0) + offset
    return ReasonerCosts(
        shape=shape,
        nodes=graph.nodes,
        edges=graph.edges,
        neurons=neurons,
        synapses=delayed + blocks,
        synaptic_bits=bits,
        delayed=delayed,
        blocks=blocks,
        fan_in=int(np.diff(first).max()) * shape.width + own,
        max_delay=shape.max_delay,
        cores=max(math.ceil(neurons / limits.NEURONS_PER_CORE), math.ceil(bits / limits.SYNAPTIC_BITS_PER_CORE)),
    )


def _sources(graph: Graph, with_self: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct sources of each node: those of node v are ``sources[first[v] : first[v + 1]]``."""
    source, target = np.asarray(graph.source), np.asarray(graph.target)
    if with_self:
        nodes = np.arange(graph.nodes)
        source, target = np.append(source, nodes), np.append(target, nodes)
    keys = np.unique(target * graph.nodes + source)
    first = np.searchsorted(keys, np.arange(graph.nodes + 1) * graph.nodes)
    return first, keys % graph.nodes


@dataclass(frozen=True, eq=False)
class Partition:
    """Nodes dealt to cores.

    Attributes:
        core: int64 [N], core of each node.
        neurons, synaptic_bits, input_axons, output_axons: int64 [cores], what each core holds.
        chips: Loihi 1 chips.
    """

    core: NDArray[np.int64]
    neurons: NDArray[np.int64]
    synaptic_bits: NDArray[np.int64]
    input_axons: NDArray[np.int64]
    output_axons: NDArray[np.int64]
    chips: int

    @property
    def cores(self) -> int:
        """How many cores are used."""
        return len(self.neurons)

    def __str__(self) -> str:
        lines = [f"{len(self.core)} nodes on {self.cores} cores of {self.chips} Loihi 1 chips"]
        for name, limit in _CORE.items():
            values = getattr(self, name)
            lines.append(f"{name.replace('_', ' '):16} at most {values.max()} of {limit} a core, {values.sum()} in all")
        if self.output_axons.max() > limits.OUTPUT_AXONS_PER_CORE:
            lines.append(
                "advice: a core sends to more others than Loihi 1 lists; use a smaller width or spread the nodes thinner"
            )
        return "\n".join(lines)


_CORE = {name: LOIHI1.core[name] for name in ("neurons", "synaptic_bits", "input_axons", "output_axons")}


def partition(reasoner: FixedReasoner | ReasonerShape, graph: Graph, *, order: str = "degree") -> Partition:
    """Deal the nodes to cores, one core after the other filled until neurons, synaptic memory or input axons are used up.

    Args:
        reasoner, graph: what is to be placed; a node stays on one core.
        order: of the nodes: "degree", the busiest first, or "nodes", as they are numbered.

    Raises:
        LimitError: a node that no core can hold, or more cores than Loihi's mesh has; with the numbers and what to do.
        UnknownNameError: another order. TypeError: other kinds of objects.
    """
    shape = ReasonerShape.of(reasoner)
    check_graph(graph)
    known_name("order", order, ORDERS)
    first, sources = _sources(graph, shape.self_connected)
    bits = graph.in_degree * shape.edge_bits + shape.node_bits
    own = shape.width if shape.mapping == "staged" else 0
    _check_nodes(shape, graph, bits, np.diff(first) * shape.width + own + int(shape.offset))
    nodes = np.argsort(-graph.in_degree, kind="stable") if order == "degree" else np.arange(graph.nodes)
    core = np.empty(graph.nodes, np.int64)
    heard = np.full(graph.nodes, -1)  # the last core that a node was an input axon of
    loads: list[list[int]] = []
    for v in nodes.tolist():
        inputs = sources[first[v] : first[v + 1]]
        fresh = int((heard[inputs] != len(loads) - 1).sum())
        add = [shape.node_neurons, int(bits[v]), fresh * shape.width + own]
        if not loads or any(load + more > top for load, more, top in zip(loads[-1], add, _CORE.values(), strict=False)):
            loads.append([0, 0, int(shape.offset)])
            add[2] = len(inputs) * shape.width + own
        heard[inputs] = core[v] = len(loads) - 1
        loads[-1] = [load + more for load, more in zip(loads[-1], add, strict=True)]
    chips = math.ceil(len(loads) / limits.CORES_PER_CHIP)
    if chips > limits.CHIPS_PER_MESH:
        raise LimitError(f"{graph.nodes} nodes take {chips} chips; Loihi's mesh has {limits.CHIPS_PER_MESH}. {shape.remedy}")
    neurons, memory, axons = np.array(loads, np.int64).T
    return Partition(core, neurons, memory, axons, _output_axons(shape, graph, core, len(loads)), chips)


def _check_nodes(shape: ReasonerShape, graph: Graph, bits: NDArray[np.int64], axons: NDArray[np.int64]) -> None:
    neurons = np.full(graph.nodes, shape.node_neurons)
    for (name, top), values in zip(_CORE.items(), (neurons, bits, axons), strict=False):
        worst = int(values.argmax())
        if values[worst] > top:
            raise LimitError(
                f"node {worst} with {graph.in_degree[worst]} edges and width {shape.width} needs {values[worst]} "
                f"{name.replace('_', ' ')} in the {shape.mapping} mapping; a core has {top}. {shape.remedy}"
            )


def _output_axons(shape: ReasonerShape, graph: Graph, core: NDArray[np.int64], cores: int) -> NDArray[np.int64]:
    """A neuron lists each core that it has synapses on once."""
    source, target = np.asarray(graph.source), np.asarray(graph.target)
    pairs = np.unique(source * cores + core[target])
    listed = np.bincount(core[pairs // cores], minlength=cores) * shape.width
    if shape.mapping == "staged":
        listed = listed + np.bincount(core, minlength=cores) * shape.width
    return listed
