"""Equilibrium propagation: gradients against backpropagation and slow references, in both arithmetics; learning; resumption.

Where its update is the gradient: in the energy setting for beta -> 0 (the theorem); in the prototypical setting with the hard
sigmoid as well, but for errors at outputs that are held at 0 or 1, which backpropagation cannot see and the nudge moves.
"""

from __future__ import annotations

import copy
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.methods import EP, relaxation
from lava_snnlearn.networks import EnergyNetwork, energy_net
from lava_snnlearn.testing import methods as conformance
from lava_snnlearn.training import accuracy

BETAS = (1e-1, 1e-2, 1e-3, 1e-4)
STEPS, NUDGED = 4000, 20


@cache
def digits() -> snn.data.Dataset:
    return snn.data.load("digits", scale="unit", valid=0.0)


def images(first: int, last: int) -> tuple[Tensor, Tensor]:
    data = digits().test
    return torch.from_numpy(data.x[first:last]), torch.from_numpy(data.y[first:last])


def gradient(network: EnergyNetwork, method: EP, x: Tensor, y: Tensor) -> list[Tensor]:
    twin = copy.deepcopy(network)
    method.gradients(twin, x, y)
    return [parameter.grad for parameter in twin.parameters()]


def backpropagated(network: EnergyNetwork, x: Tensor, y: Tensor) -> list[Tensor]:
    """Backpropagation through all steps, by autograd."""
    twin = copy.deepcopy(network)
    output = twin(x)
    (0.5 * (output - F.one_hot(y, twin.classes).to(output)).square().sum() / len(y)).backward()
    return [parameter.grad for parameter in twin.parameters()]


def cosine(one: list[Tensor], other: list[Tensor]) -> float:
    a, b = (torch.cat([part.flatten() for part in parts]).double() for parts in (one, other))
    return float(a @ b / (a.norm() * b.norm()))


# --- the theorem -------------------------------------------------------------------------------------------------------------


def tanh_net(seed: int) -> tuple[EnergyNetwork, Tensor, Tensor]:
    torch.manual_seed(seed)
    network = energy_net([5, 8, 6, 4], setting="energy", activation="tanh", steps=STEPS, step_size=0.2).double()
    with torch.no_grad():
        for weight, bias in zip(network.weights, network.biases, strict=True):
            weight.mul_(2.0)
            bias.normal_(0.0, 0.3)
    return network, torch.rand(3, 5, dtype=torch.float64), torch.arange(3)


