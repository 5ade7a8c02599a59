"""OTTT with an optimiser step a time step, and the draws of SLTT-K."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lava_snnlearn.methods import BPTT, OTTT, SLTT, Loss
from lava_snnlearn.neurons import LIF


def online_run(task, rate, momentum=0.0):
    """Train for one batch by OTTT online; returns the network and the number of optimiser steps."""
    network, count = copy.deepcopy(task.network), 0
    optimiser = torch.optim.SGD(network.parameters(), lr=rate, momentum=momentum)

    def on_step() -> None:
        nonlocal count
        optimiser.step()
        optimiser.zero_grad()
        count += 1

    OTTT(update="online").gradients(network, task.x, task.y, on_step)
    return network, count


def by_hand(task, rate):
    """OTTT_O for one hidden layer in numpy: weights change after every step; old membranes and traces are kept."""
    layer, readout = task.network.spiking_layers[0], task.network.readout
    w, b, q, r = (p.detach().numpy().copy() for p in (layer.weight, layer.bias, readout.weight, readout.bias))
    lam, steps, (batch, classes) = layer.neuron.lam, task.network.steps, (len(task.y), len(r))
    v, trace, gain, hot = np.zeros((batch, len(b))), 0.0, 0.0, np.eye(classes)[task.y.numpy()]
    for x in task.x.numpy():
        u = lam * v + x @ w.T + b
        s = (u >= 1.0).astype(float)
        v, trace, gain = u - s, lam * trace + x, lam * gain + 1
        o = s @ q.T + r
        p = np.exp(o) / np.exp(o).sum(1, keepdims=True)
        d = (0.95 * (p - hot) / batch + 0.05 * 2 * (o - hot) / (batch * classes)) / steps
        g = (d @ q) * 4.0 / (2 * np.cosh(2.0 * (u - 1.0))) ** 2
        w, b = w - rate * g.T @ trace, b - rate * gain * g.sum(0)
        q, r = q - rate * d.T @ s, r - rate * d.sum(0)
    return [w, b, q, r]


def test_weights_change_after_every_step_as_by_hand(make_task):
    task = make_task(hidden=(9,))
    network, count = online_run(task, rate=0.5)
    assert count == task.network.steps
    for name, found, expected in zip("wbqr", network.parameters(), by_hand(task, 0.5), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("norm", ["sws", "bn_step"])
def test_norms_take_the_new_parameters_at_every_step(make_task, norm):
    """The optimiser's path through plain autograd of one step at a time, the norm computed anew from the parameters."""
    task = make_task(norm=norm)
    found, _ = online_run(task, rate=0.2, momentum=0.9)
    network = copy.deepcopy(task.network)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.2, momentum=0.9)
    layers = network.spiking_layers
    membranes, traces, gains = [torch.zeros(()) for _ in layers], [0.0] * len(layers), [0.0] * len(layers)
    for now in task.x:
        value = now
        for index, layer in enumerate(layers):
            scaled, weight = value * layer.input_gain, layer.effective_weight()
            traces[index] = 0.5 * traces[index] + scaled.detach()
            gains[index] = 0.5 * gains[index] + 1
            learning = F.linear(traces[index], weight) + gains[index] * layer.bias
            current = F.linear(scaled, weight.detach()) + layer.bias.detach() + learning - learning.detach()
            charged = 0.5 * membranes[index] + layer.normalise(current)
            value = layer.neuron.surrogate.spike(charged - 1)
            membranes[index] = (charged - value).detach()
        (Loss()(network.readout(value), task.y) / network.steps).backward()
        optimiser.step()
        optimiser.zero_grad()
    moved = 0.0
    for (name, p), q, start in zip(network.named_parameters(), found.parameters(), task.network.parameters(), strict=True):
        assert float((p - q).abs().max()) < 1e-12, name
        moved = max(moved, float((p - start).abs().max()))
    assert moved > 1e-3


