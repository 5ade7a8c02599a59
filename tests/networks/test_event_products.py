"""Products with sparse events against the dense product: values, gradients, traces."""

from __future__ import annotations

import pytest
import torch

from lava_snnlearn.networks import event_products
from lava_snnlearn.networks.event_products import Traced, bias_gradient, sparse_linear, traced_sparse_linear, worthwhile

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}
STEPS, BATCH, INPUTS, OUTPUTS = 6, 3, 40, 11


@pytest.fixture(params=TOLERANCES, ids=["single", "double"])
def dtype(request):
    return request.param


def problem(dtype, density=0.05, values="counts", seed=0):
    """Events [T * B, n_in], some rows empty, weight, bias and the gradient of the output."""
    generator = torch.Generator().manual_seed(seed)
    rows = STEPS * BATCH
    events = (torch.rand(rows, INPUTS, generator=generator) < density).to(dtype)
    if values == "counts":
        events = events * torch.randint(1, 5, events.shape, generator=generator)
    elif values == "signed":
        events = events * torch.randn(events.shape, generator=generator)
    events[[0, 7, rows - 1]] = 0
    weight = torch.randn(OUTPUTS, INPUTS, generator=generator).to(dtype)
    bias = torch.randn(OUTPUTS, generator=generator).to(dtype)
    grad = torch.randn(rows, OUTPUTS, generator=generator).to(dtype)
    return events.to(dtype), weight.requires_grad_(), bias.requires_grad_(), grad


@pytest.mark.parametrize("values", ["spikes", "counts", "signed"])
@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("has_bias", [True, False])
def test_values_and_gradients_are_the_dense_ones(dtype, values, density, has_bias):
    events, weight, bias, grad = problem(dtype, density, values)
    chosen = bias if has_bias else None
    found = sparse_linear(events, weight, chosen)
    expected = events @ weight.T + (bias if has_bias else 0)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCES[dtype] * 10)
    parameters = [weight, bias] if has_bias else [weight]
    for one, other in zip(
        torch.autograd.grad(found, parameters, grad), torch.autograd.grad(expected, parameters, grad), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCES[dtype] * 50)


def test_rows_without_events_are_the_bias(dtype):
    events, weight, bias, _ = problem(dtype)
    found = sparse_linear(events, weight, bias)
    for row in (0, 7, len(events) - 1):
        assert torch.equal(found[row], bias)
    assert not sparse_linear(torch.zeros_like(events), weight, None).any()


def trace_of(events, lam, previous):
    rows, a = [], previous
    for now in events.view(STEPS, BATCH, -1):
        a = lam * a + now
        rows.append(a)
    return torch.stack(rows)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("has_past", [True, False])
@pytest.mark.parametrize("has_gains", [True, False])
def test_the_traced_gradient_is_that_of_an_explicit_trace(dtype, lam, has_past, has_gains):
    events, weight, bias, grad = problem(dtype)
    previous = torch.randn(BATCH, INPUTS, dtype=dtype) if has_past else torch.zeros(BATCH, INPUTS, dtype=dtype)
    gains = torch.linspace(1, 2, STEPS, dtype=dtype) if has_gains else None
    found = traced_sparse_linear(events, weight, bias, Traced(lam, previous, gains))
    torch.testing.assert_close(found, events @ weight.T + bias, rtol=0, atol=TOLERANCES[dtype] * 10)
    for_weight, for_bias = torch.autograd.grad(found, [weight, bias], grad)
    by_step = grad.view(STEPS, BATCH, OUTPUTS)
    trace = trace_of(events, lam, previous)
    expected = sum(by_step[t].T @ trace[t] for t in range(STEPS))
    torch.testing.assert_close(for_weight, expected, rtol=0, atol=TOLERANCES[dtype] * 100)
    weights = torch.ones(STEPS, dtype=dtype) if gains is None else gains
    expected = sum(weights[t] * by_step[t].sum(0) for t in range(STEPS))
    torch.testing.assert_close(for_bias, expected, rtol=0, atol=TOLERANCES[dtype] * 20)


