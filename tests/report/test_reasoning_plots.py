"""The picture of an explanation shows each carried spike once, where and when it went, and its names can be read."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text

from lava_snnlearn.reasoning.explanation import CarriedEdge, CarriedPath, Explanation
from lava_snnlearn.report.reasoning_plots import plot_explanation


def edge(number: int, source: str, relation: str, target: str, sent: int, delay: int, importance: float) -> CarriedEdge:
    return CarriedEdge(number, source, relation, target, sent, delay, sent + 1 + delay, (0,), importance, 0.5)


FIRST = edge(0, "ann", "mother", "bob", 0, 1, 0.4)
BEST = CarriedPath((FIRST, edge(1, "bob", "father", "cid", 4, 0, 0.8)), 0.6)
SECOND = CarriedPath((FIRST, edge(2, "bob", "uncle^-1", "cid", 4, 0, -0.2)), 0.1)
ACTIVITY = {"ann": (2, 0, 0, 0, 0, 0, 0, 0), "bob": (0, 0, 0, 0, 1, 0, 0, 0), "cid": (0, 0, 0, 0, 0, 0, 4, 0)}


def explanation(*paths: CarriedPath, note: str = "", ranked_by: str = "importance") -> Explanation:
    return Explanation(("ann", "grand", "cid"), paths, ACTIVITY, 1.25, 2, ranked_by, note)


def arrows(figure: Figure) -> list[FancyArrowPatch]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]


def is_bent(arrow: FancyArrowPatch) -> bool:
    start, middle, end = arrow.get_path().vertices[:3]
    return abs(np.cross(middle - start, end - start)) > 1e-3


def assert_readable(figure: Figure) -> None:
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    unseen = [tick.get_text() for axes in figure.axes for tick in axes.get_xticklabels()]
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text() and text.get_text() not in unseen:
            box = text.get_window_extent()
            assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= -1, f"{text.get_text()!r} is cut off"
    for one, other in combinations(figure.axes[0].texts, 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent()), f"{one.get_text()!r} over {other.get_text()!r}"


def test_each_carried_edge_is_an_arrow_from_spike_to_arrival() -> None:
    figure = plot_explanation(explanation(BEST, SECOND))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ann", "bob", "cid"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the head is above"
    found = arrows(figure)
    assert len(found) == 3, "the shared first edge is drawn once"
    figure.draw_without_rendering()
    for patch, start, end in zip(found, [(0, 0), (4, 1), (4, 1)], [(2, 1), (5, 2), (5, 2)], strict=True):
        vertices = patch.get_path().vertices
        assert np.linalg.norm(vertices[0] - start) < 0.15
        assert np.linalg.norm(vertices - end, axis=1).min() < 0.15
    assert [to_hex(patch.get_edgecolor()) for patch in found] == ["#3b6ea8", "#3b6ea8", "#c2571a"]
    widths = [patch.get_linewidth() for patch in found]
    assert widths[1] > widths[0] > widths[2], "wider where the importance is larger, whatever its sign"
    bent = [is_bent(patch) for patch in found]
    assert bent == [False, False, True], "of two parallel edges one stands aside"
    assert [text.get_text() for text in axes.texts] == ["mother, delay 1", "father, delay 0", "uncle^-1, delay 0"]
    (waiting,) = {tuple(map(tuple, line.get_xydata())) for line in axes.lines}
    assert waiting == ((2, 1), (4, 1)), "bob waits from the arrival at 2 for the spike at 4"
    assert figure.get_suptitle() == "ann --grand--> cid?  score 1.25, rank 2"
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["path 1: importance +0.6", "path 2: importance +0.1", "all spikes of a node"]
    assert_readable(figure)


def test_dots_are_the_spikes_of_the_nodes() -> None:
    (dots,) = [c for c in plot_explanation(explanation(BEST)).axes[0].collections if isinstance(c, PathCollection)]
    np.testing.assert_array_equal(dots.get_offsets(), [(0, 0), (4, 1), (6, 2)])
    sizes = dots.get_sizes()
    assert sizes[2] > sizes[0] > sizes[1], "4, 2 and 1 spikes"


def test_fewer_paths_on_request_and_other_ranking() -> None:
    direct = CarriedPath((edge(3, "ann", "aunt", "cid", 0, 3, 2.0),), 2.0)
    figure = plot_explanation(explanation(direct, BEST, ranked_by="arrival"), paths=1)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ann", "cid"], "bob is on no path that is shown"
    assert axes.get_legend().get_texts()[0].get_text() == "path 1: arrives at t=4"
    assert len(arrows(figure)) == 1
    assert_readable(figure)
    with pytest.raises(ValueError, match="paths is 0"):
        plot_explanation(explanation(BEST), paths=0)


def test_no_path_is_a_picture_that_says_so() -> None:
    note = "No path: spikes reached cid from t=4, but it did not spike then or later, so they did not count." * 2
    figure = plot_explanation(explanation(note=note))
    assert arrows(figure) == []
    assert figure.get_supxlabel().replace("\n", " ") == note
    assert_readable(figure)


@pytest.mark.parametrize("seed", range(5))
def test_many_paths_with_long_names_stay_readable(seed: int) -> None:
    """Eight paths over two to three edges each between nodes of long names, as in knowledge graphs."""
    rng = np.random.default_rng(seed)
    nodes = [f"experimental_model_of_disease_{n}" for n in range(5)]
    paths = []
    for number in range(8):
        first, second = rng.integers(0, 3, 2).tolist()
        middle = nodes[1 + number % 3]
        one = edge(2 * number, nodes[0], f"manifestation_of_{number}", middle, number % 2, first, rng.random())
        other = edge(2 * number + 1, middle, "co-occurs_with^-1", nodes[4], one.arrival, second, rng.random())
        paths.append(CarriedPath((one, other), (one.importance + other.importance) / 2))
    steps = dict.fromkeys(nodes, (1,) * 10)
    figure = plot_explanation(Explanation((nodes[0], "r", nodes[4]), tuple(paths), steps, 0.5, 1, "importance", ""))
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    texts = figure.axes[0].texts
    boxes = [text.get_window_extent() for text in texts]
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
    covered = sum(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert covered <= 3, "of 120 pairs"
