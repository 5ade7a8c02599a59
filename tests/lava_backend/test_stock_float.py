"""OTTT, SLTT, HLOP and OPZO in the float engine of Lava's stock learning connection: equal to numpy, 1e-9."""

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.lava_backend import stock

EXACT = {"rtol": 0, "atol": 1e-9}


def lif(lam, post, seed):
    """A layer of LIF neurons (soft reset, triangle surrogate) whose errors depend on their spikes and membranes."""
    rng = np.random.default_rng(seed)
    feedback, target = rng.normal(size=(post, post)), rng.random(post)
    membrane = np.zeros(post)

    def neuron(step, current):
        nonlocal membrane
        membrane = lam * membrane + current
        spikes = membrane >= 1
        error = np.maximum(0, 1 - np.abs(membrane - 1)) * (feedback @ (spikes - target))
        membrane = membrane - spikes
        return error

    return neuron


def synapse_by_synapse(weights, spikes, neuron, *, lam, rate, stale):
    """OTTT as e-prop writes it: one eligibility for each synapse; lam 0 is SLTT."""
    history = [weights.copy()]
    eligibility = np.zeros_like(weights)
    for step, row in enumerate(spikes):
        used = history[max(step - 1, 0)] if stale else history[step]
        error = neuron(step, np.array([sum(w * s for w, s in zip(line, row, strict=True)) for line in used]))
        new = history[-1].copy()
        for i in range(len(weights)):
            for j in range(len(row)):
                eligibility[i, j] = lam * eligibility[i, j] + row[j]
                new[i, j] -= rate * error[i] * eligibility[i, j]
        history.append(new)
    return np.array(history[1:])


OTTT = [
    ({}, 2**-4),
    ({"epoch": 1}, 2**-4 * 0.7),
    ({"epoch": 1, "impulse": 4}, 2**-2 * 0.7),
    ({"epoch": 3, "impulse": 5.0}, 2**-4 * 5 * 0.7 ** (2 / 3)),
    ({"trace": False}, 2**-4),
]


@pytest.mark.parametrize("options, rate", OTTT)
def test_a_layer_learns_as_in_numpy(options, rate, nothing_left):
    """The errors depend on the currents, and those on what was learnt: an error anywhere would grow."""
    rng = np.random.default_rng(1)
    weights, spikes = rng.normal(size=(4, 6)), (rng.random((40, 6)) < 0.4).astype(int)
    how = stock.ThreeFactor(leak=0.3, exponent=-4, **options)
    assert how.rate == pytest.approx(rate, rel=1e-12)
    expected = stock.learn_layer(how, weights, spikes, lif(0.7, 4, 2))
    slow = synapse_by_synapse(weights, spikes, lif(0.7, 4, 2), lam=0.7 if how.trace else 0, rate=rate, stale=how.epoch == 1)
    np.testing.assert_allclose(expected.learned, slow, **EXACT)
    found = stock.run_layer(how, weights, spikes, expected.errors)
    np.testing.assert_allclose(found.learned, expected.learned, **EXACT)
    np.testing.assert_allclose(found.currents, expected.currents, **EXACT)
    assert np.abs(expected.learned[-1] - weights).max() > 0.05


def test_a_layer_accumulates_the_gradient_of_a_sample():
    """tag_1 holds the sum of the updates, and the weights stay: so do the currents."""
    rng = np.random.default_rng(3)
    weights, spikes = rng.normal(size=(3, 5)), (rng.random((20, 5)) < 0.5).astype(int)
    how = stock.ThreeFactor(leak=0.4, exponent=-3, update="accumulate")
    errors = stock.learn_layer(how, weights, spikes, lif(0.6, 3, 4)).errors
    traces = np.array([sum(0.6 ** (t - k) * spikes[k] for k in range(t + 1)) for t in range(20)])
    found = stock.run_layer(how, weights, spikes, errors)
    np.testing.assert_allclose(found.learned, -(2**-3) * np.cumsum(errors[:, :, None] * traces[:, None], axis=0), **EXACT)
    np.testing.assert_allclose(found.currents, spikes @ weights.T, **EXACT)


