"""Which stock process stands for a connection, and that it computes what the emulator does, right up to where it could not."""

from collections import Counter

import numpy as np
import pytest
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.sparse.process import DelaySparse, Sparse
from scipy.sparse import csr_matrix

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.lava_backend import graph, run_guarded
from lava_snnlearn.lava_backend.graph import build, run_in_process, run_lava
from lava_snnlearn.processes.delay_connection.process import DelayConnection
from lava_snnlearn.processes.recorder.process import Recorder
from lava_snnlearn.testing.networks import random_image_case


def one_connection(kernel, geometry, form="graded", steps=3, **options):
    """Input -> accumulator by one convolution, and its process."""
    kernel = np.asarray(kernel)
    delay = options.get("delay", 0)
    node = Population("out", geometry.targets(kernel.shape), "accumulator", t_start=1 + delay)
    edge = Connection("input", "out", kernel, geometry=geometry, **options)
    network = FixedNetwork((node,), (edge,), HostInput(form, geometry.sources), steps, "out")
    [process] = build(network, np.zeros((1, geometry.sources), int)).synapses.values()
    return network, process


def assert_equal(network, x, run=run_in_process):
    ours, theirs = emulate(network, x), run(network, x)
    for name, membranes in ours.membranes.items():
        np.testing.assert_array_equal(membranes, theirs.membranes[name], err_msg=name)
    for name, spikes in ours.spikes.items():
        np.testing.assert_array_equal(spikes, theirs.spikes[name], err_msg=name)
    np.testing.assert_array_equal(ours.outputs, theirs.outputs)
    return ours


SMALL = ConvShape((2, 4, 5), (2, 1), (0, 1))
KERNEL = np.arange(-12, 12).reshape(2, 2, 3, 2) * 2


@pytest.mark.parametrize(
    "options, kind",
    [({}, Conv), ({"exponent": 1}, Sparse), ({"delay": 2}, DelayConnection), ({"delay": 2, "exponent": 3}, DelayConnection)],
)
@pytest.mark.parametrize("form, top", [("graded", 255), ("spikes", 1)])
@pytest.mark.parametrize("run", [run_in_process, run_lava])
def test_the_process_of_a_convolution(options, kind, form, top, run):
    network, process = one_connection(KERNEL, SMALL, form, **options)
    assert type(process) is kind
    x = np.random.default_rng(0).integers(0, top + 1, (3, 2, 40))
    assert assert_equal(network, x, run).outputs.any()


def test_full_connections_are_dense():
    nodes = (Population("a", 2, vth=2, t_start=1), Population("b", 2, "accumulator", t_start=2))
    edges = (Connection("input", "a", [[2, 4]] * 2), Connection("a", "b", [[2, 4]] * 2, delay=[[0, 1]] * 2))
    processes = build(FixedNetwork(nodes, edges, HostInput("spikes", 2), 2, "b"), np.zeros((1, 2), int)).synapses
    assert {ends: type(process) for ends, process in processes.items()} == {"input_to_a": Dense, "a_to_b": DelayConnection}


class Stock:
    """Lava's own processes in the place of DelayConnection."""

    @staticmethod
    def dense(weights, delays, **options):
        top = int(np.max(delays))
        if isinstance(weights, np.ndarray):
            return DelayDense(weights=weights, delays=np.full(weights.shape, delays, dtype=int), max_delay=top, **options)
        waits = csr_matrix((np.full(weights.nnz, top), weights.indices, weights.indptr), shape=weights.shape)
        return DelaySparse(weights=weights, delays=waits, max_delay=top, **options)


@pytest.mark.parametrize("run", [run_in_process, run_lava])
def test_stock_delays_give_the_same_network(run, monkeypatch):
    """Of a matrix with a delay for each weight, and of a kernel with one for all."""
    rng, geometry = np.random.default_rng(3), ConvShape((2, 3, 4))
    kernel, full = 2 * rng.integers(-9, 30, (2, 2, 2, 2)), 2 * rng.integers(-40, 60, (5, 24))
    size = geometry.targets(kernel.shape)
    nodes = (Population("a", 5, vth=50, t_start=1), Population("b", size, vth=30, t_start=1), Population("c", 5, "accumulator"))
    edges = (
        Connection("input", "a", full, exponent=2, delay=rng.integers(0, 7, full.shape)),
        Connection("input", "b", kernel, exponent=1, delay=2, geometry=geometry),
        Connection("b", "c", 2 * rng.integers(-40, 60, (5, size)), delay=rng.integers(0, 63, (5, size))),
    )
    network, x = FixedNetwork(nodes, edges, HostInput("spikes", 24), 70, "c"), rng.integers(0, 2, (70, 2, 24))
    ours = assert_equal(network, x, run)
    monkeypatch.setattr(graph, "DelayConnection", Stock)
    assert {type(process) for process in build(network, x).synapses.values()} == {DelayDense, DelaySparse}
    assert_equal(network, x, run)
    assert ours.outputs.any()
    assert all(0 < ours.spikes[name].mean() < 1 for name in "ab")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rest, kind", [(130, Conv), (132, Sparse)])
def test_sums_up_to_the_24_bits_of_conv(sign, rest, kind):
    """2^23 - 1 is the largest sum that Conv carries. These are the nearest on both sides that payloads of 255 reach."""
    kernel = np.full((1, 130, 1, 1), 254)
    kernel[0, 129] = rest
    largest = (129 * 254 + rest) * 255
    assert (largest < 1 << 23) == (kind is Conv)
    network, process = one_connection(sign * kernel, ConvShape((130, 1, 2)), steps=1)
    assert type(process) is kind
    trace = assert_equal(network, np.full((1, 260), 255))
    assert trace.outputs.tolist() == [[sign * min(64 * largest, (1 << 23) - 1)] * 2]


