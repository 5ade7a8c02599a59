"""The engine against a slow reference: every path, every kind of neuron and connection, any cut into blocks and windows."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
import weakref

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.arithmetic import graded_step, lif_step, soft_reset_step
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.engine import batch as engine_batch
from lava_snnlearn.fixed_point.engine import on_torch
from lava_snnlearn.fixed_point.engine.batch import run_batch
from lava_snnlearn.fixed_point.engine.costs import density, events_are_cheaper
from lava_snnlearn.fixed_point.engine.neurons import Kept, Neurons, Target
from lava_snnlearn.fixed_point.engine.on_torch import run_on_torch
from lava_snnlearn.fixed_point.engine.program import PATHS, Program, program_of
from lava_snnlearn.fixed_point.engine.signal import chip_input
from lava_snnlearn.fixed_point.engine.synapses import events
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.order import components, topological_order

TOP = (1 << 23) - 1


# ---- random networks --------------------------------------------------------------------------------------------------------


def random_weight(rng, shape, mode):
    """Weights of a sign mode; most of a sparse one are 0."""
    low, high = {"mixed": (-128, 127), "excitatory": (0, 255), "inhibitory": (-255, 0)}[mode]
    span = rng.choice([6, 40, 300])
    weight = rng.integers(max(low, -span), min(high, span) + 1, shape) * (2 if mode == "mixed" else 1)
    return weight * (rng.random(shape) < rng.choice([0.03, 0.5, 1.0]))


def random_connection(rng, source, target, rows, columns, delays, label="", image=None):
    mode = str(rng.choice(["mixed", "mixed", "excitatory", "inhibitory"]))
    rest = {"sign_mode": mode, "binary": bool(rng.random() < 0.2), "label": label}
    exponent = int(rng.choice([0, 0, 2, -1, -3]))
    if image is not None:
        kernel, geometry = image
        delay = int(rng.integers(0, delays + 1)) if exponent >= 0 else 0
        return Connection(source, target, random_weight(rng, kernel, mode), exponent, delay, geometry, **rest)
    weight = random_weight(rng, (rows, columns), mode)
    style = rng.choice(["none", "same", "source", "synapse"]) if exponent >= 0 else "none"
    delay = {
        "none": 0,
        "same": int(rng.integers(0, delays + 1)),
        "source": np.broadcast_to(rng.integers(0, delays + 1, columns), (rows, columns)),
        "synapse": rng.integers(0, delays + 1, (rows, columns)),
    }[style]
    return Connection(source, target, weight, exponent, delay, **rest)


def random_population(rng, name, size, kind, start):
    common = {"bias_mant": rng.integers(-200, 200, size), "bias_exp": int(rng.integers(0, 7)), "t_start": start}
    dv = int(rng.choice([0, 1, 700, 4095, 4096]))
    if kind == "relay":
        return Population(name, size, kind, t_start=start)
    if kind == "graded":
        return Population(name, size, kind, shift=int(rng.integers(0, 8)), top=int(rng.choice([1, 20, 255])), **common)
    if kind == "lif":
        running = {"v_init": rng.integers(-9000, 9000, size), "u_init": int(rng.integers(-9000, 9000))} if start == 0 else {}
        resets = {"reset_interval": int(rng.integers(1, 6)), "reset_offset": int(rng.integers(0, 9))} if start == 0 else {}
        du = int(rng.choice([-1, 0, 900, 4095]))
        return Population(name, size, kind, vth=int(rng.integers(0, 300)), du=du, dv=dv, **common, **running, **resets)
    v_init = int(rng.choice([0, -5000, TOP]))
    if kind == "accumulator":
        return Population(name, size, kind, dv=dv, v_init=v_init, **common)
    vth, delta = int(rng.integers(0, 300)), int(rng.integers(0, 300))
    return Population(name, size, kind, vth=vth, delta=delta, dv=dv, v_init=v_init, **common)


def random_image(rng):
    """A kernel's shape and a geometry that fit together."""
    groups = int(rng.choice([1, 1, 2]))
    channels, out = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 4))
    taps = tuple(int(k) for k in rng.integers(1, 4, 2))
    pairs = [tuple(int(v) for v in rng.integers(low, high, 2)) for low, high in ((1, 4), (0, 3), (1, 3))]
    side = tuple(int(v) for v in rng.integers(5, 8, 2))
    return (out, channels // groups, *taps), ConvShape((channels, *side), *pairs, groups=groups)


def random_case(seed):
    """A network of three layers with every kind of part, and integer input for it; about half have circles."""
    rng = np.random.default_rng(seed)
    while True:
        try:
            return draw_case(rng)
        except LimitError:  # sums that no channel carries: draw again
            continue


def draw_case(rng):
    form = str(rng.choice(["current", "graded", "spikes", "signed"]))
    started = bool(rng.random() < 0.5)  # everything runs from the first step on, as stock LIFs in circles have to
    kernel, geometry = random_image(rng)
    image = bool(rng.random() < 0.4) and form != "current"
    first = geometry.targets(kernel) if image else int(rng.integers(1, 40))
    inputs = geometry.sources if image else first if form == "current" else int(rng.integers(1, 60))
    sizes = [first, int(rng.integers(1, 20)), int(rng.integers(1, 12))]
    kinds = [str(rng.choice(["soft_reset_lif", "graded"] + ["lif", "relay"] * started)) for _ in sizes]
    kinds[1] = "soft_reset_lif" if kinds[1] == "relay" else kinds[1]  # relays in a circle have no bound
    kinds[2] = str(rng.choice(["accumulator", kinds[2]]))
    starts = [0 if started else int(v) for v in (0 if form == "current" else rng.integers(0, 3), *rng.integers(0, 5, 2))]
    names = ["p", "q", "r"]
    nodes = [random_population(rng, *part) for part in zip(names, sizes, kinds, starts, strict=True)]
    delays, host_form = int(rng.choice([0, 3, 6])), "graded" if form == "signed" else form
    targets = ("p",) if form == "current" else ()
    host = HostInput(host_form, inputs, targets=targets, largest=900 if form == "signed" else None)
    edges = [] if form == "current" else [random_connection(rng, "input", "p", first, inputs, delays)]
    if image:
        edges = [random_connection(rng, "input", "p", first, inputs, delays, image=(kernel, geometry))]
    edges += [random_connection(rng, names[i], names[i + 1], sizes[i + 1], sizes[i], delays) for i in range(2)]
    if rng.random() < 0.5:
        edges += [random_connection(rng, "q", "q", sizes[1], sizes[1], delays, label="own")]
        if kinds[0] != "relay":
            edges += [random_connection(rng, "q", "p", sizes[0], sizes[1], delays)]
    if rng.random() < 0.3:
        edges += [random_connection(rng, "p", "q", sizes[1], sizes[0], delays, label="again")]
    steps, samples = int(rng.integers(1, 12)), int(rng.integers(1, 4))
    network = FixedNetwork(nodes, edges, host, steps, "r")
    low, high = {"current": (-700, 700), "graded": (0, 256), "spikes": (0, 2), "signed": (-900, 901)}[form]
    shape = (samples, inputs) if rng.random() < 0.3 else (steps, samples, inputs)
    x = rng.integers(low, high, shape)
    return network, x * (rng.random(shape) < rng.choice([0.1, 1.0]))


def assert_equal(trace, expected, network):
    spikes, membranes = expected.spikes, expected.membranes
    for p in network.populations:
        np.testing.assert_array_equal(trace.membranes[p.name], membranes[p.name], err_msg=f"{p.name} {p.kind}")
        if p.spiking:
            np.testing.assert_array_equal(trace.spikes[p.name], spikes[p.name], err_msg=f"{p.name} {p.kind}")
    assert trace.saturated == expected.saturated
    output = network.population(network.output)
    answer = spikes[output.name].sum(0) if output.counted else membranes[output.name][-1]
    np.testing.assert_array_equal(trace.outputs, answer)


@pytest.fixture(scope="module")
def cases(reference):
    """Random networks, their input and what the reference makes of it."""
    found = [random_case(seed) for seed in range(300)]
    return [(network, x, reference.simulate(network, network.encode(x))) for network, x in found]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_equals_the_slow_reference(cases, path):
    for network, x, expected in cases:
        assert_equal(run_batch(Program(network, path), chip_input(network, x), "all", 1), expected, network)


def test_torch_equals_the_slow_reference(cases):
    """On the processor: the code of graphics cards, without one."""
    for network, x, expected in cases:
        assert_equal(run_on_torch(network, chip_input(network, x), "all", "cpu"), expected, network)


def test_torch_in_parts_and_without_records(cases, monkeypatch):
    monkeypatch.setattr(on_torch, "SUMS", 1)
    for network, x, _ in cases[:20]:
        signal = chip_input(network, x)
        for record in ("outputs", "spikes"):
            found, expected = run_on_torch(network, signal, record, "cpu"), emulate(network, x, record=record)
            assert (found.membranes, set(found.spikes)) == ({}, set(expected.spikes))
            assert found.outputs.tolist() == expected.outputs.tolist()
            assert found.saturated == expected.saturated
            for name, spikes in expected.spikes.items():
                assert found.spikes[name].dtype == spikes.dtype
                np.testing.assert_array_equal(found.spikes[name], spikes)


def test_a_card_that_is_not_there():
    count = torch.cuda.device_count()
    with pytest.raises(RuntimeError, match=rf"'cuda:{count}': torch finds {count} .* use device='cpu'"):
        emulate(long_network(4), np.zeros((1, 64), int), device=f"cuda:{count}")
    with pytest.raises(ValueError, match="'gpu' is unknown to torch; use 'cpu', 'cuda'"):
        emulate(long_network(4), np.zeros((1, 64), int), device="gpu")


@pytest.mark.parametrize("path", PATHS)
def test_any_cut_into_blocks_windows_and_threads(cases, path, monkeypatch):
    monkeypatch.setattr(engine_batch, "_WORTH_A_THREAD", 1)
    sizes = itertools.cycle([(1, 1), (2, 3), (1, 5), (3, 2)])
    for network, x, expected in cases[::2]:
        size = next(sizes)
        monkeypatch.setattr(engine_batch, "block_size", lambda program, samples, size=size: size)
        assert_equal(run_batch(Program(network, path), chip_input(network, x), "all", 3), expected, network)


def test_the_cases_hold_every_corner(cases):
    """So that the proofs above cannot become empty."""
    networks = [network for network, _, _ in cases]
    edges = [c for network in networks for c in network.connections]
    nodes = [p for network in networks for p in network.populations]
    assert {p.kind for p in nodes} == {"accumulator", "graded", "lif", "relay", "soft_reset_lif"}
    assert {c.sign_mode for c in edges} == {"mixed", "excitatory", "inhibitory"}
    assert {np.ndim(c.delay) for c in edges} == {0, 2}
    assert any(p.running for p in nodes)
    assert any(c.binary and c.source != "input" for c in edges)
    assert min(c.exponent for c in edges) < 0 < max(c.exponent for c in edges)
    assert {axis.stride for c in edges if c.geometry for axis in c.geometry.axes} == {1, 2, 3}
    assert {c.geometry.groups for c in edges if c.geometry} == {1, 2}
    assert {any(stage.stepwise for stage in Program(network).stages) for network in networks} == {True, False}
    assert sum(any(expected.saturated.values()) for _, _, expected in cases) > 10
    assert sum(expected.spikes["q"].any() for _, _, expected in cases) > 30


# ---- corners of single parts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low, high, mode", [(-256, 254, "mixed"), (0, 255, "excitatory"), (-255, 0, "inhibitory")])
@pytest.mark.parametrize("n_out", [1, 16, 33])
def test_extreme_weights_and_many_spikes(low, high, mode, n_out):
    """More spikes than an int16 register can add up before it must be emptied."""
    rng = np.random.default_rng(0)
    weight = rng.choice([low, high], (n_out, 1000))
    weight[0] = low if mode == "inhibitory" else high
    node = Population("out", n_out, "accumulator", dv=4096, t_start=1)
    edge = Connection("input", "out", weight, sign_mode=mode)
    network = FixedNetwork((node,), (edge,), HostInput("spikes", 1000), 2, "out")
    x = np.stack([np.ones((3, 1000), int), rng.integers(0, 2, (3, 1000))])
    trace = run_batch(Program(network, "events"), chip_input(network, x), "all", 1)
    exact = np.clip(64 * (x @ weight.T), -TOP, TOP)
    np.testing.assert_array_equal(trace.membranes["out"], exact)


def edges_of(rng, dtype, shape):
    """Registers and sums around every place where something changes."""
    corners = np.array([0, 1, -1, 63, 4095, 4096, -4096, TOP, -TOP, TOP - 1, TOP + 1])
    return np.where(rng.random(shape) < 0.5, rng.choice(corners, shape), rng.integers(-TOP, TOP, shape)).astype(dtype)


@pytest.mark.parametrize("dtype, largest", [(np.int32, 1 << 18), (np.int64, 1 << 25)])
@pytest.mark.parametrize("dv", [0, 1, 2048, 4095, 4096])
def test_neuron_kernels_equal_the_arithmetic(dtype, largest, dv):
    rng, size = np.random.default_rng(dv), 400
    bias = rng.integers(-4096, 4096, size)
    sums = rng.integers(-largest, largest, (1, 1, size)).astype(np.int32)
    sent, kept = np.zeros((1, 1, size), np.uint8), np.zeros((1, 1, size), np.int32)
    start = np.clip(edges_of(rng, np.int64, size), -TOP, TOP)

    soft = Population("a", size, vth=90, delta=131_071, dv=dv, bias_mant=bias, bias_exp=7)
    neurons = Neurons(soft, 1, largest)
    assert neurons.v.dtype == dtype
    neurons.v[:] = start
    clipped = neurons.advance(sums, 0, 1, 0, Target(sent, 0), Kept(kept))
    expected = soft_reset_step(start, sums[0, 0], dv=dv, bias=bias * 128, vth=90, delta=131_071)
    assert (sent[0, 0].tolist(), kept[0, 0].tolist()) == (expected.spike.astype(int).tolist(), expected.membrane.tolist())
    assert clipped == expected.saturated.sum()
    assert clipped > 0

    for du in (-1, 0, 2000, 4095):
        lif = Population(
            "a", size, "lif", vth=90, dv=dv, du=du, bias_mant=bias, bias_exp=7, u_init=edges_of(rng, int, size) // 2
        )
        neurons = Neurons(lif, 1, largest)
        neurons.v[:] = start
        clipped = neurons.advance(sums, 0, 1, 0, Target(sent, 0), Kept(kept))
        step = lif_step(lif.u_init, start, sums[0, 0], du=du, dv=dv, bias=bias * 128, vth=90)
        assert (sent[0, 0].tolist(), kept[0, 0].tolist()) == (step.spike.astype(int).tolist(), step.membrane.tolist())
        assert neurons.u[0].tolist() == step.current.tolist()
        assert clipped == (step.saturated | step.wrapped).sum()

    node = Population("a", size, "graded", shift=9, top=200, bias_mant=bias, bias_exp=3)
    Neurons(node, 1, largest).advance(sums, 0, 1, 0, Target(sent, 0), Kept(kept))
    states = graded_step(0, sums[0, 0], bias=bias * 8, shift=9, top=200)
    assert sent[0, 0].tolist() == kept[0, 0].tolist() == states.tolist()


PLACES = {
    "dense": Connection("input", "a", np.full((256, 784), 2)),
    "narrow": Connection("input", "a", np.full((2, 784), 2)),
    "delayed": Connection("input", "a", np.full((256, 784), 2), delay=np.arange(784) % 5 * np.arange(256)[:, None] % 9),
    "image": Connection("input", "a", np.full((32, 16, 3, 3), 2), geometry=ConvShape((16, 16, 16))),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("ones", [True, False])
def test_more_activity_never_speaks_for_events(place, ones):
    prepared = events(PLACES[place], 1 if ones else 255, ones)
    choices = [events_are_cheaper(PLACES[place], prepared, active) for active in np.linspace(0, 1, 101)]
    assert choices == sorted(choices, reverse=True)
    if place != "narrow":  # where products are so small that looking for events costs as much
        assert choices[0]
    if place != "dense":  # where rows of 8-bit integers are added faster than real numbers are multiplied
        assert not choices[-1]


def test_the_density_is_that_of_what_is_sent():
    sent = np.zeros((3, 500, 784), np.uint8)
    sent[:, :, ::4] = 1
    assert density(sent) == 0.25
    assert (density(sent[:0]), density(np.ones((2, 3, 4)))) == (0, 1)


def test_components_put_sources_first_and_circles_together():
    names = "abcdef"
    nodes = [Population(name, 1, t_start=0) for name in reversed(names)]
    pairs = [("input", "a"), ("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "e"), ("e", "f"), ("f", "d"), ("a", "f")]
    edges = [Connection(*pair, [[2]]) for pair in pairs]
    found = components(FixedNetwork(nodes, edges, HostInput("spikes", 1), 2, "f"))
    assert [sorted(group) for group in found] == [["a"], ["b", "c"], ["d", "e", "f"]]


@pytest.mark.parametrize(("loop", "order"), [([], "abc"), ([("b", "b")], None), ([("c", "a")], None)])
def test_the_order_of_the_flow_of_data(loop, order):
    nodes = [Population(name, 1) for name in "cab"]
    edges = [Connection(*pair, [[2]]) for pair in [("input", "a"), ("a", "b"), ("b", "c"), ("a", "c"), *loop]]
    found = topological_order(FixedNetwork(nodes, edges, HostInput("spikes", 1), 2, "c"))
    assert (found and "".join(population.name for population in found)) == order


# ---- time and memory --------------------------------------------------------------------------------------------------------


def long_network(steps):
    node = Population("hidden", 256, vth=60, t_start=1)
    out = Population("out", 10, "accumulator", t_start=2)
    rng = np.random.default_rng(0)
    entry = Connection("input", "hidden", 2 * rng.integers(-20, 20, (256, 64)), delay=rng.integers(0, 9, (256, 64)))
    link = Connection("hidden", "out", 2 * rng.integers(-20, 20, (10, 256)))
    return FixedNetwork((node, out), (entry, link), HostInput("spikes", 64), steps, "out")


def test_outputs_alone_need_no_memory_that_grows_with_time():
    def peak(steps):
        network = long_network(steps)
        x = np.zeros((steps, 40, 64), np.uint8)
        emulate(network, x[:, :1], record="outputs")
        tracemalloc.start()
        try:
            emulate(network, x, record="outputs", threads=1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short, long = peak(300), peak(3000)
    assert long < 1.1 * short
    assert long < 3000 * 40 * 256


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_result_does_not_depend_on_threads(threads, pools):
    network = long_network(64)
    x = (np.random.default_rng(2).random((64, 40, 64)) < 0.2).astype(np.uint8)
    whole, found = emulate(network, x, threads=1), emulate(network, x, threads=threads)
    assert pools == ([] if threads == 1 else [threads - 1])  # the caller works as well
    assert found.saturated == whole.saturated
    for name, membranes in whole.membranes.items():
        np.testing.assert_array_equal(found.membranes[name], membranes)


@pytest.mark.parametrize(("threads", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_threads_are_a_whole_number(threads, error):
    with pytest.raises(error, match="threads is"):
        emulate(long_network(4), np.zeros((1, 64), int), threads=threads)


def test_the_result_does_not_depend_on_the_form_of_the_input():
    network = long_network(9)
    x = np.random.default_rng(1).integers(0, 2, (9, 5, 64))
    expected = emulate(network, x)
    forms = [x.astype(np.uint8), x.astype(np.float32), np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]]
    for form in forms:
        assert np.array_equal(emulate(network, form).outputs, expected.outputs)
    assert snn.emulate(network, x[0]).outputs.tolist() == emulate(network, np.repeat(x[:1], 9, axis=0)).outputs.tolist()


def test_what_is_prepared_lives_as_long_as_the_network():
    network = long_network(4)
    assert program_of(network) is program_of(network)
    emulate(network, np.zeros((1, 64), int))
    remains = weakref.ref(network)
    del network
    gc.collect()
    assert remains() is None
