"""How well each task is done after each task: the accuracy matrix, its averages, and their files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checkpoints import CHECKPOINT, METRICS, WEIGHTS
from lava_snnlearn.files import write_text

MATRIX, SUMMARY = "matrix.csv", "results.json"


@dataclass(frozen=True, eq=False)
class Results:
    """The test accuracies of K tasks that were learnt one after another.

    Source of the averages: D. Lopez-Paz and M. Ranzato, "Gradient episodic memory for continual learning", NeurIPS 2017.

    Args:
        names: of the tasks, K of them.
        accuracies: float64 [K, K]; ``accuracies[i, j]`` is the accuracy on task j after task i, fractions of 1. NaN above the
            diagonal, which is not measured.
        seconds: K wall times, of each task's training alone.

    Raises:
        ValueError: shapes that do not fit, a value on or below the diagonal outside [0, 1], one above it that is not NaN.
    """

    names: tuple[str, ...]
    accuracies: NDArray[np.float64]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        if count == 0 or self.accuracies.shape != (count, count) or len(self.seconds) != count:
            raise ValueError(
                f"{count} names, accuracies of shape {self.accuracies.shape} and {len(self.seconds)} times; need at least one "
                "task, and K names, [K, K] accuracies and K times"
            )
        measured = self.accuracies[np.tril_indices(count)]
        if not ((measured >= 0) & (measured <= 1)).all() or not np.isnan(self.accuracies[np.triu_indices(count, 1)]).all():
            raise ValueError("accuracies[i, j] must lie in [0, 1] for j <= i and be NaN for j > i")

    @classmethod
    def of_rows(cls, names: Sequence[str], rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> Results:
        """Results from rows of 1, 2, ... K accuracies, those of the tasks known after each task."""
        accuracies = np.full((len(rows), len(rows)), np.nan)
        for index, row in enumerate(rows):
            accuracies[index, : len(row)] = row
        return cls(tuple(names), accuracies, tuple(seconds))

    @property
    def acc(self) -> float:
        """ACC, the mean accuracy on all tasks after the last."""
        return float(self.accuracies[-1].mean())

    @property
    def bwt(self) -> float:
        """BWT, backward transfer: mean over all tasks but the last of what their accuracy gained since they were learnt,
        ``accuracies[-1, j] - accuracies[j, j]``. Negative where they are forgotten; NaN with one task."""
        if len(self.names) == 1:
            return math.nan
        return float((self.accuracies[-1] - self.new_task)[:-1].mean())

    @property
    def new_task(self) -> NDArray[np.float64]:
        """Accuracy on each task just after it was learnt, float64 [K]: how well the network still learns."""
        return np.diagonal(self.accuracies).copy()

    def save(self, folder: Path) -> None:
        """Write matrix.csv (a row after each task, tasks not yet learnt empty) and results.json."""
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["after", *self.names])
        learnt = [row[: index + 1].tolist() for index, row in enumerate(self.accuracies)]
        for name, row in zip(self.names, learnt, strict=True):
            writer.writerow([name, *row, *[""] * (len(self.names) - len(row))])
        write_text(folder / MATRIX, table.getvalue())
        summary = {
            "ACC": self.acc,
            "BWT": None if math.isnan(self.bwt) else self.bwt,
            "tasks": list(self.names),
            "new_task": self.new_task.tolist(),
            "accuracies": learnt,
            "seconds": list(self.seconds),
        }
        write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")


def clear_tasks(folder: Path) -> None:
    """Delete results and files of tasks that an earlier run left in a run folder: they would be taken for the next one's."""
    for file in (MATRIX, SUMMARY, *(f"task_*/{name}" for name in (CHECKPOINT, METRICS, WEIGHTS))):
        for leftover in folder.glob(file):
            leftover.unlink(missing_ok=True)
