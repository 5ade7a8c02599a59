"""Graph reasoning with learned delays (GRSNN): accuracy and energy, speed and memory of the engine, large graphs, other sets.

========== ====================================================================================================================
section    what is measured
========== ====================================================================================================================
accuracy   UMLS and Nations, D = 16: learned, random and no delays; the integers on the emulator; energy estimates
engine     one batch through the message passing: compiled, in torch by pairs, and in plain torch edge by edge
large      FB15k-237 and WN18RR as published: one training step, peak memory, time of filtered evaluation
inductive  WN18RR v1 (other entities in the test than in training)
links      Cora: links of a citation graph
========== ====================================================================================================================

Settings are the library's recipes of the data sets. Fresh networks hardly spike on large graphs, and the compiled engine's time
depends on the spikes; so large graphs are also run by "busy" networks, with 4 |W| for W and short delays (spike rates near .2).

    python benchmarks/graph_reasoning.py [--quick] [--section accuracy engine] [--runs FOLDER] [--write]

Training that was broken off goes on where it was, and a finished run is not trained again, if it gets the same folder.
--write replaces the measured sections in benchmarks/results/graph_reasoning.md and keeps the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peers.client import machine

import lava_snnlearn as snn
from lava_snnlearn.data.knowledge_graph import KnowledgeGraph
from lava_snnlearn.fixed_point.event_energy import ADD_PJ, MULTIPLY_ADD_PJ
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner
from lava_snnlearn.fixed_point.reasoner_quantize import quantize_reasoner
from lava_snnlearn.reasoning import ReasoningHistory, ReasoningTrainer, both_queries, evaluate
from lava_snnlearn.reasoning.energy import ReasonerEnergy, reasoner_energy
from lava_snnlearn.reasoning.evaluation import SAMPLED_HITS
from lava_snnlearn.reasoning.settings import ReasoningSettings

RESULTS = Path(__file__).parent / "results" / "graph_reasoning.md"
PROBES = Path(__file__).parent / "peers" / "graph_probes.py"
TINY = {"width": 4, "steps": 4, "epochs": 1, "steps_per_epoch": 2, "valid_queries": 4}
CALIBRATION = 64
"""Validation queries that the headroom of the integers is chosen by."""
BUSY = (4.0, 2.0)
"""Factor of |W|, and shift of the delays: spike rates near .2."""
SAMPLES = (2, 10)
"""Test triples of two evaluations; the time of a query is the difference's, so that what is done once does not count."""
TOLERANCE = 1e-3
"""Largest relative distance of an engine's features and gradient from those edge by edge."""
ACCURACY = (
    *("data", "delays", "epochs", "MRR", "H@1", "H@10", "spike rate", "fixed-point MRR", "SynOps on edges"),
    *("spikes uJ", "NBFNet uJ", "ratio", "training s"),
)
ENGINE = (
    *("data", "edges", "nodes", "D", "batch", "spike rate", "engine", "forward ms", "x", "forward and backward ms", "x"),
    *("peak MB", "formula MB"),
)
LARGE = (
    *("data", "edges", "nodes", "D", "T", "batch", "c", "network", "spike rate", "step s", "peak of the process GB"),
    *("of the step GB", "formula GB", "1000 queries s", "peak with evaluation GB"),
)


@dataclass(frozen=True)
class Section:
    """A table and what is to be said about it."""

    title: str
    note: str
    rows: list[str]


def row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def head(*names: str) -> list[str]:
    return [row(*names), "|" + "---|" * len(names)]


# -------------------------------------------------------------------------------------------------------------------- training


Trained = tuple[ReasoningSettings, Any, snn.networks.GraphReasoner, ReasoningHistory]


def trained(settings: ReasoningSettings, folder: Path) -> Trained:
    """Completed settings, data, network and history; a run that is finished in the folder is only read."""
    data = settings.load()
    settings = settings.completed(data)
    model = settings.model(data)
    trainer = ReasoningTrainer(model, settings.method(), data, progress=False, run_dir=folder, **settings.training)
    history = trainer.resume()
    print(f"{folder.name}: {history.epochs[-1]}", flush=True)
    return settings, data, model, history


