"""The forward phase and where it settles (checks A, B and G of the ide_spide spec), norms of the feedback, refusals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from lava_snnlearn.methods import IDE, SPIDE
from lava_snnlearn.methods.equilibrium import (
    ForwardPhase,
    check_network,
    equilibrium_rates,
    time_weights,
)
from lava_snnlearn.methods.norm_limit import project, spectral_norm
from lava_snnlearn.networks import alexnet_f, feedback_net, mlp, preact_resnet
from lava_snnlearn.networks.layers import SpikingLayer
from lava_snnlearn.neurons import DSRIF, LIF, FeedbackLIF

SEEDS = range(8)
LENGTHS = (5, 10, 30, 100, 300, 1000)
DELTA = 2.0


# The forward phase, step by step


def loops(network, x):
    """Spikes [T, B, n] of every layer in the order of the papers: charge, fire, reset, leak; then the next layer."""
    weights = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in network.spiking_layers]
    feedback, neuron = network.feedback.weight.detach().numpy(), network.spiking_layers[0].neuron
    v, delta, lam = neuron.firing * neuron.threshold, neuron.threshold, 1 - neuron.leak
    membranes = [np.zeros((x.shape[-2], len(bias))) for _, bias in weights]
    sent = [np.zeros((x.shape[-2], len(weights[-1][1])))] * network.feedback_delay
    spikes = [[] for _ in weights]
    for t in range(network.steps):
        signal = x[t] if x.ndim == 3 else x
        for index, (weight, bias) in enumerate(weights):
            u = membranes[index] + signal @ weight.T + bias
            if index == 0:
                u = u + sent.pop(0) @ feedback.T
            signal = (u >= v).astype(float)
            membranes[index] = lam * (u - delta * signal)
            spikes[index].append(signal)
        sent.append(signal)
    return [np.stack(rows) for rows in spikes]


@pytest.mark.parametrize("sequence", [False, True], ids=["static", "sequence"])
@pytest.mark.parametrize("sizes, timing", [((20,), "instant"), ((20, 15, 10), "instant"), ((20, 15, 10), "pipelined")])
@pytest.mark.parametrize("leak, firing", [(0.0, 1.0), (0.0, 0.5), (0.25, 0.5)])
def test_the_forward_phase_is_the_plain_loop_spike_for_spike(sizes, timing, leak, firing, sequence):
    rng = np.random.default_rng(0)
    network = feedback_net(6, sizes, 3, FeedbackLIF(leak=leak, firing=firing), timing=timing, steps=14).double()
    with torch.no_grad():
        for parameter in network.parameters():  # sixteenths: sums in any order are exact
            parameter.copy_(torch.from_numpy(rng.integers(-16, 17, tuple(parameter.shape)) / 16))
    x = rng.integers(-8, 17, (14, 5, 6) if sequence else (5, 6)) / 8
    expected = loops(network, x)
    walk, before = ForwardPhase(network, network.encode(torch.from_numpy(x))), [0.0] * len(sizes)
    with torch.no_grad():
        for t in range(14):
            walk.advance(1)
            counts = [walk.counts_of[layer].numpy() for layer in network.spiking_layers]
            for index in range(len(sizes)):
                np.testing.assert_array_equal(counts[index] - before[index], expected[index][t])
            before = counts
    weights = (1 - leak) ** np.arange(13.0, -1, -1)
    for layer, spikes in zip(network.spiking_layers, expected, strict=True):
        wanted = np.tensordot(weights / weights.sum(), spikes, 1)
        np.testing.assert_allclose(walk.means[layer].numpy(), wanted, rtol=0, atol=1e-12)
        assert 0.1 < spikes.mean() < 0.9
    frame = np.tensordot(weights / weights.sum(), x, 1) if sequence else x
    np.testing.assert_allclose(walk.mean_frame.numpy(), frame, rtol=0, atol=1e-12)


@pytest.mark.parametrize("leak, total", [(0.0, 30.0), (0.05, (1 - 0.95**30) / 0.05)])
def test_time_is_weighed_by_the_leak(leak, total):
    weights = time_weights(feedback_net(4, (3,), 2, FeedbackLIF(leak=leak)))
    np.testing.assert_allclose(weights, (1 - leak) ** np.arange(29.0, -1, -1) / total, rtol=1e-12)


def test_what_a_long_sample_needs_does_not_grow_with_its_steps():
    """Pieces: what the feedback allows, and where there is none, as many steps as elsewhere."""
    for network, longest in ((feedback_net(4, (8, 8), 3, steps=999), 2), (mlp([4, 8, 3], FeedbackLIF(), steps=999), 64)):
        walk = ForwardPhase(network, network.encode(torch.rand(2, 4)))
        with torch.no_grad():
            lengths = [len(walk.advance(length)) for length in walk.pieces(None)]
        assert sum(lengths) == 999
        assert max(lengths) == longest


# Checks A and B: the random network


def random_case(seed, neuron, steps, size=200, batch=4):
    """W Gaussian with spectral norm 1, drive uniform in (-1, 3), which is the input; the identity in front."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((size, size))
    weight /= np.linalg.norm(weight, 2)
    drive = rng.uniform(-1, 3, (batch, size))
    network = feedback_net(size, (size,), 2, neuron, steps=steps).double()
    with torch.no_grad():
        network.layers[0].weight.copy_(torch.eye(size))
        network.feedback.weight.copy_(torch.from_numpy(weight))
    return network, weight, drive


