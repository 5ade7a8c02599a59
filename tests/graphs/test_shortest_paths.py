"""Shortest paths by spikes against Dijkstra's algorithm of scipy: emulator, Lava in integers and floats, and stock neurons."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lava.proc.lif.process import LIF
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.fixed_point import arithmetic
from lava_snnlearn.fixed_point.arithmetic import soft_reset_step
from lava_snnlearn.graphs import Graph, shortest_paths
from lava_snnlearn.graphs.shortest_paths import ENGINES, FAN_IN_MAX, NEURONS_MAX
from lava_snnlearn.lava_backend import run_config, run_guarded
from lava_snnlearn.processes import DelayConnection, Recorder, SampleSource


def expected(count, edges, lengths, source):
    """scipy's distances, -1 where no path leads; of parallel edges the shortest is kept, which scipy would add up."""
    best = {}
    for (a, b), length in zip(np.reshape(edges, (-1, 2)).tolist(), lengths, strict=True):
        best[a, b] = min(int(length), best.get((a, b), length))
    rows, columns = np.array(list(best), int).reshape(-1, 2).T
    found = dijkstra(csr_matrix((list(best.values()), (rows, columns)), shape=(count, count)), indices=source)
    return np.where(np.isinf(found), -1, found).astype(int)


def random_graph(seed, count=14, edges=40, longest=9):
    rng = np.random.default_rng(seed)
    return rng.integers(0, count, (edges, 2)), rng.integers(1, longest + 1, edges)


def assert_shortest(found, edges, lengths, source, distances):
    """The distances, and for each node a path along edges whose lengths add up to its distance."""
    np.testing.assert_array_equal(found.distances, distances)
    assert found.predecessors[source] == -1
    for node in np.flatnonzero(distances >= 0).tolist():
        path = found.path_to(node)
        assert (path[0], path[-1]) == (source, node)
        steps = [min(lengths[(edges == pair).all(1)]) for pair in pairwise(path)]
        assert sum(steps) == distances[node]


@pytest.mark.parametrize("on", ENGINES)
@pytest.mark.parametrize("seed, longest", [(0, 1), (1, 9), (2, 200)])
def test_random_graphs(on, seed, longest):
    edges, lengths = random_graph(seed, longest=longest)
    distances = expected(14, edges, lengths, 3)
    found = shortest_paths(edges, lengths, 3, on=on, nodes=14)
    assert_shortest(found, edges, lengths, 3, distances)
    assert distances.max() > (63 if longest == 200 else 2), "too easy"


@st.composite
def problems(draw):
    count = draw(st.integers(1, 8))
    node = st.integers(0, count - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=20))
    length = st.integers(1, 4) | st.sampled_from([1, 62, 63, 64, 126, 127, 400])
    lengths = draw(st.lists(length, min_size=len(edges), max_size=len(edges)))
    return count, np.array(edges, int).reshape(-1, 2), np.array(lengths, int), draw(node)


@settings(deadline=None, max_examples=100)
@given(problem=problems(), limit=st.none() | st.integers(0, 300))
def test_any_graph(problem, limit):
    """Loops, parallel edges, parts that cannot be reached, lengths around those of a relay, limits."""
    count, edges, lengths, source = problem
    distances = expected(count, edges, lengths, source)
    if limit is not None:
        distances = np.where(distances <= limit, distances, -1)
    found = shortest_paths(edges, lengths, source, nodes=count, max_distance=limit)
    assert_shortest(found, edges, lengths, source, distances)


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
@pytest.mark.parametrize("seed", [3, 4])
def test_stock_neurons_without_memory_fire_first_at_the_distance(tag, seed):
    """The check on Intel's LIF: an edge of delay d is d + 1 long. Neurons fire again and again; the first time counts."""
    edges, lengths = random_graph(seed)
    steps, count = 60, 14
    memoryless = {"du": 4095, "dv": 4096, "vth": 1} if tag == "fixed_pt" else {"du": 1, "dv": 1, "vth": 0.5}
    kick = np.zeros((1, count), int)
    kick[0, 3] = 2
    source, neurons, recorder = (
        SampleSource(data=kick),
        LIF(shape=(count,), **memoryless),
        Recorder(shape=(count,), steps=steps),
    )
    synapses = DelayConnection(shape=(count, count), target=edges[:, 1], source=edges[:, 0], weights=2, delays=lengths - 1)
    source.s_out.connect(neurons.a_in)
    neurons.s_out.connect(recorder.s_in)
    neurons.s_out.connect(synapses.s_in)
    synapses.a_out.connect(neurons.a_in)
    run_guarded(source, steps, run_config(tag), time_limit=30)
    spikes = recorder.spikes != 0
    first = np.where(spikes.any(axis=0), spikes.argmax(axis=0), -1)
    np.testing.assert_array_equal(first, expected(count, edges, lengths, 3))
    assert spikes.sum() > count


def test_a_graph_of_facts():
    """Lengths by relation; the edges' order is the graph's."""
    graph = Graph(nodes=4, relations=2, source=[0, 0, 1, 2], relation=[1, 0, 0, 0], target=[3, 1, 2, 3])
    found = shortest_paths(graph, np.array([2, 7])[graph.relation], 0)
    assert found.distances.tolist() == [0, 2, 4, 6]
    assert found.path_to(3) == [0, 1, 2, 3]
    assert shortest_paths(graph, 1, 0).path_to(3) == [0, 3]


