"""Figures of a run: matplotlib Figures that no global state knows, so they work in scripts, threads and notebooks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lava_snnlearn.continual.results import Results
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_UNIT
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.training import EpochMetrics

_FLOAT, _FIXED, _MUTED = "#3b6ea8", "#c2571a", "#8a8a8a"


def _tidy(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)


def _whole_ticks(axes: Axes) -> None:
    """No tick between two epochs or steps, also where there is only one."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _spiking(trace: Trace, sample: int = 0) -> list[str]:
    if not trace.spikes:
        raise ValueError("the trace holds no spikes; emulate with record='all'")
    samples = len(trace.outputs)
    if not -samples <= sample < samples:
        raise ValueError(f"sample is {sample}, but the trace has {samples} samples, 0..{samples - 1}")
    return list(trace.spikes)


def curves(epochs: Sequence[EpochMetrics]) -> Figure:
    """Loss, accuracy and spike rate over the epochs."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    x = [row.epoch for row in epochs]
    loss.plot(x, [row.train_loss for row in epochs], color=_FLOAT, marker=".")
    _tidy(loss, "training loss", "epoch", "loss")
    accuracy.plot(x, [row.train_accuracy for row in epochs], color=_FLOAT, marker=".", label="training")
    if not np.isnan([row.valid_accuracy for row in epochs]).all():
        accuracy.plot(x, [row.valid_accuracy for row in epochs], color=_FIXED, marker=".", label="validation")
    accuracy.legend(frameon=False)
    _tidy(accuracy, "accuracy", "epoch", "fraction correct")
    rate.plot(x, [row.spike_rate for row in epochs], color=_FLOAT, marker=".")
    _tidy(rate, "spike rate", "epoch", "spikes per neuron and step")
    rate.set_ylim(0, 1.1 * max(row.spike_rate for row in epochs) or 1)
    for axes in (loss, accuracy, rate):
        _whole_ticks(axes)
    return figure


def diagnostics(epochs: Sequence[EpochMetrics], columns: int = 5) -> Figure:
    """What the method tells of itself over the epochs: a panel for each of the rows' ``diagnostics``.

    Raises:
        ValueError: there are none.
    """
    names = list(epochs[-1].diagnostics)
    if not names:
        raise ValueError("these epochs have no diagnostics; their method tells none")
    rows, columns = math.ceil(len(names) / columns), min(len(names), columns)
    figure = Figure(figsize=(2.4 * columns, 2.3 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid, names, strict=False):
        axes.plot([row.epoch for row in epochs], [row.diagnostics[name] for row in epochs], color=_FLOAT, marker=".")
        _tidy(axes, name.replace("_", " "), "epoch", "")
        _whole_ticks(axes)
    return figure


def confusion_matrix(labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int) -> Figure:
    """Counts of predicted (columns) against true classes (rows); labels and predictions int64 [N]."""
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (labels, predictions), 1)
    side = max(3.5, 0.45 * classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        dark = share[row, column] > 0.5
        axes.text(
            column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color="white" if dark else "black"
        )
    axes.set_xticks(range(classes))
    axes.set_yticks(range(classes))
    _tidy(axes, "confusion matrix (fixed point, test set)", "predicted", "true")
    return figure


def task_accuracies(results: Results) -> Figure:
    """The accuracies of continual learning in per cent: a row after each task, a column a task; ACC and BWT in the title."""
    values = results.accuracies
    count = len(values)
    figure = Figure(figsize=(max(3.8, 1.2 + 0.5 * count), max(3.2, 0.9 + 0.45 * count)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.ma.masked_invalid(values), cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.tril_indices(count), strict=True):
        dark = values[row, column] > 0.5
        text = f"{100 * values[row, column]:.1f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_xticks(range(count))
    axes.set_yticks(range(count))
    transfer = "" if math.isnan(results.bwt) else f", BWT {100 * results.bwt:+.1f} %"
    _tidy(axes, f"ACC {100 * results.acc:.1f} %{transfer}", "accuracy on task", "after task")
    return figure


def raster(network: FixedNetwork, trace: Trace, sample: int = 0) -> Figure:
    """Spikes of one sample: a row a population, time in steps on Lava (each layer starts one step later)."""
    names = _spiking(trace, sample)
    figure = Figure(figsize=(8, 1.2 + 1.7 * len(names)), layout="constrained")
    rows = np.atleast_1d(figure.subplots(len(names), 1, sharex=True))
    for axes, name in zip(rows, names, strict=True):
        population = network.population(name)
        steps, neurons = np.nonzero(trace.spikes[name][:, sample])
        axes.scatter(steps + population.t_start, neurons, s=5, marker="s", color=_FLOAT)
        axes.set_ylim(-1, population.size)
        axes.set_xlim(-0.5, network.period - 0.5)
        _tidy(axes, f"{name}: {int(trace.spikes[name][:, sample].sum())} spikes", "", "neuron")
    rows[-1].set_xlabel("time step")
    _whole_ticks(rows[-1])
    return figure


def ternary_raster(spikes: Mapping[str, NDArray[np.int8]], starts: Mapping[str, int]) -> Figure:
    """Signed spikes of one sample: a row a population, positive ones above the neuron's line in one colour, negative ones in
    another.

    Args:
        spikes: by population, int8 [T, n] of -1, 0, 1.
        starts: the step of the sample that is the first of each population's T.
    """
    figure = Figure(figsize=(8, 1.2 + 1.7 * len(spikes)), layout="constrained")
    rows = np.atleast_1d(figure.subplots(len(spikes), 1, sharex=True))
    for axes, (name, values) in zip(rows, spikes.items(), strict=True):
        for sign, colour in ((1, _FLOAT), (-1, _FIXED)):
            steps, neurons = np.nonzero(values == sign)
            axes.scatter(steps + starts[name], neurons, s=5, marker="s", color=colour, label=f"{sign:+d}")
        axes.set_ylim(-1, values.shape[1])
        counts = f"{np.count_nonzero(values > 0)} positive and {np.count_nonzero(values < 0)} negative spikes"
        _tidy(axes, f"{name}: {counts}", "", "neuron")
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    rows[-1].set_xlabel("time step")
    _whole_ticks(rows[-1])
    return figure


def weight_pictures(before: Mapping[str, NDArray[np.float64]], after: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Weight matrices [n_out, n_in] by name, ``before`` above ``after``, each pair in one scale of colours."""
    figure = Figure(figsize=(3.2 * len(before), 5.4), layout="constrained")
    grid = figure.subplots(2, len(before), squeeze=False)
    for column, name in zip(grid.T, before, strict=True):
        largest = max(float(np.abs(values[name]).max()) for values in (before, after)) or 1.0
        for axes, values, when in zip(column, (before, after), ("before", "after"), strict=True):
            picture = axes.imshow(
                values[name], cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest"
            )
            _tidy(axes, f"{name} {when}", "from", "to")
        figure.colorbar(picture, ax=list(column), orientation="horizontal", shrink=0.8)
    return figure


