"""Training state as files: nothing changes on the way, and what does not fit is refused."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from lava_snnlearn import checkpoints
from lava_snnlearn.files import FileFormatError, read_tree, write_tree


def trained(runs: ModuleType, optimiser: str) -> tuple[Any, torch.optim.Optimizer]:
    network = runs.make_network("bn_step")
    parameters = network.parameters()
    made = torch.optim.Adam(parameters, lr=0.01) if optimiser == "adam" else torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    for _ in range(3):
        network(torch.randn(5, 6)).square().sum().backward()
        made.step()
    return network, made


def test_weights_come_back_bit_for_bit(runs: ModuleType, assert_same_weights: Any, tmp_path: Path) -> None:
    network, _ = trained(runs, "sgd")
    with torch.no_grad():
        network.readout.bias.copy_(torch.tensor([-0.0, 1e-45, 3.0000002]))  # signed zero, a denormal, one ulp
    checkpoints.save_weights(tmp_path / "w.h5", network)
    other = runs.make_network("bn_step", seed=9)
    checkpoints.read_weights(tmp_path / "w.h5", other)
    assert_same_weights(other, network)
    assert torch.equal(torch.signbit(other.readout.bias), torch.tensor([True, False, False]))
    assert any("running_mean" in name for name in other.state_dict()), "buffers are state, too"


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_optimiser_state_comes_back(runs: ModuleType, kind: str, tmp_path: Path) -> None:
    _, first = trained(runs, kind)
    write_tree(tmp_path / "o.h5", checkpoints.optimiser_state(first), content="optimiser")
    _, second = trained(runs, kind)
    checkpoints.load_optimiser(second, read_tree(tmp_path / "o.h5", "optimiser"), "o.h5")
    found, expected = second.state_dict(), first.state_dict()
    assert found["state"].keys() == expected["state"].keys()
    assert len(expected["state"]) > 0
    for index, state in expected["state"].items():
        for key, value in state.items():
            assert torch.equal(found["state"][index][key], value), f"{key} of parameter {index}"
    assert [group["lr"] for group in found["param_groups"]] == [group["lr"] for group in expected["param_groups"]]


def test_state_of_another_network_or_optimiser_is_refused(runs: ModuleType, tmp_path: Path) -> None:
    network, adam = trained(runs, "adam")
    checkpoints.save_weights(tmp_path / "w.h5", network)
    for other in (
        runs.make_network("bn_step", hidden=(12, 13)),
        runs.make_network("sws"),
        runs.make_network("bn_step", hidden=(12,)),
    ):
        with pytest.raises(FileFormatError, match=r"w\.h5 does not fit this network"):
            checkpoints.read_weights(tmp_path / "w.h5", other)
    fewer = torch.optim.Adam([torch.zeros(3, requires_grad=True)])
    with pytest.raises(FileFormatError, match="place holds the state of another optimiser"):
        checkpoints.load_optimiser(fewer, checkpoints.optimiser_state(adam), "place")
    with pytest.raises(FileFormatError, match="place holds the state of another optimiser"):
        checkpoints.load_optimiser(fewer, {"state": {}}, "place")


@pytest.mark.parametrize("content", [b"", b"not a file of this library", b"\x89HDF\r\n\x1a\n" + bytes(600)])
def test_foreign_weights_are_refused(runs: ModuleType, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.h5").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"w\.h5 is "):
        checkpoints.read_weights(tmp_path / "w.h5", runs.make_network())
    with pytest.raises(FileFormatError, match="does not exist"):
        checkpoints.read_weights(tmp_path / "missing.h5", runs.make_network())


def test_generators_come_back_through_a_file(tmp_path: Path) -> None:
    def draw() -> tuple[Any, ...]:
        return (torch.randn(3).tolist(), np.random.randn(), np.random.rand(), random.random(), random.gauss(0, 1))  # noqa: NPY002

    np.random.randn()  # noqa: NPY002 (both gaussian generators now hold a second value back)
    random.gauss(0, 1)
    write_tree(tmp_path / "g.h5", checkpoints.generator_states(), content="generators")
    expected = draw()
    assert draw() != expected
    checkpoints.restore_generators(read_tree(tmp_path / "g.h5", "generators"))
    assert draw() == expected


@pytest.mark.parametrize("key", ["config", "progress", "network", "optimiser", "generators"])
@pytest.mark.parametrize("change", ["missing", "wrong"])
def test_a_sound_file_that_is_no_checkpoint_is_refused(runs: ModuleType, tmp_path: Path, key: str, change: str) -> None:
    """Its checksum fits, but what it holds does not."""
    runs.make_trainer("bptt-adam", tmp_path, epochs=1).fit()
    path = tmp_path / "checkpoint.h5"
    tree = read_tree(path, "checkpoint")
    if change == "missing":
        del tree[key]
    else:
        tree[key] = [1, 2, 3]
    write_tree(path, tree, content="checkpoint")
    with pytest.raises(FileFormatError, match=r"checkpoint\.h5 "):
        runs.make_trainer("bptt-adam", tmp_path, epochs=1).resume()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree["optimiser"]["state"]["0"].update(exp_avg=np.zeros(2, np.float32)), "exp_avg of weight 0"),
        (lambda tree: tree["optimiser"]["state"].update({"99": {}}), "number of a weight is 99"),
        (lambda tree: tree["optimiser"]["param_groups"][0].update(lr="fast"), "option lr of the optimiser is 'fast'"),
        (lambda tree: tree["optimiser"]["param_groups"][0].update(betas=0.9), "option betas"),
        (lambda tree: tree["progress"].update(epoch=0.5), "epoch is 0.5"),
        (lambda tree: tree["progress"].update(batch=-1), "batch is -1"),
        (lambda tree: tree["progress"].update(loss=np.zeros(3)), "loss is"),
        (lambda tree: tree["progress"]["rows"][0].update(train_loss="low"), "train_loss is 'low'"),
        (lambda tree: tree["progress"].update(best_weights={}), "best epoch has the entries"),
        (lambda tree: tree["progress"]["best_weights"].update({"readout.bias": np.zeros(99)}), "readout.bias is no array of"),
        (lambda tree: tree["network"].update({"readout.bias": np.zeros(3, ">f4")}), "byte order"),
        (lambda tree: tree["generators"].update(python=[3, np.zeros(5, np.uint32), None]), "not a valid checkpoint"),
    ],
)
def test_content_that_would_do_harm_later_is_refused_at_once(
    runs: ModuleType, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    runs.make_trainer("bptt-adam", tmp_path, epochs=1).fit()
    path = tmp_path / "checkpoint.h5"
    tree = read_tree(path, "checkpoint")
    change(tree)
    write_tree(path, tree, content="checkpoint")
    with pytest.raises(FileFormatError, match=message) as caught:
        runs.make_trainer("bptt-adam", tmp_path, epochs=1).resume()
    assert str(path) in str(caught.value)


def test_settings_that_are_arrays_are_other_settings(runs: ModuleType, tmp_path: Path) -> None:
    runs.make_trainer("bptt-adam", tmp_path, epochs=1).fit()
    path = tmp_path / "checkpoint.h5"
    tree = read_tree(path, "checkpoint")
    tree["config"]["seed"] = np.ones(3)
    write_tree(path, tree, content="checkpoint")
    with pytest.raises(ValueError, match="Resume with the same settings"):
        runs.make_trainer("bptt-adam", tmp_path, epochs=1).resume()


def test_trees_and_tensors_are_inverse() -> None:
    tree = {"a": torch.arange(3), "b": [torch.tensor(2.5), {"c": torch.eye(2, dtype=torch.float64)}], "d": (1, None, "x")}
    back = checkpoints.to_tensors(checkpoints.to_tree(tree))
    assert torch.equal(back["a"], tree["a"])
    assert torch.equal(back["b"][0], tree["b"][0])
    assert torch.equal(back["b"][1]["c"], tree["b"][1]["c"])
    assert back["d"] == [1, None, "x"]
    assert checkpoints.to_tree({3: 1}) == {"3": 1}


def test_to_tree_copies() -> None:
    """Weights of the best epoch must not follow the training."""
    weight = torch.zeros(2)
    kept = checkpoints.to_tree({"w": weight})
    weight.add_(1)
    assert kept["w"].tolist() == [0, 0]


@dataclass
class Row:
    name: str
    value: float


def test_tables_are_csv(tmp_path: Path) -> None:
    values = [0.1, 1e-300, float("nan"), 1 / 3]
    checkpoints.write_table(tmp_path / "t.csv", ["name", "value"], [vars(Row(f"a,{v}", v)) for v in values])
    with (tmp_path / "t.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["name", "value"]
    np.testing.assert_array_equal([float(line[1]) for line in lines[1:]], values)
    assert lines[1][0] == "a,0.1"
