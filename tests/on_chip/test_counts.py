"""Learning updates, against the weights before and after each step."""

from __future__ import annotations

import numpy as np
import pytest

from lava_snnlearn.on_chip import count_learning_updates, local, spide

DRAW = np.random.default_rng(0)
X, Y = DRAW.random((4, 6)), np.array([0, 1, 2, 0])


def test_spide_counts_the_weights_that_a_sample_changes():
    state = spide.initial(spide.OnChipSettings(sizes=(6, 10, 3)))
    found = count_learning_updates(state, X, Y)
    wanted = []
    for x, y in zip(X, Y, strict=True):
        after, _ = spide.train_sample(state, x, int(y))
        pairs = zip(state.memories, after.memories, strict=True)
        wanted.append(sum(1 for a, b in pairs for u, v in zip(a.ravel(), b.ravel(), strict=True) if u != v))
        state = after
    assert found.tolist() == wanted
    assert found.sum() > 0


@pytest.mark.parametrize("update", ["accumulate", "online"])
def test_local_methods_count_every_step(update):
    state = local.initial(local.LocalSettings(sizes=(6, 10, 3), update=update))
    found = count_learning_updates(state, X, Y)
    total, last = 0, []
    for x, y in zip(X, Y, strict=True):
        before = [memory.copy() for memory in state.memories]
        state, record = local.train_sample(state, x, int(y))
        for step in range(record.weights[0].shape[0]):
            now = [weights[step] for weights in record.weights]
            total += sum(int((a != b).sum()) for a, b in zip(before, now, strict=True))
            before = now
        last.append(all((a == b).all() for a, b in zip(before, state.memories, strict=True)))
    assert found.sum() == total > 0
    assert all(last)


def test_the_state_stays_as_it_is_and_misfits_are_refused():
    state = spide.initial(spide.OnChipSettings(sizes=(6, 10, 3)))
    before = [memory.copy() for memory in state.memories]
    count_learning_updates(state, X, Y)
    assert all((a == b).all() for a, b in zip(before, state.memories, strict=True))
    with pytest.raises(ValueError, match=r"data of shape \(4, 6\) and classes of shape \(2,\)"):
        count_learning_updates(state, X, Y[:2])
    with pytest.raises(TypeError, match="make one with initial"):
        count_learning_updates(3, X, Y)
