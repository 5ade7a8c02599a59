"""Rate-based backpropagation (R1-R4) and DSR (D1-D4): identities, gradients written out in numpy, memory, refusals."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from lava_snnlearn.methods import BPTT, DSR, OTTT, SLTT, Loss, RateBP
from lava_snnlearn.networks import mlp
from lava_snnlearn.neurons import DSRIF, DSRLIF, IF, LIF, Rectangle, Triangle, run

TOLERANCE = 1e-12
PURE = Loss(mse_weight=0.0)


def softmax_error(logits, y):
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return (raised / raised.sum(-1, keepdims=True) - np.eye(logits.shape[-1])[y]) / len(y)


# Rate-based backpropagation


@pytest.mark.parametrize("detach", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_r1_slope_is_the_derivative_of_the_mean_spike_by_a_constant_current(make_task, detach, reset):
    """Seen through a one-layer network: d(bias) is e times what the readout sends back."""
    neuron = LIF(leak=0.3, reset=reset, detach_reset=detach)
    task = make_task(hidden=(9,), neuron=neuron)
    RateBP(loss=PURE).gradients(task.network, task.x, task.y)
    layer, readout = task.network.layers[0], task.network.readout
    bias = layer.bias.detach().clone().requires_grad_()
    current = task.x @ layer.weight.detach().T + bias
    rate = run(neuron, current).spike.mean(0)
    sent = torch.from_numpy(softmax_error((rate @ readout.weight.T + readout.bias).detach().numpy(), task.y.numpy()))
    (rate * (sent @ readout.weight.detach())).sum().backward()
    torch.testing.assert_close(layer.bias.grad, bias.grad, rtol=0, atol=TOLERANCE)
    assert float(bias.grad.abs().max()) > 1e-3


def test_r2_one_layer_under_a_constant_input_is_bptt(make_task, fill):
    task = make_task(hidden=(9,), static=True)
    expected = fill(BPTT(loss=PURE, reduction="mean_logit"), task)
    assert fill(RateBP(loss=PURE), task).distance(expected.grads) < TOLERANCE


def test_r2_the_bias_gradient_is_bptts_for_any_input_but_the_weights_is_not(make_task, fill):
    task = make_task(hidden=(9,))
    expected = fill(BPTT(loss=PURE, reduction="mean_logit"), task).grads
    found = fill(RateBP(loss=PURE), task).grads
    assert np.abs(found["layers.0.bias"] - expected["layers.0.bias"]).max() < TOLERANCE
    a, b = found["layers.0.weight"].ravel(), expected["layers.0.weight"].ravel()
    assert 0.8 < a @ b / math.sqrt((a @ a) * (b @ b)) < 0.9999


@pytest.mark.parametrize("norm", ["none", "sws", "bn_step", "bn_time"])
def test_r4_one_step_is_every_method(make_task, fill, norm):
    task = make_task(norm=norm, steps=1)
    grads = fill(BPTT(loss=PURE), task).grads
    others = [RateBP(loss=PURE)] if norm == "bn_time" else [RateBP(loss=PURE), SLTT(loss=PURE), OTTT(loss=PURE)]
    for method in others:
        assert fill(method, task).distance(grads) < TOLERANCE, method


def numpy_rate_bp(task, neuron):
    """r, e and the backward of spec 4.1, one step at a time."""
    modules = [
        (m.weight.detach().numpy(), m.bias.detach().numpy()) for m in [*task.network.spiking_layers, task.network.readout]
    ]
    x, steps, lam = task.x.numpy(), task.network.steps, 1 - neuron.leak
    rates, slopes, signal = [x.mean(0)], [], x
    for weight, bias in modules[:-1]:
        v = np.zeros((x.shape[1], len(bias)))
        k, e, spikes = np.ones_like(v), np.zeros_like(v), []
        for t in range(steps):
            u = lam * v + signal[t] @ weight.T + bias
            s = (u >= neuron.threshold).astype(float)
            phi = neuron.surrogate(torch.from_numpy(u - neuron.threshold)).numpy()
            e += phi * k / steps
            if neuron.reset == "subtract":
                v, kept = u - neuron.threshold * s, 1 - (0 if neuron.detach_reset else neuron.threshold * phi)
            else:
                v, kept = u * (1 - s), 1 - s - (0 if neuron.detach_reset else u * phi)
            k = 1 + lam * k * kept
            spikes.append(s)
        signal = np.stack(spikes)
        rates.append(signal.mean(0))
        slopes.append(e)
    error = softmax_error(rates[-1] @ modules[-1][0].T + modules[-1][1], task.y.numpy())
    grads = {"readout.weight": error.T @ rates[-1], "readout.bias": error.sum(0)}
    for index in reversed(range(len(slopes))):
        error = slopes[index] * (error @ modules[index + 1][0])
        grads |= {f"layers.{index}.weight": error.T @ rates[index], f"layers.{index}.bias": error.sum(0)}
    return grads


@pytest.mark.parametrize(
    "neuron",
    [
        LIF(leak=0.8),
        LIF(leak=0.3, threshold=0.7, detach_reset=False, surrogate=Triangle()),
        LIF(leak=0.3, reset="zero", detach_reset=False),
        IF(surrogate=Rectangle(2.0)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("chunk", [1, 4, 8])
def test_rate_bp_equals_numpy(make_task, fill, neuron, chunk):
    task = make_task(neuron=neuron)
    assert fill(RateBP(loss=PURE, chunk=chunk), task).distance(numpy_rate_bp(task, neuron)) < TOLERANCE


@pytest.mark.parametrize("norm", ["none", "sws", "bn_step"])
@pytest.mark.parametrize("static", [False, True], ids=["frames", "static"])
def test_rate_bp_does_not_depend_on_the_chunk(make_task, fill, norm, static):
    grads = [fill(RateBP(chunk=chunk), make_task(norm=norm, static=static, steps=7)).grads for chunk in (1, 2, 3, 7)]
    whole = fill(RateBP(chunk=7), make_task(norm=norm, static=static, steps=7))
    assert all(whole.distance(other) < TOLERANCE for other in grads)


def test_norm_statistics_are_straight_through(make_task, fill):
    """Value: the spiking pass's statistics; gradient: through those of the rate batch."""
    task = make_task(norm="bn_time", hidden=(9,), static=False)
    found = fill(RateBP(loss=PURE), task).grads
    layer, readout = task.network.layers[0], task.network.readout
    layer.zero_grad()
    with torch.no_grad():
        spiking = task.x @ layer.weight.T + layer.bias
        var, mean = torch.var_mean(spiking, dim=(0, 1), correction=0)
        normal = (spiking - mean) / (var + 1e-5).sqrt() * layer.batch_norm.weight + layer.batch_norm.bias
        states = run(layer.neuron, normal)
        k = torch.tensor([sum(0.5**j for j in range(t + 1)) for t in range(6)], dtype=torch.float64).view(6, 1, 1)
        slope = (layer.neuron.surrogate(states.charged - 1) * k).mean(0)
        rate = states.spike.mean(0)
        error = torch.from_numpy(softmax_error((rate @ readout.weight.T + readout.bias).numpy(), task.y.numpy()))
    current = task.x.mean(0) @ layer.weight.T + layer.bias
    var_r, mean_r = torch.var_mean(current, dim=0, correction=0)
    v, m = var + var_r - var_r.detach(), mean + mean_r - mean_r.detach()
    normalised = (current - m) * (v + 1e-5).rsqrt() * layer.batch_norm.weight + layer.batch_norm.bias
    (normalised * slope * (error @ readout.weight.detach())).sum().backward()
    for name, parameter in layer.named_parameters():
        np.testing.assert_allclose(found[f"layers.0.{name}"], parameter.grad.numpy(), rtol=0, atol=TOLERANCE)


