"""A small run of a graph reasoner that waits to be killed.

Usage: python reason_until_killed.py FOLDER CALL. Trains in FOLDER. At the CALL-th batch, after its gradients and before the
update, it writes FOLDER/ready and stands still.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lava_snnlearn.data.knowledge_graph import KnowledgeGraph
from lava_snnlearn.methods import GRSNN, StepResult
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.reasoning import ReasoningTrainer


def make_data(seed: int = 4) -> KnowledgeGraph:
    """A ring of 12 with steps of one and two, some of the latter held back."""
    ring = np.arange(12)
    steps = np.stack([ring, np.zeros_like(ring), (ring + 1) % 12], 1)
    leaps = np.random.default_rng(seed).permutation(np.stack([ring, np.ones_like(ring), (ring + 2) % 12], 1))
    known = np.concatenate([steps, leaps[:8]])
    return KnowledgeGraph("ring", tuple("abcdefghijkl"), ("next", "after next"), known, known, leaps[8:10], leaps[10:])


def make_trainer(folder: Path | None = None, method: GRSNN | None = None, seed: int = 0, **changes: Any) -> ReasoningTrainer:
    """20 triples in updates of 2 x 4: three updates an epoch, the last one a single batch."""
    torch.manual_seed(seed)
    model = GraphReasoner(4, width=6, steps=6)
    settings = {"epochs": 3, "seed": 1, "batch_size": 4, "accumulate": 2, "checkpoint_batches": 1, "progress": False} | changes
    return ReasoningTrainer(
        model, GRSNN(3) if method is None else method, settings.pop("data", make_data()), run_dir=folder, **settings
    )


@dataclass(frozen=True)
class Stopping(GRSNN):
    """GRSNN that calls ``stop`` after so many batches; by its repr it is GRSNN."""

    left: int = field(default=0, repr=False)
    stop: Any = field(default=None, repr=False)
    calls: list[int] = field(default_factory=list, repr=False)

    def __repr__(self) -> str:
        return repr(GRSNN(self.negatives, self.adversarial_temperature, self.remove))

    def gradients(self, *arguments: Any, **options: Any) -> StepResult:
        result = super().gradients(*arguments, **options)
        self.calls.append(1)
        if len(self.calls) == self.left:
            self.stop()
        return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = Path(sys.argv[1])

    def stand_still() -> None:
        (here / "ready").touch()
        time.sleep(600)

    make_trainer(here, Stopping(3, left=int(sys.argv[2]), stop=stand_still)).fit()
