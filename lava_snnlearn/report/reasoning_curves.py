"""Figures of a graph reasoner's run: training, ranks, delays, and how its spikes spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from lava_snnlearn.reasoning.history import ReasoningEpoch
from lava_snnlearn.report.plots import _FIXED, _FLOAT, _MUTED, _tidy, _whole_ticks

_SHOWN = ("mrr", "hits@1", "hits@10", "auroc", "ap")
_COLOURS = (_FLOAT, _FIXED, _MUTED)
_NAMED = 24
"""Relations up to which a picture has room for their names."""


def reasoning_curves(epochs: Sequence[ReasoningEpoch]) -> Figure:
    """Loss, measures of the validation queries and spike rate over the epochs."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    loss, valid, rate = figure.subplots(1, 3)
    x = [row.epoch for row in epochs]
    loss.plot(x, [row.loss for row in epochs], color=_FLOAT, marker=".")
    _tidy(loss, "training loss", "epoch", "loss")
    asked = [row for row in epochs if row.valid]
    names = [name for name in _SHOWN if asked and name in asked[-1].valid]
    for name, colour in zip(names, _COLOURS, strict=False):
        valid.plot([row.epoch for row in asked], [row.valid[name] for row in asked], color=colour, marker=".", label=name)
    if names:
        valid.legend(frameon=False, fontsize=8, loc="lower right")
        valid.set_ylim(0, 1.02)
    else:
        valid.text(0.5, 0.5, "no validation queries", ha="center", va="center", transform=valid.transAxes, color=_MUTED)
    _tidy(valid, "validation", "epoch", "")
    rate.plot(x, [row.spike_rate for row in epochs], color=_FLOAT, marker=".")
    _tidy(rate, "spike rate", "epoch", "spikes per neuron and step")
    rate.set_ylim(0, 1.1 * max(row.spike_rate for row in epochs) or 1)
    for axes in (loss, valid, rate):
        _whole_ticks(axes)
    return figure


def rank_curves(ranks: Mapping[str, NDArray[np.int64]], entities: int) -> Figure:
    """The share of queries whose answer is among the first k of the candidates, for each k.

    Args:
        ranks: int64 [n] from 1, by name. entities: what k ends with.
    """
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    k = np.arange(1, entities + 1)
    for (name, found), colour, width in zip(ranks.items(), _COLOURS, (3, 1.2, 1), strict=False):
        counts = np.bincount(found, minlength=entities + 1)[1 : entities + 1]
        axes.step(k, counts.cumsum() / len(found), where="post", color=colour, linewidth=width, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, loc="lower right")
    _tidy(axes, "answers found", "among the first k", "share of the test queries")
    return figure


def delay_figure(
    before: NDArray[np.int64], after: NDArray[np.int64], means: NDArray[np.float64], names: Sequence[str]
) -> Figure:
    """How many delays there are of each length, and their means by relation.

    Args:
        before, after: counts [max_delay + 1], of the first weights and of the trained ones.
        means: [Q, R], of the query's relation and the edge's; Q is 1 if all queries have the same.
        names: R names of relations.
    """
    both = means.size > 1
    figure = Figure(figsize=(10 if both else 5, 4 if both else 3.2), layout="constrained")
    grid = figure.subplots(1, 2 if both else 1, width_ratios=[1, 1.3] if both else None, squeeze=False)[0]
    lengths = np.arange(len(after))
    for shift, counts, name, colour in ((-0.2, before, "before training", _MUTED), (0.2, after, "learned", _FLOAT)):
        grid[0].bar(lengths + shift, counts / max(1, counts.sum()), 0.4, color=colour, label=name)
    grid[0].set_xticks(lengths)
    grid[0].legend(frameon=False)
    _tidy(grid[0], "delays", "steps", "share of (query, relation, neuron)")
    if both:
        image = grid[1].imshow(means, aspect="auto", cmap="viridis", interpolation="nearest")
        figure.colorbar(image, ax=grid[1], label="mean delay, steps")
        _tidy(grid[1], "by relation", "relation of the edge", "relation of the query")
        if len(names) <= _NAMED:
            grid[1].set_xticks(range(len(names)), names, rotation=90, fontsize=7)
            if len(means) == len(names):
                grid[1].set_yticks(range(len(names)), names, fontsize=7)
        if len(means) == 1:
            grid[1].set_yticks([0], ["all"])
    return figure


def wave_figure(spikes: NDArray[np.uint8]) -> Figure:
    """How the spikes of queries spread: spikes of each step, and how many nodes have spiked by then.

    Args:
        spikes: [T, B, N, D].
    """
    figure = Figure(figsize=(8, 3), layout="constrained")
    rate, reached = figure.subplots(1, 2)
    steps = np.arange(len(spikes))
    rate.bar(steps, spikes.mean(axis=(1, 2, 3)), color=_FLOAT)
    _tidy(rate, "activity", "step", "spikes per neuron")
    seen = np.logical_or.accumulate(spikes.any(axis=3), axis=0).mean(axis=2)
    reached.fill_between(steps, seen.min(axis=1), seen.max(axis=1), color=_FLOAT, alpha=0.2, label="least and most")
    reached.plot(steps, seen.mean(axis=1), color=_FLOAT, marker=".", label="mean of the queries")
    reached.set_ylim(0, 1.02)
    reached.legend(frameon=False, loc="lower right")
    _tidy(reached, "reached", "step", "share of nodes that spiked")
    for axes in (rate, reached):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
