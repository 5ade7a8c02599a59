"""How many synapses learning on the chip changes, sample by sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import instance_of
from lava_snnlearn.on_chip import local, spide


def count_learning_updates(state: spide.OnChipState | local.LocalState, x: ArrayLike, y: ArrayLike) -> NDArray[np.int64]:
    """Learn samples one after the other, and count the changes of stored weights.

    Of OTTT, DFA and OPZO, which learn in every step, a synapse counts in each step that it changes in; of SPIDE, which learns
    once a sample, once. What is computed and leaves a weight as it was does not count, and neither do feedback matrices and
    subspaces: a lower bound of what a learning engine does.

    Args:
        state: the network before; it stays as it is.
        x: data [B, features] (local methods: or [B, T, features]), or payloads, integers. y: classes [B].

    Returns:
        int64 [B].

    Raises:
        LimitError, ValueError, TypeError: data that do not fit, another state.
    """
    remedy = "make one with initial(OnChipSettings(...)) or initial(LocalSettings(...))"
    instance_of("state", state, (spide.OnChipState, local.LocalState), remedy)
    samples, labels = np.asarray(x), np.asarray(y)
    if labels.ndim != 1 or samples.ndim not in (2, 3) or len(samples) != len(labels):
        raise ValueError(
            f"data of shape {samples.shape} and classes of shape {labels.shape} do not fit; expected [B, ...] and [B]"
        )
    counts = np.zeros(len(labels), np.int64)
    for number, (sample, label) in enumerate(zip(samples, labels.tolist(), strict=True)):
        before = state.memories
        if isinstance(state, local.LocalState):
            state, record = local.train_sample(state, sample, label)
            counts[number] = sum(_changes(old, steps) for old, steps in zip(before, record.weights, strict=True))
        else:
            state, _ = spide.train_sample(state, sample, label)
            counts[number] = sum(_changes(old, new[None]) for old, new in zip(before, state.memories, strict=True))
    return counts


def _changes(before: NDArray[np.int16], steps: NDArray[np.int16]) -> int:
    """Weights [n_out, n_in] that differ from one step [steps, n_out, n_in] to the next, over all steps."""
    previous = np.concatenate([before[None], steps[:-1]])
    return int(np.count_nonzero(previous != steps))
