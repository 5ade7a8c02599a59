"""Events counted spike by spike and synapse by synapse; energies from the published figures, in columns of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lava_snnlearn as snn
from lava_snnlearn.fixed_point import events
from lava_snnlearn.fixed_point.convolution import ConvShape, expand
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.event_energy import Item, estimate_energy
from lava_snnlearn.fixed_point.events import count_events
from lava_snnlearn.fixed_point.fan import fan_in, fan_out
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, HostInput, Population
from lava_snnlearn.testing.networks import random_image_case

PROOF = settings(deadline=None, derandomize=True, max_examples=30)


def matrix(connection):
    weight = np.asarray(connection.weight)
    return weight if connection.geometry is None else expand(weight, connection.geometry).toarray()


def brute_synops(network, x, reference):
    """Per connection and sample: spike after spike, synapse after synapse, from the scalar simulation."""
    signal = np.broadcast_to(x, (network.steps, *x.shape[-2:]))
    spikes = reference.simulate(network, signal).spikes | {"input": signal}
    found = {}
    for connection in network.connections:
        weight, sent = matrix(connection), np.asarray(spikes[connection.source])
        counts = [0] * sent.shape[1]
        for t, b, j in zip(*np.nonzero(sent), strict=True):
            assert t < network.steps
            counts[b] += sum(1 for i in range(len(weight)) if weight[i, j] != 0)
        found[connection.name] = counts
    return found, spikes


@PROOF
@given(data=st.data())
def test_synops_spike_by_spike(random_case, reference, data):
    network, x = random_case(data)
    found, (wanted, spikes) = count_events(network, x), brute_synops(network, x, reference)
    assert {name: counts.tolist() for name, counts in found.synops.items()} == wanted
    for population in network.populations:
        if population.spiking:
            assert found.spikes[population.name].tolist() == spikes[population.name].sum(axis=(0, 2)).tolist()
    assert found.neuron_updates == {p.name: p.size * network.steps for p in network.populations}
    inward = network.host.form != "current"
    assert found.input_events.tolist() == ((spikes["input"] != 0).sum(axis=(0, 2)) * inward).tolist()
    assert found.total_synops.tolist() == np.sum(list(wanted.values()), axis=0).tolist() if wanted else True


@pytest.mark.parametrize("seed", range(12))
def test_images_and_traces(seed):
    case = random_image_case(seed, delays=bool(seed % 2))
    network, x = case.network, case.x
    found, trace = count_events(network, x), emulate(network, x)
    sent = {"input": x} | dict(trace.spikes)
    for connection in network.connections:
        synapses = (matrix(connection) != 0).sum(axis=0)
        assert found.synops[connection.name].tolist() == ((sent[connection.source] != 0).sum(axis=0) @ synapses).tolist()
    again = count_events(network, trace, x=x)
    assert again.rows() == found.rows()
    assert {name: c.tolist() for name, c in again.synops.items()} == {name: c.tolist() for name, c in found.synops.items()}
    assert found.synapses == sum(connection.synapses for connection in network.connections)


@pytest.mark.parametrize("seed", range(40))
def test_fans_of_convolutions_are_those_of_their_matrix(seed):
    draw = np.random.default_rng(seed)
    groups = int(draw.choice([1, 1, 2, 3]))
    image = (groups * int(draw.integers(1, 3)), *(int(n) for n in draw.integers(1, 9, 2)))
    stride, padding, dilation = (tuple(int(n) for n in draw.integers(low, 4, 2)) for low in (1, 0, 1))
    geometry = ConvShape(image, stride, padding, dilation, groups)
    taps = [int(draw.integers(1, 4)) for _ in range(2)]
    taps = [
        min(t, (size + 2 * pad - 1) // gap + 1) for t, size, pad, gap in zip(taps, image[1:], padding, dilation, strict=True)
    ]
    kernel = 2 * draw.integers(-1, 2, (groups * int(draw.integers(1, 3)), image[0] // groups, *taps))
    connection = Connection("input", "p", kernel, geometry=geometry)
    present = matrix(connection) != 0
    assert fan_in(connection).tolist() == present.sum(axis=1).tolist()
    assert fan_out(connection).tolist() == present.sum(axis=0).tolist()


def test_parallel_connections_carry_a_spike_to_a_core_once():
    """60 neurons that fire in each of 4 steps; half of them are heard over the one connection, half over the other."""
    left = 2 * np.repeat([[1] * 30 + [0] * 30], 4, axis=0)
    edges = (Connection("a", "b", left, label="x"), Connection("a", "b", left - 2, label="y"))
    a, b = Population("a", 60, "lif", vth=1), Population("b", 4, "lif", vth=1, t_start=1)
    network = FixedNetwork((a, b), edges, HostInput("current", 60, ("a",)), 4, "b")
    counts = count_events(network, np.full((4, 1, 60), 9), placement=network.place("loihi1"))
    assert counts.spikes["a"].tolist() == [4 * 60]
    assert counts.messages.tolist() == [4 * 60]
    assert counts.total_synops.tolist() == [4 * 60 * 4]


def test_counts_do_not_depend_on_the_batches(monkeypatch):
    network = snn.quantize(snn.networks.mlp([6, 9, 4], encoding="rate"), input="spikes")
    x = np.random.default_rng(0).random((11, 6)).astype(np.float32)
    whole = count_events(network, x)
    monkeypatch.setattr(events, "HELD", 3 * network.steps * 13)
    part = count_events(network, x)
    assert whole.input_events.sum() > 0
    assert part.input_events.tolist() == whole.input_events.tolist()
    assert {k: v.tolist() for k, v in part.synops.items()} == {k: v.tolist() for k, v in whole.synops.items()}


def test_memory_stays_small(monkeypatch):
    import tracemalloc

    network = snn.quantize(snn.networks.mlp([16, 512, 4], steps=64))
    x = np.random.default_rng(0).random((64, 16)).astype(np.float32)

    def peak(samples):
        tracemalloc.start()
        assert count_events(network, np.tile(x, (samples // 64, 1))).samples == samples
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    monkeypatch.setattr(events, "HELD", 64 * 64 * 516)
    peak(64)
    # All spikes of the larger one together would be 64 * 1024 * 516 bytes: 34 MB.
    assert peak(1024) < peak(64) + 12e6


def small(form="spikes", kind="soft_reset_lif", **host):
    hidden = Population("hidden", 3, kind, vth=4, t_start=1, **({"top": 200} if kind == "graded" else {}))
    out = Population("out", 2, "accumulator", t_start=2)
    return FixedNetwork(
        (hidden, out),
        (
            Connection("input", "hidden", np.array([[2, 0, 4], [0, 0, 6], [2, 2, 2]])),
            Connection("hidden", "out", np.array([[2, 2, 0], [-2, 0, 0]])),
        ),
        HostInput(form, 3, **host),
        4,
        "out",
    )


def test_by_hand():
    x = np.zeros((4, 1, 3), int)
    x[0, 0, 2] = x[1, 0, 2] = 1
    found = count_events(small(), x)
    assert found.input_events.tolist() == [2]
    assert found.synops["input_to_hidden"].tolist() == [6]
    # hidden 0 gets 4 twice, and spikes twice; 1 gets 6 twice, three times 4; 2 gets 2 twice, once 4.
    assert found.spikes == {"hidden": [6]}
    assert found.synops["hidden_to_out"].tolist() == [2 * 2 + 3 * 1]
    assert found.neuron_updates == {"hidden": 12, "out": 8}
    assert (found.graded, found.synapses, found.host_operations) == ((), 9, 0)
    assert found.messages is None


def test_messages_are_spikes_times_cores():
    network, x = small(), np.ones((4, 2, 3), int)
    placed = network.place()
    found = count_events(network, x, placement=placed)
    # One core: whoever sends, sends to it; hidden 2 has no synapse.
    trace = emulate(network, x)
    wanted = x.sum(axis=(0, 2)) + trace.spikes["hidden"][:, :, :2].sum(axis=(0, 2))
    assert placed.cores == 1
    assert found.messages.tolist() == wanted.tolist()
    other = FixedNetwork((Population("p", 5, vth=3),), (), HostInput("current", 5, targets=("p",)), 4, "p")
    with pytest.raises(ValueError, match="placement is of another network: it has no 'input' of 3"):
        count_events(network, x, placement=other.place())


def test_energy_by_hand():
    x = np.zeros((4, 1, 3), int)
    x[0, 0, 2] = x[1, 0, 2] = 1
    found = estimate_energy(count_events(small(), x))
    assert found.loihi1["synaptic operations"] == pytest.approx((13, 13 * 23.6, 13 * 23.6))
    assert found.loihi1["neuron updates"] == (20, 20 * 52, 20 * 81)
    assert found.loihi1["spikes, to one core each"] == pytest.approx((8, 8 * 1.7, 8 * 1.7))
    assert found.loihi1_pj == pytest.approx((13 * 23.6 + 20 * 52 + 8 * 1.7, 13 * 23.6 + 20 * 81 + 8 * 1.7))
    assert found.mac_ac == {"additions (spikes at synapses)": Item(13, pytest.approx(11.7), pytest.approx(11.7))}
    assert found.mac_ac_pj == pytest.approx(11.7)
    assert found.ann_pj == pytest.approx(9 * 4.6)


def test_payloads_and_the_host_multiply():
    network = small("graded")
    x = np.full((1, 3), 9)
    found = count_events(network, x)
    assert found.graded == ("input_to_hidden",)
    energy = estimate_energy(found)
    assert energy.mac_ac["multiplications (payloads, input current)"].events == 4 * 6
    assert energy.mac_ac["additions (spikes at synapses)"].events == found.synops["hidden_to_out"][0]
    current = snn.quantize(snn.networks.mlp([6, 9, 4], steps=5))
    weights = int(np.count_nonzero(current.host.weight))
    data = np.random.default_rng(0).random((2, 6)).astype(np.float32)
    assert count_events(current, data).host_operations == weights
    assert count_events(current, np.repeat(data[None], 5, 0)).host_operations == 5 * weights
    assert count_events(current, data).synapses == weights + sum(c.synapses for c in current.connections)
    assert count_events(current, data).input_events.tolist() == [0, 0]


def test_learning_updates_cost_120_pj():
    x = np.ones((4, 2, 3), int)
    found = count_events(small(), x, learning_updates=[3, 5])
    assert estimate_energy(found).loihi1["learning updates"] == (4, 480, 480)
    assert "learning updates" not in estimate_energy(count_events(small(), x)).loihi1
    for wrong in ([3], [1.5, 2], [-1, 2]):
        with pytest.raises(ValueError, match="learning_updates has shape"):
            count_events(small(), x, learning_updates=wrong)


def test_the_columns_are_apart_and_named():
    counts = count_events(small(), np.ones((4, 2, 3), int))
    energy = estimate_energy(counts)
    text = str(energy)
    assert "Loihi 1 (Davies et al. 2018, Table 2, pre-silicon)" in text
    assert "45 nm MAC/AC convention (Horowitz 2014)" in text
    assert "must not be added" in text
    assert "No energy per operation has been published for Loihi 2" in text
    for name, _, loihi, mac in energy.rows()[1:]:
        assert (loihi == "-") != (mac == "-") or name == "together"
    assert "SynOps of input_to_hidden" in str(counts)


def test_refusals():
    network, x = small(), np.ones((4, 2, 3), int)
    trace = emulate(network, x)
    with pytest.raises(ValueError, match="pass the data as x="):
        count_events(network, trace)
    with pytest.raises(ValueError, match="x has 1 samples, but the trace has 2"):
        count_events(network, trace, x=x[:, :1])
    with pytest.raises(ValueError, match="record='all' or 'spikes'"):
        count_events(network, emulate(network, x, record="outputs"), x=x)
    with pytest.raises(ValueError, match="x belongs to a Trace"):
        count_events(network, x, x=x)
    with pytest.raises(TypeError, match="count_events takes a FixedNetwork"):
        count_events(3, x)
    with pytest.raises(TypeError, match="what count_events returns"):
        estimate_energy(network)
