"""Noise on neurons, and what can be learned about a network from how its output answers to it.

A population's activity is perturbed by alpha z, with E[z] = 0 and E[z z^T] = 1. Then E[z o~^T] / alpha estimates the transposed
Jacobian (d o / d activity)^T of the network, smoothed by the noise (OPZO, arXiv 2407.12516; grsnn_hlop_opzo_msg spec, 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lava_snnlearn import distributed
from lava_snnlearn.networks.synapse import Shape

POSITIONS = ("post", "pre")


def _gaussian(shape: Shape, generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def _rademacher(shape: Shape, generator: torch.Generator, like: Tensor) -> Tensor:
    signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8, device=like.device)
    return signs.to(like.dtype).mul_(2).sub_(1)


def _sphere(shape: Shape, generator: torch.Generator, like: Tensor) -> Tensor:
    rows = _gaussian(shape, generator, like).flatten(1)
    return (rows * (math.sqrt(rows.shape[1]) / torch.linalg.vector_norm(rows, dim=1, keepdim=True))).view(shape)


NOISES: dict[str, Callable[[Shape, torch.Generator, Tensor], Tensor]] = {
    "gaussian": _gaussian,
    "rademacher": _rademacher,
    "sphere": _sphere,
}
"""Draws of [B, *shape] with mean 0 and covariance 1: normal, +-1, uniform on the sphere of radius sqrt(n)."""


class Noise:
    """z of every population and time step of one batch, whatever the length of the pieces it is asked for.

    Every population has a generator of its own, seeded from torch's global one; each step is a draw by itself.

    Args:
        kind: a key of :data:`NOISES`.
        antithetic: odd steps repeat the z of the step before with the opposite sign.
        populations: how many.
        like: gives dtype and device.
    """

    def __init__(self, kind: str, antithetic: bool, populations: int, like: Tensor) -> None:
        self.kind, self.antithetic, self.like = NOISES[kind], antithetic, like
        seeds = torch.randint(1 << 62, (populations,)).tolist()
        self.generators = [torch.Generator(like.device).manual_seed(seed) for seed in seeds]
        self.last: list[Tensor | None] = [None] * populations

    def draw(self, index: int, batch: int, shape: Shape, steps: int) -> Tensor:
        """The next ``steps`` steps of a population [steps, batch, *shape]."""
        return torch.stack([self._step(index, batch, shape) for _ in range(steps)])

    def _step(self, index: int, batch: int, shape: Shape) -> Tensor:
        before = self.last[index]
        if before is not None:
            self.last[index] = None
            return -before
        z = distributed.draw(lambda samples: self.kind((samples, *shape), self.generators[index], self.like), batch)
        if self.antithetic:
            self.last[index] = z
        return z


def correlate(noise: Tensor, outputs: Tensor, alpha: float) -> Tensor:
    """The batch's mean of z o^T / alpha at every step [T, n, m], for noise [T, B, n] and outputs [T, B, m]."""
    return torch.bmm(noise.transpose(1, 2), outputs) / (noise.shape[1] * alpha)


class Learned(NamedTuple):
    """``matrix`` M [n, m] after the last step; ``signals`` [T, B, n], what errors became on the way."""

    matrix: Tensor
    signals: Tensor


def follow(matrix: Tensor, pairs: Tensor, errors: Tensor, momentum: float, updates: int, correct: bool) -> Learned:
    """M <- momentum M + (1 - momentum) pair, then g = M e, step by step.

    Args:
        matrix: M [n, m] before the first step. pairs: [T, n, m], see :func:`correlate`. errors: [T, B, m].
        momentum: lambda in [0, 1).
        updates: how many updates M has had.
        correct: g = M e / (1 - lambda^k) after k updates, so that a matrix that began at 0 is not too small.
    """
    signals = []
    for step, (pair, error) in enumerate(zip(pairs.unbind(0), errors.unbind(0), strict=True), updates + 1):
        matrix = torch.lerp(pair, matrix, momentum)
        signals.append(error @ matrix.t() / (_correction(momentum, step) if correct else 1.0))
    return Learned(matrix, torch.stack(signals))


def _correction(momentum: float, updates: int) -> float:
    return 1 - momentum**updates


def answer(matrix: Tensor, errors: Tensor, momentum: float, updates: int, correct: bool) -> Tensor:
    """g = M e [T, B, n] for errors [T, B, m], M being as it is; zero before its first update."""
    scale = 1 / _correction(momentum, updates) if correct and updates else 1.0
    return torch.matmul(errors, scale * matrix.t())


class Centred(NamedTuple):
    """``outputs`` [T, B, m] without the running mean; ``mean`` [m] after the last step."""

    outputs: Tensor
    mean: Tensor


def centre(outputs: Tensor, means: Sequence[Tensor], mean: Tensor, updates: int, window: int = 100) -> Centred:
    """Subtract from every step's outputs [B, m] the running mean of the steps before, which no z of the step is in.

    Args:
        outputs: [T, B, m]. means: of each step over the (joined) batch, [m]. mean: [m] before the first step.
        updates: how many steps the mean has seen. window: over how many it reaches back.
    """
    rows = []
    for step, (now, average) in enumerate(zip(outputs.unbind(0), means, strict=True), updates + 1):
        rows.append(now - mean)
        mean = torch.lerp(mean, average, 1 / min(step, window))
    return Centred(torch.stack(rows), mean)
