"""Checks F, G and I of the ide_spide spec: digits, digits in integers, and the relay, whose credit must cross the feedback."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.methods import IDE, SPIDE
from lava_snnlearn.methods.equilibrium import run_equilibrium
from lava_snnlearn.neurons import FeedbackLIF

pytestmark = pytest.mark.learning

SPIKING = FeedbackLIF(firing=0.5)
METHODS = {
    "ide": (IDE(), FeedbackLIF()),
    "spide": (SPIDE(steps_backward=50), SPIKING),
    "spide, one gain": (SPIDE(steps_backward=50, gain=100 / 64), SPIKING),
}


@cache
def digits():
    """1437 and 360 samples, pixels / 16."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split((x / 16).astype(np.float32), y.astype(np.int64), test_size=360, stratify=y, random_state=0)
    train, test = snn.data.Split(parts[0], parts[2]), snn.data.Split(parts[1], parts[3])
    return snn.data.Dataset("digits / 16", train, train.take(np.arange(0)), test, classes=10)


def fit(network, method, seed):
    options = {"epochs": 20, "batch_size": 64, "learning_rate": 0.1, "progress": False}
    return snn.Trainer(network, method, digits(), seed=seed, **options).fit()


@cache
def trained(name):
    """64-100(F100)-10 at T = 10, and its history."""
    method, neuron = METHODS[name]
    torch.manual_seed(0)
    network = snn.networks.feedback_net(64, (100,), 10, neuron, steps=10)
    return network, fit(network, method, seed=0)


def accuracy(network):
    return snn.training.accuracy(network, digits().test)


@pytest.mark.parametrize("name", METHODS)
def test_check_f_digits(name):
    network, history = trained(name)
    assert accuracy(network) >= 0.96
    assert history.epochs[-1].train_accuracy >= 0.985
    if name == "ide":
        assert history.epochs[-1].diagnostics["not_converged"] == 0
    norm = np.linalg.norm(network.feedback.weight.detach().numpy(), 2)
    assert 0.5 < norm <= 1 + 1e-5


def test_check_f_both_methods_come_to_the_same():
    accuracies = [accuracy(trained(name)[0]) for name in METHODS]
    assert max(accuracies) - min(accuracies) <= 0.01


def test_the_automatic_gain_keeps_its_promise_to_the_end():
    """Less than 1 % clipped, and half of the active neurons with two spikes or more."""
    for row in trained("spide")[1].epochs:
        assert row.diagnostics["saturated"] < 0.01
        assert row.diagnostics["median_count"] >= 2


def test_check_d_saturation_is_what_costs_a_trained_network_its_gradient():
    """Cosine with IDE's gradient at the same rates: a gain by hand clips or sees nothing, the automatic one does neither."""
    network = copy.deepcopy(trained("spide")[0]).double()
    network.steps = 30
    x, y = torch.from_numpy(digits().train.x[:256]).double(), torch.from_numpy(digits().train.y[:256])

    def gradient(method):
        network.zero_grad()
        method.gradients(network, x, y)
        return torch.cat([network.feedback.weight.grad.flatten(), network.layers[0].weight.grad.flatten()])

    exact = gradient(IDE(mask="rate", tolerance=1e-12, solver_steps=300))
    cosines = [float(torch.cosine_similarity(gradient(SPIDE(gain=gain)), exact, 0)) for gain in (None, 0.25, 1, 4, 16)]
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[0] > 0.999
    assert cosines[1] > 0.98
    assert cosines[4] < 0.75


@pytest.mark.parametrize("bits", [8, 6, 5, 4])
@pytest.mark.parametrize("name", ["ide", "spide"])
def test_check_g_integers_are_as_good(name, bits):
    network, _ = trained(name)
    chip = snn.quantize(network, weight_bits=bits, calibration=digits().train.x)
    found = (snn.emulate(chip, digits().test.x).predictions == digits().test.y).mean()
    assert abs(found - accuracy(network)) <= 0.009


@pytest.mark.parametrize("name", ["ide", "spide"])
def test_trained_networks_run_on_lava_bit_for_bit(name):
    chip = snn.quantize(trained(name)[0], calibration=digits().train.x)
    report = snn.verify(chip, digits().test.x[:8], against=["lava"])
    assert report.ok, str(report)
    assert report.mismatches == {"lava": 0}


class WithoutSolving(IDE):
    """The errors of one sweep, as if nothing were fed back: beta = g."""

    def gradients(self, network, x, y, on_step=None):
        return run_equilibrium(network, x, y, self.loss, self.mask, lambda adjoint, g: (adjoint.sweep(g)[0], {}))


def relay(kind, seed):
    """Test accuracy where x reaches units 0-49 alone and the readout hears 50-99 alone."""
    method, neuron = {
        "ide": (IDE(norm_limit=1.9), FeedbackLIF()),
        "no solve": (WithoutSolving(norm_limit=1.9), FeedbackLIF()),
        "spide": (SPIDE(norm_limit=1.9, steps_backward=50), SPIKING),
        "spide, one gain": (SPIDE(norm_limit=1.9, gain=20 / 64), SPIKING),
    }[kind]
    torch.manual_seed(seed)
    network = snn.networks.feedback_net(64, (100,), 10, neuron)
    first, last = network.layers[0].weight, network.readout.weight
    hears, read = (torch.arange(100) < 50).float().unsqueeze(1), (torch.arange(100) >= 50).float()
    for weight, open_ in ((first, hears), (last, read)):
        with torch.no_grad():
            weight.mul_(open_)
        weight.register_hook(lambda gradient, open_=open_: gradient * open_)
    fit(network, method, seed=seed)
    assert not first[50:].any()
    assert not last[:, :50].any()
    return accuracy(network)


def test_check_i_credit_crosses_the_feedback():
    # Single runs scatter by about a hundredth; the bars are those of the mean.
    kinds = ("ide", "spide", "spide, one gain", "no solve")
    found = {kind: (relay(kind, 0) + relay(kind, 1)) / 2 for kind in kinds}
    assert found["ide"] >= 0.94
    assert found["spide"] >= 0.93
    assert found["spide, one gain"] >= 0.93
    assert found["no solve"] <= 0.8
