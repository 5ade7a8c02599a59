"""Gradients of DFA, FA and OPZO against the same equations in numpy, step by step; as OTTT where feedback is exact."""

from __future__ import annotations

import copy
import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.methods import DFA, FA, OPZO, OTTT, Loss, alignment
from lava_snnlearn.methods.perturbation import Noise
from lava_snnlearn.neurons import LIF, Rectangle, Sigmoid
from lava_snnlearn.testing.kinds import KINDS, samples, small_network

TOLERANCE = 1e-12
NEURONS = [LIF(), LIF(leak=0.25, threshold=0.8, surrogate=Sigmoid(2.0)), LIF(surrogate=Rectangle(1.5))]


def phi(surrogate, x):
    a = surrogate.a
    if isinstance(surrogate, Rectangle):
        return np.where(np.abs(x) <= a / 2, 1 / a, 0.0)
    return a * np.exp(-a * x) / (1 + np.exp(-a * x)) ** 2


def loss_gradient(output, y, loss):
    """Of the mean over a batch [B, classes]."""
    hot = np.eye(output.shape[1])[y]
    raised = np.exp(output - output.max(1, keepdims=True))
    entropy = (raised / raised.sum(1, keepdims=True) - hot) / len(y)
    return (1 - loss.mse_weight) * entropy + loss.mse_weight * 2 * (output - hot) / output.size


def reference(task, feedback, loss=None, noise=None, alpha=0.0, position="post"):
    """Gradients of a chain without norm.

    feedback(t, layer, output, error, later) -> gradient of the layer's spikes [B, n] at step t; ``later``: the potential's
    gradient of the layer above (the error itself above the last one). noise: z [T, B, n] of each layer.
    """
    network, steps = task.network, task.network.steps
    modules = [*network.spiking_layers, network.readout]
    weights, biases = ([getattr(m, name).detach().numpy() for m in modules] for name in ("weight", "bias"))
    neuron, layers = network.spiking_layers[0].neuron, len(modules) - 1
    lam, x, y = 1 - neuron.leak, task.x.numpy(), task.y.numpy()
    x = x if x.ndim == 3 else np.repeat(x[None], steps, 0)
    v, traces, constant = [0.0] * layers, [0.0] * layers, 0.0
    grads = {}

    def add(name, value):
        grads[name] = grads.get(name, 0.0) + value

    for t in range(steps):
        heard, potentials, constant = x[t], [], lam * constant + 1
        clean = []
        for index in range(layers):
            traces[index] = lam * traces[index] + (clean[-1] if index else x[t])
            u = lam * v[index] + heard @ weights[index].T + biases[index]
            if noise is not None and position == "pre":
                u = u + alpha * noise[index][t]
            s = (u >= neuron.threshold).astype(float)
            v[index] = u - neuron.threshold * s
            potentials.append(u)
            clean.append(s)
            heard = s + alpha * noise[index][t] if noise is not None and position == "post" else s
        output = heard @ weights[-1].T + biases[-1]
        error = later = loss_gradient(output, y, loss or Loss()) / steps
        add("readout.weight", error.T @ heard)
        add("readout.bias", error.sum(0))
        for index in reversed(range(layers)):
            later = phi(neuron.surrogate, potentials[index] - neuron.threshold) * feedback(t, index, output, error, later)
            add(f"layers.{index}.weight", later.T @ traces[index])
            add(f"layers.{index}.bias", constant * later.sum(0))
    return grads


@pytest.mark.parametrize("static", [False, True], ids=["new frames", "static"])
@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
def test_dfa_is_the_error_times_fixed_matrices(make_task, fill, neuron, static):
    task, method = make_task(neuron=neuron, static=static), DFA(scale=1.7, seed=3)
    found = fill(method, task)
    matrices = [task.network.memory[f"dfa.3.{index}"].numpy() for index in range(3)]
    assert [matrix.shape for matrix in matrices] == [(9, 4), (8, 4), (6, 4)]
    scale = 1.7 / math.sqrt(4)
    assert found.distance(reference(task, lambda t, i, o, e, later: e @ (scale * matrices[i]).T)) < TOLERANCE


@pytest.mark.parametrize("feedback", ["random", "sign"])
@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
def test_fa_goes_back_through_other_weights(make_task, fill, neuron, feedback):
    task = make_task(neuron=neuron)
    found = fill(FA(feedback=feedback, scale=0.6, seed=2), task)
    names = ["layers.1", "layers.2", "readout"]
    weights = [task.network.get_submodule(name).weight.detach().numpy() for name in names]
    if feedback == "random":
        back = [task.network.memory[f"fa.2.{name}"].numpy() for name in names]
        assert [b.shape for b in back] == [w.shape for w in weights]
    else:
        back = [np.sign(w) for w in weights]
    back = [0.6 * b / math.sqrt(b.shape[1]) for b in back]
    assert found.distance(reference(task, lambda t, i, o, e, later: later @ back[i])) < TOLERANCE


