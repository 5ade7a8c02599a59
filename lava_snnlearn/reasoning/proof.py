"""Queries of a reasoner verified on Lava's simulator: on the whole graph, or on the part of it that the simulator takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lava_snnlearn.data.knowledge_graph import KnowledgeGraph
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.graphs.graph import Graph
from lava_snnlearn.graphs.neighbourhood import neighbourhood
from lava_snnlearn.placement.reasoner import ReasonerShape, reasoner_costs
from lava_snnlearn.reasoning.answers import Queries, both_queries

if TYPE_CHECKING:
    from lava_snnlearn.verification import Report

SYNAPSES = 1 << 22
"""Synapses with delays, and without, that are built for a verification; Lava's simulator could take eight times as many."""
NEURONS = 1 << 15
"""Neurons whose currents are set anew for every query, 0.1 ms each."""


@dataclass(frozen=True)
class Proof:
    """A comparison of the emulator with Lava.

    Attributes:
        report: of all queries, every node, neuron and step.
        nodes, edges: of the graph that ran. of_nodes, of_edges: of the whole one.
    """

    report: Report
    nodes: int
    edges: int
    of_nodes: int
    of_edges: int

    @property
    def whole(self) -> bool:
        """Whether the whole graph ran."""
        return (self.nodes, self.edges) == (self.of_nodes, self.of_edges)

    @property
    def part(self) -> str:
        """What ran, as text; empty where it was the whole graph."""
        if self.whole:
            return ""
        return (
            f"Lava and the emulator ran the {self.nodes} nodes and {self.edges} edges around the queries; the whole graph, "
            f"{self.of_nodes} nodes and {self.of_edges} edges, takes too long on Lava's simulator."
        )

    def __str__(self) -> str:
        return "\n".join(filter(None, [str(self.report), self.part]))


def spread_queries(data: KnowledgeGraph, triples: np.ndarray, count: int) -> Queries:
    """``count`` queries, evenly from the tail and head queries of ``triples`` int64 [n, 3]; of a homogeneous graph those from
    the first of two nodes."""
    asked = both_queries(data, triples)
    chosen = np.linspace(0, len(asked.source), min(count, len(asked.source)), endpoint=False, dtype=np.int64)
    return Queries(*(column[chosen] for column in asked))


def prove(fixed: FixedReasoner, graph: Graph, queries: Queries, *, time_limit: float | None = None) -> Proof:
    """Compare every spike, membrane and score of the emulator with Lava's.

    A graph that would take Lava's simulator long is cut to the nodes nearest to the queries' sources, :data:`SYNAPSES` and
    :data:`NEURONS`; that is the same network on a smaller graph, for both.

    Args:
        fixed, graph, queries: as in :func:`~lava_snnlearn.lava_backend.reasoner.verify_reasoner`.
        time_limit: of the guarded run.

    Raises:
        As ``verify_reasoner``; LimitError: more sources than fit.
    """
    from lava_snnlearn.lava_backend.reasoner import verify_reasoner
    from lava_snnlearn.lava_backend.runner import TIME_LIMIT

    part, source = _part(fixed, graph, queries)
    report = verify_reasoner(fixed, part, source, queries.query, time_limit=TIME_LIMIT if time_limit is None else time_limit)
    return Proof(report, part.nodes, part.edges, graph.nodes, graph.edges)


def _part(fixed: FixedReasoner, graph: Graph, queries: Queries) -> tuple[Graph, np.ndarray]:
    """The graph that Lava runs, and the queries' sources in it."""
    shape, costs = ReasonerShape.of(fixed), reasoner_costs(fixed, graph)
    most_nodes = NEURONS // shape.width
    if costs.delayed <= SYNAPSES and costs.blocks <= SYNAPSES and graph.nodes <= most_nodes:
        return graph, queries.source
    most_nodes = min(most_nodes, SYNAPSES // max(1, shape.node_synapses))
    most_edges = SYNAPSES // shape.edge_synapses
    found = neighbourhood(graph, queries.source, max_nodes=most_nodes, max_edges=most_edges)
    place = np.full(graph.nodes, -1)
    place[found.nodes] = np.arange(len(found.nodes))
    return found.graph, place[queries.source]
