"""Relaxation to an equilibrium s = f(s) by a damped iteration; equilibrium propagation and the implicit methods share it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lava_snnlearn.checks import at_least, real_number

State = tuple[Tensor, ...]


class Relaxed(NamedTuple):
    """Where a relaxation ended.

    state: the last state. steps: updates made, int. residual: largest |f(s) - s| over all tensors, taken before the last
    update (of a contraction: no smaller than that of ``state``), as a fraction of the scale where one was given; NaN if the
    iteration left the real numbers. converged: whether the residual came down to the tolerance; False without one.
    """

    state: State
    steps: int
    residual: float
    converged: bool


@torch.no_grad()
def relax(
    update: Callable[[State], State],
    state: State,
    *,
    steps: int,
    tolerance: float | None = None,
    damping: float = 1.0,
    scale: float | None = None,
) -> Relaxed:
    """Iterate ``s <- s + damping (update(s) - s)`` until ``max |update(s) - s| <= tolerance``, without a graph.

    The iteration ends as well after ``steps`` updates, or where the residual is NaN or infinite; nothing is raised then, since
    callers know what to make of it (``converged`` is False). Without a tolerance all steps are made, and the residual is
    read once, at the end.

    Args:
        update: the map f; tensors of the shapes it is given.
        state: start, tensors of any shapes.
        steps: most updates, at least 1.
        tolerance: bound of the residual, > 0; None: ``steps`` updates in any case.
        damping: in (0, 1]; 1 is the plain iteration. Exact also for integers, where it has to be 1.
        scale: > 0: the residual is divided by it (e.g. the largest magnitude of a linear system's right side).

    Raises:
        ValueError: a value out of its range. TypeError: steps not whole, or another value no number.
    """
    at_least(1, "steps", steps)
    for name, value in (("tolerance", tolerance), ("damping", damping), ("scale", scale)):
        if value is not None:
            real_number(name, value)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is {value}; it must be finite and above 0")
    if damping > 1:
        raise ValueError(f"damping is {damping}; it must lie in (0, 1]")
    residual = math.inf
    for done in range(1, steps + 1):
        new = update(state)
        if tolerance is not None or done == steps:
            residual = _distance(new, state) / (1.0 if scale is None else scale)
        # The plain iteration takes f(s) itself: s + (f(s) - s) would round.
        state = new if damping == 1 else tuple(s + damping * (n - s) for n, s in zip(new, state, strict=True))
        if tolerance is not None and (residual <= tolerance or not math.isfinite(residual)):
            return Relaxed(state, done, residual, residual <= tolerance)
    return Relaxed(state, steps, residual, False)


def _distance(new: State, old: State) -> float:
    """Largest difference; NaN if any is, and 0 for states without values."""
    largest = [(n - o).abs().max() for n, o in zip(new, old, strict=True) if n.numel()]
    return float(torch.stack([value.double() for value in largest]).max()) if largest else 0.0
