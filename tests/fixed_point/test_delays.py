"""Synapses with delays: the kernel against plain integers, and that Lava's children have nothing to compile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.fixed_point import delays
from lava_snnlearn.fixed_point.delays import Fanout

N_OUT, N_IN = 3, 4


def wrapped(value):
    return (value + 2**31) % 2**32 - 2**31


@st.composite
def edges(draw):
    """(source, target, weight entry, delay entry) of each synapse, and the two tables."""
    weights = draw(st.lists(st.integers(-3, 3) | st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=4))
    waits = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    ranges = (N_IN, N_OUT, len(weights), len(waits))
    synapse = st.tuples(*(st.integers(0, count - 1) for count in ranges))
    return draw(st.lists(synapse, max_size=25)), weights, waits


@settings(deadline=None, max_examples=200)
@given(graph=edges(), sent=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=N_IN, max_size=N_IN), graded=st.booleans())
def test_a_spike_reaches_its_own_synapses_alone(graph, sent, graded):
    synapses, weights, waits = graph
    rows, place = max(waits) + 1, 3 % (max(waits) + 1)
    before = np.arange(rows * N_OUT, dtype=np.int32).reshape(rows, N_OUT)
    expected = before.astype(object)
    for source, target, entry, wait in synapses:
        payload = sent[source] if graded else int(sent[source] != 0)
        expected[(place + waits[wait]) % rows, target] += weights[entry] * payload
    source, target, entry, wait = np.array(synapses, int).reshape(-1, 4).T
    ring = before.copy()
    carried = Fanout.of(N_IN, source, target, entry, wait).carrying(np.array(weights, np.int32), np.array(waits))
    carried.deliver(ring, place, np.array(sent, np.int32), graded)
    assert ring.tolist() == [[wrapped(value) for value in row] for row in expected.tolist()]


def test_synapses_without_weight_are_left_out():
    fanout = Fanout.of(2, *np.array([[1, 0, 1, 0, 1], [0, 1, 2, 2, 1], [0, 1, 2, 0, 1], [0, 0, 0, 1, 1]]))
    synapses = fanout.carrying(np.array([5, 0, 7]), np.array([3, 4]))
    assert synapses.first.tolist() == [0, 1, 3]
    assert synapses.target.tolist() == [2, 0, 2]
    assert synapses.weight.tolist() == [5, 5, 7]
    assert synapses.delay.tolist() == [4, 3, 3]


@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_prepared_is_all_that_runs_need(dtype):
    delays.prepare()
    known = list(delays.step_deliver._dispatcher.signatures)
    column = np.array([0, 1])
    synapses = Fanout.of(2, column, column, column, column).carrying(np.ones(2, dtype), np.array([0, 1], np.int32))
    ring = np.zeros((2, 2), dtype)
    for graded in (True, False):
        synapses.deliver(ring, 1, np.ones(2, dtype), graded)
    assert ring.tolist() == [[0, 2], [2, 0]]
    assert delays.step_deliver._dispatcher.signatures == known
