"""What the tests of the Trainer share: small runs, a method whose every value is known, and processes that get killed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from lava_snnlearn.methods import Preset, StepResult
from lava_snnlearn.networks import Network
from lava_snnlearn.training import History, Trainer

KILLED = Path(__file__).parent / "killed"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def runs() -> ModuleType:
    """The module that the killed processes run: make_trainer, make_network, make_data, CASES."""
    spec = importlib.util.spec_from_file_location("train_until_killed", KILLED / "train_until_killed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Scripted:
    """A method that learns nothing: at each batch it calls ``act(network, number)`` and reports ``losses[number]``.

    Outputs are those of a network that answers class 0; the spike rate is 0.25.
    """

    name = "scripted"
    optimiser_every = "batch"
    preset = Preset()

    def __init__(self, losses: Sequence[float] = (), act: Callable[[Network, int], None] | None = None) -> None:
        self.losses, self.act, self.calls = losses, act, 0

    def __repr__(self) -> str:
        return "Scripted()"

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        number = self.calls
        self.calls += 1
        if self.act is not None:
            self.act(network, number)
        outputs = torch.zeros(len(y), network.classes)
        outputs[:, 0] = 1
        return StepResult(float(self.losses[number % len(self.losses)]) if self.losses else 1.0, outputs, 0.25)


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


class Interruption(Exception):
    """Stands for a killed process."""


class _Interrupted:
    def __init__(self, method: Any, batches: int) -> None:
        self._method, self._left = method, batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def __repr__(self) -> str:
        return repr(self._method)

    def gradients(self, *args: Any, **options: Any) -> StepResult:
        self._left -= 1
        if self._left < 0:
            raise Interruption
        return self._method.gradients(*args, **options)


@pytest.fixture
def interrupt() -> Callable[[Trainer, int], None]:
    """Run fit() of a trainer, but break off after so many batches."""

    def run(trainer: Trainer, batches: int) -> None:
        trainer.method = _Interrupted(trainer.method, batches)
        with pytest.raises(Interruption):
            trainer.fit()

    return run


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a script of the folder killed/; all are ended with SIGKILL when the test is over."""
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(KILLED / script), *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def wait_for() -> Callable[[Path, subprocess.Popen[bytes]], None]:
    """Wait until a file is there; fail if the process ends before, or after two minutes."""

    def wait(path: Path, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + 120
        while not path.exists():
            assert process.poll() is None, f"the process ended with {process.returncode} before it wrote {path.name}"
            assert time.monotonic() < end, f"{path.name} was not written"
            time.sleep(0.01)

    return wait


@pytest.fixture
def rows() -> Callable[[History], list[tuple[float, ...]]]:
    """Metrics of a run without the seconds, which no two runs share."""

    def strip(history: History) -> list[tuple[float, ...]]:
        return [
            (row.epoch, row.train_loss, row.train_accuracy, row.valid_accuracy, row.spike_rate, row.learning_rate)
            for row in history.epochs
        ]

    return strip


@pytest.fixture
def assert_same_weights() -> Callable[[Network, Network], None]:
    def check(found: Network, expected: Network) -> None:
        ours, theirs = found.state_dict(), expected.state_dict()
        assert ours.keys() == theirs.keys()
        different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
        assert not different, f"not bit-equal: {different}"

    return check
