"""What OPZO's matrices learn: the Jacobian, how fast, and what goes wrong without antithetic noise or with noise out of step.

Checks O1, O2 and O4 to O6 of the grsnn_hlop_opzo_msg specification, section 3.5.
"""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from lava_snnlearn import networks
from lava_snnlearn.methods import OPZO
from lava_snnlearn.methods.perturbation import NOISES, Noise, correlate, follow


def linear(noise, alpha, weights, generator):
    """Outputs [T, B, m] of two linear layers, each perturbed, on new random inputs at every step."""
    first, second = weights
    x = torch.randn(noise[0].shape, generator=generator, dtype=torch.float64)
    return ((x + alpha * noise[0]) @ first.t() + alpha * noise[1]) @ second.t()


def drawn(kind, shape, generator):
    return NOISES[kind](shape, generator, torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("kind", NOISES)
def test_the_error_of_a_linear_network_falls_with_the_root_of_the_window(kind):
    """O1: both matrices go to the exact transposed Jacobians."""
    alpha, sizes = 0.5, (8, 6, 3)
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(m, n, generator=generator, dtype=torch.float64) / math.sqrt(n) for n, m in pairwise(sizes)]
    exact = [(weights[1] @ weights[0]).t(), weights[1].t()]
    windows, errors = [], ([], [])
    for batch, momentum in ((4, 0.9), (16, 0.9), (16, 0.98), (64, 0.98), (64, 0.995)):
        steps = int(8 / (1 - momentum))
        found = [[], []]
        for _ in range(12):
            noise = (
                [drawn(kind, (steps, batch, n), generator) for n in sizes[:2]]
                if kind != "sphere"
                else [torch.stack([drawn(kind, (batch, n), generator) for _ in range(steps)]) for n in sizes[:2]]
            )
            outputs = linear(noise, alpha, weights, generator)
            for layer, z in enumerate(noise):
                start = torch.zeros_like(exact[layer])
                learned = follow(start, correlate(z, outputs, alpha), outputs, momentum, 0, True).matrix
                learned = learned / (1 - momentum**steps)
                found[layer].append(float((learned - exact[layer]).norm() / exact[layer].norm()))
        windows.append(batch / (1 - momentum))
        for layer in (0, 1):
            errors[layer].append(np.mean(found[layer]))
    for layer in (0, 1):
        slope = np.polyfit(np.log(windows), np.log(errors[layer]), 1)[0]
        assert -0.6 <= slope <= -0.4
        assert errors[layer][-1] < 0.15


def trained_once(seed=0, hidden=(32, 24)):
    """A network without norm, uniform weights of unit gain, whose last layer spikes; its readout has a mean output near 0."""
    torch.manual_seed(seed)
    network = networks.mlp([16, *hidden, 5], norm="none", steps=6)
    with torch.no_grad():
        for module in [*network.spiking_layers, network.readout]:
            bound = math.sqrt(3 / module.weight.shape[1])
            module.weight.uniform_(-bound, bound)
    return network


def learned(network, method, batches, size=64, seed=1):
    """The last population's matrix after this many batches of noise, bias corrected; the weights stay as they are."""
    torch.manual_seed(seed)
    for _ in range(batches):
        method.gradients(network, 1.5 * torch.randn(size, 16), torch.randint(0, 5, (size,)))
    steps = batches * network.steps
    return network.memory[f"opzo.M.readout.{len(network.populations) - 1}"] / (1 - method.momentum**steps)


def cosine(a, b):
    return float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0))


@pytest.mark.parametrize("method", [OPZO(), OPZO(noise="gaussian"), OPZO(antithetic=False), OPZO(noise="sphere")], ids=repr)
def test_the_last_matrix_becomes_the_readouts_transpose(method):
    """O2."""
    network = trained_once()
    matrix = learned(network, method, 500)
    target = network.readout.weight.detach().t()
    assert cosine(matrix, target) > 0.99
    assert float(matrix.norm() / target.norm()) == pytest.approx(1, abs=0.05)


def test_the_gain_of_spikes_and_alpha_are_in_the_matrix():
    torch.manual_seed(0)
    network = networks.mlp([16, 24, 5], steps=6)  # standardised weights: the readout multiplies spikes by 2.74
    torch.nn.init.normal_(network.readout.weight, std=0.2)
    target = 2.74 * network.readout.weight.detach().t()
    for method, scale in ((OPZO(), 1.0), (OPZO(keep_alpha=False, alpha=0.25), 0.25)):
        network.memory = {}
        matrix = learned(network, method, 400)
        assert float((matrix - scale * target).norm() / target.norm()) < 0.1 * scale


