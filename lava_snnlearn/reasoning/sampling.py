"""What a training batch of a graph reasoner is made of: its queries, strict negatives, and the edges to hide from it.

Source: M. Xiao et al., "Temporal spiking neural networks with synaptic delay for graph reasoning", ICML 2024.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least, known_name, within
from lava_snnlearn.data.knowledge_graph import KnowledgeGraph, triple_keys
from lava_snnlearn.graphs import Graph
from lava_snnlearn.methods.grsnn import REMOVALS
from lava_snnlearn.reasoning.answers import KnownAnswers, Queries, both_queries, head_queries, joined, spread, tail_queries


def batch_queries(data: KnowledgeGraph, triples: NDArray[np.int64]) -> Queries:
    """The queries of a training batch, triples int64 [B, 3]: the first half asks for tails, the second (odd B: the smaller one)
    for heads, as (t, inverse of r, ?)."""
    half = (len(triples) + 1) // 2
    return joined(tail_queries(triples[:half]), head_queries(data, triples[half:]))


def strict_negatives(
    known: KnownAnswers, source: ArrayLike, query: ArrayLike, count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Entities that are no known answers of their query, drawn uniformly and independently (with replacement).

    Args:
        known: of ``FOR_TRAINING`` splits.
        source, query: int64 [B].
        count: negatives of each query, at least 1.
        generator: the only source of chance.

    Returns:
        int64 [B, count].

    Raises:
        ValueError: a query to which every entity is an answer. Leave its triples out: :func:`with_negatives`.
        LimitError: a source that is no entity, a query that is no relation.
    """
    count = at_least(1, "count of negatives", count)
    begin, end = known.spans(source, query)
    free = known.entities - (end - begin)
    if (free < 1).any():
        row = int(np.argmax(free < 1))
        raise ValueError(
            f"query {row}, (entity {np.asarray(source)[row]}, relation {np.asarray(query)[row]}, ?): all {known.entities} "
            "entities are true answers, so there is no negative. Train on triples[with_negatives(known, data, triples)]."
        )
    drawn = generator.integers(0, free[:, None], (len(free), count))
    # The k-th entity that is no answer is k, and one more for every answer at or below it. One search serves all queries:
    # their answers lie one after another, each query's in a range of numbers of its own.
    owner, answer = known.rows(source, query)
    first = np.cumsum(end - begin) - (end - begin)
    below = answer - (np.arange(len(owner)) - first[owner]) + owner * known.entities
    passed = np.searchsorted(below, drawn + np.arange(len(free))[:, None] * known.entities, side="right")
    negatives: NDArray[np.int64] = drawn + passed - first[:, None]
    return negatives


def with_negatives(known: KnownAnswers, data: KnowledgeGraph, triples: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [B]: whether both queries of each triple have an entity that is no known answer, so that they can be trained on."""
    asked = both_queries(data, triples)
    both: NDArray[np.bool_] = (known.count(asked.source, asked.query) < known.entities).reshape(2, -1).all(axis=0)
    return both


class EdgeRemoval:
    """Which edges of a graph are hidden while a batch of its facts is learned, so that the answer is not read off.

    "triples" hides the edges of the facts themselves and their inverse ones; "one_hop" every edge between head and tail, of any
    relation, in both directions; "none" nothing. The index is made once, and a batch costs a few searches in it.

    Args:
        graph: the message graph of E edges (:meth:`KnowledgeGraph.graph`).
        relations: R, without inverse ones. The graph has 2 R relations, or it is homogeneous, with R = 1.
        how: see above.

    Raises:
        UnknownNameError: another ``how``. ValueError: another number of relations.
    """

    def __init__(self, graph: Graph, relations: int, how: str = "triples") -> None:
        self.how = known_name("removal", how, REMOVALS)
        self.relations = at_least(1, "relations", relations)
        if graph.relations != 2 * relations and not graph.relations == relations == 1:
            raise ValueError(
                f"the graph has {graph.relations} relations; expected {2 * relations} with the inverse ones of {relations}"
            )
        self.graph = graph
        source, relation, target = (np.asarray(column) for column in (graph.source, graph.relation, graph.target))
        # edges lie in the order of (relation, source, target), and so do their keys
        keys = triple_keys(source, relation if how == "triples" else np.zeros_like(relation), target, graph.nodes)
        self._order = np.argsort(keys, kind="stable") if how == "one_hop" else np.arange(graph.edges)
        self._sorted = keys[self._order]

    def __call__(self, triples: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool [E], in the graph's order, for triples int64 [B, 3]; :meth:`Graph.without` takes it.

        Raises:
            LimitError: a number that is no entity or relation.
        """
        removed = np.zeros(self.graph.edges, bool)
        head, relation, tail = np.asarray(triples, np.int64).reshape(-1, 3).T
        within("triples, entities", np.stack([head, tail]), 0, self.graph.nodes - 1, f"There are {self.graph.nodes}.")
        within("triples, relations", relation, 0, self.relations - 1, f"There are {self.relations}, without inverse ones.")
        if self.how == "none":
            return removed
        back = relation + self.relations if self.graph.relations > 1 else relation
        if self.how == "one_hop":
            relation = back = np.zeros_like(relation)
        edges = ((head, relation, tail), (tail, back, head))
        wanted = np.concatenate([triple_keys(*edge, self.graph.nodes) for edge in edges])
        begin, end = (np.searchsorted(self._sorted, wanted, side=side) for side in ("left", "right"))
        _, place = spread(begin, end)
        removed[self._order[place]] = True
        return removed
