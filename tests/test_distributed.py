"""What processes exchange when they train together, and the command line in several of them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lava_snnlearn import distributed, methods, networks
from lava_snnlearn.data import load
from lava_snnlearn.training import Trainer

SCRIPT = Path(__file__).parent / "parallel" / "exchange.py"
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(scope="module")
def exchange() -> ModuleType:
    spec = importlib.util.spec_from_file_location("exchange", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ended(torchrun: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Any]:
    """Answers of three processes, and how torchrun ended."""
    folder = tmp_path_factory.mktemp("exchange")
    found = torchrun(SCRIPT, folder, processes=3)
    assert len(list(folder.iterdir())) == 3, found.stderr
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(3)], found


@pytest.fixture
def answers(ended: Any) -> list[dict[str, Any]]:
    return ended[0]


def test_who_is_who(answers: Any) -> None:
    for number, answer in enumerate(answers):
        assert answer["inside"] == [3, number, 3, number == 0, number]
        outside = [1, 0, 3, number == 0, number]
        assert answer["outside"] == [outside, outside]
        assert answer["hook"]


def test_shares(answers: Any) -> None:
    assert [answer["share"] for answer in answers] == [[0, 3, 0.3], [3, 6, 0.3], [6, 10, 0.4]]
    assert [answer["part"] for answer in answers] == [[0, 0], [0, 1], [1, 2]]
    for answer in answers:
        assert "a batch of 2 samples cannot be shared by 3 processes" in answer["refused"]


def test_joined_moments_and_their_gradient(answers: Any, exchange: ModuleType) -> None:
    gain = nn.Parameter(torch.linspace(0.5, 2, exchange.CHANNELS, dtype=torch.float64))
    current = exchange.make_batch() * gain.view(1, -1, 1, 1)
    variance, mean = torch.var_mean(current, dim=[0, 2, 3], correction=0)
    exchange.loss(current, mean, variance).backward()
    for answer in answers:
        found = answer["moments"]
        np.testing.assert_allclose(found["mean"], mean.tolist(), rtol=1e-13)
        np.testing.assert_allclose(found["variance"], variance.tolist(), rtol=1e-13)
        np.testing.assert_allclose(found["grad"], gain.grad.tolist(), rtol=1e-11)
        assert found["count"] == 60
    assert answers[0]["moments"] == answers[1]["moments"] == answers[2]["moments"]


def test_joined_gradients(answers: Any) -> None:
    for answer in answers:
        used, seldom, never, frozen = answer["gradients"]
        # 0.2 * 1 + 0.3 * 2 + 0.5 * 3
        np.testing.assert_allclose(used, np.full((2, 2), 2.3), rtol=1e-6)
        np.testing.assert_allclose(seldom, 0.5 * np.eye(2))
        assert never is None
        assert frozen is None


def test_draws_are_those_of_one_process(answers: Any) -> None:
    torch.manual_seed(0)
    first, second, after = torch.rand(10, 2), torch.rand(2, 10), torch.rand(3)
    assert torch.equal(torch.cat([torch.tensor(answer["draws"]["first"]) for answer in answers]), first)
    assert torch.equal(torch.cat([torch.tensor(answer["draws"]["second"]) for answer in answers], 1), second)
    assert all(torch.equal(torch.tensor(answer["draws"]["after"]), after) for answer in answers)


def test_what_the_first_says_or_raises_all_get(answers: Any) -> None:
    for number, answer in enumerate(answers):
        found = answer["first"]
        assert found["heard"] == [0, 499500, None]
        assert found["errors"][0] == ["KeyError", "'key'"]
        stubborn = ["Stubborn", "one two"] if number == 0 else ["LostProcessError", "process 0 failed: Stubborn: one two"]
        assert found["errors"][1] == stubborn
        assert found["tensors"] == [[0.0, 0.0, 0.0], 0]
        assert found["sums"] == pytest.approx([3, 3, 0.3])
        assert found["most"] == [1, 2, 0]


def test_a_process_that_stands_still_is_noticed(answers: Any) -> None:
    for number, answer in enumerate(answers):
        assert answer["standstill"].startswith(f"process {number} of 3 lost another one")


def test_an_error_in_one_process_ends_all(ended: Any) -> None:
    """Long before the timeout of the group, at which the others would give up."""
    _, found = ended
    assert found.returncode != 0
    assert "ValueError: the last word of process 1" in found.stderr
    assert "Error in sys.excepthook" not in found.stderr


def test_one_process_exchanges_with_nobody() -> None:
    with distributed.process_group():
        assert (distributed.world(), distributed.rank(), distributed.launched(), distributed.is_first()) == (1, 0, 1, True)
        share = distributed.share_of(5)
        assert (share.first, share.last, share.weight) == (0, 5, 1.0)
        assert distributed.own_part(5) == slice(0, 5)
        parameter = nn.Parameter(torch.zeros(2))
        distributed.join_gradients([parameter], 0.5)
        assert parameter.grad is None
        assert distributed.joined_sum([1.5, 2]) == distributed.joined_max([1.5, 2]) == [1.5, 2]
        assert distributed.joined_count(7) == 7
        assert distributed.from_first(lambda: "it") == "it"
        distributed.wait_for_all()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("missing", [None, *VARIABLES])
def test_torchrun_is_known_by_all_its_variables(monkeypatch: pytest.MonkeyPatch, missing: str | None) -> None:
    """Clusters set some of them for other purposes."""
    for name, value in zip(VARIABLES, ("2", "4", "localhost", "1"), strict=True):
        monkeypatch.setenv(name, value)
    if missing is not None:
        monkeypatch.delenv(missing)
    assert distributed.launched() == (4 if missing is None else 1)
    assert distributed.is_first() == (missing is not None)


def test_each_process_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert distributed.own_device("cuda") == torch.device("cuda")
    for name, value in zip((*VARIABLES, "LOCAL_RANK"), ("2", "4", "localhost", "1", "2"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert distributed.own_device("cuda") == torch.device("cuda", 2)
    assert distributed.own_device("cuda:0") == torch.device("cuda", 0)
    assert distributed.own_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("timeout, error", [(0, ValueError), (-1.0, ValueError), (float("nan"), ValueError), ("1", TypeError)])
def test_bad_timeouts_are_refused(timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeout is "), distributed.process_group(timeout):
        pass


def test_the_command_line_in_two_processes(torchrun: Any, tmp_path: Path) -> None:
    """Both train, equal to one process; process 0 alone converts, verifies and reports."""
    small = ("--epochs", 1, "--train-size", 200, "--layers", 32, "--verify-samples", 2, "--seed", 3)
    found = torchrun("-m", "lava_snnlearn", "run", *small, "--runs-dir", tmp_path, "--name", "two", COLUMNS="200")
    assert found.returncode == 0, found.stderr
    for text in ("OTTT(", "trained 1 epochs", "quantized to 8 bits", "open "):
        assert found.stdout.count(text) == 1, text
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())["results"]
    assert summary["verified"] is True
    assert summary["verified_samples"] == 2
    data, method = load("digits", train_size=200), methods.get("ottt")
    torch.manual_seed(3)
    network = networks.mlp([64, 32, 10], method.preset.neuron, norm=method.preset.norm, steps=method.preset.steps)
    row = Trainer(network, method, data, epochs=1, seed=3, batch_size=128, progress=False).fit().epochs[0]
    table = np.genfromtxt(tmp_path / "two" / "metrics.csv", delimiter=",", names=True)
    for column in ("train_loss", "train_accuracy", "valid_accuracy", "spike_rate"):
        assert float(table[column]) == pytest.approx(getattr(row, column), abs=1e-5)
