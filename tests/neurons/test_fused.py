"""Fused time loops against autograd through the plain run, against equations written out, and against each other."""

import itertools
import threading

import numpy as np
import pytest
import torch

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.neurons import (
    LIF,
    Integration,
    Rectangle,
    Sigmoid,
    Triangle,
    backend,
    integrate,
    leaky_sum,
    run,
)

SURROGATES = [Sigmoid(3.0), Triangle(0.8), Rectangle(1.3)]
RESETS = ["subtract", "zero"]
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
T, B, N = 9, 3, 900  # more neurons than one block of the kernels holds

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=["numba", "reference"])
def each_backend(request):
    with backend(request.param):
        yield request.param


def normal(*shape, dtype=torch.float64, seed=0, mean=0.0):
    return (torch.from_numpy(np.random.default_rng(seed).normal(mean, 0.9, shape))).to(dtype)


def same(found, expected, dtype=torch.float64):
    largest = float(expected.abs().max())
    assert largest > 0
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=0, atol=TOLERANCE[dtype] * largest)


def slope(surrogate, x):
    """phi' in numpy, float64."""
    a, x = surrogate.a, np.asarray(x, dtype=np.float64)
    if isinstance(surrogate, Sigmoid):
        return a / (2 * np.cosh(np.clip(a * x / 2, -350, 350))) ** 2
    if isinstance(surrogate, Triangle):
        return np.maximum(0, a - a * a * np.abs(x))
    return np.where(np.abs(x) <= a / 2, 1 / a, 0)


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_full_gradient_is_autograd_through_the_plain_run(surrogate, reset, detach, dtype, static, each_backend):
    neuron = LIF(leak=0.3, threshold=0.9, reset=reset, surrogate=surrogate, detach_reset=detach)
    current = normal(*([] if static else [T]), B, N, dtype=dtype, mean=0.4).requires_grad_()
    membrane = normal(B, N, dtype=dtype, seed=1).requires_grad_()
    for_spike, for_membrane = normal(T, B, N, dtype=dtype, seed=2), normal(B, N, dtype=dtype, seed=3)

    plain = run(neuron, current.expand(T, B, N) if static else current, membrane)
    loss = (plain.spike * for_spike).sum() + (plain.membrane[-1] * for_membrane).sum()
    expected = torch.autograd.grad(loss, [current, membrane])

    found = integrate(neuron, current, membrane, steps=T if static else None)
    loss = (found.spike * for_spike).sum() + (found.membrane * for_membrane).sum()
    gradients = torch.autograd.grad(loss, [current, membrane])

    assert 0.1 < float(found.spike.mean()) < 0.9
    assert torch.equal(found.spike, plain.spike)
    assert torch.equal(found.membrane, plain.membrane[-1])  # to the bit: no ties are needed to be avoided
    assert found.charged is None or torch.equal(found.charged, plain.charged)
    for one, other in zip(gradients, expected, strict=True):
        same(one, other, dtype)


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_instant_gradient_is_the_slope_times_what_arrives(surrogate, reset, dtype, static, each_backend):
    neuron = LIF(leak=0.3, threshold=0.9, reset=reset, surrogate=surrogate, detach_reset=False)
    current = normal(*([] if static else [T]), B, N, dtype=dtype, mean=0.4).requires_grad_()
    membrane, arriving = normal(B, N, dtype=dtype, seed=1).requires_grad_(), normal(T, B, N, dtype=dtype, seed=2)
    weights = torch.linspace(0.5, 2.0, T, dtype=dtype) if static else None

    found = integrate(
        neuron, current, membrane, steps=T if static else None, gradient="instant", time_weights=weights, trace_lam=0.6
    )
    assert not found.membrane.requires_grad
    found.spike.backward(arriving)

    u = run(neuron, current.expand(T, B, N) if static else current, membrane).charged.detach()
    g = torch.from_numpy(slope(surrogate, u - 0.9)) * arriving
    if weights is not None:
        g = (weights[:, None, None] * g).sum(0)
    same(current.grad, g.to(dtype), dtype)
    assert membrane.grad is None


