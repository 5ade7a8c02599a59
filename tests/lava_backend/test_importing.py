"""from_lava: random graphs of Lava's stock processes, imported and emulated, against Lava's own models in the same graph."""

import numpy as np
import pytest
from lava.lib.dl.netx.blocks import process as netx
from lava.magma.core.process.ports.ports import InPort, OutPort, create_port_id
from lava.magma.core.process.process import AbstractProcess
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.monitor.process import Monitor
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix

import lava_snnlearn as snn
from lava_snnlearn.lava_backend.driver import InProcessModel
from lava_snnlearn.lava_backend.graph import build
from lava_snnlearn.lava_backend.housekeeping import network_of
from lava_snnlearn.lava_backend.runner import guarded
from lava_snnlearn.lava_backend.wiring import full_name
from lava_snnlearn.processes.delay_connection.process import DelayConnection
from lava_snnlearn.processes.recorder.process import Recorder


class Inlet:
    """An InPort that sums up what its senders have sent in this step."""

    def __init__(self, run, port, dtype):
        self.run, self.port, self.dtype = run, port, dtype
        self.transforms = port.get_incoming_transform_funcs()

    def recv(self):
        total = np.zeros(self.port.shape, self.dtype)
        for source in self.port.get_src_ports():
            value = self.run.sent[source]
            for transform in self.transforms.get(create_port_id(source.process.id, source.name), []):
                value = transform(value)
            total = total + value
        return total


class StockRun:
    """Lava's own fixed_pt models of a whole graph, stepped in this interpreter.

    Synapses send what they hold in their buffers before they receive. So in each step their buffers are read first, and the
    models run in the order sources, neurons, synapses, sinks.
    """

    def __init__(self, process):
        self.processes = [member for member in network_of(process) if not member.procs.members]
        self.processes.sort(key=lambda member: (not isinstance(member, Source), not isinstance(member, LIF), is_sink(member)))
        self.models = {member.id: InProcessModel(member) for member in self.processes}
        self.sent = {}
        for member in self.processes:
            model = self.models[member.id].model
            for port in member.in_ports.members:
                setattr(model, port.name, Inlet(self, port, getattr(type(model), port.name).d_type))

    def step(self):
        for member in self.processes:
            model = self.models[member.id]
            if hasattr(model.model, "a_buff"):
                self.sent[member.a_out] = model.read("a_buff").reshape(*member.a_out.shape, -1)[..., 0]
            if hasattr(model.model, "a_buf"):
                self.sent[member.a_out] = model.read("a_buf")
        for member in self.processes:
            model = self.models[member.id]
            model.model.time_step += 1
            model._phases()
            for port in member.out_ports.members:
                value = model._outlets[port.name].value
                assert port not in self.sent or port.name != "a_out" or (value == self.sent[port]).all()
                self.sent[port] = value

    def run(self, steps):
        neurons = [member for member in self.processes if isinstance(member, LIF)]
        spikes, membranes = ({full_name(n): np.zeros((steps, *n.s_out.shape), int) for n in neurons} for _ in range(2))
        for t in range(steps):
            self.step()
            for neuron in neurons:
                spikes[full_name(neuron)][t] = self.sent[neuron.s_out]
                membranes[full_name(neuron)][t] = self.models[neuron.id].read("v")
        sinks = {full_name(sink): self.models[sink.id].read("data") for sink in self.processes if is_sink(sink)}
        return spikes, membranes, {name: np.moveaxis(data, -1, 0)[:steps] for name, data in sinks.items()}


def is_sink(process):
    return isinstance(process, Sink)


# ---- random graphs ----------------------------------------------------------------------------------------------------------

STEPS = 14


def matrix(draw, rows, columns, small):
    """Weights [rows, columns] and the sign mode that is asked for; beyond its range now and then, so that Lava cuts them."""
    low, high = [(-3, 4), (-9, 12), (-40, 60), (0, 255), (-200, 0), (-300, 300)][draw.integers(2 if small else 6)]
    mode = [None, SignMode.MIXED, SignMode.EXCITATORY, SignMode.INHIBITORY][draw.integers(4)]
    return draw.integers(low, high + 1, (rows, columns)) * (draw.random((rows, columns)) < 0.8), mode