@pytest.mark.parametrize("on", ENGINES)
def test_nothing_to_run_through(on):
    assert shortest_paths([], 1, 2, on=on).distances.tolist() == [-1, -1, 0]
    assert shortest_paths([(0, 0)], 5, 0, on=on).distances.tolist() == [0]


def test_nodes_fire_once_whatever_arrives():
    """Two nodes that excite each other would go on for ever, and so many spikes into one would make it fire again."""
    hub = [(0, i) for i in range(1, 901)] + [(i, 901) for i in range(1, 901)] + [(901, 902), (902, 901), (901, 0)]
    lengths = np.r_[np.arange(1, 901), np.full(900, 1000), 3, 4, 5]
    found = shortest_paths(hub, lengths, 0)
    np.testing.assert_array_equal(found.distances, np.r_[0, np.arange(1, 901), 1001, 1004])


def test_of_equal_paths_the_one_from_the_smallest_node_is_given():
    edges, lengths = [(0, 2), (0, 1), (2, 3), (1, 3)], [1, 1, 4, 4]
    assert shortest_paths(edges, lengths, 0).path_to(3) == [0, 1, 3]


def test_a_common_divisor_costs_nothing():
    """A thousandfold road map is the same wave; in single steps it would need more relays than there may be."""
    edges, lengths = random_graph(5)
    found = shortest_paths(edges, lengths * 10**7, 3)
    np.testing.assert_array_equal(found.distances, expected(14, edges, lengths * 10**7, 3))


def test_a_large_sparse_graph():
    rng = np.random.default_rng(6)
    count = 20_000
    edges, lengths = rng.integers(0, count, (60_000, 2)), rng.integers(1, 100, 60_000)
    found = shortest_paths(edges, lengths, 0, nodes=count)
    np.testing.assert_array_equal(found.distances, expected(count, edges, lengths, 0))


def test_a_long_road_takes_time_for_its_spikes_alone(monkeypatch):
    """Not for all nodes in every step, which would be 4 million membranes here."""
    stepped = []

    def counted(membrane, *arguments, **options):
        stepped.append(len(membrane))
        return soft_reset_step(membrane, *arguments, **options)

    monkeypatch.setattr(arithmetic, "soft_reset_step", counted)
    road = np.stack([np.arange(2000), np.arange(1, 2001)], axis=1)
    np.testing.assert_array_equal(shortest_paths(road, 1, 0).distances, np.arange(2001))
    assert sum(stepped) == 2001


@pytest.mark.parametrize(
    "arguments, options, error, match",
    [
        (([(0, 1)], 0, 0), {}, LimitError, r"lengths is 0.*at least one"),
        (([(0, 1), (1, 2)], [1, -3], 0), {}, LimitError, r"lengths is -3 at index 1"),
        (([(0, 1)], [1.5], 0), {}, TypeError, r"lengths are of type float64.*scale the lengths, round them"),
        (([(0, 1)], [1, 2], 0), {}, ValueError, r"lengths have shape \(2,\).*\(1,\)"),
        (([(0, 1, 2)], 1, 0), {}, TypeError, r"shape \(1, 3\)"),
        (([(0.5, 1.0)], 1, 0), {}, TypeError, "float64"),
        (([(0, 4)], 1, 0), {"nodes": 3}, LimitError, r"edges is 4 at index \(0, 1\)"),
        (([(0, 1)], 1, -1), {}, LimitError, "source is -1"),
        (([(0, 1)], 1, 3), {"nodes": 3}, LimitError, "source is 3"),
        (([(0, 1)], 1, 0.0), {}, TypeError, "source is 0.0"),
        (([(0, 1)], 1, 0), {"on": "loihi"}, UnknownNameError, "unknown on 'loihi'"),
        (([(0, 1)], 1, 0), {"max_distance": -1}, LimitError, "max_distance is -1"),
        ((Graph(2, 1, [0], [0], [1]), 1, 0), {"nodes": 2}, ValueError, "leave it out"),
        (([(0, NEURONS_MAX)], 1, 0), {}, LimitError, f"nodes is {NEURONS_MAX + 1}"),
        (([(0, 1), (1, 2)], [1, 2**31 - 1], 0), {}, LimitError, "3 nodes need 34087042 relays"),
        (([(0, 1), (1, 2)], [1 << 20, 1], 0), {}, LimitError, "steps to the farthest node is 1048577.*max_distance"),
    ],
)
def test_refused(arguments, options, error, match):
    with pytest.raises(error, match=match):
        shortest_paths(*arguments, **options)


def test_too_many_edges_into_a_node_are_refused():
    ends = np.arange(1, FAN_IN_MAX + 2)
    edges = np.stack([ends, np.zeros_like(ends)], axis=1)
    assert shortest_paths(edges[1:], 1, 0).distances[0] == 0
    with pytest.raises(LimitError, match="edges into a node is 65535"):
        shortest_paths(edges, 1, 0)


def test_a_record_too_large_for_lava_is_refused_before_the_run():
    edges = [(0, 1), (1, 70_000)]
    with pytest.raises(LimitError, match=r"record of 70080 neurons over 5002 steps is 350540160.*Use the emulator"):
        shortest_paths(edges, [2, 4999], 0, on="lava")


def test_a_path_that_was_not_found():
    found = shortest_paths([(0, 1), (1, 2)], [1, 5], 0, max_distance=5, nodes=4)
    assert found.distances.tolist() == [0, 1, -1, -1]
    with pytest.raises(ValueError, match="no path from node 0 to node 3"):
        found.path_to(3)
    with pytest.raises(LimitError, match="node is 4"):
        found.path_to(4)
