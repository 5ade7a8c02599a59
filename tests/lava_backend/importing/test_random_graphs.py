"""from_lava: random graphs of Lava's stock processes, imported and emulated, against Lava's own models in the same graph."""

import functools

import numpy as np
import pytest
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix

import lava_snnlearn as snn

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


@pytest.fixture(scope="module")
def proven(compare):
    """A random graph, compared with Lava's models: its import, and the number of spikes. Each is made once."""
    return functools.cache(lambda graph, seed: compare(graph(seed)))


@pytest.mark.parametrize("seed", range(80))
def test_random_graphs(proven, seed):
    proven(random_graph, seed)


@pytest.mark.parametrize("seed", range(30))
def test_random_images(proven, seed):
    proven(random_image_graph, seed)


def test_the_graphs_hold_every_corner(proven):
    """So that the proofs above cannot become empty."""
    cases = [proven(random_graph, seed) for seed in range(80)] + [proven(random_image_graph, seed) for seed in range(30)]
    networks = [imported.network for imported, _ in cases]
    edges = [c for network in networks for c in network.connections]
    nodes = [p for network in networks for p in network.populations]
    assert sum(spikes > 0 for _, spikes in cases) > 80
    assert sum(spikes for _, spikes in cases) > 5000
    assert {network.host.form for network in networks} == {"current", "graded", "spikes"}
    assert max(len(network.host.targets) for network in networks) > 2
    assert {p.kind for p in nodes} == {"lif", "relay"}
    assert {p.reset_interval for p in nodes if p.kind == "lif"} >= {0, 2, 8}
    assert any(np.any(p.u_init) for p in nodes)
    assert any(np.ptp(p.bias_mant) for p in nodes)
    assert {c.sign_mode for c in edges} == {"mixed", "excitatory", "inhibitory"}
    assert {c.binary for c in edges} == {True, False}
    assert min(c.exponent for c in edges) < 0 < max(c.exponent for c in edges)
    assert {np.ndim(c.delay) for c in edges} == {0, 2}
    assert max(c.max_delay for c in edges) == 5
    assert any(c.label for c in edges)
    assert any(c.source == c.target for c in edges)
    assert {c.geometry.groups > 1 for c in edges if c.geometry} == {True, False}
    # Where two convolutions number an image differently, one of them is laid out in a matrix: fewer are left than there were.
    kept = [sum(c.geometry is not None for c in network.connections) for network in networks[80:]]
    assert min(kept) < 3 <= max(kept)
    assert all(imported.sinks for imported, _ in cases[:80])


# ---- real runs on Lava's runtime --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [(random_graph, 7), (random_graph, 33), (random_image_graph, 5)])
def test_a_real_run(run_for_real, graph):
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
