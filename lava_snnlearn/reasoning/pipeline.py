"""A run of a graph reasoner as one function: train, quantize, evaluate both, verify on Lava, explain, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lava_snnlearn.checks import at_least
from lava_snnlearn.data.knowledge import GRAPHS
from lava_snnlearn.data.knowledge_graph import InductiveTask, KnowledgeGraph
from lava_snnlearn.fixed_point.quantize import quantize
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner
from lava_snnlearn.fixed_point.reasoner_quantize import Calibration
from lava_snnlearn.fixed_point.reasoner_trace import ReasonerTrace
from lava_snnlearn.methods.grsnn import RECIPES
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.pipeline import Stages
from lava_snnlearn.reasoning.energy import ReasonerEnergy, reasoner_energy
from lava_snnlearn.reasoning.evaluation import Evaluation, evaluate
from lava_snnlearn.reasoning.explanation import Explanation, explain
from lava_snnlearn.reasoning.history import ReasoningHistory
from lava_snnlearn.reasoning.proof import Proof, prove, spread_queries
from lava_snnlearn.reasoning.settings import ReasoningSettings
from lava_snnlearn.reasoning.trainer import ReasoningTrainer

REASONER = "reasoner.h5"
OWN_RECIPES = ("family", "nations", "umls")
"""Data whose recipe is this library's, not published."""
CALIBRATION = 64
"""Facts that are asked for to find the ranges of the integers."""
COUNTED = 64
"""Test queries whose spikes are counted."""
NUMBERS_PICTURED = 1 << 27
"""Spikes (bytes) that a picture may be made of."""
EXPLAINED, _TRIED = 3, 12
"""Test queries that are explained, and how many are tried for that."""


@dataclass(frozen=True)
class Settings(ReasoningSettings):
    """What to run; None takes the recipe of the data set.

    Beyond :class:`~lava_snnlearn.reasoning.settings.ReasoningSettings`: ``hop`` None is 1, the published timing (mapping
    "exact", D^2 synapses an edge), for data with published recipes, and 2 for all others (mapping "staged", D synapses an edge,
    which fits the chip sooner). ``weight_bits``: 2..8 bits a synapse. ``verify_samples``: test queries that Lava answers.
    ``test_triples``: ask only so many test triples, drawn by the seed; None: all.

    Raises:
        As ReasoningSettings; ValueError: a variant that no chip runs.
    """

    weight_bits: int = 8
    verify_samples: int = 4
    test_triples: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= at_least(0, "weight_bits", self.weight_bits) <= 8:
            raise ValueError(f"weight_bits is {self.weight_bits}; Loihi holds 2 to 8 bits a weight")
        at_least(1, "verify_samples", self.verify_samples)
        if self.test_triples is not None:
            at_least(1, "test_triples", self.test_triples)
        if self.variant == "plus_full":
            raise ValueError(
                "variant 'plus_full' is not event-driven and does not run on the chip; give plus, or train it with a "
                "ReasoningTrainer in Python"
            )
        if self.hop is not None and at_least(1, "hop", self.hop) > 2:
            raise ValueError(f"hop is {self.hop}; give 1 (mapping exact) or 2 (mapping staged)")

    @property
    def title(self) -> str:
        """Name of the data, of a path its last part."""
        return self.data if self.data in GRAPHS else Path(self.data).resolve().name

    def completed(self, data: KnowledgeGraph | InductiveTask) -> Settings:
        """As of ReasoningSettings; a path becomes an absolute one, so that it can be found again."""
        published = self.data in RECIPES and self.data not in OWN_RECIPES
        place = self.data if self.data in GRAPHS else str(Path(self.data).resolve())
        hop = (1 if published else 2) if self.hop is None else self.hop
        return ReasoningSettings.completed(dataclasses.replace(self, data=place, hop=hop), data)