def random_synapse(draw, columns, rows, small):
    """A process of synapses [rows, columns]; its options as they come."""
    weight, mode = matrix(draw, rows, columns, small)
    kind = [Dense, Sparse, DelayDense, DelaySparse][draw.integers(4)]
    options = {
        "weight_exp": int(draw.integers(-3, 1 if small else 4))
        if kind in (Dense, Sparse)
        else int(draw.integers(1 if small else 3)),
        "num_weight_bits": int(draw.choice([8, 8, 6, 3])),
        "num_message_bits": int(draw.choice([0, 8])),
        "sign_mode": mode,
    }
    if kind in (DelayDense, DelaySparse):
        options["delays"] = draw.integers(0, 6, weight.shape)
        options["max_delay"] = int(draw.integers(5, 9))
    if kind in (Sparse, DelaySparse):
        weight[0, 0] = weight[0, 0] or 4
        weight = csr_matrix(weight)
        options = {key: csr_matrix(value) if key == "delays" else value for key, value in options.items()}
    return kind(weights=weight, **options)


def random_neurons(draw, name, shape):
    options = {
        "du": int(draw.choice([-1, 0, 300, 2047, 4094, 4095])),
        "dv": int(draw.choice([0, 1, 500, 4095, 4096])),
        "vth": int(draw.choice([0, 5, 60, 400, 3000])),
        "bias_mant": draw.integers(-60, 200, shape) if draw.random() < 0.5 else int(draw.integers(-20, 100)),
        "bias_exp": int(draw.choice([0, 3, 6, -2])),
        "name": name,
    }
    if draw.random() < 0.4:
        options |= {"u": draw.integers(-9000, 9000, shape), "v": draw.integers(-9000, 9000, shape)}
    if draw.random() < 0.2:
        options["bias_exp"] = draw.integers(-1, 3, shape)
        options["bias_mant"] = 4 * draw.integers(-60, 60, shape)
    if draw.random() < 0.3:
        return LIFReset(shape=shape, reset_interval=int(draw.integers(2, 9)), reset_offset=int(draw.integers(0, 12)), **options)
    return LIF(shape=shape, **options)


def random_source(draw, shape):
    low, high = [(0, 1), (0, 1), (0, 40), (-25, 30)][draw.integers(4)]
    data = draw.integers(low, high + 1, (*shape, int(draw.choice([STEPS, 5, 20]))))
    if high == 1:
        data = data * (draw.random(data.shape) < 0.5)
    return Source(data=data)


def size_of(port):
    return int(np.prod(port.shape))


def shaped(draw, port, shape):
    """The port, flat ones now and then turned on the way, in this shape."""
    if len(port.shape) > 1 and draw.random() < 0.5:
        port = port.transpose(tuple(int(axis) for axis in draw.permutation(len(port.shape))))
    return port if port.shape == shape else port.reshape(shape)


def random_graph(seed):
    """A process of a random graph: sources, neurons with loops, synapses in a row, sums on ports, sinks."""
    draw = np.random.default_rng(seed)
    shapes = [tuple(int(n) for n in draw.integers(1, 5, draw.choice([1, 1, 2, 3]))) for _ in range(6)]
    neurons = [random_neurons(draw, f"lif{i}", shapes[i]) for i in range(draw.integers(1, 4))]
    sources = [random_source(draw, shapes[3 + i]) for i in range(draw.choice([0, 1, 1, 2, 3]))]
    senders = [p.s_out for p in [*neurons, *sources]]
    anchor = neurons[0]
    used = {anchor.id}
    for i in range(int(draw.integers(2, 7))):
        sender = senders[draw.integers(len(senders))] if i else neurons[-1].s_out
        target = neurons[draw.integers(len(neurons))] if i else anchor
        chained = draw.random() < 0.25
        columns = size_of(sender)
        if chained:
            middle = int(draw.integers(1, 4))
            first = random_synapse(draw, columns, middle, small=True)
            shaped(draw, sender, (columns,)).connect(first.s_in)
            second = random_synapse(draw, middle, size_of(target.a_in), small=True)
            first.a_out.connect(second.s_in)
            last = second
            if draw.random() < 0.5:
                sink = Sink(shape=(middle,), buffer=STEPS)
                first.a_out.connect(sink.a_in)
        else:
            last = random_synapse(draw, columns, size_of(target.a_in), small=False)
            shaped(draw, sender, (columns,)).connect(last.s_in)
        shaped(draw, last.a_out, target.a_in.shape).connect(target.a_in)
        used |= {sender.process.id, target.id}
    if sources and draw.random() < 0.5:
        taker = LIF(shape=sources[0].s_out.shape, vth=30, dv=100, du=2000, name="taker")
        sources[0].s_out.connect(taker.a_in)
        back = Dense(weights=draw.integers(-20, 30, (size_of(anchor.a_in), size_of(taker.s_out))))
        shaped(draw, taker.s_out, (size_of(taker.s_out),)).connect(back.s_in)
        shaped(draw, back.a_out, anchor.a_in.shape).connect(anchor.a_in)
    sink = Sink(shape=anchor.s_out.shape, buffer=STEPS)
    anchor.s_out.connect(sink.a_in)
    return anchor


