"""A run that was killed and resumed ends with the bits of one that was not; what resume() and fit() refuse."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from lava_snnlearn import training
from lava_snnlearn.files import FileFormatError, read_tree
from lava_snnlearn.methods import OTTT, SLTT
from lava_snnlearn.networks import Network
from lava_snnlearn.training import Trainer


def table(folder: Path) -> list[list[str]]:
    """metrics.csv without the seconds."""
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    seconds = rows[0].index("seconds")
    return [row[:seconds] + row[seconds + 1 :] for row in rows]


# The piece of work at which the process stands still and is killed. An epoch has 3 batches, a batch of the online form 4 steps.
KILLS = [
    ("opzo", 5),
    ("ottt", 2),
    ("ottt", 8),
    ("bptt-adam", 6),
    ("sltt-k", 5),
    ("ottt-online", 4 * 4 + 2),
    ("ottt-online-adam", 4 * 5 + 3),
]


@pytest.mark.parametrize(("case", "call"), KILLS)
def test_kill_9_and_resume_gives_the_same_bits(
    runs: ModuleType, spawn: Any, wait_for: Any, assert_same_weights: Any, rows: Any, tmp_path: Path, case: str, call: int
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    process = spawn("train_until_killed.py", case, killed, call)
    wait_for(killed / "ready", process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    per_batch = 4 if "online" in case else 1
    done = (call - 1) // per_batch
    stored = read_tree(killed / "checkpoint.h5", content="checkpoint")["progress"]
    assert (stored["epoch"], stored["batch"]) == divmod(done, 3)

    uninterrupted = runs.make_trainer(case, whole)
    expected = uninterrupted.fit()
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(999)
    resumed = runs.make_trainer(case, killed)
    with torch.no_grad():
        for parameter in resumed.network.parameters():
            parameter.zero_()  # nothing of the start is left over
    found = resumed.resume()
    assert_same_weights(resumed.network, uninterrupted.network)
    assert rows(found) == rows(expected)
    assert found.best_epoch == expected.best_epoch
    assert table(killed) == table(whole)
    assert len(table(killed)) == 4
    assert read_tree(killed / "weights.h5", "weights").keys() == read_tree(whole / "weights.h5", "weights").keys()


def test_kill_9_while_checkpoints_are_written_leaves_a_whole_one(spawn: Any, wait_for: Any, tmp_path: Path) -> None:
    delays = np.random.default_rng(0).uniform(0, 0.05, 6)
    for index, delay in enumerate(delays):
        path = tmp_path / str(index) / "checkpoint.h5"
        path.parent.mkdir()
        process = spawn("write_until_killed.py", path)
        wait_for(path, process)
        first = path.stat().st_mtime_ns
        end = time.monotonic() + 60
        while path.stat().st_mtime_ns == first and time.monotonic() < end:
            time.sleep(0.001)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(float(delay))
        process.kill()
        process.wait()
        tree = read_tree(path, content="checkpoint")
        assert tree["number"] > 1, "none was killed while it replaced an earlier one"
        assert len(tree["arrays"]) == 20
        assert all((array == tree["number"]).all() for array in tree["arrays"])


def test_leftovers_of_killed_writers_are_swept_up(runs: ModuleType, interrupt: Any, tmp_path: Path) -> None:
    interrupt(runs.make_trainer("ottt", tmp_path), 4)
    (tmp_path / ".checkpoint.h5.abcd1234").write_bytes(b"half a checkpoint")
    (tmp_path / ".notes").write_text("the user's own")
    runs.make_trainer("ottt", tmp_path).resume()
    hidden = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert hidden == [".notes"]


@pytest.mark.parametrize("batches", [1, 2, 3, 5, 8])
def test_resume_after_every_kind_of_batch(
    runs: ModuleType, interrupt: Any, assert_same_weights: Any, rows: Any, tmp_path: Path, batches: int
) -> None:
    """With a checkpoint every second batch, so that work after the last one is done again."""
    whole = runs.make_trainer("sltt-k", checkpoint_batches=2)
    expected = whole.fit()
    interrupt(runs.make_trainer("sltt-k", tmp_path, checkpoint_batches=2), batches)
    resumed = runs.make_trainer("sltt-k", tmp_path, checkpoint_batches=2)
    assert rows(resumed.resume()) == rows(expected)
    assert_same_weights(resumed.network, whole.network)


def test_the_best_epoch_before_the_interruption_is_not_forgotten(
    runs: ModuleType, scripted: Any, interrupt: Any, tmp_path: Path
) -> None:
    def fill(network: Network, number: int) -> None:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
            network.readout.bias[0 if number < 3 else 1] = 1.0

    data = runs.make_data()
    valid = training.Split(data.valid.x[:3], np.array([0, 0, 1]))
    data = type(data)("clouds", data.train, valid, data.test, 3)
    settings = {"epochs": 3, "batch_size": 16, "learning_rate": 0.0, "run_dir": tmp_path, "progress": False}
    interrupt(Trainer(runs.make_network(), scripted(act=fill), data, **settings), 5)
    later = scripted(act=lambda network, _: fill(network, 99))
    resumed = Trainer(runs.make_network(), later, data, **settings)
    history = resumed.resume()
    assert [row.valid_accuracy for row in history.epochs] == [2 / 3, 1 / 3, 1 / 3]
    assert history.best_epoch == 1
    assert resumed.network.readout.bias.tolist() == [1.0, 0.0, 0.0]


def test_resume_restores_the_global_generators(runs: ModuleType, scripted: Any, interrupt: Any, tmp_path: Path) -> None:
    """A user's method may draw from any of the three."""
    draws: list[tuple[float, ...]] = []

    def draw(network: Network, number: int) -> None:
        draws.append((float(torch.rand(())), np.random.rand(), np.random.randn(), random.random(), random.gauss(0, 1)))  # noqa: NPY002

    def trainer(folder: Path) -> Trainer:
        method = scripted(act=draw)
        return Trainer(
            runs.make_network(),
            method,
            runs.make_data(),
            epochs=3,
            batch_size=16,
            run_dir=folder,
            checkpoint_batches=1,
            progress=False,
        )

    def seed(value: int) -> None:
        np.random.seed(value)  # noqa: NPY002
        random.seed(value)

    seed(3)
    trainer(tmp_path / "whole").fit()
    expected = draws.copy()
    draws.clear()
    seed(3)
    interrupt(trainer(tmp_path / "broken"), 4)
    seed(77)
    torch.manual_seed(77)
    trainer(tmp_path / "broken").resume()
    assert draws == expected
    assert len(set(expected)) == 9


