"""The ternary spikes that a report shows are those of the backward phase, in their order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lava_snnlearn.on_chip.report import backward_spikes
from lava_snnlearn.on_chip.spide import OnChipSettings, OnChipState, initial, train_sample


def some_state(sizes: tuple[int, ...], **options: int) -> OnChipState:
    return initial(OnChipSettings(sizes=sizes, steps=12, backward_steps=40, seed=2, **options))


def sample(features: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 1, features).astype(np.float32)


@pytest.mark.parametrize("sizes", [(6, 10, 3), (6, 10, 8, 9, 3)])
def test_their_sums_are_the_counts(sizes: tuple[int, ...]) -> None:
    state = some_state(sizes, gain_bits=2)
    _, record = train_sample(state, sample(6), 1)
    spikes = backward_spikes(state, sample(6), 1)
    assert [layer.shape for layer in spikes] == [(40, size) for size in sizes[1:-1]]
    for layer, counts in zip(spikes, record.backward, strict=True):
        assert layer.dtype == np.int8
        assert set(np.unique(layer)) == {-1, 0, 1}
        np.testing.assert_array_equal(layer.sum(axis=0), counts)


def test_each_comes_at_its_step() -> None:
    """Against ternary neurons written out: u += g + R^T (m s), spikes of the step before; a spike subtracts 2 thresholds."""
    state = some_state((6, 10, 3), gain_bits=1)
    _, record = train_sample(state, sample(6), 2)
    feedback = state.views[1].astype(np.int64) << state.settings.hidden_exponent
    threshold = 1 << state.settings.scale_bits
    membrane, sent, rows = np.zeros(10, np.int64), np.zeros(10, np.int64), []
    for _ in range(40):
        membrane += record.g + feedback.T @ sent
        fired = np.where(membrane >= threshold, 1, 0) - np.where(membrane <= -threshold, 1, 0)
        membrane -= 2 * threshold * fired
        sent = fired * record.masks[0]
        rows.append(sent)
    (spikes,) = backward_spikes(state, sample(6), 2)
    np.testing.assert_array_equal(spikes, rows)
    assert np.abs(spikes).sum() > 40


def test_the_network_is_as_it_was() -> None:
    state = some_state((6, 10, 3))
    before = [memory.copy() for memory in state.memories]
    backward_spikes(replace(state, eta=0.5), sample(6), 0)
    for memory, copy in zip(state.memories, before, strict=True):
        np.testing.assert_array_equal(memory, copy)
