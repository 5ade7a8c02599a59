"""Trace: what every backend returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Trace:
    """States of all populations over the steps of a batch of samples.

    Step t of a population is its own t-th active step (step t_start + t of the sample), so that layers line up.

    Attributes:
        spikes: per spiking population, uint8 [T, B, n]; of graded neurons the payloads; of relays int32, what they send.
        membranes: per population, int32 [T, B, n] in 1/64 weight units, after reset; of graded neurons the states, of relays
            what they send.
        outputs: int64 [B, classes]: final membrane of the output accumulator, last state of graded outputs and relays, or spike
            counts.
        saturated: per population, how many neuron-steps were clipped to 24 bits (empty where the backend cannot tell).
    """

    spikes: Mapping[str, NDArray[np.uint8 | np.int32]]
    membranes: Mapping[str, NDArray[np.int32]]
    outputs: NDArray[np.int64]
    saturated: Mapping[str, int] = field(default_factory=dict)

    @property
    def predictions(self) -> NDArray[np.int64]:
        """Class of each sample: the largest output, the lowest index among equals; int64 [B]."""
        return np.asarray(self.outputs.argmax(axis=1))

    def spike_rates(self) -> dict[str, float]:
        """Spikes (of graded neurons: payloads other than 0) per neuron and step of each spiking population."""
        return {name: float((spikes != 0).mean()) for name, spikes in self.spikes.items()}
