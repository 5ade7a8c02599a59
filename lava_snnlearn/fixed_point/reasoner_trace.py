"""ReasonerTrace: what every backend of a FixedReasoner returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReasonerTrace:
    """B queries on a graph of N nodes with D neurons each, over T steps.

    Attributes:
        features: int64 [B, N, D], decoded spikes; 4096 is a spike in every step.
        scores: int64 [B, N] of all nodes as answers; of a homogeneous reasoner for features of this one direction taken twice
            (:func:`~lava_snnlearn.fixed_point.reasoner_emulator.pair_scores` has both).
        spike_counts: int64 [B, N], spikes of each node.
        spikes: uint8 [T, B, N, D]; None unless recorded.
        membranes: int32 [T, B, N, D] in 1/64 weight units, after reset; None unless recorded.
        saturated: neuron-steps whose membrane was clipped to 24 bits.
        wrapped: neuron-steps whose current left its 24 bits and came in again at the other end: the scale is too large.
        charged: int32 [T, B, N, D], membranes before the reset; None unless recorded.
        aggregates: int64 [B], graded spikes between the two stages of the staged mapping; None for the exact one, and where the
            backend does not count them.
    """

    features: NDArray[np.int64]
    scores: NDArray[np.int64]
    spike_counts: NDArray[np.int64]
    spikes: NDArray[np.uint8] | None = None
    membranes: NDArray[np.int32] | None = None
    charged: NDArray[np.int32] | None = None
    saturated: int = 0
    wrapped: int = 0
    aggregates: NDArray[np.int64] | None = None
