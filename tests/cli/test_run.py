"""lava-snnlearn run, methods, --help: what is written, what is said when something is wrong, the exit status."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

import lava_snnlearn as snn
from lava_snnlearn.commands import verify
from lava_snnlearn.files import read_tree
from lava_snnlearn.methods import METHODS, OTTT

PNGS = ["confusion_matrix.png", "curves.png", "membranes.png", "placement.png", "raster.png", "rates.png"]
FILES = sorted(
    ["checkpoint.h5", "config.json", "metrics.csv", "network.h5", "report.html", "summary.json", "weights.h5", *PNGS]
)


@pytest.mark.parametrize("command", ["run", "methods", "verify", "emulate"])
def test_help_teaches(call: Any, command: str) -> None:
    result = call(command, "--help")
    assert result.code == 0
    assert re.search(rf"Examples?:\s+lava-snnlearn {command}", result.out)
    if command != "methods":
        assert "Exit status: 0" in result.out
    options = {
        "run": ["--method", "--data", "--layers", "--input", "--weight-bits", "--resume", "--overwrite", "--runs-dir", "--k"],
        "verify": ["file", "--samples", "--data", "--npy", "--time-limit"],
        "emulate": ["file", "--samples", "--data", "--npy", "--save"],
        "methods": ["--help"],
    }[command]
    for option in options:
        assert option in result.out


def test_without_arguments_it_says_how_to_begin(call: Any) -> None:
    result = call()
    shown = result.out + result.err
    assert "Start with lava-snnlearn run" in shown
    for command in ("run", "methods", "verify", "emulate"):
        assert re.search(rf"│ {command} ", shown)


def test_methods_are_listed_with_options_and_papers(call: Any) -> None:
    result = call("methods")
    assert result.code == 0
    blocks = {block.split(":")[0]: block for block in result.out.strip().split("\n\n")}
    assert set(blocks) == {*METHODS, "grsnn"}
    for name, block in blocks.items():
        for paper in snn.citation(name).splitlines():
            assert paper in block
    assert "update=accumulate" in blocks["ottt"]
    assert "k=None" in blocks["sltt"]
    assert "reduction=per_step" in blocks["bptt"]


def assert_complete(folder: Path, samples: int = 2) -> dict[str, Any]:
    """All files are there, sound, and say that everything was equal."""
    assert sorted(path.name for path in folder.iterdir()) == FILES
    for name in PNGS:
        assert matplotlib.image.imread(folder / name).std() > 0.01
    found = json.loads((folder / "summary.json").read_text())["results"]
    assert found["verified"] is True
    assert found["verified_samples"] == samples
    assert found["mismatches"] == {"lava": 0, "torch": 0}
    assert min(found["verified_values"].values()) > 0
    html = (folder / "report.html").read_text()
    assert f"Verified: {samples} samples, all populations, every step, 0 mismatches" in html
    assert "NOT equal" not in html
    assert not re.search(r"https?:", re.sub(r"base64,[^\"]*", "", html))
    with (folder / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == json.loads((folder / "config.json").read_text())["epochs"]
    chip = snn.FixedNetwork.load(folder / "network.h5")
    assert set(found["saturated"]) == {population.name for population in chip.populations}
    return found


def test_a_run_writes_everything(finished: Path) -> None:
    found = assert_complete(finished)
    chip = snn.FixedNetwork.load(finished / "network.h5")
    test = snn.data.load("digits").test
    assert found["fixed_accuracy"] == (snn.emulate(chip, test.x).predictions == test.y).mean()
    assert found["float_accuracy"] > 0.2, "trained on 180 digits, it should beat guessing (0.1)"
    assert found["agreement"] > 0.9
    settings = json.loads((finished / "summary.json").read_text())["settings"]
    # The defaults of method and data set are filled in.
    filled = {"method": "ottt", "layers": [32], "epochs": 1, "steps": 6, "leak": 0.5, "norm": "sws", "learning_rate": 0.1}
    assert filled.items() <= settings.items()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--update", "online", "--learning-rate", "0.02"), id="ottt-online"),
        pytest.param(("--option", "trace_bias=false", "--option", "update=online"), id="ottt-options"),
        pytest.param(("--method", "sltt", "--k", "2", "--input", "graded"), id="sltt-k-graded"),
        pytest.param(("--method", "bptt", "--reset", "zero", "--weight-bits", "6"), id="bptt-zero-6bit"),
        pytest.param(("--input", "rate", "--steps", "8"), id="rate"),
        pytest.param(("--input", "latency", "--norm", "none", "--leak", "0.25"), id="latency"),
        pytest.param(
            ("--method", "bptt", "--norm", "bn_time", "--input", "graded", "--reset", "zero"), id="bn_time-graded-zero"
        ),
    ],
)
def test_runs_of_every_kind_are_verified(call: Any, small: tuple[str, ...], tmp_path: Path, options: tuple[str, ...]) -> None:
    result = call("run", *small, *options, "--runs-dir", tmp_path, "--name", "mine")
    assert result.code == 0, result
    assert_complete(tmp_path / "mine")
    assert "EQUAL" in result.out
    assert "report.html" in result.out
    chip = snn.FixedNetwork.load(tmp_path / "mine" / "network.h5")
    form = dict(zip(options[::2], options[1::2], strict=True)).get("--input", "current")
    assert chip.host.form == ("spikes" if form in ("rate", "latency") else form)
    assert chip.population("layer1").kind == ("lif" if "zero" in options else "soft_reset_lif")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--method", "opzo"), id="opzo"),
        pytest.param(
            ("--method", "opzo", "--option", "position=pre", "--option", "noise=gaussian", "--option", "antithetic=false"),
            id="opzo-pre-gaussian",
        ),
        pytest.param(
            ("--method", "opzo", "--option", "local_learning=true", "--option", "intermediate=1", "--layers", "16,16"),
            id="opzo-local",
        ),
        pytest.param(
            ("--method", "dfa", "--update", "online", "--learning-rate", "0.02", "--input", "graded"), id="dfa-online"
        ),
        pytest.param(("--method", "fa", "--option", "feedback=sign", "--layers", "4C3s2-16"), id="fa-sign-convolution"),
    ],
)
def test_feedback_of_its_own_is_compared_with_backpropagation(
    call: Any, results: Any, small: tuple[str, ...], tmp_path: Path, options: tuple[str, ...]
) -> None:
    result = call("run", *small, *options, "--runs-dir", tmp_path, "--name", "mine")
    assert result.code == 0, result
    found = results(tmp_path / "mine")
    assert (found["verified"], found["mismatches"]) == (True, {"lava": 0, "torch": 0})
    weights = {name for name, values in read_tree(tmp_path / "mine" / "weights.h5", "weights").items() if values.ndim > 1}
    assert set(found["alignment"]) == weights
    # The readout learns from the true gradient.
    assert found["alignment"]["readout.weight"] == pytest.approx(1, abs=1e-5)
    assert all(-1 <= cosine < 0.9999 for name, cosine in found["alignment"].items() if name != "readout.weight")
    html = (tmp_path / "mine" / "report.html").read_text()
    assert "cosine with the backpropagated one" in html
    assert ("Diagnostics" in html) == ("opzo" in options)


def test_backpropagated_errors_are_not_compared(results: Any, finished: Path) -> None:
    assert "alignment" not in results(finished)
    assert "cosine" not in (finished / "report.html").read_text()


def test_the_console_script_is_the_same(results: Any, finished: Path) -> None:
    """As a user starts it: another process, from another folder."""
    script = Path(sys.executable).parent / "lava-snnlearn"
    options = {"cwd": finished, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run([script, "emulate", "network.h5"], **options)
    assert done.returncode == 0, done.stderr
    assert f"accuracy {results(finished)['fixed_accuracy']:.4f} on 360 samples" in done.stdout
    done = subprocess.run([script, "verify", "no.h5"], **options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no.h5 does not exist or is not a file\n"


def test_two_runs_are_equal(call: Any, results: Any, small: tuple[str, ...], finished: Path, tmp_path: Path) -> None:
    assert call("run", *small, "--runs-dir", tmp_path).code == 0
    again = tmp_path / "ottt-digits"
    timeless = [{key: value for key, value in results(folder).items() if key != "seconds"} for folder in (finished, again)]
    assert timeless[0] == timeless[1]
    first, second = (read_tree(folder / "weights.h5", "weights") for folder in (finished, again))
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
    assert (finished / "config.json").read_bytes() == (again / "config.json").read_bytes()


def test_an_interrupted_run_is_resumed(
    call: Any, refused: Any, small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs of two batches each; Ctrl-C in the second one."""
    options = (*small, "--epochs", "2", "--runs-dir", tmp_path)
    assert call("run", *options, "--name", "whole").code == 0
    calls, real = 0, OTTT.gradients

    def gradients(self: OTTT, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(OTTT, "gradients", gradients)
    assert call("run", *options, "--name", "broken").code == 130
    monkeypatch.undo()
    assert "holds a checkpoint" in refused("run", *options, "--name", "broken")
    assert call("run", *options, "--name", "broken", "--resume").code == 0
    assert_complete(tmp_path / "broken")
    whole, broken = (read_tree(tmp_path / name / "weights.h5", "weights") for name in ("whole", "broken"))
    for name, values in whole.items():
        np.testing.assert_array_equal(values, broken[name])
    message = refused("run", *small, "--epochs", "3", "--runs-dir", tmp_path, "--name", "broken", "--resume")
    assert "epochs = 2, now it is 3" in message


def test_an_earlier_run_is_not_overwritten_unless_told(
    call: Any, refused: Any, small: tuple[str, ...], finished: Path, tmp_path: Path
) -> None:
    message = refused("run", *small, "--runs-dir", finished.parent)
    assert "ottt-digits holds a checkpoint" in message
    for remedy in ("--resume", "--overwrite", "--name"):
        assert remedy in message
    assert "give one of them" in refused("run", "--resume", "--overwrite", "--runs-dir", tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "checkpoint.h5").write_bytes((finished / "checkpoint.h5").read_bytes())
    other = (*small, "--seed", "1", "--runs-dir", tmp_path, "--name", "mine")
    assert call("run", *other, "--overwrite").code == 0
    assert_complete(tmp_path / "mine")
    assert json.loads((tmp_path / "mine" / "config.json").read_text())["seed"] == 1


@pytest.mark.usefixtures("leaky_emulator")
def test_a_mismatch_is_exit_status_1_and_said_everywhere(
    call: Any, results: Any, small: tuple[str, ...], tmp_path: Path
) -> None:
    result = call("run", *small, "--runs-dir", tmp_path)
    assert result.code == 1, result
    assert "first mismatch: " in result.out
    found = results(tmp_path / "ottt-digits")
    assert found["verified"] is False
    assert found["mismatches"]["lava"] > 0
    html = (tmp_path / "ottt-digits" / "report.html").read_text()
    assert '<p class="verdict bad">NOT equal' in html
    assert "DIFFERENT" in html
    assert "first mismatch: " in html


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--method", "otttt"], ["'otttt'", "Did you mean 'ottt'?"]),
        (["--data", "digit"], ["'digit'", "Did you mean 'digits'?"]),
        (["--norm", "sw"], ["'sw'", "Did you mean 'sws'?"]),
        (["--input", "grade"], ["'grade'", "Did you mean 'graded'?"]),
        (["--reset", "sub"], ["'sub'", "Did you mean 'subtract'?"]),
        (["--update", "onlin"], ["'onlin'", "Did you mean 'online'?"]),
        (["--option", "trace_bia=false"], ["'trace_bia'", "Did you mean 'trace_bias'?"]),
        (["--option", "trace_bias"], ["'trace_bias'", "KEY=VALUE"]),
        (["--layers", "32,x"], ["'32,x'", "128,128"]),
        (["--layers", ""], ["''", "128,128"]),
        (["--layers", "32,0"], ["[64, 32, 0, 10]", "at least 1"]),
        (["--verify-samples", "-3"], ["verify_samples is -3", "at least 1"]),
        (["--threads", "0"], ["threads is 0", "at least 1"]),
        (["--weight-bits", "9"], ["weight_bits is 9", "2 to 8"]),
        (["--epochs", "0"], ["epochs is 0", "at least 1"]),
        (["--steps", "0"], ["steps is 0", "at least 1"]),
        (["--leak", "2"], ["leak is 2.0", "[0, 1]"]),
        (["--batch-size", "0"], ["batch_size is 0", "at least 1"]),
        (["--learning-rate", "nan"], ["learning_rate is nan", "finite"]),
        (["--seed", "-1"], ["seed is -1", "at least 0"]),
        (["--train-size", "5"], ["train_size is 5", "10 to 1437"]),
        (["--method", "sltt", "--k", "0"], ["k is 0", "at least 1"]),
        (["--k", "2"], ["option of ottt 'k'", "Valid: "]),
        (["--method", "sltt", "--train-size", "144", "--batch-size", "128"], ["batch of one sample", "another batch_size"]),
    ],
    ids=lambda value: "".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_bad_options_are_refused_before_anything_is_written(
    refused: Any, tmp_path: Path, options: list[str], parts: list[str]
) -> None:
    message = refused("run", *options, "--runs-dir", tmp_path / "runs")
    for part in parts:
        assert part in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arguments", [("--bogus",), ("run", "--bogus"), ("bogus",), ("verify",), ("run", "--epochs", "many")])