class Unrolled:
    """The last steps of the free phase with parameters of their own in each step, by the test's own equations."""

    def __init__(self, network: EnergyNetwork, x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            state = network.rest(x)
            for _ in range(STEPS):
                state = network.dynamics(x)(state)
        self.equilibrium, self.target = state, F.one_hot(y, 4).double()
        copies = [[w.detach().clone().requires_grad_() for w in network.weights] for _ in range(NUDGED)]
        states = []
        for weights in copies:
            sent = [x, *(torch.tanh(layer) for layer in state)]
            new = []
            for layer, s in enumerate(state):
                drive = sent[layer] @ weights[layer].T + network.biases[layer].detach()
                if layer < 2:
                    drive = drive + sent[layer + 2] @ weights[layer + 1]
                new.append(0.8 * s + 0.2 * (1 - torch.tanh(s) ** 2) * drive)
            state = tuple(new)
            for layer in state:
                layer.retain_grad()
            states.append(state)
        (0.5 * (state[-1] - self.target).square().sum()).backward()
        # Backward in time: entry t is that of step T - t.
        self.by_state = [[zeros_if_none(layer) for layer in states[-1 - t]] for t in range(NUDGED)]
        self.by_weight = [[zeros_if_none(weight) for weight in copies[-1 - t]] for t in range(NUDGED)]


def zeros_if_none(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def largest_relative_error(found: list[list[Tensor]], gradients: list[list[Tensor]]) -> float:
    """Of found = -gradient, over all steps and layers that have one."""
    errors = [
        float((change + wanted).abs().max() / wanted.abs().max())
        for changes, step in zip(found, gradients, strict=True)
        for change, wanted in zip(changes, step, strict=True)
        if wanted.abs().max() > 0
    ]
    assert len(errors) > 2 * NUDGED
    return max(errors)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_updates_in_the_nudged_phase_are_the_gradients_of_backpropagation_step_by_step(seed):
    network, x, y = tanh_net(seed)
    truth = Unrolled(network, x, y)
    rows = []
    for beta in BETAS:
        with torch.no_grad():
            states = [truth.equilibrium]
            for _ in range(NUDGED):
                states.append(network.dynamics(x, beta, truth.target)(states[-1]))
            products = [network.primitive_gradient(x, state)[:3] for state in states]
            of_states, of_weights = (
                [[(b - a) / beta for a, b in zip(one, two, strict=True)] for one, two in pairwise(parts)]
                for parts in (states, products)
            )
            summed = [(last - first) / beta for first, last in zip(products[0], products[-1], strict=True)]
        expected = [-sum(step[layer] for step in truth.by_weight) for layer in range(3)]
        similarity = min(cosine([a], [b]) for a, b in zip(summed, expected, strict=True))
        rows.append(
            (
                largest_relative_error(of_states, truth.by_state),
                largest_relative_error(of_weights, truth.by_weight),
                similarity,
            )
        )
    neurons, synapses, similarity = np.array(rows).T
    for errors in (neurons, synapses):
        assert 8.5 < errors[1] / errors[2] < 11
        assert 9.5 < errors[2] / errors[3] < 10.5
    assert neurons[3] < 0.005
    assert synapses[3] < 0.02
    assert similarity[3] > 0.9999


@pytest.mark.parametrize("nudge", ["one_sided", "centred"])
def test_the_estimates_bias_is_of_first_or_second_order(nudge):
    """Against the gradient at the equilibrium itself: K large enough for both sides to settle."""
    network, x, y = tanh_net(0)
    network.steps = 500
    wanted = torch.cat([part.flatten() for part in backpropagated(network, x, y)])
    errors = []
    for beta in (3e-2, 1e-2, 3e-3):
        method = EP(beta=beta, nudged_steps=500, nudge=nudge, layer_rate=1.0)
        found = torch.cat([part.flatten() for part in gradient(network, method, x, y)])
        errors.append(float((found - wanted).norm() / wanted.norm()))
    order = np.diff(np.log(errors)) / np.diff(np.log([3e-2, 1e-2, 3e-3]))
    assert np.allclose(order, {"one_sided": 1, "centred": 2}[nudge], atol=0.15)


@pytest.mark.parametrize(
    ("setting", "activation"),
    [("energy", "tanh"), ("energy", "sigmoid"), ("energy", "hard_sigmoid"), ("prototypical", "hard_sigmoid")],
)
def test_in_these_settings_the_update_is_the_gradient(setting, activation):
    torch.manual_seed(0)
    network = energy_net([64, 32, 10], setting=setting, activation=activation, steps=300).double()
    x, y = images(0, 16)
    method = EP(beta=1e-3, nudged_steps=300, layer_rate=1.0)
    assert cosine(gradient(network, method, x.double(), y), backpropagated(network, x.double(), y)) > 0.9999


def test_errors_at_outputs_that_are_held_make_the_difference():
    """Wide initial weights drive outputs of the net to 0 and 1: where these are wrong, backpropagation is blind."""
    torch.manual_seed(0)
    network = energy_net([64, 64, 10])
    with torch.no_grad():
        for weight in network.weights:
            weight.mul_(2.0)
    x, y = images(0, 64)
    answer = network.answer(x)
    held = (answer <= 0) | (answer >= 1)
    wrong = (answer - F.one_hot(y, 10)).abs() > 0.5
    assert (held & wrong).float().mean() > 0.02
    method = EP(layer_rate=1.0)
    assert 0.3 < cosine(gradient(network, method, x, y), backpropagated(network, x, y)) < 0.9
    # Small weights bring the outputs back into (0, 1), and the two together.
    with torch.no_grad():
        network.weights[1].mul_(0.2)
    assert cosine(gradient(network, method, x, y), backpropagated(network, x, y)) > 0.97


# --- integers ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_integer_updates_point_where_backpropagation_does(seed, epochs):
    """At the start, and while it learns; later, errors are few and small beside the nudge, and it takes a smaller one."""
    torch.manual_seed(seed)
    network = energy_net([64, 64, 10])
    if epochs:
        snn.Trainer(network, EP(), digits(), epochs=epochs, seed=seed, batch_size=32, progress=False).fit()
    x, y = images(0, 64)
    truth = backpropagated(network, x, y)
    for beta in (0.25, 0.5):
        floats, integers = (
            gradient(network, EP(beta=beta, arithmetic=kind, layer_rate=1.0), x, y) for kind in ("float", "integer")
        )
        print(f"epochs {epochs}, beta {beta}: {cosine(integers, truth):.4f}, to float EP {cosine(integers, floats):.4f}")
        assert cosine(integers, truth) >= (0.9 if beta == 0.25 or epochs < 5 else 0.8)
        assert cosine(integers, floats) >= 0.95


def scalar_phases(weights, mantissas, exponents, shift, x, y, beta, steps, nudged_steps):
    """One sample in Python's integers: the states after the free and after the nudged phase."""
    sizes = [len(row) for row in mantissas]
    state = [[0] * n for n in sizes]
    free = None
    for step in range(steps + nudged_steps):
        if step == steps:
            free = state
        new = []
        for layer, size in enumerate(sizes):
            below = x if layer == 0 else state[layer - 1]
            row = []
            for i in range(size):
                total = int(mantissas[layer][i]) * 2 ** exponents[layer]
                total += sum(int(w) * v for w, v in zip(weights[layer][i], below, strict=True))
                if layer + 1 < len(sizes):
                    total += sum(int(weights[layer + 1][j][i]) * v for j, v in enumerate(state[layer + 1]))
                value = max(0, min(127, total // 2**shift))
                if layer + 1 == len(sizes) and step >= steps:
                    value += (beta * (y[i] - state[layer][i]) + 128) // 256
                row.append(value)
            new.append(row)
        state = new
    return free, state


@pytest.mark.parametrize("nudge", ["centred", "one_sided"])
def test_integer_gradient_neuron_by_neuron(nudge):
    from lava_snnlearn.fixed_point.energy_networks import energy_integers

    torch.manual_seed(3)
    network = energy_net([5, 4, 3], steps=6).double()
    with torch.no_grad():
        for weight in network.weights:
            weight.mul_(3.0)
    x, y = torch.rand(2, 5, dtype=torch.float64), torch.tensor([2, 0])
    chip = energy_integers(network)
    numbers = chip.weights, chip.mantissas, chip.exponents, chip.shift
    expected = [np.zeros(tuple(parameter.shape)) for parameter in network.parameters()]
    for frame, label in zip(x, y, strict=True):
        payload = [round(127 * float(value)) for value in frame]
        target = [127 * int(i == label) for i in range(3)]
        free, up = scalar_phases(*numbers, payload, target, 77, 6, 4)
        down = scalar_phases(*numbers, payload, target, -77, 6, 4)[1] if nudge == "centred" else free
        span = (2 if nudge == "centred" else 1) * 77 / 256 * 127**2 * 2
        for layer in range(2):
            for sign, state in ((-1, up), (1, down)):
                chain = [payload, *state]
                expected[layer] += sign * np.outer(chain[layer + 1], chain[layer]) / span * 0.25**layer
                expected[2 + layer] += sign * np.array(chain[layer + 1]) * 127 / span * 0.25**layer
    method = EP(beta=0.3, nudged_steps=4, nudge=nudge, arithmetic="integer", layer_rate=0.25)  # round(256 * 0.3) = 77
    found = gradient(network, method, x, y)
    for part, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(part.numpy(), wanted, rtol=1e-12, atol=1e-14)
    assert all(np.abs(wanted).max() > 0 for wanted in expected)


def test_integer_outputs_are_those_of_the_chip():
    torch.manual_seed(0)
    network = energy_net([64, 32, 10])
    x, y = images(0, 50)
    result = EP(arithmetic="integer").gradients(network, x, y)
    found = snn.emulate(snn.quantize(network), x.numpy(), record="outputs").outputs
    np.testing.assert_array_equal((result.outputs * 127).round().numpy(), found)


def test_integers_refuse_what_the_chip_does_not_compute():
    x, y = images(0, 4)
    with pytest.raises(ValueError, match="'prototypical' with 'hard_sigmoid'"):
        EP(arithmetic="integer").gradients(energy_net([64, 8, 10], activation="tanh"), x, y)
    network = energy_net([64, 8, 10])
    with torch.no_grad():
        network.weights[0][0, 0] = 1000.0
    with pytest.raises(LimitError, match="too large"):
        EP(arithmetic="integer").gradients(network, x, y)
    assert all(parameter.grad is None for parameter in network.parameters())


# --- manners -----------------------------------------------------------------------------------------------------------------


def test_float_gradient_from_its_definition():
    torch.manual_seed(0)
    network = energy_net([64, 8, 6, 10]).double()
    x, y = images(0, 7)
    x, target = x.double(), F.one_hot(y, 10).double()

    def settled(beta: float, state: tuple[Tensor, ...], steps: int) -> tuple[Tensor, ...]:
        for _ in range(steps):
            state = network.dynamics(x, beta, target)(state)
        return state

    with torch.no_grad():
        free = settled(0.0, network.rest(x), 25)
        plus, minus = settled(0.5, free, 10), settled(-0.5, free, 10)
        products = [network.primitive_gradient(x, state) for state in (free, plus, minus)]
        expected = {
            "centred": [(m - p) / (2 * 0.5 * 7) for _, p, m in zip(*products, strict=True)],
            1: [(f - p) / (0.5 * 7) for f, p, _ in zip(*products, strict=True)],
            -1: [(f - m) / (-0.5 * 7) for f, _, m in zip(*products, strict=True)],
        }
    rates = [1, 0.5, 0.25] * 2

    def is_equal(found: list[Tensor], key: object) -> bool:
        scaled = [rate * part for rate, part in zip(rates, expected[key], strict=True)]
        return all(torch.allclose(a, b, rtol=1e-10, atol=1e-14) for a, b in zip(found, scaled, strict=True))

    assert is_equal(gradient(network, EP(), x, y), "centred")
    assert is_equal(gradient(network, EP(nudge="one_sided"), x, y), 1)
    signs = set()
    for seed in range(12):
        torch.manual_seed(seed)
        found = gradient(network, EP(nudge="random_sign"), x, y)
        signs |= {sign for sign in (1, -1) if is_equal(found, sign)}
        assert is_equal(found, 1) or is_equal(found, -1)
    assert signs == {1, -1}


def test_loss_residuals_and_events():
    torch.manual_seed(0)
    network = energy_net([64, 8, 10], steps=4).double()
    x, y = images(0, 9)
    result = EP(nudged_steps=3, nudge="one_sided").gradients(network, x.double(), y)
    with torch.no_grad():
        target, frame = F.one_hot(y, 10).double(), x.double()
        states = [network.rest(frame)]
        for step in range(7):
            update = network.dynamics(frame) if step < 4 else network.dynamics(frame, 0.5, target)
            states.append(update(states[-1]))
        moved = [max(float((b - a).abs().max()) for a, b in zip(*pair, strict=True)) for pair in pairwise(states)]
        levels = [torch.cat([(127 * layer).round() for layer in state], 1) for state in states]
        events = [int((b != a).sum()) for a, b in pairwise(levels)]
    assert result.loss == pytest.approx(float(0.5 * (states[4][-1] - target).square().sum() / 9), rel=1e-12)
    assert result.diagnostics["free_residual"] == pytest.approx(moved[3], rel=1e-9)
    assert result.diagnostics["nudged_residual"] == pytest.approx(moved[6], rel=1e-9)
    assert result.diagnostics["free_events"] == sum(events[:4]) / 9
    assert result.diagnostics["nudged_events"] == sum(events[4:]) / 9
    assert result.spike_rate == sum(events[:4]) / (9 * 18 * 4)
    assert torch.equal(result.outputs, states[4][-1])


@pytest.mark.parametrize("check", [c for c in conformance.CHECKS if c.__name__ != "_check_outputs_are_the_forward"])
def test_integer_arithmetic_passes_the_conformance_suite(check):
    """But for one check: its outputs are those of the chip, not of the float forward (test_integer_outputs_...)."""
    conformance._run(check, EP(arithmetic="integer"), 0)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"beta": 0.0}, ValueError, "beta is 0.0"),
        ({"beta": 1.5}, ValueError, "beta is 1.5"),
        ({"beta": float("nan")}, ValueError, "beta is nan"),
        ({"beta": "half"}, TypeError, "beta"),
        ({"layer_rate": 0.0}, ValueError, "layer_rate is 0.0"),
        ({"nudged_steps": 0}, ValueError, "nudged_steps is 0"),
        ({"nudged_steps": 2.0}, TypeError, "nudged_steps"),
        ({"nudge": "centered"}, UnknownNameError, "Did you mean 'centred'"),
        ({"arithmetic": "int8"}, UnknownNameError, "arithmetic 'int8'"),
        ({"arithmetic": "integer", "beta": 0.001}, ValueError, "at least 1/512"),
    ],
)
def test_bad_settings_are_refused(change, error, text):
    with pytest.raises(error, match=text):
        EP(**change)


