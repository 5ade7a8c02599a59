"""The emulator against the slow reference on random networks, and on networks whose answer is known."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.engine.products import Product, exact_dtype
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput

TOP = (1 << 23) - 1


@settings(deadline=None, derandomize=True, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_random_networks_equal_the_reference(reference, random_case, data):
    network, x = random_case(data)
    trace = emulate(network, x)
    expected = reference.simulate(network, network.encode(x))
    assert set(trace.membranes) == {p.name for p in network.populations}
    assert set(trace.spikes) == {p.name for p in network.populations if p.spiking}
    for name, membranes in trace.membranes.items():
        np.testing.assert_array_equal(membranes, expected.membranes[name], err_msg=name)
    for name, spikes in trace.spikes.items():
        np.testing.assert_array_equal(spikes, expected.spikes[name], err_msg=name)
    assert trace.saturated == expected.saturated
    output = network.population(network.output)
    outputs = expected.spikes[output.name].sum(0) if output.spiking else expected.membranes[output.name][-1]
    np.testing.assert_array_equal(trace.outputs, outputs)
    np.testing.assert_array_equal(trace.predictions, [row.index(max(row)) for row in outputs.tolist()])


def test_the_random_networks_reach_every_corner(random_case):
    """So that the proof above cannot become empty: what its cases hold is counted."""
    found = dict.fromkeys(
        ["current", "graded", "spikes", "lif", "soft_reset_lif", "accumulator", "loop", "delay", "negative", "clipped", "tie"],
        0,
    )

    # Many: what hypothesis draws depends on the modules that are loaded, and clipping is rare.
    @settings(deadline=None, derandomize=True, max_examples=600, database=None)
    @given(data=st.data())
    def look(data):
        network, x = random_case(data)
        place = {p.name: index for index, p in enumerate(sorted(network.populations, key=lambda p: p.name))}
        for corner in [network.host.form, *(p.kind for p in network.populations)]:
            found[corner] += 1
        inner = [c for c in network.connections if c.source != "input"]
        found["loop"] += any(place[c.source] >= place[c.target] for c in inner)
        found["delay"] += any(c.max_delay for c in network.connections)
        found["negative"] += any((np.asarray(p.bias_mant) < 0).any() for p in network.populations)
        trace = emulate(network, x)
        found["clipped"] += any(trace.saturated.values())
        # A spike that leaves nothing behind: the membrane was exactly at what it lost.
        soft = [p.name for p in network.populations if p.kind == "soft_reset_lif" and p.delta == p.vth > 0]
        found["tie"] += any(((trace.spikes[name] == 1) & (trace.membranes[name] == 0)).any() for name in soft)

    look()
    assert min(found.values()) > 0, found


def spiking_chain(size=5, inputs=6, steps=7, seed=0):
    rng = np.random.default_rng(seed)
    nodes = (
        Population("a", size, vth=40, dv=300, bias_mant=rng.integers(-50, 50, size), t_start=1),
        Population("b", size, vth=60, dv=0, v_init=-200, t_start=2),
        Population("out", 3, "accumulator", t_start=3),
    )
    weights = [2 * rng.integers(-30, 40, shape) for shape in ((size, inputs), (size, size), (3, size))]
    ends = [("input", "a"), ("a", "b"), ("b", "out")]
    edges = [Connection(*pair, weight) for pair, weight in zip(ends, weights, strict=True)]
    return FixedNetwork(nodes, tuple(edges), HostInput("spikes", inputs), steps, "out")


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("static", [False, True])
def test_each_sample_is_on_its_own(loop, static):
    network = spiking_chain()
    if loop:
        back = Connection("b", "a", np.full((5, 5), -8), delay=2)
        network = FixedNetwork(network.populations, (*network.connections, back), network.host, network.steps, "out")
    samples = 2 * 256 + 3
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, (samples, 6) if static else (network.steps, samples, 6))
    whole = emulate(network, x)
    for index in [0, 1, 254, 255, 256, 257, 511, 512, samples - 1]:
        alone = emulate(network, x[index : index + 1] if static else x[:, index : index + 1])
        np.testing.assert_array_equal(whole.outputs[index], alone.outputs[0])
        for name in whole.membranes:
            np.testing.assert_array_equal(whole.membranes[name][:, index], alone.membranes[name][:, 0])
        for name in whole.spikes:
            np.testing.assert_array_equal(whole.spikes[name][:, index], alone.spikes[name][:, 0])
    assert not any(whole.saturated.values())
    assert len(np.unique(whole.outputs, axis=0)) > 10


def test_saturation_is_counted_over_all_batches():
    # The bias alone lifts the membrane by 4095 * 128 a step; the 24 bits are full at step 17, and clipped from then on.
    steps, samples = 20, 300
    node = Population("out", 2, "accumulator", bias_mant=[4095, 0], bias_exp=7, t_start=1)
    edge = Connection("input", "out", [[0], [0]])
    network = FixedNetwork((node,), (edge,), HostInput("spikes", 1), steps, "out")
    trace = emulate(network, np.zeros((samples, 1), int))
    clipped = sum(step * (4095 << 7) > TOP for step in range(1, steps + 1))
    assert clipped == 4
    assert trace.saturated == {"out": clipped * samples}
    assert trace.outputs.tolist() == [[TOP, 0]] * samples


def test_a_spike_needs_one_step_and_its_delay():
    steps = 8
    node = Population("out", 3, vth=5, t_start=0)
    edge = Connection("input", "out", [[6], [6], [6]], delay=[[0], [2], [6]])
    network = FixedNetwork((node,), (edge,), HostInput("spikes", 1), steps, "out")
    impulse = np.zeros((steps, 1, 1), int)
    impulse[0] = 1
    spikes = emulate(network, impulse).spikes["out"][:, 0]
    assert [np.flatnonzero(column).tolist() for column in spikes.T] == [[1], [3], [7]]


def test_idle_populations_hear_nothing():
    steps = 4
    node = Population("out", 1, "accumulator", bias_mant=3, t_start=3)
    network = FixedNetwork((node,), (Connection("input", "out", [[2]]),), HostInput("spikes", 1), steps, "out")
    membranes = emulate(network, np.ones((1, 1), int)).membranes["out"][:, 0, 0]
    # Active in the steps 3..6; the input of the steps 2 and 3 arrives then, that of 0 and 1 came before.
    assert membranes.tolist() == [128 + 3, 256 + 6, 256 + 9, 256 + 12]


@pytest.mark.parametrize("record, membranes, spikes", [("all", 3, 2), ("spikes", 0, 2), ("outputs", 0, 0)])
def test_records(record, membranes, spikes):
    network, x = spiking_chain(), np.random.default_rng(3).integers(0, 2, (300, 6))
    trace, full = emulate(network, x, record=record), emulate(network, x)
    assert (len(trace.membranes), len(trace.spikes)) == (membranes, spikes)
    np.testing.assert_array_equal(trace.outputs, full.outputs)
    assert trace.saturated == full.saturated
    for name, kept in trace.spikes.items():
        assert kept.dtype == np.uint8
        np.testing.assert_array_equal(kept, full.spikes[name])
    for kept in trace.membranes.values():
        assert kept.dtype == np.int32


def test_unknown_records():
    with pytest.raises(UnknownNameError, match=r"'output'.*Did you mean 'outputs'"):
        emulate(spiking_chain(), np.zeros((1, 6), int), record="output")


def test_input_that_does_not_fit():
    with pytest.raises(ValueError, match=r"expected \[batch, 6\]"):
        emulate(spiking_chain(), np.zeros((0, 6), int))


def test_spike_rates_and_ties_of_predictions():
    node = Population("out", 3, vth=1, t_start=1)
    edge = Connection("input", "out", [[2], [2], [0]])
    network = FixedNetwork((node,), (edge,), HostInput("spikes", 1), 4, "out")
    trace = emulate(network, np.ones((2, 1), int))
    assert trace.outputs.tolist() == [[4, 4, 0]] * 2
    assert trace.predictions.tolist() == [0, 0]
    assert trace.spike_rates() == {"out": 2 / 3}


# ---- exactness of the products --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bound, dtype",
    [
        (0, np.float32),
        ((1 << 24) - 1, np.float32),
        (1 << 24, np.float64),
        ((1 << 53) - 1, np.float64),
        (1 << 53, np.int64),
        (1 << 62, np.int64),
    ],
)
def test_exact_dtype(bound, dtype):
    assert exact_dtype(bound) is dtype


@pytest.mark.parametrize("columns, dtype", [(259, np.float32), (260, np.float64)])
def test_the_product_takes_the_dtype_of_its_bound(columns, dtype):
    assert (254 * 255 * columns < 1 << 24) == (dtype is np.float32)
    product = Product.of(Connection("input", "a", np.full((2, columns), 254), exponent=4), 255)
    assert product.dtype is dtype
    assert product.lags.tolist() == [0] * columns
    largest = product.apply(np.full((3, columns), 255))
    assert largest.tolist() == [[254 * 255 * columns << 4] * 2] * 3


def test_sums_beyond_float32_are_exact():
    """Large terms of both signs that cancel to a small sum: float32 loses it on the way, the emulator must not."""
    pairs, targets, samples, rng = 8000, 4, 3, np.random.default_rng(0)
    positive = 2 * rng.integers(60, 128, (targets, pairs))
    weight = np.concatenate([positive, -positive, np.full((targets, 1), 2)], axis=1)
    half = rng.integers(128, 256, (samples, pairs))
    mixed = np.concatenate([np.arange(pairs), pairs + rng.permutation(pairs), [2 * pairs]])
    payload = np.concatenate([half, half, rng.integers(1, 9, (samples, 1))], axis=1)
    exact = np.array([[2 * int(row[-1])] * targets for row in payload])
    weight, payload = weight[:, mixed], payload[:, mixed]
    edge = Connection("input", "out", weight)
    product = Product.of(edge, 255)
    careless = dataclasses.replace(product, dtype=np.float32, weight=product.weight.astype(np.float32))
    assert (careless.apply(payload) != exact).any()
    node = Population("out", targets, "accumulator", t_start=1)
    network = FixedNetwork((node,), (edge,), HostInput("graded", weight.shape[1]), 2, "out")
    np.testing.assert_array_equal(emulate(network, payload).outputs, 2 * 64 * exact)
