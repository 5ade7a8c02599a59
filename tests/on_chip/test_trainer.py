"""OnChipTrainer: learns what the simulator learns, tells what happened, resumes to the same bits, refuses what does not fit."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from lava_snnlearn.data import Dataset, Split
from lava_snnlearn.files import FileFormatError, read_tree, write_tree
from lava_snnlearn.on_chip import trainer as module
from lava_snnlearn.on_chip.learners import learner_of
from lava_snnlearn.on_chip.spide import (
    OnChipSettings,
    OnChipState,
    choose_gain,
    diagnose,
    infer,
    initial,
    project,
    train_sample,
)
from lava_snnlearn.on_chip.trainer import OnChipTrainer

FEATURES, CLASSES, SAMPLES = 6, 3, 40
SETTINGS = OnChipSettings(sizes=(FEATURES, 10, CLASSES), steps=12, backward_steps=30, eta=0.1, seed=3)


def make_data(**changes: Any) -> Dataset:
    """Three clouds within [0, 1] that overlap."""
    if "valid" in changes and changes["valid"] is None:
        changes["valid"] = Split(np.empty((0, FEATURES), np.float32), np.empty(0, np.int64))
    generator = np.random.default_rng(5)
    centres = generator.uniform(0.2, 0.8, (CLASSES, FEATURES))

    def split(samples: int) -> Split:
        y = np.arange(samples) % CLASSES
        x = np.clip(centres[y] + 0.2 * generator.standard_normal((samples, FEATURES)), 0, 1)
        return Split(x.astype(np.float32), y.astype(np.int64))

    return Dataset(
        **({"name": "clouds", "train": split(SAMPLES), "valid": split(24), "test": split(12), "classes": 3} | changes)
    )


def make_trainer(folder: Path | None = None, settings: OnChipSettings = SETTINGS, **options: Any) -> OnChipTrainer:
    """Pieces of 16, 16 and 8 samples in each of three epochs."""
    return OnChipTrainer(
        settings, make_data(), **({"epochs": 3, "host_samples": 16, "progress": False} | options), run_dir=folder
    )


def assert_same_state(one: OnChipState, other: OnChipState) -> None:
    assert (one.samples, one.eta, one.settings.gain_bits) == (other.samples, other.eta, other.settings.gain_bits)
    for ours, theirs in zip(one.memories, other.memories, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def table(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without the seconds."""
    with (folder / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("memory", ["shadow", "stochastic"])
def test_it_learns_what_the_simulator_learns_sample_by_sample(memory: str) -> None:
    """Four epochs at 0.1, 0.1, 0.1 and 0.02; the last one is kept, since there is no validation split."""
    settings = replace(SETTINGS, memory=memory)
    trainer = OnChipTrainer(settings, make_data(valid=None), epochs=4, host_samples=16, progress=False)
    trainer.fit()
    train = trainer.data.train
    state, _ = choose_gain(initial(settings), train.x, train.y)
    assert_same_state(trainer.beginning(), state)
    for epoch, eta in enumerate([0.1, 0.1, 0.1, 0.1 / 5]):
        state = replace(state, eta=eta)
        order = np.random.default_rng([3, epoch]).permutation(SAMPLES)
        np.testing.assert_array_equal(trainer.order(epoch), order)
        for number, index in enumerate(order, 1):
            state, _ = train_sample(state, train.x[index], int(train.y[index]))
            if number in (16, 32, 40):
                state = project(state)
    assert state.samples == 4 * SAMPLES
    assert trainer.state.eta == pytest.approx(state.eta, rel=1e-12)
    assert_same_state(trainer.state, replace(state, eta=trainer.state.eta))


def test_epochs_have_orders_of_their_own_and_the_seed_decides_them() -> None:
    trainer, other = make_trainer(), make_trainer(settings=replace(SETTINGS, seed=4))
    assert sorted(trainer.order(1)) == list(range(SAMPLES))
    assert (trainer.order(0) != trainer.order(1)).any()
    assert (trainer.order(0) != other.order(0)).any()


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (10, [0.1] * 6 + [0.02] * 3 + [0.004]),
        (20, [0.1] * 12 + [0.02] * 5 + [0.004] * 3),
        (1, [0.1]),
    ],
)
def test_the_learning_rate_falls_to_a_fifth_twice(epochs: int, expected: list[float]) -> None:
    """After 60 % and 85 % of the epochs."""
    rows = make_trainer(epochs=epochs).fit().epochs
    np.testing.assert_allclose([row.learning_rate for row in rows], expected, rtol=1e-12)


def test_it_learns(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=12)
    trainer.fit()
    test = trainer.data.test
    assert (infer(trainer.state, test.x).predictions == test.y).mean() >= 0.75
    assert (infer(trainer.beginning(), test.x).predictions == test.y).mean() <= 0.6


