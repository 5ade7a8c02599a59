"""Which edges carried spikes in the run of one query, when they did, and how much the score depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least, finite, within
from lava_snnlearn.graphs.graph import Graph

_EDGES_AT_ONCE = 1 << 17
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Raster:
    """The spikes of one query, from torch, from the emulator or from Lava, with the delays that its messages had.

    An edge (u, r, v) carries a message of neuron k that arrives at step t if ``spikes[t - hop - delays[r, k], u, k]`` is 1.

    Args:
        spikes: [T, N, D], 0 or 1.
        delays: integers [R, D] in steps, at least 0, of each edge relation and neuron under the query's relation.
        hop: steps that an edge of delay 0 takes, at least 1.
        weights: [R, D], the factor of each message (relation weights), or None: 1. Messages of factor 0 are not sent.
        gradient: float [T, N, D], the score's gradient with respect to the sum of the messages that arrive, or None.
        score: of the candidate that is to be explained, or None.

    Raises:
        ValueError: shapes that do not fit, NaN. LimitError: spikes other than 0 and 1, negative delays. TypeError: no integers.
    """

    spikes: ArrayLike
    delays: ArrayLike
    hop: int = 1
    weights: ArrayLike | None = None
    gradient: ArrayLike | None = None
    score: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hop", at_least(1, "raster: hop", self.hop))
        spikes, delays = np.asarray(self.spikes), np.asarray(self.delays)
        if spikes.ndim != 3 or delays.ndim != 2 or spikes.shape[2] != delays.shape[1]:
            raise ValueError(
                f"raster: spikes have shape {spikes.shape} and delays {delays.shape}; expected [T, N, D] and [R, D]. "
                "A record of several queries is explained query by query: spikes[:, i] and the delays of query i"
            )
        if delays.dtype.kind not in "iu":
            raise TypeError(f"raster: delays have dtype {delays.dtype}; they are whole steps, so pass integers (rounded ones)")
        within("raster: spikes", spikes, 0, 1, "A neuron spikes once or not at all in a step.")
        within("raster: delays", delays, 0, NEVER, "A message cannot arrive before it is sent.")
        fields: dict[str, NDArray[Any]] = {"spikes": spikes != 0, "delays": delays.astype(np.int64)}
        for name, shape in (("weights", delays.shape), ("gradient", spikes.shape)):
            if getattr(self, name) is not None:
                fields[name] = np.asarray(getattr(self, name), dtype=np.float64)
                finite(f"raster: {name}", fields[name])
                if fields[name].shape != shape:
                    raise ValueError(f"raster: {name} has shape {fields[name].shape}, expected {shape}")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def factors(self) -> NDArray[np.float64]:
        """Factor of each message, [R, D]."""
        return np.ones(np.shape(self.delays)) if self.weights is None else np.asarray(self.weights)

    def fits(self, graph: Graph) -> None:
        """Raise ValueError if the graph has other numbers of nodes or relations."""
        found = (np.shape(self.spikes)[1], np.shape(self.delays)[0])
        if found != (graph.nodes, graph.relations):
            raise ValueError(
                f"the raster is of {found[0]} nodes and {found[1]} relations, but the graph has {graph.nodes} and "
                f"{graph.relations}; pass the graph that the query ran on"
            )


def edge_importance(raster: Raster, graph: Graph) -> NDArray[np.float64]:
    """d score / d w for a factor w = 1 on all messages of an edge: float64 [E], in the graph's order (GRSNN).

    It is the sum of ``gradient * weights`` over the messages that the edge carried; 0 for edges that carried none.

    Args:
        raster: with a gradient.
        graph: the one that the query ran on.

    Raises:
        ValueError: no gradient, or another graph.
    """
    raster.fits(graph)
    if raster.gradient is None:
        raise ValueError("edge importance needs the gradient of the score; trace the query with GraphReasoner.trace_back")
    spikes, delays, gradient = np.asarray(raster.spikes), np.asarray(raster.delays), np.asarray(raster.gradient)
    pair_source, pair_relation, pair = graph.pair_source, graph.pair_relation, graph.edge_pair
    target = np.asarray(graph.target)
    neuron = np.arange(delays.shape[1])
    total = np.zeros(graph.edges)
    for t in range(raster.hop, len(spikes)):
        sent = t - raster.hop - delays
        factor = np.where(sent >= 0, raster.factors, 0.0)
        message = spikes[np.maximum(sent, 0)[pair_relation], pair_source[:, None], neuron] * factor[pair_relation]
        live = np.flatnonzero(message.any(axis=1)[pair])
        for first in range(0, len(live), _EDGES_AT_ONCE):
            edges = live[first : first + _EDGES_AT_ONCE]
            total[edges] += np.einsum("ek,ek->e", message[pair[edges]], gradient[t, target[edges]])
    return total


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Messages that arrived at one node, [M]: those of an edge that left and arrived together are one, of ``count`` neurons.

    In the order of edge, step of sending, step of arrival; ``importance`` is the sum of gradient * weight, or the count where
    there is no gradient.
    """

    edge: NDArray[np.int64]
    source: NDArray[np.int64]
    sent: NDArray[np.int64]
    arrival: NDArray[np.int64]
    count: NDArray[np.int64]
    importance: NDArray[np.float64]


