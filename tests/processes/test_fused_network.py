"""FusedNetwork: the conformance suite, and equality with the graph of one process a population, in every step."""

from dataclasses import replace

import numpy as np
import pytest
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.lava_backend import InProcessModel, LavaRunError, run_config, run_guarded
from lava_snnlearn.lava_backend.graph import build
from lava_snnlearn.processes import FusedNetwork, Recorder, SampleSource, SoftResetLIF
from lava_snnlearn.testing import check_process


def even(rng, *shape, low=-30, high=60):
    return 2 * rng.integers(low, high, shape)


def delayed(rng):
    """Spikes over mixed delays into neurons with a loop; an accumulator answers."""
    hidden = Population("hidden", 6, vth=90, dv=300, bias_mant=rng.integers(-9, 40, 6), bias_exp=5, v_init=-800, t_start=1)
    out = Population("out", 3, "accumulator", dv=64, t_start=2)
    loop = Connection("hidden", "hidden", even(rng, 6, 6), delay=rng.integers(0, 4, (6, 6)))
    entry = Connection("input", "hidden", even(rng, 6, 5), exponent=1, delay=rng.integers(0, 3, (6, 5)))
    last = Connection("hidden", "out", even(rng, 3, 6), exponent=2)
    return FixedNetwork((hidden, out), (entry, loop, last), HostInput("spikes", 5), 7, "out")


def stock(rng):
    """Lava's own LIFs, which go on between samples; the answer is spike counts."""
    first = Population("first", 6, "lif", vth=60, dv=200, bias_mant=rng.integers(0, 60, 6), bias_exp=6, t_start=1)
    out = Population("out", 4, "lif", vth=100, bias_mant=-50, bias_exp=3, t_start=2)
    edges = (Connection("input", "first", even(rng, 6, 5)), Connection("first", "out", even(rng, 4, 6)))
    return FixedNetwork((first, out), edges, HostInput("spikes", 5), 6, "out")


