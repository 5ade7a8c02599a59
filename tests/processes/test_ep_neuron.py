"""EPNeuron: the conformance suite, a scalar reference in Python's integers, and both phases of training on Lava's runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lava_snnlearn as snn
from lava_snnlearn.fixed_point.energy_networks import energy_integers
from lava_snnlearn.lava_backend import InProcessModel
from lava_snnlearn.lava_backend.ep import run_both_phases
from lava_snnlearn.methods.relaxation import relax
from lava_snnlearn.networks import energy_net
from lava_snnlearn.processes import EPNeuron
from lava_snnlearn.testing import check_process


def test_conformance():
    check_process(EPNeuron)


def scalar_reference(arrivals, targets, *, shift, top, bias_mant, bias_exp, beta, t_nudge, changes, t_start, reset_interval):
    """One neuron; ``//`` rounds down. Returns what it sent and its states."""
    s = total = target = 0
    sent, states = [], []
    for step, (arriving, wanted) in enumerate(zip(arrivals, targets, strict=True)):
        tau = step if reset_interval is None else step % reset_interval
        if tau == 0:
            s = total = target = 0
        target = max(target, wanted)
        message = 0
        if tau >= t_start:
            total = total + arriving if changes else arriving
            new = max(0, min(top, (total + bias_mant * 2**bias_exp) // 2**shift))
            if t_nudge is not None and tau >= t_nudge:
                new += (beta * (target - s) + 128) // 256
            message = new - s if changes else new
            s = new
        sent.append(message)
        states.append(s)
    return sent, states


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_against_a_scalar_reference(data):
    start = data.draw(st.integers(0, 3))
    parameters = {
        "shift": data.draw(st.integers(0, 10)),
        "top": data.draw(st.sampled_from([1, 127, 255])),
        "bias_mant": data.draw(st.integers(-4096, 4095)),
        "bias_exp": data.draw(st.integers(0, 7)),
        "beta": data.draw(st.integers(-256, 256)),
        "t_nudge": data.draw(st.none() | st.integers(0, 8)),
        "changes": data.draw(st.booleans()),
        "t_start": start,
        "reset_interval": data.draw(st.none() | st.integers(start + 1, start + 9)),
    }
    arrivals = data.draw(st.lists(st.integers(-300_000, 300_000), min_size=14, max_size=14))
    targets = data.draw(st.lists(st.sampled_from([0, 0, 0, 127, 40]), min_size=14, max_size=14))
    model = InProcessModel(EPNeuron(shape=(1,), **parameters), "fixed_pt")
    sent, states = [], []
    for arriving, wanted in zip(arrivals, targets, strict=True):
        sent.append(int(model.step(a_in=np.array([arriving]), y_in=np.array([wanted]))["s_out"][0]))
        states.append(int(model.read("v")[0]))
    assert (sent, states) == scalar_reference(arrivals, targets, **parameters)


@pytest.fixture(scope="module")
def chip():
    torch.manual_seed(0)
    network = energy_net([64, 16, 12, 10])
    with torch.no_grad():
        for weight in network.weights:
            weight.mul_(1.5)  # still a contraction: the states settle
    return energy_integers(network)


@pytest.fixture(scope="module")
def samples(chip):
    data = snn.data.load("digits", scale="unit", valid=0.0)
    payloads = chip.payloads(torch.from_numpy(data.test.x[:2]))
    target = 127 * torch.nn.functional.one_hot(torch.from_numpy(data.test.y[:2]), 10)
    return payloads, target


def training_simulation(chip, payloads, target, beta, steps, nudged_steps):
    """States after each step, from the functions that train in integers."""
    state, rows = chip.rest(len(payloads)), []
    for update, count in ((chip.dynamics(payloads), steps), (chip.dynamics(payloads, beta, target), nudged_steps)):
        for _ in range(count):
            state = relax(update, state, steps=1).state
            rows.append([layer.numpy() for layer in state])
    return [np.stack(layer) for layer in zip(*rows, strict=True)]


@pytest.mark.parametrize("beta", [128, -77])
def test_both_phases_on_lava_are_those_of_the_training(chip, samples, beta):
    payloads, target = samples
    expected = training_simulation(chip, payloads, target, beta, 25, 10)
    found = run_both_phases(chip, payloads.numpy(), target.numpy(), beta=beta, steps=25, nudged_steps=10)
    for layer, wanted in zip(found.states, expected, strict=True):
        assert layer.shape == (35, 2, wanted.shape[2])
        np.testing.assert_array_equal(layer, wanted)
    for sent, states in zip(found.messages, found.states, strict=True):
        np.testing.assert_array_equal(sent, states)
    assert (found.states[-1][25:] != found.states[-1][24]).any()  # the nudge moves something


def test_messages_of_changes_give_the_same_states_and_die_out(chip, samples):
    payloads, target = samples
    options = {"beta": 128, "steps": 25, "nudged_steps": 10}
    found = run_both_phases(chip, payloads.numpy(), target.numpy(), changes=True, **options)
    for layer, wanted in zip(found.states, training_simulation(chip, payloads, target, 128, 25, 10), strict=True):
        np.testing.assert_array_equal(layer, wanted)
    events = found.events.sum(1)
    changed = sum((np.diff(layer, axis=0, prepend=0) != 0).sum(axis=(1, 2)) for layer in found.states)
    np.testing.assert_array_equal(events, changed)
    assert events[0] > 20
    assert events[20:25].sum() < 0.15 * events[:5].sum()  # the equilibrium is silent
    assert events[25:].sum() > 0


def test_shapes_that_do_not_fit_are_refused(chip, samples):
    payloads, target = (values.numpy() for values in samples)
    options = {"beta": 128, "steps": 2, "nudged_steps": 2}
    with pytest.raises(ValueError, match="payloads has shape"):
        run_both_phases(chip, payloads[:, :5], target, **options)
    with pytest.raises(ValueError, match="target has shape"):
        run_both_phases(chip, payloads, target[:1], **options)
    with pytest.raises(ValueError, match="nudged_steps is 0"):
        run_both_phases(chip, payloads, target, **(options | {"nudged_steps": 0}))


def test_fractions_are_refused_by_the_fixed_model():
    model = InProcessModel(EPNeuron(shape=(2,), shift=3), "fixed_pt")
    with pytest.raises(TypeError, match="EPNeuron's fixed_pt model received float64 on a_in"):
        model.step(a_in=np.array([0.5, 1.0]))
