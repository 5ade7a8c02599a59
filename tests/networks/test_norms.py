"""Scaled weight standardisation and the two batch norms, against their formulas in numpy."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from lava_snnlearn.networks import mlp
from lava_snnlearn.networks.layers import SpikingLayer
from lava_snnlearn.networks.norms import NORMS, SPIKE_GAIN, BatchNormStep, BatchNormTime, ScaledWeightStandardisation
from lava_snnlearn.neurons import LIF

TOLERANCE = 1e-12


def test_standardisation_is_its_formula():
    torch.manual_seed(0)
    norm = ScaledWeightStandardisation(5).double()
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([1.0, 2.0, -0.5, 0.0, 3.0]))
    weight = torch.randn(5, 7, dtype=torch.float64) + 0.4
    w = weight.numpy()
    mean = w.sum(1, keepdims=True) / 7
    variance = ((w - mean) ** 2).sum(1, keepdims=True) / (7 - 1)
    expected = norm.gain.detach().numpy()[:, None] * (w - mean) / np.sqrt(variance * 7 + 1e-4)
    np.testing.assert_allclose(norm(weight).detach().numpy(), expected, rtol=0, atol=TOLERANCE)


def test_standardised_rows_have_mean_zero_and_the_gains_norm():
    torch.manual_seed(1)
    norm = ScaledWeightStandardisation(4).double()
    found = norm(100 * torch.randn(4, 50, dtype=torch.float64)).detach().numpy()
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-10)
    np.testing.assert_allclose((found**2).sum(1), 49 / 50, rtol=1e-6)  # N var is N/(N-1) times the sum of squares


def test_spike_gain_restores_unit_variance():
    p = 1 - NormalDist().cdf(1.0)
    assert pytest.approx(1 / math.sqrt(p * (1 - p)), abs=0.005) == SPIKE_GAIN


def test_gain_multiplies_spikes_but_not_the_data():
    network = mlp([3, 4, 5, 2], norm="sws")
    assert [layer.input_gain for layer in network.spiking_layers] == [1.0, SPIKE_GAIN]
    assert network.readout.input_gain == SPIKE_GAIN
    for norm in ("none", "bn_step", "bn_time"):
        plain = mlp([3, 4, 5, 2], norm=norm)
        assert [m.input_gain for m in [*plain.spiking_layers, plain.readout]] == [1.0, 1.0, 1.0]


def batch_norm(x, axes):
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5)


@pytest.fixture
def current():
    torch.manual_seed(2)
    return torch.randn(6, 8, 3, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0]) + torch.arange(6).view(6, 1, 1)


def test_norm_per_step_uses_each_steps_batch_and_moves_t_times(current):
    norm = BatchNormStep(3).double()
    x = current.numpy()
    np.testing.assert_allclose(norm(current).detach().numpy(), batch_norm(x, (1,)), rtol=0, atol=TOLERANCE)
    mean, variance = np.zeros(3), np.ones(3)
    for now in x:
        mean = 0.9 * mean + 0.1 * now.mean(0)
        variance = 0.9 * variance + 0.1 * now.var(0, ddof=1)
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=0, atol=TOLERANCE)
    assert int(norm.num_batches_tracked) == 6


def test_norm_per_step_is_the_same_one_step_at_a_time(current):
    whole, single = BatchNormStep(3).double(), BatchNormStep(3).double()
    for training in (True, False):
        whole.train(training)
        single.train(training)
        torch.testing.assert_close(whole(current), torch.stack([single(now) for now in current]), rtol=0, atol=TOLERANCE)
    assert torch.equal(whole.running_var, single.running_var)


def test_norm_over_time_uses_all_samples_and_moves_once(current):
    norm = BatchNormTime(3).double()
    x = current.numpy()
    np.testing.assert_allclose(norm(current).detach().numpy(), batch_norm(x, (0, 1)), rtol=0, atol=TOLERANCE)
    flat = x.reshape(-1, 3)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.1 * flat.mean(0), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.9 + 0.1 * flat.var(0, ddof=1), rtol=0, atol=TOLERANCE)
    assert int(norm.num_batches_tracked) == 1


@pytest.mark.parametrize("kind", [BatchNormStep, BatchNormTime])
def test_eval_uses_running_statistics_and_leaves_them(current, kind):
    norm = kind(3).double().eval()
    norm.running_mean.copy_(torch.tensor([0.5, -1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 0.25, 1.0]))
    expected = (current.numpy() - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + 1e-5)
    np.testing.assert_allclose(norm(current).detach().numpy(), expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(norm(current[2]).detach().numpy(), expected[2], rtol=0, atol=TOLERANCE)
    assert norm.running_mean.tolist() == [0.5, -1.0, 2.0]


def test_norm_over_time_refuses_a_single_step_in_training(current):
    with pytest.raises(ValueError, match=r"bn_time.*BPTT.*bn_step"):
        BatchNormTime(3).double()(current[0])


@pytest.mark.parametrize("norm", NORMS)
def test_folded_layer_is_the_eval_forward(norm):
    torch.manual_seed(3)
    layer = SpikingLayer(6, 5, LIF(), norm).double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name != "weight":
                parameter.normal_(1.0, 0.3)
    if layer.batch_norm is not None:
        for _ in range(3):
            layer(torch.randn(4, 8, 6, dtype=torch.float64))
    layer.eval()
    x = torch.randn(4, 8, 6, dtype=torch.float64)
    folded = layer.folded()
    expected = x.numpy() @ folded.weight.numpy().T + folded.bias.numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=0, atol=TOLERANCE)
    assert not folded.weight.requires_grad


@pytest.mark.parametrize("norm", NORMS)
def test_folded_network_runs_as_the_network_does(norm):
    """The whole eval forward by hand from the folded maps, with plain 0/1 spikes."""
    torch.manual_seed(4)
    network = mlp([6, 9, 8, 4], LIF(leak=0.3), norm=norm, steps=5).double()
    x = 2 * torch.randn(7, 6, dtype=torch.float64)
    network(x)
    network.eval()
    signal = np.repeat(x.numpy()[None], 5, axis=0)
    for layer in network.spiking_layers:
        weight, bias = (part.numpy() for part in layer.folded())
        v, spikes = 0.0, []
        for now in signal:
            u = 0.7 * v + now @ weight.T + bias
            spikes.append((u >= 1.0).astype(float))
            v = u - spikes[-1]
        signal = np.stack(spikes)
    weight, bias = (part.numpy() for part in network.readout.folded())
    np.testing.assert_allclose(network(x).detach().numpy(), signal @ weight.T + bias, rtol=0, atol=TOLERANCE)
    assert 0 < signal.mean() < 1


def test_standardisation_of_a_single_input_is_refused():
    with pytest.raises(ValueError, match=r"1 input .*sws.*at least 2.*none"):
        mlp([1, 4, 2], norm="sws")