def test_grad_scale_scales_the_gradient_alone(make_task, fill):
    whole, half = (fill(RateBP(grad_scale=scale), make_task()) for scale in (1.0, 0.25))
    assert half.result.loss == whole.result.loss
    assert half.distance({name: 0.25 * value for name, value in whole.grads.items()}) < TOLERANCE


# DSR


def two_levels(kind, current, threshold, alpha, beta, dt):
    """The published form: fire at alpha Vth, subtract Vth. Outputs [T, ...] and the last membrane."""
    v, outputs = np.zeros_like(current[0]), []
    for now in current:
        v = v + now if kind == "if" else beta * v + (1 - beta) * now
        s = threshold * (v >= alpha * threshold)
        v = v - s
        outputs.append(s if kind == "if" else s / dt)
    return np.stack(outputs), v


class OneLayer:
    """A layer of DSR neurons whose weight is the identity: its outputs are those of the bare neurons under ``current``."""

    def __init__(self, neuron, current):
        steps, _, size = current.shape
        self.network = mlp([size, size, 2], neuron, norm="none", steps=steps).double()
        with torch.no_grad():
            self.network.layers[0].weight.copy_(torch.eye(size))
        self.current = torch.from_numpy(current)
        seen = []
        hook = self.network.readout.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().numpy()))
        with torch.no_grad():
            self.network(self.current)
        hook.remove()
        (self.outputs,) = seen


