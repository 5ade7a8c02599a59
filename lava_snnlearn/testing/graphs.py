"""Random graphs for tests."""

from __future__ import annotations

import numpy as np

from lava_snnlearn.graphs.graph import Graph


def random_graph(seed: int | np.random.Generator, nodes: int, relations: int, edges: int) -> Graph:
    """Edges drawn one by one: where there are many, some are parallel, some are there twice, some are self-loops."""
    draw = np.random.default_rng(seed)
    return Graph(nodes, relations, *(draw.integers(count, size=edges) for count in (nodes, relations, nodes)))
