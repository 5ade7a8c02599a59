"""What the tests of continual learning share: small sequences, and methods whose every act is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lava_snnlearn.data import Dataset, Split, TaskSequence, load, permuted, split
from lava_snnlearn.methods import OTTT, Preset, StepResult
from lava_snnlearn.networks import Network, mlp


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Noting:
    """OTTT that remembers: it draws before a task, counts batches in the network's memory, lets the memory act on the
    gradients, and keeps the mean of what it gets after a task."""

    base: Any = field(default_factory=OTTT)
    name = "noting"
    optimiser_every = "batch"
    preset = Preset()

    def begin_task(self, network: Network, task: int) -> None:
        network.memory[f"drawn{task}"] = torch.randn(3)
        network.memory["batches"] = torch.zeros(())

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        result: StepResult = self.base.gradients(network, x, y, on_step)
        network.memory["batches"] = network.memory["batches"] + 1
        scale = 1 + 0.1 * sum(float(value.mean()) for name, value in network.memory.items() if name.startswith("drawn"))
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.grad *= scale
        return result

    def end_task(self, network: Network, x: Tensor) -> None:
        tasks = sum(name.startswith("mean") for name in network.memory)
        network.memory[f"mean{tasks}"] = x.flatten(0, -2).mean(0)
        network.memory[f"drawn{tasks}"] = network.memory[f"drawn{tasks}"] + torch.rand(3)


@pytest.fixture
def noting() -> Noting:
    return Noting()


def small(classes: int = 4, valid: int = 8, steps: int | None = None) -> Dataset:
    """48 training and 24 test samples of 12 features around the centres of their classes."""
    draw = np.random.default_rng(1)
    centres = draw.normal(size=(classes, 12))

    def part(count: int) -> Split:
        y = np.arange(count) % classes
        x = (centres[y] + 0.7 * draw.normal(size=(count, 12))).astype(np.float32)
        return Split(x if steps is None else np.repeat(x[:, None], steps, 1), y)

    return Dataset("small", part(48), part(valid), part(24), classes)


@pytest.fixture
def shared() -> TaskSequence:
    return permuted(small(), 3, seed=2)


@pytest.fixture
def own() -> TaskSequence:
    return split(small(), 2)


@pytest.fixture
def sequences() -> TaskSequence:
    return permuted(small(steps=6), 2, seed=0)


@pytest.fixture
def make_network() -> Callable[..., Network]:
    """A network of fixed weights for the small sequences."""

    def make(classes: int = 4, norm: str = "none", seed: int = 0) -> Network:
        torch.manual_seed(seed)
        return mlp([12, 16, classes], norm=norm)

    return make


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits", valid=0.0)