def test_static_current_without_weights_sums_the_steps(each_backend):
    current = normal(B, N).requires_grad_()
    integrate(LIF(), current, steps=T, gradient="instant").spike.sum().backward()
    u = run(LIF(), current.detach().expand(T, B, N)).charged
    same(current.grad, torch.from_numpy(slope(Sigmoid(), u - 1).sum(0)))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("steps", [None, 4])
def test_trace_of_the_spikes(dtype, steps, each_backend):
    current, before = (
        normal(*([4, B, N] if steps is None else [B, N]), dtype=dtype, mean=0.6),
        normal(B, N, dtype=dtype, seed=4),
    )
    for first in (None, before):
        found = integrate(LIF(), current.requires_grad_(), steps=steps, trace_lam=0.7, trace=first)
        a = np.zeros((B, N)) if first is None else first.double().numpy()
        for t in range(4):
            a = 0.7 * a + found.spike[t].detach().double().numpy()
            np.testing.assert_allclose(found.trace[t].numpy(), a, rtol=0, atol=4 * TOLERANCE[dtype])
        assert not found.trace.requires_grad
        assert float(found.spike.mean()) > 0.1
    assert integrate(LIF(), current, steps=steps).trace is None


@pytest.mark.parametrize("reset, detach", itertools.product(RESETS, [True, False]))
def test_segments_add_up_to_one_run(reset, detach, each_backend):
    neuron = LIF(leak=0.2, reset=reset, detach_reset=detach)
    current, arriving = normal(12, B, 5, mean=0.4).requires_grad_(), normal(12, B, 5, seed=2)
    whole = integrate(neuron, current, trace_lam=0.5)
    (expected,) = torch.autograd.grad((whole.spike * arriving).sum(), current)

    parts, membrane, trace = [], None, None
    for piece in current.split([1, 5, 4, 2]):
        parts.append(integrate(neuron, piece, membrane, trace_lam=0.5, trace=trace))
        membrane, trace = parts[-1].membrane, parts[-1].trace[-1]
    (found,) = torch.autograd.grad((torch.cat([p.spike for p in parts]) * arriving).sum(), current)

    assert torch.equal(torch.cat([p.spike for p in parts]), whole.spike)
    assert torch.equal(torch.cat([p.trace for p in parts]), whole.trace)
    assert torch.equal(membrane, whole.membrane)
    same(found, expected)


@pytest.mark.parametrize("reset, after", [("subtract", 0.0), ("zero", 0.0)])
def test_a_tie_fires(reset, after, each_backend):
    current = torch.tensor([[0.5, 0.5, np.nextafter(np.float32(0.5), np.float32(0))]] * 2)  # u[1] = 0.25 + 0.5
    found = integrate(LIF(threshold=0.75, reset=reset), current)
    assert found.spike.tolist() == [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]
    assert found.membrane[0].item() == after


def test_threshold_of_the_call_stands_in(each_backend):
    current, arriving = normal(T, B, 5, mean=0.4).requires_grad_(), normal(T, B, 5, seed=2)
    found = integrate(LIF(threshold=1.0), current, threshold=0.6)
    expected = run(LIF(threshold=0.6), current)
    assert torch.equal(found.spike, expected.spike)
    assert not torch.equal(found.spike, run(LIF(threshold=1.0), current).spike)
    same(*(torch.autograd.grad((states.spike * arriving).sum(), current)[0] for states in (found, expected)))


