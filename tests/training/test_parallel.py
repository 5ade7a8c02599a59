"""Training in two processes: equal to one process, whatever the method; kills, resumes and failures."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from lava_snnlearn.files import read_tree

SCRIPT = Path(__file__).parent / "parallel" / "train_in_parallel.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_in_parallel", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_in_parallel"] = module
    spec.loader.exec_module(module)
    return module


parallel = load()


class Parallel(NamedTuple):
    """What two processes left: the folder, the answers of both, their stderr."""

    folder: Path
    answers: list[dict[str, Any]]
    err: str


@pytest.fixture(scope="module")
def killed(torchrun: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Any]]:
    """Folder, how torchrun ended, and where the last checkpoint stood."""
    folder = tmp_path_factory.mktemp("parallel")
    found = torchrun(SCRIPT, "kill", folder)
    return folder, found, read_tree(folder / "killed" / "checkpoint.h5", "checkpoint")["progress"]


@pytest.fixture(scope="module")
def one() -> Callable[[str], dict[str, Any]]:
    """What one process gets for a case; through JSON, as the others' answers."""
    known: dict[str, dict[str, Any]] = {}

    def run(case: str) -> dict[str, Any]:
        if case not in known:
            trainer = parallel.make_trainer(case)
            known[case] = json.loads(json.dumps(parallel.result(trainer, trainer.fit())))
        return known[case]

    return run


@pytest.fixture(scope="module")
def done(torchrun: Any, killed: tuple[Path, Any, dict[str, Any]]) -> Parallel:
    """Two processes fail, train all cases, and resume: one start for all, since it takes seconds."""
    folder = killed[0]
    shutil.copytree(folder / "killed", folder / "killed, for one")
    begun = parallel.make_trainer("ottt", folder / "begun by one")
    method = begun.method

    class Stopped(parallel.Acting):
        def __repr__(self) -> str:
            return repr(method)

        def gradients(self, *arguments: Any) -> Any:
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return method.gradients(*arguments)

    begun.method = Stopped(lambda batch, x: None)
    with pytest.raises(KeyboardInterrupt):
        begun.fit()
    found = torchrun(SCRIPT, "everything", folder)
    assert found.returncode == 0, found.stderr
    answers = [json.loads((folder / f"everything {number}.json").read_text()) for number in (0, 1)]
    return Parallel(folder, answers, found.stderr)


