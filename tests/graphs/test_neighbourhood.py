"""neighbourhood(): against a slow search over Python sets; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError
from lava_snnlearn.graphs import Graph, neighbourhood


def nearest_first(edges: list[tuple[int, int, int]], seeds: set[int]) -> list[int]:
    """Nodes in the order of their distance, then their number."""
    order, layer = [], sorted(seeds)
    while layer:
        order += layer
        near = {v for u, _, v in edges if u in layer} | {u for u, _, v in edges if v in layer}
        layer = sorted(near - set(order))
    return order


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_it_is_the_largest_that_fits(data: st.DataObject) -> None:
    nodes = data.draw(st.integers(1, 9))
    node = st.integers(0, nodes - 1)
    edges = data.draw(st.lists(st.tuples(node, st.integers(0, 1), node), max_size=20))
    seeds = data.draw(st.sets(node, min_size=1, max_size=3))
    most_nodes, most_edges = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 20))
    source, relation, target = np.array(edges, np.int64).reshape(-1, 3).T
    graph = Graph(nodes, 2, source, relation, target)
    order = nearest_first(edges, seeds)

    def inside(count: int) -> list[tuple[int, int, int]]:
        return [edge for edge in edges if {edge[0], edge[2]} <= set(order[:count])]

    fitting = [n for n in range(len(order) + 1) if n <= most_nodes and len(inside(n)) <= most_edges]
    if max(fitting) < len(seeds):
        with pytest.raises(LimitError, match="give fewer"):
            neighbourhood(graph, list(seeds), max_nodes=most_nodes, max_edges=most_edges)
        return
    part, names = neighbourhood(graph, list(seeds), max_nodes=most_nodes, max_edges=most_edges)
    assert names.tolist() == order[: max(fitting)]
    columns = (names[np.asarray(part.source)], np.asarray(part.relation), names[np.asarray(part.target)])
    assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == sorted(inside(len(names)))
    assert (part.nodes, part.relations) == (len(names), 2)


def test_refusals() -> None:
    graph = Graph(3, 1, [0, 1], [0, 0], [1, 2])
    with pytest.raises(LimitError, match="seeds is 3"):
        neighbourhood(graph, [3], max_nodes=3, max_edges=3)
    with pytest.raises(ValueError, match="at least one node"):
        neighbourhood(graph, [], max_nodes=3, max_edges=3)
    with pytest.raises(TypeError, match="graph is 'x'"):
        neighbourhood("x", [0], max_nodes=3, max_edges=3)  # type: ignore[arg-type]
