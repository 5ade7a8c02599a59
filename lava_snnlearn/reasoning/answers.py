"""Which answers of a query are known to be true: the index behind filtered ranking and strict negative sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import instance_of, known_name, within
from lava_snnlearn.data.knowledge_graph import SPLITS, KnowledgeGraph, triple_keys

ALL_SPLITS = ("facts", *SPLITS)
"""What filtered ranking takes as known."""
FOR_TRAINING = ("facts", "train")
"""What strict negatives must avoid: nothing that is held back for validation and test."""


class Queries(NamedTuple):
    """Questions (source, query, ?) with the answer each came from: int64 [B] each; the query counts inverse relations too."""

    source: NDArray[np.int64]
    query: NDArray[np.int64]
    answer: NDArray[np.int64]


def tail_queries(triples: NDArray[np.int64]) -> Queries:
    """(h, r, ?) of triples int64 [B, 3], answered by t."""
    head, relation, tail = np.asarray(triples).T
    return Queries(head, relation, tail)


def head_queries(data: KnowledgeGraph, triples: NDArray[np.int64]) -> Queries:
    """(?, r, t) of triples int64 [B, 3], asked as (t, inverse of r, ?) and answered by h."""
    head, relation, tail = np.asarray(triples).T
    return Queries(tail, np.asarray(data.inverse(relation)), head)


def both_queries(data: KnowledgeGraph, triples: NDArray[np.int64]) -> Queries:
    """The tail queries of triples [B, 3], then their head queries, [2 B]."""
    return joined(tail_queries(triples), head_queries(data, triples))


def joined(first: Queries, second: Queries) -> Queries:
    """The queries of both, one behind the other."""
    return Queries(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))


class KnownAnswers:
    """The true answers of every query (x, q), in both directions, sorted and each once.

    In a homogeneous graph x itself is an answer too: it is never a candidate.

    Args:
        data: the graph.
        splits: those whose triples are known: :data:`ALL_SPLITS` to rank, :data:`FOR_TRAINING` to draw negatives.

    Raises:
        TypeError: data that is no KnowledgeGraph. UnknownNameError: an unknown split.
    """

    def __init__(self, data: KnowledgeGraph, splits: Sequence[str] = ALL_SPLITS) -> None:
        instance_of("data", data, KnowledgeGraph, "pass one graph; an InductiveTask has two, task.train and task.test")
        triples = np.concatenate([getattr(data, known_name("split", split, ALL_SPLITS)) for split in splits])
        asked = both_queries(data, triples)
        if data.homogeneous:
            nodes = np.arange(len(data.entities))
            asked = joined(asked, Queries(nodes, np.zeros_like(nodes), nodes))
        self.entities = len(data.entities)
        self.query_relations = data.query_relations
        keys = np.unique(triple_keys(asked.source, asked.query, asked.answer, self.entities))  # by query, then answer
        owners, self._answers = np.divmod(keys, self.entities)
        self._answers.setflags(write=False)
        self._keys, self._first = np.unique(owners, return_index=True)
        self._first = np.append(self._first, len(keys))

    def _query_keys(self, source: ArrayLike, query: ArrayLike) -> NDArray[np.int64]:
        source, query = np.asarray(source, np.int64), np.asarray(query, np.int64)
        if source.shape != query.shape:
            raise ValueError(f"source has shape {source.shape}, query {query.shape}; expected the same")
        within("source", source, 0, self.entities - 1, f"There are {self.entities} entities, counted from 0.")
        within("query", query, 0, self.query_relations - 1, f"There are {self.query_relations} relations of queries.")
        keys: NDArray[np.int64] = query * self.entities + source
        return keys

    def spans(self, source: ArrayLike, query: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the answers of queries [B] begin and end in :attr:`answers`: int64 [B] each.

        Raises:
            LimitError: a source that is no entity, a query that is no relation of queries. ValueError: other lengths.
        """
        keys = self._query_keys(source, query)
        at = np.searchsorted(self._keys, keys)
        present = self._keys[np.minimum(at, len(self._keys) - 1)] == keys if len(self._keys) else np.zeros(keys.shape, bool)
        begin = np.where(present, self._first[at], 0)
        return begin, np.where(present, self._first[np.minimum(at + 1, len(self._keys))], 0)

    @property
    def answers(self) -> NDArray[np.int64]:
        """The answers of all queries one after another, each query's sorted: int64 [M]."""
        return self._answers

    def tails(self, source: int, query: int) -> NDArray[np.int64]:
        """The sorted true answers of one query, int64 [K]."""
        begin, end = self.spans(source, query)
        return self._answers[int(begin) : int(end)]

    def count(self, source: ArrayLike, query: ArrayLike) -> NDArray[np.int64]:
        """Number of true answers of queries [B]: int64 [B]."""
        begin, end = self.spans(source, query)
        return end - begin

    def rows(self, source: ArrayLike, query: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The true answers of queries [B] as (row of the query, answer), int64 [K] each, sorted."""
        row, place = spread(*self.spans(source, query))
        return row, self._answers[place]

    def mask(self, source: ArrayLike, query: ArrayLike) -> NDArray[np.bool_]:
        """bool [B, N]: whether each entity is a true answer of queries [B]."""
        row, answer = self.rows(source, query)
        mask = np.zeros((len(np.asarray(source)), self.entities), bool)
        mask[row, answer] = True
        return mask


def spread(begin: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places begin[i] .. end[i] - 1 of all spans i [B] one after another, as (i, place): int64 [sum of lengths] each."""
    counts = end - begin
    span = np.repeat(np.arange(len(counts)), counts)
    return span, np.arange(len(span)) + np.repeat(begin - (np.cumsum(counts) - counts), counts)
