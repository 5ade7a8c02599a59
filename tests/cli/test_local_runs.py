"""lava-snnlearn run --on-chip by local rules: OTTT, DFA and OPZO all the way, HLOP task after task."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

import lava_snnlearn as snn
from lava_snnlearn.lava_backend import local as lava_local
from lava_snnlearn.on_chip import OnChipTaskTrainer, learners
from lava_snnlearn.on_chip.local import LocalState, infer
from lava_snnlearn.on_chip.pipeline import Settings

SMALL = (
    "--on-chip",
    "--epochs",
    "1",
    "--train-size",
    "300",
    "--layers",
    "16",
    "--verify-samples",
    "2",
    "--replay-samples",
    "2",
)
FILES = {"checkpoint.h5", "config.json", "network.h5", "report.html", "summary.json", "weights.h5"}
PICTURES = {
    f"{name}.png"
    for name in ("confusion_matrix", "curves", "diagnostics", "membranes", "placement", "raster", "rates", "weights")
}


def assert_complete(folder: Path, files: set[str], pictures: set[str], samples: int) -> dict[str, Any]:
    """All files are there, all was verified, and the page shows every picture and loads nothing."""
    assert {path.name for path in folder.iterdir()} == FILES | files | pictures
    for name in pictures:
        assert matplotlib.image.imread(folder / name).std() > 0.01
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    found = content["results"]
    assert (found["verified"], found["replayed"], found["disagreements"]) == (True, True, 0)
    assert (found["verified_samples"], found["replayed_samples"]) == (2, samples)
    assert set(found["replay_mismatches"].values()) == {0}
    # Both connections after every phase of every sample; the first has the bias unit's column.
    state = LocalState.load(folder / "weights.h5")
    assert found["replayed_values"]["memories"] == samples * state.settings.period * (16 * 65 + 10 * 16)
    html = (folder / "report.html").read_text()
    assert f"Learning replayed on Lava: {samples} samples" in html
    assert "NOT equal" not in html
    assert html.count('src="data:image/png;base64,') == len(pictures)
    assert not re.search(r"https?:", re.sub(r"base64,[^\"]*", "", html))
    return content


@pytest.mark.parametrize(
    ("method", "feedback", "options"),
    [
        ("ottt", "transport", ["--update", "accumulate", "--option", "eta=0.02", "--steps", "6"]),
        ("dfa", "fixed", ["--leak", "0.25", "--option", "error=mse", "--option", "memory=shadow"]),
        ("opzo", "learned", ["--learning-rate", "0.02", "--seed", "7", "--option", "noise_bits=3"]),
    ],
)
def test_a_local_rule_goes_all_the_way(call: Any, tmp_path: Path, method: str, feedback: str, options: list[str]) -> None:
    result = call("run", "--method", method, *SMALL, *options, "--runs-dir", tmp_path)
    assert result.code == 0, result
    assert "2 samples learnt by the simulator and by Lava fixed_pt: EQUAL" in result.out
    folder = tmp_path / f"{method}-on-chip-digits"
    content = assert_complete(folder, {"metrics.csv"}, PICTURES, samples=2)
    config = json.loads((folder / "config.json").read_text())
    assert (config["method"], config["feedback"]) == (f"{method} on chip", feedback)
    wanted = {
        "ottt": {"update": "accumulate", "eta": 0.02, "steps": 6},
        "dfa": {"leak": 0.25, "error": "mse", "memory": "shadow"},
        "opzo": {"eta": 0.02, "seed": 7, "noise_bits": 3},
    }
    assert wanted[method].items() <= config.items()
    assert {"method": method, "on_chip": True, "tasks": 1}.items() <= content["settings"].items()
    # State, network file and summary tell the same accuracy on the test set.
    test, found = snn.data.load("digits", scale="unit").test, content["results"]["fixed_accuracy"]
    assert (infer(LocalState.load(folder / "weights.h5"), test.x).predictions == test.y).mean() == found > 0.2
    assert f"accuracy {found:.4f} on 360 samples" in call("emulate", folder / "network.h5").out
    with (folder / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert {"saturated", "clipped", "changed"} <= set(row)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small run of HLOP, which no test changes."""
    runs = tmp_path_factory.mktemp("runs")
    command = [Path(sys.executable).parent / "lava-snnlearn", "run", "--method", "hlop", *SMALL, "--epochs", "2"]
    done = subprocess.run([*command, "--runs-dir", runs], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 samples learnt by the simulator and by Lava fixed_pt: EQUAL") == 2
    assert "BWT" in done.stdout
    return runs / "hlop-on-chip-digits"


def test_hlop_learns_task_after_task(sequence: Path) -> None:
    files = {"matrix.csv", "results.json", "task_00", "task_01"}
    content = assert_complete(sequence, files, PICTURES | {"tasks.png"}, samples=4)
    found, told = content["results"], json.loads((sequence / "results.json").read_text())
    assert (found["ACC"], found["BWT"], found["accuracies"]) == (told["ACC"], told["BWT"], told["accuracies"])
    assert found["fixed_accuracy"] == pytest.approx(found["ACC"], abs=1e-12)
    assert found["replayed_values"]["subspaces"] > 0
    config = json.loads((sequence / "config.json").read_text())
    # 65 and 16 inputs: a quarter and a fifth of each.
    assert (config["method"], config["memory"], config["rows"]) == ("hlop on chip", "shadow", [[16, 4], [13, 3]])
    state = LocalState.load(sequence / "weights.h5")
    assert ([len(space) for space in state.subspaces], state.old) == ([29, 7], (16, 4))
    html = (sequence / "report.html").read_text()
    assert "HLOP on chip, permuted-digits" in html
    assert "How well each task is done after each." in html


def test_a_finished_sequence_resumes_to_the_same_bits(call: Any, sequence: Path) -> None:
    before = (sequence / "weights.h5").read_bytes()
    assert call("run", "--method", "hlop", *SMALL, "--epochs", "2", "--runs-dir", sequence.parent, "--resume").code == 0
    assert (sequence / "weights.h5").read_bytes() == before


def test_without_hlop_tasks_are_the_sequential_baseline(tmp_path: Path) -> None:
    settings = Settings(method="dfa", tasks=2, train_size=100).completed()
    trainer = settings.trainer(snn.data.load("digits", scale="unit", train_size=100), tmp_path)
    assert isinstance(trainer, OnChipTaskTrainer)
    assert (trainer.rows, trainer.config()["method"], len(trainer.tasks)) == (None, "dfa on chip", 2)


def test_a_mismatch_in_learning_is_exit_status_1(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = lava_local.train_sample

    def wrong(state: LocalState, x: Any, label: int) -> Any:
        after, record = real(state, x, label)
        outputs = record.outputs.copy()
        outputs[-1, 2] += 1
        return after, replace(record, outputs=outputs)

    monkeypatch.setattr(lava_local, "train_sample", wrong)
    result = call("run", "--method", "ottt", *SMALL, "--runs-dir", tmp_path)
    assert result.code == 1, result
    assert "first mismatch: sample 0" in result.out
    assert "NOT equal, see below" in (tmp_path / "ottt-on-chip-digits" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--method", "hlop", "--tasks", "1"], ["tasks is 1", "at least 2"]),
        (["--method", "hlop", "--tasks", "0"], ["tasks is 0", "at least 1"]),
        (["--method", "hlop", "--option", "rows=[1,2,3]"], ["rows has 3 entries for 2 tasks"]),
        (["--method", "hlop", "--option", "rows=[60,60]"], ["W1: rows is 120"]),
        (["--method", "ottt", "--option", "rows=[1,2]"], ["option of ottt on chip 'rows'"]),
        (["--method", "ottt", "--option", "feedback=fixed"], ["option of ottt on chip 'feedback'"]),
        (["--method", "dfa", "--option", "momentum=5"], ["option of dfa on chip 'momentum'"]),
        (["--method", "opzo", "--option", "subspace_eta=1"], ["option of opzo on chip 'subspace_eta'"]),
        (["--method", "ottt", "--update", "never"], ["'never'"]),
        (["--method", "opzo", "--steps", "7"], ["antithetic noise comes in pairs"]),
        (["--method", "dfa", "--leak", "2"], ["leak is 2"]),
        (["--method", "dfa", "--norm", "sws"], ["--norm cannot be set with --on-chip"]),
        (["--method", "fa"], ["fa does not learn on the chip"]),
        (["--method", "ottt", "--data", "shd"], ["'shd' are events"]),
        (["--method", "ottt", "--layers", "16C3"], ["dense layers"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_what_does_not_apply_is_refused_before_any_work(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], parts: list[str]
) -> None:
    idle = replace(learners.LOCAL, train_epoch=lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(learners, "LOCAL", idle)
    message = refused("run", "--on-chip", *options, "--runs-dir", tmp_path / "runs")
    for part in parts:
        assert part in message
    assert not (tmp_path / "runs").exists()


def test_options_on_the_chip_are_listed(call: Any) -> None:
    blocks = [block.splitlines() for block in call("methods").out.split("\n\n")]
    lines = [(block[0].split(":")[0], line) for block in blocks for line in block if line.startswith("  with --on-chip: ")]
    listed = dict(lines)
    assert sorted(name for name, _ in lines) == ["dfa", "hlop", "opzo", "ottt", "spide"]
    assert "memory=shadow" in listed["hlop"]
    assert "rows=None" in listed["hlop"]
    assert "memory=stochastic" in listed["ottt"]
    assert "feedback" not in listed["ottt"]
    assert np.all(["sizes" not in line for line in listed.values()])
