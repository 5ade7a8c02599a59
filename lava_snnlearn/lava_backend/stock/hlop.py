"""Signed outer products, and with them HLOP's Hebbian subspace learning, as a rule of Lava's stock learning engine.

HLOP (Xiao et al. 2024): lateral rows H learn the subspace of a layer's inputs x, ``y = H x``, ``r = x - H^T y``,
``H += eta * y r^T`` (Hebbian and anti-Hebbian part of Oja's rule), and the layer's own weights learn from what is left of x
outside of the old rows, ``W -= eta * g (x - H^T H x)^T``. Both are products of two signed vectors, but x1 has no sign. So each
product is applied in two Lava steps with ``dw = eta*x0*x1*y1 - eta*x0*x1*y2``: in the first the pre side sends max(r, 0) as
graded spikes and the post side (y1, y2) = (max(y, 0), max(-y, 0)), in the second max(-r, 0) and the two exchanged. The currents
of these two steps mean nothing: the post side has to ignore them.

Old rows are frozen by being a plain ``Dense``. The return path H^T is a second connection with the roles exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.lava_backend.runner import TIME_LIMIT
from lava_snnlearn.lava_backend.stock.engine import FLOATING, Product, StockRule, run_stock


@dataclass(frozen=True)
class SignedUpdates:
    """A connection that learns signed outer products.

    weights: [K, post, pre] after each update. responses: [K, post], what the weights before update k make of activity k.
    """

    weights: NDArray[Any]
    responses: NDArray[Any]


def two_phase_rule(exponent: int) -> StockRule:
    """The rule that adds ``2^exponent * y r^T`` over two steps, in the units of the float engine."""
    factors = ("x1", "y1"), ("x1", "y2")
    return StockRule(
        weight=tuple(Product(sign, exponent, "x0", names) for sign, names in zip((1, -1), factors, strict=True)), graded=True
    )


def run_signed_updates(
    weights: NDArray[Any],
    pre: NDArray[Any],
    post: NDArray[Any],
    *,
    exponent: int,
    activity: NDArray[Any] | None = None,
    tag: str = FLOATING,
    time_limit: float = TIME_LIMIT,
) -> SignedUpdates:
    """K times ``W += 2^exponent * post[k] pre[k]^T`` on one stock ``LearningDense``, signs and all.

    An update takes three Lava steps: the activity, to which the weights respond and which they do not learn from (both post
    factors are 0), and the two phases.

    Args:
        weights: [post, pre].
        pre, post: [K, pre] and [K, post], of either sign; for ``fixed_pt`` integers -127..127.
        activity: [K, pre], or None for zeros; for ``fixed_pt`` integers 0..254.
        exponent, tag, time_limit, and errors raised: see :func:`~lava_snnlearn.lava_backend.stock.engine.run_stock`.
    """
    inputs = np.zeros_like(pre) if activity is None else activity
    if not len(pre) == len(post) == len(inputs):
        raise ValueError(f"pre, post and activity hold {len(pre)}, {len(post)} and {len(inputs)} rows; give K of each")
    up, down, silence = np.maximum(post, 0), np.maximum(-post, 0), np.zeros_like(post)
    run = run_stock(
        weights,
        two_phase_rule(exponent),
        _interleaved(inputs, 2 * np.maximum(pre, 0), 2 * np.maximum(-pre, 0)),  # x1 is half the payload
        {"y1": _interleaved(silence, up, down), "y2": _interleaved(silence, down, up)},
        tag=tag,
        time_limit=time_limit,
    )
    return SignedUpdates(run.weights[2::3], run.currents[1::3])


def _interleaved(*phases: NDArray[Any]) -> NDArray[Any]:
    """Row k of each phase one after the other."""
    return np.stack(phases, axis=1).reshape(-1, phases[0].shape[1])


@dataclass(frozen=True)
class SubspaceLearning:
    """Hebbian learning of lateral rows over K samples: rows [K, M, n] after each, responses y [K, M], residuals r [K, n]."""

    rows: NDArray[np.float64]
    responses: NDArray[np.float64]
    residuals: NDArray[np.float64]


def learn_subspace(rows: NDArray[Any], samples: NDArray[Any], exponent: int) -> SubspaceLearning:
    """The lateral circuit in plain numpy, float64: ``H += 2^exponent * y r^T``, one sample [n] after the other.

    rows: [M, n] at the start; samples: [K, n].
    """
    current = rows.astype(float)
    history, responses, residuals = [], [], []
    for x in samples:
        y = current @ x
        r = x - current.T @ y
        current = current + 2.0**exponent * np.outer(y, r)
        history.append(current)
        responses.append(y)
        residuals.append(r)
    return SubspaceLearning(np.array(history), np.array(responses), np.array(residuals))
