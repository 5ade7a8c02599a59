"""Every figure draws what it should, and its labels can be read."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from lava_snnlearn.continual import Results
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.report import confusion_matrix, curves, membranes, raster, rates, task_accuracies
from lava_snnlearn.training import EpochMetrics


def epochs(count: int, valid: bool = True) -> list[EpochMetrics]:
    return [
        EpochMetrics(n, 2.0 / n, 1 - 0.5 / n, 1 - 0.6 / n if valid else math.nan, 0.1 * n, 0.1, 1.0)
        for n in range(1, count + 1)
    ]


def assert_readable(figure: Figure) -> None:
    """No text leaves the figure, and no axes (with labels) cover others."""
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text() and text.axes is not None and text.axes.axison:
            box = text.get_window_extent()
            if text.get_text() in [tick.get_text() for tick in (*text.axes.get_xticklabels(), *text.axes.get_yticklabels())]:
                continue  # matplotlib keeps labels of ticks outside of the view, which it does not draw
            assert box.x0 >= -1, f"{text.get_text()!r} is cut off"
            assert box.y0 >= -1, f"{text.get_text()!r} is cut off"
            assert box.x1 <= width + 1, f"{text.get_text()!r} is cut off"
            assert box.y1 <= height + 1, f"{text.get_text()!r} is cut off"
    for one, other in combinations([axes for axes in figure.axes if axes.axison], 2):
        assert not one.get_tightbbox().shrunk(0.98, 0.98).overlaps(other.get_tightbbox().shrunk(0.98, 0.98))


def test_curves_are_the_metrics() -> None:
    rows = epochs(5)
    figure = curves(rows)
    loss, accuracy, rate = figure.axes
    for line, values in (
        (loss.lines[0], [2, 1, 2 / 3, 1 / 2, 2 / 5]),
        (accuracy.lines[0], [0.5, 0.75, 1 - 0.5 / 3, 0.875, 0.9]),
        (accuracy.lines[1], [0.4, 0.7, 0.8, 0.85, 0.88]),
        (rate.lines[0], [0.1, 0.2, 0.3, 0.4, 0.5]),
    ):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4, 5])
        np.testing.assert_allclose(line.get_ydata(), values, rtol=1e-12)
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["training", "validation"]
    assert rate.get_ylim()[0] == 0
    assert rate.get_ylim()[1] > 0.5
    assert_readable(figure)


def test_curves_without_validation() -> None:
    accuracy = curves(epochs(3, valid=False)).axes[1]
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["training"]
    assert len(accuracy.lines) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_epochs_are_counted_in_whole_numbers(count: int) -> None:
    figure = curves(epochs(count))
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert shown
        assert all(tick == round(tick) for tick in shown)


def test_a_silent_run_still_has_a_rate_axis() -> None:
    rows = [EpochMetrics(1, 1.0, 0.1, 0.1, 0.0, 0.1, 1.0)]
    assert curves(rows).axes[2].get_ylim() == (0, 1)


def test_confusion_matrix_counts_true_against_predicted() -> None:
    labels = np.array([2, 0, 0, 1, 2, 2, 0, 2])
    guesses = np.array([2, 0, 1, 1, 0, 2, 0, 1])
    figure = confusion_matrix(labels, guesses, 4)
    (axes,) = figure.axes
    found = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in axes.texts}
    # (true, predicted): no class 3 anywhere, and no zeros written
    assert found == {(0, 0): 2, (0, 1): 1, (1, 1): 1, (2, 0): 1, (2, 1): 1, (2, 2): 2}
    share = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(share, [[2 / 3, 1 / 3, 0, 0], [0, 1, 0, 0], [0.25, 0.25, 0.5, 0], [0, 0, 0, 0]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    dark = {int(t.get_position()[1]) for t in axes.texts if to_hex(t.get_color()) == "#ffffff"}
    assert dark == {0, 1}, "white numbers on the dark squares only"
    assert_readable(figure)


def test_raster_points_are_the_spikes(network: FixedNetwork, trace: Trace) -> None:
    figure = raster(network, trace, sample=1)
    first, second = figure.axes
    expected = {(0, 1), (2, 1), (4, 1), (5, 2), (0, 3), (1, 3), (2, 3), (3, 3), (4, 3), (1, 4), (3, 4), (5, 4)}
    points = first.collections[0].get_offsets()
    assert {tuple(map(int, point)) for point in points} == expected
    assert len(points) == len(expected)
    # One step later on Lava: the population starts at step 1.
    assert {tuple(map(int, point)) for point in second.collections[0].get_offsets()} == {(1, 0), (2, 0), (4, 2)}
    assert first.get_title(loc="left") == "first: 12 spikes"
    assert second.get_title(loc="left") == "second: 3 spikes"
    for axes, size in ((first, 6), (second, 3)):
        low, high = axes.get_ylim()
        assert low < 0
        assert high > size - 1
        low, high = axes.get_xlim()
        assert low < 0
        assert high > 6, "the last step of the population that starts at 1"
    assert_readable(figure)
    assert len(raster(network, trace, sample=0).axes[0].collections[0].get_offsets()) == 0


def test_membranes_shows_the_neurons_nearest_to_every_second_step(network: FixedNetwork, trace: Trace) -> None:
    """Spike counts are unsigned; with their differences taken as such, silent neurons once came first."""
    figure = membranes(network, trace, sample=1, neurons=4)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    first = [f"first, neuron {n}" for n in (1, 4, 2, 3)]  # 3, 3, 1 and 5 spikes of 6; the lower index among equals
    second = [f"second, neuron {n}" for n in (0, 2, 1)]  # 2, 1, 0 spikes
    assert titles == first + second
    assert sum(not axes.axison for axes in figure.axes) == 1, "a population of three leaves one place empty"
    assert_readable(figure)


def test_membranes_thresholds_and_spikes_are_drawn_in_real_units(network: FixedNetwork, trace: Trace) -> None:
    axes = {axes.get_title(loc="left"): axes for axes in membranes(network, trace, sample=1).axes}
    line, threshold, spikes = axes["first, neuron 3"].lines
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(line.get_ydata(), [7.5, 7.75, 8, 8.25, 8.5, 8.75])  # (30 + t) / 2^2
    assert set(threshold.get_ydata()) == {3.0}  # 12 / 2^2
    np.testing.assert_array_equal(spikes.get_xdata(), [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(spikes.get_ydata(), [3.0] * 5)
    line, threshold, spikes = axes["second, neuron 2"].lines
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(line.get_ydata(), [40, 42, 44, 46, 48, 50])  # (20 + t) / 2^-1
    assert set(threshold.get_ydata()) == {10.0}  # 5 / 2^-1
    np.testing.assert_array_equal(spikes.get_xdata(), [4])
    low, high = axes["second, neuron 2"].get_ylim()
    assert low < 10
    assert high > 50


def test_rates_are_a_histogram_over_neurons(trace: Trace) -> None:
    figure = rates(trace)
    first, second = figure.axes
    # Mean over both samples and six steps; sample 0 is silent: spikes / 12.
    found = [(round(bar.get_x(), 2), int(bar.get_height())) for bar in first.patches if bar.get_height()]
    assert found == [(0.0, 2), (0.05, 1), (0.25, 2), (0.4, 1)]  # 0 0, 1/12, 3/12 3/12, 5/12
    assert first.get_title(loc="left") == "first: mean 0.167, 2 silent"  # 12 / 72
    assert second.get_title(loc="left") == "second: mean 0.083, 1 silent"  # 3 / 36
    assert_readable(figure)
    busy = Trace({"p": np.ones((4, 2, 3), np.uint8)}, {}, np.zeros((2, 3), np.int64))
    assert sum(bar.get_height() for bar in rates(busy).axes[0].patches) == 3, "a neuron that always spikes is counted"


def test_a_trace_without_the_states_is_refused(network: FixedNetwork, trace: Trace) -> None:
    empty = Trace({}, {}, trace.outputs)
    for draw in (lambda: raster(network, empty), lambda: membranes(network, empty), lambda: rates(empty)):
        with pytest.raises(ValueError, match="holds no spikes; emulate with record='all'"):
            draw()
    with pytest.raises(ValueError, match="holds no membranes; emulate with record='all'"):
        membranes(network, Trace(trace.spikes, {}, trace.outputs))
    for draw in (raster, membranes):
        with pytest.raises(ValueError, match=r"sample is 2, but the trace has 2 samples, 0\.\.1"):
            draw(network, trace, sample=2)


def test_figures_are_unknown_to_pyplot(network: FixedNetwork, trace: Trace) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    raster(network, trace)
    curves(epochs(2))
    assert pyplot.get_fignums() == before


def test_task_accuracies_are_the_matrix() -> None:
    results = Results.of_rows(("a", "b", "c"), [[0.9], [0.7, 0.8], [0.054, 0.6, 1.0]], [1.0, 1.0, 1.0])
    figure = task_accuracies(results)
    (axes,) = figure.axes
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "90.0", (0, 1): "70.0", (1, 1): "80.0", (0, 2): "5.4", (1, 2): "60.0", (2, 2): "100.0"}
    colours = {text.get_text(): to_hex(text.get_color()) for text in axes.texts}
    assert (colours["90.0"], colours["5.4"]) == ("#ffffff", "#000000")
    picture = axes.images[0].get_array()
    assert np.ma.getmaskarray(picture).tolist() == [[False, True, True], [False, False, True], [False, False, False]]
    assert axes.get_title(loc="left") == "ACC 55.1 %, BWT -52.3 %"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("accuracy on task", "after task")
    assert_readable(figure)


@pytest.mark.parametrize("count", [1, 2, 20])
def test_task_accuracies_of_few_and_many_tasks_can_be_read(count: int) -> None:
    rows = [[0.5] * (index + 1) for index in range(count)]
    figure = task_accuracies(Results.of_rows([str(index) for index in range(count)], rows, [0.0] * count))
    assert len(figure.axes[0].texts) == count * (count + 1) // 2
    assert ("BWT" in figure.axes[0].get_title(loc="left")) == (count > 1)
    assert_readable(figure)