def states(network: FixedNetwork, trace: Trace, sample: int = 0) -> Figure:
    """States of graded populations over the steps of one sample: a row a population, 0 (white) to the top, which is 1."""
    names = _spiking(trace, sample)
    figure = Figure(figsize=(8, 1.2 + 1.7 * len(names)), layout="constrained")
    rows = np.atleast_1d(figure.subplots(len(names), 1, sharex=True))
    for axes, name in zip(rows, names, strict=True):
        population = network.population(name)
        values = trace.spikes[name][:, sample].T / population.top
        first = population.t_start - 0.5
        box = (first, first + values.shape[1], -0.5, population.size - 0.5)
        picture = axes.imshow(
            values, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest", origin="lower", extent=box
        )
        _tidy(axes, name, "", "neuron")
    rows[-1].set_xlabel("time step")
    _whole_ticks(rows[-1])
    figure.colorbar(picture, ax=list(rows), label="state")
    return figure


def membranes(network: FixedNetwork, trace: Trace, sample: int = 0, neurons: int = 4) -> Figure:
    """Membranes (after reset) of some neurons of each spiking population, with threshold and spikes.

    Shown are the neurons that spike nearest to every second step: silent ones and those that always fire tell little.
    """
    names = _spiking(trace, sample)
    if not trace.membranes:
        raise ValueError("the trace holds no membranes; emulate with record='all'")
    figure = Figure(figsize=(2.6 * neurons, 2.1 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), neurons, squeeze=False, sharex="row")
    for row, name in zip(grid, names, strict=True):
        population = network.population(name)
        spikes = trace.spikes[name][:, sample].astype(np.int64)
        unit = MEMBRANE_UNIT * 2.0**population.scale_bits
        chosen = np.argsort(np.abs(2 * spikes.sum(axis=0) - network.steps), kind="stable")[:neurons]
        for axes in row[len(chosen) :]:
            axes.set_axis_off()
        for axes, neuron in zip(row, chosen, strict=False):
            time = np.arange(network.steps) + population.t_start
            axes.plot(time, trace.membranes[name][:, sample, neuron] / unit, color=_FLOAT, marker=".")
            threshold = population.vth / 2.0**population.scale_bits
            axes.axhline(threshold, color=_MUTED, linestyle="--", linewidth=1)
            fired = time[spikes[:, neuron].astype(bool)]
            axes.plot(fired, np.full(len(fired), threshold), "|", color=_FIXED, markersize=12, markeredgewidth=2)
            axes.margins(y=0.15)  # the bars of spikes at the threshold stay whole
            _whole_ticks(axes)
            _tidy(axes, f"{name}, neuron {neuron}", "time step", "membrane" if neuron == chosen[0] else "")
    return figure


def rates(trace: Trace) -> Figure:
    """Distribution of spike rates over the neurons of each population, averaged over samples."""
    names = _spiking(trace)
    figure = Figure(figsize=(3.2 * len(names), 2.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        per_neuron = trace.spikes[name].mean(axis=(0, 1))
        axes.hist(per_neuron, bins=np.linspace(0, 1, 21), color=_FLOAT)
        silent = int((per_neuron == 0).sum())
        _tidy(axes, f"{name}: mean {per_neuron.mean():.3f}, {silent} silent", "spikes per step", "neurons")
    return figure
