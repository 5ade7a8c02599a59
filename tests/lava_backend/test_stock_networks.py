"""FixedNetworks with all that Lava's stock LIF, Dense and their kin compute: emulator against the stock models."""

from dataclasses import replace

import numpy as np
import pytest
from lava.proc.lif.process import LIF, LIFReset

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population
from lava_snnlearn.fixed_point.table import table
from lava_snnlearn.lava_backend.driver import InProcessModel
from lava_snnlearn.lava_backend.graph import build, run_in_process, run_lava

WRAP_FREE = (1 << 25) - 1


def same(ours, theirs):
    """All spikes and membranes are equal; how many of them there are."""
    assert set(ours.spikes) == set(theirs.spikes)
    for name, membranes in theirs.membranes.items():
        np.testing.assert_array_equal(ours.membranes[name], membranes, err_msg=name)
        if name in theirs.spikes:
            np.testing.assert_array_equal(ours.spikes[name], theirs.spikes[name], err_msg=name)
            assert ours.spikes[name].dtype == theirs.spikes[name].dtype
    np.testing.assert_array_equal(ours.outputs, theirs.outputs)
    return sum(membranes.size for membranes in theirs.membranes.values())


@pytest.mark.parametrize("reach", [40, 1 << 12, 1 << 18, 1 << 20, WRAP_FREE])
@pytest.mark.parametrize("reset", [0, 7])
@pytest.mark.parametrize("du", [-1, 0, 1500, 4094, 4095])
def test_stock_lif_up_to_int32(du, reset, reach):
    """Currents that wrap at 24 bits, leave them, and wrap at 32."""
    draw = np.random.default_rng([du + 1, reset, reach])
    size, steps = 60, 60
    options = {
        "du": du,
        "dv": int(draw.choice([0, 1, 300, 4095, 4096])),
        "vth": int(draw.choice([0, 100, 131_071])),
        "bias_mant": draw.integers(-4096, 4096, size),
        "bias_exp": int(draw.integers(0, 8)),
    }
    start = {"u": draw.integers(-8_388_607, 8_388_608, size), "v": draw.integers(-8_388_607, 8_388_608, size)}
    data = draw.integers(-reach, reach + 1, (steps, 1, size))
    data[draw.random(data.shape) < 0.3] = reach
    named = {f"{key}_init": value for key, value in start.items()}
    population = Population("a", size, "lif", reset_interval=reset, reset_offset=3 if reset else 0, **named, **options)
    network = FixedNetwork((population,), (), HostInput("current", size, ("a",), largest=reach), steps, "a")
    trace = snn.emulate(network, data)
    process = LIFReset(shape=(size,), reset_interval=reset, reset_offset=3, **start, **options) if reset else None
    model = InProcessModel(process or LIF(shape=(size,), **start, **options))
    for t in range(steps):
        spikes = model.step(a_in=data[t, 0].astype(np.int32))["s_out"]
        np.testing.assert_array_equal(trace.spikes["a"][t, 0], spikes)
        np.testing.assert_array_equal(trace.membranes["a"][t, 0], model.read("v"))


def layered(seed, **late):
    """input -> relay -> lif -> lif, with weights of all signs, shifted sums, payloads, and two ways between the last two."""
    draw = np.random.default_rng(seed)
    nodes = (
        Population("between", 4, "relay"),
        Population("first", 6, "lif", vth=40, du=1000, dv=200, bias_mant=draw.integers(-20, 60, 6), **late),
        Population("last", 3, "lif", vth=90, dv=40, reset_interval=5, reset_offset=2),
    )
    edges = (
        Connection("input", "between", 2 * draw.integers(-30, 40, (4, 5)), exponent=-3),
        Connection("between", "first", draw.integers(0, 30, (6, 4)), sign_mode="excitatory", exponent=-2),
        Connection("input", "first", 2 * draw.integers(-9, 9, (6, 5)), binary=True),
        Connection(
            "first",
            "last",
            draw.integers(-255, 1, (3, 6)),
            sign_mode="inhibitory",
            delay=draw.integers(0, 5, (3, 6)),
            label="a",
        ),
        Connection("first", "last", 2 * draw.integers(0, 90, (3, 6)), exponent=1, label="b"),
        Connection("between", "last", 2 * draw.integers(-9, 9, (3, 4)), binary=True, delay=2),
    )
    network = FixedNetwork(nodes, edges, HostInput("graded", 5, largest=3000), 20, "last")
    return network, draw.integers(-3000, 3001, (20, 3, 5)) * (draw.random((20, 3, 5)) < 0.6)


@pytest.mark.parametrize("seed", range(12))
def test_networks_on_the_models_of_lava(seed):
    network, x = layered(seed, u_init=[0, 900, -900, 64, 1, -1], v_init=77)
    assert network.one_by_one
    assert same(snn.emulate(network, x), run_in_process(network, x)) == 20 * 3 * 13


def test_samples_run_one_by_one_on_lava():
    network, x = layered(50)
    trace = run_lava(network, x[:, :2])
    same(snn.emulate(network, x[:, :2]), trace)
    assert trace.spikes["last"].any()
    assert trace.spikes["between"].dtype == np.int32
    assert trace.spikes["between"].min() < -1
    with pytest.raises(ValueError, match="one by one on Lava, and there are 3"):
        build(network, x)


def test_a_lockstep_of_filtered_currents_is_one_long_run():
    """A stock LIF may filter its current in a network whose samples follow each other in one run."""
    draw = np.random.default_rng(1)
    nodes = tuple(Population(f"p{i}", 5, "lif", vth=60, du=700, dv=90, bias_mant=3, t_start=i) for i in (1, 2))
    edges = (
        Connection("input", "p1", 2 * draw.integers(-30, 50, (5, 4))),
        Connection("p1", "p2", 2 * draw.integers(-30, 50, (5, 5)), exponent=-1),
    )
    network = FixedNetwork(nodes, edges, HostInput("spikes", 4), 12, "p2")
    assert not network.one_by_one
    x = draw.integers(0, 2, (12, 4, 4))
    assert same(snn.emulate(network, x), run_in_process(network, x)) == 12 * 4 * 10