@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 2, 3, 4, 4), (5, 0, 3), (1, 2, 3)])
def test_any_shape_behind_time(shape, each_backend):
    current = normal(*shape, mean=0.5).requires_grad_()
    found = integrate(LIF(), current, trace_lam=0.5)
    assert found.spike.shape == found.trace.shape == shape
    assert found.membrane.shape == shape[1:]
    assert torch.equal(found.spike, run(LIF(), current).spike)
    (found.spike.sum() + found.membrane.sum()).backward()
    assert current.grad.shape == shape


def turned(values):
    """The same numbers with the axes in another order of memory."""
    return values.permute(2, 0, 1).contiguous().permute(1, 2, 0)


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("kind", ["turned", "every other", "expanded in time", "expanded batch"])
def test_memory_layout_does_not_matter(kind, donate, each_backend):
    base = normal(T, B, 6, mean=0.4)
    current = {
        "turned": turned(base),
        "every other": torch.stack([base, base + 9], dim=-1)[..., 0],
        "expanded in time": base[:1].expand(T, B, 6),
        "expanded batch": base[:, :1].expand(T, B, 6),
    }[kind]
    before = current.clone()
    arriving = turned(normal(T, B, 6, seed=2))
    membrane = normal(6, B, seed=3).T.requires_grad_()
    plain = before.clone().requires_grad_()
    states = run(LIF(), plain, membrane)
    expected = torch.autograd.grad(states.spike, [plain, membrane], arriving)
    leaf = current.detach().requires_grad_()
    found = integrate(LIF(), leaf, membrane, donate=donate)
    gradients = torch.autograd.grad(found.spike, [leaf, membrane], arriving)
    assert torch.equal(found.spike, states.spike)
    assert torch.equal(current, before)
    for one, other in zip(gradients, expected, strict=True):
        same(one, other)


@pytest.mark.parametrize("loss", ["sum", "last membrane", "mean over time"])
def test_gradients_that_arrive_in_special_forms(loss, each_backend):
    forms = {
        "sum": lambda spike, membrane: spike.sum(),  # one number, expanded over all axes
        "last membrane": lambda spike, membrane: membrane.square().sum(),  # no gradient at the spikes
        "mean over time": lambda spike, membrane: (spike.mean(0) * normal(B, 6, seed=2)).sum(),  # expanded over time
    }
    current = normal(T, B, 6, mean=0.4).requires_grad_()
    states = run(LIF(), current)
    found = integrate(LIF(), current)
    (expected,) = torch.autograd.grad(forms[loss](states.spike, states.membrane[-1]), current)
    (gradient,) = torch.autograd.grad(forms[loss](found.spike, found.membrane), current)
    same(gradient, expected)


@pytest.mark.parametrize("gradient", ["full", "instant"])
def test_donated_memory_gives_the_same(gradient):
    source = normal(T, B, N, mean=0.4)
    results = []
    for donate in (False, True):
        weight = source.clone().requires_grad_()
        current = weight * 1.0
        found = integrate(LIF(), current, gradient=gradient, trace_lam=0.5, donate=donate)
        found.spike.backward(normal(T, B, N, seed=2))
        results.append((found.spike, found.membrane, found.trace, weight.grad))
        assert torch.equal(current, source) != donate  # donated memory holds u afterwards
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("options, kept", [({}, ["new"]), ({"donate": True}, ["current"]), ({"steps": 4}, ["new"])])
def test_the_graph_keeps_nothing_but_the_potentials(options, kept):
    saved = []
    current = normal(*([B, N] if "steps" in options else [4, B, N])).requires_grad_() * 1.0
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        integrate(LIF(), current, trace_lam=0.5, **options)
    assert [x.numel() for x in saved] == [4 * B * N]
    assert ["current" if x.data_ptr() == current.data_ptr() else "new" for x in saved] == kept


def test_without_gradient_there_is_no_graph_and_the_current_stays(each_backend):
    current = normal(T, B, N).requires_grad_()
    before, plain = current.detach().clone(), run(LIF(), current)
    with torch.no_grad():
        found = integrate(LIF(), current, donate=True)
    unasked = integrate(LIF(), before, donate=True)
    for one in (found, unasked):
        assert torch.equal(one.spike, plain.spike)
        assert not one.spike.requires_grad
        assert not one.membrane.requires_grad
    assert torch.equal(current, before)


