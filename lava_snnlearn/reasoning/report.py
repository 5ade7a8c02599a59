"""summary.json and report.html of a run of a graph reasoner."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.citations import citation
from lava_snnlearn.data.knowledge_graph import InductiveTask, KnowledgeGraph
from lava_snnlearn.files import write_text
from lava_snnlearn.fixed_point.event_energy import ADD_PJ, MULTIPLY_ADD_PJ
from lava_snnlearn.fixed_point.reasoner import MAPPINGS
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.placement.reasoner import ReasonerShape, partition, reasoner_costs
from lava_snnlearn.report import Figures, plot_explanation, verdict, write_report
from lava_snnlearn.report.reasoning_curves import delay_figure, rank_curves, reasoning_curves, wave_figure
from lava_snnlearn.run_report import verified

if TYPE_CHECKING:
    from lava_snnlearn.reasoning.pipeline import Settings, Summary

_QUERIES = 64
"""Relations of queries whose delays are computed at a time."""
_RELATIONS = 20
"""Relations that have a row of their own."""
_ESTIMATE = (
    f"estimate from 45 nm constants: {ADD_PJ} pJ an addition, {MULTIPLY_ADD_PJ} pJ a multiplication with addition "
    "(M. Horowitz, ISSCC 2014)"
)
_LEFT_OUT = (
    "Spikes: edges x width x (T - 1) x spike rate additions. NBFNet (Zhu et al. 2021): edges x width x 6 layers, one\n"
    "multiplication with addition each. Constants: 32 bits, 45 nm (M. Horowitz, ISSCC 2014). Counted, not measured;\n"
    "memory and routing are left out, and no chip's figures are in it."
)


def write(settings: Settings, data: KnowledgeGraph | InductiveTask, summary: Summary) -> None:
    """Write summary.json, report.html and its PNGs into the folder of ``summary``.

    Args:
        settings: what was run, completed. data: on what. summary: what it gave.
    """
    graph = data.test if isinstance(data, InductiveTask) else data
    placed = Placements(summary, graph)
    shown = {"method": "grsnn"} | dataclasses.asdict(settings) | {"options": dict(settings.options)}
    content = {"settings": shown, "results": _results(summary, placed)}
    write_text(summary.folder / "summary.json", json.dumps(content, indent=2) + "\n")
    for stale in summary.folder.glob("explanation_*.png"):
        stale.unlink()
    tables = {
        "Result": [["test queries", "float (torch)", "fixed point (emulator)"], *summary.rows(), *_agreement(summary)],
        "Relations": _relation_rows(summary, graph),
        "Activity and energy of a query": _energy_rows(summary),
        "On the chip": placed.rows,
    }
    write_report(
        summary.folder,
        title=f"GRSNN on {data.name}",
        verdict=" ".join(filter(None, [verdict(summary.proof.report).replace("samples", "queries"), summary.proof.part])),
        ok=summary.ok,
        tables={heading: rows for heading, rows in tables.items() if len(rows) > 1},
        figures=_figures(settings, data, graph, summary),
        text={
            "Why": "\n\n".join(map(str, summary.explanations)) or "No test query was both answered well and reached by spikes.",
            "Verification": str(summary.proof),
            "Energy": f"{summary.energy}\n{_LEFT_OUT}",
            "The reasoner": str(summary.reasoner),
            "Resources": "\n\n".join(placed.text),
            "Settings": "\n".join(f"{key} = {value}" for key, value in shown.items()),
            "Please cite": citation("grsnn"),
        },
    )


class Placements:
    """What the graph takes on Loihi in both mappings.

    rows: a table. text: the figures of each, or why it does not fit. fits: cores of each mapping, None if it does not fit.
    """

    def __init__(self, summary: Summary, graph: KnowledgeGraph) -> None:
        own = ReasonerShape.of(summary.reasoner)
        self.rows = [["mapping", "neurons", "synapses", "synaptic memory", "largest fan-in", "on Loihi 1"]]
        self.text: list[str] = []
        self.fits: dict[str, int | None] = {}
        for mapping in sorted(MAPPINGS, key=lambda mapping: mapping != own.mapping):
            shape = dataclasses.replace(own, mapping=mapping)
            costs = reasoner_costs(shape, graph.graph())
            try:
                dealt = partition(shape, graph.graph())
                self.fits[mapping], told = dealt.cores, str(dealt)
                place = f"{dealt.cores} cores of {dealt.chips} chip{'s' * (dealt.chips > 1)}"
            except LimitError as error:
                self.fits[mapping], told, place = None, f"does not fit: {error}", "does not fit, see below"
            self.rows.append(
                [
                    f"{mapping} (this run)" if mapping == own.mapping else f"{mapping} (train with hop={_hop(mapping)})",
                    f"{costs.neurons:,}",
                    f"{costs.synapses:,}",
                    f"{costs.synaptic_bits / 8000:,.0f} kB",
                    f"{costs.fan_in:,}",
                    place,
                ]
            )
            self.text.append(f"{mapping}\n{costs}\n{told}")


def _hop(mapping: str) -> int:
    return MAPPINGS.index(mapping) + 1


def _agreement(summary: Summary) -> list[list[str]]:
    same = summary.same_ranks
    return [] if same is None else [["same rank in both", "", f"{same:.4f}"]]


def _energy_rows(summary: Summary) -> list[list[str]]:
    energy, trace = summary.energy, summary.trace
    return [
        [f"mean of {len(trace.spike_counts)} test queries, in integers", ""],
        ["spikes per neuron and step", f"{energy.rate:.4f}"],
        ["spikes", f"{trace.spike_counts.sum() / len(trace.spike_counts):,.0f}"],
        ["synaptic operations (SynOps) on edges", f"{energy.edge_operations:,.0f}"],
        ["synaptic operations in nodes", f"{energy.node_operations:,.0f}"],
        ["energy of the spikes' additions (estimate)", f"{energy.spiking_pj / 1e6:.4g} uJ"],
        ["energy of all synaptic operations (estimate)", f"{energy.counted_pj / 1e6:.4g} uJ"],
        ["NBFNet of the same width (estimate)", f"{energy.nbfnet_pj / 1e6:.4g} uJ, {energy.ratio:.3g} times the spikes'"],
        ["membranes clipped, currents wrapped at 24 bits", f"{trace.saturated}, {trace.wrapped}"],
    ]


def _relation_rows(summary: Summary, graph: KnowledgeGraph) -> list[list[str]]:
    """Mean reciprocal ranks of the most frequent relations, the hardest first; nothing for homogeneous graphs."""
    real, fixed = summary.real, summary.fixed
    head = ["relation", "test triples", "MRR of tails", "MRR of heads", "both in fixed point"]
    if real.ranks is None or fixed.ranks is None:
        return [head]
    relation = real.triples[:, 1]
    names, counts = np.unique(relation, return_counts=True)
    rows = []
    for number in names[np.argsort(-counts, kind="stable")][:_RELATIONS]:
        mine = np.concatenate([relation == number] * 2)
        tails, heads = ((1 / part).mean() for part in np.split(real.ranks[mine], 2))
        rows.append((tails + heads, int(number), tails, heads, (1 / fixed.ranks[mine]).mean()))
    return [
        head,
        *(
            [graph.relation_name(number), str(counts[names == number][0]), f"{tails:.3f}", f"{heads:.3f}", f"{both:.3f}"]
            for _, number, tails, heads, both in sorted(rows)
        ),
    ]


def _results(summary: Summary, placed: Placements) -> dict[str, Any]:
    """What summary.json tells."""
    energy, proof, trace = summary.energy, summary.proof, summary.trace
    return {
        "test": summary.real.measures,
        "test_fixed": summary.fixed.measures,
        "queries": summary.real.queries,
        "same_ranks": summary.same_ranks,
        "spike_rate": summary.real.spike_rate,
        "spike_rate_fixed": summary.fixed.spike_rate,
        "best_epoch": summary.history.best_epoch,
        "saturated": trace.saturated,
        "wrapped": trace.wrapped,
        "synops": {"edges": energy.edge_operations, "nodes": energy.node_operations},
        "energy_estimate_uJ": {
            "constants": _ESTIMATE,
            "spikes": energy.spiking_pj / 1e6,
            "synops": energy.counted_pj / 1e6,
            "nbfnet": energy.nbfnet_pj / 1e6,
            "ratio": energy.ratio,
        },
        "mapping": summary.reasoner.mapping,
        "loihi1_cores": placed.fits,
        **verified(proof.report),
        "verified_nodes": proof.nodes,
        "verified_edges": proof.edges,
        "whole_graph": proof.whole,
        "explanations": [str(explanation) for explanation in summary.explanations],
        "seconds": summary.seconds,
    }


def _figures(settings: Settings, data: KnowledgeGraph | InductiveTask, graph: KnowledgeGraph, summary: Summary) -> Figures:
    kept = (
        "the weights of the epoch best on the validation queries are kept" if settings.keep == "best" else "the last are kept"
    )
    figures: Figures = {"Curves": (reasoning_curves(summary.history.epochs), f"Training; {kept}.")}
    if summary.real.ranks is not None and summary.fixed.ranks is not None:
        ranks = {"float (torch)": summary.real.ranks, "fixed point": summary.fixed.ranks}
        figures["Ranks"] = (
            rank_curves(ranks, len(graph.entities)),
            "Filtered ranks of the test queries, heads and tails; ties count against the reasoner.",
        )
    for number, explanation in enumerate(summary.explanations, 1):
        figures[f"Explanation {number}"] = (
            plot_explanation(explanation),
            "The paths that carried the spikes of a test query, in torch; arrows are messages, wider if the score depends more "
            "on them. The same as text below, under Why.",
        )
    figures["Delays"] = (_delays(settings, data, summary), _delay_caption(settings))
    figures["Wave"] = (
        wave_figure(summary.spikes),
        f"How the spikes of {summary.spikes.shape[1]} test queries spread through the graph, in integers.",
    )
    return figures


def _delay_caption(settings: Settings) -> str:
    told = {"zero": "All delays are 0 (delays=zero).", "random": "Drawn at random, not learned (delays=random)."}
    return told.get(settings.delays, "Learned delays: of each relation, that of the edge and (delays=query) that of the query.")


def _delays(settings: Settings, data: KnowledgeGraph | InductiveTask, summary: Summary) -> Any:
    graph = data.train if isinstance(data, InductiveTask) else data
    longest = settings.max_delay + 1
    after = np.asarray(summary.reasoner.delays)
    before = np.zeros(longest, np.int64)
    for part in _delay_parts(settings.model(data)):
        before += np.bincount(part.reshape(-1), minlength=longest)
    names = [graph.relation_name(relation) for relation in range(graph.query_relations)]
    counts = np.bincount(after.reshape(-1), minlength=longest)
    return delay_figure(before, counts, after.mean(axis=2), names)


def _delay_parts(model: GraphReasoner) -> Iterator[NDArray[np.int64]]:
    """The delays of all relations of queries, [<= 64, R, D] at a time."""
    import torch

    for first in range(0, model.relations, _QUERIES):
        yield model.delay_steps(torch.arange(first, min(first + _QUERIES, model.relations))).numpy()
