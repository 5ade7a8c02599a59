"""Knowledge graphs with the queries asked of them, checked when they are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import flag, instance_of, within
from lava_snnlearn.graphs import Graph

SPLITS = ("train", "valid", "test")
_SHOWN_NAMES = 5
_MOST_KEYS = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class KnowledgeGraph:
    """Facts (head, relation, tail) over N entities and R relations, and triples to predict.

    A repeated fact is dropped: an edge is there once. Queries (train, valid, test) are kept as they are, in their order.

    Args:
        name: for reports.
        entities: N different names; entity i is number i.
        relations: R different names, inverse relations not counted.
        facts: int64 [F, 3] of (head, relation, tail): the edges that messages may use.
        train, valid, test: int64 [n, 3], the triples that are asked for; each may be empty.
        homogeneous: links of one kind and no direction, for link prediction. There is one relation, (a, 0, b) is the same as
            (b, 0, a), and no pair (a, a) is given: the message graph gets a self-loop at every node.
        valid_negatives, test_negatives: int64 [n, 2], pairs without a link, to score against valid and test; homogeneous only.

    Raises:
        TypeError: names that are no strings, arrays that are no integers, or of other shapes.
        LimitError: a number that is no entity or relation.
        ValueError: names that repeat; no entity or relation; homogeneous with another number of relations than one or with a
            pair (a, a); negatives that are links, or given for graphs with relations.
    """

    name: str
    entities: tuple[str, ...]
    relations: tuple[str, ...]
    facts: NDArray[np.int64]
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]
    homogeneous: bool = False
    valid_negatives: NDArray[np.int64] | None = None
    test_negatives: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for kind in ("entities", "relations"):
            object.__setattr__(self, kind, _names(f"{self.name}: {kind}", getattr(self, kind)))
        flag(f"{self.name}: homogeneous", self.homogeneous)
        if self.homogeneous and len(self.relations) != 1:
            raise ValueError(f"{self.name} is homogeneous, but has {len(self.relations)} relations; give one, e.g. ('link',)")
        for split in ("facts", *SPLITS):
            self._settle(split, self._triples(split))
        # first occurrences, so that facts stay in the order of their source
        _, first = np.unique(self.keys(self.facts), return_index=True)
        self._settle("facts", self.facts[np.sort(first)])
        for split in ("valid", "test"):
            self._settle_negatives(f"{split}_negatives")

    def _settle(self, field: str, array: NDArray[np.int64]) -> None:
        array.setflags(write=False)
        object.__setattr__(self, field, array)

    def _triples(self, split: str) -> NDArray[np.int64]:
        where = f"{self.name}: {split}"
        triples = _integers(where, getattr(self, split), 3)
        last = len(self.entities) - 1
        within(f"{where}, entities", triples[:, ::2], 0, last, "Entities are counted from 0.")
        within(f"{where}, relations", triples[:, 1], 0, len(self.relations) - 1, "Relations are counted from 0.")
        loops = np.flatnonzero(triples[:, 0] == triples[:, 2])
        if self.homogeneous and len(loops):
            raise ValueError(
                f"{where}: row {loops[0]} links entity {triples[loops[0], 0]} to itself; drop such rows, the message graph has "
                "a self-loop at every node"
            )
        return triples

    def _settle_negatives(self, field: str) -> None:
        given = getattr(self, field)
        if given is None:
            return
        where = f"{self.name}: {field}"
        if not self.homogeneous:
            raise ValueError(f"{where} are given, but the graph has relations: its queries are ranked among all entities")
        pairs = _integers(where, given, 2)
        within(where, pairs, 0, len(self.entities) - 1, "Entities are counted from 0.")
        links = np.concatenate([self.facts, *(getattr(self, split) for split in SPLITS)])
        true = np.isin(self.keys(np.insert(pairs, 1, 0, axis=1)), self.keys(links)) | (pairs[:, 0] == pairs[:, 1])
        if true.any():
            row = int(np.argmax(true))
            raise ValueError(f"{where}: row {row}, {tuple(pairs[row].tolist())}, is a link or a pair of one entity; drop it")
        self._settle(field, pairs)

    def keys(self, triples: NDArray[np.int64]) -> NDArray[np.int64]:
        """A number for each of the triples int64 [n, 3], equal for equal triples (in a homogeneous graph: of any direction)."""
        head, relation, tail = triples.T
        if self.homogeneous:
            head, tail = np.minimum(head, tail), np.maximum(head, tail)
        return triple_keys(head, relation, tail, len(self.entities))

    @property
    def query_relations(self) -> int:
        """Number of relations of edges and queries: 2 R, the inverse ones included; 1 if homogeneous."""
        return 1 if self.homogeneous else 2 * len(self.relations)

    def inverse(self, relation: Any) -> Any:
        """The relation from tail to head, of an int or an int64 array: r + R of r, and r of r + R; itself if homogeneous.

        Raises:
            LimitError: no relation of queries.
        """
        count = len(self.relations)
        within(f"{self.name}: relation", relation, 0, self.query_relations - 1, "Queries count the inverse relations too.")
        return relation if self.homogeneous else (relation + count) % (2 * count)

    def relation_name(self, relation: int) -> str:
        """The name of a relation of edges or queries; that of an inverse one ends in ``^-1``."""
        inverse = self.inverse(relation)
        return self.relations[relation] if relation <= inverse else f"{self.relations[inverse]}^-1"

    @cached_property
    def _graph(self) -> Graph:
        head, relation, tail = self.facts.T
        loops = np.arange(len(self.entities) if self.homogeneous else 0)
        source, target = np.concatenate([head, tail, loops]), np.concatenate([tail, head, loops])
        relations = np.concatenate([relation, self.inverse(relation), np.zeros_like(loops)])
        return Graph(len(self.entities), self.query_relations, source, relations, target)

    def graph(self) -> Graph:
        """The edges that messages use: each fact as head -> tail with r and tail -> head with r + R.

        Homogeneous: both directions with relation 0, and a self-loop at every node. Made once.
        """
        return self._graph

    def summary(self) -> dict[str, str | int]:
        """A row for tables: name, numbers of entities, relations, facts and queries, and ``leaked``, the valid and test
        queries that are facts (they are easy; 0 in any fair split)."""
        asked = self.keys(np.concatenate([self.valid, self.test]))
        return {
            "name": self.name,
            "entities": len(self.entities),
            "relations": len(self.relations),
            **{split: len(getattr(self, split)) for split in ("facts", *SPLITS)},
            "leaked": int(np.isin(asked, self.keys(self.facts)).sum()),
        }


@dataclass(frozen=True, eq=False)
class InductiveTask:
    """Learn on one graph, predict on another one with the same relations and other entities.

    ``train.train`` is learned and ``train.valid`` chooses the best epoch; ``test.test`` is asked over the edges ``test.facts``.

    Raises:
        TypeError: a part that is no KnowledgeGraph.
        ValueError: other relation names; relations of the test graph that no fact or training query of the training graph has.
    """

    name: str
    train: KnowledgeGraph
    test: KnowledgeGraph

    def __post_init__(self) -> None:
        for part in SPLITS[::2]:
            instance_of(f"{self.name}: {part}", getattr(self, part), KnowledgeGraph, "pass a KnowledgeGraph")
        if self.train.homogeneous != self.test.homogeneous or self.train.relations != self.test.relations:
            raise ValueError(
                f"{self.name}: the graphs have other relations ({len(self.train.relations)} to train on, "
                f"{len(self.test.relations)} to test on); number both by one list of names"
            )
        learned = np.concatenate([self.train.facts, self.train.train])[:, 1]
        asked = np.concatenate([self.test.facts, self.test.valid, self.test.test])[:, 1]
        unknown = np.setdiff1d(asked, learned)
        if len(unknown):
            names = ", ".join(repr(self.train.relations[number]) for number in unknown[:_SHOWN_NAMES])
            more = f" and {len(unknown) - _SHOWN_NAMES} more" if len(unknown) > _SHOWN_NAMES else ""
            raise ValueError(
                f"{self.name}: the test graph has relations that the training graph has no fact of: {names}{more}. Nothing can "
                "be learned about them; drop their triples"
            )


def triple_keys(head: ArrayLike, relation: ArrayLike, tail: ArrayLike, entities: int) -> NDArray[np.int64]:
    """A number for each triple, in the order of (relation, head, tail): int64, of the shape of the columns.

    Raises:
        ValueError: the numbers would not fit in 63 bits.
    """
    columns = [np.asarray(column, np.int64) for column in (head, relation, tail)]
    if columns[1].size and (int(columns[1].max()) + 1) * entities**2 > _MOST_KEYS:
        raise ValueError(
            f"{entities} entities with {int(columns[1].max()) + 1} relations do not fit in 63 bits; split the graph"
        )
    keys: NDArray[np.int64] = (columns[1] * entities + columns[0]) * entities + columns[2]
    return keys


def _names(where: str, names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(f"{where} is the string {names!r}; give a list of names")
    found = tuple(names)
    for name in found:
        instance_of(f"a name in {where}", name, str, "names are strings")
    if not found:
        raise ValueError(f"{where} is empty; a graph has at least one")
    if len(set(found)) < len(found):
        twice = Counter(found).most_common(1)[0][0]
        raise ValueError(f"{where}: {twice!r} is there more than once; names must differ")
    return found


def _integers(where: str, values: ArrayLike, columns: int) -> NDArray[np.int64]:
    """A copy of an array [n, columns] of integers; an empty one of any shape is [0, columns]."""
    raw = np.asarray(values)
    if raw.size == 0:
        return np.zeros((0, columns), np.int64)
    if raw.ndim != 2 or raw.shape[1] != columns or raw.dtype.kind not in "iu":
        raise TypeError(f"{where} has shape {raw.shape} and dtype {raw.dtype}; expected integers [n, {columns}]")
    return raw.astype(np.int64)
