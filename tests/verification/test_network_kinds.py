"""Every kind of network that the library builds: quantised, alive, and bit for bit the same on Lava."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.fixed_point import twin
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.networks import conv_net, mlp
from lava_snnlearn.networks.network import Network
from lava_snnlearn.testing.kinds import KINDS, samples, small_network

STEPS, SAMPLES, COMPARED, CALIBRATION = 6, 8, 64, 256
FEEDBACK_DELAY = {"feedback": 8}
"""A chip can only have feedback that takes as many steps as there are layers."""

pytestmark = pytest.mark.usefixtures("one_thread")


def network_of(kind: str, steps: int = STEPS) -> Network:
    options = {"feedback_delay": FEEDBACK_DELAY[kind]} if kind in FEEDBACK_DELAY else {}
    return small_network(kind, steps=steps, **options).eval()


def data_of(network: Network, frames: bool = False) -> np.ndarray:
    """Samples that calibrate; the first of them are compared."""
    return samples(network, CALIBRATION, seed=99, frames=frames).numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["current", "graded"])
def test_the_integers_say_what_the_network_says(kind: str, form: str) -> None:
    """All populations spike, 8 bits keep the answers and nearly all spikes; the torch twin has the same bits."""
    network = network_of(kind, steps=12)
    x = data_of(network)
    chip = snn.quantize(network, input=form, calibration=x)
    trace = snn.emulate(chip, x[:COMPARED])
    rates = trace.spike_rates()
    assert list(rates) == [f"layer{i + 1}" for i in range(len(network.populations))]
    assert min(rates.values()) > 0.1, rates
    assert not any(trace.saturated.values()), "nothing is clipped on data like those of calibration"
    with torch.no_grad():
        simulation = network.simulate(torch.from_numpy(x[:COMPARED]))
    for rate, state in zip(rates.values(), simulation.layers, strict=True):
        assert rate == pytest.approx(float(state.spike.mean()), abs=0.03)
    expected = network.predict(torch.from_numpy(x[:COMPARED])).numpy()
    assert len(np.unique(expected)) > 1, "there is something to predict"
    assert (trace.predictions == expected).mean() >= (0.85 if form == "current" else 0.8)
    if twin.is_aligned(chip):
        assert snn.verify(chip, x[:COMPARED], against=["torch"]).ok
    else:
        assert "feedback" in kind or "recurrent" in kind


@pytest.mark.parametrize("kind", KINDS)
def test_lava_computes_the_same_bits(kind: str) -> None:
    """The issue's bar: at least 8 samples a kind, every spike and membrane, 0 mismatches."""
    network = network_of(kind)
    form = "graded" if list(KINDS).index(kind) % 2 else "current"
    x = data_of(network)
    chip = snn.quantize(network, input=form, calibration=x)
    report = snn.verify(chip, x[:SAMPLES], against=["lava"])
    assert report.ok, f"{report}\n{chip}"
    values = 2 * sum(population.outputs for population in network.populations) + network.classes
    assert report.compared == {"lava": STEPS * SAMPLES * values}
    assert report.mismatches == {"lava": 0}


@pytest.mark.parametrize("kind", ["convolutions, stride 2", "pre-activation residual", "feedback, pipelined"])
def test_new_frames_in_every_step_on_lava(kind: str) -> None:
    network = network_of(kind)
    x = data_of(network, frames=True)
    chip = snn.quantize(network, calibration=x)
    assert snn.verify(chip, x[:, :SAMPLES], against=["lava"]).ok


SPIKES = {
    "dense, rate code": lambda: mlp([24, 20, 16, 4], steps=STEPS, encoding="rate"),
    "dense, delays of the data": lambda: mlp(
        [24, 20, 16, 4], steps=STEPS, encoding="rate", delays="synaptic", max_delay=3, delay_input=True
    ),
    "convolutions, events": lambda: conv_net((2, 8, 8), "P2-6C3-8C3s2-GAP", 4, steps=STEPS),
    "residual, events": lambda: snn.networks.preact_resnet((2, 6, 6), 4, blocks=(1, 1), width=4, steps=STEPS),
    "normaliser-free, events": lambda: snn.networks.nf_resnet((2, 6, 6), 4, blocks=(1, 1), width=4, steps=STEPS),
}


@pytest.mark.parametrize("name", SPIKES)
def test_binary_spikes_on_lava(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    intensities = torch.rand(COMPARED, SPIKES[name]().inputs)
    monkeypatch.setattr("lava_snnlearn.testing.kinds.samples", lambda *_, **__: intensities)
    monkeypatch.setitem(KINDS, name, lambda **_: SPIKES[name]())
    network = small_network(name).eval()
    x = intensities if network.encoding == "rate" else (torch.rand(STEPS, *intensities.shape) < 0.4).float()
    chip = snn.quantize(network, input="spikes", calibration=x.numpy())
    assert min(snn.emulate(chip, x.numpy()).spike_rates().values()) > 0.05
    first = x[..., :SAMPLES, :].numpy()
    report = snn.verify(chip, first)
    assert report.ok, f"{report}\n{chip}"
    assert report.compared["lava"] == report.compared["torch"]


@pytest.mark.parametrize("bits", [4, 6])
def test_few_bits_are_the_same_on_lava(bits: int) -> None:
    network = network_of("pre-activation residual", steps=4)
    x = data_of(network)
    chip = snn.quantize(network, weight_bits=bits, calibration=x)
    assert all((np.asarray(connection.weight) % 2 ** (9 - bits) == 0).all() for connection in chip.connections)
    assert snn.verify(chip, x[:2]).ok


@pytest.mark.parametrize("kind", KINDS)
def test_saved_chips_are_the_same(kind: str, tmp_path: Path) -> None:
    network = network_of(kind, steps=2)
    x = data_of(network)
    chip = snn.quantize(network, calibration=x)
    chip.save(tmp_path / "chip.h5")
    read = FixedNetwork.load(tmp_path / "chip.h5")
    np.testing.assert_array_equal(snn.emulate(read, x[:4]).outputs, snn.emulate(chip, x[:4]).outputs)
