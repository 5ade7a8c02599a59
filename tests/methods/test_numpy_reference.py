"""V2: every engine against gradients written out in numpy, float64, deep networks, several samples."""

import numpy as np
import pytest

from lava_snnlearn.methods import BPTT, OTTT, SLTT, Loss
from lava_snnlearn.neurons import LIF, Rectangle, Sigmoid, Triangle
from lava_snnlearn.testing.problems import CHAIN_PROBLEMS

TOLERANCE = 1e-12
ENGINES = {"full": BPTT, "instant": SLTT, "trace": OTTT}
NEURONS = {
    "sigmoid": LIF(leak=0.5),
    "sigmoid, reset attached": LIF(leak=0.3, detach_reset=False),
    "triangle, strong leak": LIF(leak=10 / 11, surrogate=Triangle()),
    "rectangle, threshold 0.7": LIF(leak=0.2, threshold=0.7, surrogate=Rectangle(2.0)),
    "integrate and fire": LIF(leak=0.0, surrogate=Sigmoid(2.0), detach_reset=False),
}


@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS.keys())
@pytest.mark.parametrize("hidden", [(9,), (9, 8), (9, 8, 6)], ids=lambda sizes: f"{len(sizes)} deep")
@pytest.mark.parametrize("engine", ENGINES)
def test_engine_equals_numpy(make_task, fill, reference, engine, hidden, neuron):
    task = make_task(hidden=hidden, neuron=neuron)
    expected = reference(task, engine)
    found = fill(ENGINES[engine](), task)
    assert found.distance(expected) < TOLERANCE
    assert all(np.abs(value).max() > 1e-4 for value in expected.values()), "the task has gradients worth comparing"


@pytest.mark.parametrize("engine", ["full", "instant"])
@pytest.mark.parametrize("detach", [True, False])
def test_reset_to_zero_equals_numpy(make_task, fill, reference, engine, detach):
    task = make_task(neuron=LIF(leak=0.3, reset="zero", detach_reset=detach))
    assert fill(ENGINES[engine](), task).distance(reference(task, engine)) < TOLERANCE


def test_trace_does_not_see_the_cut_of_a_reset_to_zero(make_task, fill, reference):
    task = make_task(neuron=LIF(leak=0.3, reset="zero"))
    found = fill(OTTT(), task)
    assert found.distance(reference(task, "trace")) < TOLERANCE
    last = "layers.2.weight"
    exact = reference(task, "full")[last]
    assert np.abs(found.grads[last] - exact).max() > 1e-4 * np.abs(exact).max()


@pytest.mark.parametrize("loss", [Loss(0.0), Loss(1.0), Loss(0.3), Loss(0.3, "ones")], ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_loss_mixture(make_task, fill, reference, engine, loss):
    task = make_task()
    assert fill(ENGINES[engine](loss=loss), task).distance(reference(task, engine, loss)) < TOLERANCE


def test_losses_differ_from_each_other(make_task, fill):
    task = make_task()
    plain, mixed, ones = (fill(BPTT(loss=loss), task) for loss in (Loss(0.0), Loss(0.3), Loss(0.3, "ones")))
    assert plain.distance(mixed.grads) > 1e-4
    assert mixed.distance(ones.grads) > 1e-4


OPTIONS = [("trace_first_layer", False), ("trace_readout", True), ("trace_bias", False)]


@pytest.mark.parametrize("option, value", OPTIONS, ids=[name for name, _ in OPTIONS])
def test_each_official_option_changes_what_it_should(make_task, fill, reference, option, value):
    task = make_task()
    plain, found = fill(OTTT(), task), fill(OTTT(**{option: value}), task)
    assert found.distance(reference(task, "trace", **{option.removeprefix("trace_"): value})) < TOLERANCE
    changed = {name for name in plain.grads if not np.array_equal(plain.grads[name], found.grads[name])}
    expected = {
        "trace_first_layer": {"layers.0.weight"},
        "trace_readout": {"readout.weight"},
        "trace_bias": {"layers.0.bias", "layers.1.bias", "layers.2.bias"},
    }
    assert changed == expected[option]


def test_official_form_has_all_three_options(make_task, fill, reference):
    task = make_task()
    found = fill(OTTT.official(), task)
    assert found.distance(reference(task, "trace", first_layer=False, readout=True, bias=False)) < TOLERANCE


def test_without_memory_even_the_official_form_is_sltt(make_task, fill):
    """With lam = 0 there is nothing for a trace to hold."""
    task = make_task(neuron=LIF(leak=1.0))
    assert fill(OTTT.official(), task).distance(fill(SLTT(), task).grads) < TOLERANCE


@pytest.mark.parametrize("problem", CHAIN_PROBLEMS, ids=lambda problem: problem.name)
@pytest.mark.parametrize("engine", ENGINES)
def test_numpy_reference_meets_the_closed_forms(reference, make_task, engine, problem):
    """The reference itself, against gradients of two neurons that are written out term by term."""
    task = type(make_task())(problem.network(), problem.x, problem.y)
    found = reference(task, engine)
    expected = problem.gradients(engine, Loss())
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=TOLERANCE)


def test_chain_problems_tell_the_engines_apart():
    one, detached, attached = ({engine: problem.gradients(engine, Loss()) for engine in ENGINES} for problem in CHAIN_PROBLEMS)
    for name, value in one["full"].items():
        np.testing.assert_allclose(one["instant"][name], value, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(one["trace"][name], value, rtol=0, atol=TOLERANCE)
    first = "layers.0.weight"
    values = [float(detached[engine][first].item()) for engine in ENGINES] + [float(attached["full"][first].item())]
    gaps = np.diff(np.sort(values))
    assert gaps.min() > 1e-4