def run_name(settings: ReasoningSettings) -> str:
    return f"{settings.data}-{settings.delays}-{settings.delay_grad}-{settings.epochs}"


def integers(model: snn.networks.GraphReasoner, data: KnowledgeGraph) -> FixedReasoner:
    """Of 8-bit weights; headroom by validation queries."""
    asked = both_queries(data, data.valid[:: max(1, len(data.valid) // (CALIBRATION // 2))])
    return quantize_reasoner(model, calibration=(data.graph(), asked.source, asked.query))


def energy(fixed: FixedReasoner, data: KnowledgeGraph) -> ReasonerEnergy:
    """Of the test queries."""
    asked = both_queries(data, data.test)
    counts = emulate_reasoner(fixed, data.graph(), asked.source, asked.query, threads=1).spike_counts
    return reasoner_energy(data.graph(), counts, width=fixed.width, steps=fixed.steps)


def accuracy(quick: bool, runs: Path) -> Section:
    variants = [
        {"epochs": 4},
        *({"epochs": 1} | one for one in ({}, {"delay_grad": "trace"}, {"delays": "random"}, {"delays": "zero"})),
    ]
    cases = [{"data": "umls"} | one for one in variants] + [{"data": "nations", "epochs": 4}]
    rows = head(*ACCURACY)
    for case in [{"data": "nations"} | TINY] if quick else cases:
        settings, data, model, history = trained(ReasoningSettings(**case), runs / run_name(ReasoningSettings(**case)))
        found, fixed = evaluate(model, data), integers(model, data)
        on_chip, cost = evaluate(fixed, data).measures["mrr"], energy(fixed, data)
        label = {"query": f"learned, {settings.delay_grad} gradient"}.get(settings.delays, settings.delays)
        measures = [f"{found.measures[name]:.3f}" for name in ("mrr", "hits@1", "hits@10")]
        costs = [f"{cost.edge_operations:.3g}", f"{cost.spiking_pj / 1e6:.3f}", f"{cost.nbfnet_pj / 1e6:.2f}"]
        spent = sum(epoch.seconds for epoch in history.epochs)
        rows.append(
            row(data.name, label, settings.epochs, *measures, f"{found.spike_rate:.3f}", f"{on_chip:.3f}", *costs,
                f"{cost.ratio:.1f}", f"{spent:.0f}")
        )  # fmt: skip
    note = (
        "Filtered, head and tail queries of all test triples; the best epoch on the validation triples. Fixed point: the exact "
        "mapping in 8-bit weights on the emulator. SynOps and energy are those of a test query: spikes x edges that they take "
        f"(the exact mapping makes D operations of each); E D (T - 1) rho x {ADD_PJ} pJ an addition against NBFNet's E D x 6 "
        f"layers x {MULTIPLY_ADD_PJ} pJ a multiplication with addition, 32 bits, 45 nm (Horowitz, ISSCC 2014). These are "
        "estimates for comparing methods, no measurement, and leave memory and routing out."
    )
    return Section("UMLS and Nations, D = 16", note, rows)


def inductive(quick: bool, runs: Path) -> Section:
    settings, _, model, history = _of_one({"data": "wn18rr_v1", "epochs": 3, "scale": 3.0, "validate_every": 1}, quick, runs)
    found = evaluate(model, settings.load())
    rows = head("data", "epochs", "MRR", "H@1", "H@10", "H@10 of 50", "spike rate", "training s", "evaluation s", "queries")
    measures = [f"{found.measures[name]:.3f}" for name in ("mrr", "hits@1", "hits@10", SAMPLED_HITS)]
    rows.append(_trained_row(settings, history, found, measures))
    note = (
        f"{_settings_line(settings)}; c = 1 is published, and learns more slowly. "
        "Tested on the facts of the test graph, filtered, head and tail queries of all test "
        'triples; "H@10 of 50" is expected among 50 sampled negatives. NBFNet has .948 there (Zhu et al., 2021; 20 epochs).'
    )
    return Section("WN18RR v1, inductive", note, rows)


def links(quick: bool, runs: Path) -> Section:
    case = {"data": "cora", "epochs": 6, "learning_rate": 5e-3, "scale": 3.0, "max_delay": 2, "validate_every": 1}
    settings, data, model, history = _of_one(case, quick, runs)
    found = evaluate(model, data)
    rows = head("data", "epochs", "AUROC", "AP", "spike rate", "training s", "evaluation s", "pairs")
    rows.append(_trained_row(settings, history, found, [f"{found.measures[name]:.3f}" for name in ("auroc", "ap")]))
    note = (
        f"{_settings_line(settings)}. Links 85 / 5 / 10 %, as many pairs without a link in the test. NBFNet has AUROC .956, AP "
        ".962 (Zhu et al., 2021; 20 epochs)."
    )
    return Section("Cora, links", note, rows)


def _of_one(case: dict[str, Any], quick: bool, runs: Path) -> Trained:
    settings = ReasoningSettings(**case | (TINY if quick else {}))
    return trained(settings, runs / run_name(settings))


def _trained_row(settings: ReasoningSettings, history: ReasoningHistory, found: Any, measures: list[str]) -> str:
    spent = sum(epoch.seconds for epoch in history.epochs)
    times = f"{spent:.0f}", f"{found.seconds:.0f}"
    return row(settings.data, settings.epochs, *measures, f"{found.spike_rate:.3f}", *times, found.queries)


def _settings_line(settings: ReasoningSettings) -> str:
    options = dict(settings.options)
    return (
        f"D = {settings.width}, T = {settings.steps}, delays up to {settings.max_delay}, "
        f"c = {settings.scale:g}, batch {settings.batch_size}, Adam "
        f"{settings.learning_rate:g}, {options['negatives']} negatives, removal {options['remove']!r}, seed {settings.seed}"
    )


# ---------------------------------------------------------------------------------------------------- speed and memory, each in
# a process of its own


def probe(what: str, **options: Any) -> dict[str, float]:
    """What a fresh process measures."""
    command = [sys.executable, str(PROBES), json.dumps({"what": what} | options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{what} {options} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(what, options, found, flush=True)
    return found


ENGINES = {"edges": "torch, edge by edge", "pairs": "torch, pairs and sparse products", "compiled": "compiled"}


def engine(quick: bool, runs: Path) -> Section:
    cases = [("umls", 16, 0.3, 16, (1.0, 0.0), 3), ("wn18rr", 32, 1.0, 2, BUSY, 1)]
    rows = head(*ENGINE)
    for data, width, scale, batch, stirred, rounds in [("nations", 4, 0.1, 2, BUSY, 1)] if quick else cases:
        options = {"data": data, "width": width, "scale": scale, "batch": batch, "stirred": stirred}
        found = {
            name: probe("engine", engine=name, rounds=rounds if name == "edges" else max(3, rounds), **options)
            for name in ENGINES
        }
        base = found["edges"]
        for name, label in ENGINES.items():
            mine = found[name]
            for value in ("features", "gradient"):
                assert abs(mine[value] / base[value] - 1) < TOLERANCE, f"{name}: {value} {mine[value]}, by edges {base[value]}"
            size = [f"{mine[key]:.0f}" for key in ("edges", "nodes")]
            times = [part for key in ("forward_ms", "both_ms") for part in (f"{mine[key]:.1f}", f"{base[key] / mine[key]:.0f}")]
            formula = f"{mine['formula'] / 1e6:.1f}" if name == "compiled" else ""
            rows.append(
                row(data, *size, width, batch, f"{mine['rate']:.2f}", label, *times, f"{mine['peak'] / 1e6:.1f}", formula)
            )
    note = (
        "T = 10, test queries; |W| for W, and on WN18RR the busy network. Time of the CPU, one thread, medians, of the message "
        "passing alone, without MLP and optimiser. x: times faster than edge by edge; all engines give the same features and "
        "gradients. Peak: resident memory of the first forward and backward above what was there before, in a fresh process. "
        "Formula: `memory_estimate` "
        "with b = 4 bytes, w = ceil(D / 64), S = min(T, max_delay + 1 + hop), n = 1 thread: B T N (b D + 8 w) + 2 B N D b + "
        "B R (4 b D + D + 8 w (max_delay + 1)) + 4 (E + 4 P) + n N D b (6 + S)."
    )
    return Section("The engine", note, rows)


def large(quick: bool, runs: Path) -> Section:
    rows = head(*LARGE)
    options = {"width": 4, "steps": 4} if quick else {}
    for data in ["nations"] if quick else ["fb15k-237", "wn18rr"]:
        for label, stirred in (("fresh", None), ("busy", BUSY)):
            found = probe("large", data=data, options=options, samples=(1, 3) if quick else SAMPLES, stirred=stirred)
            numbers = [f"{found[key]:g}" for key in ("edges", "nodes", "width", "steps", "batch", "scale")]
            sizes = [f"{found[key] / 1e9:.2f}" for key in ("peak", "above", "formula")]
            times = [f"{max(0.0, 1e3 * found['query_s']):.0f}", f"{found['peak_evaluation'] / 1e9:.2f}"]
            rows.append(row(data, *numbers, label, f"{found['rate']:.4f}", f"{found['step_s']:.1f}", *sizes, *times))
    queries = 2 * (SAMPLES[1] - SAMPLES[0])
    note = (
        "Settings as published; fresh: initial weights; busy: 4 |W| for W and short delays, for spike rates near .2. A "
        "step is one batch: negatives, graph without the batch's edges, forward, backward, Adam (an update takes 6 "
        "batches of FB15k-237, 4 of WN18RR). Time of the CPU, one thread. Peak: resident memory, Python and data included; it "
        "must stay below 8 GB. Filtered evaluation, head and tail queries over all entities: not all were asked, "
        f"the time is that of {queries} queries, scaled to 1000."
    )
    return Section("Large graphs: one training step, and evaluation", note, rows)


SECTIONS: dict[str, Callable[[bool, Path], Section]] = {
    "accuracy": accuracy,
    "engine": engine,
    "large": large,
    "inductive": inductive,
    "links": links,
}


# -------------------------------------------------------------------------------------------------------------------- the file


def text(name: str, section: Section) -> str:
    command = f"Command: `python benchmarks/graph_reasoning.py --section {name} --write`"
    return "\n\n".join([f"## {section.title}", command, section.note, "\n".join(section.rows)]) + "\n"


def keep(name: str, written: str) -> None:
    """Write a section; the others stay as they were measured."""
    start = "# Graph reasoning with learned delays (GRSNN)"
    before = RESULTS.read_text().split("\n## ")[1:] if RESULTS.exists() else []
    parts = {next(key for key in SECTIONS if f"--section {key} " in part): f"## {part.rstrip()}\n" for part in before}
    parts[name] = written
    opening = (
        f"{start}\n\n{machine()}; torch {torch.__version__}; one thread. Seconds of training are wall time on shared cores.\n"
    )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join([opening, *(parts[key] for key in SECTIONS if key in parts)]))


def main() -> None:
    """Measure and print; --write keeps the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: tiny networks, two updates")
    parser.add_argument("--section", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="default: all")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/graph_reasoning"), help="folder of the runs, to go on after a break"
    )
    parser.add_argument("--write", action="store_true", help="keep the tables in benchmarks/results/graph_reasoning.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.section:
            written = text(name, SECTIONS[name](options.quick, Path(temporary) if options.quick else options.runs))
            print(written, flush=True)
            if options.write:
                keep(name, written)


if __name__ == "__main__":
    main()
