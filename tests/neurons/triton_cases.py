"""Triton's kernels against the plain torch loop.

test_triton.py runs this file in a process with TRITON_INTERPRET=1, which must be set before Triton is imported.
"""

import itertools

import numpy as np
import pytest
import torch

from lava_snnlearn.neurons import LIF, Rectangle, Sigmoid, Triangle, backend, integrate, leaky_sum, rate_integrate

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
T, B, N = 5, 3, 100  # two blocks of neurons
SURROGATES = [Sigmoid(3.0), Triangle(0.8), Rectangle(1.3)]


def normal(*shape, dtype=torch.float64, seed=0, mean=0.4):
    return torch.from_numpy(np.random.default_rng(seed).normal(mean, 0.9, shape)).to(dtype)


def both(neuron, current, membrane, arriving, for_membrane=None, **options):
    """Outputs and gradients by Triton, and by torch."""
    results = []
    for name in ("triton", "reference"):
        with backend(name):
            found = integrate(neuron, current, membrane, **options)
        loss = (found.spike * arriving).sum()
        if for_membrane is not None:
            loss = loss + (found.membrane * for_membrane).sum()
        leaves = [leaf for leaf in (current, membrane) if leaf is not None]
        results.append((found, torch.autograd.grad(loss, leaves, allow_unused=True)))
    return results


def assert_same(results, dtype):
    (found, gradients), (expected, reference) = results
    assert 0.1 < float(found.spike.mean()) < 0.9
    for one, other in zip(found[:3], expected[:3], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
    for one, other in zip(gradients, reference, strict=True):
        if other is None:
            assert one is None
            continue
        largest = float(other.abs().max())
        assert largest > 0
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=0, atol=TOLERANCE[dtype] * largest)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("reset, detach", itertools.product(["subtract", "zero"], [True, False]))
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_full(surrogate, reset, detach, static, dtype):
    neuron = LIF(leak=0.3, threshold=0.9, reset=reset, detach_reset=detach, surrogate=surrogate)
    current = normal(*([] if static else [T]), B, N, dtype=dtype).requires_grad_()
    membrane = normal(B, N, dtype=dtype, seed=1).requires_grad_()
    arriving, for_membrane = normal(T, B, N, dtype=dtype, seed=2), normal(B, N, dtype=dtype, seed=3)
    steps = T if static else None
    assert_same(both(neuron, current, membrane, arriving, for_membrane, steps=steps, trace_lam=0.6), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_instant(surrogate, static, dtype):
    neuron = LIF(leak=0.3, threshold=0.9, surrogate=surrogate)
    current = normal(*([] if static else [T]), B, N, dtype=dtype).requires_grad_()
    options = {"steps": T, "time_weights": torch.linspace(0.5, 2, T, dtype=dtype)} if static else {}
    arriving, trace = normal(T, B, N, dtype=dtype, seed=2), normal(B, N, dtype=dtype, seed=4)
    results = both(neuron, current, None, arriving, gradient="instant", trace_lam=0.6, trace=trace, threshold=0.8, **options)
    assert_same(results, dtype)


@pytest.mark.parametrize("gradient", ["full", "instant"])
def test_expanded_arrays(gradient):
    current = (
        normal(1, B, N).expand(T, B, N).requires_grad_()
    )  # a leaf: the interpreter writes arguments back, which cuts views
    for arriving in (normal(1, B, N, seed=2), normal(1, 1, 1, seed=2)):
        results = both(LIF(), current, None, arriving.expand(T, B, N), gradient=gradient)
        assert_same(results, torch.float64)


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (1, 300), (3, 0, 2)])
def test_small_shapes(shape):
    current = normal(*shape, mean=1.0).requires_grad_()
    (found, gradients), (expected, reference) = both(LIF(), current, None, torch.ones(shape, dtype=torch.float64))
    assert torch.equal(found.spike, expected.spike)
    np.testing.assert_allclose(gradients[0].numpy(), reference[0].numpy(), rtol=0, atol=1e-12)


def test_ties_extremes_and_donated_memory():
    current = torch.tensor([[0.75, 0.7499999, -1e30, 1e30, float("nan")]], requires_grad=True)
    with backend("triton"):
        found = integrate(LIF(threshold=0.75), current * 1.0, donate=True)
    found.spike.sum().backward()
    assert found.spike.tolist() == [[1.0, 0.0, 0.0, 1.0, 0.0]]
    assert current.grad[0, :4].tolist() == pytest.approx([1.0, 1.0, 0.0, 0.0])
    assert current.grad[0, 4].isnan()


def test_what_has_no_kernel_runs_in_torch():
    current = normal(T, B, 4)
    results = []
    for name in ("triton", "reference"):
        with backend(name):
            spike, state = rate_integrate(LIF(), current, None, torch.ones(T, dtype=torch.float64))
            results.append((spike, state.v, state.sums.slope, leaky_sum(current, 0.5)))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
