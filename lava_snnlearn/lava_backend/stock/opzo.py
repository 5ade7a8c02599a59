"""OPZO's feedback matrix as a rule of Lava's stock learning engine.

OPZO (Xiao et al. 2024) learns how the output o answers to noise z on a layer, ``M <- lambda * M + z o^T`` (up to a factor), and
sends errors back through it, ``g = M e``. On a stock ``LearningDense`` from outputs to the layer:
``dw = 2^a*x0*x1*y1 - 2^-b*u<j>*w``. Graded spikes have no sign, so a network step takes four Lava steps: max(o, 0) with y1 = z,
max(-o, 0) with y1 = -z, max(e, 0) and max(-e, 0) with y1 = 0; g is the difference of the currents of the last two. The decay
acts in every 2^j-th Lava step only, because an exponent below -7 cannot be written: lambda = 1 - 2^-(b+j) a Lava step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import within
from lava_snnlearn.lava_backend.runner import TIME_LIMIT
from lava_snnlearn.lava_backend.stock.engine import FLOATING, Product, StockRule, run_stock

PHASES = 4
"""Lava steps of a network step."""


@dataclass(frozen=True)
class DecimatedDecay:
    """``M += 2^gain * z o^T`` in each network step, and ``M -= 2^-shift * M`` in every 2^(decimation - 2)-th.

    gain: exponent in the units of the float engine. shift: 0..7. decimation: j of u<j>, 2..9 (one digit; below 2 the matrix
    would decay between the phases of a step). lambda of a network step is 1 - 2^-(shift + decimation - 2), in the mean.
    """

    gain: int
    shift: int
    decimation: int

    def __post_init__(self) -> None:
        within("shift", self.shift, 0, 7, "Use a larger decimation for a slower decay.")
        within("decimation", self.decimation, 2, 9, "Lava's grammar takes one digit, and a network step has four Lava steps.")

    @property
    def period(self) -> int:
        """Network steps from decay to decay."""
        return 2**self.decimation // PHASES

    @property
    def rule(self) -> StockRule:
        """The rule of the stock connection."""
        learning = Product(1, self.gain, "x0", ("x1", "y1"))
        return StockRule(weight=(learning, Product(-1, -self.shift, f"u{self.decimation}", ("w",))), graded=True)


@dataclass(frozen=True)
class FeedbackLearning:
    """matrices: [T, n, m] after each network step (after the decay, where it acts). modulations: [T, n], g of each step."""

    matrices: NDArray[Any]
    modulations: NDArray[Any]


def learn_feedback(
    how: DecimatedDecay, matrix: NDArray[Any], outputs: NDArray[Any], noise: NDArray[Any], errors: NDArray[Any]
) -> FeedbackLearning:
    """The feedback matrix in plain numpy, float64. Arguments as of :func:`run_feedback`."""
    current = matrix.astype(float)
    matrices, modulations = [], []
    for step, (o, z, e) in enumerate(zip(outputs, noise, errors, strict=True)):
        current = current + 2.0**how.gain * np.outer(z, o)
        modulations.append(current @ e)
        if (step + 1) % how.period == 0:
            current = current - 2.0**-how.shift * current
        matrices.append(current)
    return FeedbackLearning(np.array(matrices), np.array(modulations))


def run_feedback(
    how: DecimatedDecay,
    matrix: NDArray[Any],
    outputs: NDArray[Any],
    noise: NDArray[Any],
    errors: NDArray[Any],
    *,
    tag: str = FLOATING,
    time_limit: float = TIME_LIMIT,
) -> FeedbackLearning:
    """The feedback matrix on Lava: one stock ``LearningDense``.

    Args:
        how: exponents. matrix: [n, m] at the start.
        outputs: [T, m], o; noise: [T, n], z; for ``fixed_pt`` integers -127..127. Noise of +-8 loses nothing there, +-1
            does: the engine drops the last three bits of x1 * y1.
        errors: [T, m], e; for ``fixed_pt`` integers -254..254.
        tag, time_limit, and errors raised: see :func:`~lava_snnlearn.lava_backend.stock.engine.run_stock`.
    """
    if not len(outputs) == len(noise) == len(errors):
        raise ValueError(f"outputs, noise and errors hold {len(outputs)}, {len(noise)} and {len(errors)} rows; give T of each")
    steps = len(outputs)
    if outputs.shape != errors.shape:
        raise ValueError(f"outputs and errors have shapes {outputs.shape} and {errors.shape}; give both [T, m]")
    halves = 2 * np.maximum(outputs, 0), 2 * np.maximum(-outputs, 0)  # x1 is half the payload
    payloads = np.stack([*halves, np.maximum(errors, 0), np.maximum(-errors, 0)], axis=1).reshape(steps * PHASES, -1)
    silence = np.zeros_like(noise)
    post = np.stack([noise, -noise, silence, silence], axis=1).reshape(steps * PHASES, -1)
    # One Lava step more, in which the last current arrives.
    payloads, post = (np.concatenate([rows, np.zeros_like(rows[:1])]) for rows in (payloads, post))
    run = run_stock(matrix, how.rule, payloads, {"y1": post}, tag=tag, time_limit=time_limit)
    signed = run.currents[3::PHASES] - run.currents[4::PHASES]
    return FeedbackLearning(run.weights[PHASES - 1 :: PHASES][:steps], signed)