# Thresholds are dyadic, so that the float32 parameters hold them exactly.
NEURONS = {
    "if": DSRIF(threshold=1.25, alpha=0.5),
    "if, alpha .8": DSRIF(threshold=0.875, alpha=0.8),
    "lif": DSRLIF(threshold=0.25, alpha=0.3),
    "lif, slow": DSRLIF(threshold=0.1875, alpha=0.5, tau=2.0, dt=0.1),
}


@pytest.mark.parametrize("name", NEURONS)
def test_d4_one_threshold_gives_the_spikes_of_two_levels(name):
    neuron, kind = NEURONS[name], name[: name.index(",")] if "," in name else name
    current = np.random.default_rng(0).normal(0.6, 1.5, (20, 5, 50))
    beta, dt = (1.0, 1.0) if kind == "if" else (math.exp(-neuron.dt / neuron.tau), neuron.dt)
    expected, _ = two_levels(kind, current, neuron.threshold, neuron.alpha, beta, dt)
    np.testing.assert_allclose(OneLayer(neuron, current).outputs, expected, rtol=TOLERANCE)
    assert 0.05 < (expected > 0).mean() < 0.95


def test_d1_rates_differ_from_mean_inputs_by_the_charge_left():
    current = np.random.default_rng(1).normal(0.5, 1.0, (20, 3, 30))
    neuron = DSRIF(threshold=1.25)
    _, left = two_levels("if", current, 1.25, 0.5, 1.0, 1.0)
    found = OneLayer(neuron, current).outputs.mean(0)
    np.testing.assert_allclose(found, current.mean(0) - left / 20, rtol=0, atol=TOLERANCE)
    lif = DSRLIF(threshold=0.25)
    beta = math.exp(-0.05)
    _, left = two_levels("lif", current, 0.25, 0.3, beta, 0.05)
    k = beta ** np.arange(19, -1, -1.0)
    weighted = np.tensordot(k / k.sum(), OneLayer(lif, current).outputs, 1)
    expected = (1 - beta) / 0.05 * np.tensordot(k / k.sum(), current, 1) - left / (0.05 * k.sum())
    np.testing.assert_allclose(weighted, expected, rtol=0, atol=TOLERANCE)


def test_d2_counts_under_constant_input():
    draws = np.random.default_rng(2)
    wrong = 0
    for alpha in (0.25, 0.5, 1.0):
        threshold = 1.0
        level = draws.integers(-64, 192, 500) / 128 + 1 / 1024  # away from ties
        current = np.broadcast_to(level, (20, 1, 500))
        counts = (OneLayer(DSRIF(threshold=threshold, alpha=alpha), np.ascontiguousarray(current)).outputs > 0).sum(0)[0]
        wrong += int((counts != np.clip(np.floor(20 * level / threshold + 1 - alpha), 0, 20)).sum())
    assert wrong == 0


def clamp_network(task, tops, slopes, means, weights):
    """ANN of clamps at the network's own mean inputs; the gradient by hand. means: mean input of each layer."""
    modules = [*task.network.spiking_layers, task.network.readout]
    last = torch.tensordot(weights, means["outputs"][-1], 1)
    error = torch.from_numpy(softmax_error((last @ modules[-1].weight.T + modules[-1].bias).detach().numpy(), task.y.numpy()))
    grads = {"readout.weight": error.T @ last, "readout.bias": error.sum(0)}
    for index in reversed(range(len(tops))):
        sent = error @ modules[index + 1].weight.detach()
        below = torch.tensordot(weights, means["outputs"][index - 1] if index else task.x, 1)
        mean_input = torch.tensordot(weights, means["inputs"][index], 1)
        inside = (mean_input >= 0) & (mean_input <= tops[index])
        error = slopes * sent * inside
        grads[f"layers.{index}.weight"] = error.T @ below
        grads[f"layers.{index}.bias"] = error.sum(0)
        grads[f"layers.{index}.threshold"] = (sent * (mean_input > tops[index])).sum()
    return {name: value.detach().numpy() for name, value in grads.items()}