def test_resume_of_a_finished_run_gives_the_same_again(runs: ModuleType, assert_same_weights: Any, tmp_path: Path) -> None:
    first = runs.make_trainer("bptt-adam", tmp_path)
    history = first.fit()
    again = runs.make_trainer("bptt-adam", tmp_path)
    assert again.resume() == history
    assert_same_weights(again.network, first.network)


def test_resume_completes_a_table_that_the_kill_cut_short(
    runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the last checkpoint, before metrics.csv: nothing is left to train, but a row is missing."""
    whole = runs.make_trainer("ottt", tmp_path / "whole")
    whole.fit()
    broken = runs.make_trainer("ottt", tmp_path / "broken")
    real = training.checkpoints.write_table

    def write_table(path: Path, columns: Any, written: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        real(path, columns, written)

    monkeypatch.setattr(training.checkpoints, "write_table", write_table)
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    assert len(table(tmp_path / "broken")) == 3
    monkeypatch.undo()
    runs.make_trainer("ottt", tmp_path / "broken").resume()
    assert table(tmp_path / "broken") == table(tmp_path / "whole")


def test_resume_without_a_checkpoint_starts(runs: ModuleType, assert_same_weights: Any, tmp_path: Path) -> None:
    started, fitted = runs.make_trainer("ottt", tmp_path / "new"), runs.make_trainer("ottt")
    started.resume()
    fitted.fit()
    assert_same_weights(started.network, fitted.network)
    with pytest.raises(ValueError, match="resume\\(\\) needs a run_dir"):
        runs.make_trainer("ottt").resume()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 4),
        ("seed", 9),
        ("batch_size", 20),
        ("learning_rate", 0.02),
        ("optimiser", "adam"),
        ("weight_decay", 0.1),
        ("schedule", "constant"),
        ("dropout", 0.1),
    ],
)
def test_resume_with_another_setting_is_refused(
    runs: ModuleType, interrupt: Any, tmp_path: Path, setting: str, value: Any
) -> None:
    interrupt(runs.make_trainer("ottt", tmp_path), 4)
    before = (tmp_path / "checkpoint.h5").read_bytes()
    other = runs.make_trainer("ottt", tmp_path, **{setting: value})
    with pytest.raises(ValueError, match=rf"was made with {setting} = .*, now it is '?{value}'?\. Resume with the same"):
        other.resume()
    assert (tmp_path / "checkpoint.h5").read_bytes() == before


def test_resume_with_another_task_is_refused(runs: ModuleType, interrupt: Any, tmp_path: Path) -> None:
    interrupt(runs.make_trainer("ottt", tmp_path), 4)
    options = {"epochs": 3, "seed": 1, "batch_size": 16, "progress": False, "run_dir": tmp_path}
    norm = OTTT().preset.norm
    network, data = runs.make_network(norm), runs.make_data()
    longer = runs.make_network(norm)
    longer.steps = 5
    other = {
        "method": (network, SLTT(), data),
        "network": (runs.make_network(norm, hidden=(12, 11)), OTTT(), data),
        "steps": (longer, OTTT(), data),
        "dtype": (runs.make_network(norm).double(), OTTT(), data),
        "data": (network, OTTT(), runs.make_data(name="other clouds")),
        "data_sha256": (network, OTTT(), runs.make_data(seed=6)),
    }
    for key, task in other.items():
        with pytest.raises(ValueError, match=rf"was made with {key} = "):
            Trainer(*task, **options).resume()
    assert len(Trainer(network, OTTT(), data, **options).resume().epochs) == 3


def test_fit_does_not_overwrite_unless_told(runs: ModuleType, interrupt: Any, assert_same_weights: Any, tmp_path: Path) -> None:
    interrupt(runs.make_trainer("bptt", tmp_path), 5)
    before = (tmp_path / "checkpoint.h5").read_bytes()
    again = runs.make_trainer("ottt", tmp_path)
    with pytest.raises(FileExistsError, match=r"resume\(\).*another run_dir.*overwrite=True"):
        again.fit()
    assert (tmp_path / "checkpoint.h5").read_bytes() == before
    again.fit(overwrite=True)
    fresh = runs.make_trainer("ottt")
    fresh.fit()
    assert_same_weights(again.network, fresh.network)
    assert len(table(tmp_path)) == 4


def test_a_method_that_refuses_does_not_cost_the_earlier_run(runs: ModuleType, tmp_path: Path) -> None:
    runs.make_trainer("ottt", tmp_path).fit()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    hopeless = Trainer(runs.make_network(), SLTT(k=9), runs.make_data(), run_dir=tmp_path, progress=False)
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="k is 9"):
        hopeless.fit(overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert torch.equal(torch.get_rng_state(), state)


def test_overwriting_leaves_nothing_of_the_earlier_run(runs: ModuleType, interrupt: Any, tmp_path: Path) -> None:
    runs.make_trainer("ottt", tmp_path).fit()

    class Stopped(Exception):
        pass

    def stop(*_: Any) -> None:
        raise Stopped

    trainer = runs.make_trainer("ottt", tmp_path)
    trainer._run = stop
    with pytest.raises(Stopped):
        trainer.fit(overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_loss_that_is_not_finite_stops_the_run(runs: ModuleType, scripted: Any, tmp_path: Path) -> None:
    method = scripted([1, 1, 1, 1, float("nan")])
    trainer = Trainer(
        runs.make_network(),
        method,
        runs.make_data(),
        epochs=3,
        batch_size=16,
        run_dir=tmp_path,
        checkpoint_batches=1,
        learning_rate=0.125,
        schedule="constant",
        progress=False,
    )
    with pytest.raises(
        FloatingPointError, match=r"loss became nan in epoch 2, batch 2\. Lower the learning rate \(now 0\.125\)"
    ):
        trainer.fit()
    stored = read_tree(tmp_path / "checkpoint.h5", "checkpoint")
    assert (stored["progress"]["epoch"], stored["progress"]["batch"]) == (1, 1)


def test_an_absurd_learning_rate_is_noticed_before_it_reaches_a_checkpoint(runs: ModuleType, tmp_path: Path) -> None:
    trainer = runs.make_trainer("bptt", tmp_path, learning_rate=1e38)
    with pytest.raises(FloatingPointError, match=r"in epoch 1, batch \d.*Lower the learning rate \(now 1e\+38\)"):
        trainer.fit()
    if (tmp_path / "checkpoint.h5").exists():
        stored = read_tree(tmp_path / "checkpoint.h5", "checkpoint")["network"]
        assert all(np.isfinite(values).all() for values in stored.values())


def test_weights_broken_by_the_last_update_are_noticed(runs: ModuleType, scripted: Any, tmp_path: Path) -> None:
    """The loss of the batch that breaks them is still fine, and there is no next batch to show it."""

    def explode(network: Network, number: int) -> None:
        if number == 8:
            with torch.no_grad():
                network.readout.weight[0, 0] = torch.inf

    trainer = Trainer(
        runs.make_network(), scripted(act=explode), runs.make_data(), epochs=3, batch_size=16, run_dir=tmp_path, progress=False
    )
    with pytest.raises(FloatingPointError, match=r"weights became NaN or infinite in epoch 3, batch 3.*last good state"):
        trainer.fit()
    assert read_tree(tmp_path / "checkpoint.h5", "checkpoint")["progress"]["epoch"] == 2
    assert not (tmp_path / "weights.h5").exists()


def test_a_run_dir_that_became_unwritable_is_noticed_before_work(runs: ModuleType, interrupt: Any, tmp_path: Path) -> None:
    interrupt(runs.make_trainer("ottt", tmp_path), 4)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()  # as root, permission bits bind nobody
    resumed = runs.make_trainer("ottt", tmp_path)
    resumed.method = None  # would fail if asked for a gradient
    resumed.config = lambda: read_tree(tmp_path / "checkpoint.h5", "checkpoint")["config"]
    with pytest.raises(OSError, match=r"config\.json"):
        resumed.resume()


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "flipped", "weights"])
def test_a_damaged_checkpoint_is_refused(runs: ModuleType, tmp_path: Path, damage: str) -> None:
    trainer = runs.make_trainer("ottt", tmp_path)
    trainer.fit()
    path = tmp_path / "checkpoint.h5"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    content = {
        "truncated": whole[: len(whole) // 2],
        "foreign": b"PK\x03\x04 something else",
        "empty": b"",
        "flipped": bytes(flipped),
        "weights": (tmp_path / "weights.h5").read_bytes(),
    }[damage]
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"checkpoint\.h5 (is|holds)"):
        runs.make_trainer("ottt", tmp_path).resume()
    assert path.read_bytes() == content
