"""Sums of the rate-based methods against autograd with respect to a constant current, whole and in chunks."""

import dataclasses

import numpy as np
import pytest
import torch

from lava_snnlearn.neurons import LIF, Rectangle, Sigmoid, Surrogate, Triangle, backend, rate_integrate, run

T, B, N = 8, 3, 900
KINDS = [(reset, detach) for reset in ("subtract", "zero") for detach in (True, False)]


@pytest.fixture(params=["numba", "reference"])
def each_backend(request):
    with backend(request.param):
        yield request.param


def normal(*shape, dtype=torch.float64, seed=0):
    return (0.4 + 0.9 * torch.from_numpy(np.random.default_rng(seed).normal(size=shape))).to(dtype)


def close(found, expected, tolerance=1e-12):
    assert float(expected.abs().max()) > 0
    atol = tolerance * float(expected.abs().max())
    np.testing.assert_allclose(found.double().numpy(), expected.detach().numpy(), rtol=0, atol=atol)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("reset, detach", KINDS)
@pytest.mark.parametrize("surrogate", [Sigmoid(3.0), Triangle(0.8), Rectangle(1.3)], ids=lambda s: type(s).__name__)
def test_slope_is_the_gradient_of_the_weighted_spikes(surrogate, reset, detach, static, dtype, tolerance, each_backend):
    """Identity R1 of the specification: sum_t w[t] phi'(u[t]) k[t] = d (sum_t w[t] s[t]) / d (constant current)."""
    neuron = LIF(leak=0.3, threshold=0.9, reset=reset, detach_reset=detach, surrogate=surrogate)
    base = normal(*([] if static else [T]), B, N, dtype=dtype)
    weights = torch.linspace(0.2, 1.0, T, dtype=dtype)
    spike, state = rate_integrate(neuron, base, None, weights, steps=T if static else None)

    every, w = (base.expand(T, B, N) if static else base).double(), weights.double()[:, None, None]
    constant = torch.zeros(B, N, dtype=torch.float64, requires_grad=True)
    states = run(neuron, every + constant)
    if dtype == torch.float32:  # away from ties
        assert float((states.charged - 0.9).abs().min()) > 1e-6
    weighted = (w * states.spike).sum(0)
    assert torch.equal(spike.double(), states.spike)
    close(state.v, states.membrane[-1], tolerance)
    close(state.sums.spike, weighted, tolerance)
    close(state.sums.current, (w * every).sum(0), tolerance)
    close(state.sums.slope, torch.autograd.grad(weighted.sum(), constant)[0], tolerance)
    assert isinstance(state.k, float) == (reset == "subtract" and detach)


@pytest.mark.parametrize("reset, detach", KINDS)
def test_chunks_give_the_bits_of_one_call(reset, detach, each_backend):
    neuron = LIF(leak=0.3, reset=reset, detach_reset=detach)
    current, membrane, weights = normal(T, B, 5), normal(B, 5, seed=1), torch.linspace(0.2, 1.0, T, dtype=torch.float64)
    whole, expected = rate_integrate(neuron, current, None, weights, membrane=membrane)
    parts, state = [], None
    for piece, w in zip(current.split([1, 4, 3]), weights.split([1, 4, 3]), strict=True):
        spike, state = rate_integrate(neuron, piece, state, w, membrane=membrane if state is None else None)
        parts.append(spike)
    assert torch.equal(torch.cat(parts), whole)
    for one, other in zip(flat(state), flat(expected), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    assert torch.equal(whole, run(neuron, current, membrane).spike)


def flat(state):
    return state.v, state.k, state.sums.spike, state.sums.slope, state.sums.current


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_a_state_is_not_written_to(reset, each_backend):
    neuron, weights = LIF(reset=reset, detach_reset=False), torch.ones(T, dtype=torch.float64)
    _, state = rate_integrate(neuron, normal(T, B, 5), None, weights)
    before = [value.clone() for value in flat(state)]
    rate_integrate(neuron, normal(T, B, 5, seed=2), state, weights)
    assert all(torch.equal(one, other) for one, other in zip(before, flat(state), strict=True))


def test_gain_of_a_detached_soft_reset_is_the_geometric_series(each_backend):
    _, state = rate_integrate(LIF(leak=0.25), normal(T, B, 4).requires_grad_(), None, torch.ones(T, dtype=torch.float64))
    assert state.k == pytest.approx(sum(0.75**i for i in range(T + 1)), rel=1e-14)
    assert not state.sums.slope.requires_grad


def test_threshold_of_the_call_stands_in(each_backend):
    neuron, weights = LIF(threshold=1.0, detach_reset=False), torch.ones(T, dtype=torch.float64)
    current = normal(T, B, 4)
    _, found = rate_integrate(neuron, current, None, weights, threshold=0.6)
    _, expected = rate_integrate(dataclasses.replace(neuron, threshold=0.6), current, None, weights)
    assert all(torch.equal(one, other) for one, other in zip(flat(found), flat(expected), strict=True))
    assert not torch.equal(found.v, rate_integrate(neuron, current, None, weights)[1].v)


class Own(Surrogate):
    def __call__(self, x):
        return torch.exp(-x.abs())


def test_a_users_surrogate_runs_in_torch():
    neuron, constant = LIF(surrogate=Own()), torch.zeros(B, 4, dtype=torch.float64, requires_grad=True)
    current = normal(T, B, 4)
    _, state = rate_integrate(neuron, current, None, torch.ones(T, dtype=torch.float64))
    close(state.sums.slope, torch.autograd.grad(run(neuron, current + constant).spike.sum(), constant)[0])


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"weights": torch.ones(3)}, ValueError, r"weights is .*shape \(3,\).*shape \(2,\)"),
        ({"weights": [1.0, 1.0]}, TypeError, "weights must be a torch tensor"),
        ({"current": torch.zeros(0, 3)}, ValueError, "current has shape"),
        ({"membrane": torch.zeros(4)}, ValueError, r"membrane is .*shape \(4,\)"),
        ({"state": "start"}, TypeError, "state is 'start'.*previous call"),
        ({"state": ..., "membrane": torch.zeros(3)}, ValueError, "both state and membrane"),
        ({"state": ..., "neuron": LIF(reset="zero")}, ValueError, "another reset or detach_reset"),
        ({"state": ..., "current": torch.zeros(2, 5)}, ValueError, r"state\.v is .*shape \(3,\).*shape \(5,\)"),
        ({"threshold": -1.0}, ValueError, "threshold is -1.0"),
    ],
)
def test_refusals(change, error, message):
    given = {"neuron": LIF(), "current": torch.zeros(2, 3), "state": None, "weights": torch.ones(2), **change}
    if given["state"] is ...:
        given["state"] = rate_integrate(LIF(), torch.zeros(2, 3), None, torch.ones(2))[1]
    with pytest.raises(error, match=message):
        rate_integrate(given.pop("neuron"), given.pop("current"), given.pop("state"), given.pop("weights"), **given)
