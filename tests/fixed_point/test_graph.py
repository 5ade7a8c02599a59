"""FixedNetwork: parts that do not fit each other, sums, what a valid network is."""

import dataclasses

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput


def refuses(error, *fragments):
    """An error whose message holds all fragments, in this order."""
    return pytest.raises(error, match="(?s)" + ".*".join(fragments))


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
        ({"hidden": {"kind": "lif"}, "out": {"t_start": 3}}, ValueError, ("stock LIF", "in step 2", "t_start is 3")),
    ],
)
def test_graphs_that_do_not_fit(chain, parts, error, fragments):
    with refuses(error, *fragments):
        chain(**parts)


@pytest.mark.parametrize("parts", [{"out": {"t_start": 1}}, {"link": {"delay": 1}}, {"link": {"delay": MIXED}}])
def test_stock_lifs_out_of_lockstep_run_one_by_one(chain, parts):
    assert not chain(hidden={"kind": "lif"}).one_by_one
    assert chain(hidden={"kind": "lif"}, **parts).one_by_one
    assert not chain(**parts).one_by_one


def test_stock_lifs_in_a_loop_run_one_by_one(chain):
    loop = Connection("hidden", "hidden", np.zeros((3, 3), int))
    connections = (*chain().connections, loop)
    assert not chain(connections=connections).one_by_one
    assert chain(hidden={"kind": "lif"}, connections=connections).one_by_one


def test_a_pair_of_populations_has_one_connection(chain):
    network = chain()
    with refuses(ValueError, "at most one connection"):
        chain(connections=(*network.connections, network.connections[0]))


@pytest.mark.parametrize(
    ("first", "second"), [(("a", "b_to_c", ""), ("a_to_b", "c", "")), (("a", "c", "late"), ("a", "c_late", ""))]
)
def test_names_that_meet_in_the_middle_are_refused(first, second):
    """Counts, Lava's graph and bundles go by the connection's name."""
    ends = [*dict.fromkeys([first[0], second[0]])]
    nodes = [Population(name, 1, t_start=1) for name in (*ends, first[1], second[1])]
    edges = [Connection("input", name, [[2]]) for name in ends]
    edges += [Connection(source, target, [[2]], label=label) for source, target, label in (first, second)]
    with refuses(ValueError, "several 'a_", "label", "rename a population"):
        FixedNetwork(tuple(nodes), tuple(edges), HostInput("spikes", 1), 3, first[1])
    other = dataclasses.replace(edges[-1], label="other")
    assert FixedNetwork(tuple(nodes), (*edges[:-1], other), HostInput("spikes", 1), 3, first[1]).connections[-1] is other


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