def late(seed, loop):
    """Stock LIFs with biases that start one after the other, over mixed delays (which arrive in time, and later)."""
    draw = np.random.default_rng(seed)
    sizes = {"input": 5, "a": 7, "b": 6, "c": 4}
    nodes = tuple(
        Population(n, sizes[n], "lif", vth=60, du=du, dv=80, bias_mant=draw.integers(-9, 12, sizes[n]), bias_exp=6, t_start=i)
        for i, (n, du) in enumerate((("a", 4095), ("b", 900), ("c", 4095)), 1)
    )
    pairs = [("input", "a"), ("a", "b"), ("b", "c"), ("a", "c"), *([("b", "b"), ("c", "a")] if loop else [])]
    edges = []
    for source, target in pairs:
        shape = sizes[target], sizes[source]
        least = int((source, target) == ("a", "c"))
        edges.append(Connection(source, target, 2 * draw.integers(-20, 30, shape), delay=draw.integers(least, 4, shape)))
    last = Population("sum", 2, "accumulator", t_start=4)
    edges.append(Connection("c", "sum", 2 * draw.integers(-9, 9, (2, 4))))
    network = FixedNetwork((*nodes, last), tuple(edges), HostInput("spikes", 5), 14, "sum")
    return network, draw.integers(0, 2, (14, 3, 5))


@pytest.mark.parametrize("seed", range(8))
def test_stock_neurons_that_start_late(seed):
    """Before its first active step a stock LIF charges by its bias already; that is undone."""
    network, x = late(seed, loop=False)
    assert network.one_by_one
    trace = snn.emulate(network, x)
    assert 0.05 < trace.spikes["c"].mean() < 0.8
    assert same(trace, run_in_process(network, x)) == 14 * 3 * 19


@pytest.mark.parametrize("seed", range(2))
def test_late_stock_neurons_in_circles_on_lava(seed):
    network, x = late(seed, loop=True)
    assert same(snn.emulate(network, x), run_lava(network, x)) == 14 * 3 * 19


def test_large_biases_wait():
    """Neurons whose bias alone would make them spike in every step."""
    network, x = late(0, loop=True)
    loud = replace(network.population("b"), bias_mant=[0, 0, 0, 200, 0, 0])
    network = replace_population(network, loud)
    trace = snn.emulate(network, x)
    assert trace.spikes["b"][:, :, 3].mean() > 0.9
    same(trace, run_lava(network, x))


def test_late_stock_neurons_that_would_not_be_silent():
    network, _ = late(0, loop=True)
    forgetful = replace(network.population("b"), dv=4096, bias_mant=[0, 0, 0, 60, 0, 0])
    assert replace_population(network, forgetful).one_by_one
    with pytest.raises(ValueError, match=r"'b' is a stock LIF.*neuron 3 alone makes it spike before its first active step"):
        replace_population(network, replace(forgetful, bias_mant=[0, 0, 0, 61, 0, 0]))
    with pytest.raises(ValueError, match=r"a_to_b: population 'a' is a stock LIF.*first does so in step 2; so 'b' must"):
        replace_population(network, replace(network.population("b"), t_start=3))


def replace_population(network, population):
    nodes = tuple(population if population.name == p.name else p for p in network.populations)
    return replace(network, populations=nodes)


@pytest.mark.parametrize("change", [{"u_init": 5}, {"v_init": 5}, {"reset_interval": 4}, {"v_init": [0, 1, 2]}])
def test_states_and_resets_need_samples_of_their_own(change):
    nodes = (Population("a", 3, "lif", vth=60, t_start=1, **change),)
    edges = (Connection("input", "a", [[2]] * 3),)
    with pytest.raises(ValueError, match=r"(?s)\['a'\] have an initial state or resets.*t_start 0, but \['a'\]"):
        FixedNetwork(nodes, edges, HostInput("spikes", 1), 4, "a")


def test_relays_in_a_circle_have_no_bound():
    nodes = (Population("a", 1, "relay"), Population("b", 1, "relay"))
    edges = (Connection("input", "a", [[2]]), Connection("a", "b", [[2]]), Connection("b", "a", [[2]]))
    with pytest.raises(LimitError, match="feed each other in a circle"):
        FixedNetwork(nodes, edges, HostInput("spikes", 1), 4, "b")


def test_bounds_of_relays_add_up():
    nodes = (Population("a", 1, "relay"), Population("b", 1, "accumulator"))
    edges = (Connection("input", "a", [[100, -50]]), Connection("a", "b", [[-200]]))
    network = FixedNetwork(nodes, edges, HostInput("graded", 2, largest=7), 4, "b")
    assert network.largest_sent("a") == 1050
    assert network.smallest_sent("a") == -1050
    assert network.connections[1].bound(network.largest_sent("a")) == 210_000
    with pytest.raises(LimitError, match="'b': its synaptic sum can reach"):
        FixedNetwork(nodes, edges, HostInput("graded", 2, largest=1 << 20), 4, "b")


def test_files_and_tables(tmp_path):
    network, x = layered(3, u_init=[0, 900, -900, 64, 1, -1])
    network.save(tmp_path / "net.h5")
    again = FixedNetwork.load(tmp_path / "net.h5")
    same(snn.emulate(again, x), snn.emulate(network, x))
    text = table(network)
    assert "first_to_last_a" in text
    assert "relay" in text
    assert "200, du 1000" in text
