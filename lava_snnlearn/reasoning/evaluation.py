"""evaluate(): how well a graph reasoner answers the queries of a split."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lava_snnlearn.checks import at_least, instance_of, known_name
from lava_snnlearn.data.knowledge_graph import SPLITS, InductiveTask, KnowledgeGraph
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.methods.grsnn import answers
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.reasoning.answers import KnownAnswers, both_queries
from lava_snnlearn.reasoning.deployed import DeployedReasoner
from lava_snnlearn.reasoning.ranking import filtered_candidates, filtered_ranks, link_measures, rank_measures, sampled_hits

Network = GraphReasoner | DeployedReasoner
SAMPLED_HITS = "hits@10 of 50"
# Units in the last place; features differ by far more, if at all.
_TIE = 64


@dataclass(frozen=True)
class Evaluation:
    """How a split was answered.

    ``measures``: by name. Of a knowledge graph "mrr", "mr", "hits@1", "hits@3", "hits@10" (filtered, head and tail queries
    averaged), of an inductive task also "hits@10 of 50", expected among 50 sampled negatives; of a homogeneous graph "auroc"
    and "ap". The first one decides which epoch is best. ``spike_rate``: spikes per neuron and step. ``queries``: how many were
    asked. ``seconds``: wall time. ``triples``: int64 [n, 3], those asked. ``ranks``: int64 [2 n], those of the tail queries,
    then of the head queries; None of a homogeneous graph. The last two take no part in comparisons.
    """

    measures: dict[str, float]
    spike_rate: float
    queries: int
    seconds: float
    triples: NDArray[np.int64] = field(compare=False, repr=False)
    ranks: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)


def evaluate(
    model: GraphReasoner | FixedReasoner,
    data: KnowledgeGraph | InductiveTask,
    split: str = "test",
    *,
    batch_size: int = 32,
    limit: int | None = None,
    seed: int = 0,
) -> Evaluation:
    """Answer the queries of a split over all facts of the graph. Candidates whose scores equal the answer's, up to rounding,
    count as better ones.

    Args:
        model: the network; used in eval mode, and left in the mode it was in. Or its integers, which the emulator runs.
        data: an inductive task's "test" is asked on its test graph, the other splits on the one for training.
        split: "train", "valid" or "test". Filtered out are the known answers of all splits.
        batch_size: queries at once; more take more memory.
        limit: ask only so many triples, drawn by the seed (None: all). Of homogeneous graphs all are asked.

    Raises:
        UnknownNameError: another split. ValueError: an empty split; a model and data that do not fit; numbers below 1.
        TypeError: a model or data of another type.
    """
    graph = check_model(model, data, split)
    triples: NDArray[np.int64] = getattr(graph, split)
    if len(triples) == 0:
        raise ValueError(f"{graph.name} has no {split} triples to ask")
    at_least(1, "batch_size", batch_size)
    if limit is not None and at_least(1, "limit", limit) < len(triples) and not graph.homogeneous:
        triples = triples[np.sort(np.random.default_rng(seed).choice(len(triples), limit, replace=False))]
    network = _network(model)
    begin, training = time.perf_counter(), network.training
    network.eval()
    try:
        with torch.inference_mode():
            if graph.homogeneous:
                ranks = None
                measures, rate, count = _link_prediction(network, graph, split, batch_size)
            else:
                measures, rate, ranks = _ranking(network, graph, triples, batch_size, isinstance(data, InductiveTask))
                count = len(ranks)
    finally:
        network.train(training)
    return Evaluation(measures, rate, count, time.perf_counter() - begin, triples, ranks)


def _network(model: GraphReasoner | FixedReasoner) -> Network:
    return DeployedReasoner(model) if isinstance(model, FixedReasoner) else model


def check_model(model: GraphReasoner | FixedReasoner, data: KnowledgeGraph | InductiveTask, split: str) -> KnowledgeGraph:
    """The graph of a split, which the model must fit.

    Raises:
        UnknownNameError: another split. ValueError: other relations than the model has. TypeError: another type.
    """
    instance_of("model", model, (GraphReasoner, FixedReasoner), "build a snn.networks.GraphReasoner(data.query_relations)")
    instance_of("data", data, (KnowledgeGraph, InductiveTask), 'pass a graph, e.g. snn.data.load_graph("umls")')
    known_name("split", split, SPLITS)
    graph = data if isinstance(data, KnowledgeGraph) else data.test if split == "test" else data.train
    if model.relations != graph.query_relations or model.homogeneous != graph.homogeneous:
        kind = {True: "homogeneous", False: "not homogeneous"}
        raise ValueError(
            f"{graph.name} has {graph.query_relations} relations of queries and is {kind[graph.homogeneous]}, the model has "
            f"{model.relations} and is {kind[model.homogeneous]}; build it with GraphReasoner({graph.query_relations}, "
            f"homogeneous={graph.homogeneous})"
        )
    return graph


def _ranking(
    model: Network, graph: KnowledgeGraph, triples: NDArray[np.int64], batch_size: int, inductive: bool
) -> tuple[dict[str, float], float, NDArray[np.int64]]:
    """Measures of filtered ranks, spike rate, and the ranks. Queries that occur in several triples are run once."""
    asked, known = both_queries(graph, triples), KnownAnswers(graph)
    distinct, of_triple = np.unique(np.stack([asked.query, asked.source], 1), axis=0, return_inverse=True)
    of_triple = of_triple.reshape(-1)
    order = np.argsort(of_triple, kind="stable")
    ranks, candidates = np.empty_like(asked.answer), np.empty_like(asked.answer)
    spikes, neurons = 0, graph.graph().nodes * model.width * model.rule.steps
    for rows in _parts(len(distinct), batch_size):
        query, source = (torch.from_numpy(column.copy()) for column in distinct[rows].T)
        response = model.run(graph.graph(), source, query)
        spikes += response.spike_count
        mine = order[np.searchsorted(of_triple[order], rows.start) : np.searchsorted(of_triple[order], rows.stop)]
        scores = model.scores(response.features, query)[torch.from_numpy(of_triple[mine] - rows.start)]
        hidden = known.mask(asked.source[mine], asked.query[mine])
        ranks[mine] = filtered_ranks(_with_ties(scores, asked.answer[mine]), asked.answer[mine], hidden)
        candidates[mine] = filtered_candidates(asked.answer[mine], hidden)
    measures = rank_measures(ranks)
    measures = {"mrr": measures.pop("mrr")} | measures
    if inductive:
        measures[SAMPLED_HITS] = sampled_hits(ranks, candidates)
    return measures, spikes / (len(distinct) * neurons), ranks


def _with_ties(scores: Tensor, answer: NDArray[np.int64]) -> Tensor:
    """Scores [B, N] in which those that differ from the answer's by rounding alone are equal to it.

    Entities that no spike reached, and twins, have the same features, but not always the same bits of the score: these depend
    on an entity's place in the matrix product. A tie must not be won by chance.
    """
    true = scores.gather(1, torch.from_numpy(answer).to(scores.device)[:, None])
    rounding = _TIE * torch.finfo(scores.dtype).eps * true.abs().clamp(min=1)
    return torch.where((scores - true).abs() <= rounding, true, scores)


def _link_prediction(model: Network, graph: KnowledgeGraph, split: str, batch_size: int) -> tuple[dict[str, float], float, int]:
    """AUROC and AP of links against pairs without one."""
    negatives = {"valid": graph.valid_negatives, "test": graph.test_negatives}.get(split)
    if negatives is None:
        raise ValueError(
            f"{graph.name} has no pairs without a link for {split!r}; link_prediction() draws them for valid and test"
        )
    links = getattr(graph, split)[:, ::2]
    pairs = torch.from_numpy(np.concatenate([links, negatives]))
    scores, rates = [], []
    for rows in _parts(len(pairs), batch_size):
        source, target = pairs[rows].unbind(1)
        found, rate = answers(model, graph.graph(), source, torch.zeros_like(source), target.unsqueeze(1))
        scores.append(found[:, 0].cpu())
        rates.append(rate)
    joined = torch.cat(scores)
    return link_measures(joined[: len(links)], joined[len(links) :]), float(np.mean(rates)), len(pairs)


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, count)) for first in range(0, count, size))
