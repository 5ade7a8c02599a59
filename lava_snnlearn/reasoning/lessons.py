"""What a graph reasoner is shown in training: batches of queries with wrong candidates, on a graph without their facts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.data.knowledge_graph import KnowledgeGraph
from lava_snnlearn.graphs import Graph
from lava_snnlearn.methods.grsnn import GRSNN
from lava_snnlearn.reasoning.answers import ALL_SPLITS, FOR_TRAINING, KnownAnswers
from lava_snnlearn.reasoning.sampling import EdgeRemoval, batch_queries, strict_negatives, with_negatives


class Lesson(NamedTuple):
    """One batch. ``graph``: the edges it may use. ``source``, ``query``: int64 [B]. ``candidates``: int64 [B, 1 + n], the
    answer first."""

    graph: Graph
    source: NDArray[np.int64]
    query: NDArray[np.int64]
    candidates: NDArray[np.int64]


class Lessons:
    """The batches of a knowledge graph's training triples; each depends on seed, epoch and its number alone.

    Training triples without a wrong candidate, (h, r, ?) or (?, r, t) being true of all entities, are left out.

    Args:
        graph: facts and training triples.
        method: number of negatives, and which edges a batch may not use.
        batch_size, accumulate: triples in a batch, batches in an update.
        seed: of order and negatives.
        steps: updates in an epoch; None: as many as the triples make. More than these start again in another order.

    Raises:
        ValueError: no triples to train on.
    """

    def __init__(
        self, graph: KnowledgeGraph, method: GRSNN, batch_size: int, accumulate: int, seed: int, steps: int | None
    ) -> None:
        self.graph, self._negatives, self._seed = graph, method.negatives, seed
        self._batch, self._update = batch_size, batch_size * accumulate
        self._known = KnownAnswers(graph, FOR_TRAINING)
        self._edges = graph.graph()
        self._removal = EdgeRemoval(self._edges, len(graph.relations), method.remove)
        self._triples = graph.train[with_negatives(self._known, graph, graph.train)]
        if not len(self._triples):
            raise ValueError(f"{graph.name} has {len(graph.train)} training triples, none with a wrong candidate to learn from")
        self.steps = -(-len(self._triples) // self._update) if steps is None else steps

    def updates(self, epoch: int) -> list[NDArray[np.int64]]:
        """The training triples [<= batch_size * accumulate, 3] of each update of an epoch."""
        rounds: list[NDArray[np.int64]] = []
        while len(rounds) < self.steps:
            order = np.random.default_rng([self._seed, epoch, len(rounds)]).permutation(len(self._triples))
            rounds += np.split(self._triples[order], range(self._update, len(order), self._update))
        return rounds[: self.steps]

    def of_update(self, triples: NDArray[np.int64], epoch: int, number: int) -> Iterator[Lesson]:
        """The batches of an update's triples."""
        draw = np.random.default_rng([self._seed, epoch, number, 1])
        for first in range(0, len(triples), self._batch):
            batch = triples[first : first + self._batch]
            asked = batch_queries(self.graph, batch)
            wrong = strict_negatives(self._known, asked.source, asked.query, self._negatives, draw)
            candidates = np.concatenate([asked.answer[:, None], wrong], axis=1)
            yield Lesson(self._edges.without(self._removal(batch)), asked.source, asked.query, candidates)

    def digest(self) -> str:
        """SHA-256 of facts and triples: a resumed run must have the same (validation filters out those of the test)."""
        found = hashlib.sha256()
        for split in ALL_SPLITS:
            triples = getattr(self.graph, split)
            found.update(f"{split} {triples.shape}".encode())
            found.update(np.ascontiguousarray(triples).data)
        return found.hexdigest()