def fixed_point(weight, drive):
    a = np.zeros_like(drive)
    for _ in range(200):
        a = np.clip((a @ weight.T + drive) / DELTA, 0, 1)
    return a


@torch.no_grad()
def rates_at(network, drive, lengths):
    """Mean rates of an IF layer after so many steps."""
    walk, found = ForwardPhase(network, network.encode(torch.from_numpy(drive))), {}
    for t in range(1, max(lengths) + 1):
        walk.advance(1)
        if t in lengths:
            found[t] = walk.counts_of[network.layers[0]].numpy() / t
    return found


def check_a(firing):
    """T, and times T: mean error, signed error of active units, a sample's largest residual; one row a seed and T."""
    rows = []
    for seed in SEEDS:
        network, weight, drive = random_case(seed, FeedbackLIF(firing=firing), max(LENGTHS))
        exact = fixed_point(weight, drive)
        active = (exact > 0.05) & (exact < 0.95)
        for steps, rate in rates_at(network, drive, LENGTHS).items():
            error = rate - exact
            residual = rate - np.clip((rate @ weight.T + drive) / DELTA, 0, 1)
            worst = np.abs(residual).max(1).mean()
            rows.append((steps, *(steps * np.array([np.abs(error).mean(), error[active].mean(), worst]))))
    return np.array(rows)


@pytest.mark.parametrize(
    "firing, error, bias, tolerance, worst",
    [(1.0, 0.30, -0.50, 0.03, 1.25), (0.5, 0.14, 0.0, 0.03, 0.82)],
    ids=["IDE", "SPIDE"],
)
def test_check_a_rates_come_to_the_equilibrium_like_one_over_t(firing, error, bias, tolerance, worst):
    table = check_a(firing)
    steps, mean = np.array([(t, table[table[:, 0] == t, 1].mean()) for t in LENGTHS]).T
    np.testing.assert_allclose(mean, error, atol=0.02)
    slope = np.polyfit(np.log(steps), np.log(mean / steps), 1)[0]
    assert -1.05 <= slope <= -0.93
    late = table[table[:, 0] >= 100]
    assert late[:, 2].mean() == pytest.approx(bias, abs=tolerance)
    assert late[:, 3].mean() == pytest.approx(worst, abs=0.15)


@pytest.mark.parametrize(
    "lam, firing, plateau", [(0.99, 1.0, 0.0024), (0.99, 0.5, 0.0012), (0.95, 1.0, 0.012), (0.95, 0.5, 0.006)]
)
def test_check_b_leaky_neurons_stay_at_a_distance_set_by_the_leak(lam, firing, plateau):
    errors = {}
    for steps in (300, 1000):
        found = []
        for seed in range(3):
            network, weight, drive = random_case(seed, FeedbackLIF(leak=1 - lam, firing=firing), steps)
            walk = ForwardPhase(network, network.encode(torch.from_numpy(drive)))
            with torch.no_grad():
                for length in walk.pieces(None):
                    walk.advance(length)
            found.append(np.abs(walk.means[network.layers[0]].numpy() - fixed_point(weight, drive)).mean())
        errors[steps] = np.mean(found)
    assert errors[1000] == pytest.approx(plateau, rel=0.15)
    assert errors[1000] > 0.8 * errors[300]