def test_a_layer_accumulates_what_the_method_computes():
    """The gradient of ``snn.methods.OTTT``, step by step; its gradient of the bias without a trace is the error g."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = snn.networks.mlp([6, 4, 3], snn.neurons.LIF(leak=0.3), norm="none", steps=10).double()
    layer = network.layers[0]
    spikes = np.random.default_rng(11).random((10, 6)) < 0.5
    kept = []
    method = snn.methods.OTTT(update="online", trace_bias=False)
    x = torch.from_numpy(spikes).double()[:, None]
    method.gradients(
        network, x, torch.tensor([1]), lambda: kept.append([p.grad.clone().numpy() for p in (layer.weight, layer.bias)])
    )
    gradients, sums = (np.array(values) for values in zip(*kept, strict=True))
    errors = np.diff(sums, axis=0, prepend=0)
    how = stock.ThreeFactor(leak=0.3, exponent=2, update="accumulate")
    found = stock.run_layer(how, layer.weight.detach().numpy(), spikes, errors)
    np.testing.assert_allclose(found.learned, -4 * gradients, **EXACT)
    assert np.abs(gradients[-1]).max() > 1e-3


def test_two_phases_learn_signed_outer_products(nothing_left):
    """H9: any signs; and the same update as that of the layer's own weights, W -= eta * g xbar^T."""
    rng = np.random.default_rng(5)
    weights, pre, post = rng.normal(size=(3, 4)), rng.normal(size=(30, 4)), rng.normal(size=(30, 3))
    found = stock.run_signed_updates(weights, pre, post, exponent=-3)
    np.testing.assert_allclose(found.weights, weights + 2**-3 * np.cumsum(post[:, :, None] * pre[:, None], axis=0), **EXACT)
    assert {(np.sign(a), np.sign(b)) for a in pre.ravel() for b in post.ravel()} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_lateral_rows_learn_the_subspace_of_the_inputs():
    """HLOP's circuit: rows, responses and the return path on Lava equal to numpy; and the rows leave no residual."""
    rng = np.random.default_rng(6)
    basis = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
    samples = rng.normal(size=(150, 2)) @ basis
    start = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
    expected = stock.learn_subspace(start, samples, -3)
    forward = stock.run_signed_updates(start, expected.residuals, expected.responses, exponent=-3, activity=samples)
    np.testing.assert_allclose(forward.weights, expected.rows, **EXACT)
    np.testing.assert_allclose(forward.responses, expected.responses, **EXACT)
    back = stock.run_signed_updates(start.T, expected.responses, expected.residuals, exponent=-3, activity=expected.responses)
    np.testing.assert_allclose(back.weights, expected.rows.swapaxes(1, 2), **EXACT)
    np.testing.assert_allclose(samples - back.responses, expected.residuals, **EXACT)
    learnt = forward.weights[-1]
    np.testing.assert_allclose(learnt @ learnt.T, np.eye(2), atol=0.02)
    np.testing.assert_allclose(learnt.T @ learnt, basis.T @ basis, atol=0.02)


@pytest.mark.parametrize("shift, decimation, period", [(3, 2, 1), (2, 4, 4)])
def test_the_feedback_matrix_learns_as_in_numpy(shift, decimation, period, nothing_left):
    """M and M e on Lava equal to numpy, and numpy's M equal to the closed form of the decimated decay."""
    rng = np.random.default_rng(7)
    matrix, steps = rng.normal(size=(5, 3)), 22
    outputs, errors = rng.normal(size=(2, steps, 3))
    noise = rng.choice([-1.0, 1.0], size=(steps, 5))
    how = stock.DecimatedDecay(gain=-4, shift=shift, decimation=decimation)
    expected = stock.learn_feedback(how, matrix, outputs, noise, errors)
    kept = [(1 - 2.0**-shift) ** (steps // period - k // period) for k in range(steps)]
    learnt = sum(2**-4 * kept[k] * np.outer(noise[k], outputs[k]) for k in range(steps))
    np.testing.assert_allclose(expected.matrices[-1], (1 - 2.0**-shift) ** (steps // period) * matrix + learnt, **EXACT)
    before = np.concatenate([matrix[None], expected.matrices[:-1]]) + 2**-4 * noise[:, :, None] * outputs[:, None]
    np.testing.assert_allclose(expected.modulations, np.einsum("tij,tj->ti", before, errors), **EXACT)
    found = stock.run_feedback(how, matrix, outputs, noise, errors)
    np.testing.assert_allclose(found.matrices, expected.matrices, **EXACT)
    np.testing.assert_allclose(found.modulations, expected.modulations, **EXACT)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"leak": 0.0}, ValueError, "leak is 0.0.*trace=False"),
        ({"leak": 1.0}, ValueError, "leak is 1.0"),
        ({"epoch": 0}, ValueError, "epoch is 0"),
        ({"epoch": 64}, LimitError, "epoch is 64"),
        ({"epoch": 1, "trace": False}, ValueError, "epoch >= 2"),
        ({"epoch": 1, "impulse": 3.0}, ValueError, "impulse is 3.0.*power of two"),
        ({"impulse": 0.0}, ValueError, "impulse is 0.0"),
        ({"update": "offline"}, UnknownNameError, "online"),
        ({"trace": 1}, TypeError, "trace is 1"),
    ],
)
def test_settings_without_a_construction_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        stock.ThreeFactor(**{"leak": 0.5, "exponent": -3, **options})


@pytest.mark.parametrize(
    "options, name", [({"shift": 8}, "shift"), ({"decimation": 1}, "decimation"), ({"decimation": 10}, "decimation")]
)
def test_a_decay_that_cannot_be_written_is_refused(options, name):
    with pytest.raises(LimitError, match=name):
        stock.DecimatedDecay(**{"gain": -4, "shift": 3, "decimation": 2, **options})


def test_rows_of_unequal_length_are_refused():
    rows, how = np.zeros((4, 2)), stock.ThreeFactor(leak=0.5, exponent=-3)
    with pytest.raises(ValueError, match="spikes hold 4 steps, errors 3"):
        stock.run_layer(how, np.zeros((2, 2)), rows, rows[:3])
    with pytest.raises(ValueError, match="4, 3 and 4 rows"):
        stock.run_signed_updates(np.zeros((2, 2)), rows, rows[:3], exponent=-3)
    decay = stock.DecimatedDecay(-4, 3, 2)
    with pytest.raises(ValueError, match="4, 4 and 3 rows"):
        stock.run_feedback(decay, np.zeros((2, 2)), rows, rows, rows[:3])
    with pytest.raises(ValueError, match="outputs and errors have shapes"):
        stock.run_feedback(decay, np.zeros((2, 2)), rows, rows, np.zeros((4, 3)))