def test_the_first_matrix_becomes_the_mean_jacobian_of_the_perturbed_network():
    """By central differences of the output, in a network of one step where only the noise of the first layer is moved."""
    network = trained_once(hidden=(6, 24))
    network.steps, alpha = 1, 0.5
    torch.manual_seed(3)
    x = 1.5 * torch.randn(1, 16)
    method = OPZO(noise="gaussian", alpha=alpha, antithetic=False)
    torch.manual_seed(1)
    batch, labels = x.expand(512, -1).contiguous(), torch.zeros(512, dtype=torch.int64)
    for _ in range(1000):
        method.gradients(network, batch, labels)
    found = network.memory["opzo.M.readout.0"] / (1 - method.momentum**1000)
    first, second = network.spiking_layers
    with torch.no_grad():
        spikes = (first.current(x) >= 1).float()
        size, step = 400_000, 0.1
        z, later = torch.randn(size, 6), torch.randn(size, 24)
        jacobian = []
        for neuron in torch.eye(6):
            ends = [
                network.readout((second.current(spikes + alpha * z + s * neuron) >= 1).float() + alpha * later).mean(0)
                for s in (step, -step)
            ]
            jacobian.append((ends[0] - ends[1]) / (2 * step))
    assert cosine(found, torch.stack(jacobian)) > 0.98
    assert float(found.norm() / torch.stack(jacobian).norm()) == pytest.approx(1, abs=0.1)


def test_one_point_is_far_noisier_than_the_matrix():
    """O4: the variance of the first layer's gradient over draws of noise, on one batch."""
    network = trained_once()
    method = OPZO(momentum=0.999)
    learned(network, method, 500)
    torch.manual_seed(2)
    x, y = 1.5 * torch.randn(64, 16), torch.randint(0, 5, (64,))

    def variance(rule):
        draws = []
        for _ in range(40):
            network.zero_grad()
            rule.gradients(network, x, y)
            draws.append(network.layers[0].weight.grad.clone())
        return float(torch.stack(draws).var(0).sum())

    assert variance(dataclasses.replace(method, estimator="single_point")) > 1e3 * variance(method)


def test_an_offset_of_the_output_disturbs_plain_noise_but_not_antithetic():
    """O5: readout bias +5; a running mean that is subtracted helps the plain form as well."""
    hidden = (32, 96)
    wanted = trained_once(hidden=hidden).readout.weight.detach().t()

    def error(offset, **options):
        network = trained_once(hidden=hidden)
        with torch.no_grad():
            network.readout.bias.add_(offset)
        matrix = learned(network, OPZO(momentum=0.999, **options), 300)
        return float((matrix - wanted).norm() / wanted.norm())

    assert error(5.0) < 0.1
    assert error(0.0, antithetic=False, baseline=False) < 0.1
    assert error(5.0, antithetic=False, baseline=False) > 0.5
    assert error(5.0, antithetic=False) < 0.1


def test_noise_that_is_out_of_step_teaches_nothing():
    """O6: the noise of the step before, as from a delay line that is one step too long."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(10, 128, generator=generator)
    z = torch.randn(1500, 64, 128, generator=generator)
    outputs = (torch.rand(z.shape, generator=generator) < 0.2).float().add(z, alpha=0.2) @ weight.t()
    start = torch.zeros(128, 10)
    for shift, good in ((0, True), (1, False)):
        matrix = follow(start, correlate(z.roll(shift, 0), outputs, 0.2), outputs, 1 - 2**-10, 0, True).matrix
        agreement = cosine(matrix, weight.t())
        assert (agreement > 0.95) if good else (abs(agreement) < 0.1)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("antithetic", [True, False])
def test_noise_has_mean_0_and_covariance_1_whatever_the_pieces(kind, antithetic):
    like = torch.zeros((), dtype=torch.float64)

    def draws(pieces):
        torch.manual_seed(7)
        source = Noise(kind, antithetic, 2, like)
        return [torch.cat([source.draw(index, 500, (2, 3), n) for n in pieces]) for index in (0, 1)]

    whole, parts = draws([40]), draws([1, 4, 3, 32])
    for a, b in zip(whole, parts, strict=True):
        assert torch.equal(a, b)
        assert a.shape == (40, 500, 2, 3)
        if antithetic:
            assert torch.equal(a[1::2], -a[::2])
        rows = (a[::2] if antithetic else a).flatten(0, 1).flatten(1)
        bound = 5 / math.sqrt(len(rows))
        assert float(rows.mean(0).abs().max()) < bound
        second = rows.t() @ rows / len(rows)
        assert float((second - torch.eye(6)).abs().max()) < 2 * bound
    assert cosine(whole[0], whole[1]) < 0.02
    sizes = whole[0].flatten(2).norm(dim=2)
    if kind == "rademacher":
        assert set(whole[0].unique().tolist()) == {-1.0, 1.0}
    assert (float(sizes.std()) > 0.1) == (kind == "gaussian")