@pytest.mark.parametrize("kind", ["if", "lif"])
@pytest.mark.parametrize("chunk", [1, 3, 20])
def test_d3_backward_is_that_of_clamps_at_the_mean_inputs(make_task, fill, kind, chunk):
    neuron = DSRIF(threshold=0.5) if kind == "if" else DSRLIF(threshold=0.0625)
    task = make_task(hidden=(9, 8), steps=20, neuron=neuron)
    found = fill(DSR(chunk=chunk), task)
    inputs, outputs, signal = [], [], task.x
    beta, dt = (1.0, 1.0) if kind == "if" else (math.exp(-0.05), 0.05)
    for layer in task.network.spiking_layers:
        inputs.append((signal @ layer.weight.T + layer.bias).detach())
        sent, _ = two_levels(kind, inputs[-1].numpy(), float(layer.threshold), neuron.alpha, beta, dt)
        outputs.append(torch.from_numpy(sent))
        signal = outputs[-1]
    weights = beta ** torch.arange(19, -1, -1, dtype=torch.float64)
    top = float(task.network.layers[0].threshold) / dt
    expected = clamp_network(task, [top, top], 1.0, {"inputs": inputs, "outputs": outputs}, weights / weights.sum())
    if kind == "lif":
        for name in ("layers.0.threshold", "layers.1.threshold"):
            expected[name] = expected[name] / dt
    assert found.distance(expected) < TOLERANCE * max(np.abs(value).max() for value in expected.values())
    assert all(np.abs(expected[f"layers.{index}.threshold"]) > 0 for index in (0, 1)), (
        "some neurons are at the top of the clamp"
    )


def test_official_scales(make_task, fill):
    """dt instead of 1/dt for thresholds; the last layer's G carries T sum w^2 = 1.0818 (T = 20, dt = .05)."""
    task = make_task(hidden=(9, 8), steps=20, neuron=DSRLIF(threshold=0.05))
    plain, official = fill(DSR(), task).grads, fill(DSR(official=True), task).grads
    factor = 1.0818
    np.testing.assert_allclose(official["layers.1.weight"], factor * plain["layers.1.weight"], rtol=1e-4)
    np.testing.assert_allclose(official["layers.1.threshold"], factor * 0.05**2 * plain["layers.1.threshold"], rtol=1e-4)
    np.testing.assert_allclose(official["readout.weight"], plain["readout.weight"], rtol=1e-12)


def test_thresholds_are_kept_above_their_bound(make_task):
    task = make_task(neuron=DSRIF(threshold=1.0, bound=0.25))
    with torch.no_grad():
        task.network.layers[0].threshold.fill_(-3.0)
    DSR().gradients(task.network, task.x, task.y)
    assert task.network.layers[0].threshold.item() == 0.25


def test_dsr_answers_are_the_weighted_readout(make_task, fill):
    for neuron in (DSRIF(), DSRLIF()):
        task = make_task(neuron=neuron, steps=8)
        found = fill(DSR(neuron="if"), task).result.outputs
        with torch.no_grad():
            outputs = task.network(task.x)
        keep = (1 - neuron.leak) ** torch.arange(7, -1, -1, dtype=torch.float64)
        torch.testing.assert_close(found, torch.tensordot(keep, outputs, 1), rtol=0, atol=1e-9)
        assert torch.equal(task.network.predict(task.x), found.argmax(1))


@pytest.mark.parametrize("method", [RateBP(), DSR()], ids=repr)
def test_recurrent_networks_are_refused(method):
    neuron = DSRIF() if method.name == "dsr" else LIF()
    network = mlp([6, 8, 4], neuron, norm="none", recurrent=True)
    with pytest.raises(ValueError, match="recurrent"):
        method.gradients(network, torch.randn(3, 6), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: DSR(neuron="lief"), ValueError, "Did you mean 'lif'"),
        (lambda: DSR(chunk=0), ValueError, "chunk is 0"),
        (lambda: RateBP(grad_scale=math.inf), ValueError, "grad_scale is inf"),
        (lambda: RateBP(chunk=1.5), TypeError, "chunk is 1.5"),
        (lambda: DSRIF(alpha=0.0), ValueError, "alpha is 0.0"),
        (lambda: DSRIF(alpha=1.5), ValueError, "alpha is 1.5"),
        (lambda: DSRLIF(dt=-1.0), ValueError, "dt is -1.0"),
        (lambda: DSRLIF(tau="1"), TypeError, "tau"),
        (lambda: dataclasses.replace(DSRIF(), reset="zero"), ValueError, "reset by subtraction"),
    ],
)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_methods_and_neurons_must_fit():
    x, y = torch.randn(3, 6), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="DSRIF or DSRLIF"):
        DSR().gradients(mlp([6, 8, 4], norm="none"), x, y)
    with pytest.raises(ValueError, match="method DSR"):
        RateBP().gradients(mlp([6, 8, 4], DSRIF(), norm="none"), x, y)
