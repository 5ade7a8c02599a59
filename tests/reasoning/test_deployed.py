"""evaluate() of a reasoner's integers: ranks from the emulator's scores, one query after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from lava_snnlearn import quantize
from lava_snnlearn.data.knowledge_graph import KnowledgeGraph
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner, pair_scores
from lava_snnlearn.reasoning import evaluate


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_ranks_are_those_of_the_emulators_scores(make_model: Any, kin: KnowledgeGraph, batch_size: int) -> None:
    fixed = quantize(make_model(kin))
    found = evaluate(fixed, kin, batch_size=batch_size)
    count, spikes, ranks = len(kin.relations), {}, []
    true = {tuple(map(int, row)) for split in (kin.facts, kin.train, kin.valid, kin.test) for row in split}
    for h, r, t in kin.test.tolist():
        for source, query, answer in ((h, r, t), (t, r + count, h)):
            trace = emulate_reasoner(fixed, kin.graph(), [source], [query])
            scores = trace.scores[0].tolist()
            facts = {y: (h, r, y) if query < count else (y, r, t) for y in range(len(kin.entities))}
            ranks.append(1 + sum(scores[y] >= scores[answer] for y, fact in facts.items() if fact not in true))
            spikes[source, query] = int(trace.spike_counts.sum())
    assert len(set(ranks)) > 3
    assert found.measures["mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    steps = len(spikes) * len(kin.entities) * fixed.width * fixed.steps
    assert found.spike_rate == pytest.approx(sum(spikes.values()) / steps)
    assert found.queries == len(ranks)


def test_links_without_direction(make_model: Any, links: KnowledgeGraph) -> None:
    fixed = quantize(make_model(links))
    pairs = np.concatenate([links.test[:, ::2], links.test_negatives])
    scores = pair_scores(fixed, links.graph(), *pairs.T)
    labels = [1] * len(links.test) + [0] * len(links.test_negatives)
    expected = {"auroc": roc_auc_score(labels, scores), "ap": average_precision_score(labels, scores)}
    assert evaluate(fixed, links, batch_size=5).measures == pytest.approx(expected)


def test_another_graph_is_refused(make_model: Any, kin: KnowledgeGraph, links: KnowledgeGraph) -> None:
    with pytest.raises(ValueError, match="the model has 8"):
        evaluate(quantize(make_model(kin)), links)
