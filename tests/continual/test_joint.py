"""Joint training: one Trainer on all samples; a wide readout that answers each task among its own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lava_snnlearn.continual import ContinualTrainer, train_jointly
from lava_snnlearn.data import Dataset, TaskSequence, permuted
from lava_snnlearn.methods import OTTT
from lava_snnlearn.training import Trainer, accuracy

FAST: dict[str, Any] = {"epochs": 2, "batch_size": 16, "progress": False}


def test_a_shared_head_is_a_plain_trainer_on_the_joined_data(make_network: Any, shared: TaskSequence) -> None:
    network, twin = make_network(), make_network()
    found = train_jointly(network, OTTT(), shared, seed=3, **FAST)
    Trainer(twin, OTTT(), shared.joined(), seed=3, **FAST).fit()
    for name, value in network.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name])
    assert found.tolist() == [accuracy(twin, task.test) for task in shared.tasks]


def test_own_heads_lie_side_by_side(make_network: Any, own: TaskSequence) -> None:
    network = make_network(classes=7)
    found = train_jointly(network, OTTT(), own, **FAST)
    assert network.classes == 4
    for index, task in enumerate(own.tasks):
        answers = network.answer(torch.from_numpy(task.test.x)).numpy()[:, 2 * index : 2 * index + 2]
        assert found[index] == np.mean(answers.argmax(1) == task.test.y), "among the task's own classes"
    whole = accuracy(network, own.joined().test)
    assert found.mean() >= whole, "who need not tell the tasks apart makes no more errors"


@pytest.mark.parametrize("heads", ["shared", "own"])
def test_a_joint_run_resumes(make_network: Any, shared: TaskSequence, own: TaskSequence, tmp_path: Path, heads: str) -> None:
    tasks = shared if heads == "shared" else own
    found = train_jointly(make_network(), OTTT(), tasks, run_dir=tmp_path, resume=True, **FAST)
    with pytest.raises(FileExistsError, match=r"resume\(\)"):
        train_jointly(make_network(), OTTT(), tasks, run_dir=tmp_path, **FAST)
    again = train_jointly(make_network(seed=9), OTTT(), tasks, run_dir=tmp_path, resume=True, **FAST)
    assert again.tolist() == found.tolist()


def test_refusals(make_network: Any, shared: TaskSequence, own: TaskSequence) -> None:
    with pytest.raises(TypeError, match="tasks is 3; pass a TaskSequence"):
        train_jointly(make_network(), OTTT(), 3, **FAST)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed is -1"):
        train_jointly(make_network(), OTTT(), own, seed=-1, **FAST)
    with pytest.raises(ValueError, match="the network has 12 inputs and 5 outputs"):
        train_jointly(make_network(5), OTTT(), shared, **FAST)


@pytest.mark.learning
def test_one_after_another_forgets_what_together_keeps(digits: Dataset) -> None:
    """Two tasks of permuted digits (specification 2.7, H7): the baseline's BWT is below -0.2; joint training learns both."""
    from lava_snnlearn.networks import mlp

    tasks = permuted(digits, 2, seed=0)
    options: dict[str, Any] = {"epochs": 10, "batch_size": 32, "schedule": "constant", "progress": False}
    torch.manual_seed(0)
    results = ContinualTrainer(mlp([64, 128, 128, 10], norm="none"), OTTT(), tasks, **options).fit()
    assert min(results.new_task) > 0.93
    assert results.bwt < -0.2
    torch.manual_seed(0)
    assert train_jointly(mlp([64, 128, 128, 10], norm="none"), OTTT(), tasks, **options).min() > 0.93