def test_other_networks_are_refused():
    x, y = images(0, 4)
    with pytest.raises(TypeError, match="energy_net"):
        EP().gradients(snn.networks.mlp([64, 8, 10]), x, y)


# --- relaxation --------------------------------------------------------------------------------------------------------------


def test_relaxation_of_a_linear_map_finds_what_a_solver_finds():
    draw = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 6, generator=draw, dtype=torch.float64)
    matrix *= 0.7 / torch.linalg.matrix_norm(matrix, 2)
    right = torch.randn(6, generator=draw, dtype=torch.float64)
    wanted = torch.linalg.solve(torch.eye(6, dtype=torch.float64) - matrix, right)

    def update(state):
        return (matrix[:3] @ torch.cat(state) + right[:3], matrix[3:] @ torch.cat(state) + right[3:])

    start = (torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    for damping in (1.0, 0.6):
        found = relaxation.relax(update, start, steps=500, tolerance=1e-12, damping=damping)
        assert found.converged
        assert found.steps < 500
        assert found.residual <= 1e-12
        torch.testing.assert_close(torch.cat(found.state), wanted, rtol=0, atol=1e-11)
    fewer = relaxation.relax(update, start, steps=500, tolerance=1e-12, scale=1e6)
    assert fewer.steps < found.steps
    # residual of the first step from zero is the largest entry of the right side
    first = relaxation.relax(update, start, steps=1, damping=0.5)
    assert first.residual == float(right.abs().max())
    assert torch.equal(torch.cat(first.state), 0.5 * right)
    assert not first.converged


def test_relaxation_that_does_not_settle():
    one = (torch.ones(2),)
    turning = relaxation.relax(lambda s: (-s[0],), one, steps=50, tolerance=1e-6)
    assert (turning.converged, turning.steps, turning.residual) == (False, 50, 2.0)
    assert relaxation.relax(lambda s: (-s[0],), one, steps=50, tolerance=1e-6, damping=0.5).converged
    growing = relaxation.relax(lambda s: (s[0] * 1e10,), one, steps=5000, tolerance=1e-6)
    assert not growing.converged
    assert growing.steps < 10
    assert not relaxation.relax(lambda s: (s[0] * float("nan"),), one, steps=5, tolerance=1e-6).converged


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"steps": 0}, ValueError, "steps is 0"),
        ({"steps": 1.5}, TypeError, "steps"),
        ({"tolerance": 0.0}, ValueError, "tolerance is 0.0"),
        ({"damping": 1.5}, ValueError, "damping is 1.5"),
        ({"damping": 0.0}, ValueError, "damping is 0.0"),
        ({"scale": float("inf")}, ValueError, "scale is inf"),
        ({"tolerance": "tight"}, TypeError, "tolerance"),
    ],
)
def test_bad_relaxations_are_refused(change, error, text):
    with pytest.raises(error, match=text):
        relaxation.relax(lambda s: s, (torch.ones(1),), **({"steps": 3} | change))


