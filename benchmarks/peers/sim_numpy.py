"""A plain loop over time in numpy: all samples of a batch in one float32 product a step, membranes in int32."""

from __future__ import annotations

import time

import numpy as np
from integers import Integers, loop_over_time
from simulator import Simulation


def build(integers: Integers, threads: int, batch: int) -> Simulation:
    """The layers work in the same step: a lag would change no spike."""
    batches = [np.ascontiguousarray(integers.x[:, first : first + batch]) for first in range(0, integers.samples, batch)]
    kept: list[np.ndarray] = []

    def run() -> float:
        begin = time.perf_counter()
        kept[:] = [loop_over_time(integers, x) for x in batches]
        return time.perf_counter() - begin

    return Simulation(run, lambda: np.concatenate(kept, axis=1), np.__version__)
