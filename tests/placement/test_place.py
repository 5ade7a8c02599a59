"""Placements: every neuron once, loads equal to a count synapse by synapse, no core above its limits, refusals in numbers."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population
from lava_snnlearn.placement import CHIPS, LOIHI1, LOIHI2, place
from lava_snnlearn.placement.cutting import tiles

PROOF = settings(deadline=None, derandomize=True, max_examples=25)


def test_the_limits_are_those_of_davies_2018():
    assert dict(LOIHI1.core) == {
        "neurons": 1024,
        "synaptic_bits": 128 * 1024 * 8,
        "input_axons": 4096,
        "output_axons": 4096,
        "delay_entries": 8 * 1024,
    }
    assert (LOIHI1.cores, LOIHI1.chips, LOIHI1.firm, LOIHI2.firm) == (128, 16384, True, False)
    assert LOIHI2.core["neurons"] == 8192


@pytest.fixture
def tight(monkeypatch):
    """Both chips with cores so small that small networks need many."""

    def shrink(**changes):
        for chip in (LOIHI1, LOIHI2):
            core = {name: changes.get(name, top) for name, top in chip.core.items()}
            monkeypatch.setitem(CHIPS, chip.name, dataclasses.replace(chip, core=MappingProxyType(core), cores=3))

    return shrink


def networks(make):
    return [
        make.dense(0, [5, 7, 4]),
        make.dense(1, [30, 41, 23, 10], share=0.3),
        make.dense(2, [12, 20, 9], share=0.4, delay=20, feedback=True),
        make.dense(3, [6, 3, 3, 3, 3, 3, 3]),
        make.images(4, (2, 6, 6), [(3, 3, 1, 1, 1), (4, 3, 2, 1, 1)], classes=3),
        make.images(5, (2, 7, 5), [(4, 3, 1, 0, 2), (4, 1, 1, 0, 1)], share=0.4),
        make.dense(6, [6, 5, 4, 5, 4], share=0.6, skips=True),
        # Any two populations would hear more of the input together than one of them does.
        make.dense(8, [40, 5, 5, 5, 5], share=0.15, skips=True),
        make.parallel(9),
    ]


LIMITS = [
    {},
    {"neurons": 9},
    {"synaptic_bits": 1400, "neurons": 40},
    {"input_axons": 45},
    {"input_axons": 36},
    {"output_axons": 40, "neurons": 12},
    {"output_axons": 18, "neurons": 4},
    {"delay_entries": 130},
    {"neurons": 17, "synaptic_bits": 2000, "input_axons": 50, "output_axons": 70, "delay_entries": 200},
]


@pytest.mark.parametrize("target", ["loihi1", "loihi2"])
@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("number", range(9))
def test_loads_and_limits(make, tight, number, limits, target):
    tight(**limits)
    network = networks(make)[number]
    found = place(network, target)
    for population in network.populations:
        assert found.core[population.name].shape == (population.size,)
    used = np.concatenate(list(found.core.values()))
    assert set(used.tolist()) == set(range(found.cores))
    loads, destinations = make.brute_loads(network, found.core, found.cores, found.chip.shared_kernels)
    for name, load in found.loads.items():
        assert load.tolist() == loads[name], name
    assert {name: counts.tolist() for name, counts in found.destinations.items()} == destinations
    if not any("alone needs" in line for line in (*found.errors, *found.advice)):
        for name, load in found.loads.items():
            assert load.max() <= found.chip.core[name], name
    assert found.chips == -(-found.cores // 3)


def test_these_networks_fit(make, tight):
    """So that the limits above are kept, not excused: all but those on the axons of a neuron with parallel connections, one of
    which hears 50 sources, and one is heard by more than 40."""
    for limits in LIMITS:
        tight(**limits)
        few = limits.get("input_axons", 50) < 50 or limits.get("output_axons", 41) <= 40
        broken = [number for number, network in enumerate(networks(make)) if place(network).errors]
        assert broken == ([len(networks(make)) - 1] if few else []), limits


def test_sources_of_parallel_connections_count_once(tight):
    """Those of two halves add up; those of two connections from the same sources do not."""
    tight(input_axons=20)
    whole = np.full((4, 20), 2)
    left, right = whole * (np.arange(20) < 10), whole * (np.arange(20) >= 10)
    out, host = (Population("b", 4, "lif", vth=10, t_start=1),), HostInput("spikes", 20)
    for first, second in ((left, -right), (whole, -whole)):
        edges = (Connection("input", "b", first, label="x"), Connection("input", "b", second, label="y"))
        found = place(FixedNetwork(out, edges, host, 4, "b"))
        assert found.errors == ()
        assert found.loads["input_axons"].tolist() == [20]
        assert found.destinations["input"].tolist() == [1] * 20
    tight(input_axons=19)
    assert "needs 20 input axons" in place(FixedNetwork(out, edges, host, 4, "b")).errors[0]


@PROOF
@given(data=st.data())
def test_random_networks_keep_the_limits(make, data):
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=2, max_size=5))
    share, delay = data.draw(st.sampled_from([0.1, 0.5, 1.0])), data.draw(st.sampled_from([0, 3, 40]))
    network = make.dense(
        data.draw(st.integers(0, 99)),
        sizes,
        share=share,
        delay=delay,
        feedback=data.draw(st.booleans()),
        skips=data.draw(st.booleans()),
    )
    core = {
        "neurons": data.draw(st.integers(1, 30)),
        "synaptic_bits": data.draw(st.integers(700, 4000)),
        "input_axons": data.draw(st.integers(80, 120)),
        "output_axons": data.draw(st.integers(60, 200)),
        "delay_entries": data.draw(st.integers(60, 400)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHIPS, "loihi1", dataclasses.replace(LOIHI1, core=MappingProxyType(core)))
        found = place(network)
    loads, _ = make.brute_loads(network, found.core, found.cores, False)
    for name, load in found.loads.items():
        assert load.tolist() == loads[name]
        assert load.max() <= core[name] or any(
            f"{name.replace('_', ' ')}, a" in error and "alone needs" in error for error in found.errors
        )


def test_equal_slices_as_few_as_the_neurons_need():
    host = HostInput("current", 2500, targets=("p",))
    found = place(FixedNetwork((Population("p", 2500, vth=5),), (), host, 4, "p"))
    assert found.loads["neurons"].tolist() == [833, 833, 834]
    assert found.core["p"].tolist() == sorted(found.core["p"].tolist())
    assert (found.cores, found.chips, found.errors) == (3, 1, ())


def test_small_populations_share_a_core(make):
    found = place(make.dense(0, [20, 30, 30, 30, 30, 30]))
    assert found.cores == 1
    assert found.loads["neurons"].tolist() == [150]
    # Every population hears the one before: 20 channels and four times 30 neurons.
    assert found.loads["input_axons"].tolist() == [20 + 4 * 30]


def test_tiles_need_fewer_cores_than_rows_of_an_image(make):
    network = make.images(0, (64, 16, 16), [(64, 3, 1, 1, 1)])
    found = place(network, "loihi2")
    # All channels of a place lie on one core: a core of whole rows of one channel would hear all 64 channels for it.
    by_place = found.core["c0"].reshape(64, 256)
    assert (by_place == by_place[0]).mean() > 0.95
    assert found.cores <= 8
    assert not [line for line in found.advice if "axons" in line]


def test_tiles_are_a_permutation_of_places_that_lie_together():
    order = tiles(3, 5, 6)
    assert sorted(order.tolist()) == list(range(90))
    places = (order.reshape(30, 3) % 30)[:, 0]
    assert (order.reshape(30, 3) % 30 == places[:, None]).all()
    assert places[:4].tolist() == [0, 1, 6, 7]


def test_the_same_network_is_always_placed_the_same(make):
    first, second = (place(make.dense(7, [40, 1500, 300, 10], share=0.5)) for _ in range(2))
    for name, cores in first.core.items():
        assert (cores == second.core[name]).all()
    assert str(first) == str(second)


def single(weight, **fields):
    target, source = np.shape(weight)
    host = HostInput("spikes", source)
    delay = fields.pop("delay", 0)
    population = Population("wide", target, **{"kind": "lif", "vth": 5, "t_start": 1} | fields)
    return FixedNetwork((population,), (Connection("input", "wide", weight, delay=delay),), host, 4, "wide")


def test_a_neuron_that_hears_too_many_is_named():
    weight = np.zeros((3, 5000), int)
    weight[1] = 2
    found = place(single(weight))
    (error,) = found.errors
    assert "population 'wide': neuron 1 alone needs 5000 input axons, a Loihi 1 core has 4096. Use a smaller fan-in" in error
    with pytest.raises(LimitError, match="5000 input axons"):
        found.check()
    advised = place(single(weight), "loihi2")
    assert advised.errors == ()
    assert any("neuron 1 alone needs 5000 input axons" in line for line in advised.advice)
    assert advised.check() is advised
    weight[1, 4096:] = 0
    assert place(single(weight)).check().loads["input_axons"].tolist() == [4096]


def test_a_neuron_with_too_many_synapses_or_delays_is_named(tight):
    tight(synaptic_bits=100, delay_entries=30)
    found = place(single(np.full((2, 9), 2), kind="soft_reset_lif", delay=np.array([[40] + 8 * [0], 9 * [0]])))
    assert any("neuron 0 alone needs 126 synaptic bits, a Loihi 1 core has 100" in error for error in found.errors)
    assert any("neuron 0 alone needs 40 delay entries, a Loihi 1 core has 30. Use shorter delays." in e for e in found.errors)


def test_a_neuron_that_sends_to_too_many_cores_is_named(make, tight):
    tight(neurons=1, output_axons=5)
    found = place(make.dense(0, [2, 3, 8]))
    (error,) = found.errors
    assert "population 'p0': neuron 0 alone needs 8 output axons, a Loihi 1 core has 5" in error


def test_more_chips_than_the_mesh_has(make, monkeypatch):
    small = dataclasses.replace(LOIHI1, core=MappingProxyType(dict(LOIHI1.core) | {"neurons": 1}), cores=2, chips=3)
    monkeypatch.setitem(CHIPS, "loihi1", small)
    (error,) = place(make.dense(0, [2, 4, 4])).errors
    assert "takes 8 cores, Loihi 1's mesh has 6 (3 chips of 2)" in error


def test_longest_delays_halve_a_core_and_more():
    weight = np.full((1024, 2), 2)
    free, late = (place(single(weight, kind="soft_reset_lif", delay=d)) for d in (8, 62))
    assert free.cores == 1
    # 8192 entries, 62 a neuron: 132 neurons a core.
    assert late.cores == 8
    assert late.loads["delay_entries"].max() <= 8192


def test_payloads_are_an_error_on_loihi1_only():
    graded = Population("state", 3, "graded", shift=2, top=200, t_start=1)
    network = FixedNetwork((graded,), (Connection("input", "state", np.full((3, 2), 2)),), HostInput("graded", 2), 4, "state")
    errors = place(network).errors
    assert any("population 'state' is of the kind graded" in error for error in errors)
    assert any("the input sends payloads up to 255" in error and "input='current'" in error for error in errors)
    assert place(network, "loihi2").errors == ()
    assert not [line for line in place(network, "loihi2").advice if "payload" in line]


def test_relays_of_imported_graphs_are_placed_as_neurons_that_send_payloads():
    relay = Population("between", 3, "relay", t_start=1)
    out = Population("out", 2, "lif", vth=5, t_start=2)
    links = (
        Connection("input", "between", np.array([[1, 3], [0, 5], [7, 0]]), sign_mode="excitatory", exponent=-1),
        Connection("between", "out", np.array([[2, 0, 4], [2, 2, 0]])),
    )
    network = FixedNetwork((relay, out), links, HostInput("spikes", 2), 4, "out")
    (error,) = place(network).errors
    assert "population 'between' is of the kind relay" in error
    found = place(network, "loihi2")
    assert found.loads["synaptic_bits"].tolist() == [8 * 8]
    assert found.loads["input_axons"].tolist() == [5]
    assert found.advice == ()


def test_neurons_that_a_chip_has_not_got_are_remarked(make):
    assert any("p0, p1: reset by subtraction" in line for line in place(make.dense(0, [2, 3, 2])).advice)
    assert place(make.dense(0, [2, 3, 2], kind="lif")).advice == ()


def test_the_table_and_the_picture(make, tmp_path):
    found = place(make.dense(1, [30, 1500, 10], share=0.5))
    text = str(found)
    assert "Placement on Loihi 1: 2 cores, 1 chip of 128" in text
    assert "750 p0" in text
    assert "synaptic memory" in text
    assert "advice" in str(place(make.dense(0, [2, 3]), "loihi2"))
    figure = found.plot(tmp_path / "cores.png")
    assert (tmp_path / "cores.png").read_bytes()[:4] == b"\x89PNG"
    squares = figure.axes[0].images[0].get_array()
    assert squares.shape == (1, 2)
    assert np.asarray(squares).ravel().tolist() == found.fill.tolist()
    found.plot(tmp_path / "cores.svg")
    assert b"<svg" in (tmp_path / "cores.svg").read_bytes()


def test_long_tables_are_cut(make):
    found = place(make.dense(0, [64, 4000, 3000, 10], share=0.2))
    assert found.cores > 32
    assert f"... and {found.cores - 32} more cores" in str(found)
    assert sum(sum(held.values()) for held in found.held()) == 7010


def test_refusals(make):
    with pytest.raises(UnknownNameError, match="Did you mean 'loihi2'"):
        place(make.dense(0, [2, 3]), "loihi-2")
    with pytest.raises(TypeError, match="place takes a FixedNetwork"):
        place(3)
    assert make.dense(0, [2, 3]).place("loihi2").chip is LOIHI2