def test_what_the_parser_refuses_is_status_2(call: Any, arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert result.code == 2
    assert "Usage: lava-snnlearn" in result.err


@pytest.mark.parametrize("place", ["file", "/proc/runs"])
def test_an_unwritable_runs_dir_is_refused_before_training(
    refused: Any, small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(OTTT, "gradients", lambda *_: pytest.fail("trained"))
    message = refused("run", *small, "--runs-dir", tmp_path / place)
    assert "cannot write" in message
    assert "Choose a folder" in message


def test_a_diverging_run_says_what_to_do(refused: Any, small: tuple[str, ...], tmp_path: Path) -> None:
    message = refused("run", *small, "--method", "bptt", "--learning-rate", "1e38", "--runs-dir", tmp_path)
    assert re.search(r"in epoch 1, batch \d", message)
    assert "Lower the learning rate (now 1e+38)" in message


def test_what_nobody_expected_is_no_mismatch(call: Any, monkeypatch: pytest.MonkeyPatch, network: Path) -> None:
    """Exit status 1 means that something differs; a bug of ours must not say so. Its traceback is for the bug report."""

    def broken(*_: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(verify, "samples_for", broken)
    result = call("verify", network)
    assert result.code == 2
    assert "KeyError: 'a bug'" in result.err
