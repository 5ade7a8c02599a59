"""The part of a graph around some nodes that is no larger than it may be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, within
from lava_snnlearn.graphs.graph import Graph, check_graph


class Neighbourhood(NamedTuple):
    """``graph``: the part, its nodes numbered anew. ``nodes``: int64 [n], what each was in the whole, the seeds first."""

    graph: Graph
    nodes: NDArray[np.int64]


def neighbourhood(graph: Graph, seeds: ArrayLike, *, max_nodes: int, max_edges: int) -> Neighbourhood:
    """The nodes nearest to ``seeds`` (integers [S], along edges in either direction), and all edges among them.

    As many nodes as fit: breadth first, ties by number.

    Raises:
        LimitError: a seed that is no node; seeds that are already too many or have too many edges among them.
        TypeError: no Graph. ValueError: no seed.
    """
    check_graph(graph)
    first = np.unique(np.asarray(seeds, np.int64))
    if not len(first):
        raise ValueError("seeds is empty; give at least one node")
    within("seeds", first, 0, graph.nodes - 1, f"There are {graph.nodes}, counted from 0.")
    source, target = np.asarray(graph.source), np.asarray(graph.target)
    distance = _distances(graph.nodes, source, target, first)
    order = np.lexsort((np.arange(graph.nodes), distance))[: np.count_nonzero(distance < graph.nodes)]
    place = np.full(graph.nodes, graph.nodes)
    place[order] = np.arange(len(order))
    # An edge is there from the node on that comes last.
    edges = np.cumsum(np.bincount(np.maximum(place[source], place[target]), minlength=graph.nodes + 1)[: len(order)])
    count = min(int(np.searchsorted(edges, max_edges, side="right")), max_nodes, len(order))
    if count < len(first):
        raise LimitError(
            f"{len(first)} nodes with {edges[len(first) - 1]} edges among them are more than {max_nodes} nodes or {max_edges} "
            "edges; give fewer"
        )
    inside = (place[source] < count) & (place[target] < count)
    columns = place[source[inside]], np.asarray(graph.relation)[inside], place[target[inside]]
    return Neighbourhood(Graph(count, graph.relations, *columns), order[:count])


def _distances(nodes: int, source: NDArray[np.int64], target: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of edges from the nearest of ``first`` to each node; ``nodes`` where there is no way."""
    distance = np.full(nodes, nodes)
    distance[first] = 0
    for step in range(1, nodes):
        near = distance == step - 1
        reached = np.concatenate([target[near[source]], source[near[target]]])
        fresh = reached[distance[reached] == nodes]
        if not len(fresh):
            break
        distance[fresh] = step
    return distance