def test_small_rates_tend_to_the_accumulated_gradient_at_first_order(make_task, fill):
    task = make_task()
    accumulated = fill(OTTT(), task).grads

    def error(rate):
        network, _ = online_run(task, rate)
        pairs = zip(network.named_parameters(), task.network.parameters(), strict=True)
        return max(float(((q - p).detach() / rate - torch.from_numpy(accumulated[name])).abs().max()) for (name, p), q in pairs)

    errors = [error(rate) for rate in (1e-3, 5e-4, 2.5e-4)]
    assert errors[0] > 1e-9
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.02)


def test_online_without_an_optimiser_accumulates(make_task, fill):
    task = make_task()
    assert fill(OTTT(), task).distance(fill(OTTT(update="online"), task).grads) == 0.0


def test_only_the_online_form_asks_for_the_optimiser():
    assert [m.optimiser_every for m in (OTTT(), OTTT(update="online"), SLTT(), SLTT(k=2), BPTT())] == [
        "batch",
        "step",
        "batch",
        "batch",
        "batch",
    ]


def drawn_steps(monkeypatch, task, method, draws):
    import lava_snnlearn.methods.sltt as module

    seen, original = [], module.run_online

    def spy(*args, **kwargs):
        seen.append(tuple(sorted(kwargs["steps"])))
        return original(*args, **kwargs)

    monkeypatch.setattr(module, "run_online", spy)
    torch.manual_seed(7)
    for _ in range(draws):
        method.gradients(task.network, task.x, task.y)
    return seen


def test_sltt_k_draws_all_subsets_alike(make_task, monkeypatch):
    task = make_task(steps=4, hidden=(3,))
    seen = drawn_steps(monkeypatch, task, SLTT(k=2), 600)
    subsets = list(itertools.combinations(range(4), 2))
    assert set(seen) == set(subsets)
    chi_square = sum((seen.count(subset) - 100) ** 2 / 100 for subset in subsets)
    assert chi_square < 20.5  # 0.1 % of all seeds exceed this with 5 degrees of freedom


@pytest.mark.parametrize("k", [1, 2, 5])
def test_rescaled_sltt_k_is_t_over_k_times_the_plain_one(make_task, fill, k):
    task = make_task()
    plain, rescaled = fill(SLTT(k=k), task), fill(SLTT(k=k, rescale=True), task)
    assert rescaled.distance({name: value * 6 / k for name, value in plain.grads.items()}) < 1e-12
    assert max(np.abs(value).max() for value in plain.grads.values()) > 1e-3


def test_rescaling_leaves_what_grad_held_before(make_task, fill):
    task = make_task()
    fresh = fill(SLTT(k=2, rescale=True), task)
    for parameter in task.network.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    torch.manual_seed(0)
    SLTT(k=2, rescale=True).gradients(task.network, task.x, task.y)
    for name, parameter in task.network.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy() - 3.0, fresh.grads[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", [SLTT(), SLTT(k=1), OTTT(), BPTT()], ids=repr)
def test_running_statistics_move_at_all_steps(make_task, fill, method):
    task = make_task(norm="bn_step")
    fill(method, task)
    assert all(int(layer.batch_norm.num_batches_tracked) == 6 for layer in task.network.spiking_layers)


def test_neuron_dropout_keeps_its_mask_and_reaches_the_trace(make_task, fill):
    """With dropout, the next layer's operand is the masked spike: the gradient of weights from silenced neurons is zero."""
    task = make_task(dropout=0.5, neuron=LIF(leak=0.5))
    network = task.network
    single = type(task)(network, task.x[:, :1], task.y[:1])
    torch.manual_seed(0)
    masks = network.dropout_masks(1)
    grads = fill(OTTT(), single).grads
    for index in (1, 2):
        silenced = (masks[index - 1][0] == 0).numpy()
        assert 0 < silenced.sum() < len(silenced)
        assert np.abs(grads[f"layers.{index}.weight"][:, silenced]).max() == 0.0
        assert np.abs(grads[f"layers.{index}.weight"][:, ~silenced]).max() > 0.0
