"""evaluate(): measures as slow loops over Python sets give them; which graph is asked; refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data.knowledge_graph import InductiveTask, KnowledgeGraph
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.reasoning import evaluate


def slow_ranks(model: GraphReasoner, data: KnowledgeGraph, triples: np.ndarray) -> tuple[list[int], list[int]]:
    """(ranks, candidates) of head and tail queries, each query on its own and each candidate compared by itself.

    Scores that differ by rounding are equal."""
    true = {tuple(map(int, row)) for split in (data.facts, data.train, data.valid, data.test) for row in split}
    count = len(data.relations)
    ranks, candidates = [], []
    for h, r, t in triples.tolist():
        for source, query, answer in ((h, r, t), (t, r + count, h)):
            with torch.no_grad():
                scores = model(data.graph(), torch.tensor([source]), torch.tensor([query]))[0].tolist()
            facts = {y: (h, r, y) if query < count else (y, r, t) for y in range(len(data.entities))}
            rivals = [y for y, fact in facts.items() if fact not in true]
            ranks.append(1 + sum(scores[y] >= scores[answer] - 1e-5 for y in rivals))
            candidates.append(len(rivals))
    return ranks, candidates


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_ranks_are_those_of_slow_loops(make_model: Any, kin: KnowledgeGraph, split: str, batch_size: int) -> None:
    model = make_model(kin).double()
    found = evaluate(model, kin, split, batch_size=batch_size)
    ranks = np.array(slow_ranks(model, kin, getattr(kin, split))[0])
    assert len(set(ranks.tolist())) > 3
    expected = {"mrr": (1 / ranks).mean(), "mr": ranks.mean(), **{f"hits@{k}": (ranks <= k).mean() for k in (1, 3, 10)}}
    assert found.measures == pytest.approx(expected)
    assert next(iter(found.measures)) == "mrr"
    assert found.queries == len(ranks) == 2 * len(getattr(kin, split))


def test_a_constant_score_gets_the_last_rank(make_model: Any, kin: KnowledgeGraph) -> None:
    model = make_model(kin)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.zero_()
    last = [count + 1 for count in slow_ranks(model, kin, kin.test)[1]]
    assert evaluate(model, kin).measures["mr"] == np.mean(last)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_ties_are_not_won_by_rounding(make_model: Any, task: InductiveTask, double: bool, batch_size: int) -> None:
    """Without a spike all entities have the same features: the answer comes last, whatever its place in the matrix product."""
    graph = task.test
    model = make_model(graph, width=31)
    with torch.no_grad():
        model.embedding.weight.uniform_(-1, -0.8)  # the currents of queries, too small for a spike
    model = model.double() if double else model
    last = [count + 1 for count in slow_ranks(model, graph, graph.train)[1]]
    found = evaluate(model, graph, "train", batch_size=batch_size)
    assert found.spike_rate == 0
    assert found.measures["mr"] == np.mean(last)


def test_spike_rate(make_model: Any, kin: KnowledgeGraph) -> None:
    """Each distinct query counts once."""
    model = make_model(kin)
    asked = {(h, r) for h, r, _ in kin.valid.tolist()} | {(t, r + 4) for _, r, t in kin.valid.tolist()}
    source, query = (torch.tensor(column) for column in zip(*asked, strict=True))
    spikes = model.run(kin.graph(), source, query, record=True).spikes
    assert evaluate(model, kin, "valid", batch_size=3).spike_rate == pytest.approx(float(spikes.double().mean()))


def test_inductive_tasks_are_asked_on_the_test_graph(make_model: Any, task: InductiveTask) -> None:
    model = make_model(task).double()
    ranks, candidates = map(np.array, slow_ranks(model, task.test, task.test.test))
    found = evaluate(model, task).measures
    assert found["mrr"] == pytest.approx((1 / ranks).mean())
    # P(at most 9 of 50 drawn with replacement score as high), by drawing
    draw = np.random.default_rng(0).binomial(50, (ranks - 1) / candidates, (20000, len(ranks)))
    assert found["hits@10 of 50"] == pytest.approx((draw <= 9).mean(), abs=0.01)
    assert 0.05 < found["hits@10 of 50"] < 0.95
    assert evaluate(model, task, "valid").measures["mrr"] == evaluate(model, task.train, "valid").measures["mrr"]


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("batch_size", [5, 64])
def test_links_without_direction(make_model: Any, links: KnowledgeGraph, split: str, batch_size: int) -> None:
    model = make_model(links).double()
    found = evaluate(model, links, split, batch_size=batch_size)
    pairs = [(a, b) for a, _, b in getattr(links, split).tolist()], getattr(links, f"{split}_negatives").tolist()
    scores = []
    for a, b in [*pairs[0], *pairs[1]]:
        with torch.no_grad():
            there = model.run(links.graph(), torch.tensor([a]), torch.tensor([0])).features[:, [b]]
            back = model.run(links.graph(), torch.tensor([b]), torch.tensor([0])).features[:, [a]]
            scores.append(float(model.scores((there + back) / 2, torch.tensor([0]))))
    labels = [1] * len(pairs[0]) + [0] * len(pairs[1])
    expected = {"auroc": roc_auc_score(labels, scores), "ap": average_precision_score(labels, scores)}
    assert found.measures == pytest.approx(expected, rel=1e-9)
    assert next(iter(found.measures)) == "auroc"
    assert found.queries == len(labels)
    assert 0 < found.spike_rate < 1


def test_a_limit_asks_some_triples_and_the_same_ones_again(make_model: Any, kin: KnowledgeGraph) -> None:
    model = make_model(kin)
    some = evaluate(model, kin, "train", limit=5)
    assert some.queries == 10
    assert evaluate(model, kin, "train", limit=5).measures == some.measures
    others = {evaluate(model, kin, "train", limit=5, seed=seed).measures["mr"] for seed in range(4)}
    assert len(others) > 1
    assert evaluate(model, kin, "valid", limit=1000).measures == evaluate(model, kin, "valid").measures


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(make_model: Any, kin: KnowledgeGraph, training: bool) -> None:
    model = make_model(kin).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, kin)
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_refusals(make_model: Any, kin: KnowledgeGraph, links: KnowledgeGraph) -> None:
    model = make_model(kin)
    with pytest.raises(UnknownNameError, match="Did you mean 'valid'"):
        evaluate(model, kin, "validation")
    with pytest.raises(ValueError, match="batch_size is 0"):
        evaluate(model, kin, batch_size=0)
    with pytest.raises(ValueError, match="limit is 0"):
        evaluate(model, kin, limit=0)
    with pytest.raises(ValueError, match=r"cliques has 1 relations .* GraphReasoner\(1, homogeneous=True\)"):
        evaluate(model, links)
    with pytest.raises(ValueError, match="no pairs without a link for 'train'"):
        evaluate(make_model(links), links, "train")
    with pytest.raises(TypeError, match="GraphReasoner"):
        evaluate(torch.nn.Linear(1, 1), kin)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="load_graph"):
        evaluate(model, "kin")  # type: ignore[arg-type]
    empty = KnowledgeGraph("bare", kin.entities, kin.relations, kin.facts, kin.train, kin.valid, kin.test[:0])
    with pytest.raises(ValueError, match="bare has no test triples"):
        evaluate(model, empty)
