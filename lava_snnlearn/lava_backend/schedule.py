"""What sources send in a run over many samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def scheduled(signal: NDArray[np.integer[Any]], period: int, start: int = 0) -> NDArray[np.integer[Any]]:
    """Sample after sample, ``period`` steps each: T steps of its signal from the step ``start`` of its period on, else zeros.

    signal: [T, B, n], integers, with start + T <= period. Returns [B * period, n] of the same dtype.
    """
    rows = np.zeros((signal.shape[1], period, signal.shape[2]), signal.dtype)
    rows[:, start : start + len(signal)] = signal.swapaxes(0, 1)
    return rows.reshape(-1, signal.shape[2])


def held(rows: NDArray[np.integer[Any]], steps: int) -> NDArray[np.integer[Any]]:
    """The signal [steps, B, n] that stays at ``rows`` [B, n]; a view."""
    return np.broadcast_to(rows, (steps, *rows.shape))
