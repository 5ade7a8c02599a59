"""OnChipTrainer with local rules: learns what the simulator learns, goes on from a network, resumes to the same bits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from lava_snnlearn.data import Dataset, Split
from lava_snnlearn.on_chip.local import (
    FEEDBACKS,
    LocalSettings,
    LocalState,
    begin_task,
    infer,
    initial,
    train_epoch,
    train_sample,
)
from lava_snnlearn.on_chip.spide import OnChipSettings
from lava_snnlearn.on_chip.spide import initial as initial_spide
from lava_snnlearn.on_chip.trainer import PROBE, OnChipTrainer

SETTINGS = LocalSettings(sizes=(6, 10, 3), eta=0.03, seed=3)
SAMPLES = 40


def clouds(samples: int = SAMPLES, valid: int = 24) -> Dataset:
    generator = np.random.default_rng(5)
    centres = generator.uniform(0.2, 0.8, (3, 6))

    def part(count: int) -> Split:
        y = np.arange(count) % 3
        x = np.clip(centres[y] + 0.15 * generator.standard_normal((count, 6)), 0, 1)
        return Split(x.astype(np.float32).reshape(count, 6), y.astype(np.int64))

    return Dataset("clouds", part(samples), part(valid), part(12), classes=3)


def make(folder: Path | None = None, settings: LocalSettings = SETTINGS, **options: Any) -> OnChipTrainer:
    """Pieces of 16, 16 and 8 samples in each of three epochs."""
    chosen = {"epochs": 3, "host_samples": 16, "progress": False, "data": clouds()} | options
    return OnChipTrainer(settings, chosen.pop("data"), run_dir=folder, **chosen)


def assert_same(one: LocalState, other: LocalState) -> None:
    assert (one.samples, one.updates, one.old) == (other.samples, other.updates, other.old)
    assert one.eta == pytest.approx(other.eta, rel=1e-12)
    for name in ("memories", "matrices", "means", "subspaces", "velocities", "sums"):
        for ours, theirs in zip(getattr(one, name), getattr(other, name), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def taught(settings: LocalSettings) -> LocalState:
    """A network that has learnt something, with subspaces."""
    data = clouds()
    state, _ = train_epoch(begin_task(initial(settings), [2, 3]), data.train.x, data.train.y)
    return begin_task(state, 1)


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_it_learns_what_the_simulator_learns_sample_by_sample(feedback: str) -> None:
    settings = replace(SETTINGS, feedback=feedback, baseline=3)
    trainer = make(settings=settings, data=clouds(valid=0), epochs=4)
    trainer.fit()
    state, train = initial(settings), trainer.data.train
    assert_same(trainer.beginning(), state)
    for epoch, eta in enumerate([0.03, 0.03, 0.03, 0.006]):
        state = replace(state, eta=eta)
        for index in np.random.default_rng([3, epoch]).permutation(SAMPLES):
            state, _ = train_sample(state, train.x[index], int(train.y[index]))
    assert_same(trainer.state, state)
    assert state.updates == (4 * SAMPLES * settings.steps if feedback == "learned" else 0)


@pytest.mark.parametrize(
    ("feedback", "rows", "method"),
    [
        ("transport", 0, "ottt on chip"),
        ("fixed", 0, "dfa on chip"),
        ("learned", 0, "opzo on chip"),
        ("fixed", 1, "hlop on chip"),
    ],
)
def test_the_method_is_that_of_the_settings(tmp_path: Path, feedback: str, rows: int, method: str) -> None:
    settings = replace(SETTINGS, feedback=feedback)
    start = begin_task(initial(settings), rows) if rows else None
    make(tmp_path, settings, start=start, epochs=1).fit()
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["method"], config["feedback"], config["gain_bits"]) == (method, feedback, 2)
    assert (config["start_sha256"] is None) == (start is None)


@pytest.mark.parametrize("error", ["softmax", "mse"])
@pytest.mark.parametrize("update", ["online", "accumulate"])
def test_a_row_tells_of_the_network_after_the_epoch(error: str, update: str) -> None:
    """Also the accuracy: an answer during which the sample is learnt is too good."""
    trainer = make(settings=replace(SETTINGS, error=error, update=update), data=clouds(PROBE + 30), epochs=1)
    (row,) = trainer.fit().epochs
    x, y = trainer.data.train.x[:PROBE], trainer.data.train.y[:PROBE]
    found = infer(trainer.state, x)
    # 2^10 weight units are 1.0 in each of 8 steps; a lasting current c gives a readout that keeps half an output of 2 c.
    output = 2 * found.z / (8 * 1024)
    if error == "softmax":
        loss = -log_softmax(output, axis=1)[np.arange(PROBE), y].mean()
    else:
        loss = 0.5 * ((output - np.eye(3)[y]) ** 2).sum(axis=1).mean()
    assert row.train_loss == pytest.approx(loss, rel=1e-9)
    assert row.train_accuracy == (found.predictions == y).mean()
    valid = trainer.data.valid
    assert row.valid_accuracy == (infer(trainer.state, valid.x).predictions == valid.y).mean()
    assert row.spike_rate == pytest.approx(found.counts[0].sum() / (PROBE * 10 * 8), rel=1e-12)
    assert set(row.diagnostics) == {"saturated", "clipped", "changed"}


def test_it_learns() -> None:
    trainer = make(epochs=12)
    trainer.fit()
    test = trainer.data.test
    assert (infer(trainer.state, test.x).predictions == test.y).mean() >= 0.75
    assert (infer(trainer.beginning(), test.x).predictions == test.y).mean() <= 0.6


def test_it_goes_on_from_a_network() -> None:
    start = replace(taught(SETTINGS), eta=0.001)
    trainer = make(start=start, data=clouds(valid=0), epochs=1)
    assert_same(trainer.beginning(), replace(start, eta=0.03))
    order = trainer.order(0)
    assert order.tolist() != make().order(0).tolist()
    trainer.fit()
    expected, train = replace(start, eta=0.03), trainer.data.train
    for index in order:
        expected, _ = train_sample(expected, train.x[index], int(train.y[index]))
    assert_same(trainer.state, expected)
    assert trainer.state.samples == 2 * SAMPLES
    trainer.fit()
    assert_same(trainer.state, expected)


@pytest.mark.parametrize(("feedback", "memory"), [("transport", "stochastic"), ("learned", "stochastic"), ("fixed", "shadow")])
@pytest.mark.parametrize("pieces", [0, 1, 3, 5, 8])
def test_an_interrupted_run_ends_with_the_same_bits(
    killed: Any, tmp_path: Path, feedback: str, memory: str, pieces: int
) -> None:
    settings = replace(SETTINGS, feedback=feedback, memory=memory, baseline=4)
    start = taught(settings)
    whole = make(tmp_path / "whole", settings, start=start)
    expected = whole.fit()
    with killed(settings, pieces):
        make(tmp_path / "broken", settings, start=start).fit()
    resumed = make(tmp_path / "broken", settings, start=start)
    found = resumed.resume()
    assert_same(resumed.state, whole.state)
    assert_same(LocalState.load(tmp_path / "broken" / "weights.h5"), whole.state)
    assert found.best_epoch == expected.best_epoch
    rows = [[replace(row, seconds=0).columns() for row in history.epochs] for history in (found, expected)]
    np.testing.assert_equal(rows[0], rows[1])


def test_a_run_is_not_resumed_from_another_start(tmp_path: Path) -> None:
    start = taught(SETTINGS)
    make(tmp_path, start=start).fit()
    make(tmp_path, start=start).resume()
    changed = start.memories[1].copy()
    changed[0, 0] ^= 2
    for other in (replace(start, memories=(start.memories[0], changed)), replace(start, samples=7), None):
        with pytest.raises(ValueError, match=r"was made with (start_sha256|method) = "):
            make(tmp_path, start=other).resume()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"settings": {"sizes": (6, 10, 3)}}, TypeError, r"settings is .*; pass OnChipSettings \(SPIDE\) or LocalSettings"),
        (
            {"start": initial(replace(SETTINGS, leak=0.25))},
            ValueError,
            "start was made with leak = 0.25, but settings have 0.5",
        ),
        ({"start": initial_spide(OnChipSettings(sizes=(6, 10, 3)))}, TypeError, "start is .*its settings are LocalSettings"),
        ({"start": "earlier"}, TypeError, "start is 'earlier'"),
        ({"settings": replace(SETTINGS, sizes=(6, 10, 4))}, ValueError, "the network has 6 inputs and 4 outputs"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        make(tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()
