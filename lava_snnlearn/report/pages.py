"""What the report pages of all kinds of runs share: figures of training and inference, the verdict, activity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from lava_snnlearn.report.plots import confusion_matrix, curves, diagnostics, membranes, raster, rates, states

if TYPE_CHECKING:
    from lava_snnlearn.checkpoints import EpochMetrics
    from lava_snnlearn.data import Dataset
    from lava_snnlearn.fixed_point.graph import FixedNetwork
    from lava_snnlearn.fixed_point.trace import Trace
    from lava_snnlearn.verification import Report

Figures = dict[str, tuple[Figure, str]]
"""Heading -> (figure, caption)."""


def verdict(proof: Report) -> str:
    """The verification in one line."""
    found = (
        f"Verified: {proof.samples} samples, all populations, every step, 0 mismatches" if proof.ok else "NOT equal, see below"
    )
    return f"{found} ({', '.join(f'{n} values against {b}' for b, n in proof.compared.items())})."


def activity(trace: Trace, answer: Trace) -> list[list[str]]:
    """Spikes (``trace``) and clipped membranes (``answer``), as text cells."""
    sent = sum(int(np.count_nonzero(s)) for s in trace.spikes.values()) / sum(s.size for s in trace.spikes.values())
    return [
        ["spikes per neuron and step", f"{sent:.3f}"],
        ["membranes clipped to 24 bits", str(sum(answer.saturated.values()))],
    ]


def alignment_table(cosines: Mapping[str, float]) -> dict[str, list[list[str]]]:
    """How well a method's gradient agrees with the backpropagated one, cosines by weight: heading -> rows; {} of nothing."""
    if not cosines:
        return {}
    head = ["gradient of", "cosine with the backpropagated one"]
    return {"Feedback": [head, *([name, f"{cosine:.3f}"] for name, cosine in cosines.items())]}


def training_figures(epochs: Sequence[EpochMetrics]) -> Figures:
    """Curves of every method, and what the method tells of itself."""
    figures = {"Curves": (curves(epochs), "Training; the weights of the epoch best on the validation split are kept.")}
    if epochs[-1].diagnostics:
        figures["Diagnostics"] = (diagnostics(epochs), "What the method tells of itself, means over the samples of an epoch.")
    return figures


def inference_figures(network: FixedNetwork, data: Dataset, answer: Trace, trace: Trace) -> Figures:
    """Confusion matrix of ``answer`` (the whole test set), and the states of ``trace`` (some samples, everything recorded)."""
    figures = {
        "Confusion matrix": (
            confusion_matrix(data.test.y, answer.predictions, data.classes),
            "The fixed-point network on the whole test set.",
        )
    }
    if any(population.kind == "graded" for population in network.populations):
        figures["States"] = (states(network, trace), "How the first test sample settles: the state of every neuron, 0 to 1.")
        return figures
    return figures | {
        "Raster": (
            raster(network, trace),
            "All spikes of the first test sample, as on Lava: each layer lags one step.",
        ),
        "Membranes": (
            membranes(network, trace),
            "Neurons that spike nearest to every second step, first test sample: membrane after reset (real units), "
            "threshold (dashed), spikes (bars).",
        ),
        "Rates": (rates(trace), f"Spike rates of the neurons over {trace.outputs.shape[0]} test samples."),
    }