def three_layers(timing, steps):
    """3 x 100, spectral norms 1.8, 1.8 and, of the feedback, 1."""
    torch.manual_seed(0)
    network = feedback_net(100, (100, 100, 100), 2, FeedbackLIF(firing=0.5), timing=timing, steps=steps).double()
    with torch.no_grad():
        network.layers[0].weight.copy_(torch.eye(100))
        for module, norm in ((network.layers[1], 1.8), (network.layers[2], 1.8), (network.feedback, 1.0)):
            module.weight.normal_()
            module.weight.mul_(norm / torch.linalg.matrix_norm(module.weight, 2))
        for layer in network.layers[1:]:
            layer.bias.uniform_(-0.5, 1.5)
    return network, np.random.default_rng(0).uniform(-1, 3, (8, 100))


def three_layer_rates(network, drive):
    weights = [(module.weight.detach().numpy(), module.bias.detach().numpy()) for module in network.layers]
    last = np.zeros((len(drive), 100))
    for _ in range(300):
        rates, signal = [], drive
        for index, (weight, bias) in enumerate(weights):
            extra = last @ network.feedback.weight.detach().numpy().T if index == 0 else 0
            signal = np.clip((signal @ weight.T + bias + extra) / DELTA, 0, 1)
            rates.append(signal)
        last = signal
    return rates


def test_both_timings_have_one_equilibrium_and_the_same_error():
    """The error times T, here about 0.17 (check G: about 0.13 for both), does not depend on T."""
    found = {}
    for timing, steps in itertools.product(("instant", "pipelined"), (30, 300)):
        network, drive = three_layers(timing, steps)
        walk = ForwardPhase(network, network.encode(torch.from_numpy(drive)))
        with torch.no_grad():
            for length in walk.pieces(None):
                walk.advance(length)
        exact = three_layer_rates(network, drive)
        errors = [np.abs(walk.means[layer].numpy() - a).mean() for layer, a in zip(network.layers, exact, strict=True)]
        found[timing, steps] = steps * np.mean(errors)
    values = np.array(list(found.values()))
    assert values.min() > 0.1
    assert values.max() < 0.22
    assert values.max() < 1.2 * values.min()


# The fixed point itself


@pytest.mark.parametrize("timing", ["instant", "pipelined"])
def test_equilibrium_solves_its_equations(timing):
    network, drive = three_layers(timing, 5)
    rates, found = equilibrium_rates(network, torch.from_numpy(drive))
    for rate, exact in zip(rates, three_layer_rates(network, drive), strict=True):
        np.testing.assert_allclose(rate.numpy(), exact, rtol=0, atol=1e-8)
        assert 0.2 < ((exact > 0) & (exact < 1)).mean() < 0.95
    assert found.converged
    assert found.residual <= 1e-9


def test_equilibrium_takes_sequences_by_their_weighted_mean_and_leaves_the_mode_alone():
    network, weight, _ = random_case(0, FeedbackLIF(leak=0.25), 3)
    frames = np.random.default_rng(1).uniform(-1, 3, (3, 4, 200))
    rates, _ = equilibrium_rates(network.train(), torch.from_numpy(frames))
    mean = np.tensordot(np.array([0.5625, 0.75, 1.0]) / 2.3125, frames, 1)
    np.testing.assert_allclose(rates[0].numpy(), fixed_point(weight, mean), rtol=0, atol=1e-8)
    assert network.training


def test_equilibrium_tells_when_it_was_not_reached():
    network, _, drive = random_case(0, FeedbackLIF(), 3)
    _, found = equilibrium_rates(network, torch.from_numpy(drive), steps=2)
    assert (found.steps, found.converged) == (2, False)
    assert found.residual > 1e-3


# The norm of the feedback


def feedback_of_norm(kind, size, layers=(30,), source=8):
    network = feedback_net(source, layers, 3)
    rows = network.feedback.weight.detach()
    if network.feedback.geometry is not None and network.feedback.geometry.transposed:
        rows = rows.transpose(0, 1)
    norm = np.linalg.norm(rows.flatten(1).numpy(), 2 if kind == "spectral" else "fro")
    with torch.no_grad():
        network.feedback.weight.mul_(size / norm)
    return network


