"""A sequence that was broken off anywhere and resumed ends with the bits of one that was not; refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lava_snnlearn.continual import ContinualTrainer, Results
from lava_snnlearn.data import TaskSequence
from lava_snnlearn.files import FileFormatError, read_tree, write_tree
from lava_snnlearn.methods import OTTT
from lava_snnlearn.methods.hlop import HLOP

FAST: dict[str, Any] = {"epochs": 2, "batch_size": 16, "checkpoint_batches": 1, "progress": False, "activity_samples": 20}


class Interruption(Exception):
    """Stands for a killed process."""


class Interrupted:
    """A method that breaks off at a call of the given number, of ``gradients``, ``begin_task`` and ``end_task`` together."""

    def __init__(self, method: Any, calls: int) -> None:
        self._method, self._left, self.made = method, calls, 0

    def __repr__(self) -> str:
        return repr(self._method)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._method, name)
        if name not in ("gradients", "begin_task", "end_task"):
            return value

        def call(*arguments: Any) -> Any:
            if self.made == self._left:
                raise Interruption
            self.made += 1
            return value(*arguments)

        return call


def state(trainer: ContinualTrainer) -> dict[str, torch.Tensor]:
    """All that a sequence leaves: weights, memory and heads."""
    found = {f"network.{name}": value for name, value in trainer.network.state_dict().items()}
    found |= {f"memory.{name}": value for name, value in trainer.network.memory.items()}
    for task, head in enumerate(trainer.heads):
        found |= {f"head{task}.{name}": value for name, value in head.state_dict().items()}
    return {name: value.clone() for name, value in found.items()}


def assert_same(found: ContinualTrainer, results: Results, expected: dict[str, torch.Tensor], wanted: Results) -> None:
    ours = state(found)
    assert ours.keys() == expected.keys()
    assert not [name for name in ours if not torch.equal(ours[name], expected[name])]
    np.testing.assert_array_equal(results.accuracies, wanted.accuracies)
    assert results.names == wanted.names


@pytest.mark.parametrize("case", ["shared", "own", "replay", "own, replay", "hlop"])
def test_broken_off_at_any_call_and_resumed(
    make_network: Any, noting: Any, shared: TaskSequence, own: TaskSequence, tmp_path: Path, case: str
) -> None:
    tasks = own if "own" in case else shared
    method = HLOP(first=2, increment=2) if case == "hlop" else noting
    options = FAST | ({"replay": 2, "replay_epochs": 2} if "replay" in case else {})

    def make(folder: str, calls: int = 1 << 30, seed: int = 0) -> ContinualTrainer:
        network = make_network(seed=seed)
        return ContinualTrainer(network, Interrupted(method, calls), tasks, seed=4, run_dir=tmp_path / folder, **options)

    whole = make("whole")
    wanted = whole.fit()
    expected, calls = state(whole), whole.method.made  # type: ignore[attr-defined]
    assert calls == {"shared": 24, "own": 12, "replay": 30, "own, replay": 16, "hlop": 24}[case]
    for call in range(0, calls, {"hlop": 5, "replay": 7, "shared": 3}.get(case, 1)):
        with pytest.raises(Interruption):
            make(str(call), call).fit()
        torch.manual_seed(call)
        resumed = make(str(call), seed=99)
        assert_same(resumed, resumed.resume(), expected, wanted)
        for name in ("matrix.csv", "config.json"):
            assert (tmp_path / str(call) / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_broken_off_again_and_again(make_network: Any, noting: Any, shared: TaskSequence, tmp_path: Path) -> None:
    """Each attempt makes five calls at most, and still the end is reached with the same bits."""
    whole = ContinualTrainer(make_network(), noting, shared, **FAST)
    wanted = whole.fit()
    for attempt in range(20):
        found = ContinualTrainer(make_network(seed=attempt), Interrupted(noting, 5), shared, run_dir=tmp_path, **FAST)
        try:
            results = found.resume()
        except Interruption:
            continue
        assert_same(found, results, state(whole), wanted)
        return
    pytest.fail("no attempt came to the end")


@pytest.mark.parametrize("saves", [1, 2, 3])
def test_broken_off_between_two_tasks(
    make_network: Any, noting: Any, shared: TaskSequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    """The task is learnt and its Trainer has ended, but the sequence's own checkpoint is not written yet."""
    whole = ContinualTrainer(make_network(), noting, shared, **FAST)
    wanted = whole.fit()
    left = [saves]

    def failing(*arguments: Any, **options: Any) -> None:
        if left[0] == 0:
            raise Interruption
        left[0] -= 1
        write_tree(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("lava_snnlearn.continual.trainer.write_tree", failing)
        with pytest.raises(Interruption):
            ContinualTrainer(make_network(), noting, shared, run_dir=tmp_path, **FAST).fit()
    assert len(read_tree(tmp_path / "checkpoint.h5", content="checkpoint")["accuracies"]) == saves - 1
    resumed = ContinualTrainer(make_network(seed=99), noting, shared, run_dir=tmp_path, **FAST)
    assert_same(resumed, resumed.resume(), state(whole), wanted)


def test_a_finished_sequence_gives_its_results_again(make_network: Any, noting: Any, own: TaskSequence, tmp_path: Path) -> None:
    whole = ContinualTrainer(make_network(), noting, own, run_dir=tmp_path, **FAST)
    wanted = whole.fit()
    again = ContinualTrainer(make_network(seed=99), Interrupted(noting, 0), own, run_dir=tmp_path, **FAST)
    results = again.resume()
    assert_same(again, results, state(whole), wanted)
    assert results.seconds == wanted.seconds
    assert again.network.readout is again.heads[-1]  # type: ignore[attr-defined]


def test_files_change_nothing(make_network: Any, noting: Any, own: TaskSequence, tmp_path: Path) -> None:
    bare = ContinualTrainer(make_network(), noting, own, **FAST)
    wanted = bare.fit()
    filed = ContinualTrainer(make_network(), noting, own, run_dir=tmp_path, **FAST)
    assert_same(filed, filed.fit(), state(bare), wanted)


def test_starting_anew_forgets_the_earlier_run(make_network: Any, noting: Any, shared: TaskSequence, tmp_path: Path) -> None:
    """Also where the new run is broken off at once: nothing of the old one, begun from other weights, is taken for its own."""
    ContinualTrainer(make_network(), noting, shared, run_dir=tmp_path, **FAST).fit()
    with pytest.raises(FileExistsError, match=r"resume\(\), choose another run_dir, or pass overwrite=True"):
        ContinualTrainer(make_network(seed=5), noting, shared, run_dir=tmp_path, **FAST).fit()
    with pytest.raises(Interruption):
        ContinualTrainer(make_network(seed=5), Interrupted(noting, 0), shared, run_dir=tmp_path, **FAST).fit(overwrite=True)
    assert not (tmp_path / "matrix.csv").exists()
    assert not (tmp_path / "results.json").exists()
    found = ContinualTrainer(make_network(seed=6), noting, shared, run_dir=tmp_path, **FAST)
    results = found.resume()
    fresh = ContinualTrainer(make_network(seed=5), noting, shared, **FAST)
    wanted = fresh.fit()
    assert_same(found, results, state(fresh), wanted)


def test_results_are_there_after_each_task(make_network: Any, noting: Any, shared: TaskSequence, tmp_path: Path) -> None:
    calls = 2 * (1 + 6 + 1) + 3  # two tasks, and a few batches of the third
    with pytest.raises(Interruption):
        ContinualTrainer(make_network(), Interrupted(noting, calls), shared, run_dir=tmp_path, **FAST).fit()
    summary = json.loads((tmp_path / "results.json").read_text())
    assert [len(row) for row in summary["accuracies"]] == [1, 2]
    assert (tmp_path / "task_02" / "checkpoint.h5").exists()


def other(tasks: TaskSequence) -> TaskSequence:
    return TaskSequence(tasks.name, (tasks.tasks[0], tasks.tasks[2], tasks.tasks[1]), tasks.heads)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 1}, "seed = 0, now it is 1"),
        ({"replay": 1}, "replay = 0, now it is 1"),
        ({"epochs": 3}, "epochs = 2, now it is 3"),
        ({"learning_rate": 0.2}, "learning_rate = 0.1, now it is 0.2"),
        ({"method": OTTT()}, "method = "),
        ({"tasks": other}, "data_sha256 = "),
    ],
)
def test_other_settings_are_refused(
    make_network: Any, noting: Any, shared: TaskSequence, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(Interruption):
        ContinualTrainer(make_network(), Interrupted(noting, 0), shared, run_dir=tmp_path, **FAST).fit()
    changed: dict[str, Any] = {"method": noting, "tasks": lambda tasks: tasks} | FAST | change
    order: Callable[[TaskSequence], TaskSequence] = changed.pop("tasks")
    with pytest.raises(ValueError, match=message):
        ContinualTrainer(make_network(), changed.pop("method"), order(shared), run_dir=tmp_path, **changed).resume()


def test_without_a_folder_nothing_resumes(make_network: Any, shared: TaskSequence) -> None:
    with pytest.raises(ValueError, match=r"resume\(\) needs a run_dir"):
        ContinualTrainer(make_network(), OTTT(), shared, **FAST).resume()


@pytest.mark.parametrize("missing", ["accuracies", "memory", "heads", "network"])
def test_a_damaged_checkpoint_is_refused(make_network: Any, own: TaskSequence, tmp_path: Path, missing: str) -> None:
    trainer = ContinualTrainer(make_network(), Interrupted(OTTT(), 0), own, run_dir=tmp_path, **FAST)
    with pytest.raises(Interruption):
        trainer.fit()
    tree = read_tree(tmp_path / "checkpoint.h5", content="checkpoint")
    write_tree(tmp_path / "checkpoint.h5", {name: tree[name] for name in tree if name != missing}, content="checkpoint")
    with pytest.raises(FileFormatError, match="is not a valid checkpoint of a sequence of tasks"):
        ContinualTrainer(make_network(), OTTT(), own, run_dir=tmp_path, **FAST).resume()
