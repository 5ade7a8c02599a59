"""ContinualTrainer: the accuracy matrix by hand, hooks and memory, heads of their own, replay, refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.continual import ContinualTrainer
from lava_snnlearn.data import Dataset, Split, TaskSequence
from lava_snnlearn.methods import HLOP, OTTT, Preset, StepResult
from lava_snnlearn.networks import Network, energy_net
from lava_snnlearn.training import Trainer, accuracy

FAST: dict[str, Any] = {"epochs": 2, "batch_size": 16, "progress": False}


class Fixed:
    """Answers the class that ``answers`` gives for the task, whatever the sample; notes each call."""

    name = "fixed"
    optimiser_every = "batch"
    preset = Preset()

    def __init__(self, answers: list[int]) -> None:
        self.answers, self.task, self.calls = answers, -1, []  # type: ignore[var-annotated]

    def begin_task(self, network: Network, task: int) -> None:
        self.task = task
        self.calls.append(("begin", task))

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        self.calls.append(("batch", len(y)))
        with torch.no_grad():
            network.readout.weight.zero_()
            assert network.readout.bias is not None
            network.readout.bias.zero_()[self.answers[self.task]] = 1
        return StepResult(1.0, torch.zeros(len(y), network.classes), 0.0)

    def end_task(self, network: Network, x: Tensor) -> None:
        self.calls.append(("end", x))


def counted(name: str, counts: list[int], train: int = 20) -> Dataset:
    """A task whose test split has so many samples of each class."""
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.zeros((len(y), 12), np.float32)
    numbers = np.arange(train * 12, dtype=np.float32).reshape(train, 12)
    return Dataset(name, Split(numbers, np.arange(train) % len(counts)), Split(x[:0], y[:0]), Split(x, y), len(counts))


def test_the_matrix_by_hand(make_network: Any) -> None:
    """After task i the network answers class i, so A[i, j] is the share of class i in the test split of task j."""
    tasks = (counted("a", [5, 3, 2]), counted("b", [1, 4, 5]), counted("c", [2, 0, 8]))
    method = Fixed([0, 1, 2])
    trainer = ContinualTrainer(
        make_network(3), method, TaskSequence("hand", tasks, "shared"), epochs=2, batch_size=8, progress=False
    )
    results = trainer.fit()
    nan = np.nan
    np.testing.assert_array_equal(results.accuracies, [[0.5, nan, nan], [0.3, 0.4, nan], [0.2, 0.5, 0.8]])
    assert results.acc == pytest.approx(1.5 / 3)
    assert results.bwt == pytest.approx(((0.2 - 0.5) + (0.5 - 0.4)) / 2)
    assert results.names == ("a", "b", "c")
    batches = [("batch", 8), ("batch", 8), ("batch", 4)] * 2
    plain = [call for call in method.calls if call[0] != "end"]
    assert plain == [call for task in range(3) for call in [("begin", task), *batches]]
    assert [index for index, call in enumerate(method.calls) if call[0] == "end"] == [7, 15, 23], "after the last batch"


def test_the_hook_after_a_task_gets_its_samples(make_network: Any, shared: TaskSequence, sequences: TaskSequence) -> None:
    for tasks, axes in ((shared, 2), (sequences, 3)):
        method = Fixed([0, 1, 2])
        ContinualTrainer(make_network(), method, tasks, activity_samples=10, **FAST).fit()
        for task, x in zip(tasks.tasks, [call[1] for call in method.calls if call[0] == "end"], strict=True):
            assert x.dim() == axes
            assert x.dtype == torch.float32
            samples = (x if axes == 2 else x.transpose(0, 1)).numpy()
            assert len(samples) == 10
            places = [int(np.flatnonzero((task.train.x == sample).all(axis=tuple(range(1, axes))))[0]) for sample in samples]
            assert len(set(places)) == 10, "drawn without repetition from the task's training samples"
    few = Fixed([0, 1, 2])
    ContinualTrainer(make_network(), few, shared, activity_samples=100, **FAST).fit()
    assert torch.equal(few.calls[-1][1], torch.from_numpy(shared.tasks[-1].train.x)), "all, where there are fewer"


def test_memory_travels_from_task_to_task(make_network: Any, noting: Any, shared: TaskSequence) -> None:
    network = make_network()
    ContinualTrainer(network, noting, shared, activity_samples=1000, **FAST).fit()
    assert {f"{kind}{task}" for kind in ("drawn", "mean") for task in range(3)} | {"batches"} == set(network.memory)
    assert int(network.memory["batches"]) == 2 * 3, "of the last task alone"
    for task in range(3):
        np.testing.assert_allclose(network.memory[f"mean{task}"], shared.tasks[task].train.x.mean(0), atol=1e-6)


def test_a_method_without_hooks_is_a_chain_of_plain_trainers(make_network: Any, shared: TaskSequence) -> None:
    """Each task has an optimiser of its own: equal to Trainers one after another, whose momentum starts anew."""
    network = make_network()
    results = ContinualTrainer(network, OTTT(), shared, seed=3, learning_rate=0.2, schedule="constant", **FAST).fit()
    twin = make_network()
    rows = []
    for index, task in enumerate(shared.tasks):
        seed = int(np.random.SeedSequence([3, index]).generate_state(3)[2])
        data = Dataset(task.name, task.train, task.valid.take(np.arange(0)), task.test, 4)
        Trainer(twin, OTTT(), data, seed=seed, learning_rate=0.2, schedule="constant", **FAST).fit()
        rows.append([accuracy(twin, earlier.test) for earlier in shared.tasks[: index + 1]])
    for name, value in network.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name
    assert [row[: index + 1].tolist() for index, row in enumerate(results.accuracies)] == rows


@pytest.mark.parametrize("keep", ["last", "best"])
def test_which_epoch_is_kept(make_network: Any, shared: TaskSequence, tmp_path: Path, keep: str) -> None:
    ContinualTrainer(make_network(), OTTT(), shared, keep=keep, run_dir=tmp_path, **FAST).fit()
    for task in range(3):
        last = (tmp_path / f"task_{task:02d}" / "metrics.csv").read_text().splitlines()[-1].split(",")
        assert (last[3] == "nan") == (keep == "last"), "accuracy on the validation split"


def test_own_heads_leave_the_others_alone(make_network: Any, own: TaskSequence) -> None:
    class Watching:
        """OTTT that notes all heads after each task."""

        name, optimiser_every, preset = "watching", "batch", Preset()
        seen: list[list[Tensor]] = []  # noqa: RUF012

        def gradients(self, *args: Any) -> StepResult:
            return OTTT().gradients(*args)

        def end_task(self, network: Network, x: Tensor) -> None:
            self.seen.append([head.weight.detach().clone() for head in trainer.heads])
            assert network.readout is trainer.heads[len(self.seen) - 1]

    network = make_network(classes=7)
    trainer = ContinualTrainer(network, Watching(), own, **FAST)
    start = [head.weight.detach().clone() for head in trainer.heads]
    assert [tuple(head.weight.shape) for head in trainer.heads] == [(2, 16), (2, 16)]
    assert not torch.equal(*start), "each is drawn by itself"
    results = trainer.fit()
    first, second = Watching.seen
    assert not torch.equal(first[0], start[0])
    assert torch.equal(first[1], start[1]), "the head of task 1 rests during task 0"
    assert torch.equal(second[0], first[0]), "the head of task 0 rests during task 1"
    assert not torch.equal(second[1], start[1])
    assert network.readout is trainer.heads[1]
    found = []
    for task in range(2):
        trainer.use_head(task)
        found.append(accuracy(network, own.tasks[task].test))
    assert results.accuracies[1].tolist() == found
    assert results.accuracies[1, 0] > 0.7, "asked with its own head, an easy task is not lost"


def test_heads_are_like_the_networks_own_and_seeded(make_network: Any, own: TaskSequence) -> None:
    network = make_network(norm="sws")
    network.readout.bias = None
    network.double()
    state = torch.get_rng_state()
    one, same, other = (ContinualTrainer(network, OTTT(), own, seed=seed, **FAST).heads for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state), "the draw leaves torch's generator alone"
    assert torch.equal(one[0].weight, same[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)
    assert one[1].bias is None
    assert (one[1].weight.dtype, one[1].input_gain, one[1].leak) == (torch.float64, 2.74, network.readout.leak)


class Seen:
    """OTTT that notes which samples it gets, in which task and with which head."""

    name, optimiser_every, preset = "seen", "batch", Preset()

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, Tensor]] = []
        self.task = -1

    def begin_task(self, network: Network, task: int) -> None:
        self.task = task

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        self.batches.append((self.task, id(network.readout), x))
        return OTTT().gradients(network, x, y, on_step)


@pytest.mark.parametrize("heads", ["shared", "own"])
def test_replay_trains_so_many_samples_of_each_class_again(
    make_network: Any, heads: str, shared: TaskSequence, own: TaskSequence
) -> None:
    tasks = shared if heads == "shared" else own
    method = Seen()
    network = make_network()
    trainer = ContinualTrainer(network, method, tasks, replay=3, replay_epochs=2, **FAST)
    trainer.fit()
    for task in range(len(tasks)):
        batches = [(head, x) for number, head, x in method.batches if number == task]
        per_epoch = -(-len(tasks.tasks[task].train) // 16)
        again = batches[2 * per_epoch :]
        if task == 0:
            assert not again, "nothing to repeat after the first task"
            continue
        rows = np.concatenate([x.numpy() for _, x in again])
        total = 0
        for earlier, data in enumerate(tasks.tasks[: task + 1]):
            for label in range(data.classes):
                mine = data.train.x[data.train.y == label]
                counts = [int((rows == sample).all(1).sum()) for sample in mine]
                assert sorted(counts)[-4:] == [0, 2, 2, 2], "three samples, each in both epochs, the others never"
                total += sum(counts)
            if heads == "own":
                wanted = id(trainer.heads[earlier])
                mine = np.concatenate([x.numpy() for head, x in again if head == wanted])
                assert all((data.train.x == row).all(1).any() for row in mine), "with its own head"
        assert total == len(rows)
        if heads == "own":
            order = [trainer.heads.index(next(h for h in trainer.heads if id(h) == head)) for head, _ in again]
            assert order == [0, 1, 0, 1], "tasks take turns"
    assert heads == "shared" or network.readout is trainer.heads[-1]


def test_replay_keeps_what_the_baseline_forgets(make_network: Any, shared: TaskSequence) -> None:
    options: dict[str, Any] = FAST | {"epochs": 10, "learning_rate": 0.2}
    plain, replayed = (
        ContinualTrainer(make_network(), OTTT(), shared, replay=count, replay_epochs=10, **options).fit() for count in (0, 6)
    )
    assert replayed.bwt > plain.bwt + 0.1


def test_files_of_a_run(make_network: Any, shared: TaskSequence, tmp_path: Path) -> None:
    trainer = ContinualTrainer(make_network(), OTTT(), shared, run_dir=tmp_path, **FAST)
    results = trainer.fit()
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.h5", "config.json", "matrix.csv", "results.json", "task_00", "task_01", "task_02",
    }  # fmt: skip
    summary = json.loads((tmp_path / "results.json").read_text())
    assert summary["accuracies"] == [row[: index + 1].tolist() for index, row in enumerate(results.accuracies)]
    assert summary["tasks"] == ["small-permuted0", "small-permuted1", "small-permuted2"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["data"], config["heads"], config["seed"], config["epochs"]) == ("permuted-small", "shared", 0, 2)
    for task in range(3):
        assert (tmp_path / f"task_{task:02d}" / "weights.h5").exists()


@pytest.mark.parametrize(
    "options, kind, message",
    [
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"keep": "lats"}, UnknownNameError, "Did you mean 'last'?"),
        ({"replay": -1}, ValueError, "replay is -1"),
        ({"replay": 2.5}, TypeError, "replay is 2.5; it must be an integer"),
        ({"replay_epochs": 0}, ValueError, "replay_epochs is 0"),
        ({"activity_samples": 0}, ValueError, "activity_samples is 0"),
        ({"optimiser": "sdg"}, UnknownNameError, "Did you mean 'sgd'?"),
        ({"momentum": 0.5}, TypeError, "momentum"),
        ({"method": OTTT}, TypeError, "method is the class OTTT"),
        ({"tasks": (1, 2)}, TypeError, "tasks is (1, 2); pass a TaskSequence"),
        ({"network": 3}, TypeError, "network is 3"),
    ],
)
def test_refusals(make_network: Any, shared: TaskSequence, options: dict[str, Any], kind: type, message: str) -> None:
    given = {"network": make_network(), "method": OTTT(), "tasks": shared} | FAST | options
    with pytest.raises(kind, match=re.escape(message)):
        ContinualTrainer(**given)


def test_tasks_that_do_not_fit_are_refused_before_any_is_learnt(make_network: Any, own: TaskSequence) -> None:
    with pytest.raises(ValueError, match="12 features and 4 classes, the network has 12 inputs and 3 outputs"):
        ContinualTrainer(make_network(3), OTTT(), TaskSequence("x", (counted("a", [1, 1, 1, 1]),), "shared"), **FAST)
    bare = TaskSequence("bare", (own.tasks[0], counted("b", [1, 1])), "own")
    with pytest.raises(ValueError, match=r'b has no validation split, which keep="best" needs; load the data with'):
        ContinualTrainer(make_network(), OTTT(), bare, keep="best", **FAST)
    lone = TaskSequence("lone", (own.tasks[0], counted("b", [1, 1], train=17)), "own")
    with pytest.raises(ValueError, match="batch of one sample"):
        ContinualTrainer(make_network(norm="bn_step"), OTTT(), lone, **FAST)
    again = TaskSequence("again", (counted("a", [1, 1], train=15),) * 2, "shared")
    with pytest.raises(ValueError, match=r"batch of one sample \(4 in all\)"):
        ContinualTrainer(make_network(2, norm="bn_step"), OTTT(), again, replay=1, epochs=1, batch_size=3, progress=False)
    with pytest.raises(TypeError, match="heads of their own need a network with a readout"):
        ContinualTrainer(energy_net([12, 5, 2], steps=2), OTTT(), own, **FAST)


@pytest.mark.parametrize(
    ("increment", "message"),
    [(11, "11"), ([2, 2], "increment has 2 numbers"), (8, "first 2 of 3 tasks are all 12 directions")],
)
def test_rows_that_a_later_task_has_no_room_for_are_refused_before_any_is_learnt(
    make_network: Any, shared: TaskSequence, increment: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ContinualTrainer(make_network(), HLOP(first=4, increment=increment, readout=False), shared, **FAST)
    ContinualTrainer(make_network(), HLOP(first=4, increment=2, readout=False), shared, **FAST)


def test_several_processes_are_refused(make_network: Any, shared: TaskSequence, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="2 processes were started; sequences of tasks train in one process"):
        ContinualTrainer(make_network(), OTTT(), shared, **FAST)


@pytest.mark.parametrize("task, kind", [(3, ValueError), (-1, ValueError), (1.0, TypeError)])
def test_unknown_heads_are_refused(make_network: Any, shared: TaskSequence, task: Any, kind: type) -> None:
    trainer = ContinualTrainer(make_network(), OTTT(), shared, **FAST)
    with pytest.raises(kind, match="task is"):
        trainer.use_head(task)
