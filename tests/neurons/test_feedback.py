"""FeedbackLIF: the neurons of IDE and SPIDE as the papers write them, in the form with one threshold in which they run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lava_snnlearn.networks import mlp
from lava_snnlearn.neurons import LIF, FeedbackLIF, integrate


def published(current, threshold, reset, lam, start=0.0):
    """Spikes under current [T, ...] of the neuron that fires at V, subtracts V - U_r and then leaks (ide_spide spec, 1.1)."""
    u, spikes = np.full(current.shape[1:], start), []
    for now in current:
        u = u + now
        s = (u >= threshold).astype(float)
        u = lam * (u - (threshold - reset) * s)
        spikes.append(s)
    return np.stack(spikes)


def spikes_of(neuron, current):
    """Spikes of one layer of these neurons with the identity as its weight."""
    steps, _, size = current.shape
    network = mlp([size, size, 2], neuron, norm="none", steps=steps).double()
    with torch.no_grad():
        network.layers[0].weight.copy_(torch.eye(size))
        return network.simulate(torch.from_numpy(current)).layers[0].spike.numpy()


def dyadic(rng, shape, low=-2, high=4):
    """Multiples of 1/16, so that sums in any order are exact and meet thresholds exactly."""
    return rng.integers(16 * low, 16 * high, shape) / 16


@pytest.mark.parametrize("leak", [0.0, 0.25])
@pytest.mark.parametrize("firing", [1.0, 0.5, 0.25])
def test_spikes_are_those_of_the_published_neuron(firing, leak):
    delta = 2.0
    current = dyadic(np.random.default_rng(0), (15, 6, 40))
    found = spikes_of(FeedbackLIF(leak=leak, threshold=delta, firing=firing), current)
    expected = published(current, firing * delta, (firing - 1) * delta, 1 - leak)
    np.testing.assert_array_equal(found, expected)
    assert 0.2 < expected.mean() < 0.8


def test_spide_is_ide_that_starts_at_half_of_delta():
    current = dyadic(np.random.default_rng(1), (40, 3, 60))
    found = spikes_of(FeedbackLIF(firing=0.5), current)
    np.testing.assert_array_equal(found, published(current, 1.0, -1.0, 1.0))
    np.testing.assert_array_equal(found, published(current, 2.0, 0.0, 1.0, start=1.0))
    assert (found != spikes_of(FeedbackLIF(), current)).any()


@pytest.mark.parametrize("firing", [1.0, 0.5, 0.75])
def test_counts_under_constant_current_are_cut_or_rounded(firing):
    """IDE's neuron cuts T I / Delta to a whole number, SPIDE's rounds it."""
    steps, delta = 20, 1.5
    level = np.arange(-64, 160) / 80 + 1 / 1024  # away from ties
    current = np.broadcast_to(level, (steps, 1, len(level))).copy()
    counts = spikes_of(FeedbackLIF(threshold=delta, firing=firing), current).sum(0)
    expected = np.clip(np.floor(steps * level / delta + 1 - firing), 0, steps)
    np.testing.assert_array_equal(counts[0], expected)
    assert set(expected) == set(range(steps + 1))


def test_drive_raises_the_membrane():
    drive = FeedbackLIF(leak=0.25, threshold=2.0, firing=0.5).drive(2.0)
    assert (drive.gain, drive.bias, drive.start, drive.amplitude) == (1.0, 0.25, 1.0, 1.0)
    assert FeedbackLIF().drive(2.0) == LIF().drive(2.0)


def test_defaults_are_ides():
    neuron = FeedbackLIF()
    assert (neuron.leak, neuron.threshold, neuron.firing, neuron.reset) == (0.0, 2.0, 1.0, "subtract")
    assert not neuron.trains_threshold


def test_the_fused_loop_takes_them():
    current = torch.from_numpy(dyadic(np.random.default_rng(2), (9, 2, 8)))
    found = integrate(FeedbackLIF(), current, None, gradient="instant").spike
    np.testing.assert_array_equal(found, published(current.numpy(), 2.0, 0.0, 1.0))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"firing": 0.0}, ValueError, r"firing is 0.0.*\(0, 1\].*0.5: SPIDE"),
        ({"firing": 1.25}, ValueError, "firing is 1.25"),
        ({"firing": math.nan}, ValueError, "firing is nan"),
        ({"firing": "half"}, TypeError, "firing is 'half'"),
        ({"reset": "zero"}, ValueError, "reset is 'zero'.*reset by subtraction"),
        ({"threshold": 0.0}, ValueError, "threshold is 0.0"),
        ({"leak": -0.1}, ValueError, "leak is -0.1"),
    ],
)
def test_bad_parameters_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        FeedbackLIF(**options)
