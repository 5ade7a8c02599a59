"""from_lava: ways of connecting, containers, and processes of Lava, lava-dl and this library."""

import numpy as np
import pytest
from lava.lib.dl.netx.blocks import process as netx
from lava.lib.dl.netx.hdf5 import Network
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF
from lava.proc.monitor.process import Monitor
from lava.proc.sparse.process import DelaySparse
from scipy.sparse import csr_matrix

import lava_snnlearn as snn
from lava_snnlearn.lava_backend.graph import build
from lava_snnlearn.lava_backend.importing.wiring import full_name
from lava_snnlearn.processes.delay_connection.process import DelayConnection

STEPS = 14


class Block(AbstractProcess):
    """A container: ports of its own around a connection and its neurons, as netx has them."""

    def __init__(self, weights, name):
        super().__init__(name=name)
        self.dense, self.neuron = Dense(weights=weights), LIF(shape=(len(weights),), vth=60, dv=500)
        self.inp, self.out = InPort(shape=self.dense.s_in.shape), OutPort(shape=self.neuron.s_out.shape)
        self.inp.connect(self.dense.s_in)
        self.dense.a_out.connect(self.neuron.a_in)
        self.neuron.s_out.connect(self.out)


def test_containers_are_wires(compare, pulses):
    draw = np.random.default_rng(3)
    source, sink = Source(data=pulses(4)), Sink(shape=(2,), buffer=STEPS)
    blocks = [Block(draw.integers(-60, 90, (3, 4)), "first"), Block(draw.integers(-40, 90, (2, 3)), "second")]
    source.s_out.connect(blocks[0].inp)
    blocks[0].out.connect(blocks[1].inp)
    blocks[1].out.connect(sink.a_in)
    imported = snn.from_lava(blocks[1], STEPS)
    assert imported.populations == {"first.neuron": "first_neuron", "second.neuron": "second_neuron"}
    assert imported.network.host.form == "spikes"
    assert imported.network.output == "second_neuron"
    assert imported.sinks == {full_name(sink): ("second_neuron",)}
    compare(blocks[1])


def test_netx_blocks(compare, pulses):
    draw = np.random.default_rng(4)
    params = {"neuron_proc": LIF, "du": 1000, "dv": 300, "vth": 40, "bias_key": "bias_mant"}
    source = Source(data=pulses(5, 4, 2))
    conv = netx.Conv(
        shape=(3, 2, 4), input_shape=(5, 4, 2), weight=draw.integers(-60, 90, (4, 3, 3, 2)), stride=1, padding=0, dilation=1,
        groups=1, neuron_params=dict(params), input_message_bits=0,
    )  # fmt: skip
    dense = netx.Dense(
        shape=(6,), weight=draw.integers(-60, 90, (6, 24)), neuron_params=dict(params), bias=draw.integers(0, 40, 6)
    )
    source.s_out.connect(conv.inp)
    conv.out.reshape((24,)).connect(dense.inp)
    sink = Sink(shape=(6,), buffer=STEPS)
    dense.out.connect(sink.a_in)
    imported = snn.from_lava(sink, STEPS)
    assert [c.geometry is not None for c in imported.network.connections] == [True, False]
    assert compare(sink)[1]


def test_processes_of_this_library():
    draw = np.random.default_rng(5)
    nodes = (
        snn.fixed_point.graph.Population("hidden", 6, vth=90, dv=300, v_init=64),
        snn.fixed_point.graph.Population("graded", 4, "graded", shift=2, top=90, bias_mant=[3, -4, 5, 6]),
        snn.fixed_point.graph.Population("out", 3, "accumulator"),
    )
    delays = draw.integers(0, 5, (4, 6))
    edges = (
        snn.fixed_point.graph.Connection("input", "hidden", 2 * draw.integers(-40, 60, (6, 5)), exponent=1),
        snn.fixed_point.graph.Connection("hidden", "graded", 2 * draw.integers(-40, 60, (4, 6)), delay=delays),
        snn.fixed_point.graph.Connection("graded", "out", 2 * draw.integers(-40, 60, (3, 4))),
    )
    network = snn.FixedNetwork(nodes, edges, snn.fixed_point.host.HostInput("spikes", 5), STEPS, "out")
    x = draw.integers(0, 2, (STEPS, 1, 5))
    graph = build(network, x)
    imported = snn.from_lava(graph.neurons["hidden"], STEPS)
    expected, trace = snn.emulate(network, x), imported.run()
    for name, process in graph.neurons.items():
        np.testing.assert_array_equal(imported.membranes(trace, process.name), expected.membranes[name])
        assert expected.membranes[name].any()


