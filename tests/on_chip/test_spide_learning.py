"""Digits learnt in integers, one sample at a time (spec ide_spide, section 6-H)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from lava_snnlearn.data import load
from lava_snnlearn.data.dataset import Dataset
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.on_chip.spide import (
    OnChipSettings,
    OnChipState,
    choose_gain,
    infer,
    initial,
    to_fixed_network,
    train_epoch,
)

ETA = 0.03


@cache
def digits() -> Dataset:
    return load("digits", valid=0, scale="unit")


def learnt(state: OnChipState, epochs: int = 10) -> OnChipState:
    """The rate falls to a fifth after 60 % and again after 85 % of the epochs."""
    train = digits().train
    for epoch in range(epochs):
        falls = (epoch >= 0.6 * epochs) + (epoch >= 0.85 * epochs)
        state, _ = train_epoch(replace(state, eta=ETA * 0.2**falls), train.x, train.y, seed=epoch)
    return state


def accuracy(state: OnChipState) -> float:
    test = digits().test
    return float((infer(state, test.x).predictions == test.y).mean())


def network(**changes: object) -> OnChipState:
    return initial(OnChipSettings(sizes=(64, 100, 10), eta=ETA, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(("memory", "least"), [("shadow", 0.955), ("stochastic", 0.95)])
def test_digits_are_learnt_in_integers(memory: str, least: float) -> None:
    data = digits()
    state, _ = choose_gain(network(memory=memory), data.train.x[:300], data.train.y[:300])
    state = learnt(state)
    assert accuracy(state) >= least
    # The spike counts of what was learnt on the chip are those of the network that is deployed.
    trace, result = emulate(to_fixed_network(state), data.test.x), infer(state, data.test.x)
    assert (trace.spikes["hidden1"].sum(0) == result.counts[0]).all()
    assert (trace.outputs == result.z << 6).all()


def test_eight_bits_rounded_to_nearest_do_not_learn() -> None:
    assert accuracy(learnt(network(memory="nearest"))) < 0.5


def test_the_hidden_layer_must_learn() -> None:
    assert accuracy(learnt(network(frozen=("F", "R")))) < 0.93


def test_two_hidden_layers_learn() -> None:
    data = digits()
    state = initial(OnChipSettings(sizes=(64, 60, 60, 10), eta=ETA))
    state, _ = choose_gain(state, data.train.x[:300], data.train.y[:300])
    assert accuracy(learnt(state)) >= 0.92