@pytest.mark.parametrize("error", ["softmax", "mse"])
def test_a_row_tells_loss_accuracies_rate_and_diagnostics(error: str, tmp_path: Path) -> None:
    settings = replace(SETTINGS, error=error, gain_bits=-1)
    trainer = make_trainer(tmp_path, settings, epochs=1, host_samples=100, auto_gain=False)
    (row,) = trainer.fit().epochs
    train, valid, state = trainer.data.train, trainer.data.valid, trainer.state
    found = infer(state, train.x)
    if error == "softmax":
        # 2^7 weight units are a logit of 1.0, in each of 12 steps.
        loss = -log_softmax(found.z / (12 * 128), axis=1)[np.arange(SAMPLES), train.y].mean()
    else:
        # An output of 1.0: the power of two next to that, 12 * 128 = 1536 -> 2048.
        loss = 0.5 * ((found.z / 2048 - np.eye(3)[train.y]) ** 2).sum(axis=1).mean()
    assert row.train_loss == pytest.approx(loss, rel=1e-9)
    assert row.spike_rate == pytest.approx(found.counts[0].sum() / (SAMPLES * 10 * 12), rel=1e-12)
    assert row.valid_accuracy == (infer(state, valid.x).predictions == valid.y).mean()
    right, before = 0, trainer.beginning()
    for index in trainer.order(0):
        right += int(infer(before, train.x[index : index + 1]).predictions[0] == train.y[index])
        before, _ = train_sample(before, train.x[index], int(train.y[index]))
    assert row.train_accuracy == pytest.approx(right / SAMPLES, rel=1e-12), "each sample before it was learnt"
    assert set(row.diagnostics) == {"clipped", "saturated", "dead_zone", "median_beta", "gain"}
    assert row.diagnostics["gain"] == 0.5
    (written,) = table(tmp_path)
    for name, value in row.columns().items():
        if name != "seconds":
            assert float(written[name]) == value


def test_diagnostics_are_means_over_the_samples_of_the_pieces() -> None:
    """With nothing to learn, a piece's diagnostics are those of its samples."""
    trainer = make_trainer(settings=replace(SETTINGS, frozen=SETTINGS.names), epochs=1)
    (row,) = trainer.fit().epochs
    train, order, state = trainer.data.train, trainer.order(0), trainer.state
    pieces = [order[:16], order[16:32], order[32:]]
    for name in ("clipped", "saturated", "dead_zone", "median_beta"):
        values = [getattr(diagnose(state, train.x[piece], train.y[piece]), name) for piece in pieces]
        assert row.diagnostics[name] == pytest.approx(np.average(values, weights=[16, 16, 8]), rel=1e-12)
    assert row.diagnostics["median_beta"] > 0


def test_the_gain_is_chosen_unless_told_otherwise() -> None:
    fixed = make_trainer(settings=replace(SETTINGS, gain_bits=-3), auto_gain=False, epochs=1)
    fixed.fit()
    assert fixed.state.settings.gain_bits == -3
    train = fixed.data.train
    expected, _ = choose_gain(initial(SETTINGS), train.x, train.y)
    chosen = make_trainer(settings=replace(SETTINGS, gain_bits=-3), epochs=1)
    chosen.fit()
    assert chosen.state.settings.gain_bits == expected.settings.gain_bits != -3


def test_the_best_validation_epoch_is_kept(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=8)
    history = trainer.fit()
    valid = trainer.data.valid
    accuracies = [row.valid_accuracy for row in history.epochs]
    best = max(range(8), key=lambda epoch: (accuracies[epoch], epoch))
    assert history.best_epoch == best + 1
    assert trainer.state.samples == (best + 1) * SAMPLES
    assert (infer(trainer.state, valid.x).predictions == valid.y).mean() == accuracies[best]
    assert_same_state(OnChipState.load(tmp_path / "weights.h5"), trainer.state)


def test_without_validation_the_last_epoch_is_kept() -> None:
    trainer = OnChipTrainer(SETTINGS, make_data(valid=None), epochs=2, progress=False)
    history = trainer.fit()
    assert history.best_epoch is None
    assert np.isnan([row.valid_accuracy for row in history.epochs]).all()
    assert trainer.state.samples == 2 * SAMPLES