def test_traces_of_pieces_join(dtype):
    """Two pieces, the second with the trace that the first left, have the gradient of the whole."""
    lam, half = 0.7, STEPS // 2 * BATCH
    events, weight, _, grad = problem(dtype)
    rest = torch.zeros(BATCH, INPUTS, dtype=dtype)
    (whole,) = torch.autograd.grad(traced_sparse_linear(events, weight, None, Traced(lam, rest, None)), weight, grad)
    between = trace_of(events, lam, rest)[STEPS // 2 - 1]
    parts = 0
    for part, previous in ((slice(None, half), rest), (slice(half, None), between)):
        found = traced_sparse_linear(events[part], weight, None, Traced(lam, previous, None))
        parts = parts + torch.autograd.grad(found, weight, grad[part])[0]
    torch.testing.assert_close(parts, whole, rtol=0, atol=TOLERANCES[dtype] * 100)


def test_only_the_gradients_that_are_asked_for_are_made():
    events, weight, bias, grad = problem(torch.float64)
    bias.requires_grad_(False)
    found = sparse_linear(events, weight, bias)
    found.backward(grad)
    assert bias.grad is None
    torch.testing.assert_close(weight.grad, grad.T @ events, rtol=0, atol=1e-11)
    weight.grad = None
    weight.requires_grad_(False)
    bias.requires_grad_()
    sparse_linear(events, weight, bias).backward(grad)
    assert weight.grad is None
    torch.testing.assert_close(bias.grad, grad.sum(0), rtol=0, atol=1e-12)
    weight.requires_grad_(False)
    bias.requires_grad_(False)
    assert not sparse_linear(events, weight, bias).requires_grad


def test_arrays_that_are_not_contiguous():
    """Gradients that were expanded or transposed, weights that are views."""
    events, weight, _, _ = problem(torch.float64)
    wide = torch.randn(INPUTS, OUTPUTS, dtype=torch.float64).t().requires_grad_()
    found = sparse_linear(events, wide, None)
    torch.testing.assert_close(found, events @ wide.T, rtol=0, atol=1e-12)
    (one,) = torch.autograd.grad(found.sum(), wide)  # an expanded gradient
    torch.testing.assert_close(one, torch.ones_like(found).T @ events, rtol=0, atol=1e-12)
    shifted = torch.randn(OUTPUTS, len(events), dtype=torch.float64).t()
    (one,) = torch.autograd.grad(sparse_linear(events, weight, None), weight, shifted)
    torch.testing.assert_close(one, shifted.T @ events, rtol=0, atol=1e-11)
    columns = torch.randn(INPUTS, len(events), dtype=torch.float64).t() * (events != 0)
    torch.testing.assert_close(sparse_linear(columns, weight, None), columns @ weight.T, rtol=0, atol=1e-12)


def test_bias_gradient_of_maps():
    grad = torch.randn(STEPS * BATCH, 4, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(bias_gradient(grad, None), grad.sum((0, 2, 3)), rtol=0, atol=1e-12)
    gains = torch.arange(1.0, STEPS + 1, dtype=torch.float64)
    expected = (grad.view(STEPS, BATCH, 4, 3, 2) * gains.view(-1, 1, 1, 1, 1)).sum((0, 1, 3, 4))
    torch.testing.assert_close(bias_gradient(grad, gains), expected, rtol=0, atol=1e-12)


def test_when_it_is_worth_the_look(monkeypatch):
    size, density = event_products.SIZE, event_products.DENSITY / torch.get_num_threads()
    columns = 64
    signal = torch.zeros(size // columns, columns)
    most = int(density * signal.numel())
    signal.view(-1)[: most - 1] = 1
    assert worthwhile(signal)
    assert worthwhile(signal.double())
    assert worthwhile(signal.view(-1, 4, 4, 4))
    assert not worthwhile(signal[:-1]), "too small to look at"
    assert not worthwhile(signal.clone().requires_grad_()), "these products have no gradient for their input"
    assert not worthwhile(signal.half())
    signal.view(-1)[: most + 1] = 1
    assert not worthwhile(signal), "too dense"
    signal.zero_()
    monkeypatch.setattr(event_products, "_kernels", lambda: None)
    assert not worthwhile(signal), "no compiler"