OPZOS = [
    OPZO(),
    OPZO(bias_correction=False, keep_alpha=False),
    OPZO(noise="gaussian", antithetic=False, alpha=0.4, momentum=0.75),
    OPZO(noise="sphere", antithetic=False, baseline=False),
    OPZO(noise="gaussian", position="pre"),
    OPZO(estimator="single_point", noise="gaussian"),
]


def noise_of(method, network, batch, seed):
    torch.manual_seed(seed)
    source = Noise(method.noise, method.antithetic, len(network.populations), network.like)
    return [source.draw(index, batch, p.shape, network.steps).numpy() for index, p in enumerate(network.populations)]


class OpzoFeedback:
    """The matrices of OPZO, one step after the other, over as many batches as it is used for."""

    def __init__(self, method, sizes, classes):
        self.method, self.m, self.k = method, [np.zeros((n, classes)) for n in sizes], 0
        self.mean = np.zeros(classes)

    def on(self, noise):
        self.noise, self.last = noise, -1
        return self

    def __call__(self, t, index, output, error, later):
        method, alpha = self.method, self.method.alpha if self.method.keep_alpha else 1.0
        if method.estimator == "single_point":
            return self.noise[index][t] * (output * error).sum(1, keepdims=True) / alpha
        if t != self.last:
            self.last, self.k = t, self.k + 1
            plain = not method.antithetic and method.baseline
            centred = output - self.mean if plain else output
            for number, z in enumerate(self.noise):
                pair = np.einsum("bn,bm->nm", z[t], centred) / len(output) / alpha
                self.m[number] = method.momentum * self.m[number] + (1 - method.momentum) * pair
            self.mean = self.mean + (output.mean(0) - self.mean) / min(self.k, 100)
        correction = 1 - method.momentum**self.k if method.bias_correction else 1.0
        return error @ self.m[index].T / correction