@pytest.mark.parametrize("layers, source", [((30,), 8), ("4C3", (1, 6, 6)), ("6C3-4C3s2", (1, 6, 6))])
@pytest.mark.parametrize("kind", ["spectral", "frobenius"])
def test_projection_scales_a_norm_above_the_limit_to_it(kind, layers, source):
    network = feedback_of_norm(kind, 3.0, layers, source)
    before = network.feedback.weight.detach().clone()
    project(network, 1.25, kind)
    torch.testing.assert_close(network.feedback.weight.detach(), before * (1.25 / 3.0))
    again = network.feedback.weight.detach().clone()
    project(network, 1.26, kind)
    assert torch.equal(network.feedback.weight.detach(), again)


def test_the_spectral_limit_is_not_the_frobenius_one():
    network = feedback_of_norm("spectral", 0.9)
    before = network.feedback.weight.detach().clone()
    assert before.norm() > 1
    project(network, 1.0, "spectral")
    assert torch.equal(network.feedback.weight.detach(), before)
    project(network, 1.0, "frobenius")
    assert float(network.feedback.weight.detach().norm()) == pytest.approx(1.0)


def test_without_limit_or_feedback_nothing_changes():
    network = feedback_of_norm("spectral", 3.0)
    before = network.feedback.weight.detach().clone()
    project(network, None)
    assert torch.equal(network.feedback.weight.detach(), before)
    project(mlp([4, 3, 2]), 1.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(400, 400), (300, 900)])
def test_power_iteration_is_within_a_percent_of_the_exact_norm(shape, seed):
    matrix = np.random.default_rng(seed).standard_normal(shape)
    found, exact = float(spectral_norm(torch.from_numpy(matrix))), np.linalg.norm(matrix, 2)
    assert 0.99 * exact <= found <= exact * (1 + 1e-12)


def test_power_iteration_is_not_misled_by_a_long_row_of_its_own():
    """299 short rows in one direction weigh more than the longest row, which is orthogonal to them."""
    matrix = torch.zeros(300, 300, dtype=torch.float64)
    matrix[0, 0] = 2.0
    matrix[1:, 1] = 1.0
    assert float(spectral_norm(matrix)) == pytest.approx(math.sqrt(299))


def test_the_norm_is_the_same_in_every_call():
    matrix = torch.randn(300, 300)
    state = torch.get_rng_state()
    assert spectral_norm(matrix) == spectral_norm(matrix)
    assert torch.equal(torch.get_rng_state(), state)


# Refusals


def with_other_leak(network):
    layer = network.layers[1]
    layer.neuron = FeedbackLIF(leak=0.5)
    return network


REFUSED = {
    "recurrent": (lambda: mlp([6, 5, 3], FeedbackLIF(), norm="none", recurrent=True), "without blocks or recurrent layers"),
    "blocks": (lambda: preact_resnet((1, 6, 6), 3, FeedbackLIF(), blocks=(1,), width=3), "without blocks or recurrent"),
    "mixed leaks": (lambda: with_other_leak(feedback_net(6, (5, 4), 3)), r"have the leaks \[0.0, 0.5\]"),
    "readout": (lambda: mlp([6, 5, 3], LIF(leak=0.25), norm="none"), r"leaks \[0.0, 0.25\].*snn.neurons.FeedbackLIF"),
    "reset to zero": (lambda: mlp([6, 5, 3], LIF(leak=0.0, reset="zero"), norm="none"), "reset by subtraction.*FeedbackLIF"),
    "trained thresholds": (lambda: mlp([6, 5, 3], DSRIF(), norm="none"), "fixed threshold, not DSRIF"),
    "norm behind the feedback": (
        lambda: alexnet_f((1, 8, 8), 3, FeedbackLIF(), width=0.05, norm="bn_step"),
        "join behind the first layer's batch norm.*feedback_net",
    ),
}


@pytest.mark.parametrize("name, method", itertools.product(REFUSED, [IDE(), SPIDE()]))
def test_networks_that_do_not_fit_are_refused(name, method):
    build, message = REFUSED[name]
    network = build()
    x, y = torch.randn(3, network.inputs), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        method.gradients(network, x, y)
    with pytest.raises(ValueError, match=message):
        equilibrium_rates(network, x)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_plain_chains_of_soft_reset_neurons_are_taken():
    check_network(mlp([6, 5, 3], LIF(leak=0.0), norm="sws"))
    check_network(feedback_net((1, 6, 6), "3C3-4C3s2", 3, norm="bn_step"))
    layer = SpikingLayer(4, 3, FeedbackLIF(), first=True)
    assert layer.recurrent is None
