"""What the fixed engine made of an update that the float engine applies exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Deviation:
    """How far the fixed engine went from the float engine under the same drive, in units of the weights.

    changes: [K, ...], what the float engine changed in each of K updates. errors: [K, ...], by how much the fixed engine
    changed more in the same update.
    """

    changes: NDArray[np.float64] = field(repr=False)
    errors: NDArray[np.float64] = field(repr=False)

    @property
    def bias_up(self) -> float:
        """Mean error of the updates that are positive; NaN if there is none."""
        return self._mean_error(self.changes > 0)

    @property
    def bias_down(self) -> float:
        """Mean error of the updates that are negative; NaN if there is none."""
        return self._mean_error(self.changes < 0)

    @property
    def spread(self) -> float:
        """Standard deviation of the error of one update."""
        return float(self.errors.std())

    @property
    def shared(self) -> float:
        """Share of the errors that all synapses have in common: the variance over time of their mean, in parts of that of one.

        1 / synapses where each is rounded on its own, 1 where all err alike; 0 without errors.
        """
        flat = self.errors.reshape(len(self.errors), -1)
        single = float(flat.var(axis=0).mean())
        return float(flat.mean(axis=1).var()) / single if single else 0.0

    @property
    def drift(self) -> float:
        """Root mean square over the synapses of the sum of all errors: how far the weights are apart at the end."""
        return float(np.sqrt(np.mean(self.errors.sum(axis=0) ** 2)))

    @property
    def travelled(self) -> float:
        """Root mean square over the synapses of what the float engine changed in all."""
        return float(np.sqrt(np.mean(self.changes.sum(axis=0) ** 2)))

    def _mean_error(self, where: NDArray[np.bool_]) -> float:
        return float(self.errors[where].mean()) if where.any() else float("nan")


def deviation(start: NDArray[Any], floating: NDArray[Any], fixed: NDArray[Any]) -> Deviation:
    """Compare two runs that began at ``start`` [...]; floating, fixed: [K, ...], the weights after each of K updates.

    Raises ValueError if the shapes do not fit.
    """
    if floating.shape != fixed.shape or floating.shape[1:] != start.shape:
        raise ValueError(
            f"floating and fixed have shapes {floating.shape} and {fixed.shape}; expected twice [updates, *{start.shape}]"
        )
    changes = np.diff(floating.astype(float), axis=0, prepend=start[None])
    return Deviation(changes, np.diff(fixed.astype(float), axis=0, prepend=start[None]) - changes)