def assert_equal(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    assert found["weights"].keys() == expected["weights"].keys()
    for name, values in expected["weights"].items():
        np.testing.assert_allclose(found["weights"][name], values, rtol=tolerance, atol=tolerance, err_msg=name)
    assert len(found["rows"]) == len(expected["rows"]) == 2
    for ours, theirs in zip(found["rows"], expected["rows"], strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance)
    assert found["best"] == expected["best"]
    assert found["test"] == expected["test"]


@pytest.mark.parametrize("case", parallel.CASES)
def test_two_processes_equal_one(done: Parallel, one: Any, case: str) -> None:
    """Eight steps of the optimiser, 32 in the online forms; float64 but for one case."""
    first, second = (answer["fit"][case] for answer in done.answers)
    assert first == second, "the processes ended with different weights or metrics"
    assert_equal(first, one(case), 1e-6 if case == "float32" else 1e-12)
    assert first["rows"][1]["spike_rate"] > 0.01, "a silent network proves nothing"


def test_the_cases_differ_and_learn(one: Any) -> None:
    weights = [json.dumps(one(case)["weights"]) for case in parallel.CASES]
    assert len(set(weights)) == len(parallel.CASES)
    for case in parallel.CASES:
        start = parallel.make_trainer(case).network.state_dict()
        assert not np.allclose(one(case)["weights"]["readout.weight"], start["readout.weight"].numpy(), atol=1e-3)


def test_files_are_those_of_one_process(done: Parallel, tmp_path: Path) -> None:
    alone = parallel.make_trainer("ottt", tmp_path)
    alone.fit()
    ours = done.folder / "ottt"
    assert sorted(path.name for path in ours.iterdir()) == sorted(path.name for path in tmp_path.iterdir())
    assert (ours / "config.json").read_text() == (tmp_path / "config.json").read_text()
    trees = [read_tree(folder / "checkpoint.h5", "checkpoint") for folder in (ours, tmp_path)]
    assert np.array_equal(trees[0]["generators"]["torch"], trees[1]["generators"]["torch"])
    for name, values in trees[1]["network"].items():
        np.testing.assert_allclose(trees[0]["network"][name], values, rtol=1e-12, atol=1e-12)
    assert len((ours / "metrics.csv").read_text().splitlines()) == 3


def test_the_progress_is_told_once(done: Parallel) -> None:
    assert done.err.count("epoch   1") == done.err.count("epoch   2") == 1


def test_a_group_of_the_scripts_own_is_used_and_kept(done: Parallel, one: Any) -> None:
    for answer in done.answers:
        assert answer["fit"]["own group"].pop("world") == 2
        assert_equal(answer["fit"]["own group"], one("ottt"), 1e-12)


def test_nothing_is_left_running_after_training(done: Parallel) -> None:
    """Lava forks this process, which is safe only without threads at work."""
    assert max(answer["threads"] for answer in done.answers) <= 0


def test_a_killed_process_ends_the_run(killed: tuple[Path, Any, dict[str, Any]]) -> None:
    _, found, stored = killed
    assert found.returncode != 0
    assert "LostProcessError: process 0 of 2 lost another one" in found.stderr or "Signal 9 (SIGKILL)" in found.stderr
    assert (stored["epoch"], stored["batch"]) == (1, 2)


@pytest.mark.parametrize("name", ["killed", "begun by one"])
def test_two_processes_resume(done: Parallel, one: Any, name: str) -> None:
    """What two processes began and what one began."""
    first, second = (answer["resume"][name] for answer in done.answers)
    assert first == second
    assert_equal(first, one("ottt"), 1e-12)


def test_one_process_resumes_what_two_began(done: Parallel, one: Any) -> None:
    trainer = parallel.make_trainer("ottt", done.folder / "killed, for one", weights=3)
    assert_equal(parallel.result(trainer, trainer.resume()), one("ottt"), 1e-12)


LOST = ["LostProcessError", "lost another one, which failed, ended, or did not answer in time"]
FAILURES: dict[str, list[list[str]]] = {
    "divergence": [["FloatingPointError", "Lower the learning rate (now 1e+200)"]] * 2,
    "error in 0": [["ValueError", "bad sample"], LOST],
    "error in 1": [LOST, ["ValueError", "bad sample"]],
    "exists": [["FileExistsError", "holds a checkpoint of an earlier run"]] * 2,
    "rehearsal": [["ValueError", "bad sample"]] * 2,
    "unwritable": [["OSError", "cannot write /proc/run/config.json"]] * 2,
    "other data": [LOST, ["ValueError", "process 1 has data_sha256 = "]],
    "other checkpoints": [LOST, ["ValueError", "process 1 has checkpoint_batches = 2, process 0 has 1"]],
    "few samples": [["ValueError", "leaves a batch of 1 samples (50 in all), which 2 processes cannot share"]] * 2,
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_reach_all_processes(done: Parallel, name: str) -> None:
    """Nobody waits for a process that has failed, and all can train again afterwards (the other tests)."""
    assert done.answers[0]["fail"].keys() == FAILURES.keys()
    for answer, (kind, text) in zip(done.answers, FAILURES[name], strict=True):
        assert answer["fail"][name][0] == kind
        assert text in answer["fail"][name][1]


def test_a_failed_start_does_not_cost_the_earlier_run(done: Parallel) -> None:
    assert read_tree(done.folder / "exists" / "checkpoint.h5", "checkpoint")["progress"]["epoch"] == 1


def test_too_small_batches_are_refused_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "3"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    for size in (2, 16, 48):
        with pytest.raises(
            ValueError, match=rf"batch_size {size} leaves a batch of 2 samples \(50 in all\), which 3 processes"
        ):
            parallel.make_trainer("ottt", batch_size=size)
    parallel.make_trainer("ottt", batch_size=47)