@pytest.mark.parametrize("static", [False, True], ids=["new frames", "static"])
@pytest.mark.parametrize("method", OPZOS, ids=lambda method: f"{method.noise} {method.position} {method.estimator}")
def test_opzo_learns_its_matrices_and_uses_them(make_task, fill, method, static):
    """Three batches, so that the second and third find matrices; in pieces of two steps."""
    task = make_task(static=static)
    feedback = OpzoFeedback(method, (9, 8, 6), 4)
    for seed in (1, 2, 3):
        found = fill(dataclasses.replace(method, chunk=2), task, seed)
        noise = noise_of(method, task.network, 5, seed)
        expected = reference(task, feedback.on(noise), None, noise, method.alpha, method.position)
        scale = max(float(np.abs(value).max()) for value in expected.values())
        assert found.distance(expected) < TOLERANCE * scale
    for index, matrix in enumerate(feedback.m if method.estimator == "momentum" else ()):
        np.testing.assert_allclose(task.network.memory[f"opzo.M.readout.{index}"].numpy(), matrix, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", OPZOS[:1], ids=lambda method: method.noise)
def test_in_eval_mode_there_is_no_noise_and_nothing_is_learned(make_task, fill, method):
    task = make_task()
    fill(method, task)
    kept = {key: value.clone() for key, value in task.network.memory.items()}
    matrices = [kept[f"opzo.M.readout.{index}"].numpy() / (1 - method.momentum**6) for index in range(3)]
    task.network.eval()
    found = fill(method, task)
    assert found.distance(reference(task, lambda t, i, o, e, later: e @ matrices[i].T)) < TOLERANCE * 10
    assert kept.keys() == task.network.memory.keys()
    assert all(torch.equal(value, task.network.memory[key]) for key, value in kept.items())


def test_local_errors_join_the_direct_ones(make_task, fill):
    """One step of time: the local readouts, which start at 0, learn after the first batch and teach in the second."""
    method = OPZO(local_learning=True, local_rate=0.7, alpha=0.3)
    task = make_task(steps=1)
    sizes, weights, biases = (9, 8, 6), {}, {}
    feedback = OpzoFeedback(dataclasses.replace(method, local_learning=False), sizes, 4)
    spikes = {}
    for seed in (1, 2):
        noise = noise_of(method, task.network, 5, seed)
        spikes = forward_spikes(task, noise, method.alpha)
        local = {}
        for index in (0, 1):
            weight, bias = weights.get(index, np.zeros((4, sizes[index]))), biases.get(index, np.zeros(4))
            error = loss_gradient(spikes[index] @ weight.T + bias, task.y.numpy(), Loss())
            local[index] = error @ weight
            weights[index], biases[index] = weight - 0.7 * error.T @ spikes[index], bias - 0.7 * error.sum(0)
        direct = feedback.on(noise)
        expected = reference(
            task, lambda t, i, o, e, later, d=direct, s=local: d(t, i, o, e, later) + s.get(i, 0.0), None, noise, method.alpha
        )
        assert fill(method, task, seed).distance(expected) < 1e-11
    for index in (0, 1):
        np.testing.assert_allclose(task.network.memory[f"opzo.local.weight.{index}"].numpy(), weights[index], atol=1e-13)
        assert np.abs(weights[index]).max() > 0.01
    assert "opzo.local.weight.2" not in task.network.memory


def forward_spikes(task, noise, alpha):
    """Spikes [B, n] of every layer in the only step."""
    found, heard = [], task.x.numpy()[0]
    for layer, z in zip(task.network.spiking_layers, noise, strict=True):
        found.append((heard @ layer.weight.detach().numpy().T + layer.bias.detach().numpy() >= 1.0).astype(float))
        heard = found[-1] + alpha * z[0]
    return found


def test_an_intermediate_readout_teaches_all_before_it(make_task, fill):
    """Its matrices correlate the noise of those before with its own output."""
    method, task = (
        OPZO(intermediate=[2], momentum=0.5, bias_correction=False, antithetic=False, baseline=False),
        make_task(steps=1),
    )
    fill(method, task, 1)
    memory = task.network.memory
    assert {key for key in memory if key.startswith("opzo.M.2")} == {"opzo.M.2.0", "opzo.M.2.1"}
    weight = memory["opzo.local.weight.2"].numpy()
    before = {key: memory[key].numpy().copy() for key in ("opzo.M.2.0", "opzo.M.2.1")}
    bias = memory["opzo.local.bias.2"].numpy()
    noise = noise_of(method, task.network, 5, 2)
    output = forward_spikes(task, noise, method.alpha)[2] @ weight.T + bias
    fill(method, task, 2)
    for index in (0, 1):
        wanted = 0.5 * before[f"opzo.M.2.{index}"] + 0.5 * noise[index][0].T @ output / 5 / method.alpha
        np.testing.assert_allclose(memory[f"opzo.M.2.{index}"].numpy(), wanted, rtol=1e-12, atol=1e-12)


def test_equal_settings_of_intermediate_readouts_have_one_form():
    assert OPZO(intermediate=2) == OPZO(intermediate=[2])
    assert OPZO(intermediate=[2, 1, 2]).intermediate == (1, 2)


def exact_feedback(network):
    """What a readout of the last population's spikes sends back for an error, by autograd: J^T [n, classes]."""
    readout, shape = network.readout, network.populations[-1].shape
    spikes = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    return torch.stack([torch.autograd.grad(out, spikes, retain_graph=True)[0].flatten() for out in readout(spikes)[0]], 1)


SHALLOW = {
    "dense": partial(snn.networks.mlp, [12, 10, 4]),
    "recurrent": partial(snn.networks.mlp, [12, 10, 4], recurrent=True),
    "global average": partial(snn.networks.conv_net, (1, 6, 6), "5C3-GAP", 4),
    "pool": partial(snn.networks.conv_net, (2, 6, 6), "5C3-P2", 4),
}


@pytest.mark.parametrize("norm", ["none", "sws", "bn_step"])
@pytest.mark.parametrize("kind", SHALLOW)
def test_dfa_with_the_exact_matrix_is_ottt_below_one_layer(fill, make_task, kind, norm):
    torch.manual_seed(0)
    network = SHALLOW[kind](norm=norm, steps=5).double()
    torch.nn.init.normal_(network.readout.weight)
    x = samples(network, 6, frames=True)
    task = type(make_task())(network, x, torch.arange(6) % 4)
    expected = fill(OTTT(), task)
    network.memory["dfa.0.0"] = exact_feedback(network) * math.sqrt(4)
    assert fill(DFA(), task).distance(expected.grads) < 1e-12
    assert np.abs(expected.grads["layers.0.weight"]).max() > 1e-3


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"dense, batch norm over time"}))
def test_fa_with_the_weights_themselves_is_ottt(fill, make_task, kind):
    options = {"norm": "bn_step"} if "DSR" in kind else {}
    network = small_network(kind, steps=5, **options).double()
    x = samples(network, 4, frames=True)
    task = type(make_task())(network, x, torch.arange(4) % 4)
    expected = fill(OTTT(), task)
    fill(FA(), task)
    drawn = [key for key in network.memory if key.startswith("fa.0.")]
    for key in drawn:
        synapse = network.get_submodule(key.removeprefix("fa.0."))
        network.memory[key] = synapse.effective_weight().detach() * math.sqrt(synapse.weight[0].numel())
    found = fill(FA(), task)
    scale = max(float(np.abs(value).max()) for value in expected.grads.values())
    assert found.distance(expected.grads) < TOLERANCE * max(1.0, scale)
    assert len(drawn) >= 1


