"""Streams: the same as emulate, wherever the input is cut."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.streaming import Stream


def pieces(x, cuts):
    """x [T, ...] cut before these steps."""
    edges = [0, *sorted(set(cuts)), len(x)]
    return [x[a:b] for a, b in pairwise(edges) if a < b]


def assert_streams(network, x, cuts):
    """``network.steps`` is the length of x [T, B, n]."""
    whole = emulate(network, x)
    names = [p.name for p in network.populations if p.spiking]
    stream = Stream(network, x.shape[1], record=names)
    found, kept = [], {name: [] for name in names}
    for piece in pieces(x, cuts):
        found.append(stream.run(piece))
        assert len(found[-1]) == len(piece)
        for name in names:
            kept[name].append(stream.spikes[name])
    output = network.population(network.output)
    expected = (whole.spikes if output.spiking else whole.membranes)[output.name]
    rows, lag = np.concatenate(found), stream.lag
    assert not rows[:lag].any()
    np.testing.assert_array_equal(rows[lag:], expected[: max(0, len(x) - lag)])
    for name in names:
        start = network.population(name).t_start
        np.testing.assert_array_equal(np.concatenate(kept[name])[start:], whole.spikes[name][: max(0, len(x) - start)])
    assert stream.step == len(x)


@settings(deadline=None, derandomize=True, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_random_networks_cut_anywhere(random_case, data):
    network, x = random_case(data)
    moving = x if x.ndim == 3 else np.repeat(x[None], network.steps, axis=0)
    cuts = data.draw(st.lists(st.integers(0, network.steps), max_size=4))
    assert_streams(network, moving, cuts)


def chain(**changes):
    """Convolution with a delay, mixed delays, a circle, an accumulator that starts late."""
    rng = np.random.default_rng(0)
    geometry = ConvShape((1, 6, 6), padding=1, stride=2)
    nodes = (
        Population("a", 18, vth=40, dv=300, t_start=2),
        Population("b", 7, vth=30, t_start=1),
        Population("out", 3, "accumulator", dv=90, t_start=6),
    )
    edges = (
        Connection("input", "a", 2 * rng.integers(-10, 14, (2, 1, 3, 3)), delay=3, geometry=geometry),
        Connection("a", "b", 2 * rng.integers(-10, 14, (7, 18)), delay=rng.integers(0, 8, (7, 18))),
        Connection("b", "a", 2 * rng.integers(-10, 10, (18, 7)), delay=rng.integers(0, 3, (18, 7))),
        Connection("b", "out", 2 * rng.integers(-10, 14, (3, 7))),
    )
    fields = {"populations": nodes, "connections": edges, "host": HostInput("spikes", 36), "steps": 200, "output": "out"}
    return FixedNetwork(**fields | changes)


@pytest.mark.parametrize("cuts", [[], [1, 2, 3], [64, 128], [7, 70, 133, 199], list(range(0, 200, 3))])
def test_all_that_is_under_way_goes_on(cuts):
    network = chain()
    x = (np.random.default_rng(1).random((200, 3, 36)) < 0.2).astype(np.uint8)
    assert emulate(network, x).spikes["b"].mean() > 0.05
    assert_streams(network, x, cuts)


def test_currents_wait_for_populations_that_start_later():
    nodes = (Population("a", 2, vth=20, t_start=0), Population("b", 3, vth=30, dv=90, t_start=4))
    edge = Connection("a", "b", np.full((3, 2), 8))
    network = FixedNetwork(nodes, (edge,), HostInput("current", 5, targets=("a", "b")), 30, "b")
    x = np.random.default_rng(0).integers(-20, 60, (30, 2, 5))
    assert_streams(network, x, [1, 2, 5, 6, 7, 20])


def test_silence_at_the_end_shows_the_rest():
    nodes = (Population("a", 8, vth=40, dv=300, t_start=1), Population("out", 3, "accumulator", t_start=2))
    rng = np.random.default_rng(0)
    edges = [
        Connection("input", "a", 2 * rng.integers(-10, 14, (8, 36))),
        Connection("a", "out", 2 * rng.integers(-9, 9, (3, 8))),
    ]
    network = FixedNetwork(nodes, edges, HostInput("spikes", 36), 50, "out")
    x = (rng.random((50, 2, 36)) < 0.2).astype(np.uint8)
    stream = Stream(network, 2)
    rows = np.concatenate([stream.run(x), stream.run(np.zeros((stream.lag, 2, 36), np.uint8))])
    assert rows[stream.lag :].tolist() == emulate(network, x).membranes["out"].tolist()


def test_answers_and_reset():
    network = chain(output="b")
    x = (np.random.default_rng(3).random((20, 2, 36)) < 0.3).astype(np.uint8)
    stream = Stream(network, 2)
    spikes = stream.run(x)
    assert spikes.dtype == np.uint8
    assert stream.outputs.tolist() == spikes.sum(0, dtype=int).tolist()
    assert spikes.any()
    assert set(stream.saturated) == {"a", "b", "out"}
    again = stream.run(x)
    assert stream.outputs.tolist() == (spikes.astype(int).sum(0) + again.sum(0)).tolist()
    stream.reset()
    assert (stream.step, stream.outputs.any()) == (0, False)
    assert stream.run(x).tolist() == spikes.tolist()


def test_memory_does_not_grow_with_time():
    network = chain()
    stream, x = Stream(network, 4), np.zeros((100, 4, 36), np.uint8)
    peaks, left = [], []
    stream.run(x)
    gc.collect()
    gc.disable()  # numba's views of arrays wait for it; here it comes at the same places in every round
    tracemalloc.start()
    try:
        for _ in range(10):
            tracemalloc.reset_peak()
            for _ in range(20):
                kept = stream.run(x).nbytes
            peaks.append(tracemalloc.get_traced_memory()[1])
            gc.collect()
            left.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        gc.enable()
    assert left[-1] < left[0] + 10 * kept
    assert max(peaks) < peaks[0] + 10 * kept


def test_what_does_not_fit_is_refused_and_changes_nothing():
    network = chain()
    stream = Stream(network, 2)
    for bad in (np.zeros((5, 3, 36), int), np.zeros((2, 36), int), np.zeros((5, 2, 35), int)):
        with pytest.raises(ValueError, match="shape"):
            stream.run(bad)
    with pytest.raises(ValueError, match=r"\[T, 2, n\], T at least 1, got \(0, 2, 36\)"):
        stream.run(np.zeros((0, 2, 36), int))
    with pytest.raises(LimitError, match="spike input"):
        stream.run(np.full((5, 2, 36), 2))
    assert stream.step == 0
    with pytest.raises(UnknownNameError, match="unknown population to record 'c'"):
        Stream(network, record=["c"])
    with pytest.raises(TypeError, match=r"record is 'b'; .* e.g. \('b',\)"):
        Stream(network, record="b")
    with pytest.raises(UnknownNameError):
        Stream(network, record=["out"])
    with pytest.raises(ValueError, match="batch"):
        Stream(network, 0)
    with pytest.raises(TypeError, match="FixedNetwork"):
        Stream("network")