def test_synapses_of_one_pair_of_neurons_are_kept_apart(pulses, run_for_real):
    source = Source(data=pulses(2))
    synapses = DelayConnection(
        shape=(3, 2), target=[0, 0, 0, 2, 1], source=[1, 1, 1, 0, 1], weights=[40, -20, 60, 50, 30], delays=[0, 2, 5, 1, 0]
    )
    neuron = LIF(shape=(3,), vth=30, name="neuron")
    source.s_out.connect(synapses.s_in)
    synapses.a_out.connect(neuron.a_in)
    imported = snn.from_lava(neuron, STEPS)
    assert len(imported.network.connections) == 3
    spikes, _ = run_for_real(neuron, STEPS)
    np.testing.assert_array_equal(imported.run().spikes["neuron"][:, 0], spikes["neuron"])
    assert spikes["neuron"].any(axis=0).all()


def test_binary_connections_hear_payloads_as_spikes(chain, compare):
    data = np.random.default_rng(0).integers(-2, 3, (2, STEPS))
    _, _, neuron = chain(Source(data=data))
    assert [connection.binary for connection in snn.from_lava(neuron, STEPS).network.connections] == [True]
    compare(neuron)


def test_no_source_and_no_sink(compare):
    neuron = LIF(shape=(2,), vth=100, bias_mant=30, bias_exp=6, name="neuron")
    back = Dense(weights=np.array([[0, -20], [40, 0]]))
    neuron.s_out.connect(back.s_in)
    back.a_out.connect(neuron.a_in)
    imported = snn.from_lava(back, STEPS)
    assert imported.signal is None
    assert imported.run().spikes["neuron"].any()
    compare(neuron)


def test_watchers_do_not_matter(chain):
    _, _, neuron = chain()
    Monitor().probe(neuron.v, STEPS)
    assert list(snn.from_lava(neuron, STEPS).populations) == ["neuron"]


# ---- delays with a weight exponent below 0 ----------------------------------------------------------------------------------


def delayed(kind, weights, delays, exponent, source, **options):
    """source -> delayed synapses -> neuron; the matrices may be stored sparsely."""
    if kind is DelaySparse:
        weights, delays = csr_matrix(weights), csr_matrix(delays)
    synapses = kind(weights=weights, delays=delays, weight_exp=exponent, **options)
    neuron = LIF(shape=(weights.shape[0],), vth=4, du=1000, dv=200, name="neuron")
    source.s_out.connect(synapses.s_in)
    synapses.a_out.connect(neuron.a_in)
    return neuron


@pytest.mark.parametrize("kind", [DelayDense, DelaySparse])
@pytest.mark.parametrize("exponent, low, high", [(-4, 0, 16), (-4, -16, 16), (-1, -128, 128), (-5, -7, 0)])
def test_delays_of_weights_that_the_exponent_shortens(compare, pulses, kind, exponent, low, high):
    """As netx makes them: small weights shifted left, and their sums right again, which loses nothing."""
    draw = np.random.default_rng(7)
    weights, delays = draw.integers(low, high, (3, 4)) << -exponent, draw.integers(1, 5, (3, 4))
    weights[0, 0] = high - 1 << -exponent
    imported, spikes = compare(delayed(kind, weights, delays, exponent, Source(data=pulses(4))))
    assert {connection.exponent for connection in imported.network.connections} == {0}
    assert low == -128 or spikes or high == 0


def test_delays_of_shortened_weights_on_lava(pulses, run_for_real):
    weights, delays = 16 * np.array([[1, 3, 0], [2, 1, 5]]), np.array([[0, 1, 2], [3, 0, 1]])
    neuron = delayed(DelayDense, weights, delays, -4, Source(data=pulses(3)))
    trace = snn.from_lava(neuron, STEPS).run()
    spikes, _ = run_for_real(neuron, STEPS)
    np.testing.assert_array_equal(trace.spikes["neuron"][:, 0], spikes["neuron"])
    assert spikes["neuron"].any(axis=0).all()


