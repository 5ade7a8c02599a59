"""The implicit gradient against dense linear systems: the network written out in plain torch, its Jacobian, and one solve."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lava_snnlearn.methods import IDE, Loss
from lava_snnlearn.methods.equilibrium import Adjoint, ForwardPhase, equilibrium_rates, solve_adjoint
from lava_snnlearn.networks import Network, feedback_net, mlp
from lava_snnlearn.neurons import FeedbackLIF

EXACT = {"tolerance": 1e-14, "solver_steps": 2000}
IF, LIF = FeedbackLIF(), FeedbackLIF(leak=0.1)
SPIDES = FeedbackLIF(leak=0.1, firing=0.5)
MAPS = (2, 6, 6)

NETWORKS = {
    "one layer": partial(feedback_net, 7, (9,)),
    "one layer, LIF": partial(feedback_net, 7, (9,), neuron=LIF),
    "one layer, batch norm": partial(feedback_net, 7, (9,), norm="bn_step"),
    "three layers, instant": partial(feedback_net, 7, (9, 8, 6), timing="instant"),
    "three layers, pipelined": partial(feedback_net, 7, (9, 8, 6)),
    "three layers, SPIDE's LIF": partial(feedback_net, 7, (9, 8, 6), neuron=SPIDES),
    "three layers, dropout": partial(feedback_net, 7, (9, 8, 6), dropout=0.3),
    "three layers, batch norm": partial(feedback_net, 7, (9, 8, 6), norm="bn_step"),
    "one convolution": partial(feedback_net, MAPS, "3C5s2"),
    "convolutions, transposed feedback": partial(feedback_net, MAPS, "3C3-4C3s2", neuron=LIF),
    "convolutions, batch norm, dropout": partial(feedback_net, MAPS, "3C3-4C3s2", norm="bn_step", dropout=0.3),
    "pools": partial(feedback_net, MAPS, "3C3-P2-4C3-P2", timing="instant"),
    "no feedback, one layer": lambda classes, **options: mlp([7, 9, classes], IF, norm="none", **options),
    "no feedback": lambda classes, **options: mlp([7, 9, 8, classes], IF, norm="none", **options),
}


def make(name, steps=12, seed=0):
    """A network, float64, in training mode, with parameters of all kinds, at which rates lie at both ends and in between."""
    torch.manual_seed(seed)
    network = NETWORKS[name](classes=4, steps=steps).double()
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if key.endswith("bias"):
                parameter.normal_(0.4, 0.3)
            elif "batch_norm" in key:
                parameter.uniform_(0.8, 1.2)
        for layer in network.spiking_layers:
            if layer.batch_norm is not None:
                layer.batch_norm.running_mean.normal_(0, 0.3)
                layer.batch_norm.running_var.uniform_(0.3, 0.6)
            else:
                layer.weight.mul_(1.5)
    return network


def batch_of(network, sequence=False):
    generator = torch.Generator().manual_seed(5)
    shape = (network.steps, 5, network.inputs) if sequence else (5, network.inputs)
    return 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64), torch.arange(5) % 4


def linear(weight, bias, synapse, signal):
    """W pool(x) + b with the published geometry, for [B, ...]."""
    if synapse.pool > 1:
        side, (b, c, h, w) = synapse.pool, signal.shape
        rows, columns = h // side, w // side
        signal = signal[:, :, : rows * side, : columns * side].reshape(b, c, rows, side, columns, side).mean((3, 5))
    geometry = synapse.geometry
    if geometry is None:
        return F.linear(signal.flatten(1), weight, bias)
    if geometry.transposed:
        return F.conv_transpose2d(signal, weight, bias, geometry.stride, geometry.padding, geometry.stride - 1)
    return F.conv2d(signal, weight, bias, geometry.stride, geometry.padding)


class Plain:
    """The network as functions of its parameters: a simulation by loops, its Jacobian at the rates, one solve."""

    def __init__(self, network: Network, x, y, seed=0):
        self.network, self.y = network, y
        self.parameters = {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}
        torch.manual_seed(seed)
        self.dropped = network.dropout_masks(len(y))
        sequence = x if x.dim() == 3 else x.expand(network.steps, *x.shape)
        self.sequence = sequence.reshape(*sequence.shape[:2], *network.input_shape)
        self.lam = 1 - network.spiking_layers[0].neuron.leak
        weights = [self.lam ** (network.steps - 1 - t) for t in range(network.steps)]
        self.weights = [weight / sum(weights) for weight in weights]
        self.mean_frame = sum(w * frame for w, frame in zip(self.weights, self.sequence, strict=True))

    def synapse(self, name, synapse, signal):
        bias = self.parameters.get(f"{name}.bias")
        return linear(self.parameters[f"{name}.weight"], bias, synapse, signal)

    def normed(self, index, current):
        norm = self.network.spiking_layers[index].batch_norm
        if norm is None:
            return current
        mean, variance = norm.running_mean.clone(), norm.running_var.clone()
        if self.network.training and index == 0:
            seen = self.synapse("layers.0", self.network.layers[0], self.mean_frame)
            dims = [0, *range(2, seen.dim())]
            mean, variance = seen.mean(dims), seen.var(dims, correction=0)
        shape = (1, -1, *[1] * (current.dim() - 2))
        scale, shift = (self.parameters[f"layers.{index}.batch_norm.{name}"].view(shape) for name in ("weight", "bias"))
        return (current - mean.view(shape)) / (variance.view(shape) + norm.eps).sqrt() * scale + shift

    def current(self, index, heard, fed_back):
        current = self.normed(index, self.synapse(f"layers.{index}", self.network.layers[index], heard))
        if index or self.network.feedback is None:
            return current
        return current + self.synapse("feedback", self.network.feedback, fed_back)

    def sent(self, index, signal):
        mask = self.dropped[index]
        return signal if mask is None else signal * mask

    @torch.no_grad()
    def simulate(self):
        """Weighted mean rates and counts of every layer, by the published order within a step."""
        layers = self.network.spiking_layers
        membranes = [torch.zeros(len(self.y), *layer.shape, dtype=torch.float64) for layer in layers]
        rates, counts = ([torch.zeros_like(u) for u in membranes] for _ in range(2))
        on_the_way = [torch.zeros_like(membranes[-1])] * self.network.feedback_delay
        for weight, frame in zip(self.weights, self.sequence, strict=True):
            signal, fed_back = frame, on_the_way.pop(0)
            for index, layer in enumerate(layers):
                delta = layer.neuron.threshold
                u = membranes[index] + self.current(index, signal, fed_back)
                spike = (u >= layer.neuron.firing * delta).double()
                membranes[index] = self.lam * (u - delta * spike)
                rates[index] += weight * spike
                counts[index] += spike
                signal = self.sent(index, spike)
            on_the_way.append(signal)
        return rates, counts

    def currents(self, rates):
        sent = [self.sent(index, rate) for index, rate in enumerate(rates)]
        return [self.current(i, sent[i - 1] if i else self.mean_frame, sent[-1]) for i in range(len(rates))]

    def gradients(self, mask, loss=None):
        """By one dense solve of (I - J^T) beta = g for all layers and samples together."""
        rates, counts = self.simulate()
        shapes, sizes = [rate.shape for rate in rates], [rate.numel() for rate in rates]

        def stacked(flat):
            parts = flat.split(sizes)
            found = self.currents([part.view(shape) for part, shape in zip(parts, shapes, strict=True)])
            return torch.cat([current.flatten() for current in found])

        flat = torch.cat([rate.flatten() for rate in rates])
        delta = self.network.spiking_layers[0].neuron.threshold
        level = stacked(flat).detach() / delta
        fired = torch.cat([count.flatten() for count in counts])
        inside = (level >= 0) & (level <= 1) if mask == "preact" else (fired > 0) & (fired < self.network.steps)
        assert 0.2 < inside.double().mean() < 0.98
        gain = inside.double() / delta
        jacobian = gain.unsqueeze(1) * torch.autograd.functional.jacobian(stacked, flat, vectorize=True)
        last = rates[-1].clone().requires_grad_()
        answer = self.synapse("readout", self.network.readout, self.sent(len(rates) - 1, last))
        value = (loss or F.cross_entropy)(answer, self.y)
        value.backward()
        g = torch.zeros_like(flat)
        g[-sizes[-1] :] = last.grad.flatten()
        beta = torch.linalg.solve(torch.eye(len(g), dtype=g.dtype) - jacobian.t(), g)
        (stacked(flat) * (gain * beta)).sum().backward()
        return {name: p.grad.numpy() for name, p in self.parameters.items()}, value.item()


def assert_close(found, expected, tolerance=1e-9):
    assert set(found) == set(expected)
    for name, wanted in expected.items():
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=tolerance * max(np.abs(wanted).max(), 1e-2), err_msg=name)


def gradients(method, network, x, y, seed=0):
    network.zero_grad()
    torch.manual_seed(seed)
    result = method.gradients(network, x, y)
    return {name: p.grad.numpy().copy() for name, p in network.named_parameters() if p.grad is not None}, result


@pytest.mark.parametrize("mask", ["preact", "rate"])
@pytest.mark.parametrize("name", NETWORKS)
def test_ide_is_one_dense_solve(name, mask):
    network = make(name)
    x, y = batch_of(network)
    expected, loss = Plain(network, x, y).gradients(mask)
    found, result = gradients(IDE(mask=mask, **EXACT), network, x, y)
    assert result.diagnostics["not_converged"] == 0
    assert result.loss == pytest.approx(loss, rel=1e-12)
    assert_close(found, expected)
    no_effect = {"layers.0.bias"} if network.layers[0].batch_norm is not None else set()  # in front of a norm
    assert {key for key, value in expected.items() if np.abs(value).max() < 1e-4} == no_effect


@pytest.mark.parametrize("name", [name for name in NETWORKS if "norm" in name or "dropout" in name])
def test_eval_mode_takes_running_statistics_and_drops_nothing(name):
    network = make(name).eval()
    x, y = batch_of(network)
    expected, _ = Plain(network, x, y).gradients("preact")
    found, _ = gradients(IDE(**EXACT), network, x, y)
    assert_close(found, expected)
    in_training, _ = gradients(IDE(**EXACT), network.train(), x, y)
    assert np.abs(in_training["layers.0.weight"] - found["layers.0.weight"]).max() > 1e-3


@pytest.mark.parametrize(
    "name", ["one layer, LIF", "one layer, batch norm", "three layers, SPIDE's LIF", "three layers, dropout"]
)
def test_sequences_count_by_their_weighted_mean(name):
    network = make(name)
    x, y = batch_of(network, sequence=True)
    expected, _ = Plain(network, x, y).gradients("preact")
    found, _ = gradients(IDE(**EXACT), network, x, y)
    assert_close(found, expected)


def test_event_input_of_sparse_frames():
    """Frames with few events take another product in the forward phase; the mean over time is the same, and x is left alone."""
    network = feedback_net(600, (9,), 4, FeedbackLIF(leak=0.05), steps=12).double()
    x = (torch.rand(12, 5, 600, generator=torch.Generator().manual_seed(0)) < 0.02).double()
    before, y = x.clone(), torch.arange(5) % 4
    with torch.no_grad():
        network.layers[0].weight.mul_(8)
        network.layers[0].bias.fill_(0.5)
    expected, _ = Plain(network, x, y).gradients("preact")
    found, _ = gradients(IDE(**EXACT), network, x, y)
    assert_close(found, expected)
    assert torch.equal(x, before)


def test_the_loss_is_a_choice():
    network = make("one layer")
    x, y = batch_of(network)
    loss = Loss(mse_weight=0.3)
    expected, value = Plain(network, x, y).gradients("preact", loss)
    found, result = gradients(IDE(loss=loss, **EXACT), network, x, y)
    assert result.loss == pytest.approx(value)
    assert_close(found, expected)


def settled(network, x, mask="preact"):
    """The adjoint behind a forward phase."""
    with torch.no_grad():
        walk = ForwardPhase(network, network.encode(x))
        for length in walk.pieces(None):
            walk.advance(length)
    return Adjoint(network, walk, mask)


def test_the_clamp_is_open_at_its_ends():
    """Currents of exactly 0 and Delta count as within; just outside of them, as beyond."""
    network = feedback_net(5, (5,), 2).double()
    with torch.no_grad():
        network.layers[0].weight.copy_(torch.eye(5))
        network.feedback.weight.zero_()
    adjoint = settled(network, torch.tensor([[0.0, 2.0, -1e-9, 2.0 + 1e-9, 1.0]], dtype=torch.float64))
    assert adjoint.masks[0].tolist() == [[1, 1, 0, 0, 1]]


@pytest.mark.parametrize("damping", [1.0, 0.5])
def test_the_damped_iteration_ends_at_the_solution_of_the_undamped_system(damping):
    """(I - J^T)^-1 g, whatever the damping; not (2 I - J^T)^-1 g."""
    torch.manual_seed(0)
    network = feedback_net(30, (50,), 4).double()
    adjoint = settled(network, 2 * torch.randn(6, 30, dtype=torch.float64))
    g = torch.randn(6, 50, dtype=torch.float64)
    (errors,), found = solve_adjoint(adjoint, g, steps=400, tolerance=1e-13, damping=damping)
    mask, weight = adjoint.masks[0], network.feedback.weight.detach()
    assert 0.2 < mask.mean() < 0.8
    for sample in range(6):
        jacobian = mask[sample].unsqueeze(1) * weight / 2
        system = torch.eye(50, dtype=torch.float64) - jacobian.t()
        beta = torch.linalg.solve(system, g[sample])
        torch.testing.assert_close(found.state[0][sample], beta, rtol=0, atol=1e-9)
        torch.testing.assert_close(errors[sample], mask[sample] * beta / 2, rtol=0, atol=1e-9)
        assert (beta - torch.linalg.solve(system + torch.eye(50, dtype=torch.float64), g[sample])).abs().max() > 0.1
    assert found.converged
    assert found.residual <= 1e-13


def kernel_matrix(synapse):
    """The matrix [outputs, inputs] of a convolution, or of a transposed one, entry by entry."""
    weight, geometry = synapse.weight.detach().numpy(), synapse.geometry
    c_in, h_in, w_in = synapse.source
    c_out, h_out, w_out = synapse.shape
    matrix = np.zeros((c_out, h_out, w_out, c_in, h_in, w_in))
    # Both are one relation between the positions of the larger maps (where kernels lie) and of the smaller ones (strides).
    strided, spread = ((h_in, w_in), (h_out, w_out)) if geometry.transposed else ((h_out, w_out), (h_in, w_in))
    for row in range(strided[0]):
        for column in range(strided[1]):
            for i in range(geometry.kernel):
                for j in range(geometry.kernel):
                    r, c = row * geometry.stride + i - geometry.padding, column * geometry.stride + j - geometry.padding
                    if not (0 <= r < spread[0] and 0 <= c < spread[1]):
                        continue
                    if geometry.transposed:
                        matrix[:, r, c, :, row, column] += weight[:, :, i, j].T
                    else:
                        matrix[:, row, column, :, r, c] += weight[:, :, i, j]
    return matrix.reshape(synapse.outputs, -1)


def test_convolutions_against_their_explicit_matrices():
    network = make("convolutions, transposed feedback")
    x, _ = batch_of(network)
    adjoint = settled(network, x)
    g = torch.randn(5, *network.layers[1].shape, dtype=torch.float64)
    errors, _ = solve_adjoint(adjoint, g, steps=2000, tolerance=1e-14, damping=0.5)
    forward, back = kernel_matrix(network.layers[1]), kernel_matrix(network.feedback)
    first, last = network.layers[0].outputs, network.layers[1].outputs
    for sample in range(5):
        open_ = np.concatenate([mask[sample].flatten().numpy() for mask in adjoint.masks])
        jacobian = np.zeros((first + last, first + last))
        jacobian[:first, first:], jacobian[first:, :first] = back, forward
        jacobian *= open_[:, None] / 2
        wanted = np.concatenate([np.zeros(first), g[sample].flatten().numpy()])
        beta = np.linalg.solve(np.eye(first + last) - jacobian.T, wanted)
        found = np.concatenate([error[sample].flatten().numpy() for error in errors])
        np.testing.assert_allclose(found, open_ * beta / 2, rtol=0, atol=1e-9)


def test_without_feedback_one_sweep_is_all():
    network = make("no feedback")
    x, y = batch_of(network)
    _, result = gradients(IDE(solver_steps=1), network, x, y)
    assert result.diagnostics == {"solver_steps": 0.0, "solver_residual": 0.0, "not_converged": 0.0}


@pytest.mark.parametrize("frozen", ["layers.0.", "layers.", "feedback.", "readout."])
@pytest.mark.parametrize("name", ["three layers, batch norm", "no feedback", "no feedback, one layer"])
def test_frozen_parameters_change_nothing_for_the_others(name, frozen):
    network = make(name)
    x, y = batch_of(network)
    expected, _ = gradients(IDE(**EXACT), copy.deepcopy(network), x, y)
    for key, parameter in network.named_parameters():
        parameter.requires_grad_(not key.startswith(frozen))
    found, _ = gradients(IDE(**EXACT), network, x, y)
    assert_close(found, {key: value for key, value in expected.items() if not key.startswith(frozen)}, 1e-12)


# Batch norm


@pytest.mark.parametrize("norm", ["bn_step", "bn_time"])
def test_running_statistics_move_once_by_those_of_the_mean_currents(norm):
    torch.manual_seed(0)
    network = feedback_net(7, (9, 8), 4, norm=norm, steps=12).double()
    x, y = batch_of(network)
    plain = Plain(network, x, y)
    rates, _ = plain.simulate()
    heard = [plain.mean_frame, plain.sent(0, rates[0])]
    IDE().gradients(network, x, y)
    for index, layer in enumerate(network.layers):
        seen = plain.synapse(f"layers.{index}", layer, heard[index]).detach()
        norm_of = layer.batch_norm
        assert int(norm_of.num_batches_tracked) == 1
        torch.testing.assert_close(norm_of.running_mean, 0.1 * seen.mean(0), rtol=0, atol=1e-12)
        torch.testing.assert_close(norm_of.running_var, 0.9 + 0.1 * seen.var(0), rtol=0, atol=1e-12)


def test_statistics_stay_in_eval_mode_and_in_the_forward_phase():
    network = make("three layers, batch norm")
    x, y = batch_of(network)
    before = copy.deepcopy(network.state_dict())
    settled(network, x)
    IDE().gradients(network.eval(), x, y)
    equilibrium_rates(network, x)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("norm", ["bn_step", "bn_time"])
def test_a_batch_of_one_is_refused_by_batch_norm_before_gradients_are_filled(norm):
    network = feedback_net(7, (9,), 4, norm=norm)
    x, y = torch.randn(1, 7), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match=f"norm='{norm}' cannot take the variance of a batch of one sample.*eval"):
        IDE().gradients(network, x, y)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not int(network.layers[0].batch_norm.num_batches_tracked)
    IDE().gradients(network.eval(), x, y)
