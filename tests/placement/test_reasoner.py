"""Costs counted by hand and by brute force; the partition against the limits of a core."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.graphs import Graph
from lava_snnlearn.placement.reasoner import ReasonerShape, partition, reasoner_costs
from lava_snnlearn.testing.graphs import random_graph

PROOF = settings(deadline=None, derandomize=True, max_examples=25)


def graph_of(seed, nodes=40, edges=150, relations=3):
    return random_graph(seed, nodes, relations, edges)


TRIANGLE = Graph(3, 2, [0, 0, 1, 2], [0, 1, 0, 0], [1, 1, 2, 1])


def test_the_exact_mapping_by_hand():
    found = reasoner_costs(ReasonerShape("exact", 4, max_delay=3), TRIANGLE)
    assert (found.neurons, found.synapses, found.synaptic_bits) == (12, 4 * 16, 4 * 16 * 14)
    # Node 1 hears two relations of node 0, and node 2: eight neurons.
    assert (found.fan_in, found.max_delay, found.cores) == (8, 3, 1)
    full = reasoner_costs(ReasonerShape("exact", 4, self_connected=True, offset=True), TRIANGLE)
    assert (full.neurons, full.synapses) == (13, 64 + 3 * 16 + 12)
    assert full.synaptic_bits == 64 * 14 + 60 * 8
    assert full.fan_in == 8 + 4 + 1


def test_the_staged_mapping_by_hand():
    found = reasoner_costs(ReasonerShape("staged", 4, max_delay=3), TRIANGLE)
    assert (found.neurons, found.delayed, found.blocks) == (24, 16, 48)
    assert found.synaptic_bits == 16 * 14 + 48 * 8
    assert found.fan_in == 8 + 4
    assert "24" in str(found)
    assert "64 (16 with delays of 0..3)" in str(found)


def test_umls_numbers_of_the_specification():
    # 10432 edges, 135 nodes, D = 16: 2.7 M synapses, or 0.17 M and 0.03 M.
    graph = graph_of(0, 135, 10432, 92)
    assert reasoner_costs(ReasonerShape("exact", 16), graph).synapses == 10432 * 256
    staged = reasoner_costs(ReasonerShape("staged", 16), graph)
    assert (staged.delayed, staged.blocks) == (166_912, 34_560)


def brute_force(shape, graph, nodes):
    """Neurons, synaptic bits and input axons of a core that holds these nodes."""
    held = set(nodes.tolist())
    edges = [(u, v) for u, v in zip(graph.source.tolist(), graph.target.tolist(), strict=True) if v in held]
    sources = {u for u, _ in edges} | (held if shape.self_connected else set())
    staged = shape.mapping == "staged"
    per_edge = shape.width if staged else shape.width**2
    per_node = (int(staged) + int(shape.self_connected)) * shape.width**2 + int(shape.offset) * shape.width
    axons = len(sources) * shape.width + (len(held) * shape.width if staged else 0) + int(shape.offset)
    return len(held) * shape.width * (1 + staged), len(edges) * per_edge * 14 + len(held) * per_node * 8, axons


@pytest.mark.parametrize("order", ["degree", "nodes"])
@PROOF
@given(
    seed=st.integers(0, 999),
    mapping=st.sampled_from(["exact", "staged"]),
    width=st.sampled_from([8, 32, 64]),
    own=st.booleans(),
    offset=st.booleans(),
)
def test_a_partition_fits_its_cores(order, seed, mapping, width, own, offset):
    graph, shape = graph_of(seed), ReasonerShape(mapping, width, 3, own, offset)
    found = partition(shape, graph, order=order)
    assert set(found.core.tolist()) == set(range(found.cores))
    for core in range(found.cores):
        loads = found.neurons[core], found.synaptic_bits[core], found.input_axons[core]
        assert loads == brute_force(shape, graph, np.flatnonzero(found.core == core))
        assert all(load <= top for load, top in zip(loads, (1024, 1_048_576, 4096), strict=True))
    reached = {(u, found.core[v]) for u, v in zip(graph.source.tolist(), graph.target.tolist(), strict=True)}
    for core in range(found.cores):
        listed = sum(found.core[u] == core for u, _ in reached) * width
        listed += (found.core == core).sum() * width if mapping == "staged" else 0
        assert found.output_axons[core] == listed
    assert found.chips == -(-found.cores // 128)
    total = reasoner_costs(shape, graph)
    assert found.synaptic_bits.sum() == total.synaptic_bits
    assert found.cores >= total.cores - 1  # the one neuron of w0 belongs to no core
    assert found.synaptic_bits.sum() == total.synaptic_bits


def test_cores_are_filled():
    # Nothing but neurons counts without edges: 64 nodes of 16 a core.
    graph = Graph(130, 1, [], [], [])
    found = partition(ReasonerShape("exact", 16), graph, order="nodes")
    assert found.neurons.tolist() == [1024, 1024, 32]
    assert found.core.tolist() == [0] * 64 + [1] * 64 + [2] * 2
    assert "130 nodes on 3 cores of 1 Loihi 1 chips" in str(found)


def test_a_node_that_no_core_holds_is_refused_with_numbers():
    hub = Graph(300, 1, np.arange(300), np.zeros(300, int), np.zeros(300, int))
    with pytest.raises(LimitError, match=r"node 0 with 300 edges.* 1075200 synaptic bits in the exact mapping.*Use the staged"):
        partition(ReasonerShape("exact", 16), hub)
    with pytest.raises(LimitError, match=r"4816 input axons in the staged mapping; a core has 4096\. Use a smaller width"):
        partition(ReasonerShape("staged", 16), hub)
    with pytest.raises(LimitError, match="needs 2048 neurons"):
        partition(ReasonerShape("staged", 1024), TRIANGLE)


def test_what_lava_cannot_build_is_refused_with_numbers():
    graph = graph_of(0, 50, 40_000)
    reasoner_costs(ReasonerShape("staged", 32), graph).check_lava()
    with pytest.raises(LimitError, match=r"50 nodes and 40000 edges with width 32 has a connection of 40960000 synapses"):
        reasoner_costs(ReasonerShape("exact", 32), graph).check_lava()
    wide = Graph(40_000, 1, [0], [0], [1])
    with pytest.raises(LimitError, match="40960000 synapses"):
        reasoner_costs(ReasonerShape("staged", 32), wide).check_lava()


def test_refusals():
    with pytest.raises(TypeError, match="FixedReasoner or a ReasonerShape"):
        reasoner_costs(3, TRIANGLE)
    with pytest.raises(TypeError, match="Graph"):
        partition(ReasonerShape("exact", 3), None)
    with pytest.raises(UnknownNameError, match="order"):
        partition(ReasonerShape("exact", 3), TRIANGLE, order="random")
    with pytest.raises(UnknownNameError, match="mapping"):
        ReasonerShape("both", 3)
    with pytest.raises(LimitError, match="width is 0"):
        ReasonerShape("exact", 0)
