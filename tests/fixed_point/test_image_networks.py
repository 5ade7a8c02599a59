"""Networks of images: convolutions, connections that skip populations, an input current for several populations."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point import twin
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.engine import batch
from lava_snnlearn.fixed_point.engine.batch import run_batch
from lava_snnlearn.fixed_point.engine.products import Product
from lava_snnlearn.fixed_point.engine.program import Program
from lava_snnlearn.fixed_point.engine.signal import chip_input
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.testing.networks import random_image_case

KINDS = {"subtract": {"reset": "subtract"}, "zero": {"reset": "zero"}, "delays": {"delays": True}}


def assert_same(ours, theirs):
    for name, membranes in ours.membranes.items():
        np.testing.assert_array_equal(membranes, theirs.membranes[name], err_msg=name)
    for name, spikes in ours.spikes.items():
        np.testing.assert_array_equal(spikes, theirs.spikes[name], err_msg=name)
    assert ours.saturated == theirs.saturated


@settings(deadline=None, derandomize=True, max_examples=120)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(sorted(KINDS)))
def test_random_networks_equal_the_reference(reference, seed, kind):
    case = random_image_case(seed, **KINDS[kind])
    trace = emulate(case.network, case.x)
    assert_same(trace, reference.simulate(case.network, case.network.encode(case.x)))
    np.testing.assert_array_equal(trace.outputs, trace.membranes["out"][-1])


@settings(deadline=None, derandomize=True, max_examples=80)
@given(seed=st.integers(0, 2**32 - 1), reset=st.sampled_from(["subtract", "zero"]))
def test_the_torch_twin_equals_the_emulator(seed, reset):
    case = random_image_case(seed, reset=reset)
    assert twin.is_aligned(case.network)
    trace, real = emulate(case.network, case.x), twin.forward(case.network, case.x)
    for name, membranes in real.membranes.items():
        np.testing.assert_array_equal(trace.membranes[name], membranes.numpy() * 64, err_msg=name)
    for name, spikes in real.spikes.items():
        np.testing.assert_array_equal(trace.spikes[name], spikes.numpy(), err_msg=name)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_random_networks_reach_every_corner(kind):
    """So that the proofs above cannot become empty: what their cases hold is counted."""
    names = ["current", "graded", "spikes", "conv", "dense", "strided", "padded", "dilated", "grouped", "skip", "two", "wide"]
    found = dict.fromkeys([*names, "spiking", "clipped"], 0)
    for seed in range(80):
        case = random_image_case(seed, **KINDS[kind])
        network, trace = case.network, emulate(case.network, case.x)
        shapes = [c.geometry for c in network.connections if c.geometry is not None]
        found[network.host.form] += 1
        found["conv"] += len(shapes)
        found["dense"] += len(network.connections) - len(shapes)
        found["strided"] += sum(max(shape.stride) > 1 for shape in shapes)
        found["padded"] += sum(max(shape.padding) > 0 for shape in shapes)
        found["dilated"] += sum(max(shape.dilation) > 1 for shape in shapes)
        found["grouped"] += sum(shape.groups > 1 for shape in shapes)
        found["skip"] += len(network.connections) > len(network.populations)
        found["two"] += len(network.host.targets) == 2
        found["wide"] += any(c.exponent for c in network.connections)
        found["spiking"] += all(spikes.any() for spikes in trace.spikes.values())
        found["clipped"] += any(trace.saturated.values())
    assert min(found.values()) >= 5, found


# ---- in closed form -----------------------------------------------------------------------------------------------------


def test_a_skipping_connection_meets_the_same_step():
    """Two ways from the input to the output, over a population that copies its input and past it: they cancel in each step."""
    steps = 6
    nodes = (Population("copy", 4, vth=2, t_start=1, shape=(1, 2, 2)), Population("out", 4, "accumulator", t_start=2))
    one = np.full((1, 1, 1, 1), 2)
    geometry = ConvShape((1, 2, 2))
    edges = [
        Connection("input", "copy", one, geometry=geometry),
        Connection("copy", "out", 5 * one, geometry=geometry),
        Connection("input", "out", -5 * one, delay=1, geometry=geometry),
    ]
    x = np.random.default_rng(0).integers(0, 2, (steps, 9, 4))
    network = FixedNetwork(nodes, tuple(edges), HostInput("spikes", 4), steps, "out")
    trace = emulate(network, x)
    np.testing.assert_array_equal(trace.spikes["copy"], x)
    assert not trace.membranes["out"].any()
    assert twin.is_aligned(network)
    late = FixedNetwork(
        nodes, (*edges[:2], Connection("input", "out", -5 * one, geometry=geometry)), network.host, steps, "out"
    )
    assert emulate(late, x).membranes["out"].any()
    assert not twin.is_aligned(late)


@pytest.mark.parametrize("static", [True, False])
def test_every_target_of_a_current_hears_its_part_from_its_own_start_on(static):
    steps, rng = 4, np.random.default_rng(1)
    starts = {"a": 0, "b": 3, "c": 1}
    nodes = [Population(name, 2, "accumulator", t_start=start) for name, start in starts.items() if name != "a"]
    nodes.append(Population("a", 2, vth=1))
    edges = (Connection("a", "b", [[2, 0], [0, 2]], delay=2), Connection("a", "c", [[2, 2], [2, 2]]))
    network = FixedNetwork(tuple(nodes), edges, HostInput("current", 6, targets=("b", "a", "c")), steps, "c")
    x = rng.integers(-9, 10, (3, 6) if static else (steps, 3, 6))
    now = np.broadcast_to(x, (steps, 3, 6)).astype(int)
    trace, spikes = emulate(network, x), emulate(network, x).spikes["a"].astype(int)
    v = np.zeros((3, 2), int)
    for t in range(steps):
        v += now[t, :, 2:4]
        np.testing.assert_array_equal(spikes[t], v >= 1)
        v -= spikes[t]
    np.testing.assert_array_equal(trace.membranes["b"], 64 * np.cumsum(now[:, :, :2] + 2 * spikes, axis=0))
    both = 2 * spikes.sum(2, keepdims=True)
    np.testing.assert_array_equal(trace.membranes["c"], 64 * np.cumsum(now[:, :, 4:] + both, axis=0))
    assert twin.is_aligned(network)
    np.testing.assert_array_equal(twin.forward(network, x).membranes["b"].numpy() * 64, trace.membranes["b"])


# ---- the emulator's batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", ["all", "outputs"])
@pytest.mark.parametrize("seed", range(8))
def test_results_do_not_depend_on_slabs(monkeypatch, seed, record):
    case = random_image_case(seed, delays=seed % 2 == 1)
    samples = np.concatenate([case.x, case.x[:, ::-1], case.x], axis=1)
    whole = emulate(case.network, samples, record=record)
    monkeypatch.setattr(batch, "block_size", lambda program, samples: (2, 1))
    parts = emulate(case.network, samples, record=record)
    np.testing.assert_array_equal(whole.outputs, parts.outputs)
    assert_same(whole, parts)


def image_network(steps=40, size=32):
    geometry = ConvShape((1, size, size), padding=1)
    nodes = (Population("a", 8 * size**2, vth=9, t_start=1), Population("out", 2, "accumulator", t_start=2))
    kernel, rows = np.full((8, 1, 3, 3), 2), np.full((2, 8 * size**2), 2)
    edges = (Connection("input", "a", kernel, geometry=geometry), Connection("a", "out", rows))
    return FixedNetwork(nodes, edges, HostInput("graded", size**2), steps, "out")


def test_memory_without_records_is_small():
    network = image_network()
    x = np.random.default_rng(0).integers(0, 2, (40, 64, 1024)).astype(np.int32)
    currents = 8 * 40 * 64 * 8192
    tracemalloc.start()
    try:
        emulate(network, x, record="outputs")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < currents / 2


def test_the_sums_of_a_static_input_are_computed_once(monkeypatch):
    network, real, rows = image_network(), Product.apply, []
    monkeypatch.setattr(Product, "apply", lambda self, x: rows.append((x.shape[-1], len(x))) or real(self, x))
    program = Program(network, path="product")
    x = np.random.default_rng(0).integers(0, 256, (1, 1024))
    static = run_batch(program, chip_input(network, x), "all", 1)
    assert rows.count((1024, 1)) == sum(width == 1024 for width, _ in rows) == 1
    rows.clear()
    moving = run_batch(program, chip_input(network, np.tile(x, (40, 1, 1))), "all", 1)
    assert sum(steps for width, steps in rows if width == 1024) == 40
    assert_same(static, moving)


# ---- the host's convolution ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", ["channel", "neuron"])
@pytest.mark.parametrize("sequence", [True, False])
def test_convolved_currents_are_the_exact_rational_result(reference, bias, sequence):
    rng, shift = np.random.default_rng(5), 17
    geometry = ConvShape((2, 4, 5), (2, 1), (1, 0), groups=2)
    kernel = rng.integers(-32_767, 32_768, (4, 1, 3, 2))
    size = geometry.targets(kernel.shape)
    offsets = rng.integers(-(1 << 20), 1 << 20, 4 if bias == "channel" else size)
    host = HostInput("current", size, targets=("a",), weight=kernel, bias=offsets, shift=shift, geometry=geometry)
    assert host.features == 40
    x = rng.uniform(-8, 8, (3, 2, 40) if sequence else (2, 40))
    got = host.encode(x, 3)
    assert got.shape == (3, 2, size)
    matrix = reference.laid_out(kernel, geometry)
    every = np.repeat(offsets, size // len(offsets))
    for t, b, n in np.ndindex(got.shape):
        row = x[t, b] if sequence else x[b]
        total = sum(int(w) * round(Fraction(float(v)) * 1024) for w, v in zip(matrix[n], row, strict=True) if w)
        assert got[t, b, n] == (Fraction(total + int(every[n]), 1 << shift) + Fraction(1, 2)).__floor__()


def test_a_static_image_is_convolved_once(monkeypatch):
    from lava_snnlearn.fixed_point import host as module

    geometry, kernel, seen = ConvShape((1, 3, 3)), np.ones((1, 1, 1, 1), int), []
    host = HostInput("current", 9, targets=("a",), weight=kernel, bias=[0], shift=1, geometry=geometry)
    real = module.convolve
    monkeypatch.setattr(module, "convolve", lambda x, k, g: seen.append(len(x)) or real(x, k, g))
    host.encode(np.zeros((5, 9)), 100)
    host.encode(np.zeros((100, 5, 9)), 100)
    assert seen == [5, 500]


HOST = {"form": "current", "size": 18, "targets": ("a",), "weight": np.ones((2, 1, 1, 1), int), "bias": [0, 0], "shift": 1}


@pytest.mark.parametrize(
    "fields, error, match",
    [
        ({"geometry": (1, 3, 3)}, TypeError, "host geometry is .* must be a ConvShape"),
        ({"weight": None, "bias": None}, ValueError, "geometry belongs to a host weight"),
        ({"size": 9}, ValueError, r"host weight \(2, 1, 1, 1\) and bias \(2,\) do not fit an input of size 9"),
        ({"bias": [0]}, ValueError, r"bias \(1,\) do not fit"),
        ({"bias": np.zeros((2, 9), int)}, ValueError, r"bias \(2, 9\) do not fit"),
        ({"weight": np.ones((2, 2, 1, 1), int)}, ValueError, r"kernel of shape \(2, 2, 1, 1\) does not fit"),
        ({"weight": np.full((2, 1, 1, 1), 1 << 15)}, LimitError, r"host weight is 32768 at index \(0, 0, 0, 0\)"),
        ({"targets": "a"}, TypeError, "targets is 'a'; it must be a tuple"),
        ({"targets": ("a", "a")}, ValueError, "each once"),
    ],
)
def test_hosts_that_do_not_fit(fields, error, match):
    valid = HOST | {"geometry": ConvShape((1, 3, 3))}
    assert HostInput(**valid).features == 9
    with pytest.raises(error, match=match):
        HostInput(**valid | fields)


# ---- files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_files_keep_everything(tmp_path, seed):
    case = random_image_case(seed)
    case.network.save(tmp_path / "net.h5")
    again = FixedNetwork.load(tmp_path / "net.h5")
    assert str(again) == str(case.network)
    assert again.host.targets == case.network.host.targets
    assert [p.shape for p in again.populations] == [p.shape for p in case.network.populations]
    assert [c.geometry for c in again.connections] == [c.geometry for c in case.network.connections]
    assert_same(emulate(again, case.x), emulate(case.network, case.x))


def test_files_keep_the_hosts_convolution(tmp_path):
    host = HostInput(**HOST, geometry=ConvShape((1, 5, 5), stride=(2, 2)))
    node = Population("a", 18, "accumulator", shape=(2, 3, 3))
    network = FixedNetwork((node,), (), host, 2, "a")
    network.save(tmp_path / "net.h5")
    again = FixedNetwork.load(tmp_path / "net.h5").host
    assert again.geometry == host.geometry
    x = np.random.default_rng(0).normal(size=(4, 25))
    np.testing.assert_array_equal(again.encode(x, 2), host.encode(x, 2))
