"""The torch twin, which shares no code with the emulator, equals it exactly; and both agree with the trained float network."""

import numpy as np
import pytest
import torch

from lava_snnlearn.data.loaders import load
from lava_snnlearn.fixed_point import twin
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.fixed_point.quantize import quantize
from lava_snnlearn.methods.bptt import BPTT
from lava_snnlearn.networks import mlp
from lava_snnlearn.neurons import LIF


def trained_like(norm, reset, leak, encoding, seed):
    torch.manual_seed(seed)
    network = mlp([12, 20, 16, 5], LIF(leak=leak, reset=reset), norm=norm, steps=8, encoding=encoding)
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            if name.endswith(("bias", "running_mean")):
                value.uniform_(-0.3, 0.3)
            elif name.endswith(("gain", "running_var", "batch_norm.weight")):
                value.uniform_(0.4, 1.5)
            elif name == "readout.weight":
                value.uniform_(-0.5, 0.5)
    return network.eval()


def data_for(form, samples, seed):
    rng = np.random.default_rng(seed)
    if form == "spikes":
        return rng.integers(0, 2, (8, samples, 12)).astype(np.float64)
    return rng.normal(size=(samples, 12))


@pytest.mark.parametrize("form", ["current", "graded", "spikes"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("norm", ["none", "bn_step", "bn_time", "sws"])
def test_twin_equals_emulator(assert_twin, form, reset, norm):
    for bits in range(2, 9):
        network = trained_like(norm, reset, [0.0, 0.5, 0.05][bits % 3], "direct", seed=bits)
        x = data_for(form, 20, seed=bits)
        chip = quantize(network, weight_bits=bits, input=form, calibration=x)
        trace = assert_twin(chip, x)
        assert trace.spikes["layer1"].any()


@pytest.mark.parametrize("encoding", ["rate", "latency"])
def test_twin_equals_emulator_on_codes(assert_twin, encoding):
    chip = quantize(trained_like("sws", "subtract", 0.5, encoding, seed=1))
    trace = assert_twin(chip, np.random.default_rng(0).random((40, 12)))
    assert 0.002 < trace.spikes["layer2"].mean() < 0.5


def test_twin_equals_emulator_where_it_saturates_and_wraps(assert_twin, chain):
    rng = np.random.default_rng(0)
    host = HostInput("graded", 500)
    for kind in ("soft_reset_lif", "lif"):
        entry = {"weight": 2 * rng.integers(-128, 128, (3, 500))}
        hidden = {"kind": kind, "vth": 100_000, "dv": 7, "bias_mant": [-4096, 4095, 5], "bias_exp": 7}
        chip = chain(hidden=hidden, host=host, entry=entry)
        trace = assert_twin(chip, rng.integers(0, 256, (5, 40, 500)))
        assert trace.saturated["hidden"] > 0


def test_integers_and_a_spiking_output(assert_twin, chain):
    chip = chain(out={"kind": "soft_reset_lif", "vth": 3, "v_init": 77}, link={"exponent": 1}, output="out")
    assert_twin(chip, np.random.default_rng(0).integers(0, 2, (5, 9, 4)))


def test_the_order_of_populations_does_not_matter(assert_twin, chain):
    chip = chain()
    turned = FixedNetwork(chip.populations[::-1], chip.connections, chip.host, chip.steps, "out")
    x = np.random.default_rng(0).integers(0, 2, (5, 9, 4))
    np.testing.assert_array_equal(assert_twin(turned, x).outputs, emulate(chip, x).outputs)


@pytest.mark.parametrize("case", ["early", "loop", "branch"])
def test_other_graphs_are_refused(chain, case):
    if case == "early":
        chip = chain(out={"t_start": 4}, link={"delay": 1})
    else:
        source, target = ("hidden", "hidden") if case == "loop" else ("input", "out")
        weight = np.full((3, 3) if case == "loop" else (2, 4), 2)
        chip = chain(connections=(*chain().connections, Connection(source, target, weight)))
    with pytest.raises(ValueError, match="every delay is at least the t_start"):
        twin.forward(chip, np.zeros((1, 4), int))


# ---- a trained network ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module", params=["subtract", "zero"])
def trained(request, digits):
    """64-48-10, four epochs of BPTT: a few seconds."""
    torch.manual_seed(0)
    network = mlp([64, 48, 10], LIF(leak=0.5, reset=request.param), norm="sws", steps=6)
    optimiser, method = torch.optim.Adam(network.parameters(), lr=1e-2), BPTT()
    x, y = torch.from_numpy(digits.train.x), torch.from_numpy(digits.train.y)
    for _ in range(4):
        for chosen in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            method.gradients(network, x[chosen], y[chosen])
            optimiser.step()
    return network.eval()


@pytest.mark.parametrize("form", ["current", "graded"])
def test_eight_bits_keep_the_predictions(assert_twin, trained, digits, form):
    chip = quantize(trained, input=form, calibration=digits.train.x)
    expected = trained.predict(torch.from_numpy(digits.test.x)).numpy()
    trace = assert_twin(chip, digits.test.x)
    assert (expected == digits.test.y).mean() > 0.93
    assert (trace.predictions == expected).mean() >= 0.98
