"""Which population answers in the NIR graph of a chip: the network's output, wherever it stands and whoever hears it."""

from __future__ import annotations

import numpy as np
import pytest

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population
from lava_snnlearn.interchange import fixed_from_nir, to_nir


def _network(*connections: Connection) -> FixedNetwork:
    """Population "a" answers; "b" stands behind it, and starts later."""
    populations = (Population("a", 4, vth=30, t_start=1), Population("b", 3, vth=30, t_start=2))
    forward = Connection("input", "a", np.random.default_rng(0).integers(-5, 15, (4, 5)) * 2)
    to_b = Connection("a", "b", np.random.default_rng(1).integers(-5, 15, (3, 4)) * 2)
    return FixedNetwork(populations, (forward, to_b, *connections), HostInput("spikes", 5), 20, "a")


def test_an_output_that_others_hear() -> None:
    back = np.random.default_rng(2).integers(-12, 6, (4, 3)) * 2
    chip = _network(Connection("b", "a", back, delay=1))
    graph = to_nir(chip, annotate=True)
    assert [source for source, target in graph.edges if target == "output"] == ["a"]
    again = fixed_from_nir(graph)
    x = (np.random.default_rng(3).random((20, 6, 5)) < 0.4).astype(np.uint8)
    first, second = snn.emulate(chip, x), snn.emulate(again, x)
    assert first.spikes["b"].any()
    assert len(np.unique(first.outputs)) > 3
    spike = again.population("readout").one
    assert np.array_equal(first.outputs * spike, second.outputs)


def test_neurons_that_nobody_hears() -> None:
    """The nir package gives them an output of their own, and no tool would know which one is the answer."""
    with pytest.raises(LimitError, match="population 'b': nobody hears it"):
        to_nir(_network(), annotate=True)
