"""The score of a graph reasoner in integers: 8-bit weights, 32-bit sums, one shift between the two layers.

A feature counts 1/4096 (the decoding kernel's 1.0; 1/8192 where those of two directions are added). The query's half of the
first layer is the same for all nodes, so it is one more bias, and is rounded once::

    x = hidden_bias[q] + hidden_weight @ h      y = (max(x, 0) + half) >> shift      score = output_weight @ y + output_bias
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.graph import frozen_integers

DECODE_ONE = 1 << 12
"""A feature of 1.0: a neuron that spikes in every step."""
HIDDEN_BITS = 15
"""A hidden activation has 15 bits behind the shift."""


@dataclass(frozen=True, eq=False)
class FixedHead:
    """The two layers of the score. H: hidden units, D: width, R: relations.

    Args:
        hidden_weight: int8 [H, D]. hidden_bias: int32 [R, H]. shift: 0..31. output_weight: int8 [H]. output_bias: 32 bits.
        hidden_scale, output_scale, feature_one: integers of one real unit of each layer's weights and of a feature, for reading
            scores.

    Raises:
        LimitError: a value out of range, a sum beyond 32 bits. TypeError: floats. ValueError: shapes.
    """

    hidden_weight: ArrayLike
    hidden_bias: ArrayLike
    shift: int
    output_weight: ArrayLike
    output_bias: int
    hidden_scale: int = 1
    output_scale: int = 1
    feature_one: int = DECODE_ONE

    def __post_init__(self) -> None:
        for name, low, high in (
            ("shift", 0, 31),
            ("output_bias", -limits.CHANNEL_MAX, limits.CHANNEL_MAX),
            ("hidden_scale", 1, limits.CHANNEL_MAX),
            ("output_scale", 1, limits.CHANNEL_MAX),
            ("feature_one", 1, limits.CHANNEL_MAX),
        ):
            object.__setattr__(self, name, whole_number(f"head: {name}", getattr(self, name)))
            within(f"head: {name}", getattr(self, name), low, high, "The head computes with 32 bits.")
        hidden = np.asarray(self.hidden_weight)
        if hidden.ndim != 2 or 0 in hidden.shape or np.ndim(self.hidden_bias) != 2:
            raise ValueError(
                f"head: hidden_weight has shape {hidden.shape} and hidden_bias {np.shape(self.hidden_bias)}; "
                "expected [H, D] and [R, H]"
            )
        rows = (len(np.asarray(self.hidden_bias)), len(hidden))
        self._freeze("hidden_weight", np.int8, hidden.shape)
        self._freeze("output_weight", np.int8, (len(hidden),))
        self._freeze("hidden_bias", np.int32, rows)

    def _freeze(self, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
        object.__setattr__(self, name, frozen_integers(f"head: {name}", getattr(self, name), dtype, shape))

    def check(self, width: int, relations: int, largest_feature: int) -> None:
        """Refuse a head of another shape, or one whose sums could leave 32 bits for features up to ``largest_feature``."""
        shapes = np.shape(self.hidden_weight)[1], len(np.asarray(self.hidden_bias))
        if shapes != (width, relations):
            raise ValueError(f"head: its width and relations are {shapes}, those of the reasoner {(width, relations)}")
        for where, bound in zip(("hidden", "output"), self._bounds(largest_feature), strict=True):
            if bound > limits.CHANNEL_MAX:
                raise LimitError(f"head: its {where} sums may reach {bound}, above {limits.CHANNEL_MAX}; lower its scales")

    def _bounds(self, largest_feature: int) -> tuple[int, int]:
        weights = np.abs(np.asarray(self.hidden_weight, dtype=np.int64)).sum(1)
        hidden = weights * largest_feature + np.abs(np.asarray(self.hidden_bias, dtype=np.int64)).max(0)
        sent = _rounded(hidden, self.shift)
        output = np.abs(np.asarray(self.output_weight, dtype=np.int64)) @ sent + abs(self.output_bias)
        return int(hidden.max()), int(output)

    @property
    def one(self) -> float:
        """Score that is one real unit."""
        return self.hidden_scale * self.output_scale * self.feature_one / 2.0**self.shift

    def scores(self, features: NDArray[Any], query: NDArray[Any]) -> NDArray[np.int64]:
        """Scores int64 [B, C] of features int64 [B, C, D] for queries int64 [B] (relations)."""
        # float64 products of 32-bit sums are exact.
        hidden = features.astype(np.float64) @ np.asarray(self.hidden_weight, dtype=np.float64).T
        total = hidden.astype(np.int64) + np.asarray(self.hidden_bias, dtype=np.int64)[query][:, None, :]
        sent = _rounded(np.maximum(total, 0), self.shift)
        result: NDArray[np.int64] = sent @ np.asarray(self.output_weight, dtype=np.int64) + self.output_bias
        return result

    def read(self, features: NDArray[np.floating[Any]], query: NDArray[Any]) -> NDArray[np.float64]:
        """Scores in real units, float64 [B, C], of features in real units [B, C, D]: multiples of 1/feature_one."""
        whole = np.rint(features.astype(np.float64) * self.feature_one).astype(np.int64)
        return self.scores(whole, query) / self.one


def _rounded(value: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    return (value + ((1 << shift) >> 1)) >> shift
