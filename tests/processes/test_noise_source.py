"""NoiseSource: against its conformance case, the library's random bits, and what noise has to be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.fixed_point.plasticity import random_bits
from lava_snnlearn.lava_backend import InProcessModel
from lava_snnlearn.processes import NoiseSource
from lava_snnlearn.testing import check_process


def drawn(count, tag="fixed_pt", **options):
    """What is sent in the first ``count`` steps."""
    model = InProcessModel(NoiseSource(**options), tag)
    return np.array([model.step()["z_out"] for _ in range(count)])


@pytest.mark.parametrize("seed", [0, 1])
def test_conformance(seed):
    check_process(NoiseSource, seed=seed)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_both_models_equal_plain_integers_over_200_steps(seed):
    case = NoiseSource.conformance_case()
    parameters = case.parameters(np.random.default_rng(seed))
    expected = case.fixed(parameters, {}, 200)["z_out"]
    for tag in ("fixed_pt", "floating_pt"):
        assert np.array_equal(drawn(200, tag, **parameters), expected)


def test_signs_are_those_of_the_librarys_random_bits():
    """Without pauses and pairs, step by step."""
    found = drawn(60, shape=(9,), seed=77, steps=6, reset_interval=6, sample=2, antithetic=False)
    expected = [2 * random_bits((9,), 1, 77, 12 + step) - 1 for step in range(60)]
    assert np.array_equal(found, expected)


def test_antithetic_pairs_cancel_and_nothing_else_does():
    n, steps = 400, 300
    z = drawn(steps, shape=(n,), seed=3, steps=10, reset_interval=10)
    assert set(np.unique(z)) == {-1, 1}
    assert not (z[0::2] + z[1::2]).any()
    independent = np.concatenate([z[0::2], drawn(steps, shape=(n,), seed=4, steps=10, reset_interval=10)[0::2]])
    products = independent @ independent.T / n  # of steps and seeds
    assert abs(products[~np.eye(steps, dtype=bool)]).max() < 6 / np.sqrt(n)  # standard deviations; 45,000 pairs
    neurons = independent.T @ independent / steps
    assert abs(neurons[~np.eye(n, dtype=bool)]).max() < 6.5 / np.sqrt(steps)
    assert abs(independent.mean()) < 5 / np.sqrt(independent.size)


def test_noise_is_that_of_the_sample():
    """A run that goes on at sample 3 draws what the long run drew; another seed or sample draws something else."""
    options = {"shape": (30,), "steps": 4, "t_start": 2, "reset_interval": 7}
    whole = drawn(42, seed=9, **options)
    assert np.array_equal(drawn(21, seed=9, sample=3, **options), whole[21:])
    assert not np.array_equal(drawn(21, seed=10, sample=3, **options), whole[21:])
    assert not np.array_equal(drawn(21, seed=9, sample=4, **options), whole[21:])
    model = InProcessModel(NoiseSource(seed=0, sample=1 << 39, **options))
    counts = [(model.step(), model.read("sample").tolist())[1] for _ in range(15)]
    assert counts == [[(1 << 39) + done // 7] for done in range(1, 16)]
    active = [2 <= step % 7 < 6 for step in range(42)]
    assert np.array_equal(whole.any(1), active)


def test_an_odd_number_of_antithetic_steps_is_refused():
    with pytest.raises(ValueError, match=r"steps is 5.*even number, or antithetic=False"):
        NoiseSource(shape=(2,), seed=0, steps=5, reset_interval=9)
    with pytest.raises(ValueError, match=r"reset_interval is 5.*\[6, "):
        NoiseSource(shape=(2,), seed=0, steps=4, t_start=2, reset_interval=5)
