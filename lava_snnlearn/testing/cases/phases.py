"""Times of a sample in the cases of the neuron Processes."""

from __future__ import annotations

import numpy as np

from lava_snnlearn.testing.processes import Parameters


def random_times(rng: np.random.Generator) -> Parameters:
    """Random t_start, t_stop and reset_interval."""
    start = int(rng.integers(0, 4))
    return {
        "t_start": start,
        "t_stop": None if rng.integers(2) else start + int(rng.integers(1, 20)),
        "reset_interval": None if rng.integers(2) else start + int(rng.integers(1, 12)),
    }


def sample_phase(parameters: Parameters, step: int) -> tuple[int, bool]:
    """Number of the step in its sample, and whether the neuron is active in it."""
    interval, stop = parameters["reset_interval"], parameters["t_stop"]
    phase = step if interval is None else step % interval
    return phase, parameters["t_start"] <= phase and (stop is None or phase < stop)


REFUSED_TIMES: dict[str, list] = {"t_start": [-1, 1.5], "t_stop": [0], "reset_interval": [0]}
