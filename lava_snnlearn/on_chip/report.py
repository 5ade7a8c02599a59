"""summary.json and report.html of a run that learnt on the chip."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.citations import citation
from lava_snnlearn.data import Dataset
from lava_snnlearn.files import write_text
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.table import connection_rows, population_rows
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.on_chip.learners import State
from lava_snnlearn.on_chip.spide import OnChipState, train_sample
from lava_snnlearn.on_chip.trainer import OnChipTrainer
from lava_snnlearn.report import (
    Figures,
    activity,
    inference_figures,
    resources,
    task_accuracies,
    ternary_raster,
    training_figures,
    verdict,
    weight_pictures,
    write_report,
)
from lava_snnlearn.run_report import PICTURED, verified

if TYPE_CHECKING:
    from lava_snnlearn.on_chip.pipeline import Settings, Summary


def write(
    settings: Settings,
    summary: Summary,
    data: Dataset,
    lessons: tuple[OnChipTrainer, ...],
    state: State,
    config: dict[str, Any],
    answer: Trace,
) -> None:
    """Write summary.json, report.html and its PNGs into the folder of ``summary``.

    Args:
        settings, summary: what was run, and what it gave.
        data: of which the network was tested with the test split.
        lessons: a trainer a task. state: the network after all. config: what decided it.
        answer: of the emulator, on the test split.
    """
    pictured = data.test.x[:PICTURED]
    trace = emulate(summary.network, pictured)
    taken = resources(summary.network, trace, pictured)
    shown = {"on_chip": True} | dataclasses.asdict(settings) | {"options": dict(settings.options)}
    content = {"settings": shown, "network": config, "results": _results(summary, state, answer, trace)}
    write_text(summary.folder / "summary.json", json.dumps(content, indent=2) + "\n")
    samples = sum(replay.samples for replay in summary.replays)
    total = sum(count for count, _ in summary.compared.values())
    learnt = f"Learning replayed on Lava: {samples} samples, {total} values, "
    agreed = "" if not summary.disagreements else f" {summary.disagreements} test samples answered otherwise by the emulator."
    last, gain = summary.history.epochs[-1], 2.0**state.settings.gain_bits
    write_report(
        summary.folder,
        title=f"{settings.method.upper()} on chip, {config['data']}",
        verdict=f"{verdict(summary.verification)} {learnt}{'0 mismatches.' if summary.replayed else 'NOT equal, see below.'}"
        f"{agreed}",
        ok=summary.ok,
        tables={
            "Result": [
                ["", "test accuracy"],
                *summary.rows(),
                *activity(trace, answer),
                ["gain of the injected gradient" if settings.method == "spide" else "gain of top-down signals", f"{gain:g}"],
                *([name, f"{value:.4g}"] for name, value in last.diagnostics.items() if name != "gain"),
            ],
            "Replay of learning": [
                ["compared", "values", "mismatches"],
                *([name, str(count), str(wrong)] for name, (count, wrong) in summary.compared.items()),
            ],
            "Populations": population_rows(summary.network),
            "Connections": connection_rows(summary.network),
            **taken.tables,
        },
        figures=_figures(summary, data, lessons[0], state, answer, trace) | taken.figures,
        text={
            "Replay": "\n".join(map(str, summary.replays)),
            "Verification": str(summary.verification),
            "Resources": taken.text,
            "Settings": "\n".join(f"{key} = {value}" for key, value in (shown | config).items()),
            "Please cite": citation(settings.method),
        },
    )


def backward_spikes(state: OnChipState, x: NDArray[Any], label: int) -> tuple[NDArray[np.int8], ...]:
    """The ternary spikes of one sample's backward phase: int8 [T_B, n_l] of -1, 0, 1 for each hidden layer.

    Args:
        state: the network. x: data [features]. label: its class.
    """
    # A phase of t steps is the beginning of one of t + 1, so spikes are the differences of the sums.
    sums = []
    for steps in range(1, state.settings.backward_steps + 1):
        shorter = dataclasses.replace(state.settings, backward_steps=steps, eta=0.0)
        _, record = train_sample(dataclasses.replace(state, settings=shorter, eta=0.0), x, label)
        sums.append(record.backward)
    return tuple(
        np.diff(np.stack(layer), axis=0, prepend=np.zeros((1, layer[0].size), np.int32)).astype(np.int8)
        for layer in zip(*sums, strict=True)
    )


def _results(summary: Summary, state: State, answer: Trace, trace: Trace) -> dict[str, Any]:
    """What summary.json tells."""
    tasks: dict[str, Any] = {}
    if summary.tasks is not None:
        matrix = [row[: index + 1].tolist() for index, row in enumerate(summary.tasks.accuracies)]
        tasks = {"ACC": summary.tasks.acc, "BWT": summary.tasks.bwt, "accuracies": matrix}
    return {
        "fixed_accuracy": summary.accuracy,
        **tasks,
        "disagreements": summary.disagreements,
        "saturated": dict(answer.saturated),
        "spike_rates": trace.spike_rates(),
        "best_epoch": summary.history.best_epoch,
        "gain": 2.0**state.settings.gain_bits,
        "diagnostics": summary.history.epochs[-1].diagnostics,
        **verified(summary.verification),
        "replayed": summary.replayed,
        "replayed_samples": sum(replay.samples for replay in summary.replays),
        "replayed_values": {name: count for name, (count, _) in summary.compared.items()},
        "replay_mismatches": {name: wrong for name, (_, wrong) in summary.compared.items()},
        "seconds": summary.seconds,
    }


def _figures(summary: Summary, data: Dataset, first: OnChipTrainer, state: State, answer: Trace, trace: Trace) -> Figures:
    figures = training_figures(summary.history.epochs)
    if summary.tasks is not None:
        figures = {"Tasks": (task_accuracies(summary.tasks), "How well each task is done after each.")} | figures
    figures |= inference_figures(summary.network, data, answer, trace)
    before = first.beginning()
    if isinstance(before, OnChipState):
        figures["Backward spikes"] = (
            _first_backward_spikes(before, first),
            "All ternary spikes of the first training sample, before anything was learnt; their sums are the error signal.",
        )
    names = "F: input, W: layer to layer, R: feedback, C: readout" if isinstance(before, OnChipState) else "W1: input, ..."
    caption = f"{names} (bias: last column of the first); as spikes see them, in real units."
    return figures | {"Weights": (weight_pictures(before.weights(), state.weights()), caption)}


def _first_backward_spikes(before: OnChipState, trainer: OnChipTrainer) -> Any:
    settings, index = before.settings, int(trainer.order(0)[0])
    sample, label = trainer.data.train.x[index], int(trainer.data.train.y[index])
    names = [f"backward {layer}" for layer in range(1, settings.layers + 1)]
    starts = {name: settings.error_step + settings.layers - layer for layer, name in enumerate(names)}
    return ternary_raster(dict(zip(names, backward_spikes(before, sample, label), strict=True)), starts)