# --- learning ----------------------------------------------------------------------------------------------------------------


@pytest.mark.learning
@pytest.mark.parametrize(
    ("options", "bar"),
    [
        ({}, 0.965),
        ({"arithmetic": "integer"}, 0.96),
        ({"nudge": "one_sided"}, 0.95),
        ({"nudge": "one_sided", "arithmetic": "integer"}, 0.95),
    ],
    ids=["float, centred", "integer, centred", "float, one-sided", "integer, one-sided"],
)
def test_learns_digits_and_keeps_it_on_the_chip(options, bar):
    found = []
    for seed in (0, 1, 2):
        torch.manual_seed(seed)
        network = energy_net([64, 64, 10])
        settings = {"epochs": 15, "seed": seed, "batch_size": 32, "learning_rate": 0.05, "progress": False}
        history = snn.Trainer(network, EP(**options), digits(), **settings).fit()
        fixed = snn.emulate(snn.quantize(network), digits().test.x, record="outputs").predictions
        found.append((accuracy(network, digits().test), float((fixed == digits().test.y).mean())))
        first, last = (history.epochs[index].diagnostics for index in (0, -1))
        assert last["free_residual"] < 0.05  # still settles within T
        assert last["nudged_events"] < first["nudged_events"]  # less is wrong, so less moves
    print(f"{options}: float and chip {np.round(found, 4).tolist()}")
    real, chip = np.mean(found, axis=0)
    assert real >= bar
    assert chip >= bar
    assert abs(real - chip) <= 0.01
