"""Population, Connection and FixedNetwork: every limit, at its last good value and one beyond."""

import dataclasses

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput


def refuses(error, *fragments):
    """An error whose message holds all fragments, in this order."""
    return pytest.raises(error, match="(?s)" + ".*".join(fragments))


@pytest.mark.parametrize(
    "key, low, high, remedy",
    [
        ("size", 1, 1 << 24, "at least one neuron"),
        ("vth", 0, 131_071, "Lower the membrane scale"),
        ("delta", 0, 131_071, "Lower the membrane scale"),
        ("dv", 0, 4096, "dv/4096"),
        ("bias_mant", -4096, 4095, "Raise bias_exp"),
        ("bias_exp", 0, 7, "Lower the membrane scale"),
        ("v_init", -8_388_607, 8_388_607, "24 bits"),
        ("t_start", 0, 1 << 30, "counted from 0"),
        ("scale_bits", -512, 512, "normal float"),
    ],
)
def test_population_limits(key, low, high, remedy):
    assert np.all(getattr(Population("a", **{"size": 2} | {key: low}), key) == low)
    if key != "size":
        assert np.all(getattr(Population("a", **{"size": 2} | {key: high}), key) == high)
    for value in (low - 1, high + 1):
        with refuses(LimitError, "'a'", key, f" is {value}", rf"\[{low}, {high}\]", remedy):
            Population("a", **{"size": 2} | {key: value})


@pytest.mark.parametrize("key", ["size", "vth", "delta", "dv", "bias_exp", "v_init", "t_start", "scale_bits"])
@pytest.mark.parametrize("value", [1.0, True, "1", np.float32(2.0), np.array([1])])
def test_population_numbers_must_be_integers(key, value):
    with refuses(TypeError, "'a'", key, "must be an integer"):
        Population("a", **{"size": 2} | {key: value})


@pytest.mark.parametrize("value", [0.0, [1.0, 2.0], np.array([True, False]), np.array([0.5, 1.5]), [10**30, 0]])
def test_bias_must_be_integers(value):
    with refuses(TypeError, "'a'", "bias_mant", "must be integers"):
        Population("a", 2, bias_mant=value)


def test_population_values_are_named_by_index():
    with refuses(LimitError, "bias_mant is 4096 at index 2"):
        Population("a", 3, bias_mant=[0, 1, 4096])
    with refuses(LimitError, "bias_mant is 1099511627776", "int16"):
        Population("a", 1, bias_mant=1 << 40)
    with refuses(ValueError, "bias_mant", r"\(2,\)", r"\(3,\)"):
        Population("a", 3, bias_mant=[0, 1])


def test_numpy_integers_become_plain_ones():
    population = Population("a", np.int64(2), vth=np.uint8(5), bias_mant=np.array([1, 2], dtype=np.uint64))
    assert type(population.size) is int
    assert type(population.vth) is int
    assert population.delta == 5
    assert population.bias_mant.dtype == np.int16


@pytest.mark.parametrize("name", ["input", "", "a b", "1a", "a/b", "a.b"])
def test_population_names(name):
    with refuses(ValueError, "letters, digits and underscores"):
        Population(name, 1)


@pytest.mark.parametrize("kind, near", [("LIF", "lif"), ("soft_reset", "soft_reset_lif"), ("acumulator", "accumulator")])
def test_unknown_kinds_give_the_nearest(kind, near):
    with refuses(UnknownNameError, repr(kind), f"Did you mean '{near}'"):
        Population("a", 1, kind)


@pytest.mark.parametrize("delta", [3, 0])
def test_stock_lif_resets_to_zero(delta):
    assert Population("a", 1, "lif", vth=5, delta=5).delta == 5
    with refuses(ValueError, "'a'", "resets to zero"):
        Population("a", 1, "lif", vth=5, delta=delta)


@pytest.mark.parametrize(
    "key, low, high, remedy",
    [
        ("du", -1, 4095, r"\(du \+ 1\)/4096"),
        ("u_init", -8_388_607, 8_388_607, "24 bits"),
        ("reset_interval", 0, 1 << 30, "never"),
        ("reset_offset", 0, 1 << 30, "from 1"),
    ],
)
def test_limits_of_stock_lifs(key, low, high, remedy):
    for value in (low, high):
        assert getattr(Population("a", 2, "lif", **{key: value}), key) == value
    for value in (low - 1, high + 1):
        with refuses(LimitError, "'a'", f"{key} is {value}", rf"\[{low}, {high}\]", remedy):
            Population("a", 2, "lif", **{key: value})
    with refuses(TypeError, "'a'", key):
        Population("a", 2, "lif", **{key: 1.0})


