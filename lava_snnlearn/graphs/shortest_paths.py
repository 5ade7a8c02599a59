"""Shortest paths by spikes: a wave runs through the graph, an edge of length L delays it by L steps, nodes fire once.

Every node is an integrate-and-fire neuron with unit synapses that the first arriving spike makes fire; what it then subtracts
keeps it silent ever after. So the step of a node's only spike is its distance, and a whole run costs one spike for each node
and one synaptic event for each edge. An edge of length L is a synapse of delay L - 1, as a connection itself takes a step. The
chip's delays end at 62: a node with longer edges has a chain of relay neurons that repeat its spike every 63 steps, and its
edges start from the relay that is nearest to their end.

Source: first spike times as distances, of the graphs in which GRSNN reasons (M. Xiao et al., "Temporal spiking neural networks
with synaptic delay for graph reasoning", ICML 2024; grsnn spec, section 1.10, check G2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, known_name, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.graphs.graph import Graph

ENGINES = ("emulator", "lava", "lava_float")
"""What the wave can run on."""
NEURONS_MAX = 1 << 20
"""Nodes and relays."""
STEPS_MAX = 1 << 20
WEIGHT = 2
"""The smallest weight that the chip holds: even integers."""
VTH = 1
"""Threshold, in weight units."""
DELTA = limits.THRESHOLD_MAX
"""What a spike subtracts: more than all that can arrive later."""
FAN_IN_MAX = DELTA // WEIGHT - 1
"""Edges into a node: with one spike more, that which starts the wave, they must not add up to a second spike of its own."""
_HOP = limits.DELAY_MAX + 1
_LENGTHS = "An edge takes a whole number of steps, at least one: scale the lengths, round them, and scale distances back."


@dataclass(frozen=True, eq=False)
class ShortestPaths:
    """Distances from ``source``, int64 [N], and the node before each on a shortest path.

    distances: -1 where no path leads (or none within max_distance). predecessors: int64 [N], the smallest of those that a
    shortest path may come from; -1 for the source itself and where there is no path.
    """

    source: int
    distances: NDArray[np.int64]
    predecessors: NDArray[np.int64]

    def path_to(self, node: int) -> list[int]:
        """Nodes of a shortest path from the source to ``node``, both included.

        Raises LimitError for a number that is no node, ValueError if no path was found.
        """
        place = whole_number("node", node)
        within("node", place, 0, len(self.distances) - 1, f"There are {len(self.distances)}, counted from 0.")
        if self.distances[place] < 0:
            raise ValueError(f"no path from node {self.source} to node {place} was found; its distance is -1")
        path = [place]
        while path[-1] != self.source:
            path.append(int(self.predecessors[path[-1]]))
        return path[::-1]


@dataclass(frozen=True, eq=False)
class Wave:
    """Neurons (nodes, then relays), synapses with delays, and the neuron that starts: what emulator and Lava run.

    source, target, delay: int64 [S]. Weights are :data:`WEIGHT`. Neurons fire at :data:`VTH`, subtract :data:`DELTA`, and do
    not leak.
    """

    neurons: int
    start: int
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    delay: NDArray[np.int64]


def shortest_paths(
    graph: Graph | ArrayLike,
    lengths: ArrayLike,
    source: int,
    *,
    on: str = "emulator",
    max_distance: int | None = None,
    nodes: int | None = None,
) -> ShortestPaths:
    """Distances of all nodes from one, as the times of their first spikes.

    ::

        roads = [(0, 1), (1, 2), (0, 2)]
        found = shortest_paths(roads, [3, 4, 9], source=0, on="lava")
        found.distances      # [0, 3, 7]
        found.path_to(2)     # [0, 1, 2]

    Args:
        graph: a Graph, or directed edges, integers [E, 2] of (from, to). Parallel edges and self-loops are allowed: the
            shortest counts. Give undirected ones in both directions.
        lengths: integers of at least 1, one for all edges or [E], in the order of the edges (of a Graph: of ``graph.source``).
            A common divisor saves steps.
        source: the node that starts.
        on: "emulator"; "lava" (Lava's simulator, integers of the chip) or "lava_float" (its floating-point models).
        max_distance: nodes further away get -1, as those that no path leads to. None: no limit.
        nodes: number of nodes N, for edges; None: up to the largest that occurs.

    Raises:
        TypeError: no integers. ValueError: shapes that do not fit, an unknown ``on``.
        LimitError: a length below 1, a number that is no node, or a network that would be too large: more than 1048576 nodes
            and relays or steps, more than 65534 edges into a node.
        LavaRunError: the run on Lava failed.
    """
    known_name("on", on, ENGINES)
    start = whole_number("source", source)
    count, edges = _edges(graph, nodes, start)
    within("source", start, 0, count - 1, f"There are {count} nodes, counted from 0.")
    if max_distance is not None:
        within("max_distance", whole_number("max_distance", max_distance), 0, np.inf, "It counts steps.")
    kept, length = _shortest_edges(edges, _lengths(lengths, len(edges)), max_distance)
    unit = int(np.gcd.reduce(length)) if len(length) else 1
    wave = _wave(count, kept, length // unit, start)
    last = _last_step(count, kept, length // unit, start)
    if max_distance is not None:
        last = min(last, max_distance // unit)
    within("steps to the farthest node", last, 0, STEPS_MAX - 1, f"{_smaller(unit)} Or give max_distance.")
    times = _emulated(wave, last + 1) if on == "emulator" else _on_lava(wave, last + 1, on)
    distances = np.where(times[:count] >= 0, times[:count] * unit, -1)
    return ShortestPaths(start, distances, _predecessors(distances, kept, length))


def _smaller(unit: int) -> str:
    return f"Give lengths in coarser units (their common divisor, {unit}, is taken out already)."


def _edges(graph: Graph | ArrayLike, nodes: int | None, source: int) -> tuple[int, NDArray[np.int64]]:
    """Number of nodes, and edges int64 [E, 2]."""
    if isinstance(graph, Graph):
        if nodes is not None:
            raise ValueError(f"nodes is {nodes}, but a Graph knows its own number of nodes, {graph.nodes}: leave it out")
        return graph.nodes, np.stack([np.asarray(graph.source), np.asarray(graph.target)], axis=1)
    raw = np.asarray(graph)
    edges = raw.reshape(-1, 2) if raw.size == 0 else raw
    if edges.ndim != 2 or edges.shape[1] != 2 or (edges.size and edges.dtype.kind not in "iu"):
        raise TypeError(f"edges have shape {raw.shape} and type {raw.dtype}. Give a Graph, or integers [E, 2] of (from, to).")
    count = max(int(edges.max(initial=0)), source) + 1 if nodes is None else whole_number("nodes", nodes)
    within("nodes", count, 1, NEURONS_MAX, "Every node is a neuron.")
    within("edges", edges, 0, count - 1, f"There are {count} nodes, counted from 0.")
    return count, edges.astype(np.int64)


def _lengths(lengths: ArrayLike, edges: int) -> NDArray[np.int64]:
    array = np.asarray(lengths)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"lengths are of type {array.dtype}. {_LENGTHS}")
    if array.shape not in ((), (edges,)):
        raise ValueError(f"lengths have shape {array.shape}. Give one for all edges, or one each, ({edges},).")
    if array.size:
        within("lengths", array, 1, np.iinfo(np.int32).max, _LENGTHS)
    return np.broadcast_to(array.astype(np.int64), (edges,))


def _shortest_edges(
    edges: NDArray[np.int64], lengths: NDArray[np.int64], max_distance: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges that a shortest path may take: no loops, of parallel ones the shortest, none beyond max_distance; by (from, to)."""
    used = edges[:, 0] != edges[:, 1]
    if max_distance is not None:
        used &= lengths <= max_distance
    edges, lengths = edges[used], lengths[used]
    order = np.lexsort((lengths, edges[:, 1], edges[:, 0]))
    edges, lengths = edges[order], lengths[order]
    first = np.ones(len(edges), bool)
    first[1:] = (edges[1:] != edges[:-1]).any(axis=1)
    return edges[first], lengths[first]


def _wave(count: int, edges: NDArray[np.int64], lengths: NDArray[np.int64], start: int) -> Wave:
    """The network: relay i of a node (i = 1, 2, ...) repeats its spike 63 i steps later; checked against the limits."""
    source, target = edges.T
    hops, delay = np.divmod(lengths - 1, _HOP)
    relays = np.zeros(count, np.int64)
    np.maximum.at(relays, source, hops)
    total = count + int(relays.sum())
    if total > NEURONS_MAX:
        raise LimitError(
            f"{count} nodes need {total - count} relays for edges longer than {_HOP} steps, together more than {NEURONS_MAX} "
            "neurons. Give lengths in coarser units, or max_distance."
        )
    fan_in = np.bincount(target, minlength=count)
    within("edges into a node", fan_in, 0, FAN_IN_MAX, f"Later spikes would add up to {DELTA} and make it fire again.")
    last = count + np.cumsum(relays)
    before = last - relays - 1  # relay i of node n is neuron before[n] + i
    owners = np.repeat(np.arange(count), relays)
    chain = np.arange(count, total)
    earlier = np.where(chain - 1 == before[owners], owners, chain - 1)
    return Wave(
        total,
        start,
        np.concatenate([np.where(hops > 0, before[source] + hops, source), earlier]),
        np.concatenate([target, chain]),
        np.concatenate([delay, np.full(len(chain), limits.DELAY_MAX)]),
    )


def _last_step(count: int, edges: NDArray[np.int64], lengths: NDArray[np.int64], start: int) -> int:
    """No distance is larger: the longest of the paths with the fewest edges."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import breadth_first_order

    matrix = csr_matrix((lengths, (edges[:, 0], edges[:, 1])), shape=(count, count))
    order, before = breadth_first_order(matrix, start)
    later = order[1:]
    if not len(later):
        return 0
    steps = np.asarray(matrix[before[later], later]).reshape(-1)
    reached = np.zeros(count, np.int64)
    for node, step in zip(later, steps, strict=True):
        reached[node] = reached[before[node]] + step
    return int(reached.max())


def _emulated(wave: Wave, steps: int) -> NDArray[np.int64]:
    """Step of each neuron's spike, -1 where there is none: the integers of ``SoftResetLIF`` and ``DelayConnection``.

    There is no leak, so that a neuron changes when something arrives, and only then: a step takes time for what arrives in it.
    """
    from lava_snnlearn.fixed_point.arithmetic import soft_reset_step

    order = np.argsort(wave.source, kind="stable")
    targets, delays = wave.target[order], wave.delay[order]
    first = np.searchsorted(wave.source[order], np.arange(wave.neurons + 1))
    ring: list[list[NDArray[np.int64]]] = [[] for _ in range(int(delays.max(initial=0)) + 1)]  # who hears, once a spike
    times, membrane = np.full(wave.neurons, -1, np.int64), np.zeros(wave.neurons, np.int64)
    ring[0].append(np.array([wave.start]))
    for step in range(steps):
        heard = ring[step % len(ring)]
        if not heard:
            continue
        ring[step % len(ring)] = []
        neurons, spikes = np.unique(np.concatenate(heard), return_counts=True)
        fires, membrane[neurons], _ = soft_reset_step(membrane[neurons], WEIGHT * spikes, dv=0, bias=0, vth=VTH, delta=DELTA)
        fired = neurons[fires]
        times[fired] = step
        counts = first[fired + 1] - first[fired]
        synapses = np.arange(counts.sum()) + np.repeat(first[fired] - (np.cumsum(counts) - counts), counts)
        for delay in np.unique(delays[synapses]):
            ring[(step + 1 + delay) % len(ring)].append(targets[synapses[delays[synapses] == delay]])
    return times


def _on_lava(wave: Wave, steps: int, on: str) -> NDArray[np.int64]:
    from lava_snnlearn.lava_backend.wave import run_wave

    return run_wave(wave, steps, "fixed_pt" if on == "lava" else "floating_pt")


def _predecessors(distances: NDArray[np.int64], edges: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """From where the first spike came: the smallest of the nodes whose spike arrived in that step."""
    source, target = edges.T
    tight = (distances[source] >= 0) & (distances[source] + lengths == distances[target])
    found = np.full(len(distances), len(distances), np.int64)
    np.minimum.at(found, target[tight], source[tight])
    return np.where(found < len(distances), found, -1)
