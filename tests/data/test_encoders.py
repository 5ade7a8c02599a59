"""Codes from static samples to spikes."""

import math

import numpy as np
import pytest
import torch

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data import encode, latency, rate


@pytest.mark.parametrize("seed", [None, 3])
def test_rate_code_has_the_rates_asked_for(seed):
    torch.manual_seed(4)
    steps, channels = 400, 50
    wanted = torch.tensor([0.0, 0.05, 0.3, 0.5, 0.9, 1.0])
    spikes = rate(wanted.expand(channels, 6).reshape(1, -1), steps, seed=seed).reshape(steps, channels, 6)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    for p, found in zip(wanted.tolist(), spikes.mean((0, 1)).tolist(), strict=True):
        assert abs(found - p) <= 4.5 * math.sqrt(p * (1 - p) / (steps * channels))


@pytest.mark.parametrize("seed", [None, 1])
def test_rate_code_is_independent_from_step_to_step_and_channel_to_channel(seed):
    torch.manual_seed(6)
    centred = rate(torch.full((1, 4000), 0.5, dtype=torch.float64), 50, seed=seed)[:, 0] - 0.5
    for product in (centred[1:] * centred[:-1], centred[:, 1:] * centred[:, :-1]):
        assert abs(float(product.mean()) / 0.25) < 4.5 / math.sqrt(product.numel())


def test_a_seeded_sample_has_the_same_spikes_in_every_batch_and_dtype():
    x = torch.rand(8, 30, generator=torch.Generator().manual_seed(2))
    spikes = rate(x, 12, seed=0)
    assert torch.equal(rate(x[3:5], 12, seed=0), spikes[:, 3:5])
    assert torch.equal(rate(x.double(), 12, seed=0).float(), spikes)


def test_unseeded_samples_have_draws_of_their_own():
    torch.manual_seed(8)
    spikes = rate(torch.full((2, 200), 0.5), 10)
    assert not torch.equal(spikes[:, 0], spikes[:, 1])


def test_rate_code_repeats_with_its_seed_only():
    x = torch.full((4, 30), 0.5)
    state = torch.get_rng_state()
    assert torch.equal(rate(x, 9, seed=1), rate(x, 9, seed=1))
    assert torch.equal(torch.get_rng_state(), state), "a seeded code leaves the global generator alone"
    assert not torch.equal(rate(x, 9, seed=1), rate(x, 9, seed=2))
    torch.manual_seed(5)
    first, second = rate(x, 9), rate(x, 9)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(rate(x, 9), first)


def test_latency_code_is_its_closed_form():
    steps = 9
    values = [0.0, 1e-6, 0.1, 0.25, 0.5, 0.77, 0.99, 1.0]
    spikes = latency(torch.tensor([values], dtype=torch.float64), steps)[:, 0].numpy()
    expected = np.zeros((steps, len(values)))
    for channel, value in enumerate(values):
        if value > 0:
            expected[round((1 - value) * (steps - 1)), channel] = 1.0
    assert np.array_equal(spikes, expected)


def test_latency_code_orders_by_intensity():
    x = torch.linspace(0.001, 1, 40).unsqueeze(0)
    spikes = latency(x, 12)
    assert torch.equal(spikes.sum(0), torch.ones(1, 40))
    when = spikes.argmax(0).flatten()
    assert (when[1:] <= when[:-1]).all()
    assert (int(when[0]), int(when[-1])) == (11, 0)


def test_latency_code_with_one_step():
    assert latency(torch.tensor([[0.0, 0.4, 1.0]]), 1).tolist() == [[[0.0, 1.0, 1.0]]]


def test_direct_code_repeats_without_a_copy():
    x = torch.randn(4, 3)
    found = encode(x, 6, "direct")
    assert found.shape == (6, 4, 3)
    assert all(torch.equal(now, x) for now in found)
    assert found.data_ptr() == x.data_ptr()


def test_codes_by_name():
    x = torch.rand(4, 3)
    assert torch.equal(encode(x, 6, "latency"), latency(x, 6))
    assert torch.equal(encode(x, 6, "rate", seed=2), rate(x, 6, seed=2))


@pytest.mark.parametrize("code", [rate, latency])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_keep_dtype_and_shape(code, dtype):
    found = code(torch.rand(2, 3, 5, dtype=dtype), 4)
    assert found.dtype == dtype
    assert found.shape == (4, 2, 3, 5)


@pytest.mark.parametrize("code", ["rate", "latency"])
@pytest.mark.parametrize("values, part", [([-0.1, 0.5], "-0.1 to 0.5"), ([0.2, 1.5], "0.2 to 1.5")])
def test_values_outside_of_the_unit_interval_are_refused(code, values, part):
    with pytest.raises(ValueError, match=rf"{code} code .*\[0, 1\].*{part}.*scale='unit'"):
        encode(torch.tensor([values]), 3, code)


def test_unknown_code_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'latency'"):
        encode(torch.zeros(1, 2), 3, "latensy")
