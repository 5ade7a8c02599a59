"""Graph: directed edges, each with a relation, in the order in which messages are passed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import instance_of, whole_number, within


@dataclass(frozen=True, eq=False)
class Graph:
    """Directed edges source -> target with a relation; parallel edges and self-loops are allowed.

    The edges are kept sorted by (relation, source, target), so that those that carry the same message, the distinct pairs
    (relation, source), lie side by side: ``pair_relation`` and ``pair_source`` [P], and the edges of pair p are
    ``pair_first[p] .. pair_first[p + 1]`` (``pair_first`` [P + 1]).

    Args:
        nodes: number of nodes, at least 1.
        relations: number of relations of the edges, inverse ones included, at least 1.
        source, relation, target: int64 [E], any order.

    Raises:
        ValueError: arrays of different lengths. LimitError: a number that is no node or relation. TypeError: no integers.
    """

    nodes: int
    relations: int
    source: ArrayLike
    relation: ArrayLike
    target: ArrayLike

    def __post_init__(self) -> None:
        for name in ("nodes", "relations"):
            object.__setattr__(self, name, whole_number(f"graph: {name}", getattr(self, name)))
            within(f"graph: {name}", getattr(self, name), 1, 1 << 31, "A graph has at least one.")
        columns = [self._column(name) for name in ("source", "relation", "target")]
        lengths = {len(column) for column in columns}
        if len(lengths) > 1:
            raise ValueError(f"graph: source, relation and target have lengths {[len(column) for column in columns]}")
        source, relation, target = columns
        order = np.lexsort((target, source, relation))
        for name, column in zip(("source", "relation", "target"), columns, strict=True):
            ordered = column[order]
            ordered.setflags(write=False)
            object.__setattr__(self, name, ordered)

    def _column(self, name: str) -> NDArray[np.int64]:
        raw = np.asarray(getattr(self, name))
        if raw.ndim != 1 or (raw.dtype.kind not in "iu" and raw.size):
            raise TypeError(f"graph: {name} has shape {raw.shape} and dtype {raw.dtype}; expected integers [E]")
        column = raw.astype(np.int64)
        if column.size:
            count = self.relations if name == "relation" else self.nodes
            within(f"graph: {name}", column, 0, count - 1, f"There are {count}, counted from 0.")
        return column

    @property
    def edges(self) -> int:
        """Number of edges E."""
        return len(np.asarray(self.source))

    @cached_property
    def _pairs(self) -> NDArray[np.int64]:
        """Index of the first edge of each pair."""
        source, relation = np.asarray(self.source), np.asarray(self.relation)
        new = np.ones(self.edges, bool)
        new[1:] = (source[1:] != source[:-1]) | (relation[1:] != relation[:-1])
        return np.flatnonzero(new)

    @cached_property
    def edge_pair(self) -> NDArray[np.int64]:
        """Pair of each edge, [E]."""
        return np.repeat(np.arange(len(self._pairs)), np.diff(self.pair_first))

    @property
    def pair_source(self) -> NDArray[np.int64]:
        """Source of each distinct (relation, source) pair, [P]."""
        source: NDArray[np.int64] = np.asarray(self.source)[self._pairs]
        return source

    @property
    def pair_relation(self) -> NDArray[np.int64]:
        """Relation of each pair, [P]."""
        relation: NDArray[np.int64] = np.asarray(self.relation)[self._pairs]
        return relation

    @cached_property
    def pair_first(self) -> NDArray[np.int64]:
        """First edge of each pair, and E at the end, [P + 1]."""
        return np.append(self._pairs, self.edges)

    @cached_property
    def in_degree(self) -> NDArray[np.int64]:
        """Edges into each node, [N]."""
        return np.bincount(np.asarray(self.target), minlength=self.nodes)

    def without(self, removed: NDArray[Any]) -> Graph:
        """The graph less the edges where ``removed`` (bool [E], in this graph's order) is true.

        Raises ValueError for another shape.
        """
        kept = ~np.asarray(removed, dtype=bool)
        if kept.shape != (self.edges,):
            raise ValueError(f"removed has shape {kept.shape}, expected ({self.edges},)")
        graph: Graph = object.__new__(Graph)
        fields = {name: np.asarray(getattr(self, name))[kept] for name in ("source", "relation", "target")}
        for name, value in {"nodes": self.nodes, "relations": self.relations, **fields}.items():
            object.__setattr__(graph, name, value)  # sorted and checked already
        return graph


def check_graph(graph: Any, relations: int | None = None) -> None:
    """Refuse what is no Graph, or one whose relations are not those of a reasoner (None: of any number).

    Raises:
        TypeError: no Graph. ValueError: other relations.
    """
    instance_of("graph", graph, Graph, "build a lava_snnlearn.graphs.Graph, e.g. by graph() of a KnowledgeGraph")
    if relations is not None and graph.relations != relations:
        raise ValueError(
            f"the graph has {graph.relations} relations, the reasoner {relations} (inverse ones included); build the graph "
            "with the relations of training"
        )
