"""Trainer: determinism, what a run writes down, the best epoch, refusals."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lava_snnlearn.checkpoints import EpochMetrics, read_metrics
from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.data import Split
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.methods import BPTT, GRSNN, OTTT
from lava_snnlearn.networks import Network, mlp
from lava_snnlearn.training import Trainer, accuracy, predictions

CASES = ["bptt", "bptt-adam", "ottt", "ottt-online", "ottt-online-adam", "sltt", "sltt-k", "opzo"]
COLUMNS = ["epoch", "train_loss", "train_accuracy", "valid_accuracy", "spike_rate", "learning_rate", "seconds"]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


@pytest.mark.parametrize("case", CASES)
def test_same_seed_same_bits_other_seed_other_bits(runs: ModuleType, rows: Any, assert_same_weights: Any, case: str) -> None:
    assert set(runs.CASES) == set(CASES)
    first, second, other = (runs.make_trainer(case, seed=seed) for seed in (1, 1, 2))
    start = weights(first)
    histories = []
    for trainer in (first, second, other):
        torch.rand(7)  # the state of the generator before does not matter
        histories.append(trainer.fit())
    assert_same_weights(second.network, first.network)
    assert rows(histories[0]) == rows(histories[1])
    changed = weights(first)
    assert not any(torch.equal(changed[name], start[name]) for name in start if name.endswith("weight"))
    differing = weights(other)
    assert not any(torch.equal(differing[name], changed[name]) for name in start if name.endswith("weight"))


def test_the_seed_decides_the_order_of_the_samples(runs: ModuleType, scripted: Any) -> None:
    seen: list[tuple[int, Tensor]] = []

    class Watching(scripted):
        def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Any = None) -> Any:
            seen.append((self.seed, x.clone()))
            return super().gradients(network, x, y, on_step)

    for seed in (1, 2):
        method = Watching()
        method.seed = seed
        data = runs.make_data()
        Trainer(runs.make_network(), method, data, epochs=2, seed=seed, batch_size=16, progress=False).fit()
        batches = [x for owner, x in seen if owner == seed]
        assert [len(x) for x in batches] == [16, 16, 8, 16, 16, 8]
        everything = np.sort(data.train.x, axis=0)
        for epoch in (batches[:3], batches[3:]):
            np.testing.assert_array_equal(np.sort(torch.cat(epoch).numpy(), axis=0), everything)
        assert not torch.equal(batches[0], batches[3]), "the order does not change from epoch to epoch"
    assert not torch.equal(seen[0][1], seen[6][1]), "two seeds give the same order"


def test_metrics_are_means_over_samples(runs: ModuleType, scripted: Any, tmp_path: Path) -> None:
    """Batches of 16, 16 and 8 with losses 1, 2 and 4: (16 + 32 + 32) / 40 = 2. All answers are class 0: 14 of 40 samples."""
    trainer = Trainer(
        runs.make_network(),
        scripted([1, 2, 4]),
        runs.make_data(),
        epochs=2,
        batch_size=16,
        learning_rate=0.5,
        progress=False,
        run_dir=tmp_path / "new" / "run",
    )
    history = trainer.fit()
    for row, rate in zip(history.epochs, (0.5, 0.25), strict=True):
        assert row.train_loss == pytest.approx(2.0, rel=1e-15)
        assert row.train_accuracy == 14 / 40
        assert row.spike_rate == pytest.approx(0.25, rel=1e-15)
        assert row.learning_rate == pytest.approx(rate, rel=1e-15)  # cosine: (1 + cos 0) / 2 and (1 + cos pi/2) / 2
        assert row.seconds > 0
    assert [row.epoch for row in history.epochs] == [1, 2]


def test_metrics_csv_holds_the_history(runs: ModuleType, tmp_path: Path) -> None:
    trainer = runs.make_trainer("ottt", tmp_path)
    history = trainer.fit()
    with (tmp_path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == COLUMNS
    assert [{key: float(value) for key, value in line.items()} for line in table] == [row.columns() for row in history.epochs]
    assert len(table) == 3
    assert read_metrics(tmp_path / "metrics.csv") == history.epochs
    assert trainer.network.training is False
    held = accuracy(trainer.network, trainer.data.valid)
    assert held == max(row.valid_accuracy for row in history.epochs)


def test_metrics_are_read_back_with_their_diagnostics(tmp_path: Path) -> None:
    head = "epoch,train_loss,train_accuracy,valid_accuracy,spike_rate,learning_rate,seconds"
    file = tmp_path / "metrics.csv"
    file.write_text(f"{head},norm\n3,0.5,0.25,nan,0.125,0.1,2.0,7.5\n")
    (row,) = read_metrics(file)
    assert np.isnan(row.valid_accuracy)
    assert replace(row, valid_accuracy=0.0) == EpochMetrics(3, 0.5, 0.25, 0.0, 0.125, 0.1, 2.0, {"norm": 7.5})
    for broken in ("epoch,train_loss\n1,0.5\n", f"{head}\n1,x,0,0,0,0,0\n", f"{head}\n1,0\n"):
        file.write_text(broken)
        with pytest.raises(FileFormatError, match=r"metrics\.csv is not a valid table"):
            read_metrics(file)


def test_config_json_holds_the_settings(runs: ModuleType, tmp_path: Path) -> None:
    trainer = runs.make_trainer("sltt-k", tmp_path, epochs=np.int64(1), seed=np.int64(3))
    trainer.fit()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == trainer.config()
    expected = {
        "epochs": 1,
        "seed": 3,
        "batch_size": 16,
        "optimiser": "sgd",
        "schedule": "constant",
        "dropout": 0.3,
        "steps": 4,
    }
    assert expected.items() <= config.items()
    assert "SLTT(k=2" in config["method"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.h5", "config.json", "metrics.csv", "weights.h5"]


def favours(sequence: list[int]) -> Callable[[Network, int], None]:
    """In epoch e, make the network answer class sequence[e] to everything (three batches an epoch)."""

    def act(network: Network, number: int) -> None:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
            network.readout.bias[sequence[number // 3]] = 1.0

    return act


@pytest.mark.parametrize(
    ("sequence", "best"),
    [
        pytest.param([1, 0, 2], 2, id="the last epoch is worse"),
        pytest.param([0, 1, 2], 1, id="only the first is good"),
        pytest.param([0, 0, 1], 2, id="a tie goes to the later one"),
        pytest.param([2, 1, 0], 3, id="the last is best"),
    ],
)
def test_the_epoch_best_on_validation_is_kept(runs: ModuleType, scripted: Any, sequence: list[int], best: int) -> None:
    """The validation split has 3 samples of class 0, 2 of class 1 and 1 of class 2."""
    data = runs.make_data()
    valid = Split(data.valid.x[:6], np.array([0, 0, 0, 1, 1, 2]))
    data = type(data)("clouds", data.train, valid, data.test, 3)
    method = scripted(act=favours(sequence))
    trainer = Trainer(runs.make_network(), method, data, epochs=3, batch_size=16, learning_rate=0.0, progress=False)
    history = trainer.fit()
    assert [row.valid_accuracy for row in history.epochs] == [(3 - favourite) / 6 for favourite in sequence]
    assert history.best_epoch == best
    assert (predictions(trainer.network, data.test) == sequence[best - 1]).all()


def test_without_validation_the_last_epoch_is_kept(runs: ModuleType, scripted: Any, tmp_path: Path) -> None:
    method = scripted(act=favours([0, 1, 2]))
    data = runs.make_data(valid=0)
    trainer = Trainer(
        runs.make_network(), method, data, epochs=3, batch_size=16, learning_rate=0.0, progress=False, run_dir=tmp_path
    )
    history = trainer.fit()
    assert history.best_epoch is None
    assert all(math.isnan(row.valid_accuracy) for row in history.epochs)
    assert (predictions(trainer.network, data.test) == 2).all()
    with pytest.raises(ValueError, match="empty split"):
        accuracy(trainer.network, data.valid)


@pytest.mark.parametrize("case", ["bptt", "bptt-adam", "ottt-online"])
def test_learning_rate_zero_leaves_the_weights_untouched(runs: ModuleType, assert_same_weights: Any, case: str) -> None:
    trainer = runs.make_trainer(case, learning_rate=0.0)
    trainer.fit()
    assert_same_weights(trainer.network, runs.make_network(trainer.method.preset.norm))


def test_constant_schedule_and_presets(runs: ModuleType, scripted: Any) -> None:
    trainer = Trainer(
        runs.make_network(), scripted(), runs.make_data(), epochs=3, batch_size=16, schedule="constant", progress=False
    )
    assert [row.learning_rate for row in trainer.fit().epochs] == [scripted.preset.learning_rate] * 3


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("epochs", 0, ValueError),
        ("epochs", 1.5, TypeError),
        ("seed", -1, ValueError),
        ("seed", 1 << 64, ValueError),
        ("batch_size", 0, ValueError),
        ("batch_size", "16", TypeError),
        ("checkpoint_batches", 0, ValueError),
        ("learning_rate", -0.1, ValueError),
        ("learning_rate", math.nan, ValueError),
        ("learning_rate", math.inf, ValueError),
        ("weight_decay", -1.0, ValueError),
        ("weight_decay", math.nan, ValueError),
    ],
)
def test_bad_numbers_are_refused_by_name(runs: ModuleType, setting: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"{setting} is '?{value}'?; it must be"):
        runs.make_trainer("ottt", **{setting: value})


def test_unknown_names_get_the_nearest_valid_one(runs: ModuleType) -> None:
    with pytest.raises(UnknownNameError, match=r"optimiser 'adma'\. Did you mean 'adam'\? Valid: adam, sgd"):
        runs.make_trainer("ottt", optimiser="adma")
    with pytest.raises(UnknownNameError, match=r"schedule 'cosin'\. Did you mean 'cosine'"):
        runs.make_trainer("ottt", schedule="cosin")


def test_data_that_do_not_fit_the_network_are_refused(runs: ModuleType) -> None:
    narrow = runs.make_data()
    narrow = type(narrow)("narrow", *(Split(s.x[:, :4], s.y) for s in (narrow.train, narrow.valid, narrow.test)), classes=3)
    with pytest.raises(ValueError, match="'narrow' has 4 features and 3 classes, the network has 6 inputs and 3 outputs"):
        Trainer(runs.make_network(), BPTT(), narrow)
    many = runs.make_data()
    many = type(many)("many", many.train, many.valid, many.test, classes=5)
    with pytest.raises(ValueError, match="6 features and 5 classes, the network has 6 inputs and 3 outputs"):
        Trainer(runs.make_network(), BPTT(), many)


def test_a_batch_of_one_with_batch_norm_is_refused_before_training(runs: ModuleType) -> None:
    for samples, size in ((33, 16), (32, 1), (1, 16)):
        data, network = runs.make_data(samples), runs.make_network("bn_step")
        with pytest.raises(ValueError, match="batch of one sample"):
            Trainer(network, BPTT(), data, batch_size=size)
    # Neither is another norm refused, nor a last batch of two.
    Trainer(runs.make_network("sws"), BPTT(), runs.make_data(33), batch_size=16, epochs=1, progress=False).fit()
    Trainer(runs.make_network("bn_step"), BPTT(), runs.make_data(34), batch_size=16, epochs=1, progress=False).fit()


@pytest.mark.parametrize("place", ["file/run", "/proc/run"])
def test_an_unwritable_run_dir_is_refused_before_training(runs: ModuleType, scripted: Any, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    method = scripted()
    trainer = Trainer(runs.make_network(), method, runs.make_data(), run_dir=tmp_path / place, progress=False)
    with pytest.raises(OSError, match=r"cannot write .*run.config\.json.*Choose a folder"):
        trainer.fit()
    assert method.calls == 0


def test_progress_is_told_on_stderr_only_if_wanted(runs: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    runs.make_trainer("ottt", epochs=2, progress=True).fit()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "epoch   1" in shown.err
    assert "epoch   2" in shown.err
    assert "6/6" in shown.err
    assert "spike rate" in shown.err
    runs.make_trainer("ottt", epochs=2, progress=False).fit()
    assert capsys.readouterr() == ("", "")


def test_methods_differ(runs: ModuleType) -> None:
    """The runs above are of different methods, not of one under many names."""
    trained = {}
    for name, method in (("bptt", BPTT()), ("ottt", OTTT()), ("online", OTTT(update="online"))):
        trainer = Trainer(runs.make_network(), method, runs.make_data(), epochs=1, batch_size=16, progress=False)
        trainer.fit()
        trained[name] = trainer.network.layers[0].weight
    assert not torch.equal(trained["bptt"], trained["ottt"])
    assert not torch.equal(trained["ottt"], trained["online"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"network": "net"}, r"network is 'net'; build one, e\.g\. snn\.networks\.mlp"),
        ({"network": Network}, "network is the class Network"),
        ({"method": "ottt"}, r"method is 'ottt'; pass an instance, e\.g\. snn\.methods\.get\(\"ottt\"\)"),
        ({"method": GRSNN()}, r"GRSNN.*GraphReasoner; use snn\.reasoning\.ReasoningTrainer"),
        ({"method": OTTT}, r"method is the class OTTT; pass an instance.*snn\.methods\.OTTT\(\)"),
        ({"data": "digits"}, r"data is 'digits'; pass a Dataset, e\.g\. snn\.data\.load\(\"digits\"\)"),
        ({"epochs": True}, "epochs is True; it must be an integer"),
        ({"learning_rate": "0.1"}, r"learning_rate is '0\.1'; it must be a number"),
        ({"weight_decay": None}, "weight_decay is None; it must be a number"),
    ],
    ids=repr,
)
def test_arguments_of_another_type_are_refused(runs: ModuleType, change: dict[str, Any], message: str) -> None:
    arguments = {"network": runs.make_network(), "method": OTTT(), "data": runs.make_data()} | change
    with pytest.raises(TypeError, match=message):
        Trainer(**arguments)


@pytest.mark.parametrize("steps, refused", [(1, True), (2, False)])
def test_a_batch_of_one_with_batch_norm_over_time_needs_two_steps(runs: ModuleType, steps: int, refused: bool) -> None:
    network, data = mlp([6, 8, 3], norm="bn_time", steps=steps), runs.make_data(33)
    if refused:
        with pytest.raises(ValueError, match=r"batch of one sample.*'bn_time'.*steps = 1"):
            Trainer(network, BPTT(), data, batch_size=16)
    else:
        Trainer(network, BPTT(), data, batch_size=16, epochs=1, progress=False).fit()
