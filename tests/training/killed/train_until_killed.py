"""Small training runs, made the same way in every process; as a script, one that waits to be killed.

Usage: python train_until_killed.py CASE FOLDER CALL. Trains in FOLDER. At the CALL-th piece of work (a batch, or a time step
where the optimiser steps at each) it writes FOLDER/ready and stands still, in the middle of everything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lava_snnlearn.data import Dataset, Split
from lava_snnlearn.methods import BPTT, OPZO, OTTT, SLTT, StepResult
from lava_snnlearn.networks import Network, mlp
from lava_snnlearn.training import Trainer

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "bptt": (BPTT(), {}),
    "bptt-adam": (BPTT(), {"optimiser": "adam", "learning_rate": 0.01, "weight_decay": 0.001}),
    "opzo": (OPZO(antithetic=False, local_learning=True, intermediate=(1,)), {}),
    "ottt": (OTTT(), {}),
    "ottt-online": (OTTT(update="online"), {"learning_rate": 0.01}),
    "ottt-online-adam": (OTTT(update="online"), {"optimiser": "adam", "learning_rate": 0.01}),
    "sltt": (SLTT(), {}),
    "sltt-k": (SLTT(k=2), {"schedule": "constant"}),
}
FEATURES, CLASSES, STEPS = 6, 3, 4


def make_data(train: int = 40, valid: int = 24, *, name: str = "clouds", seed: int = 5) -> Dataset:
    """Three clouds that overlap, so that accuracies are not all 1."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((CLASSES, FEATURES))

    def split(samples: int) -> Split:
        y = np.arange(samples) % CLASSES
        x = centres[y] + generator.standard_normal((samples, FEATURES))
        return Split(x.astype(np.float32), y.astype(np.int64))

    return Dataset(name, split(train), split(valid), split(12), classes=CLASSES)


def make_network(norm: str = "none", dropout: float = 0.3, hidden: tuple[int, ...] = (12, 12), seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return mlp([FEATURES, *hidden, CLASSES], norm=norm, steps=STEPS, dropout=dropout)


def make_trainer(case: str, folder: Path | None = None, *, dropout: float = 0.3, **changes: Any) -> Trainer:
    """40 samples in batches of 16: three batches an epoch, the last one smaller."""
    method, options = CASES[case]
    settings = {"epochs": 3, "seed": 1, "batch_size": 16, "checkpoint_batches": 1, "progress": False} | options | changes
    network = make_network(method.preset.norm, dropout)
    return Trainer(network, method, make_data(), run_dir=folder, **settings)


class Standstill:
    """The method, but it stands still at a given piece of work."""

    def __init__(self, method: Any, call: int, ready: Path) -> None:
        self._method, self._left, self._ready = method, call, ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def __repr__(self) -> str:
        return repr(self._method)

    def _work(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._ready.touch()
            time.sleep(600)

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Callable[[], None] | None = None) -> StepResult:
        if on_step is None:
            self._work()
            return self._method.gradients(network, x, y)

        def step() -> None:
            on_step()
            self._work()

        return self._method.gradients(network, x, y, step)


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen, place, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    trainer = make_trainer(chosen, place)
    trainer.method = Standstill(trainer.method, number, place / "ready")
    trainer.fit()