@pytest.mark.parametrize("memory", ["shadow", "stochastic"])
@pytest.mark.parametrize("pieces", [0, 1, 2, 3, 4, 8])
def test_an_interrupted_run_ends_with_the_same_bits(killed: Any, tmp_path: Path, memory: str, pieces: int) -> None:
    settings = replace(SETTINGS, memory=memory)
    whole = make_trainer(tmp_path / "whole", settings)
    expected = whole.fit()
    with killed(settings, pieces):
        make_trainer(tmp_path / "broken", settings).fit()
    if pieces:
        stored = read_tree(tmp_path / "broken" / "checkpoint.h5", content="checkpoint")["progress"]
        assert (stored["epoch"], stored["batch"]) == divmod(pieces, 3)
    resumed = make_trainer(tmp_path / "broken", settings)
    found = resumed.resume()
    assert_same_state(resumed.state, whole.state)
    assert found.best_epoch == expected.best_epoch
    assert table(tmp_path / "broken") == table(tmp_path / "whole")
    assert len(table(tmp_path / "whole")) == 3


def test_resuming_a_finished_run_learns_nothing_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    history = trainer.fit()
    (tmp_path / "weights.h5").unlink()
    idle = replace(learner_of(SETTINGS), train_epoch=lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(module, "learner_of", lambda _: idle)
    again = make_trainer(tmp_path)
    assert again.resume() == history
    assert_same_state(OnChipState.load(tmp_path / "weights.h5"), trainer.state)


def test_settings_with_masks_are_compared_too(tmp_path: Path) -> None:
    mask = np.ones((10, 10), dtype=bool)
    mask[0] = False
    masked = replace(SETTINGS, masks={"R": mask}, frozen=("F",))
    make_trainer(tmp_path, masked).fit()
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["sizes"], config["frozen"], config["gain_bits"]) == ([6, 10, 3], ["F"], None)
    make_trainer(tmp_path, masked).resume()
    mask = mask.copy()
    mask[1] = False
    with pytest.raises(ValueError, match="was made with masks = "):
        make_trainer(tmp_path, replace(masked, masks={"R": mask})).resume()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"epochs": 4}, "epochs = 3, now it is 4"),
        ({"host_samples": 8}, "host_samples = 16, now it is 8"),
        ({"auto_gain": False}, "gain_bits = None, now it is 1"),
        ({"settings": replace(SETTINGS, eta=0.2)}, "eta = 0.1, now it is 0.2"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    make_trainer(tmp_path).fit()
    with pytest.raises(ValueError, match=match):
        make_trainer(tmp_path, **change).resume()


def test_an_earlier_run_is_not_deleted_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_trainer(tmp_path).fit()
    with pytest.raises(FileExistsError, match="Continue it with resume"):
        make_trainer(tmp_path).fit()
    other = make_trainer(tmp_path, replace(SETTINGS, seed=9))
    other.fit(overwrite=True)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 9
    assert_same_state(OnChipState.load(tmp_path / "weights.h5"), other.state)
    with pytest.raises(ValueError, match="needs a run_dir"):
        make_trainer().resume()


def test_a_checkpoint_without_the_network_is_refused(tmp_path: Path) -> None:
    make_trainer(tmp_path).fit()
    tree = read_tree(tmp_path / "checkpoint.h5", content="checkpoint")
    del tree["chip"]
    write_tree(tmp_path / "checkpoint.h5", tree, content="checkpoint")
    with pytest.raises(FileFormatError, match=r"checkpoint\.h5 is not a valid checkpoint: 'chip'"):
        make_trainer(tmp_path).resume()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"settings": "spide"}, TypeError, "settings is 'spide'; pass OnChipSettings"),
        ({"data": None}, TypeError, "data is None; pass a Dataset"),
        ({"epochs": 0}, ValueError, "epochs is 0; it must be at least 1"),
        ({"host_samples": 0}, ValueError, "host_samples is 0; it must be at least 1"),
        ({"host_samples": 2.5}, TypeError, r"host_samples is 2\.5; it must be an integer"),
        ({"auto_gain": 1}, TypeError, "auto_gain is 1; it must be True or False"),
        ({"settings": replace(SETTINGS, sizes=(5, 10, 3))}, ValueError, "6 features and 3 classes, the network has 5 inputs"),
        ({"settings": replace(SETTINGS, sizes=(6, 10, 4))}, ValueError, "the network has 6 inputs and 4 outputs"),
        (
            {"data": make_data(valid=Split(np.full((1, 6), 17.0, np.float32), np.zeros(1, np.int64)))},
            ValueError,
            r"payload is 272\.0 .*scale the data to 0\.\.1",
        ),
        (
            {"data": Dataset("films", *[Split(np.zeros((3, 2, 6), np.float32), np.arange(3))] * 3, classes=3)},
            ValueError,
            "'films' has sequences",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], match: str
) -> None:
    arguments = {"settings": SETTINGS, "data": make_data(), "run_dir": tmp_path / "run"} | change
    with pytest.raises(error, match=match):
        OnChipTrainer(**arguments)
    assert not (tmp_path / "run").exists()


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="2 processes were started"):
        make_trainer()