class Carried:
    """The messages of one query's run, node by node, and when a spike of the source can have had an effect where.

    Args:
        raster: of the run.
        graph: the one that it ran on.
        source: the query's node.
    """

    def __init__(self, raster: Raster, graph: Graph, source: int) -> None:
        raster.fits(graph)
        self.raster, self.graph, self.source = raster, graph, source
        order = np.argsort(np.asarray(graph.target), kind="stable")
        self._incoming, self._first = order, np.append(0, np.cumsum(graph.in_degree))
        self._seen: dict[int, Arrivals] = {}
        self.reached = self._reached()

    def _messages(self, node: int) -> tuple[NDArray[np.int64], ...]:
        """Edge, step of sending, step of arrival and neuron of each message into a node."""
        edges = self._incoming[self._first[node] : self._first[node + 1]]
        relation = np.asarray(self.graph.relation)[edges]
        spikes = np.asarray(self.raster.spikes)[:, np.asarray(self.graph.source)[edges]]
        latency = self.raster.hop + np.asarray(self.raster.delays)[relation]
        arrives = np.arange(len(spikes))[:, None, None] + latency < len(spikes)
        sent, which, neuron = np.nonzero(spikes & arrives & (self.raster.factors[relation] != 0))
        return edges[which], sent, sent + latency[which, neuron], neuron

    def into(self, node: int) -> Arrivals:
        """What arrived at a node."""
        if node not in self._seen:
            edge, sent, arrival, neuron = self._messages(node)
            importance = np.ones(len(edge))
            if self.raster.gradient is not None:
                factor = self.raster.factors[np.asarray(self.graph.relation)[edge], neuron]
                importance = np.asarray(self.raster.gradient)[arrival, node, neuron] * factor
            steps = len(np.asarray(self.raster.spikes))
            keys, group = np.unique((edge * steps + sent) * steps + arrival, return_inverse=True)
            count = np.bincount(group, minlength=len(keys))
            summed = np.bincount(group, importance, minlength=len(keys)).astype(np.float64)
            edges = keys // steps**2
            senders = np.asarray(self.graph.source)[edges]
            self._seen[node] = Arrivals(edges, senders, keys // steps % steps, keys % steps, count, summed)
        return self._seen[node]

    def neurons(self, node: int, edge: int, sent: int, arrival: int) -> tuple[int, ...]:
        """The neurons of one message, in order."""
        edges, steps, arrivals, neuron = self._messages(node)
        found = neuron[(edges == edge) & (steps == sent) & (arrivals == arrival)]
        return tuple(int(k) for k in np.sort(found))

    def _reached(self) -> NDArray[np.int64]:
        """Earliest step at which spikes of the source can act on each node, over real messages only; NEVER if not, [N]."""
        spikes, latency = np.asarray(self.raster.spikes), self.raster.hop + np.asarray(self.raster.delays)
        pair_source, pair_relation, first = self.graph.pair_source, self.graph.pair_relation, self.graph.pair_first
        target = np.asarray(self.graph.target)
        reached = np.full(self.graph.nodes, NEVER)
        reached[self.source] = 0
        sent = self.raster.factors != 0
        for t in range(len(spikes)):  # a hop takes a step at least, so earlier steps are settled
            pairs = np.flatnonzero((reached <= t)[pair_source] & spikes[t].any(axis=1)[pair_source])
            relation = pair_relation[pairs]
            fired = spikes[t, pair_source[pairs]] & sent[relation]
            arrival = t + np.where(fired, latency[relation], len(spikes)).min(axis=1, initial=len(spikes))
            kept = arrival < len(spikes)
            pairs, arrival = pairs[kept], arrival[kept]
            lengths = first[pairs + 1] - first[pairs]
            within_pair = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            np.minimum.at(reached, target[np.repeat(first[pairs], lengths) + within_pair], np.repeat(arrival, lengths))
        return reached