def test_only_the_initial_membrane_needs_a_gradient(each_backend):
    current, membrane = normal(T, B, 4, mean=0.4), normal(B, 4, seed=1).requires_grad_()
    expected, found = (
        torch.autograd.grad(spike.sum(), membrane)[0]
        for spike in (run(LIF(), current, membrane).spike, integrate(LIF(), current, membrane).spike)
    )
    same(found, expected)
    assert not integrate(LIF(), current, membrane, gradient="instant").spike.requires_grad


@pytest.mark.parametrize("gradient", ["full", "instant"])
def test_backward_twice_gives_the_same(gradient, each_backend):
    current = normal(T, B, 6, mean=0.4).requires_grad_()
    found = integrate(LIF(), current, gradient=gradient, donate=False)
    arriving = normal(T, B, 6, seed=2)
    first, second = (torch.autograd.grad(found.spike, current, arriving, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert float(first.abs().max()) > 0


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_slopes_of_float32_over_their_whole_range(surrogate):
    """Where the slope is a number that float32 holds well; the argument is rounded as the kernel rounds it."""
    current = torch.linspace(-28, 30, 20001).unsqueeze(0).requires_grad_()
    with backend("numba"):
        integrate(LIF(surrogate=surrogate), current).spike.sum().backward()
    x = current.detach().numpy()[0] - np.float32(1)
    argument = (np.float32(surrogate.a) * x).astype(np.float64) / surrogate.a if isinstance(surrogate, Sigmoid) else x
    np.testing.assert_allclose(
        current.grad.numpy()[0], slope(surrogate, argument), rtol=1e-6, atol=1e-6 if surrogate.a == 0.8 else 0
    )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("surrogate", SURROGATES[:2], ids=lambda s: type(s).__name__)
def test_extreme_potentials(surrogate, dtype, each_backend):
    current = torch.tensor([[-1e30, -300.0, 300.0, 1e30, float("nan")]], dtype=dtype, requires_grad=True)
    found = integrate(LIF(surrogate=surrogate), current)
    found.spike.sum().backward()
    assert found.spike.tolist() == [[0.0, 0.0, 1.0, 1.0, 0.0]]
    assert current.grad[0, :4].abs().max() < 1e-30
    assert current.grad[0, 4].isnan()  # a broken membrane must not pass for a silent one


@pytest.mark.parametrize("steps", [None, 64])
def test_two_threads_give_the_bits_of_one(steps, pools):
    current = normal(*([64] if steps is None else []), 3, 3000, dtype=torch.float32, mean=0.3).requires_grad_()
    arriving = normal(64, 3, 3000, dtype=torch.float32, seed=2)
    results, alive = [], threading.active_count()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found = integrate(LIF(), current, steps=steps, trace_lam=0.5)
        summed = leaky_sum(found.spike, 0.5)
        results.append((*found, summed, *torch.autograd.grad(found.spike, current, arriving)))
        assert pools == [1] * 3 * (threads - 1)
        assert threading.active_count() == alive  # Lava forks: no pool may stay
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


# Sums of signals


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("steps", [None, 6])
def test_leaky_sum_is_the_weighted_sum_of_the_past(steps, dtype, each_backend):
    signal, previous = normal(*([6] if steps is None else []), B, N, dtype=dtype), normal(B, N, dtype=dtype, seed=1)
    found = leaky_sum(signal.requires_grad_(), 0.8, previous, steps=steps)
    assert found.shape == (6, B, N)
    assert not found.requires_grad
    every = (signal if steps is None else signal.expand(6, B, N)).detach()
    for t in range(6):
        same(found[t], sum(0.8 ** (t - i) * every[i] for i in range(t + 1)) + 0.8 ** (t + 1) * previous, dtype)
    split = every.split([2, 4])
    first = leaky_sum(split[0], 0.8, previous)
    assert torch.equal(torch.cat([first, leaky_sum(turned(split[1]), 0.8, first[-1])]), found)
    assert torch.equal(leaky_sum(every, 0.8)[0], every[0])


# Refusals


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"current": np.zeros((3, 2))}, TypeError, "current must be a torch tensor"),
        ({"current": torch.zeros(3, 2, dtype=torch.int64)}, TypeError, r"current has dtype torch.int64.*\.float\(\)"),
        ({"current": torch.zeros(0, 2)}, ValueError, r"current has shape \(0, 2\).*at least 1 time step"),
        ({"current": torch.zeros(())}, ValueError, r"current has shape \(\)"),
        ({"steps": 0}, ValueError, "steps is 0.*at least 1"),
        ({"steps": 2.0}, TypeError, "steps is 2.0.*integer"),
        ({"gradient": "instnat"}, UnknownNameError, "'instnat'.*'instant'"),
        ({"membrane": torch.zeros(3)}, ValueError, r"membrane is .* shape \(3,\).*float32 of shape \(2,\)"),
        ({"membrane": torch.zeros(2).double()}, ValueError, r"membrane is torch.float64.*must be torch.float32"),
        ({"membrane": 0.0}, TypeError, "membrane must be a torch tensor"),
        ({"trace_lam": 0.5, "trace": torch.zeros(3, 2)}, ValueError, r"trace is .*shape \(3, 2\)"),
        ({"trace": torch.zeros(2)}, ValueError, "trace is given, but trace_lam is not"),
        ({"trace_lam": "half"}, TypeError, "trace_lam is 'half'.*number"),
        ({"time_weights": torch.ones(3)}, ValueError, r"time_weights needs a static current \(steps=T\)"),
        ({"time_weights": torch.ones(3), "steps": 3}, ValueError, "time_weights needs .*instant"),
        ({"time_weights": torch.ones(4), "steps": 3, "gradient": "instant"}, ValueError, r"shape \(4,\).*shape \(3,\)"),
        ({"threshold": 0.0}, ValueError, "threshold is 0.0.*> 0"),
        ({"threshold": "1"}, TypeError, "threshold is '1'.*number"),
        ({"donate": 1}, TypeError, "donate is 1.*True or False"),
    ],
)
def test_refusals(options, error, message, each_backend):
    current = options.get("current", torch.zeros(3, 2))
    with pytest.raises(error, match=message):
        integrate(LIF(), current, **{key: value for key, value in options.items() if key != "current"})


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (([1.0], 0.5), TypeError, "signal must be a torch tensor"),
        ((torch.zeros(0, 2), 0.5), ValueError, "signal has shape"),
        ((torch.zeros(2, 2), None), TypeError, "lam is None.*number"),
        ((torch.zeros(2, 2), 0.5, torch.zeros(3)), ValueError, r"previous is .*shape \(3,\)"),
    ],
)
def test_refusals_of_the_leaky_sum(arguments, error, message):
    with pytest.raises(error, match=message):
        leaky_sum(*arguments)


@pytest.mark.parametrize("steps", [1, T], ids=["one step", "steps"])
@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("gradient", ["full", "instant"])
def test_a_graph_walked_back_once_gives_the_same(gradient, static, steps):
    source = normal(*([] if static else [steps]), B, N, mean=0.4)
    results = []
    for once in (False, True):
        current = source.clone().requires_grad_()
        found = integrate(LIF(), current, steps=steps if static else None, gradient=gradient, once=once)
        found.spike.backward(normal(steps, B, N, seed=2))
        results.append((found.spike, found.membrane, current.grad))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_the_result_is_a_named_tuple():
    assert Integration._fields == ("spike", "membrane", "trace", "charged")
