"""Surrogate derivatives against closed forms and against the derivative of their primitives."""

import math

import numpy as np
import pytest
import torch

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.neurons import SURROGATES, Rectangle, Sigmoid, Surrogate, Triangle, surrogate


def sigmoid(x, a):
    return a / (2 * math.cosh(a * x / 2)) ** 2


def triangle(x, a):
    return a - a * a * abs(x) if abs(x) <= 1 / a else 0.0


def rectangle(x, a):
    return 1 / a if abs(x) <= a / 2 else 0.0


FORMS = {"sigmoid": sigmoid, "triangle": triangle, "rectangle": rectangle}
POINTS = np.linspace(-3.01, 2.99, 121)  # no point on a kink


@pytest.mark.parametrize("a", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("kind", FORMS)
def test_derivative_is_the_closed_form(kind, a):
    found = surrogate(kind, a)(torch.from_numpy(POINTS)).numpy()
    np.testing.assert_allclose(found, [FORMS[kind](x, a) for x in POINTS], rtol=0, atol=1e-12)


@pytest.mark.parametrize("a", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("kind", FORMS)
def test_primitive_has_the_surrogate_as_its_derivative(kind, a):
    phi, h = surrogate(kind, a), 1e-6
    x = torch.from_numpy(POINTS)
    slope = (phi.primitive(x + h) - phi.primitive(x - h)) / (2 * h)
    np.testing.assert_allclose(slope.numpy(), phi(x).numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("a", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("kind", FORMS)
def test_primitive_rises_from_zero_to_one_through_a_half(kind, a):
    ends = surrogate(kind, a).primitive(torch.tensor([-1e3, 0.0, 1e3], dtype=torch.float64))
    np.testing.assert_allclose(ends.numpy(), [0.0, 0.5, 1.0], rtol=0, atol=1e-12)


def test_edges_of_the_supports():
    edge = torch.tensor([-0.5, 0.5], dtype=torch.float64)
    assert Rectangle(1.0)(edge).tolist() == [1.0, 1.0]
    assert Rectangle(1.0)(edge * (1 + 1e-12)).tolist() == [0.0, 0.0]
    assert Triangle(2.0)(edge).tolist() == [0.0, 0.0]
    assert Triangle(2.0)(torch.zeros(1)).item() == 2.0
    assert Sigmoid()(torch.zeros(1)).item() == 1.0


@pytest.mark.parametrize("kind", FORMS)
def test_spike_is_the_step_with_the_surrogate_gradient(kind):
    phi = surrogate(kind)
    x = torch.tensor([-1.0, -1e-12, -0.0, 0.0, 0.3], dtype=torch.float64, requires_grad=True)
    spike = phi.spike(x)
    assert spike.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]
    spike.backward(torch.tensor([1.0, 2.0, 3.0, 4.0, -5.0], dtype=torch.float64))
    expected = [w * FORMS[kind](v, phi.a) for v, w in zip(x.tolist(), [1.0, 2.0, 3.0, 4.0, -5.0], strict=True)]
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_spike_keeps_the_dtype(dtype):
    assert Sigmoid().spike(torch.ones(2, dtype=dtype)).dtype == dtype


def test_names_and_defaults_are_those_of_the_methods_that_use_them():
    assert [SURROGATES[kind] for kind in ("sigmoid", "triangle", "rectangle")] == [Sigmoid, Triangle, Rectangle]
    assert [surrogate(kind).a for kind in ("sigmoid", "triangle", "rectangle")] == [4.0, 1.0, 1.0]
    assert surrogate("triangle", 2.5) == Triangle(2.5)


@pytest.mark.parametrize("a", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("kind", FORMS)
def test_bad_shape_parameters_are_refused(kind, a):
    with pytest.raises(ValueError, match=r"parameter a is .* > 0"):
        surrogate(kind, a)


def test_unknown_surrogate_is_refused():
    with pytest.raises(UnknownNameError, match=r"'sigmoyd'.*Did you mean 'sigmoid'"):
        surrogate("sigmoyd")


def test_base_class_is_not_a_surrogate():
    for use in (Surrogate(), Surrogate().primitive):
        with pytest.raises(TypeError, match="Sigmoid, Triangle, Rectangle"):
            use(torch.zeros(1))


@pytest.mark.parametrize("a", ["4", True, [1.0]])
def test_a_shape_of_another_type_is_refused(a):
    with pytest.raises(TypeError, match=r"surrogate parameter a is .*; it must be a number"):
        surrogate("sigmoid", a)