def test_graded_delays_of_shortened_weights(compare):
    """Negative payloads, too: what is shifted right is a multiple."""
    source = Source(data=np.random.default_rng(2).integers(-9, 10, (4, STEPS)))
    weights, delays = 4 * np.arange(-6, 6).reshape(3, 4), np.arange(12).reshape(3, 4) % 5
    _, spikes = compare(delayed(DelayDense, weights, delays, -2, source, num_message_bits=8))
    assert spikes


def test_netx_networks_with_delays(tmp_path, pulses, run_for_real):
    """The library's own export, as lava-dl's netx loads it."""
    draw = np.random.default_rng(3)
    nodes = [snn.fixed_point.graph.Population(name, size, "lif", vth=30, du=700, dv=300) for name, size in (("a", 5), ("b", 4))]
    edges = (
        snn.fixed_point.graph.Connection("input", "a", 2 * draw.integers(-20, 60, (5, 6)), delay=3),
        snn.fixed_point.graph.Connection("a", "b", 2 * draw.integers(-3, 9, (4, 5))),
    )
    network = snn.FixedNetwork(tuple(nodes), edges, snn.fixed_point.host.HostInput("spikes", 6), STEPS, "b")
    data = pulses(6)
    arguments = snn.interchange.to_netx(network, tmp_path / "delays.net").arguments
    loaded = Network(str(tmp_path / "delays.net"), **arguments)
    source, sink = Source(data=data), Sink(shape=loaded.out.shape, buffer=STEPS)
    source.s_out.connect(loaded.inp)
    loaded.out.connect(sink.a_in)
    imported = snn.from_lava(loaded, STEPS)
    assert max(connection.max_delay for connection in imported.network.connections) == 3
    received = imported.received(imported.run(), full_name(sink))
    np.testing.assert_array_equal(received, snn.emulate(network, np.moveaxis(data, -1, 0)[:, None]).spikes["b"])
    _, on_lava = run_for_real(sink, STEPS)
    np.testing.assert_array_equal(received[:, 0], on_lava[full_name(sink)])
    assert on_lava[full_name(sink)].any()


# ---- what a graph may lack --------------------------------------------------------------------------------------------------


def test_neurons_that_nothing_feeds_run_on_their_bias(compare):
    pacemaker = LIF(shape=(2,), vth=40, du=4095, bias_mant=np.array([9, 17]), bias_exp=6, name="pacemaker")
    dense, neuron = Dense(weights=np.array([[30, 60], [90, 20]])), LIF(shape=(2,), vth=50, du=4095, name="neuron")
    pacemaker.s_out.connect(dense.s_in)
    dense.a_out.connect(neuron.a_in)
    imported, spikes = compare(neuron)
    assert imported.signal is None
    assert spikes


def two_alone(size, feed=False):
    """Neurons that hang together only through the sink that hears both."""
    sink, neurons = Sink(shape=(size,), buffer=STEPS), []
    for index in range(3):
        neuron = LIF(shape=(size,), vth=40, du=4095, bias_mant=9 + 8 * index, bias_exp=6, name=f"alone{index}")
        neuron.s_out.connect(sink.a_in)
        neurons.append(neuron)
    if feed:
        source, dense = Source(data=np.ones((3, STEPS), int)), Dense(weights=np.full((size, 3), 30))
        source.s_out.connect(dense.s_in)
        dense.a_out.connect(neurons[1].a_in)
    return sink


@pytest.mark.parametrize("feed", [False, True])
def test_neurons_that_only_a_sink_joins(compare, feed):
    _, spikes = compare(two_alone(3, feed))
    assert spikes
    report = snn.from_lava(two_alone(3, feed), STEPS).verify()
    assert report.ok, str(report)


def test_neurons_that_only_a_sink_joins_cost_no_matrix():
    size = 3000
    network = snn.from_lava(two_alone(size), STEPS).network
    assert sum(np.asarray(connection.weight).size for connection in network.connections) <= 4 * size
    assert sum(connection.synapses for connection in network.connections) == 0
