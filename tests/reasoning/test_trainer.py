"""ReasoningTrainer: what it shows the method, updates, history and files, the epoch that is kept; refusals."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lava_snnlearn.checkpoints import read_weights
from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data.knowledge_graph import InductiveTask, KnowledgeGraph
from lava_snnlearn.graphs import Graph
from lava_snnlearn.methods import GRSNN, OTTT, StepResult
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.reasoning import ReasoningTrainer, evaluate, trainer

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 6, "progress": False}


@dataclass(frozen=True)
class Noting(GRSNN):
    """GRSNN that keeps what it was shown."""

    seen: list[tuple[Graph, Tensor, Tensor, Tensor, float]] = field(default_factory=list, repr=False)

    def gradients(
        self, model: GraphReasoner, graph: Graph, source: Tensor, query: Tensor, candidates: Tensor, *, share: float = 1.0
    ) -> StepResult:
        self.seen.append((graph, source, query, candidates, share))
        return super().gradients(model, graph, source, query, candidates, share=share)


def edges_of(graph: Graph) -> set[tuple[int, int, int]]:
    return set(zip(graph.source.tolist(), graph.relation.tolist(), graph.target.tolist(), strict=True))  # type: ignore[union-attr]


@pytest.mark.parametrize("remove", ["triples", "one_hop", "none"])
def test_batches(make_model: Any, kin: KnowledgeGraph, remove: str) -> None:
    """Each epoch asks every training triple once, in the direction of its half; negatives are never known; the edges of the
    batch's facts are gone."""
    method = Noting(5, remove=remove)
    ReasoningTrainer(make_model(kin), method, kin, **QUICK).fit()
    count = len(kin.train)
    per_epoch = math.ceil(count / 6)
    assert len(method.seen) == 2 * per_epoch
    facts, everything = {tuple(row) for row in kin.facts.tolist()}, edges_of(kin.graph())
    orders = []
    for epoch in range(2):
        triples = []
        for graph, source, query, candidates, share in method.seen[epoch * per_epoch : (epoch + 1) * per_epoch]:
            size = len(source)
            assert share == 1
            assert candidates.shape == (size, 6)
            batch = []
            for at, (x, q) in enumerate(zip(source.tolist(), query.tolist(), strict=True)):
                answer, *wrong = candidates[at].tolist()
                assert (q < 4) == (at < (size + 1) // 2)
                batch.append((x, q, answer) if q < 4 else (answer, q - 4, x))
                assert not any(((x, q, y) if q < 4 else (y, q - 4, x)) in facts for y in wrong)
            gone = {"none": set(), "triples": {e for h, r, t in batch for e in ((h, r, t), (t, r + 4, h))}}
            ends = {frozenset((h, t)) for h, _, t in batch}
            gone["one_hop"] = {edge for edge in everything if frozenset((edge[0], edge[2])) in ends}
            assert edges_of(graph) == everything - gone[remove]
            triples += batch
        assert sorted(triples) == sorted(map(tuple, kin.train.tolist()))
        orders.append(triples)
    assert orders[0] != orders[1]


def test_batches_without_direction(make_model: Any, links: KnowledgeGraph) -> None:
    method = Noting(1, None, "one_hop")
    history = ReasoningTrainer(make_model(links), method, links, **QUICK).fit()
    linked = {frozenset(pair) for pair in links.facts[:, ::2].tolist()}
    for graph, source, query, candidates, _ in method.seen:
        pairs = [frozenset(pair) for pair in zip(source.tolist(), candidates[:, 0].tolist(), strict=True)]
        assert set(pairs) <= linked
        assert not query.any()
        for x, y in zip(source.tolist(), candidates[:, 1].tolist(), strict=True):
            assert x != y
            assert frozenset((x, y)) not in linked
        assert not {frozenset((u, v)) for u, _, v in edges_of(graph)} & set(pairs)
        assert {(v, 0, v) for v in range(20)} <= edges_of(graph)
    assert history.epochs[-1].valid.keys() == {"auroc", "ap"}
    assert 0 < history.epochs[-1].spike_rate < 1


def test_inductive_tasks_train_and_validate_on_the_first_graph(make_model: Any, task: InductiveTask) -> None:
    method = Noting(5)
    model = make_model(task)
    history = ReasoningTrainer(model, method, task, keep="last", **QUICK).fit()
    assert all(graph.nodes == len(task.train.entities) for graph, *_ in method.seen)
    assert history.epochs[-1].valid == evaluate(model, task, "valid").measures


def test_accumulated_batches_make_one_update(make_model: Any, kin: KnowledgeGraph) -> None:
    """Two updates of Adam by hand, from the batches that the method was shown; the last one is smaller."""
    method, model = Noting(5), make_model(kin)
    options: dict[str, Any] = {"epochs": 1, "batch_size": 40, "accumulate": 2, "learning_rate": 0.01, "keep": "last"}
    ReasoningTrainer(model, method, kin, progress=False, **options).fit()
    sizes = [len(source) for _, source, *_ in method.seen]
    total = len(kin.train)
    assert sizes == [40, 40, total - 80]
    assert [share for *_, share in method.seen] == [0.5, 0.5, 1.0]
    expected = make_model(kin)
    optimiser = torch.optim.Adam(expected.parameters(), lr=0.01)
    for group in (method.seen[:2], method.seen[2:]):
        optimiser.zero_grad()
        losses = [GRSNN(5).loss(expected(graph, *asked)) for graph, *asked, _ in group]
        torch.stack(losses).mean().backward()
        optimiser.step()
    for found, wanted in zip(model.parameters(), expected.parameters(), strict=True):
        np.testing.assert_allclose(found.detach(), wanted.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps, rounds", [(3, 1), (40, 3)])
def test_steps_of_an_epoch(make_model: Any, kin: KnowledgeGraph, steps: int, rounds: int) -> None:
    method = Noting(2)
    ReasoningTrainer(make_model(kin), method, kin, steps_per_epoch=steps, epochs=1, batch_size=6, progress=False).fit()
    assert len(method.seen) == steps
    asked = sum(len(source) for _, source, *_ in method.seen)
    assert math.ceil(asked / len(kin.train)) == rounds


def test_history_and_files(make_model: Any, kin: KnowledgeGraph, tmp_path: Path) -> None:
    model = make_model(kin)
    run = ReasoningTrainer(model, GRSNN(4), kin, run_dir=tmp_path, epochs=3, batch_size=20, validate_every=2, progress=False)
    history = run.fit()
    assert [row.epoch for row in history.epochs] == [1, 2, 3]
    assert [bool(row.valid) for row in history.epochs] == [False, True, True]
    with (tmp_path / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    for row, cells in zip(history.epochs, table, strict=True):
        assert float(cells["loss"]) == row.loss > 0
        assert 0 < float(cells["spike_rate"]) < 1
        assert float(cells["seconds"]) == row.seconds > 0
        assert float(cells["learning_rate"]) == 5e-3
        mrr = float(cells["valid_mrr"])
        assert mrr == row.valid["mrr"] if row.valid else math.isnan(mrr)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == run.config()
    other = make_model(kin, seed=9)
    read_weights(tmp_path / "weights.h5", other)
    assert evaluate(other, kin).measures == evaluate(model, kin).measures


@pytest.mark.parametrize("keep, expected", [("best", 2), ("last", 4)])
def test_the_kept_epoch(
    make_model: Any, kin: KnowledgeGraph, monkeypatch: pytest.MonkeyPatch, keep: str, expected: int
) -> None:
    """Of equals the first; the model ends with the weights that it had then."""
    values, weights = iter([0.2, 0.7, 0.7, 0.5]), []

    def scripted(model: GraphReasoner, *arguments: Any, **options: Any) -> Any:
        weights.append({name: value.clone() for name, value in model.state_dict().items()})
        found = evaluate(model, *arguments, **options)
        return dataclasses.replace(found, measures={"mrr": next(values), "mr": 100.0})

    monkeypatch.setattr(trainer, "evaluate", scripted)
    model = make_model(kin)
    history = ReasoningTrainer(model, GRSNN(4), kin, epochs=4, batch_size=20, keep=keep, progress=False).fit()
    assert history.best_epoch == (2 if keep == "best" else None)
    assert all(torch.equal(value, weights[expected - 1][name]) for name, value in model.state_dict().items())
    assert not model.training


def test_no_validation_triples(make_model: Any, kin: KnowledgeGraph) -> None:
    bare = KnowledgeGraph("bare", kin.entities, kin.relations, kin.facts, kin.train, kin.valid[:0], kin.test)
    history = ReasoningTrainer(make_model(kin), GRSNN(4), bare, **QUICK).fit()
    assert history.best_epoch is None
    assert all(row.valid == {} for row in history.epochs)


def test_validation_of_some_queries(make_model: Any, kin: KnowledgeGraph) -> None:
    model = make_model(kin)
    history = ReasoningTrainer(model, GRSNN(4), kin, valid_queries=2, keep="last", seed=3, **QUICK).fit()
    assert history.epochs[-1].valid == evaluate(model, kin, "valid", limit=2, seed=3).measures


def test_the_seed_decides(make_model: Any, kin: KnowledgeGraph) -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(17 * seed)
        model = make_model(kin)
        ReasoningTrainer(model, GRSNN(4), kin, seed=seed, **QUICK).fit()
        return model.state_dict()

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("delays", ["random", "zero"])
def test_delays_that_are_not_learned_stay(make_model: Any, kin: KnowledgeGraph, delays: str) -> None:
    model = make_model(kin, delays=delays)
    before = model.delay_times(torch.arange(8)).clone()
    ReasoningTrainer(model, GRSNN(4), kin, keep="last", **QUICK).fit()
    assert torch.equal(model.delay_times(torch.arange(8)), before)


@dataclass(frozen=True)
class Exploding(GRSNN):
    """Its third batch has an infinite loss; or its update does harm."""

    harm: bool = False
    calls: list[int] = field(default_factory=list, repr=False)

    def gradients(self, model: GraphReasoner, *arguments: Any, **options: Any) -> StepResult:
        self.calls.append(1)
        result = super().gradients(model, *arguments, **options)
        if len(self.calls) < 3:
            return result
        if not self.harm:
            return result._replace(loss=math.inf)
        assert model.combine.weight.grad is not None
        model.combine.weight.grad.fill_(math.nan)
        return result


@pytest.mark.parametrize("harm, message", [(False, "the loss became inf"), (True, "weights became NaN or infinite")])
def test_divergence(make_model: Any, kin: KnowledgeGraph, tmp_path: Path, harm: bool, message: str) -> None:
    run = ReasoningTrainer(make_model(kin), Exploding(4, harm=harm), kin, run_dir=tmp_path, checkpoint_batches=1, **QUICK)
    with pytest.raises(FloatingPointError, match=f"{message} in epoch 1, update 3.*Lower the learning rate.*last good state"):
        run.fit()


def test_triples_without_a_negative_are_left_out(make_model: Any) -> None:
    """Entity 0 is linked to all: (0, 0, ?) has no wrong answer."""
    triples = np.array([(0, 0, tail) for tail in range(4)] + [(1, 1, 2)])
    data = KnowledgeGraph("star", ("a", "b", "c", "d"), ("to", "likes"), triples, triples, triples[:0], triples[:0])
    method = Noting(2)
    ReasoningTrainer(make_model(data), method, data, epochs=1, progress=False).fit()
    assert [(source.tolist(), query.tolist()) for _, source, query, *_ in method.seen] == [([1], [1])]
    full = KnowledgeGraph("star", ("a", "b", "c", "d"), ("to", "likes"), triples, triples[:4], triples[:0], triples[:0])
    with pytest.raises(ValueError, match="star has 4 training triples, none with a wrong candidate"):
        ReasoningTrainer(make_model(full), method, full)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"accumulate": 0}, ValueError, "accumulate is 0"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch is 0"),
        ({"validate_every": 0}, ValueError, "validate_every is 0"),
        ({"valid_queries": 0}, ValueError, "valid_queries is 0"),
        ({"checkpoint_batches": 0}, ValueError, "checkpoint_batches is 0"),
        ({"epochs": 2.0}, TypeError, "epochs is 2.0"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate is nan"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate is -1.0"),
        ({"keep": "first"}, UnknownNameError, "unknown keep 'first'"),
    ],
)
def test_bad_options_are_refused(
    make_model: Any, kin: KnowledgeGraph, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ReasoningTrainer(make_model(kin), GRSNN(), kin, **options)


def test_what_does_not_fit_is_refused(make_model: Any, kin: KnowledgeGraph, links: KnowledgeGraph) -> None:
    with pytest.raises(ValueError, match=r"kin has 8 relations .* the model has 1"):
        ReasoningTrainer(make_model(links), GRSNN(), kin)
    with pytest.raises(TypeError, match="method is OTTT"):
        ReasoningTrainer(make_model(kin), OTTT(), kin)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model is the class GraphReasoner"):
        ReasoningTrainer(GraphReasoner, GRSNN(), kin)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data is 'umls'"):
        ReasoningTrainer(make_model(kin), GRSNN(), "umls")  # type: ignore[arg-type]