def random_conv(draw, shape, bits, small=False):
    """A convolution of an image (W, H, C)."""
    groups = int(draw.choice([1, shape[2]]))
    low, high = [(-9, 14), (0, 60), (-90, 40), (-255, 255)][0 if small else draw.integers(4)]
    sizes = tuple(int(draw.integers(1, min(3, side) + 1)) for side in shape[:2])
    weight = draw.integers(low, high + 1, (2 * groups, *sizes, shape[2] // groups))
    pair = tuple(int(n) for n in draw.integers(1, 3, 2))
    options = {"stride": pair, "padding": int(draw.integers(0, 3)), "groups": groups, "num_message_bits": bits}
    return Conv(weight=weight, input_shape=shape, dilation=int(draw.integers(1, 3)) if min(shape[:2]) > 4 else 1, **options)


def random_image_graph(seed):
    """Convolutions one behind the other, one of them beside another or over a transposed image, and a loop."""
    draw = np.random.default_rng(1000 + seed)
    shape = tuple(int(n) for n in draw.integers((4, 3, 1), (8, 6, 4)))
    source = random_source(draw, shape)
    bits = int(draw.choice([0, 8]))
    first = random_conv(draw, shape, bits, small=bool(seed % 2))
    hidden = random_neurons(draw, "hidden", first.output_shape)
    source.s_out.connect(first.s_in)
    first.a_out.connect(hidden.a_in)
    image, port = hidden.s_out.shape, hidden.s_out
    if draw.random() < 0.4:
        image, port = image[::-1], port.transpose((2, 1, 0))
    second = random_conv(draw, image, 0)
    port.connect(second.s_in)
    last = random_neurons(draw, "last", second.output_shape)
    second.a_out.connect(last.a_in)
    beside = random_conv(draw, hidden.s_out.shape, 8)
    other = random_neurons(draw, "other", (size_of(beside.a_out),))
    hidden.s_out.connect(beside.s_in)
    beside.a_out.flatten().connect(other.a_in)
    back = random_synapse(draw, size_of(last.s_out), size_of(hidden.a_in), small=False)
    last.s_out.flatten().connect(back.s_in)
    back.a_out.reshape(hidden.a_in.shape).connect(hidden.a_in)
    if seed % 2:
        # The same images again, without neurons between the convolutions.
        relayed = random_conv(draw, first.output_shape, 8, small=True)
        first.a_out.connect(relayed.s_in)
        sink = Sink(shape=relayed.output_shape, buffer=STEPS)
        relayed.a_out.connect(sink.a_in)
    return last


def compare(process, steps=STEPS):
    """Import, emulate, and compare with the models of the same processes; returns the numbers of neuron-steps and of spikes."""
    imported = snn.from_lava(process, steps)
    trace = imported.run()
    spikes, membranes, sinks = StockRun(process).run(steps)
    assert set(spikes) == set(imported.populations)
    for name in spikes:
        np.testing.assert_array_equal(imported.spikes(trace, name)[:, 0], spikes[name], err_msg=name)
        np.testing.assert_array_equal(imported.membranes(trace, name)[:, 0], membranes[name], err_msg=name)
    assert set(sinks) == set(imported.sinks)
    for name, data in sinks.items():
        np.testing.assert_array_equal(imported.received(trace, name)[:, 0], data, err_msg=name)
    return sum(s.size for s in spikes.values()), sum(int(s.sum()) for s in spikes.values())


@pytest.mark.parametrize("seed", range(80))
def test_random_graphs(seed):
    compare(random_graph(seed))


@pytest.mark.parametrize("seed", range(30))
def test_random_images(seed):
    compare(random_image_graph(seed))


# ---- real runs on Lava's runtime --------------------------------------------------------------------------------------------


def run_for_real(process, steps):
    """Spikes of all LIFs and what sinks received, from a guarded run on Lava's simulator."""
    neurons = [member for member in network_of(process) if isinstance(member, LIF)]
    recorders = {full_name(neuron): Recorder(shape=neuron.s_out.shape, steps=steps) for neuron in neurons}
    sinks = [member for member in network_of(process) if is_sink(member)]
    for neuron in neurons:
        neuron.s_out.connect(recorders[full_name(neuron)].s_in)
    with guarded(process) as network:
        network.run(steps)
        received = {full_name(sink): np.moveaxis(sink.data.get(), -1, 0)[:steps].astype(int) for sink in sinks}
    return {name: recorder.spikes for name, recorder in recorders.items()}, received


@pytest.mark.parametrize("graph", [(random_graph, 7), (random_graph, 33), (random_image_graph, 5)])
def test_a_real_run(graph):
    build, seed = graph
    process = build(seed)
    imported = snn.from_lava(process, STEPS)
    trace = imported.run()
    spikes, received = run_for_real(process, STEPS)
    for name, sent in spikes.items():
        np.testing.assert_array_equal(imported.spikes(trace, name)[:, 0], sent, err_msg=name)
    for name, data in received.items():
        np.testing.assert_array_equal(imported.received(trace, name)[:, 0], data, err_msg=name)
    assert sum(int(sent.sum()) for sent in spikes.values())


@pytest.mark.parametrize("graph", [(random_graph, 7), (random_graph, 12), (random_image_graph, 3)])
def test_imported_networks_are_built_anew_on_lava(graph):
    build, seed = graph
    report = snn.from_lava(build(seed), STEPS).verify()
    assert report.ok, str(report)
    assert report.compared["lava"] > 100


# ---- ways of connecting -----------------------------------------------------------------------------------------------------


def pulses(*shape, seed=0, steps=STEPS):
    return np.random.default_rng(seed).integers(0, 2, (*shape, steps))


def chain(source=None, weights=((60, -20), (30, 90)), **options):
    """source -> dense -> neuron."""
    source = Source(data=pulses(2)) if source is None else source
    dense, neuron = Dense(weights=np.array(weights)), LIF(**{"shape": (2,), "vth": 50, "du": 4095, "name": "neuron"} | options)
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(neuron.a_in)
    return source, dense, neuron


class Block(AbstractProcess):
    """A container: ports of its own around a connection and its neurons, as netx has them."""

    def __init__(self, weights, name):
        super().__init__(name=name)
        self.dense, self.neuron = Dense(weights=weights), LIF(shape=(len(weights),), vth=60, dv=500)
        self.inp, self.out = InPort(shape=self.dense.s_in.shape), OutPort(shape=self.neuron.s_out.shape)
        self.inp.connect(self.dense.s_in)
        self.dense.a_out.connect(self.neuron.a_in)
        self.neuron.s_out.connect(self.out)


def test_containers_are_wires():
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


def test_netx_blocks():
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


def test_synapses_of_one_pair_of_neurons_are_kept_apart():
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


def test_binary_connections_hear_payloads_as_spikes():
    data = np.random.default_rng(0).integers(-2, 3, (2, STEPS))
    _, _, neuron = chain(Source(data=data))
    assert [connection.binary for connection in snn.from_lava(neuron, STEPS).network.connections] == [True]
    compare(neuron)


def test_no_source_and_no_sink():
    neuron = LIF(shape=(2,), vth=100, bias_mant=30, bias_exp=6, name="neuron")
    back = Dense(weights=np.array([[0, -20], [40, 0]]))
    neuron.s_out.connect(back.s_in)
    back.a_out.connect(neuron.a_in)
    imported = snn.from_lava(back, STEPS)
    assert imported.signal is None
    assert imported.run().spikes["neuron"].any()
    compare(neuron)


def test_watchers_do_not_matter():
    _, _, neuron = chain()
    Monitor().probe(neuron.v, STEPS)
    assert list(snn.from_lava(neuron, STEPS).populations) == ["neuron"]
