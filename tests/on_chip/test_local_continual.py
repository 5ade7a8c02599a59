"""Tasks learnt one after another on the chip: HLOP keeps the earlier ones, by subspaces of their traces; runs resume."""

from __future__ import annotations

import csv
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError
from lava_snnlearn.continual import Results
from lava_snnlearn.data import Dataset, Split
from lava_snnlearn.data.tasks import TaskSequence, permuted, split
from lava_snnlearn.files import FileFormatError, read_tree, write_tree
from lava_snnlearn.on_chip.continual import OnChipTaskTrainer, default_rows
from lava_snnlearn.on_chip.local import LocalSettings, LocalState, begin_task, infer, initial, train_sample

SMALL = LocalSettings(sizes=(6, 10, 3), memory="shadow", eta=0.05, seed=3)
ROWS = [[2, 3], 1, [0, 2]]


def clouds() -> Dataset:
    generator = np.random.default_rng(5)
    centres = generator.uniform(0.2, 0.8, (3, 6))

    def part(samples: int) -> Split:
        y = np.arange(samples) % 3
        x = np.clip(centres[y] + 0.1 * generator.standard_normal((samples, 6)), 0, 1)
        return Split(x.astype(np.float32), y.astype(np.int64))

    return Dataset("clouds", part(40), part(12), part(24), classes=3, shape=(1, 2, 3))


def make(folder: Path | None = None, settings: LocalSettings = SMALL, **options: Any) -> OnChipTaskTrainer:
    """Three tasks of two epochs, each in pieces of 16, 16 and 8 samples."""
    chosen = {"rows": ROWS, "epochs": 2, "host_samples": 16, "progress": False} | options
    return OnChipTaskTrainer(settings, permuted(clouds(), 3), run_dir=folder, **chosen)


