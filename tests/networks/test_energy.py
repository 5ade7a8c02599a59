"""Energy networks: their step is the gradient of the primitive (by autograd), their input is refused where it does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import lava_snnlearn as snn
from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.networks import EnergyNetwork, energy_net
from lava_snnlearn.networks.energy import ACTIVATIONS

SIZES = (5, 7, 6, 3)
RHO = {
    "hard_sigmoid": lambda x: torch.relu(x) - torch.relu(x - 1),
    "sigmoid": lambda x: 1 / (1 + torch.exp(2 - 4 * x)),
    "tanh": lambda x: (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1),
}


def make(setting: str, activation: str, *, seed: int = 0, scale: float = 2.0, steps: int = 25) -> EnergyNetwork:
    torch.manual_seed(seed)
    network = energy_net(SIZES, setting=setting, activation=activation, steps=steps, step_size=0.3).double()
    with torch.no_grad():
        for weight, bias in zip(network.weights, network.biases, strict=True):
            weight.mul_(scale)
            bias.normal_(0.3, 0.2)
    return network


def batch(samples: int = 4, seed: int = 1) -> tuple[Tensor, tuple[Tensor, ...]]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(samples, SIZES[0], generator=draw, dtype=torch.float64)
    return x, tuple(torch.rand(samples, n, generator=draw, dtype=torch.float64) for n in SIZES[1:])


def primitive(network: EnergyNetwork, x: Tensor, state: tuple[Tensor, ...], eps: float, rho) -> Tensor:
    """Phi, written out from its definition."""
    sent = [x, *(rho(layer) for layer in state)]
    total = sum((1 - eps) / 2 * (layer**2).sum() for layer in state)
    for index, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        total = total + eps * torch.einsum("bi,ij,bj->", sent[index + 1], weight, sent[index])
        total = total + eps * (sent[index + 1] @ bias).sum()
    return total


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_a_step_in_the_energy_setting_is_the_gradient_of_the_primitive(activation):
    network = make("energy", activation)
    x, state = batch()
    leaves = tuple(layer.clone().requires_grad_() for layer in state)
    phi = primitive(network, x, leaves, 0.3, RHO[activation])
    expected = torch.autograd.grad(phi, leaves)
    for found, wanted in zip(network.dynamics(x)(state), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("setting", ["energy", "prototypical"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_gradient_of_the_primitive_with_respect_to_parameters(setting, activation):
    network = make(setting, activation)
    x, state = batch()
    energy = setting == "energy"
    rho = RHO[activation] if energy else (lambda s: s)
    phi = primitive(network, x, state, 0.3 if energy else 1.0, rho)
    expected = torch.autograd.grad(phi, list(network.parameters()))
    found = network.primitive_gradient(x, state)
    assert [tuple(part.shape) for part in found] == [tuple(p.shape) for p in network.parameters()]
    for part, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_a_prototypical_step_neuron_by_neuron(activation):
    network = make("prototypical", activation)
    x, state = batch(2)
    target, beta = torch.eye(3, dtype=torch.float64)[:2], -0.25
    found = network.dynamics(x, beta, target)(state)
    chain = [x, *state]
    for layer in range(3):
        for sample in range(2):
            for neuron in range(SIZES[layer + 1]):
                drive = network.biases[layer][neuron] + sum(
                    network.weights[layer][neuron, i] * chain[layer][sample, i] for i in range(SIZES[layer])
                )
                if layer < 2:
                    drive = drive + sum(
                        network.weights[layer + 1][i, neuron] * chain[layer + 2][sample, i] for i in range(SIZES[layer + 2])
                    )
                wanted = RHO[activation](drive)
                if layer == 2:
                    wanted = wanted - beta * (state[2][sample, neuron] - target[sample, neuron])
                assert abs(float(found[layer][sample, neuron] - wanted)) < 1e-12


def test_with_the_hard_sigmoid_both_settings_have_the_same_equilibrium():
    slow, fast = (make(setting, "hard_sigmoid", scale=3.0, steps=1000) for setting in ("energy", "prototypical"))
    x, _ = batch(20)
    answer = slow.answer(x)
    torch.testing.assert_close(answer, fast.answer(x), rtol=0, atol=1e-9)
    assert float(answer.min()) == 0.0  # and some states are held at an end, so that this says something


def test_answer_is_the_last_layer_after_all_steps_from_zero():
    network = make("prototypical", "tanh", steps=3)
    x, _ = batch()
    state = tuple(torch.zeros(4, n, dtype=torch.float64) for n in SIZES[1:])
    for _ in range(3):
        state = network.dynamics(x)(state)
    assert torch.equal(network.answer(x), state[-1])
    assert not network.answer(x).requires_grad
    assert network(x).requires_grad
    assert torch.equal(network.predict(x), state[-1].argmax(1))


def test_what_a_network_says_of_itself():
    network = energy_net([64, 32, 10], setting="energy", activation="tanh", steps=7, step_size=0.5)
    assert (network.input_shape, network.inputs, network.classes, network.steps, network.neurons) == ((64,), 64, 10, 7, 42)
    assert "setting='energy', activation='tanh', steps=7, step_size=0.5" in repr(network)
    assert network.like.shape == (32, 64)
    assert snn.networks.energy_net is energy_net


def test_states_start_amidst_the_slope():
    torch.manual_seed(0)
    network = energy_net([64, 64, 10])
    answer = network.answer(torch.rand(200, 64))
    assert float(((answer > 0) & (answer < 1)).float().mean()) > 0.98


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"sizes": [5]}, ValueError, "sizes"),
        ({"sizes": [5, 0, 2]}, ValueError, "sizes"),
        ({"sizes": [5, 2.0]}, TypeError, r"sizes\[1\]"),
        ({"setting": "prototypcal"}, UnknownNameError, "Did you mean 'prototypical'"),
        ({"activation": "relu"}, UnknownNameError, "activation 'relu'"),
        ({"steps": 0}, ValueError, "steps is 0"),
        ({"step_size": 0.0}, ValueError, "step_size is 0.0"),
        ({"step_size": 1.5}, ValueError, "step_size is 1.5"),
        ({"step_size": "fast"}, TypeError, "step_size"),
    ],
)
def test_bad_arguments_are_refused(change, error, text):
    with pytest.raises(error, match=text):
        energy_net(**({"sizes": [5, 4, 2]} | change))


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (torch.full((2, 5), 1.5), "reaches from 1.5 to 1.5; scale it"),
        (torch.full((2, 5), -0.1), "scale it to"),
        (torch.zeros(25, 2, 5), "settles on static input"),
        (torch.zeros(2, 4), "expected|takes"),
        (torch.full((2, 5), float("nan")), "NaN"),
        (torch.zeros(2, 5, dtype=torch.int64), "dtype"),
    ],
)
def test_input_that_does_not_fit_is_refused(x, text):
    with pytest.raises(ValueError, match=text):
        energy_net([5, 4, 2]).predict(x)


def test_digits_in_the_unit_range_are_taken():
    data = snn.data.load("digits", scale="unit")
    found = energy_net([64, 8, 10]).predict(torch.from_numpy(data.test.x[:3]))
    assert found.shape == (3,)
    assert np.isin(found.numpy(), np.arange(10)).all()