@pytest.mark.parametrize("kind", ["pre-activation residual", "normaliser-free residual", "feedback, pipelined"])
@pytest.mark.parametrize("method", [DFA(), FA(), OPZO(), OPZO(position="pre")], ids=lambda method: method.name)
def test_every_weight_of_networks_with_blocks_gets_a_gradient(kind, method):
    network = small_network(kind, steps=6).double()
    method.gradients(network, samples(network, 4), torch.arange(4) % 4)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
    assert all(float(p.grad.abs().max()) > 0 for p in network.parameters() if p.dim() > 1)


def test_feedback_weights_depend_on_the_seed_alone(make_task, fill):
    task = make_task()
    first = fill(DFA(), task, 1).grads
    task.network.memory.clear()
    assert fill(DFA(), task, 2).distance(first) == 0
    assert fill(DFA(seed=1), task, 1).distance(first) > 1e-3
    assert set(task.network.memory) == {f"dfa.{seed}.{index}" for seed in (0, 1) for index in range(3)}
    drawn = torch.cat([value.flatten() for value in task.network.memory.values()])
    assert abs(float(drawn.mean())) < 4 / math.sqrt(len(drawn))
    assert abs(float(drawn.var()) - 1) < 4 * math.sqrt(2 / len(drawn))


def test_alignment_is_the_cosine_with_ottt(make_task, fill):
    task = make_task()
    found, expected = fill(DFA(), task), fill(OTTT(), task)
    before, state = copy.deepcopy(task.network.state_dict()), torch.get_rng_state()
    cosines = alignment(task.network, DFA(), task.x, task.y)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in task.network.state_dict().items())
    assert list(cosines) == ["layers.0.weight", "layers.1.weight", "layers.2.weight", "readout.weight"]
    for name, cosine in cosines.items():
        a, b = found.grads[name].ravel(), expected.grads[name].ravel()
        assert cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)
    assert cosines["readout.weight"] == pytest.approx(1)
    assert alignment(task.network, OTTT(), task.x, task.y, reference=DFA()) == pytest.approx(cosines)


@pytest.mark.parametrize(
    "make, error, parts",
    [
        (lambda: OPZO(noise="gausian"), ValueError, ["'gausian'", "'gaussian'"]),
        (lambda: OPZO(position="posst"), ValueError, ["'posst'", "'post'"]),
        (lambda: OPZO(estimator="single"), ValueError, ["'single'", "single_point"]),
        (lambda: OPZO(update="onlin"), ValueError, ["'onlin'", "'online'"]),
        (lambda: OPZO(alpha=0), ValueError, ["alpha is 0", "> 0"]),
        (lambda: OPZO(alpha=math.inf), ValueError, ["alpha is inf"]),
        (lambda: OPZO(momentum=1.0), ValueError, ["momentum is 1.0", "[0, 1)"]),
        (lambda: OPZO(local_rate=-1), ValueError, ["local_rate is -1"]),
        (lambda: OPZO(antithetic=1), TypeError, ["antithetic is 1", "True or False"]),
        (lambda: OPZO(intermediate=1.5), TypeError, ["intermediate is 1.5", "integer"]),
        (lambda: OPZO(intermediate=(1.5,)), TypeError, ["intermediate is 1.5", "integer"]),
        (lambda: OPZO(chunk=0), ValueError, ["chunk is 0"]),
        (lambda: DFA(scale=0.0), ValueError, ["scale is 0.0", "> 0"]),
        (lambda: DFA(seed=-1), ValueError, ["seed is -1"]),
        (lambda: FA(feedback="signs"), ValueError, ["'signs'", "'sign'"]),
        (lambda: FA(seed=0.5), TypeError, ["seed is 0.5"]),
        (lambda: DFA(loss=Loss), TypeError, ["the class Loss"]),
    ],
)
def test_bad_options_are_refused(make, error, parts):
    with pytest.raises(error) as refusal:
        make()
    for part in parts:
        assert part in str(refusal.value)


@pytest.mark.parametrize("index", [0, 3, -1])
def test_intermediate_readouts_need_populations_before_them(make_task, index):
    task = make_task()
    with pytest.raises(ValueError, match=rf"intermediate holds {index}; .* are 1\.\.2"):
        OPZO(intermediate=(index,)).gradients(task.network, task.x, task.y)
    assert all(parameter.grad is None for parameter in task.network.parameters())


@pytest.mark.parametrize("method", [DFA(), FA(), OPZO()], ids=lambda method: method.name)
def test_batch_norm_over_time_is_refused(make_task, method):
    task = make_task(norm="bn_time")
    with pytest.raises(ValueError, match=r"bn_time.*BPTT"):
        method.gradients(task.network, task.x, task.y)
