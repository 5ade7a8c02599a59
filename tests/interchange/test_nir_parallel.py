"""Parallel connections, told apart by labels, and names that meet: every map stays in the NIR graph, and comes back."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population
from lava_snnlearn.interchange import fixed_from_nir, to_nir

STEPS = 16


def _weights(seed: int, *shape: int) -> Any:
    draw = np.random.default_rng(seed)
    return 2 * draw.integers(-9, 15, shape) * (draw.random(shape) < 0.6)


def _network(*connections: Connection, **sizes: int) -> FixedNetwork:
    """Populations of these sizes, each a step behind the one before; the last one answers."""
    populations = tuple(Population(name, n, vth=40, dv=400, t_start=i + 1) for i, (name, n) in enumerate(sizes.items()))
    return FixedNetwork(populations, connections, HostInput("spikes", 6), STEPS, [*sizes][-1])


def _pair() -> FixedNetwork:
    """Matrices: the input into a, a into b."""
    return _network(
        Connection("input", "a", _weights(0, 8, 6)),
        Connection("input", "a", _weights(1, 8, 6), label="again"),
        Connection("a", "b", _weights(2, 5, 8), label="x"),
        Connection("a", "b", _weights(3, 5, 8), label="y"),
        a=8,
        b=5,
    )


def _loops() -> FixedNetwork:
    """Two connections of a population with itself."""
    return _network(
        Connection("input", "a", _weights(0, 8, 6)),
        Connection("a", "a", _weights(1, 8, 8) - 8),
        Connection("a", "a", _weights(2, 8, 8) - 8, label="own"),
        Connection("a", "b", _weights(3, 5, 8)),
        a=8,
        b=5,
    )


def _late() -> FixedNetwork:
    """Excitatory synapses at once, inhibitory ones two steps later."""
    both = _weights(0, 8, 6) + 4
    return _network(
        Connection("input", "a", np.maximum(both, 0), label="now"),
        Connection("input", "a", np.minimum(both, 0), label="late", delay=2),
        Connection("a", "b", _weights(3, 5, 8) + 4),
        a=8,
        b=5,
    )


def _images() -> FixedNetwork:
    """Convolutions, as imports make them of odd weights of both signs."""
    shape, kernel = ConvShape((1, 2, 3), padding=1), np.random.default_rng(3).integers(-40, 60, (2, 1, 3, 3))
    return _network(
        Connection(
            "input", "a", np.maximum(kernel, 0), geometry=shape, sign_mode="excitatory", label="excitatory", binary=True
        ),
        Connection("input", "a", np.minimum(kernel, 0), geometry=shape, sign_mode="inhibitory", label="inhibitory"),
        Connection("a", "b", _weights(3, 5, 12)),
        a=12,
        b=5,
    )


def _two_into_the_readout() -> FixedNetwork:
    """An accumulator that hears two populations, one of them twice."""
    network = _network(
        Connection("input", "a", _weights(0, 8, 6)),
        Connection("a", "b", _weights(1, 5, 8)),
        Connection("a", "c", _weights(2, 4, 8), delay=1),
        Connection("b", "c", _weights(3, 4, 5)),
        Connection("b", "c", _weights(4, 4, 5), label="again"),
        a=8,
        b=5,
        c=4,
    )
    *populations, _ = network.populations
    readout = Population("c", 4, "accumulator", t_start=3)
    return FixedNetwork((*populations, readout), network.connections, network.host, STEPS, "c")


def _names() -> FixedNetwork:
    """Populations that are called like the graph's own nodes; a label that is like the name of a node with a delay."""
    return _network(
        Connection("input", "output", _weights(0, 8, 6)),
        Connection("output", "output_to_lif", _weights(1, 5, 8)),
        Connection("output", "lif", _weights(2, 4, 8), delay=1),
        Connection("output", "lif", _weights(3, 4, 8), delay=1, label="delay"),
        Connection("output_to_lif", "lif", _weights(4, 4, 5)),
        output=8,
        output_to_lif=5,
        lif=4,
    )


@pytest.mark.parametrize("make", [_pair, _loops, _late, _images, _two_into_the_readout, _names])
def test_no_connection_is_lost(tmp_path: Any, make: Any) -> None:
    network, path = make(), tmp_path / "net.nir"
    to_nir(network, path, annotate=True)
    again = fixed_from_nir(path, weight_bits=8)
    x = (np.random.default_rng(9).random((STEPS, 4, 6)) < 0.4).astype(np.int32)
    first, second = snn.emulate(network, x), snn.emulate(again, x)
    assert all(0.02 < spikes.mean() < 0.9 for spikes in first.spikes.values())
    for mine, theirs in zip(first.spikes.values(), second.spikes.values(), strict=False):
        assert np.array_equal(mine, theirs)
    if network.population(network.output).spiking:
        assert np.array_equal(first.outputs, first.spikes[network.output].sum(axis=0))
    else:
        unit = 2.0 ** again.population(again.output).scale_bits
        assert np.array_equal(first.outputs, second.outputs / unit)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (_pair, {"input_to_a": 0, "input_to_a_again": 1, "a_to_b_x": 2, "a_to_b_y": 3}),
        (_loops, {"input_to_a": 0, "a.w_rec": 1, "a.w_rec_own": 2, "a_to_b": 3}),
    ],
)
def test_nodes_are_called_as_their_connections(make: Any, names: dict[str, int]) -> None:
    network, graph = make(), to_nir(make(), annotate=True)
    inner = [
        {f"{name}.{key}": node for key, node in node.nodes.items()}
        for name, node in graph.nodes.items()
        if hasattr(node, "nodes")
    ]
    nodes = dict(chain(graph.nodes.items(), *(part.items() for part in inner)))
    for name, index in names.items():
        assert np.array_equal(nodes[name].weight, network.connections[index].weight), name


def test_populations_that_the_input_does_not_reach_are_refused() -> None:
    """They would run on their bias; a reader of the graph could not tell which edge closes their loop."""
    own = Population("own", 3, vth=40, bias_mant=9, bias_exp=6)
    edges = (Connection("input", "a", _weights(0, 8, 6)), Connection("own", "a", _weights(1, 8, 3)))
    a = Population("a", 8, vth=40, t_start=1)
    for more in ((), (Connection("own", "own", _weights(2, 3, 3)),)):
        network = FixedNetwork((own, a), (*edges, *more), HostInput("spikes", 6), STEPS, "a")
        with pytest.raises(LimitError, match="nothing leads from the input to own"):
            to_nir(network, annotate=True)


def test_payloads_that_count_as_one_are_refused() -> None:
    edges = (Connection("input", "a", _weights(0, 8, 6), binary=True),)
    network = FixedNetwork((Population("a", 8, vth=40, t_start=1),), edges, HostInput("graded", 6), STEPS, "a")
    with pytest.raises(LimitError, match="connection input_to_a: values that count as 1"):
        to_nir(network, annotate=True)
