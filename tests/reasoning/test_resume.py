"""A run that was killed at any batch and resumed ends with the bits of one that was not; what resume() and fit() refuse."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from lava_snnlearn.files import FileFormatError, read_tree, write_tree
from lava_snnlearn.methods import GRSNN
from lava_snnlearn.reasoning import ReasoningHistory, ReasoningTrainer

SCRIPT = Path(__file__).parent / "killed" / "reason_until_killed.py"
BATCHES = 3 * 5  # three epochs of 2 + 2 + 1
PATIENCE = 120  # seconds


@pytest.fixture(scope="module")
def runs() -> ModuleType:
    """The module that the killed process runs."""
    spec = importlib.util.spec_from_file_location("reason_until_killed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Interruption(Exception):
    """Stands for a killed process."""


def interrupt() -> None:
    raise Interruption


def interrupted(runs: ModuleType, folder: Path, batches: int, **changes: Any) -> None:
    """A run that breaks off within the update that batch number ``batches`` belongs to."""
    with pytest.raises(Interruption):
        runs.make_trainer(folder, runs.Stopping(3, left=batches, stop=interrupt), **changes).resume()


def rows(history: ReasoningHistory) -> list[tuple[Any, ...]]:
    """The history without seconds."""
    return [(row.epoch, row.loss, row.spike_rate, row.learning_rate, row.valid) for row in history.epochs]


def assert_same(
    found: ReasoningTrainer, history: ReasoningHistory, whole: ReasoningTrainer, expected: ReasoningHistory
) -> None:
    wanted = whole.model.state_dict()
    assert not [name for name, value in found.model.state_dict().items() if not torch.equal(value, wanted[name])]
    assert rows(history) == rows(expected)
    assert history.best_epoch == expected.best_epoch


@pytest.fixture(scope="module")
def whole(runs: ModuleType) -> tuple[ReasoningTrainer, ReasoningHistory]:
    run = runs.make_trainer()
    return run, run.fit()


def test_kill_9_and_resume_gives_the_same_bits(runs: ModuleType, whole: Any, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), "9"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while not (tmp_path / "ready").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    stored = read_tree(tmp_path / "checkpoint.h5", content="checkpoint")["progress"]
    assert (stored["epoch"], stored["step"]) == (1, 1)  # batch 9 is the second of the second update of the second epoch
    run = runs.make_trainer(tmp_path, seed=99)
    assert_same(run, run.resume(), *whole)


@pytest.mark.parametrize("every, batches", [(1, range(1, BATCHES + 1, 2)), (2, range(2, BATCHES + 1, 4)), (None, (3, 10, 14))])
def test_broken_off_at_any_batch(
    runs: ModuleType, whole: Any, tmp_path: Path, every: int | None, batches: Sequence[int]
) -> None:
    for batch in batches:
        folder = tmp_path / str(batch)
        interrupted(runs, folder, batch, checkpoint_batches=every)
        torch.manual_seed(batch)
        run = runs.make_trainer(folder, checkpoint_batches=every)
        assert_same(run, run.resume(), *whole)
        assert len((folder / "metrics.csv").read_text().splitlines()) == 4


def test_broken_off_again_and_again(runs: ModuleType, whole: Any, tmp_path: Path) -> None:
    """Each attempt makes three batches at most, and still the end is reached with the same bits."""
    for attempt in range(BATCHES):
        run = runs.make_trainer(tmp_path, runs.Stopping(3, left=4, stop=interrupt), seed=attempt)
        try:
            history = run.resume()
        except Interruption:
            continue
        assert attempt > 2
        assert_same(run, history, *whole)
        return
    pytest.fail("no attempt came to the end")


def test_a_finished_run_is_read_again(runs: ModuleType, whole: Any, tmp_path: Path) -> None:
    runs.make_trainer(tmp_path).fit()
    table = (tmp_path / "metrics.csv").read_bytes()
    run = runs.make_trainer(tmp_path, runs.Stopping(3, left=1, stop=interrupt), seed=99)  # nothing is left to break off
    history = run.resume()
    assert_same(run, history, *whole)
    assert [next(iter(row.valid)) for row in history.epochs] == 3 * ["mrr"]  # the decisive one
    assert (tmp_path / "metrics.csv").read_bytes() == table


def test_an_earlier_run_is_not_overwritten_in_silence(runs: ModuleType, whole: Any, tmp_path: Path) -> None:
    interrupted(runs, tmp_path, 7, seed=5)
    with pytest.raises(FileExistsError, match=r"resume\(\), choose another run_dir, or pass overwrite=True"):
        runs.make_trainer(tmp_path).fit()
    run = runs.make_trainer(tmp_path)
    assert_same(run, run.fit(overwrite=True), *whole)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 1}, None),  # of the weights, which the checkpoint replaces
        ({"method": GRSNN(4)}, "method = "),
        ({"learning_rate": 0.1}, "learning_rate = 0.005, now it is 0.1"),
        ({"epochs": 4}, "epochs = 3, now it is 4"),
        ({"accumulate": 1}, "accumulate = 2, now it is 1"),
        ({"valid_queries": 1}, "valid_queries = None, now it is 1"),
        ({"keep": "last"}, "keep = 'best', now it is 'last'"),
        ({"data": 5}, "data_sha256 = "),
    ],
)
def test_other_settings_are_refused(runs: ModuleType, tmp_path: Path, change: dict[str, Any], message: str | None) -> None:
    interrupted(runs, tmp_path, 3)
    options = change | ({"data": runs.make_data(change["data"])} if "data" in change else {})
    run = runs.make_trainer(tmp_path, **options)
    if message is None:
        run.resume()
        return
    with pytest.raises(ValueError, match=message):
        run.resume()


def test_another_test_set_is_refused(runs: ModuleType, tmp_path: Path) -> None:
    """Its triples are filtered out of the validation, which chooses the epoch."""
    interrupted(runs, tmp_path, 3)
    data = runs.make_data()
    with pytest.raises(ValueError, match="data_sha256 = "):
        runs.make_trainer(tmp_path, data=dataclasses.replace(data, test=data.test[:-1])).resume()


@pytest.mark.parametrize("option", [{"decay": 0.9}, {"tau": 3.0}, {"delay_grad": "trace"}, {"variant": "plus"}])
def test_another_model_is_refused(runs: ModuleType, tmp_path: Path, option: dict[str, Any]) -> None:
    interrupted(runs, tmp_path, 3)
    run = runs.make_trainer(tmp_path)
    other = type(run.model)(4, width=6, steps=6, **option)
    with pytest.raises(ValueError, match="model = "):
        ReasoningTrainer(
            other, GRSNN(3), runs.make_data(), run_dir=tmp_path, epochs=3, seed=1, batch_size=4, accumulate=2, progress=False
        ).resume()


def test_without_a_folder_nothing_resumes(runs: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"resume\(\) needs a run_dir"):
        runs.make_trainer().resume()


@pytest.mark.parametrize("missing", ["progress", "model", "optimiser", "generators"])
def test_a_damaged_checkpoint_is_refused(runs: ModuleType, tmp_path: Path, missing: str) -> None:
    interrupted(runs, tmp_path, 3)
    tree = read_tree(tmp_path / "checkpoint.h5", content="checkpoint")
    write_tree(tmp_path / "checkpoint.h5", {name: tree[name] for name in tree if name != missing}, content="checkpoint")
    with pytest.raises(FileFormatError, match="not a valid checkpoint of a graph reasoner"):
        runs.make_trainer(tmp_path).resume()