def assert_same(one: LocalState, other: LocalState) -> None:
    assert (one.samples, one.updates, one.old, one.eta) == (other.samples, other.updates, other.old, other.eta)
    for name in ("memories", "matrices", "means", "subspaces", "velocities", "sums"):
        for ours, theirs in zip(getattr(one, name), getattr(other, name), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def digits() -> list[dict[bool, tuple[OnChipTaskTrainer, Results]]]:
    """Two permutations of the digits, with (True) and without HLOP, for three seeds."""
    data = snn.data.load("digits", scale="unit")

    def learn(seed: int, protected: bool) -> tuple[OnChipTaskTrainer, Results]:
        settings = LocalSettings(sizes=(64, 128, 10), memory="shadow", seed=seed)
        rows = default_rows(settings, 2) if protected else None
        trainer = OnChipTaskTrainer(settings, permuted(data, 2, seed=seed), rows=rows, epochs=5, progress=False)
        return trainer, trainer.fit()

    return [{protected: learn(seed, protected) for protected in (False, True)} for seed in range(3)]


def test_hlop_keeps_what_was_learnt(digits: Any) -> None:
    """HLOP paper's claim at this scale (spec H7): BWT >= -.03 with, <= -.20 without, at most .04 of the new task is lost."""
    mean = {
        protected: np.mean([(r.bwt, r.new_task[0], r.new_task[1]) for _, r in (seed[protected] for seed in digits)], axis=0)
        for protected in (False, True)
    }
    assert mean[True][0] >= -0.03
    assert mean[False][0] <= -0.20
    assert mean[True][2] >= mean[False][2] - 0.04
    assert min(mean[True][1:]) >= 0.93


def test_subspaces_hold_what_the_traces_are(digits: Any) -> None:
    """Spec H2 to H4: energy against exact PCA of the same rank, idempotency, new rows orthogonal to old ones."""
    trainer, _ = digits[0][True]
    traces = traces_of(trainer.starts[1], trainer.tasks.tasks[0].train)
    for number, rows in enumerate((16, 32)):
        first = trainer.starts[1].subspaces[number][:rows] / 2.0**14
        energy = ((traces[number] @ first.T) ** 2).sum()
        best = (np.linalg.svd(traces[number], compute_uv=False)[:rows] ** 2).sum()
        assert energy / best >= 0.99
        last = trainer.state.subspaces[number] / 2.0**14
        np.testing.assert_array_equal(last[:rows], first)
        projection = first.T @ first
        assert np.linalg.norm(projection @ projection - projection) / np.linalg.norm(projection) < 0.01
        assert np.abs(last[rows:] @ first.T).max() < 0.02


def test_updates_of_a_later_task_avoid_the_traces_of_the_first(digits: Any) -> None:
    """Spec H5: what the change of weights does to old inputs, beside the most that it could do."""
    for protected in (True, False):
        trainer, _ = digits[0][protected]
        traces = traces_of(trainer.starts[1], trainer.tasks.tasks[0].train)
        for number, trace in enumerate(traces):
            change = trainer.state.memories[number].astype(np.float64) - trainer.starts[1].memories[number]
            moved = np.linalg.norm(trace @ change.T, axis=1) / np.linalg.norm(trace, axis=1)
            share = moved.mean() / np.linalg.norm(change, 2)
            assert share < 0.1 if protected else share > 0.2


def traces_of(state: LocalState, part: Split) -> list[NDArray[np.float64]]:
    """Traces [steps of 400 samples, n_in] of each connection: filtered inputs, and filtered hidden spikes."""
    found: list[list[NDArray[Any]]] = [[], []]
    for x, y in zip(part.x[:400], part.y[:400], strict=True):
        _, record = train_sample(state, x, int(y))
        signals = [np.repeat(state.payload(x)[None], 8, axis=0), record.spikes[0][1:9]]
        for number, signal in enumerate(signals):
            trace = np.zeros(signal.shape[1])
            for step in signal:
                trace = 0.5 * trace + step
                found[number].append(trace)
    return [np.stack(rows) for rows in found]


@pytest.mark.parametrize(
    ("sizes", "tasks", "expected"),
    [
        # 65, 128 inputs: a quarter, a fifth.
        ((64, 128, 10), 2, ((16, 32), (13, 25))),
        # 85 % of 785 and 800 in 11 parts, two for the first task.
        ((784, 800, 10), 10, ((120, 122), *[(60, 61)] * 9)),
        ((3, 2, 2), 1, ((1, 1),)),
    ],
)
def test_default_rows_leave_room_for_all_tasks(sizes: Any, tasks: int, expected: Any) -> None:
    settings = LocalSettings(sizes=sizes)
    rows = default_rows(settings, tasks)
    assert rows == expected
    for number, part in enumerate(settings.synapses):
        assert sum(row[number] for row in rows) <= 0.85 * part.n_in


@pytest.mark.parametrize("feedback", ["transport", "learned"])
def test_it_learns_what_the_simulator_learns_task_by_task(feedback: str) -> None:
    trainer = make(settings=replace(SMALL, feedback=feedback))
    results = trainer.fit()
    state, known = initial(trainer.settings), trainer.tasks.tasks
    for number, (task, lesson) in enumerate(zip(known, trainer.lessons, strict=True)):
        state = begin_task(replace(state, eta=0.05), ROWS[number])
        assert_same(lesson.beginning(), state)
        for epoch in range(2):
            state = replace(state, eta=lesson.learning_rate(epoch))
            for index in lesson.order(epoch):
                state, _ = train_sample(state, task.train.x[index], int(task.train.y[index]))
        for earlier in range(number + 1):
            right = (infer(state, known[earlier].test.x).predictions == known[earlier].test.y).mean()
            assert results.accuracies[number, earlier] == right
    assert_same(trainer.state, state)
    assert trainer.state.old == (3, 4)
    assert [len(space) for space in trainer.state.subspaces] == [3, 6]
    assert [row.epoch for row in trainer.history.epochs] == [1, 2, 3, 4, 5, 6]
    orders = [lesson.order(0).tolist() for lesson in trainer.lessons]
    assert orders[0] != orders[1] != orders[2]


def test_without_rows_nothing_is_projected() -> None:
    trainer = make(rows=None)
    trainer.fit()
    assert [len(space) for space in trainer.state.subspaces] == [0, 0]
    assert (make().config()["method"], trainer.config()["method"]) == ("hlop on chip", "ottt on chip")


@pytest.mark.parametrize("feedback", ["transport", "learned"])
@pytest.mark.parametrize("pieces", [0, 4, 6, 8, 17, 18])
def test_a_killed_run_ends_with_the_same_bits(killed: Any, tmp_path: Path, feedback: str, pieces: int) -> None:
    """Killed within an epoch (4, 8, 17), between two tasks (6), before and after everything."""
    settings = replace(SMALL, feedback=feedback, memory="stochastic")
    whole = make(tmp_path / "whole", settings)
    expected = whole.fit()
    # After all 18 pieces nobody kills it.
    with killed(settings, pieces) if pieces < 18 else nullcontext():
        make(tmp_path / "killed", settings).fit()
    resumed = make(tmp_path / "killed", settings)
    found = resumed.resume()
    np.testing.assert_array_equal(found.accuracies, expected.accuracies)
    assert_same(resumed.state, whole.state)
    assert_same(LocalState.load(tmp_path / "killed" / "weights.h5"), whole.state)
    for ours, theirs in zip(resumed.starts, whole.starts, strict=True):
        assert_same(ours, theirs)
    rows = [[replace(row, seconds=0).columns() for row in one.history.epochs] for one in (resumed, whole)]
    np.testing.assert_equal(rows[0], rows[1])
    assert (tmp_path / "killed" / "matrix.csv").read_bytes() == (tmp_path / "whole" / "matrix.csv").read_bytes()


def test_files_tell_the_results(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    results = trainer.fit()
    with (tmp_path / "matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert [float(cell) for cell in rows[3][1:]] == results.accuracies[2].tolist()
    assert json.loads((tmp_path / "results.json").read_text())["BWT"] == results.bwt
    assert sorted(path.name for path in tmp_path.glob("task_*")) == ["task_00", "task_01", "task_02"]
    assert json.loads((tmp_path / "config.json").read_text())["rows"] == ROWS


def test_an_overwritten_run_leaves_nothing_behind(tmp_path: Path) -> None:
    make(tmp_path).fit()
    with pytest.raises(FileExistsError, match="Continue it with resume"):
        make(tmp_path).fit()
    other = make(tmp_path, replace(SMALL, seed=8), epochs=1)
    other.fit(overwrite=True)
    fresh = make(settings=replace(SMALL, seed=8), epochs=1)
    fresh.fit()
    assert_same(other.state, fresh.state)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rows": None}, "method = 'hlop on chip', now it is 'ottt on chip'"),
        ({"rows": [1, 1, 1]}, "rows = "),
        ({"epochs": 3}, "epochs = 2, now it is 3"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    make(tmp_path).fit()
    with pytest.raises(ValueError, match=match):
        make(tmp_path, **change).resume()


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    make(tmp_path).fit()
    tree = read_tree(tmp_path / "checkpoint.h5", content="checkpoint")
    del tree["starts"]
    write_tree(tmp_path / "checkpoint.h5", tree, content="checkpoint")
    with pytest.raises(FileFormatError, match="not a valid checkpoint of a sequence of tasks: 'starts'"):
        make(tmp_path).resume()
    with pytest.raises(ValueError, match="needs a run_dir"):
        make().resume()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"settings": "hlop"}, TypeError, "settings is 'hlop'; pass LocalSettings"),
        ({"tasks": clouds()}, TypeError, "pass a TaskSequence"),
        ({"tasks": split(clouds(), 3)}, ValueError, "heads of their own; a chip has one readout"),
        ({"tasks": TaskSequence("one", (clouds(),), "shared"), "rows": [1, 1]}, ValueError, "rows has 2 entries for 1 tasks"),
        ({"rows": 5}, TypeError, "rows is 5; give a list with an entry a task"),
        ({"rows": [1, [1, 2, 3], 1]}, ValueError, "3 numbers of rows for W1, W2; give one for each"),
        ({"rows": [3, 3, 3]}, LimitError, "W1: rows is 9"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"settings": replace(SMALL, sizes=(5, 10, 3)), "rows": None}, ValueError, "the network has 5 inputs"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], match: str
) -> None:
    arguments = {"settings": SMALL, "tasks": permuted(clouds(), 3), "rows": ROWS, "run_dir": tmp_path / "run"} | change
    with pytest.raises(error, match=match):
        OnChipTaskTrainer(**arguments)
    assert not (tmp_path / "run").exists()
