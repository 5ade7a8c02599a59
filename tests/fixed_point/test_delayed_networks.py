"""Networks with learned delays in integers: their delays are those of the chip, and emulator, twin and reference have the same
bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point import twin
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.networks import (
    DelayLinear,
    DelaySettings,
    Network,
    Readout,
    SpikingLayer,
    mlp,
)
from lava_snnlearn.networks import Population as TorchPopulation
from lava_snnlearn.neurons import LIF

STEPS = 12


@pytest.fixture(autouse=True)
def seeded(one_thread):
    torch.manual_seed(0)


def lively(network):
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.15, 0.1)
        network.readout.weight.normal_(std=0.3)
    return network.eval()


def events(samples=20, inputs=12, seed=0):
    return (np.random.default_rng(seed).random((STEPS, samples, inputs)) < 0.4).astype(np.float32)


def differing(spikes, state):
    """Share of spikes that the float network has otherwise: weights are rounded."""
    return float((spikes != state.spike.numpy()).mean())


@pytest.mark.parametrize("form", ["current", "graded", "spikes"])
@pytest.mark.parametrize("kind", ["axonal", "synaptic"])
def test_the_chip_has_the_trained_delays(assert_twin, kind, form):
    network = lively(mlp([12, 20, 16, 5], LIF(), steps=STEPS, delays=kind, max_delay=5, delay_input=form == "spikes"))
    x = events() if form == "spikes" else np.random.default_rng(0).normal(size=(STEPS, 20, 12)).astype(np.float32)
    chip = snn.quantize(network, input=form, calibration=x)
    for index, layer in enumerate(network.layers):
        connection = next((c for c in chip.connections if c.target == f"layer{index + 1}"), None)
        if layer.delays is not None:
            assert connection is not None
            np.testing.assert_array_equal(connection.delay, layer.delays.matrix().numpy())
            assert len(np.unique(connection.delay)) > 3
        elif connection is not None:
            assert connection.max_delay == 0
    trace = assert_twin(chip, x)
    with torch.no_grad():
        simulation = network.simulate(torch.from_numpy(x))
    for index, state in enumerate(simulation.layers):
        found = trace.spikes[f"layer{index + 1}"]
        assert 0.05 < found.mean() < 0.9
        assert differing(found, state) < (0.06 if form == "graded" else 0.02), "payloads are rounded as well"
    network.layers[1].delays.put(0)
    with torch.no_grad():
        assert differing(trace.spikes["layer2"], network.simulate(torch.from_numpy(x)).layers[1]) > 0.1, "delays matter"
    assert chip.period == STEPS + 2 + (form != "current") + 5
    assert "0..5" in str(chip)
    assert len(network.layers[1].delays.state_dict()) == 1


def test_delays_are_added_to_the_wait_for_the_pipeline():
    """Feedback of 4 steps over a body of two populations: its spikes wait two steps anyway."""
    body = [SpikingLayer(6, 8, LIF(), "none", first=True), DelayLinear(8, 7, 4), TorchPopulation(7, LIF(threshold=0.4))]
    feedback = DelayLinear(7, 8, 3, delays="axonal")
    network = lively(Network(body, Readout(7, 3), steps=STEPS, feedback=feedback, feedback_delay=4))
    x = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    chip = snn.quantize(network, calibration=x)
    delays = {(c.source, c.target): np.asarray(c.delay) for c in chip.connections}
    np.testing.assert_array_equal(delays["layer1", "layer2"], body[1].delays.matrix().numpy())
    np.testing.assert_array_equal(delays["layer2", "layer1"], feedback.delays.matrix().numpy() + 4 - 1 - 1)
    with torch.no_grad():
        simulation = network.simulate(torch.from_numpy(x))
    trace = emulate(chip, x)
    for index, state in enumerate(simulation.layers):
        assert differing(trace.spikes[f"layer{index + 1}"], state) < 0.04
    assert not twin.is_aligned(chip)


def test_stock_neurons_may_have_delays(assert_twin):
    """Stock LIFs, which reset to zero and cannot pause, with mixed delays: on Lava each sample is a run of its own."""
    torch.manual_seed(3)
    network = lively(mlp([12, 20, 16, 5], LIF(reset="zero"), norm="none", steps=STEPS, delays="synaptic", max_delay=5))
    x = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)
    chip = snn.quantize(network, calibration=x)
    assert chip.one_by_one
    assert [population.t_start for population in chip.populations] == [0, 1, 2]
    trace = assert_twin(chip, x)
    assert 0.05 < trace.spikes["layer2"].mean() < 0.9


def test_what_no_chip_can_hold_is_refused():
    body = [SpikingLayer(6, 8, LIF(), "none", first=True), SpikingLayer(8, 6, LIF(), "none")]
    feedback = DelayLinear(6, 8, 62)
    feedback.delays.put(62)
    long = Network(body, Readout(6, 3), steps=STEPS, feedback=feedback, feedback_delay=3)
    with pytest.raises(LimitError, match=r"63 steps \(62 of them learned\), more than 62"):
        snn.quantize(long)
    delayed_input = mlp([12, 20, 5], steps=STEPS, delays="axonal", delay_input=True)
    x = np.random.default_rng(0).normal(size=(9, 12))
    with pytest.raises(LimitError, match="'current' has no synapses to wait in"):
        snn.quantize(delayed_input, calibration=x)
    with pytest.raises(LimitError, match="0 is not nothing"):
        snn.quantize(delayed_input, input="graded", calibration=x)
    assert snn.quantize(delayed_input, input="graded", calibration=np.abs(x) - np.abs(x).min()).connections[0].max_delay > 0
    analogue = Network([SpikingLayer(6, 8, LIF(), "none", first=True), DelayLinear(8, 7, 4)], Readout(7, 3), steps=STEPS)
    with pytest.raises(LimitError, match="without neurons between"):
        snn.quantize(analogue)


def test_graded_payloads_from_zero_on_arrive_late(assert_twin):
    network = lively(mlp([12, 20, 5], LIF(), norm="none", steps=STEPS, delays="synaptic", max_delay=4, delay_input=True))
    x = np.random.default_rng(0).random((STEPS, 30, 12)).astype(np.float32)
    x[0, 0, 0] = 0.0
    chip = snn.quantize(network, input="graded", calibration=x)
    trace = assert_twin(chip, x)
    with torch.no_grad():
        spikes = network.simulate(torch.from_numpy(x)).layers[0].spike.numpy()
    assert 0.05 < spikes.mean() < 0.9
    assert (trace.spikes["layer1"] != spikes).mean() < 0.02


def test_fine_tuning_moves_delays_and_stays_on_the_chip():
    network = lively(
        mlp([12, 20, 16, 5], LIF(), steps=STEPS, encoding="rate", delays="synaptic", max_delay=6, delay_input=True)
    )
    x = events()
    qat = snn.prepare_qat(network, weight_bits=4, input="spikes")
    before = snn.quantize(qat)
    original = [layer.delays.theta.clone() for layer in network.layers]
    optimiser, y = torch.optim.Adam(qat.parameters(), lr=0.1), torch.randint(0, 5, (20,))
    for method in (snn.methods.BPTT(), snn.methods.SLTT(), snn.methods.OTTT()):
        for _ in range(3):
            optimiser.zero_grad()
            method.gradients(qat, torch.from_numpy(x), y)
            optimiser.step()
    after = snn.quantize(qat)
    for old, new in zip(before.connections[:2], after.connections[:2], strict=True):
        assert np.mean(np.asarray(old.delay) != np.asarray(new.delay)) > 0.05
    assert all(torch.equal(layer.delays.theta, theta) for layer, theta in zip(network.layers, original, strict=True))
    qat.eval()
    trace = emulate(after, x)
    with torch.no_grad():
        states = qat.simulate(torch.from_numpy(x)).layers
    for index, state in enumerate(states):
        np.testing.assert_array_equal(trace.spikes[f"layer{index + 1}"], state.spike.numpy())


def test_sums_in_float64_keep_their_delays():
    """So wide a layer that prepared synapses sum in float64."""
    wide = mlp([12, 8200, 6, 3], LIF(), norm="none", steps=4, delays="synaptic", max_delay=3)
    qat = snn.prepare_qat(lively(wide))
    assert qat.layers[1].wide
    x, y = torch.randn(2, 12), torch.tensor([0, 1])
    snn.methods.BPTT().gradients(qat, x, y)
    assert qat.layers[1].delays.theta.grad.dtype == torch.float32
    assert qat.layers[1].delays.theta.grad.abs().max() > 0
    qat.eval()
    with torch.no_grad():
        spikes = qat.simulate(x).layers[1].spike.numpy()
    np.testing.assert_array_equal(emulate(snn.quantize(qat), x.numpy()).spikes["layer2"], spikes)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("form", ["spikes", "graded"])
def test_the_emulator_equals_scalar_steps_for_62_delays(reference, form, recurrent):
    rng = np.random.default_rng(0)
    nodes = (
        Population("a", 9, vth=300, dv=300, t_start=2),
        Population("b", 7, vth=200, dv=100, t_start=9),
        Population("out", 3, "accumulator", t_start=1),
    )
    edges = [
        Connection("input", "a", 2 * rng.integers(-50, 100, (9, 6)), exponent=1, delay=rng.integers(0, 63, (9, 6))),
        Connection("a", "b", 2 * rng.integers(-50, 100, (7, 9)), delay=rng.integers(3, 63, (7, 9))),
        Connection("b", "out", 2 * rng.integers(-99, 99, (3, 7)), delay=rng.integers(0, 9, (3, 7))),
    ]
    if recurrent:
        edges.append(Connection("b", "a", 2 * rng.integers(-50, 100, (9, 7)), delay=rng.integers(0, 30, (9, 7))))
    network = FixedNetwork(nodes, tuple(edges), HostInput(form, 6), 70, "out")
    x = rng.integers(0, 2 if form == "spikes" else 256, (70, 3, 6))
    trace, expected = emulate(network, x), reference.simulate(network, network.encode(x))
    for name in trace.membranes:
        np.testing.assert_array_equal(trace.membranes[name], expected.membranes[name], err_msg=name)
    for name in trace.spikes:
        np.testing.assert_array_equal(trace.spikes[name], expected.spikes[name], err_msg=name)
        assert trace.spikes[name].any()
    static = rng.integers(0, 2, (3, 6))
    np.testing.assert_array_equal(
        emulate(network, static).outputs, emulate(network, np.broadcast_to(static, (70, 3, 6)).copy()).outputs
    )


def test_sums_beyond_float32_are_exact_under_delays(reference):
    """Integers of both signs whose large parts cancel, in the emulator's int64 and float64 sums."""
    rng, columns = np.random.default_rng(1), 700
    half = 2 * rng.integers(60, 128, (4, columns))
    edge = Connection("input", "out", np.concatenate([half, -half], 1), delay=rng.integers(0, 3, (4, 2 * columns)))
    network = FixedNetwork(
        (Population("out", 4, "accumulator", t_start=1),), (edge,), HostInput("graded", 2 * columns), 4, "out"
    )
    x = rng.integers(128, 256, (4, 2, 2 * columns))
    found, expected = emulate(network, x), reference.simulate(network, network.encode(x))
    np.testing.assert_array_equal(found.membranes["out"], expected.membranes["out"])


def test_a_saved_network_keeps_its_delays(tmp_path):
    chip = snn.quantize(lively(mlp([12, 20, 16, 5], LIF(), steps=STEPS, delays="synaptic", max_delay=9)))
    chip.save(tmp_path / "chip.h5")
    read = FixedNetwork.load(tmp_path / "chip.h5")
    np.testing.assert_array_equal(read.connections[0].delay, chip.connections[0].delay)
    settings = DelaySettings("synaptic", 9)
    assert chip.connections[0].max_delay <= settings.max_delay
