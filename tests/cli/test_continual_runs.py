"""lava-snnlearn run on sequences of tasks: what is written, that it is what the library does, resuming, refusals."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

import lava_snnlearn as snn
from lava_snnlearn.continual.settings import TaskSettings, make_plan
from lava_snnlearn.data.places import DATA_VARIABLE
from lava_snnlearn.files import read_tree
from lava_snnlearn.methods import GPM, HLOP, OTTT
from lava_snnlearn.methods.hlop import row_budget
from lava_snnlearn.pipeline import Settings
from lava_snnlearn.pipeline import run as run_one

FOLDER = Path(os.environ.get(DATA_VARIABLE, "none"))
needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{DATA_VARIABLE} names no folder; CI sets it")

SMALL = ("--epochs", "2", "--train-size", "300", "--layers", "24", "--verify-samples", "3")
FILES = ["checkpoint.h5", "config.json", "matrix.csv", "report.html", "results.json", "summary.json"]
PNGS = ["confusion_matrix.png", "curves.png", "membranes.png", "placement.png", "raster.png", "rates.png", "tasks.png"]
FOLDERS = ["task_00", "task_01"]


def assert_complete(folder: Path, *more: str) -> dict[str, Any]:
    """All files are there, and say that everything was equal; what summary.json tells."""
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, *PNGS, *FOLDERS, *more])
    for name in PNGS:
        assert matplotlib.image.imread(folder / name).std() > 0.01
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    found = content["results"]
    assert found["verified"] is True
    assert set(found["mismatches"].values()) == {0}
    assert min(found["verified_values"].values()) > 0
    html = (folder / "report.html").read_text()
    assert f"Verified: {found['verified_samples']} samples, all populations, every step, 0 mismatches" in html
    assert "NOT equal" not in html
    assert not re.search(r"https?:", re.sub(r"base64,[^\"]*", "", html))
    results = json.loads((folder / "results.json").read_text())
    assert (found["ACC"], found["BWT"]) == (results["ACC"], results["BWT"])
    assert found["ACC"] == pytest.approx(np.mean(found["float_accuracies"]))
    return content


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory, call_once: Any) -> Path:
    """Folder of a small run of HLOP with two comparisons, which no test changes."""
    runs = tmp_path_factory.mktemp("runs")
    result = call_once("run", "--method", "hlop", *SMALL, "--compare", "sequential,joint", "--runs-dir", runs)
    assert result.code == 0, result
    assert "EQUAL" in result.out
    assert "compared: joint" in result.out
    return runs / "hlop-permuted-digits"


def test_a_run_writes_everything(learnt: Path) -> None:
    content = assert_complete(learnt, "network.h5", "compare_joint", "compare_sequential", "tasks_sequential.png")
    found, settings = content["results"], content["settings"]
    assert found["verified_samples"] == 3
    filled = {"base": "ottt", "sequence": "permuted", "tasks": 2, "norm": "none", "batch_size": 32, "learning_rate": 0.1}
    assert filled.items() <= settings.items()
    tasks = snn.data.permuted(snn.data.load("digits", valid=0.0), 2)
    chip = snn.FixedNetwork.load(learnt / "network.h5")
    fixed = [(snn.emulate(chip, task.test.x).predictions == task.test.y).mean() for task in tasks.tasks]
    assert found["fixed_accuracies"] == fixed
    assert found["agreement"] > 0.9
    with (learnt / "matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert [float(cell) for cell in rows[2][1:]] == found["float_accuracies"]
    # Both learn the first task by the base method alone.
    sequential = found["comparisons"]["sequential"]
    assert sequential["new_task"][0] == found["new_task"][0] > 0.3
    assert sequential["accuracies"] != found["float_accuracies"]
    html = (learnt / "report.html").read_text()
    assert "digits-permuted1" in html
    assert "Hebbian learning based orthogonal projection" in html
    assert "Online training through time" in html


def test_it_is_what_the_library_does(learnt: Path) -> None:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = snn.networks.mlp([64, 24, 10], norm="none", steps=6)
    data = snn.data.load("digits", valid=0.0, train_size=300)
    method = HLOP(OTTT(), first=[24, 8], increment=[12, 4])
    options = {"epochs": 2, "batch_size": 32, "seed": 0, "progress": False}
    results = snn.continual.ContinualTrainer(network, method, snn.data.permuted(data, 2), **options).fit()
    found = json.loads((learnt / "results.json").read_text())
    assert found["accuracies"] == [row[: index + 1].tolist() for index, row in enumerate(results.accuracies)]
    torch.manual_seed(0)
    network = snn.networks.mlp([64, 24, 10], norm="none", steps=6)
    joint = snn.continual.train_jointly(network, OTTT(), snn.data.permuted(data, 2), **options)
    summary = json.loads((learnt / "summary.json").read_text())
    assert summary["results"]["comparisons"]["joint"]["accuracies"] == joint.tolist()


def test_the_file_alone_is_asked_for_all_tasks(call: Any, learnt: Path) -> None:
    fixed = json.loads((learnt / "summary.json").read_text())["results"]["fixed_accuracies"]
    assert f"accuracy {np.mean(fixed):.4f} on 720 samples" in call("emulate", learnt / "network.h5").out
    assert "on 360 samples" in call("emulate", learnt / "network.h5", "--data", "digits").out


def test_tasks_with_heads_of_their_own_give_a_file_each(call: Any, refused: Any, tmp_path: Path) -> None:
    options = ("--method", "gpm", "--base", "sltt", "--k", "2", "--sequence", "split", "--tasks", "2")
    assert call("run", *options, *SMALL, "--runs-dir", tmp_path).code == 0
    folder = tmp_path / "gpm-split-digits"
    content = assert_complete(folder, "network_00.h5", "network_01.h5")
    assert content["settings"]["options"] == {"base.k": 2, "readout": False}
    assert content["results"]["verified_samples"] == 3
    tasks = snn.data.split(snn.data.load("digits", valid=0.0), 2)
    for index, fixed in enumerate(content["results"]["fixed_accuracies"]):
        chip, test = snn.FixedNetwork.load(folder / f"network_{index:02d}.h5"), tasks.tasks[index].test
        assert chip.population("readout").size == 5
        assert (snn.emulate(chip, test.x).predictions == test.y).mean() == fixed
        out = call("emulate", folder / f"network_{index:02d}.h5").out
        assert f"accuracy {fixed:.4f} on {len(test)} samples" in out
    assert call("verify", folder / "network_01.h5", "--samples", "2").code == 0
    (folder / "other.h5").write_bytes((folder / "network_01.h5").read_bytes())
    assert "network_00.h5, network_01.h5" in refused("emulate", folder / "other.h5")
    # Fewer files than before: none of the old ones stays.
    assert call("run", *options[:2], *SMALL, "--runs-dir", tmp_path, "--name", folder.name, "--overwrite").code == 0
    assert [path.name for path in folder.glob("network*.h5")] == ["network.h5"]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--method", "ottt", "--tasks", "2", "--input", "rate"), id="sequential-rate"),
        pytest.param(
            ("--method", "hlop", "--base", "opzo", "--sequence", "rotated", "--tasks", "2", "--compare", "gpm"),
            id="opzo-rotated",
        ),
        pytest.param(("--method", "hlop", "--base", "dfa", "--update", "online", "--learning-rate", "0.02"), id="dfa-online"),
        pytest.param(
            ("--method", "gpm", "--base", "fa", "--option", "base.feedback=sign", "--input", "graded"), id="fa-graded"
        ),
        pytest.param(("--method", "hlop", "--layers", "4C3s2-16", "--option", "rows=500"), id="convolution"),
    ],
)
def test_runs_of_every_kind_are_verified(call: Any, tmp_path: Path, options: tuple[str, ...]) -> None:
    small = ("--epochs", "1", *SMALL[2:])
    result = call("run", *small, *options, "--runs-dir", tmp_path, "--name", "mine")
    assert result.code == 0, result
    compared = ("compare_gpm", "tasks_gpm.png") if "--compare" in options else ()
    more = ("diagnostics.png",) if "opzo" in options else ()
    assert_complete(tmp_path / "mine", "network.h5", *compared, *more)


def test_defaults_keep_the_first_task(call: Any, results: Any, tmp_path: Path) -> None:
    """H7, as a user meets it."""
    options = ("--seed", "1", "--compare", "sequential", "--verify-samples", "2", "--runs-dir", tmp_path)
    assert call("run", "--method", "hlop", *options).code == 0
    found = results(tmp_path / "hlop-permuted-digits")
    assert found["BWT"] >= -0.03
    assert found["comparisons"]["sequential"]["BWT"] <= -0.20
    assert min(found["fixed_accuracies"]) >= 0.93


def test_an_interrupted_run_is_resumed(
    call: Any, refused: Any, results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks of two epochs of five batches; Ctrl-C in the second task's second epoch, then in the comparison."""
    options = ("--method", "gpm", *SMALL, "--batch-size", "64", "--compare", "sequential", "--runs-dir", tmp_path)
    assert call("run", *options, "--name", "whole").code == 0

    def interrupt(cls: type, after: int) -> None:
        calls, real = 0, cls.gradients

        def gradients(self: Any, *arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == after:
                raise KeyboardInterrupt
            return real(self, *arguments)

        monkeypatch.setattr(cls, "gradients", gradients)

    interrupt(GPM, 17)
    assert call("run", *options, "--name", "broken").code == 130
    monkeypatch.undo()
    message = refused("run", *options, "--name", "broken")
    for remedy in ("--resume", "--overwrite", "--name"):
        assert remedy in message
    assert "epochs = 2, now it is 3" in refused("run", *options, "--epochs", "3", "--name", "broken", "--resume")
    interrupt(OTTT, 6 + 13)  # what is left of GPM asks OTTT, too
    assert call("run", *options, "--name", "broken", "--resume").code == 130
    monkeypatch.undo()
    assert (tmp_path / "broken" / "compare_sequential").exists()
    assert call("run", *options, "--name", "broken", "--resume").code == 0
    for place in (".", "compare_sequential"):
        whole, broken = (read_tree(tmp_path / name / place / "checkpoint.h5", "checkpoint") for name in ("whole", "broken"))
        for part in ("network", "memory"):
            assert whole[part].keys() == broken[part].keys()
            for key, values in whole[part].items():
                np.testing.assert_array_equal(values, broken[part][key])
    first, second = (
        {key: value for key, value in results(tmp_path / name).items() if key != "seconds"} for name in ("whole", "broken")
    )
    assert first == second
    assert call("run", *options, "--seed", "1", "--name", "broken", "--overwrite").code == 0
    assert results(tmp_path / "broken")["comparisons"] != second["comparisons"]


@pytest.mark.usefixtures("leaky_emulator")
def test_a_mismatch_is_exit_status_1(call: Any, results: Any, tmp_path: Path) -> None:
    result = call("run", "--method", "gpm", "--sequence", "split", "--tasks", "2", *SMALL, "--runs-dir", tmp_path)
    assert result.code == 1, result
    assert "first mismatch: " in result.out
    assert results(tmp_path / "gpm-split-digits")["verified"] is False
    assert '<p class="verdict bad">NOT equal' in (tmp_path / "gpm-split-digits" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--tasks", "1"], ["tasks is 1", "at least 2"]),
        (["--sequence", "permute"], ["'permute'", "Did you mean 'permuted'?"]),
        (["--sequence", "split", "--tasks", "3"], ["tasks is 3", "10 classes"]),
        (["--base", "otttt"], ["'otttt'", "Did you mean 'ottt'?"]),
        (["--base", "ep"], ["EP(", "cannot be projected"]),
        (["--base", "gpm"], ["unknown base method 'gpm'"]),
        (["--option", "base=ottt"], ["no option", "setting base"]),
        (["--option", "base.updat=online"], ["option of ottt 'updat'", "Did you mean 'update'?"]),
        (["--update", "onlin"], ["'onlin'", "Did you mean 'online'?"]),
        (["--option", "frist=3"], ["'frist'", "Did you mean 'first'?"]),
        (["--option", "first=40", "--option", "increment=30", "--tasks", "3"], ["wants 30 rows", "room for 24 of its 64"]),
        (["--norm", "sws"], ["standardised weights", "norm='none'"]),
        (["--compare", "jiont"], ["'jiont'", "Did you mean 'joint'?"]),
        (["--compare", "joint,hlop"], ["'hlop'", "what is run"]),
        (["--method", "ottt", "--tasks", "2", "--compare", "sequential"], ["'sequential'", "what is run"]),
        (["--method", "ottt", "--tasks", "2", "--compare", "hlop"], ["standardised weights", "norm='none'"]),
        (["--method", "ottt", "--base", "sltt"], ["--base", "ottt learns one task", "--tasks"]),
        (["--method", "ottt", "--tasks", "2", "--base", "sltt"], ["ottt has no base method"]),
        (["--method", "ep", "--tasks", "2"], ["energy networks", "ottt"]),
        (["--data", "nmnist"], ["'nmnist' are events", "digits"]),
        (["--augment", "crop"], ["'crop'", "permuted"]),
        (["--sequence", "five", "--data", "mnist"], ["'mnist'", "data sets of its own"]),
        (["--sequence", "five", "--input", "rate"], ["'rate'", "graded"]),
        (["--sequence", "five", "--tasks", "6"], ["tasks is 6", "at most 5"]),
        (["--replay-samples", "5"], ["--on-chip"]),
        (["--on-chip", "--sequence", "split"], ["--sequence cannot be set with --on-chip"]),
        (["--resume", "--overwrite"], ["give one of them"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_what_does_not_go_together_is_refused_before_any_work(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], parts: list[str]
) -> None:
    monkeypatch.setattr(OTTT, "gradients", lambda *_: pytest.fail("trained"))
    method = [] if "--method" in options else ["--method", "hlop"]
    message = refused("run", *method, *options, "--runs-dir", tmp_path / "runs")
    for part in parts:
        assert part in message
    assert not (tmp_path / "runs").exists()


def test_a_protecting_method_is_no_run_on_one_task(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gpm learns sequences of tasks"):
        run_one(Settings(method="gpm"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("tasks", [2, 5, 10, 40])
def test_rows_leave_room_for_all_tasks(tasks: int) -> None:
    inputs = [9, 64, 128, 784]
    first, later = row_budget(inputs, tasks)
    for n, start, more in zip(inputs, first, later, strict=True):
        assert more >= 1
        assert start == 2 * more
        assert more <= max(1, n // 5)
        if tasks < 10:
            assert start + (tasks - 1) * more <= 0.85 * n or more == 1
    assert row_budget([64, 128, 128], 2) == ([24, 50, 50], [12, 25, 25])


@needs_data
def test_many_inputs_learn_their_subspace_slowly() -> None:
    plan = make_plan(TaskSettings(data="mnist", train_size=20, layers=(8,), compare=("gpm",)))
    assert plan.method.rate == [0.001, 0.01]
    assert plan.settings.epochs == 1
    assert isinstance(plan.rivals["gpm"], GPM)
    assert plan.tasks.tasks[0].features == 784


@needs_data
def test_five_data_sets_share_one_convolutional_body() -> None:
    plan = make_plan(TaskSettings(sequence="five", data="cifar10", tasks=2, train_size=20))
    assert [task.name for task in plan.tasks.tasks] == ["cifar10-10k", "mnist"]
    assert plan.network().layers[0].geometry is not None
    assert plan.method.readout is False


def test_the_methods_say_how_they_are_run(call: Any) -> None:
    blocks = {block.split(":")[0]: block for block in call("methods").out.strip().split("\n\n")}
    for name in ("gpm", "hlop"):
        assert "base=ottt" in blocks[name]
        assert "--base sltt --option base.k=2" in blocks[name]
    assert "--compare" not in blocks["ottt"]
    help_text = call("run", "--help").out
    for option in ("--sequence", "--tasks", "--base", "--compare"):
        assert option in help_text
