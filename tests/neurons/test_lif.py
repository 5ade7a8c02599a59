"""The neuron's step: ties, resets, leak, gradients through membrane and reset, refusals."""

import math

import numpy as np
import pytest
import torch

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.neurons import IF, LIF, Sigmoid, Surrogate, Triangle, run, step
from lava_snnlearn.testing.problems import SPIKE_COUNT_PROBLEMS


def scalar_run(neuron, currents):
    """The equations of one neuron, one number at a time."""
    v, rows = 0.0, []
    for current in currents:
        u = (1 - neuron.leak) * v + current
        s = 1.0 if u >= neuron.threshold else 0.0
        v = u - neuron.threshold * s if neuron.reset == "subtract" else (0.0 if s else u)
        rows.append((s, u, v))
    return np.array(rows).T


@pytest.mark.parametrize("problem", SPIKE_COUNT_PROBLEMS, ids=lambda problem: problem.name)
def test_spike_count_under_constant_current(problem):
    states = run(problem.neuron, torch.full((problem.steps, 1), problem.current))
    fired = states.spike.flatten().nonzero().flatten().tolist()
    assert len(fired) == problem.count
    assert (fired[0] if fired else None) == problem.first


@pytest.mark.parametrize("reset, expected", [("subtract", [0.0, 0.5]), ("zero", [0.0, 0.0])])
def test_tie_fires_and_both_resets(reset, expected):
    neuron = LIF(leak=0.25, threshold=1.5, reset=reset)
    states = step(neuron, torch.tensor([1.0, 1.0]), torch.tensor([0.75, 1.25]))  # u = 1.5 (a tie) and 2.0
    assert states.spike.tolist() == [1.0, 1.0]
    assert states.charged.tolist() == [1.5, 2.0]
    assert states.membrane.tolist() == expected
    just_below = step(neuron, torch.tensor([1.0]), torch.tensor([0.7499999]))
    assert just_below.spike.item() == 0.0
    assert just_below.membrane.item() == just_below.charged.item()


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("leak", [0.0, 0.3, 1.0])
def test_run_equals_the_scalar_equations(leak, reset):
    neuron = LIF(leak=leak, threshold=0.8, reset=reset)
    current = np.random.default_rng(0).normal(0.3, 0.7, (25, 3, 4))
    states = run(neuron, torch.from_numpy(current))
    for sample, channel in np.ndindex(3, 4):
        spike, charged, membrane = scalar_run(neuron, current[:, sample, channel])
        assert np.array_equal(states.spike[:, sample, channel].numpy(), spike)
        np.testing.assert_allclose(states.charged[:, sample, channel].numpy(), charged, rtol=0, atol=1e-12)
        np.testing.assert_allclose(states.membrane[:, sample, channel].numpy(), membrane, rtol=0, atol=1e-12)
    assert 0 < float(states.spike.mean()) < 1


def test_membrane_without_a_spike_is_the_geometric_series():
    neuron, current, t = LIF(leak=0.2, threshold=100.0), 0.7, 30
    states = run(neuron, torch.full((t, 1), current, dtype=torch.float64))
    expected = [current * (1 - 0.8 ** (i + 1)) / 0.2 for i in range(t)]
    np.testing.assert_allclose(states.membrane.flatten().numpy(), expected, rtol=0, atol=1e-12)


def test_integrate_and_fire_is_a_lif_without_leak():
    neuron = IF(2.0, reset="zero", detach_reset=False)
    assert neuron == LIF(leak=0.0, threshold=2.0, reset="zero", detach_reset=False)
    assert neuron.lam == 1.0


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("detach", [True, False])
def test_temporal_jacobian(reset, detach):
    """du[t+1]/du[t] = lam dv/du; through the reset comes -Vth phi' (subtract) or -u phi' (zero)."""
    neuron = LIF(leak=0.3, threshold=1.2, reset=reset, detach_reset=detach, surrogate=Sigmoid(2.0))
    u = torch.tensor([-0.5, 0.9, 1.2, 2.4], dtype=torch.float64, requires_grad=True)
    after = step(neuron, None, u).membrane
    following = step(neuron, after, torch.zeros(4, dtype=torch.float64)).charged
    (found,) = torch.autograd.grad(following.sum(), u)
    values = u.detach().numpy()
    phi = 2.0 / (2 * np.cosh(values - 1.2)) ** 2
    spike = (values >= 1.2).astype(float)
    through_membrane = 1.0 if reset == "subtract" else 1 - spike
    through_reset = 0.0 if detach else (1.2 if reset == "subtract" else values) * phi
    np.testing.assert_allclose(found.numpy(), 0.7 * (through_membrane - through_reset), rtol=0, atol=1e-12)


def test_membrane_at_rest_is_the_same_as_none():
    current = torch.tensor([0.4, 1.4])
    rest, none = step(LIF(), torch.zeros(2), current), step(LIF(), None, current)
    assert all(torch.equal(a, b) for a, b in zip(rest, none, strict=True))


@pytest.mark.parametrize(
    "options, parts",
    [
        ({"leak": -0.1}, ["leak is -0.1", "[0, 1]"]),
        ({"leak": 1.1}, ["leak is 1.1", "[0, 1]"]),
        ({"leak": math.nan}, ["leak is nan"]),
        ({"threshold": 0.0}, ["threshold is 0.0", "> 0"]),
        ({"threshold": -1.0}, ["threshold is -1.0", "> 0"]),
        ({"threshold": math.inf}, ["threshold is inf", "finite"]),
        ({"reset": "substract"}, ["'substract'", "'subtract'", "zero"]),
    ],
)
def test_bad_parameters_are_refused(options, parts):
    with pytest.raises(ValueError) as refusal:
        LIF(**options)
    for part in parts:
        assert part in str(refusal.value)


def test_unknown_reset_has_its_own_error():
    with pytest.raises(UnknownNameError):
        LIF(reset="none")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"surrogate": "triangle"}, r"surrogate is 'triangle'.*snn\.neurons\.Triangle\(\).*surrogate\(\"triangle\"\)"),
        ({"surrogate": Triangle}, r"surrogate is the class Triangle.*instance"),
        ({"surrogate": Surrogate()}, r"surrogate is Surrogate\(a=1\.0\).*Triangle\(\)"),
        ({"detach_reset": "no"}, "detach_reset is 'no'.*True or False"),
        ({"leak": "a"}, "leak is 'a'.*number"),
        ({"leak": True}, "leak is True.*number"),
        ({"threshold": None}, "threshold is None.*number"),
    ],
    ids=repr,
)
def test_parameters_of_another_type_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        LIF(**options)


def test_numbers_of_numpy_are_accepted():
    neuron = LIF(leak=np.float32(0.25), threshold=np.int64(2), detach_reset=np.True_)
    assert step(neuron, None, torch.tensor([2.0])).spike.item() == 1.0


@pytest.mark.parametrize("shape", [(0, 3, 4), (0,), ()])
def test_a_run_without_time_steps_is_refused(shape):
    with pytest.raises(ValueError, match=r"current has shape \(.*\); it must be \[T, B, \.\.\.\] with T at least 1"):
        run(LIF(), torch.zeros(shape))


def test_a_run_of_another_type_is_refused():
    with pytest.raises(TypeError, match=r"current must be a torch tensor, not ndarray; pass torch\.from_numpy"):
        run(LIF(), np.zeros((3, 2)))