@pytest.mark.parametrize("key", ["u_init", "v_init"])
def test_initial_states_of_single_stock_lifs(key):
    np.testing.assert_array_equal(getattr(Population("a", 2, "lif", **{key: [-3, 4]}), key), [-3, 4])
    with refuses(LimitError, "'a'", f"{key} is 8388608 at index 1", "24 bits"):
        Population("a", 2, "lif", **{key: [0, 1 << 23]})
    with refuses(ValueError, "'a'", key, r"\(3,\)", r"\(2,\)"):
        Population("a", 2, "lif", **{key: [0, 1, 2]})
    with refuses(TypeError, "'a'", "v_init", "must be an integer"):
        Population("a", 2, v_init=[0, 1])


@pytest.mark.parametrize("kind", ["soft_reset_lif", "accumulator", "relay"])
@pytest.mark.parametrize("extra", [{"du": 0}, {"u_init": 1}, {"reset_interval": 5}, {"reset_offset": 1}])
def test_only_stock_lifs_filter_their_current_and_reset_at_fixed_times(kind, extra):
    with refuses(ValueError, "'a'", "belong to stock LIFs", kind):
        Population("a", 1, kind, **extra)


@pytest.mark.parametrize("extra", [{"dv": 1}, {"v_init": 1}, {"bias_mant": 1}])
def test_relays_have_no_parameters(extra):
    with refuses(ValueError, "'a'", "a relay sends its synaptic sum as it is"):
        Population("a", 1, "relay", **extra)


@pytest.mark.parametrize("value", [-258, 256, 1 << 20])
def test_weights_out_of_range(value):
    with refuses(LimitError, "input_to_a", rf"weight is {value} at index \(1, 0\)"):
        Connection("input", "a", [[2, -256], [value, 254]])


def test_weights_at_the_limits_are_kept():
    weight = np.array([[-256, 254, 0, 2]])
    np.testing.assert_array_equal(Connection("input", "a", weight).weight, weight)


@pytest.mark.parametrize("value", [1, -1, 253, -255])
def test_odd_weights(value):
    with refuses(LimitError, "input_to_a", f"weight {value} is odd", "even"):
        Connection("input", "a", [[2, value]])


@pytest.mark.parametrize("weight", [2, [2, 4], np.zeros((0, 3), int), np.zeros((3, 0), int), np.zeros((1, 1, 1), int)])
def test_weights_are_matrices(weight):
    with refuses(ValueError, "weight has shape", r"\[n_target, n_source\]"):
        Connection("input", "a", weight)


@pytest.mark.parametrize("field, value", [("weight", [[2.0]]), ("weight", [[True]]), ("delay", 1.0), ("delay", [[0.0]])])
def test_synapses_must_be_integers(field, value):
    with refuses(TypeError, "input_to_a", field, "must be integers"):
        Connection("input", "a", **{"weight": [[2]]} | {field: value})


@pytest.mark.parametrize("value", [1.5, 1.0, True, None])
def test_the_exponent_must_be_an_integer(value):
    with refuses(TypeError, "exponent", "must be an integer"):
        Connection("input", "a", [[2]], exponent=value)


@pytest.mark.parametrize("field, low, high", [("exponent", -8, 7), ("delay", 0, 62)])
def test_connection_limits(field, low, high):
    for value in (low, high):
        assert getattr(Connection("input", "a", [[2, 4]], **{field: value}), field) == value
    for value in (low - 1, high + 1):
        with refuses(LimitError, "input_to_a", f"{field} is {value}", rf"\[{low}, {high}\]"):
            Connection("input", "a", [[2, 4]], **{field: value})


def test_delays_by_synapse():
    connection = Connection("input", "a", [[2, 4]], delay=[[0, 62]])
    assert connection.max_delay == 62
    with refuses(LimitError, r"delay is 63 at index \(0, 1\)", "0..62"):
        Connection("input", "a", [[2, 4]], delay=[[0, 63]])
    with refuses(ValueError, r"delay has shape \(2,\)", r"\(1, 2\)"):
        Connection("input", "a", [[2, 4]], delay=[0, 1])