def image(rng):
    """8-bit payloads through convolutions: one as Lava's Conv, one with an exponent and a delay."""
    near = ConvShape(input_shape=(1, 5, 5), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    wide = ConvShape(input_shape=(2, 5, 5), stride=(2, 2), padding=(0, 0), dilation=(1, 1), groups=2)
    maps = Population("maps", 50, vth=3000, t_start=1, shape=(2, 5, 5))
    out = Population("out", 16, "soft_reset_lif", vth=50, dv=500, t_start=3, shape=(4, 2, 2))
    edges = (
        Connection("input", "maps", even(rng, 2, 1, 3, 3), geometry=near),
        Connection("maps", "out", even(rng, 4, 1, 2, 2), exponent=1, delay=1, geometry=wide),
    )
    return FixedNetwork((maps, out), edges, HostInput("graded", 25), 5, "out")


def currents(rng):
    """A current into two populations that start at different steps, and graded neurons behind them."""
    near, far = Population("near", 4, vth=150, dv=100), Population("far", 3, vth=120, t_start=2)
    out = Population("out", 3, "graded", shift=6, top=200, bias_mant=9, bias_exp=3, t_start=3)
    edges = (
        Connection("near", "far", even(rng, 3, 4)),
        Connection("near", "out", even(rng, 3, 4), exponent=3),
        Connection("far", "out", even(rng, 3, 3), exponent=4),
    )
    return FixedNetwork((near, far, out), edges, HostInput("current", 7, targets=("near", "far")), 6, "out")


def imported(rng):
    """What only imported graphs have: filtered currents, parallel connections, sums that a relay hands on, right shifts, all
    signs of weights."""
    first = Population("first", 5, "lif", vth=60, du=500, dv=100, bias_mant=rng.integers(0, 60, 5), bias_exp=6, t_start=1)
    relay = Population("relay", 4, "relay", t_start=2)
    out = Population("out", 3, "lif", vth=200, du=2000, dv=50, t_start=3)
    edges = (
        Connection("input", "first", rng.integers(0, 255, (5, 6)), exponent=-2, sign_mode="excitatory"),
        Connection("first", "relay", even(rng, 4, 5)),
        Connection("first", "relay", rng.integers(-40, 0, (4, 5)), sign_mode="inhibitory", label="again"),
        Connection("relay", "out", even(rng, 3, 4, low=-20, high=30), exponent=-3),
    )
    return FixedNetwork((first, relay, out), edges, HostInput("spikes", 6), 12, "out")


def resumed(rng):
    """Lava runs each sample by itself: states to begin with, resets at fixed times, a loop of stock LIFs, binary synapses."""
    first = Population(
        "first", 4, "lif", vth=70, du=900, v_init=rng.integers(-900, 900, 4), u_init=200, reset_interval=5, reset_offset=3
    )
    out = Population("out", 3, "lif", vth=90, dv=30)
    edges = (
        Connection("input", "first", even(rng, 4, 6), binary=True),
        Connection("first", "first", -rng.integers(0, 99, (4, 4)), sign_mode="inhibitory"),
        Connection("first", "out", even(rng, 3, 4), delay=2),
    )
    return FixedNetwork((first, out), edges, HostInput("graded", 6), 14, "out")


NETWORKS = [delayed, stock, image, currents, imported]


def made(kind, samples=3):
    """A network and integer input for it, both random."""
    rng = np.random.default_rng(1)
    network = kind(rng)
    shape = (network.steps, samples, network.host.size)
    low, high = {"spikes": (0, 2), "graded": (0, 256), "current": (-200, 600)}[network.host.form]
    return network, rng.integers(low, high, shape)


def fused_run(network, x, tag="fixed_pt", run_cfg=None, **options):
    """What all populations send, and all membranes, in every step: [steps, neurons]."""
    fused = FusedNetwork(network=network, also=tuple(p.name for p in network.populations), **options)
    rows = fused.rows(x)
    source, answer = SampleSource(data=rows), Recorder(shape=fused.s_out.shape, steps=len(rows))
    recorder = Recorder(shape=fused.also_out.shape, steps=len(rows))
    source.s_out.connect(fused.s_in)
    fused.s_out.connect(answer.s_in)
    fused.also_out.connect(recorder.s_in)
    recorder.v_ref.connect_var(fused.v)
    run_guarded(fused, len(rows), run_cfg or run_config(tag))
    assert np.array_equal(answer.spikes, recorder.spikes[:, fused.part(network.output)])
    return fused, recorder.spikes, recorder.membranes


def test_conformance():
    check_process(FusedNetwork)


@pytest.mark.parametrize("kind", NETWORKS)
def test_equal_to_the_graph_in_every_step_of_all_samples(kind):
    network, x = made(kind)
    graph = build(network, x)
    run_guarded(graph.neurons[network.output], graph.steps, run_config("fixed_pt"))
    fused, sent, membranes = fused_run(network, x)
    assert len(sent) == graph.steps == 3 * network.period
    for population in network.populations:
        recorder = graph.recorders[population.name]
        answers = recorder.membranes if population.kind == "accumulator" else recorder.spikes
        states = recorder.spikes if population.kind == "relay" else recorder.membranes
        assert answers.any(), population.name
        assert np.array_equal(sent[:, fused.part(population.name)], answers), population.name
        assert np.array_equal(membranes[:, fused.place(population.name)], states), population.name


@pytest.mark.parametrize("kind", [*NETWORKS, resumed])
def test_equal_to_the_emulator_with_a_plain_run_configuration(kind):
    network, x = made(kind, samples=2)
    trace = emulate(network, x)
    fused, sent, membranes = fused_run(
        network, x, run_cfg=Loihi2SimCfg(select_tag="fixed_pt"), reset_interval=network.period + 3
    )
    for p in network.populations:
        active = slice(p.t_start, p.t_start + network.steps)
        found = membranes[:, fused.place(p.name)].reshape(2, network.period + 3, p.size).swapaxes(0, 1)[active]
        assert np.array_equal(found, trace.membranes[p.name])
        if p.spiking:
            found = sent[:, fused.part(p.name)].reshape(2, network.period + 3, p.size).swapaxes(0, 1)[active]
            assert np.array_equal(found, trace.spikes[p.name])


def test_endless_is_one_long_sample():
    network, _ = made(delayed)
    x = np.random.default_rng(3).integers(0, 2, (50, 1, 5))
    trace = emulate(replace(network, steps=50), x)
    fused = FusedNetwork(network=network, endless=True)
    model = InProcessModel(fused)
    last = [model.step(s_in=row)["s_out"] for row in x[:, 0]]
    assert np.array_equal(last[2:], trace.membranes["out"][:48, 0])
    model.step()
    model.step()
    assert np.array_equal(model.read("v")[fused.place("out")], trace.outputs[0])


def test_a_loop_through_another_process_does_not_block():
    network, _ = made(stock)
    mirrored = FusedNetwork(
        network=replace(
            network,
            host=HostInput("spikes", 4),
            connections=(Connection("input", "first", np.full((6, 4), 40)), network.connections[1]),
        ),
        endless=True,
    )
    relay, recorder = SoftResetLIF(shape=(4,), vth=1), Recorder(shape=(4,), steps=12)
    mirrored.s_out.connect(relay.a_in)
    relay.s_out.connect(mirrored.s_in)
    relay.s_out.connect(recorder.s_in)
    run_guarded(mirrored, 12, run_config("fixed_pt"), time_limit=20)
    assert recorder.spikes.any()


def test_the_float_model_does_not_round():
    network = FixedNetwork(
        (Population("out", 1, "accumulator", dv=1, v_init=100, t_start=1),),
        (Connection("input", "out", np.array([[2]]), exponent=3),),
        HostInput("spikes", 1),
        3,
        "out",
    )
    _, sent, _ = fused_run(network, np.ones((1, 1), int), tag="floating_pt")
    expected, v = [100.0], 100.0
    for _ in range(3):
        v = v * 4095 / 4096 + 64 * 16
        expected.append(v)
    assert sent[:4, 0] == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(("form", "value", "limit"), [("graded", 256, "255"), ("graded", -1, "255"), ("current", 8191, "8190")])
def test_input_that_was_never_checked_is_refused(form, value, limit):
    out = Population("out", 2, t_start=int(form == "graded"))
    edges = (Connection("input", "out", np.full((2, 3), 2)),) if form == "graded" else ()
    host = HostInput(form, 3) if form == "graded" else HostInput(form, 2, targets=("out",))
    fused = FusedNetwork(network=FixedNetwork((out,), edges, host, 4, "out"))
    source = SampleSource(data=np.full((4, host.size), value))
    source.s_out.connect(fused.s_in)
    with pytest.raises(LavaRunError, match=limit):
        run_guarded(source, 4, run_config("fixed_pt"))


def test_an_endless_process_runs_one_sample():
    network, x = made(stock)
    with pytest.raises(ValueError, match="data are 3 samples"):
        FusedNetwork(network=network, endless=True).rows(x)
    with pytest.raises(ValueError, match="data are 3 samples"):
        FusedNetwork(network=network, endless=True, data=x)
    assert FusedNetwork(network=network, endless=True).rows(x[:, :1]).shape == (network.period, 5)


@pytest.mark.parametrize("kind", [delayed, currents])
@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_a_run_of_one_process(kind, tag):
    network, x = made(kind)
    names = [population.name for population in network.populations]
    listened, sent, membranes = fused_run(network, x, tag=tag)
    fused = FusedNetwork(network=network, also=names[::-1], data=x, record=3 * network.period - 2)
    run_guarded(fused, 3 * network.period + 5, Loihi2SimCfg(select_tag=tag))
    assert fused.answers.dtype == (np.int32 if tag == "fixed_pt" else np.float64)
    assert np.array_equal(fused.answers, sent[:-2, listened.part(network.output)])
    for name in names:
        assert np.array_equal(fused.sent_by(name), sent[:-2, listened.part(name)])
        assert np.array_equal(fused.membranes_of(name), membranes[:-2, listened.place(name)])


def test_records_are_of_populations_asked_for():
    network, x = made(stock)
    fused = FusedNetwork(network=network, also=("out",), data=x)
    assert fused.sent_by("out").shape == fused.membranes_of("out").shape == (0, 4)
    with pytest.raises(ValueError, match="unknown population of also_out 'first'"):
        fused.sent_by("first")


def test_one_process_takes_its_input_from_one_place():
    network, x = made(stock)
    source, fused = SampleSource(data=np.zeros((4, 5), int)), FusedNetwork(network=network, data=x)
    source.s_out.connect(fused.s_in)
    with pytest.raises(LavaRunError, match="s_in is connected, but the process feeds itself"):
        run_guarded(source, 4, run_config("fixed_pt"))
    assert fused.answers.shape == (0, 4)


def test_parts_are_those_asked_for():
    network, _ = made(currents)
    fused = FusedNetwork(network=network, also=("out", "near"))
    assert (fused.part("out"), fused.part("near"), fused.also_out.shape) == (slice(0, 3), slice(3, 7), (7,))
    assert fused.place("far") == slice(4, 7)
    with pytest.raises(ValueError, match="unknown population of also_out 'far'"):
        fused.part("far")