@dataclass(frozen=True)
class Summary:
    """What a run gave.

    Attributes:
        folder, history, model, reasoner: where its files are, its epochs, the network, and its integers.
        real, fixed: how the test queries were answered by both.
        proof: some of them on Lava.
        trace: of the emulator, some test queries. spikes: of the first of them, uint8 [T, B, N, D].
        energy: estimated from ``trace``.
        explanations: of test queries that were answered well.
        seconds: of each stage.
    """

    folder: Path
    history: ReasoningHistory
    model: GraphReasoner
    reasoner: FixedReasoner
    real: Evaluation
    fixed: Evaluation
    proof: Proof
    trace: ReasonerTrace
    spikes: np.ndarray
    energy: ReasonerEnergy
    explanations: tuple[Explanation, ...]
    seconds: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether everything compared was equal."""
        return self.proof.report.ok

    @property
    def same_ranks(self) -> float | None:
        """Share of test queries that have the same rank in both; None of a homogeneous graph, which has none."""
        if self.real.ranks is None or self.fixed.ranks is None:
            return None
        return float((self.real.ranks == self.fixed.ranks).mean())

    def rows(self) -> list[list[str]]:
        """The measures of the test queries, as text cells: name, float, integers."""
        rows = [[name, f"{value:.4f}", f"{self.fixed.measures[name]:.4f}"] for name, value in self.real.measures.items()]
        return [*rows, ["spikes per neuron and step", f"{self.real.spike_rate:.4f}", f"{self.fixed.spike_rate:.4f}"]]


def run(
    settings: Settings, folder: Path, *, resume: bool = False, overwrite: bool = False, tell: Callable[[str], None] = print
) -> Summary:
    """Train, evaluate, quantize, evaluate the integers, verify, explain and report into ``folder``.

    Args:
        settings: what to run.
        folder: gets config.json, metrics.csv, checkpoint.h5, weights.h5, reasoner.h5, summary.json, report.html and PNGs.
        resume: continue an earlier run in this folder; overwrite: start anew there.
        tell: called with a line of text at each stage.

    Raises:
        ValueError: data without test triples. FileExistsError, OSError, ValueError, LavaRunError: as in ReasoningTrainer,
            quantize and verify_reasoner.
    """
    from lava_snnlearn.reasoning.report import write

    stages = Stages(tell)
    torch.set_num_threads(settings.threads)
    data = settings.load()
    settings = settings.completed(data)
    graph = asked_graph(data)
    model = settings.model(data)
    trainer = ReasoningTrainer(model, settings.method(), data, run_dir=folder, **settings.training)
    stages.done("load", f"{settings.method()}\n{model.extra_repr()}\n{described(data)}")
    history = trainer.resume() if resume else trainer.fit(overwrite=overwrite)
    ask = partial(evaluate, data=data, limit=settings.test_triples, seed=settings.seed)
    real = ask(model)
    stages.done("train", f"trained {settings.epochs} epochs: test {told(real)} (float)")
    reasoner = quantize(model, weight_bits=settings.weight_bits, calibration=_typical(graph, settings.seed))
    reasoner.save(folder / REASONER)
    stages.done("quantize", f"quantized to {settings.weight_bits} bits: {folder / REASONER}")
    fixed = ask(reasoner)
    stages.done("emulate", f"emulated: test {told(fixed)} (fixed point)")
    proof = prove(reasoner, graph.graph(), spread_queries(graph, real.triples, settings.verify_samples))
    stages.done("verify", str(proof))
    trace, spikes = _counted(reasoner, graph, real)
    energy = reasoner_energy(
        graph.graph(),
        trace.spike_counts,
        width=reasoner.width,
        steps=reasoner.steps,
        mapping=reasoner.mapping,
        aggregates=trace.aggregates,
    )
    explanations = tuple(_explained(model, graph, real))
    stages.done("explain", str(energy))
    summary = Summary(folder, history, model, reasoner, real, fixed, proof, trace, spikes, energy, explanations, stages.seconds)
    write(settings, data, summary)
    stages.done("report", f"report: {folder / 'report.html'}")
    return summary


def asked_graph(data: KnowledgeGraph | InductiveTask) -> KnowledgeGraph:
    """The graph whose test triples are asked for.

    Raises:
        ValueError: it has none.
    """
    graph = data.test if isinstance(data, InductiveTask) else data
    if not len(graph.test):
        raise ValueError(
            f"{graph.name} has no test triples to ask; beside train.txt give test.txt, e.g. a tenth of the triples, and "
            "valid.txt to choose the best epoch by"
        )
    return graph


def described(data: KnowledgeGraph | InductiveTask) -> str:
    """A line about each graph of the data."""
    graphs = (data.train, data.test) if isinstance(data, InductiveTask) else (data,)
    return "\n".join(
        f"{graph.name}: {len(graph.entities)} entities, {len(graph.relations)} relations, {len(graph.facts)} facts, "
        f"{len(graph.train)} training, {len(graph.valid)} validation, {len(graph.test)} test triples"
        for graph in graphs
    )


def told(found: Evaluation) -> str:
    """The measures on one line, and what they cost."""
    measures = ", ".join(f"{name} {value:.4f}" for name, value in found.measures.items())
    return f"{measures}; {found.queries} queries in {found.seconds:.3g} s, spike rate {found.spike_rate:.3f}"


def _typical(graph: KnowledgeGraph, seed: int) -> Calibration:
    """Queries that facts answer: what is known where the chip is used."""
    facts = graph.facts if len(graph.facts) else graph.test
    chosen = np.random.default_rng(seed).choice(len(facts), min(CALIBRATION, len(facts)), replace=False)
    queries = spread_queries(graph, facts[chosen], 2 * CALIBRATION)
    return graph.graph(), queries.source, queries.query


def _counted(reasoner: FixedReasoner, graph: KnowledgeGraph, asked: Evaluation) -> tuple[ReasonerTrace, np.ndarray]:
    """The emulator's trace of some test queries, and the spikes of the first of them."""
    queries = spread_queries(graph, asked.triples, COUNTED)
    trace = emulate_reasoner(reasoner, graph.graph(), queries.source, queries.query)
    size = len(graph.entities) * reasoner.width * reasoner.steps
    few = max(1, min(len(queries.source), NUMBERS_PICTURED // size))
    shown = emulate_reasoner(reasoner, graph.graph(), queries.source[:few], queries.query[:few], record="spikes")
    assert shown.spikes is not None
    return trace, shown.spikes


def _explained(model: GraphReasoner, graph: KnowledgeGraph, asked: Evaluation) -> Iterator[Explanation]:
    """Explanations of tail queries with rank 1 (links with a score above 0), each of another relation as far as there are."""
    triples = asked.triples
    if asked.ranks is not None:
        triples = triples[asked.ranks[: len(triples)] == 1]
    if not graph.homogeneous:
        _, first = np.unique(triples[:, 1], return_index=True)
        others = np.setdiff1d(np.arange(len(triples)), first)
        triples = triples[np.concatenate([np.sort(first), others])]
    found = 0
    for head, relation, tail in triples[:_TRIED].tolist():
        explanation = explain(model, graph, head, relation, tail, hide_fact=True)
        right = explanation.rank == 1 or (explanation.rank is None and (explanation.score or 0) > 0)
        if right and explanation.paths:
            yield explanation
            found += 1
        if found == EXPLAINED:
            return
