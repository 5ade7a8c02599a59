"""Surrogate gradients of the spike, phi'(x) at x = u - threshold.

The forward value of a spike is the step H(x) = 1 for x >= 0 (note ``>=``); its derivative is replaced by one of

=========  ==================================  ==============================
name       phi'(x)                             used by
=========  ==================================  ==============================
sigmoid    a sg(a x) (1 - sg(a x))             OTTT (a = 4, peak 1)
triangle   max(0, a - a^2 abs(x))              SLTT (a = 1), on-chip learning
rectangle  1/a if abs(x) <= a/2 else 0         SLTT option
=========  ==================================  ==============================

``primitive`` is the integral of phi': a smooth network made of it has the surrogate gradient as its true gradient, which the
tests check with finite differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lava_snnlearn.checks import known_name, positive


@dataclass(frozen=True)
class Surrogate:
    """Base of the surrogates. ``a`` is the shape parameter (dimensionless, > 0)."""

    a: float = 1.0

    def __post_init__(self) -> None:
        positive("surrogate parameter a", self.a)

    def __call__(self, x: Tensor) -> Tensor:
        """phi'(x), same shape as x."""
        raise TypeError("use one of Sigmoid, Triangle, Rectangle")

    def primitive(self, x: Tensor) -> Tensor:
        """Integral of phi' from minus infinity, same shape as x."""
        raise TypeError("use one of Sigmoid, Triangle, Rectangle")

    def spike(self, x: Tensor) -> Tensor:
        """H(x) in the dtype of x, with the gradient phi'(x)."""
        return _Spike.apply(x, self)


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """phi'(x) = a sg(a x) (1 - sg(a x))."""

    a: float = 4.0

    def __call__(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(self.a * x)
        return self.a * s * (1 - s)

    def primitive(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.a * x)


@dataclass(frozen=True)
class Triangle(Surrogate):
    """phi'(x) = max(0, a - a^2 abs(x)), support abs(x) <= 1/a."""

    a: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        return torch.clamp(self.a - self.a**2 * x.abs(), min=0)

    def primitive(self, x: Tensor) -> Tensor:
        y = torch.clamp(self.a * x, -1, 1)
        return 0.5 + y - 0.5 * y * y.abs()


@dataclass(frozen=True)
class Rectangle(Surrogate):
    """phi'(x) = 1/a for abs(x) <= a/2, else 0."""

    a: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        return (x.abs() <= self.a / 2).to(x.dtype) / self.a

    def primitive(self, x: Tensor) -> Tensor:
        return torch.clamp(x / self.a + 0.5, 0, 1)


SURROGATES: dict[str, type[Surrogate]] = {"sigmoid": Sigmoid, "triangle": Triangle, "rectangle": Rectangle}

FUSED: dict[type[Surrogate], int] = {Sigmoid: 0, Triangle: 1, Rectangle: 2}
"""The surrogates that the fused kernels know, with their number there. A user's own kind is run by the plain torch loop."""


def surrogate(kind: str, a: float | None = None) -> Surrogate:
    """A surrogate by name: "sigmoid", "triangle" or "rectangle"; ``a`` None takes its default.

    Raises:
        UnknownNameError: another name; the message gives the nearest valid one.
        ValueError: a not finite or not > 0. TypeError: a is no number.
    """
    cls = SURROGATES[known_name("surrogate", kind, SURROGATES)]
    return cls() if a is None else cls(a)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, phi: Surrogate) -> Tensor:
        ctx.save_for_backward(x)
        ctx.phi = phi
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.phi(x), None
