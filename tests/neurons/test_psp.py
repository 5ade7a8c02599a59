"""The response to delayed spikes and the two rules of the delay's gradient, against sums written out and differences."""

import math

import numpy as np
import pytest
import torch

from lava_snnlearn.neurons.psp import exact_slope, psp, psp_slope, published_trace

TAU = 4.0


def eps(k, tau=TAU):
    return math.e / tau * (k + 1) * math.exp(-k / tau)


def eps_slope(k, tau=TAU):
    return math.e / tau * (1 - (k + 1) / tau) * math.exp(-k / tau)


def spike_trains(steps=24, neurons=6, seed=0):
    return torch.from_numpy((np.random.default_rng(seed).random((steps, neurons)) < 0.3).astype(float))


def test_psp_is_what_current_and_membrane_make_of_one_unit_of_input():
    a, kappa = math.exp(-1 / TAU), math.e / TAU
    current = membrane = 0.0
    for k in range(12):
        current = a * current + kappa * (k == 0)
        membrane = a * membrane + current
        assert float(psp(torch.tensor(float(k), dtype=torch.float64), TAU)) == pytest.approx(membrane, rel=1e-12)


def test_nothing_before_arrival_and_the_slope_is_the_derivative():
    k = torch.linspace(-0.9, 9, 40, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(psp(k, TAU).sum(), k)
    torch.testing.assert_close(psp_slope(k.detach(), TAU), slope, rtol=1e-12, atol=1e-12)
    early = torch.tensor([-1.0, -3.0])
    assert psp(early, TAU).tolist() == psp_slope(early, TAU).tolist() == [0, 0]


@pytest.mark.parametrize("tau", [1.5, 4.0])
@pytest.mark.parametrize("delay", [0, 1, 4])
def test_exact_slope_filtered_is_the_derivative_of_the_relaxed_response(tau, delay):
    """Check G3: central differences of sum_i s[i] eps(t - d - i) over a continuous d, the arrived spikes held fixed."""
    spikes = spike_trains().numpy()
    slope = exact_slope(torch.from_numpy(spikes), tau).numpy()
    steps, h = len(spikes), 1e-5
    for t in range(delay, steps):
        arrived = [i for i in range(steps) if i + delay <= t]
        numeric = sum(spikes[i] * (eps(t - delay - h - i, tau) - eps(t - delay + h - i, tau)) / (2 * h) for i in arrived)
        filtered = sum(slope[i] * eps(t - delay - i, tau) for i in arrived)
        np.testing.assert_allclose(filtered, numeric, rtol=1e-6, atol=1e-8)


def test_published_trace_is_its_convolution():
    """Check G4: the recursion against the sum."""
    spikes = spike_trains()
    trace = published_trace(spikes, TAU).numpy()
    for n in range(len(spikes)):
        expected = -sum(spikes[i].numpy() * eps_slope(n - i) for i in range(n + 1))
        np.testing.assert_allclose(trace[n], expected, atol=1e-12)


def test_the_rules_keep_dtype_shape_and_their_input():
    spikes = spike_trains().float().view(24, 2, 3)
    before = spikes.clone()
    for rule in (exact_slope, published_trace):
        assert rule(spikes, TAU).dtype == torch.float32
        assert rule(spikes, TAU).shape == spikes.shape
        assert torch.equal(spikes, before)


@pytest.mark.parametrize("rule", [exact_slope, published_trace])
@pytest.mark.parametrize(
    "spikes, tau, error, text",
    [
        (torch.zeros(3, dtype=torch.uint8), 4.0, TypeError, "uint8"),
        (np.zeros(3), 4.0, TypeError, "torch tensor"),
        (torch.zeros(0, 2), 4.0, ValueError, "at least one"),
        (torch.zeros(3), 0.0, ValueError, "tau"),
        (torch.zeros(3), float("nan"), ValueError, "tau"),
    ],
)
def test_bad_input_is_refused(rule, spikes, tau, error, text):
    with pytest.raises(error, match=text):
        rule(spikes, tau)
