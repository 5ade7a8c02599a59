"""lava-snnlearn run with networks that settle: IDE, SPIDE, equilibrium propagation, and learning on the chip."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

import lava_snnlearn as snn
from lava_snnlearn.lava_backend import spide as lava_spide
from lava_snnlearn.on_chip import learners
from lava_snnlearn.on_chip.spide import OnChipState, infer

SMALL = ("--epochs", "2", "--train-size", "200", "--layers", "16", "--verify-samples", "2")
ON_CHIP = ("--method", "spide", "--on-chip", *SMALL, "--replay-samples", "2")
ALWAYS = ["checkpoint.h5", "config.json", "metrics.csv", "network.h5", "report.html", "summary.json", "weights.h5"]
SPIKING = ["confusion_matrix.png", "curves.png", "diagnostics.png", "membranes.png", "placement.png", "raster.png", "rates.png"]
GRADED = ["confusion_matrix.png", "curves.png", "diagnostics.png", "placement.png", "states.png"]
LEARNING = ["backward_spikes.png", "weights.png"]


def assert_complete(folder: Path, pictures: list[str]) -> dict[str, Any]:
    """All files are there; inference was verified on Lava; the page shows every picture and loads nothing."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(ALWAYS + pictures)
    for name in pictures:
        assert matplotlib.image.imread(folder / name).std() > 0.01
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    found = content["results"]
    assert found["verified"] is True
    assert found["verified_samples"] == 2
    # Loops have no torch twin.
    assert found["mismatches"] == {"lava": 0}
    assert found["verified_values"]["lava"] > 0
    html = (folder / "report.html").read_text()
    assert "Verified: 2 samples, all populations, every step, 0 mismatches" in html
    assert "NOT equal" not in html
    assert html.count('src="data:image/png;base64,') == len(pictures)
    assert not re.search(r"https?:", re.sub(r"base64,[^\"]*", "", html))
    return content


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("method", "pictures", "columns", "filled"),
    [
        (
            "ide",
            SPIKING,
            {"solver_steps", "solver_residual", "not_converged"},
            {"steps": 30, "norm": "none", "input": "current"},
        ),
        ("spide", SPIKING, {"saturated", "dead_zone", "median_count"}, {"steps": 30, "leak": 0.0, "batch_size": 128}),
        ("ep", GRADED, {"free_residual", "nudged_residual"}, {"steps": 25, "norm": None, "input": "graded", "batch_size": 20}),
    ],
)
def test_a_feedback_network_goes_all_the_way(
    call: Any, tmp_path: Path, method: str, pictures: list[str], columns: set[str], filled: dict[str, Any]
) -> None:
    result = call("run", "--method", method, *SMALL, "--epochs", 8, "--train-size", "800", "--runs-dir", tmp_path)
    assert result.code == 0, result
    folder = tmp_path / f"{method}-digits"
    content = assert_complete(folder, pictures)
    assert filled.items() <= content["settings"].items()
    found = content["results"]
    assert found["float_accuracy"] > 0.4
    assert found["agreement"] > 0.9
    rows = metrics(folder)
    assert len(rows) == 8
    assert columns <= set(rows[0])
    assert ("How the first test sample settles" in (folder / "report.html").read_text()) == (method == "ep")
    # The file alone: its data set comes in the scale that it was trained in.
    again = call("emulate", folder / "network.h5")
    assert f"accuracy {found['fixed_accuracy']:.4f} on 360 samples" in again.out
    assert call("verify", folder / "network.h5", "--samples", "2").code == 0


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small run of learning on the chip, which no test changes."""
    runs = tmp_path_factory.mktemp("runs")
    script = Path(sys.executable).parent / "lava-snnlearn"
    done = subprocess.run([script, "run", *ON_CHIP, "--runs-dir", runs], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "2 samples learnt by the simulator and by Lava fixed_pt: EQUAL" in done.stdout
    assert "memories: 0 mismatches" in done.stdout
    assert "0 of 360 test samples answered otherwise" in done.stdout
    return runs / "spide-on-chip-digits"


def test_learning_on_the_chip_is_replayed_on_lava(learnt: Path) -> None:
    content = assert_complete(learnt, SPIKING + LEARNING)
    found = content["results"]
    assert (found["replayed"], found["replayed_samples"], found["disagreements"]) == (True, 2, 0)
    assert set(found["replay_mismatches"].values()) == {0}
    # F with a bias column, R and C, after each of two samples; 16 neurons have a mask each.
    assert found["replayed_values"]["weights"] == 2 * (16 * 65 + 16 * 16 + 10 * 16)
    assert found["replayed_values"]["masks"] == found["replayed_values"]["backward counts"] == 2 * 16
    assert {"on_chip": True, "layers": [16], "epochs": 2, "replay_samples": 2}.items() <= content["settings"].items()
    assert {"steps": 30, "backward_steps": 100, "eta": 0.03}.items() <= content["network"].items()
    rows = metrics(learnt)
    assert [float(row["gain"]) for row in rows] == [found["gain"]] * 2
    assert {"clipped", "saturated", "dead_zone", "median_beta"} <= set(rows[0])
    html = (learnt / "report.html").read_text()
    assert "Learning replayed on Lava: 2 samples" in html
    assert "gain of the injected gradient" in html


def test_what_learnt_is_what_runs(call: Any, learnt: Path) -> None:
    """State, network file and summary tell the same accuracy on the test set."""
    test = snn.data.load("digits", scale="unit").test
    found = json.loads((learnt / "summary.json").read_text())["results"]["fixed_accuracy"]
    state, chip = OnChipState.load(learnt / "weights.h5"), snn.FixedNetwork.load(learnt / "network.h5")
    assert (infer(state, test.x).predictions == test.y).mean() == found
    assert (snn.emulate(chip, test.x).predictions == test.y).mean() == found
    assert found > 0.2
    assert f"accuracy {found:.4f} on 360 samples" in call("emulate", learnt / "network.h5").out
    assert call("verify", learnt / "network.h5", "--samples", "2").code == 0


def test_options_reach_the_network(call: Any, tmp_path: Path) -> None:
    options = [
        "--option",
        "error=mse",
        "--option",
        "memory=stochastic",
        "--option",
        "backward_steps=20",
        "--option",
        "gain_bits=-1",
    ]
    sizes = ["--layers", "9,8", "--steps", "10", "--learning-rate", "0.05", "--seed", "7", "--name", "mine"]
    result = call("run", *ON_CHIP, "--epochs", "1", *options, *sizes, "--runs-dir", tmp_path)
    assert result.code == 0, result
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    expected = {
        "error": "mse",
        "memory": "stochastic",
        "backward_steps": 20,
        "gain_bits": -1,
        "steps": 10,
        "eta": 0.05,
        "seed": 7,
    }
    assert expected.items() <= config.items()
    assert config["sizes"] == [64, 9, 8, 10]
    assert json.loads((tmp_path / "mine" / "summary.json").read_text())["results"]["gain"] == 0.5


def test_kill_9_and_resume_gives_the_same_bits(call: Any, refused: Any, tmp_path: Path) -> None:
    """A run of 20 epochs, killed when there is a checkpoint."""
    options = [*ON_CHIP, "--epochs", "20", "--runs-dir", tmp_path]
    script, killed = Path(sys.executable).parent / "lava-snnlearn", tmp_path / "killed"
    process = subprocess.Popen(list(map(str, [script, "run", *options, "--name", "killed"])), stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not (killed / "checkpoint.h5").exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "weights.h5").exists(), "it was killed in the middle"
    assert "holds a checkpoint" in refused("run", *options, "--name", "killed")
    assert "epochs = 20, now it is 3" in refused("run", *options, "--epochs", "3", "--name", "killed", "--resume")
    assert call("run", *options, "--name", "killed", "--resume").code == 0
    assert call("run", *options, "--name", "whole").code == 0
    for name in ("weights.h5", "network.h5", "config.json"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    resumed, whole = ([{**row, "seconds": ""} for row in metrics(tmp_path / name)] for name in ("killed", "whole"))
    assert resumed == whole
    assert len(whole) == 20


def test_a_mismatch_in_learning_is_exit_status_1_and_said_everywhere(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = lava_spide.train_sample

    def wrong(state: OnChipState, x: Any, label: int) -> Any:
        after, record = real(state, x, label)
        memory = after.memories[1].copy()
        memory[2, 3] ^= 1
        return replace(after, memories=(after.memories[0], memory, *after.memories[2:])), record

    monkeypatch.setattr(lava_spide, "train_sample", wrong)
    result = call("run", *ON_CHIP, "--epochs", "1", "--runs-dir", tmp_path)
    assert result.code == 1, result
    assert "first mismatch: sample 0, memories of R at (2, 3)" in result.out
    folder = tmp_path / "spide-on-chip-digits"
    found = json.loads((folder / "summary.json").read_text())["results"]
    assert (found["verified"], found["replayed"]) == (True, False)
    html = (folder / "report.html").read_text()
    assert '<p class="verdict bad">' in html
    assert "NOT equal, see below" in html
    assert "first mismatch: sample 0, memories of R" in html


def test_other_answers_than_the_simulator_are_exit_status_1(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spide = learners.SPIDE

    def wrong(state: OnChipState, x: Any) -> Any:
        found = spide.infer(state, x)
        return found._replace(predictions=np.concatenate([(found.predictions[:3] + 1) % 10, found.predictions[3:]]))

    monkeypatch.setattr(learners, "SPIDE", replace(spide, infer=wrong))
    result = call("run", *ON_CHIP, "--epochs", "1", "--runs-dir", tmp_path)
    assert result.code == 1, result
    assert "3 of 360 test samples answered otherwise" in result.out
    assert "3 test samples answered otherwise" in (tmp_path / "spide-on-chip-digits" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--method", "ide"], ["ide does not learn on the chip", "--method dfa, hlop, opzo, ottt, spide"]),
        (["--method", "bptt"], ["bptt does not learn on the chip"]),
        (["--update", "online"], ["--update cannot be set with --on-chip"]),
        (["--tasks", "2"], ["spide on chip learns one task"]),
        (["--norm", "none"], ["--norm cannot be set with --on-chip"]),
        (["--leak", "0.1", "--input", "current", "--batch-size", "128"], ["--leak, --batch-size, --input cannot be set"]),
        (["--augment", "crop", "--threads", "1"], ["--augment, --threads cannot be set"]),
        (["--data", "nmnist"], ["'nmnist' are events", "static images"]),
        (["--data", "digit"], ["'digit'", "Did you mean 'digits'?"]),
        (["--layers", "16C3"], ["'16C3'", "dense layers"]),
        (["--option", "eror=mse"], ["option of spide on chip 'eror'", "Did you mean 'error'?"]),
        (["--option", "error=ms"], ["unknown error 'ms'", "Did you mean 'mse'?"]),
        (["--option", "sizes=[1,2,3]"], ["option of spide on chip 'sizes'"]),
        (["--option", "eta=0.1", "--learning-rate", "0.1"], ["the same; give one of them"]),
        (["--option", "backward_steps=300"], ["backward_steps is 300", "[1, 255]"]),
        (["--steps", "200"], ["steps is 200", "[1, 127]"]),
        (["--epochs", "0"], ["epochs is 0", "at least 1"]),
        (["--replay-samples", "0"], ["replay_samples is 0", "at least 1"]),
        (["--verify-samples", "0"], ["verify_samples is 0", "at least 1"]),
        (["--seed", "-1"], ["seed is -1"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_what_does_not_apply_on_the_chip_is_refused_before_any_work(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], parts: list[str]
) -> None:
    monkeypatch.setattr(learners, "SPIDE", replace(learners.SPIDE, train_epoch=lambda *_: pytest.fail("trained")))
    message = refused("run", "--method", "spide", "--on-chip", *options, "--runs-dir", tmp_path / "runs")
    for part in parts:
        assert part in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--leak", "0.1", "--norm", "sws"], ["leak 0.1, norm 'sws': does not apply to ep"]),
        (["--input", "current"], ["input 'current': does not apply"]),
        (["--layers", "16C3", "--reset", "zero"], ["layers '16C3', reset 'zero': does not apply"]),
        (["--data", "nmnist"], ["data 'nmnist'", "static images"]),
        (["--replay-samples", "5"], ["--on-chip"]),
        (["--tasks", "2"], ["energy networks", "no sequences of tasks"]),
        (["--option", "arithmetic=exact"], ["unknown arithmetic 'exact'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_what_an_energy_network_does_not_have_is_refused(
    refused: Any, tmp_path: Path, options: list[str], parts: list[str]
) -> None:
    message = refused("run", "--method", "ep", *options, "--runs-dir", tmp_path / "runs")
    for part in parts:
        assert part in message
    assert not (tmp_path / "runs").exists()


def test_options_on_the_chip_are_listed(call: Any) -> None:
    listed = call("methods").out
    (line,) = (line for line in listed.splitlines() if "with --on-chip: " in line and "backward_steps" in line)
    for part in ("backward_steps=100", "error=softmax", "memory=shadow", "eta=0.03"):
        assert part in line
    assert "sizes" not in line
    help_text = call("run", "--help").out
    assert "--on-chip" in help_text
    assert "--replay-samples" in help_text
