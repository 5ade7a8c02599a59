"""Figures of networks that settle and that learn on the chip draw what they should."""

from __future__ import annotations

import numpy as np
import pytest

from lava_snnlearn.checkpoints import EpochMetrics
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.report import diagnostics, states, ternary_raster, training_figures, weight_pictures


def epochs(count: int, **told: float) -> list[EpochMetrics]:
    return [
        EpochMetrics(n, 1.0, 0.5, 0.5, 0.1, 0.1, 1.0, {name: n * value for name, value in told.items()})
        for n in range(1, count + 1)
    ]


def test_diagnostics_has_a_panel_for_each() -> None:
    names = {f"number_{n}": float(n) for n in range(7)}
    figure = diagnostics(epochs(3, **names), columns=4)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in shown] == [f"number {n}" for n in range(7)]
    for n, axes in enumerate(shown):
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), [n, 2 * n, 3 * n])
    with pytest.raises(ValueError, match="no diagnostics"):
        diagnostics(epochs(3))


def test_pages_show_diagnostics_where_there_are_some() -> None:
    assert list(training_figures(epochs(2))) == ["Curves"]
    assert list(training_figures(epochs(2, residual=1.0))) == ["Curves", "Diagnostics"]


def test_the_ternary_raster_parts_the_signs() -> None:
    spikes = np.zeros((4, 3), np.int8)
    spikes[0, 1] = spikes[3, 2] = 1
    spikes[2, 0] = -1
    figure = ternary_raster({"backward 1": spikes, "backward 2": -spikes}, {"backward 1": 10, "backward 2": 11})
    first, second = figure.axes
    assert first.get_title(loc="left") == "backward 1: 2 positive and 1 negative spikes"
    assert second.get_title(loc="left") == "backward 2: 1 positive and 2 negative spikes"
    points = [{tuple(map(int, point)) for point in part.get_offsets()} for part in first.collections]
    assert points == [{(10, 1), (13, 2)}, {(12, 0)}]
    points = [{tuple(map(int, point)) for point in part.get_offsets()} for part in second.collections]
    assert points == [{(13, 0)}, {(11, 1), (14, 2)}]
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["+1", "-1"]
    colours = [tuple(part.get_facecolor()[0]) for part in first.collections]
    assert colours[0] != colours[1]


def test_weights_before_and_after_share_a_scale() -> None:
    before = {"F": np.full((2, 3), 0.5), "R": np.zeros((2, 2))}
    after = {"F": np.full((2, 3), -2.0), "R": np.zeros((2, 2))}
    figure = weight_pictures(before, after)
    pictures = {axes.get_title(loc="left"): axes.images[0] for axes in figure.axes if axes.images}
    assert list(pictures) == ["F before", "R before", "F after", "R after"]
    for name in ("F before", "F after"):
        assert pictures[name].get_clim() == (-2.0, 2.0)
    assert pictures["R after"].get_clim() == (-1.0, 1.0), "also where all are zero"
    np.testing.assert_array_equal(pictures["F before"].get_array(), before["F"])
    np.testing.assert_array_equal(pictures["F after"].get_array(), after["F"])


def test_states_are_shares_of_the_top() -> None:
    network = FixedNetwork(
        populations=(
            Population("layer1", 2, "graded", t_start=1, shift=4, top=100),
            Population("readout", 3, "graded", t_start=1, shift=4, top=127),
        ),
        connections=(
            Connection(INPUT, "layer1", np.full((2, 4), 2)),
            Connection("layer1", "readout", np.full((3, 2), 2)),
        ),
        host=HostInput("graded", 4, step=1 / 127),
        steps=5,
        output="readout",
    )
    sent = np.zeros((5, 2, 2), np.uint8)
    sent[:, 1] = [[0, 0], [50, 0], [100, 0], [100, 25], [100, 25]]
    trace = Trace({"layer1": sent, "readout": np.zeros((5, 2, 3), np.uint8)}, {}, np.zeros((2, 3), np.int64))
    figure = states(network, trace, sample=1)
    first, second = (axes for axes in figure.axes if axes.get_title(loc="left"))
    np.testing.assert_allclose(first.images[0].get_array(), [[0, 0.5, 1, 1, 1], [0, 0, 0, 0.25, 0.25]])
    assert first.images[0].get_extent() == [0.5, 5.5, -0.5, 1.5], "the first state is that of step 1"
    assert not np.asarray(second.images[0].get_array()).any()
    with pytest.raises(ValueError, match="sample is 2"):
        states(network, trace, sample=2)