@pytest.mark.parametrize("mode, low, high", [("excitatory", 0, 255), ("inhibitory", -255, 0)])
def test_weights_of_one_sign_may_be_odd(mode, low, high):
    weight = np.array([[low, high, (low + high) // 2]])
    np.testing.assert_array_equal(Connection("input", "a", weight, sign_mode=mode).weight, weight)
    for value in (low - 1, high + 1):
        with refuses(LimitError, "input_to_a", f"weight is {value}", rf"\[{low}, {high}\]", mode):
            Connection("input", "a", [[value]], sign_mode=mode)
    with refuses(UnknownNameError, "sign mode of connection input_to_a", "'excitator'", f"{mode}"):
        Connection("input", "a", weight, sign_mode="excitator")


def test_sums_that_are_shifted_right_have_no_delays():
    assert Connection("input", "a", [[2, 4]], exponent=-1).exponent == -1
    with refuses(ValueError, "input_to_a", "exponent is -1", "delays"):
        Connection("input", "a", [[2, 4]], exponent=-1, delay=[[0, 3]])


def test_labels_tell_connections_apart():
    assert Connection("a", "b", [[2]], label="late").name == "a_to_b_late"
    for label in ("a b", "a/b", 1):
        with refuses(ValueError, "label", "letters, digits and underscores"):
            Connection("a", "b", [[2]], label=label)
    with refuses(TypeError, "binary"):
        Connection("a", "b", [[2]], binary=1)


def test_bound_of_shifted_sums():
    # Of sums down to -6, floor(-6 / 4) = -2.
    assert Connection("input", "a", [[2, -4]], exponent=-2).bound(1) == 2
    assert Connection("input", "a", [[2, -4]], exponent=-2).reach(3) == 18
    assert Connection("input", "a", [[2, -4]], binary=True).bound(255) == 6


def test_bound_is_the_largest_row_sum():
    assert Connection("input", "a", [[2, -4], [254, -256]], exponent=3).bound(255) == (254 + 256) * 255 * 8


# ---- the whole graph ----------------------------------------------------------------------------------------------------


def current(*targets, size):
    return HostInput("current", size, targets=targets)


SQUARE = {"weight": np.full((3, 3), 2)}
MIXED = [[0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    "parts, error, fragments",
    [
        ({"entry": {"target": "hiden"}}, UnknownNameError, ("target", "'hiden'", "Did you mean 'hidden'")),
        ({"link": {"source": "hiddn"}}, UnknownNameError, ("source", "'hiddn'", "Did you mean 'hidden'")),
        ({"output": "oud"}, UnknownNameError, ("output", "'oud'", "Did you mean 'out'")),
        ({"out": {"name": "hidden"}}, ValueError, ("unique", "hidden")),
        ({"link": {"source": "out", "weight": [[2, 2], [2, 2]]}}, ValueError, ("out_to_out", "accumulator sends no spikes")),
        ({"link": {"weight": np.full((3, 2), 2)}}, ValueError, ("hidden_to_out", r"\(3, 2\)", r"\(2, 3\)")),
        ({"entry": {"weight": np.full((3, 5), 2)}}, ValueError, ("input_to_hidden", r"\(3, 5\)", r"\(3, 4\)")),
        ({"steps": 0}, LimitError, ("steps is 0", "at least one")),
        ({"steps": 2.0}, TypeError, ("steps", "2.0", "integer")),
        ({"steps": True}, TypeError, ("steps", "integer")),
        ({"populations": ()}, ValueError, ("at least one population",)),
        ({"connections": ()}, ValueError, ("'spikes'", "needs a connection from 'input'")),
        ({"host": current("hiden", size=3), "connections": ()}, UnknownNameError, ("Did you mean 'hidden'",)),
        ({"host": current("hidden", size=3), "entry": SQUARE}, ValueError, ("from 'input' are not allowed",)),
        ({"host": current("hidden", size=4), "connections": ()}, ValueError, ("4 neurons", "have 3")),
        ({"host": current("hidden", size=3), "connections": ()}, ValueError, ("t_start 0", "t_start 1")),
        ({"host": current("hidden", "out", size=3), "connections": ()}, ValueError, ("3 neurons", "have 5")),
        ({"hidden": {"kind": "lif"}, "out": {"t_start": 1}}, ValueError, ("stock LIF", "at step 2", "t_start is 1")),
        ({"hidden": {"kind": "lif"}, "link": {"delay": 1}}, ValueError, ("stock LIF", "at step 3", "subtraction")),
        ({"hidden": {"kind": "lif"}, "out": {"t_start": 3}}, ValueError, ("stock LIF", "at step 2", "t_start is 3")),
        ({"hidden": {"kind": "lif"}, "link": {"delay": MIXED}}, ValueError, ("stock LIF", "delays must be equal")),
    ],
)
def test_graphs_that_do_not_fit(chain, parts, error, fragments):
    with refuses(error, *fragments):
        chain(**parts)


def test_stock_lif_may_not_be_in_a_loop(chain):
    loop = Connection("hidden", "hidden", np.zeros((3, 3), int))
    network = chain()
    assert chain(connections=(*network.connections, loop)).period > 0
    with refuses(ValueError, "hidden_to_hidden", "stock LIF", "recurrent"):
        chain(hidden={"kind": "lif"}, connections=(*network.connections, loop))


def test_a_pair_of_populations_has_one_connection(chain):
    network = chain()
    with refuses(ValueError, "at most one connection"):
        chain(connections=(*network.connections, network.connections[0]))


def test_names_that_meet_in_the_middle_are_no_duplicates():
    nodes = tuple(Population(name, 1, t_start=1) for name in ("a", "b_to_c", "a_to_b", "c"))
    edges = [Connection("input", "a", [[2]]), Connection("a", "b_to_c", [[2]]), Connection("a_to_b", "c", [[4]])]
    edges.append(Connection("input", "a_to_b", [[6]]))
    network = FixedNetwork(nodes, tuple(edges), HostInput("spikes", 1), 3, "c")
    assert [int(connection.weight[0, 0]) for connection in network.connections] == [2, 2, 4, 6]


def test_a_population_apart_from_the_input_is_refused():
    nodes = (Population("a", 1, t_start=1), Population("b", 1, t_start=1), Population("c", 1, t_start=2))
    edges = (Connection("input", "a", [[2]]), Connection("b", "c", [[2]]))
    with pytest.raises(ValueError, match=r"\['b', 'c'\] are not connected with the input"):
        FixedNetwork(nodes, edges, HostInput("spikes", 1), 3, "c")


def sums(kind, columns, exponent):
    """A population whose synaptic sum can reach columns * 256 * 255 << exponent."""
    weight = np.full((1, columns), -256)
    target = Population("big", 1, kind, t_start=1)
    edge = Connection("input", "big", weight, exponent=exponent)
    return FixedNetwork((target,), (edge,), HostInput("graded", columns), 2, "big")


@pytest.mark.parametrize("kind, limit", [("lif", (1 << 25) - 1), ("soft_reset_lif", (1 << 31) - 1)])
def test_sums_beyond_the_channel(kind, limit):
    fits = limit // (256 * 255 << 7)
    assert sums(kind, fits, 7).population("big").kind == kind
    with refuses(LimitError, "'big'", str((fits + 1) * 256 * 255 << 7), str(limit), "smaller weights"):
        sums(kind, fits + 1, 7)


def test_sums_of_all_connections_count_together():
    big = Population("big", 1, "lif", t_start=9)
    weight, columns = np.full((1, 1000), 254), 1000
    sources = [Population(f"s{i}", columns) for i in range(2)]
    feed = [Connection("input", s.name, np.full((columns, 1), 2)) for s in sources]
    edges = [Connection(s.name, "big", weight, exponent=7) for s in sources]
    host, total = HostInput("spikes", 1), 2 * 1000 * 254 << 7
    assert total > (1 << 25) - 1 > total // 2
    FixedNetwork((big, *sources), (*feed, edges[0]), host, 2, "big")
    with refuses(LimitError, "'big'", str(total)):
        FixedNetwork((big, *sources), (*feed, *edges), host, 2, "big")


@pytest.mark.parametrize("tail, fits", [([-256, 12], False), ([-192], True)])
def test_the_input_current_counts_in_the_sum(tail, fits):
    # 1031 * 254 + 256 + 12 = 262142, and 262142 << 7 leaves 255 of the 2^25 - 1, but the input current can be 8190.
    row = [254] * 1031 + tail
    total = sum(map(abs, row)) << 7
    assert total + 8190 <= (1 << 25) - 1 if fits else total <= (1 << 25) - 1 < total + 8190
    nodes = (Population("fed", 1, "lif"), Population("source", len(row)))
    edge = Connection("source", "fed", [row], exponent=7)

    def build():
        return FixedNetwork(nodes, (edge,), HostInput("current", 1, targets=("fed",)), 2, "fed")

    if fits:
        assert build().incoming("fed") == [edge]
    else:
        with refuses(LimitError, "'fed'", str(total + 8190)):
            build()


# ---- what a valid network is ----------------------------------------------------------------------------------------------


def test_networks_are_immutable(chain):
    network = chain()
    hidden, entry = network.population("hidden"), network.connections[0]
    for thing, key in ((network, "steps"), (hidden, "vth"), (entry, "weight"), (network.host, "size")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, key, 1)
    for array in (hidden.bias_mant, entry.weight, entry.delay):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert isinstance(network.populations, tuple)
    assert isinstance(network.connections, tuple)


def test_arrays_are_copied():
    bias, weight, delay = np.array([1, 2], np.int16), np.array([[2, 4]], np.int16), np.array([[0, 1]], np.int16)
    population, connection = Population("a", 2, bias_mant=bias), Connection("input", "a", weight, delay=delay)
    for array in (bias, weight, delay):
        array[...] = 50
    assert population.bias_mant.tolist() == [1, 2]
    assert connection.weight.tolist() == [[2, 4]]
    assert connection.delay.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    "starts, delay, expected",
    [((1, 2), 0, 7), ((1, 2), 3, 10), ((0, 1), 0, 7), ((0, 0), 2, 8), ((4, 2), 0, 9)],
)
def test_period_lets_the_last_spike_land_where_it_is_ignored(chain, starts, delay, expected):
    network = chain(hidden={"t_start": starts[0]}, out={"t_start": starts[1]}, link={"delay": delay})
    assert network.period == expected
    last_sent = starts[0] + network.steps - 1
    assert last_sent + 1 + delay < expected + starts[1]


def test_lookup(chain):
    network = chain()
    assert network.population("out").size == 2
    assert [connection.name for connection in network.incoming("out")] == ["hidden_to_out"]
    with refuses(UnknownNameError, "'outt'", "Did you mean 'out'"):
        network.population("outt")


def test_the_table_shows_what_matters(chain):
    network = chain(
        hidden={"vth": 77, "dv": 1234, "bias_mant": [-3, 0, 5], "bias_exp": 4, "scale_bits": 3},
        link={"weight": [[-6, 0, 8], [0, 0, 0]], "exponent": 2, "delay": [[0, 1, 2], [3, 4, 5]]},
        notes=("a note of the quantiser",),
    )
    lines = str(network).splitlines()
    hidden = next(line.split() for line in lines if line.startswith("hidden "))
    link = next(line.split() for line in lines if line.startswith("hidden_to_out"))
    assert lines[0] == f"FixedNetwork: 5 neurons, 14 synapses, T = 5 steps ({network.period} a sample on Lava)"
    assert {"spikes,", "4"} <= set(lines[1].split())
    assert hidden == ["hidden", "3", "soft_reset_lif", "77", "1234", "-48..80", "1", "8", "4", "1"]
    assert link == ["hidden_to_out", "2x3", "-6..8", "2", "0..5", "2", "2", "0.0", "56"]
    assert lines[-1] == "a note of the quantiser"
    assert max(map(len, lines)) < 128


def test_dict_round_trip(chain):
    network = chain(hidden={"bias_mant": [-3, 0, 5]}, link={"delay": [[0, 1, 2], [3, 4, 5]]}, notes=("n",))
    again = FixedNetwork.from_dict(network.to_dict())
    assert str(again) == str(network)
    for ours, theirs in zip(network.populations, again.populations, strict=True):
        assert {k: np.asarray(v).tolist() for k, v in vars(ours).items()} == {
            k: np.asarray(v).tolist() for k, v in vars(theirs).items()
        }
    for ours, theirs in zip(network.connections, again.connections, strict=True):
        np.testing.assert_array_equal(ours.weight, theirs.weight)
        np.testing.assert_array_equal(ours.delay, theirs.delay)
