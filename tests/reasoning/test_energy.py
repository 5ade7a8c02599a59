"""Counts of operations edge by edge, and the ratio of the specification."""

import numpy as np
import pytest

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.graphs import Graph
from lava_snnlearn.reasoning.energy import reasoner_energy

GRAPH = Graph(4, 2, [0, 0, 1, 3, 3], [0, 1, 0, 0, 1], [1, 1, 2, 0, 1])
WIDTH, STEPS = 3, 10


def raster():
    return (np.random.default_rng(0).random((STEPS, 2, 4, WIDTH)) < 0.3).astype(np.uint8)


def test_operations_edge_by_edge():
    spikes = raster()
    on_edges = [sum(int(spikes[:, b, u].sum()) for u in GRAPH.source.tolist()) for b in range(2)]
    counts = spikes.sum(axis=(0, 3))
    found = reasoner_energy(GRAPH, counts, width=WIDTH, steps=STEPS, aggregates=[7, 9])
    assert found.edge_operations == np.mean(on_edges)
    assert found.node_operations == WIDTH * 8
    assert found.operations == np.mean(on_edges) + WIDTH * 8
    assert found.counted_pj == pytest.approx(0.9 * found.operations)
    exact = reasoner_energy(GRAPH, counts, width=WIDTH, steps=STEPS, mapping="exact")
    assert (exact.edge_operations, exact.node_operations) == (WIDTH * np.mean(on_edges), 0)
    spec = reasoner_energy(GRAPH, counts, width=WIDTH, steps=STEPS)
    assert spec.node_operations == WIDTH * spikes.sum() / 2


def test_the_ratio_of_the_specification():
    # 27.6 pJ against 8.1 rho pJ for an edge and neuron at T = 10: 20 times at rho = .17.
    spikes = raster()
    found = reasoner_energy(GRAPH, spikes.sum(axis=(0, 3)), width=WIDTH, steps=STEPS)
    assert found.rate == pytest.approx(spikes.mean())
    assert found.nbfnet_pj == pytest.approx(GRAPH.edges * WIDTH * 27.6)
    assert found.spiking_pj == pytest.approx(GRAPH.edges * WIDTH * 8.1 * spikes.mean())
    assert found.ratio == pytest.approx(27.6 / 8.1 / spikes.mean())
    counts = np.full((1, 4), 0.17 * WIDTH * STEPS)
    assert reasoner_energy(GRAPH, counts, width=WIDTH, steps=STEPS).ratio == pytest.approx(20.0, abs=0.1)
    assert "estimate" in str(found)


def test_silence():
    assert reasoner_energy(GRAPH, np.zeros((1, 4), int), width=WIDTH, steps=STEPS).ratio == float("inf")


def test_refusals():
    with pytest.raises(ValueError, match="spike_counts has shape"):
        reasoner_energy(GRAPH, np.zeros((1, 3)), width=WIDTH, steps=STEPS)
    with pytest.raises(ValueError, match="width is 0"):
        reasoner_energy(GRAPH, np.zeros((1, 4)), width=0, steps=STEPS)
    with pytest.raises(UnknownNameError, match="mapping"):
        reasoner_energy(GRAPH, np.zeros((1, 4)), width=3, steps=STEPS, mapping="both")
    with pytest.raises(TypeError, match="Graph"):
        reasoner_energy(None, np.zeros((1, 4)), width=3, steps=STEPS)