@pytest.mark.parametrize(
    "geometry, kernel, kind",
    [
        (ConvShape((1, 127, 2)), (1, 1, 127, 1), Conv),
        (ConvShape((1, 129, 2)), (1, 1, 128, 1), Sparse),
        (ConvShape((1, 3, 140), stride=(1, 127)), (1, 1, 2, 2), Conv),
        (ConvShape((1, 3, 140), stride=(1, 128)), (1, 1, 2, 2), Sparse),
        (ConvShape((1, 2, 3), padding=(127, 0)), (1, 1, 3, 1), Conv),
        (ConvShape((1, 2, 3), padding=(128, 0)), (1, 1, 3, 1), Sparse),
        (ConvShape((1, 3, 260), dilation=(1, 127)), (1, 1, 1, 3), Conv),
        (ConvShape((1, 3, 260), dilation=(1, 128)), (1, 1, 1, 3), Sparse),
        (ConvShape((127, 2, 1), groups=127), (127, 1, 2, 1), Conv),
        (ConvShape((128, 2, 1), groups=128), (128, 1, 2, 1), Sparse),
    ],
)
def test_geometry_up_to_the_8_bits_of_conv(geometry, kernel, kind):
    rng = np.random.default_rng(1)
    network, process = one_connection(2 * rng.integers(-100, 100, kernel), geometry)
    assert type(process) is kind
    assert assert_equal(network, rng.integers(0, 256, (3, 1, geometry.sources))).outputs.any()


@pytest.mark.parametrize("options", [{}, {"exponent": 1}, {"delay": 1}])
@pytest.mark.parametrize("run", [run_in_process, run_lava])
def test_a_kernel_of_zeros(options, run):
    network, _ = one_connection(np.zeros((2, 1, 2, 2), int), ConvShape((1, 3, 3)), "spikes", **options)
    assert not assert_equal(network, np.ones((1, 9), int), run).outputs.any()


def test_a_convolution_too_large_for_a_matrix_is_refused_before_the_run():
    kernel = np.zeros((128, 128, 3, 3), np.int16)
    network, _ = one_connection(kernel, ConvShape((128, 32, 32), padding=1), "spikes")
    node, edge = network.populations[0], network.connections[0]
    shifted = Connection("input", "out", edge.weight, exponent=1, geometry=edge.geometry)
    network = FixedNetwork((node,), (shifted,), network.host, 1, "out")
    with pytest.raises(LimitError, match=r"synapses, more than .* for a sparse matrix"):
        run_lava(network, np.zeros((1, 128 * 1024), int))


def test_one_population_sends_to_several_kinds_of_connections():
    """Virtual ports turn the image for Conv alone; what others hear, and what users record, stays in the order C, H, W."""
    rng, steps = np.random.default_rng(2), 4
    geometry = ConvShape((2, 3, 4), (1, 2), (1, 0))
    wide = ConvShape((2, 3, 4), padding=1)
    kernel = 2 * rng.integers(-10, 20, (3, 2, 1, 2))
    size = geometry.targets(kernel.shape)
    nodes = (
        Population("a", 24, vth=20, t_start=0, shape=(2, 3, 4)),
        Population("b", size, vth=30, t_start=1),
        Population("c", 24, "accumulator", t_start=1, shape=(2, 3, 4)),
        Population("d", 5, "accumulator", t_start=1),
        Population("e", 5, "accumulator", t_start=2),
    )
    edges = (
        Connection("a", "b", kernel, geometry=geometry),
        Connection("a", "c", 2 * rng.integers(-10, 20, (2, 2, 3, 3)), geometry=wide),
        Connection("a", "d", 2 * rng.integers(-10, 20, (5, 24))),
        Connection("a", "e", 2 * rng.integers(-10, 20, (5, 24)), delay=1),
        Connection("b", "e", 2 * rng.integers(-10, 20, (5, size))),
    )
    network = FixedNetwork(nodes, edges, HostInput("current", 24, targets=("a",)), steps, "e")
    x = rng.integers(-5, 20, (2, 24))
    graph = build(network, x)
    kinds = [type(graph.synapses[edge.name]) for edge in edges]
    assert kinds == [Conv, Conv, Dense, DelayConnection, Dense]
    listener = Recorder(shape=(24,), steps=graph.steps)
    graph.neurons["a"].s_out.connect(listener.s_in)
    run_guarded(graph.sources["a"], graph.steps)
    spikes = listener.spikes.reshape(2, network.period, 24)[:, :steps].swapaxes(0, 1)
    np.testing.assert_array_equal(spikes, emulate(network, x).spikes["a"])
    trace = assert_equal(network, x, run_lava)
    assert_equal(network, x)
    assert all(0 < spikes.mean() < 1 for spikes in trace.spikes.values())


def test_every_target_of_a_current_has_a_source_of_its_own():
    case = next(c for c in map(random_image_case, range(99)) if len(c.network.host.targets) == 2)
    graph, signal = build(case.network, case.x), case.network.encode(case.x)
    assert list(graph.sources) == ["p0", "p1"]
    assert_equal(case.network, case.x, run_lava)
    first = case.network.population("p0").size
    rows = graph.sources["p1"].proc_params["data"].reshape(graph.samples, case.network.period, -1)
    np.testing.assert_array_equal(rows[:, 1 : 1 + case.network.steps], signal[:, :, first:].swapaxes(0, 1))
    assert not rows[:, 0].any()


def test_the_random_networks_take_every_process():
    found = Counter()
    for seed in range(20):
        case = random_image_case(seed)
        found.update(type(process) for process in build(case.network, case.x).synapses.values())
    assert min(found[kind] for kind in (Conv, Sparse, Dense, DelayConnection)) >= 5, found
