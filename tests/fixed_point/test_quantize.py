"""Quantisation in closed form: scales, weights, thresholds and biases recomputed with rational numbers."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.quantize import quantize
from lava_snnlearn.networks import mlp
from lava_snnlearn.neurons import LIF

PROOF = settings(deadline=None, derandomize=True, max_examples=150)
TOP = (1 << 23) - 1


def spike_network(weight, bias, neuron, readout=None, readout_bias=None, steps=4, encoding="rate"):
    """inputs -> one spiking layer -> readout, without norm, with these parameters."""
    weight = torch.as_tensor(weight, dtype=torch.float32)
    readout = torch.eye(len(weight)) if readout is None else torch.as_tensor(readout, dtype=torch.float32)
    sizes = [weight.shape[1], weight.shape[0], readout.shape[0]]
    network = mlp(sizes, neuron, norm="none", steps=steps, encoding=encoding).eval()
    with torch.no_grad():
        network.layers[0].weight.copy_(weight)
        network.layers[0].bias.copy_(torch.as_tensor(bias))
        network.readout.weight.copy_(readout)
        network.readout.bias.copy_(torch.as_tensor(readout_bias if readout_bias is not None else 0.0))
    return network


def power(k):
    return Fraction(2) ** k


def largest_scale(fits):
    return next(k for k in range(70, -90, -1) if fits(k))


REALS = st.floats(-1, 1, width=32)


@PROOF
@given(
    raw=st.lists(REALS, min_size=4, max_size=4),
    bias=st.lists(REALS, min_size=2, max_size=2),
    sizes=st.tuples(st.integers(-6, 6), st.integers(-12, 6)),
    threshold=st.sampled_from([1.0, 0.3, 6.0, 0.01, 100.0]),
    leak=st.sampled_from([0.0, 0.5, 0.05, 1 / 11, 1.0]),
    bits=st.integers(2, 8),
)
def test_a_spiking_layer_in_closed_form(raw, bias, sizes, threshold, leak, bits):
    weight = np.array(raw, np.float32).reshape(2, 2) * np.float32(2.0 ** sizes[0])
    bias = np.array(bias, np.float32) * np.float32(2.0 ** sizes[1])
    network = spike_network(weight, bias, LIF(leak=leak, threshold=threshold))
    w = [[Fraction(float(v)) for v in row] for row in weight]
    b, vth, grid = [Fraction(float(v)) for v in bias], Fraction(threshold), 2 ** (9 - bits)
    scale = largest_scale(
        lambda k: (
            max(abs(v) for row in w for v in row) * power(k) <= 256 - grid
            and 16 * vth * power(k) <= 131_071
            and max(map(abs, b)) * power(k) * 64 <= 4095 * 128
        )
    )
    if round(vth * power(scale)) < 1:
        with pytest.raises(LimitError, match=r"layer1: weights up to .* too large beside the threshold"):
            quantize(network, weight_bits=bits)
        return
    chip = quantize(network, weight_bits=bits)
    layer, synapses = chip.population("layer1"), chip.connections[0]
    assert (layer.kind, layer.scale_bits, layer.t_start) == ("soft_reset_lif", scale, 1)
    assert layer.vth == layer.delta == round(vth * power(scale))
    assert layer.dv == round(4096 * Fraction(leak))
    assert synapses.weight.tolist() == [[grid * round(v * power(scale) / grid) for v in row] for row in w]
    wanted = [v * power(scale) * 64 for v in b]
    unit = 2**layer.bias_exp
    assert all(abs(int(m) * unit - v) <= Fraction(unit, 2) for m, v in zip(layer.bias_mant, wanted, strict=True))
    # The exponent is the smallest that holds the mantissas in 4095.
    assert unit == 1 or max(map(abs, wanted)) > 4095 * unit // 2


@PROOF
@given(
    raw=st.lists(st.floats(-1, 1, width=32), min_size=24, max_size=24),
    bias=st.lists(REALS, min_size=2, max_size=2),
    flat=st.booleans(),
    steps=st.sampled_from([1, 6, 100, 2000]),
    bits=st.integers(2, 8),
)
def test_the_readout_can_never_saturate(raw, bias, flat, steps, bits):
    values = np.array(raw, np.float32)
    if flat:
        # All alike: they round in the same direction, the worst case of the bound.
        values[:] = abs(values[0])
    network = spike_network(np.eye(12), np.zeros(12), LIF(), values.reshape(2, 12), np.array(bias, np.float32), steps)
    chip = quantize(network, weight_bits=bits)
    readout, synapses = chip.population("readout"), chip.connections[1]
    for row, mantissa in zip(synapses.weight.tolist(), readout.bias_mant.tolist(), strict=True):
        assert steps * (64 * sum(map(abs, row)) + abs(mantissa) * 2**readout.bias_exp) <= TOP
    assert readout.kind == "accumulator"


@pytest.mark.parametrize("bits, hidden, real", [(2, 100, 65 / 64), (3, 200, 65 / 128)])
def test_readout_weights_that_all_round_up_do_not_saturate(bits, hidden, real):
    # At 2^6 units the sum of the real weights fits, 20 * 130000 / 20 <= 131071, but each is rounded up from 65/128 of the grid.
    steps = 20
    neuron = LIF(leak=0.0, threshold=1.0)
    network = spike_network(np.eye(hidden), np.zeros(hidden), neuron, np.full((1, hidden), real), steps=steps)
    trace = emulate(quantize(network, weight_bits=bits), np.ones((1, hidden), int))
    assert trace.spikes["layer1"].sum() == hidden * steps
    assert trace.saturated["readout"] == 0


def random_network(norm, seed=0, steps=5, encoding="rate", neuron=None, sizes=(6, 8, 7, 3)):
    """Trained-like: random gains, biases and running statistics."""
    generator = torch.Generator().manual_seed(seed)

    def noise(like, low, high):
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    torch.manual_seed(seed)
    network = mlp(list(sizes), neuron or LIF(leak=0.3), norm=norm, steps=steps, encoding=encoding)
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            if name.endswith("bias") or name.endswith("running_mean"):
                value.copy_(noise(value, -0.3, 0.3))
            elif name.endswith(("gain", "running_var", "batch_norm.weight")):
                value.copy_(noise(value, 0.4, 1.5))
            elif name == "readout.weight":
                value.copy_(noise(value, -0.5, 0.5))
    return network.eval()


@pytest.mark.parametrize("norm", ["none", "bn_step", "bn_time", "sws"])
@pytest.mark.parametrize("bits", [4, 8])
def test_norms_and_gains_are_folded(norm, bits):
    """Weights and biases as measured on the torch layers: the answer to no spike, and to one spike at each input."""
    network = random_network(norm)
    chip = quantize(network, weight_bits=bits)
    layers = [*network.spiking_layers, network.readout]
    grid = 2 ** (9 - bits)
    for layer, population, synapses in zip(layers, chip.populations, chip.connections, strict=True):
        with torch.no_grad():
            rest = layer(torch.zeros(1, synapses.weight.shape[1]))
            columns = (layer(torch.eye(synapses.weight.shape[1])) - rest).T.double().numpy()
        unit, fine = 2.0**population.scale_bits, 2.0**population.bias_exp
        # The torch layer computes in float32.
        np.testing.assert_allclose(synapses.weight / unit, columns, rtol=0, atol=grid / 2 / unit + 1e-5)
        np.testing.assert_allclose(
            population.bias_mant * fine / 64 / unit, rest[0].double().numpy(), rtol=0, atol=fine / 128 / unit + 1e-5
        )
        assert np.abs(synapses.weight).max() > 0


@pytest.mark.parametrize("norm", ["none", "bn_step", "sws"])
def test_the_network_is_not_changed(norm):
    network = random_network(norm).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    quantize(network)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


# ---- reset to zero -------------------------------------------------------------------------------------------------------


def test_reset_to_zero_without_leak_fires_at_a_tie():
    network = spike_network([[1.0], [0.5], [0.25]], [0.0, 0.0, 0.0], LIF(leak=0.0, threshold=1.0, reset="zero"), steps=8)
    chip = quantize(network)
    layer = chip.population("layer1")
    assert layer.kind == "lif"
    # 2^7 weight units are 1.0: the largest power of two with 1.0 at most 254. Stock LIF fires at > 127, that is at >= 128.
    assert (layer.scale_bits, layer.vth) == (7, 127)
    spikes = emulate(chip, np.ones((1, 1), int)).spikes["layer1"][:, 0]
    assert [np.flatnonzero(column).tolist() for column in spikes.T] == [list(range(8)), [1, 3, 5, 7], [3, 7]]


def test_biases_of_a_leakless_reset_to_zero_are_whole_units():
    network = spike_network([[1.0]], [0.3], LIF(leak=0.0, threshold=1.0, reset="zero"))
    layer = quantize(network).population("layer1")
    assert layer.bias_exp == 6
    assert layer.bias_mant.tolist() == [38]  # 0.3 * 128 = 38.4


def test_reset_to_zero_with_leak_keeps_its_threshold():
    layer = quantize(spike_network([[1.0]], [0.3], LIF(leak=0.25, threshold=1.0, reset="zero"))).population("layer1")
    assert (layer.kind, layer.vth, layer.dv, layer.bias_exp) == ("lif", 128, 1024, 0)
    assert layer.bias_mant.tolist() == [2458]  # 0.3 * 128 * 64 = 2457.6


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_a_network_of_dyadic_numbers_loses_nothing(reset):
    rng = np.random.default_rng(4)
    neuron = LIF(leak=0.0, threshold=1.0, reset=reset)
    readout = rng.integers(-20, 21, (3, 9)) / 16
    network = spike_network(rng.integers(-40, 64, (9, 5)) / 64, rng.integers(-8, 9, 9) / 64, neuron, readout, steps=12)
    x = rng.integers(0, 2, (12, 40, 5))
    trace = emulate(quantize(network), x)
    with torch.no_grad():
        expected = network.simulate(torch.tensor(x, dtype=torch.float32))
    np.testing.assert_array_equal(trace.spikes["layer1"], expected.layers[0].spike.numpy())
    assert 0.05 < trace.spikes["layer1"].mean() < 0.95
    unit = 64 * 2.0 ** quantize(network).population("readout").scale_bits
    np.testing.assert_array_equal(trace.outputs / unit, expected.outputs.sum(0).numpy())


# ---- the host's part -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "bn_step", "sws"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_input_currents_are_those_of_the_first_layer(norm, calibrated):
    network = random_network(norm, encoding="direct")
    x = np.random.default_rng(2).normal(size=(50, 6)).astype(np.float32)
    chip = quantize(network, calibration=x if calibrated else None)
    with torch.no_grad():
        expected = network.layers[0](torch.from_numpy(x)).double().numpy()
    scale = chip.population("layer1").scale_bits
    fraction = chip.host.shift - 10 + scale
    weight = np.abs(chip.host.weight / 2.0**fraction).sum(1)
    bound = weight * 2.0**-11 + np.abs(x).sum(1).max() * 2.0 ** -(fraction + 1) + 2.0 ** -(scale + 1) + 1e-5
    got = chip.encode(x)[0] / 2.0**scale
    assert (np.abs(got - expected) <= bound).all()
    # The bound means something: the error is far below the threshold.
    assert bound.max() < 0.05


def test_current_scales_in_closed_form():
    network = spike_network([[1.0]], [0.0], LIF(threshold=1.0), encoding="direct")
    # Without calibration 16 thresholds have to fit into 8190 units: 16 * 2^8 = 4096 does, 16 * 2^9 = 8192 does not.
    assert quantize(network).population("layer1").scale_bits == 8
    # Calibrated to 0.25 * 1.5: the threshold is the limit then, 16 * 2^12 = 65536 <= 131071 < 16 * 2^13.
    assert quantize(network, calibration=np.array([[0.25]])).population("layer1").scale_bits == 12
    # 20.0 * 1.5 = 30: 30 * 2^8 = 7680 <= 8190 < 30 * 2^9.
    assert quantize(network, calibration=np.array([[20.0]])).population("layer1").scale_bits == 8
    assert quantize(network, calibration=np.array([[-25.0]])).population("layer1").scale_bits == 7


def test_input_current_overflow_names_the_remedy_and_the_remedy_works():
    network = spike_network([[4.0]], [0.0], LIF(threshold=1.0), encoding="direct")
    x = np.array([[31.0]])
    with pytest.raises(LimitError, match=r"input current is 31744 .*`calibration` to quantize"):
        quantize(network).encode(x)
    chip = quantize(network, calibration=x)
    assert chip.encode(x)[0, 0, 0] == 124 * 2 ** chip.population("layer1").scale_bits


def test_calibration_keeps_the_readout_of_a_long_network_fine():
    """A scale for all 512 neurons spiking in all 200 steps leaves few levels; one for the sums that occur does not."""
    torch.manual_seed(0)
    network = mlp([6, 512, 3], norm="none", steps=200)
    x = np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32)
    with torch.no_grad():
        sums = network.eval()(torch.from_numpy(x)).cumsum(0).abs().max().item()
    careful, calibrated = (quantize(network, calibration=data).population("readout").scale_bits for data in (None, x))
    assert calibrated > careful
    # The largest power of two with four times the sums in 2^17 weight units, unless the weights are the tighter limit.
    largest = network.readout.weight.abs().max().item()
    assert calibrated == math.floor(min(math.log2((2**17 - 1) / (4 * sums)), math.log2(254 / largest)))
    trace = emulate(quantize(network, calibration=x), x)
    assert trace.saturated["readout"] == 0


def test_calibration_follows_the_code():
    # Rates of 0.1 are now and then many spikes at once: more than 1.5 times the mean.
    network = spike_network(np.ones((1, 20)), [0.0], LIF(threshold=1.0), steps=30)
    x = np.full((40, 20), 0.1, np.float32)
    chip = quantize(network, input="current", calibration=x)
    spikes = chip.encode(x) / 2.0 ** chip.population("layer1").scale_bits
    assert spikes.max() > 3  # 1.5 times the mean current of 2
    np.testing.assert_array_equal(spikes, spikes.round())


@pytest.mark.parametrize("norm", ["none", "bn_step", "sws"])
def test_graded_input_is_folded_into_the_first_layer(norm):
    network = random_network(norm, encoding="direct")
    x = np.random.default_rng(2).uniform(-1.5, 2.5, (50, 6)).astype(np.float32)
    chip = quantize(network, input="graded", calibration=x)
    payload, step = chip.encode(x)[0], chip.host.step
    assert payload.min() == 0
    assert payload.max() in [255 >> shift for shift in range(6)]
    layer, weight = chip.populations[0], chip.connections[0].weight
    unit = 2.0**layer.scale_bits
    got = payload @ weight.T / unit + layer.bias_mant * 2.0**layer.bias_exp / 64 / unit
    with torch.no_grad():
        expected = network.layers[0](torch.from_numpy(x)).double().numpy()
        real = (network.layers[0](torch.eye(6)) - network.layers[0](torch.zeros(1, 6))).T.double().numpy()
    bound = np.abs(real).sum(1) * step / 2 + payload.sum(1).max() / unit + 2.0**layer.bias_exp / 128 / unit + 1e-4
    assert (np.abs(got - expected) <= bound).all()
    assert np.abs(got - expected).max() < 0.25


# ---- refusals and limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 0, -3, 9, 16])
def test_weight_bits_out_of_range(bits):
    with pytest.raises(LimitError, match=rf"weight_bits is {bits}, outside of the limit \[2, 8\]"):
        quantize(random_network("none"), weight_bits=bits)


@pytest.mark.parametrize("bits", [7.5, 8.0, True, "8"])
def test_weight_bits_must_be_an_integer(bits):
    with pytest.raises(TypeError, match=r"weight_bits is .* must be an integer"):
        quantize(random_network("none"), weight_bits=bits)


@pytest.mark.parametrize("name", ["layers.0.weight", "readout.bias", "layers.1.batch_norm.running_var"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_a_number_in_the_network(name, bad):
    network = random_network("bn_step")
    network.state_dict()[name].view(-1)[1] = bad
    with pytest.raises(ValueError, match=rf"network parameter {name} holds 1 values that are NaN or infinite"):
        quantize(network)


def test_forms_and_their_calibration():
    network = random_network("none")
    with pytest.raises(UnknownNameError, match=r"'gradd'. Did you mean 'graded'"):
        quantize(network, input="gradd")
    with pytest.raises(ValueError, match="graded input needs `calibration` data"):
        quantize(network, input="graded")
    assert quantize(network).host.form == "spikes"
    assert quantize(random_network("none", encoding="direct")).host.form == "current"


@pytest.mark.parametrize(
    "data, match",
    [
        (np.zeros((3, 5)), r"shape \(3, 5\).*expected floats \[N, 6\]"),
        (np.zeros((3, 6), int), "dtype int64.*expected floats"),
        (np.zeros((0, 6)), r"shape \(0, 6\).*at least one sample"),
        (np.zeros(6), r"shape \(6,\)"),
        (np.array([[0, 1, np.nan, 0, 0, 0]]), "calibration data holds 1 values that are NaN"),
        (np.array([[0, 1, -np.inf, 0, 0, 0]]), "calibration data holds 1 values that are NaN or infinite"),
    ],
)
@pytest.mark.parametrize("form", ["current", "graded", "spikes"])
def test_calibration_that_does_not_fit(data, match, form):
    with pytest.raises(ValueError, match=match):
        quantize(random_network("none"), input=form, calibration=data)


@pytest.mark.parametrize("threshold, scale, vth", [(1e4, -1, 5000), (3e6, -9, 5859), (1e-3, 7, None)])
def test_thresholds_far_from_one(threshold, scale, vth):
    network = spike_network([[1.0]], [0.0], LIF(threshold=threshold))
    if vth is None:
        with pytest.raises(LimitError, match=r"layer1.*the threshold 0.001.*rounds to 0. Train with smaller weights"):
            quantize(network)
        return
    layer = quantize(network).population("layer1")
    assert (layer.scale_bits, layer.vth) == (scale, vth)


def test_currents_too_large_beside_the_threshold():
    network = spike_network([[1.0]], [0.0], LIF(threshold=1e-3), encoding="direct")
    with pytest.raises(LimitError, match=r"layer1: input currents up to 3e\+07 are too large beside the threshold 0.001"):
        quantize(network, calibration=np.array([[2e7]]))


@pytest.mark.parametrize("form", ["current", "graded", "spikes"])
@pytest.mark.parametrize("threshold", [1.0, 1e5])
def test_a_network_of_zeros(form, threshold):
    network = spike_network(np.zeros((2, 3)), [0.0, 0.0], LIF(threshold=threshold), np.zeros((2, 2)), encoding="direct")
    chip = quantize(network, input=form, calibration=np.zeros((1, 3)))
    assert emulate(chip, np.zeros((1, 3))).outputs.tolist() == [[0, 0]]
    assert "FixedNetwork" in str(chip)


def test_notes_tell_scales_and_losses():
    network = spike_network([[1.0, 0.375]], [0.0], LIF(threshold=1.0))
    assert quantize(network, weight_bits=2).notes[0] == (
        # On the grid of 2 bits, multiples of 128, 0.375 * 128 = 48 becomes 0: sqrt(0.375^2 / (1 + 0.375^2)) is lost.
        "layer1: 2-bit weights in units of 2^-7, relative rms error 35.11%"
    )
    assert quantize(network).notes[0].endswith("relative rms error 0.00%")
