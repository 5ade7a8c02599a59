"""Quantisation at its limits: wrapping currents, endless runs, large calibration sets, wrong arguments."""

import numpy as np
import pytest
import torch

from lava_snnlearn.checks import LimitError
from lava_snnlearn.data import encode
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.quantize import quantize
from lava_snnlearn.networks import mlp
from lava_snnlearn.neurons import LIF


def test_stock_lif_never_wraps_its_current():
    """600 inputs that all spike: the current register of stock LIF would wrap, and excitation turn into inhibition."""
    network = mlp([600, 1, 2], LIF(leak=0.0, reset="zero"), norm="none", encoding="rate", steps=3)
    with torch.no_grad():
        network.spiking_layers[0].weight.fill_(0.9)
    chip = quantize(network)
    assert chip.connections[0].bound(1) <= (1 << 17) - 1
    trace = emulate(chip, np.ones((1, 600), np.int64))
    assert trace.saturated["layer1"] == 0
    assert trace.spikes["layer1"].sum() == 3


def test_a_wrapped_current_is_counted():
    populations = (Population("p0", 1, "lif", vth=3, t_start=1), Population("out", 1, "accumulator", t_start=2))
    edges = (Connection("input", "p0", np.full((1, 300), 254), exponent=1), Connection("p0", "out", [[2]]))
    network = FixedNetwork(populations, edges, HostInput("spikes", 300), 1, "out")
    trace = emulate(network, np.ones((1, 300), np.int64))
    assert trace.membranes["p0"][0, 0, 0] < 0
    assert trace.saturated["p0"] == 1


def test_runs_too_long_for_any_readout_scale_are_refused():
    network = mlp([4, 8, 3], steps=70_000)
    with torch.no_grad():
        network.readout.bias.fill_(0.1)
    with pytest.raises(LimitError, match=r"70000 steps.*whatever.*\s.*calibration"):
        quantize(network)


def test_coded_calibration_data_are_not_held_at_once(monkeypatch):
    network = mlp([6, 8, 3], encoding="rate", steps=4)
    x = np.random.default_rng(0).random((1200, 6)).astype(np.float32)
    sizes = []

    def spy(part, *rest, **options):
        sizes.append(len(part))
        return encode(part, *rest, **options)

    monkeypatch.setattr("lava_snnlearn.fixed_point.inputs.encode", spy)
    chip = quantize(network, input="current", calibration=x)
    assert sizes == [512, 512, 176]
    assert np.abs(chip.encode(x)).max() <= 8190
    sizes.clear()
    quantize(network, calibration=x)
    assert sizes == []


@pytest.mark.parametrize("other", ["network.h5", None, torch.nn.Linear(2, 2)])
def test_other_things_are_refused(other):
    with pytest.raises(TypeError, match="quantize takes a Network"):
        quantize(other)
    with pytest.raises(TypeError, match="emulate takes a FixedNetwork"):
        emulate(other, np.zeros((1, 2)))
