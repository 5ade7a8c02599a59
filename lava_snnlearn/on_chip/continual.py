"""OnChipTaskTrainer: a network on the chip learns task after task, with HLOP's subspaces or, for comparison, without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lava_snnlearn.checkpoints import CHECKPOINT, WEIGHTS, EpochMetrics, RunFolder
from lava_snnlearn.checks import at_least, instance_of
from lava_snnlearn.continual.heads import check_sequence
from lava_snnlearn.continual.results import Results, clear_tasks
from lava_snnlearn.data.dataset import Dataset, digest
from lava_snnlearn.data.tasks import TaskSequence
from lava_snnlearn.files import FileFormatError, write_tree
from lava_snnlearn.methods.hlop import row_budget
from lava_snnlearn.on_chip.local import LocalSettings, LocalState, begin_task, infer, initial
from lava_snnlearn.on_chip.local.settings import check_settings
from lava_snnlearn.on_chip.trainer import OnChipTrainer
from lava_snnlearn.training import History

Rows = Sequence[int | Sequence[int]]


def default_rows(settings: LocalSettings, tasks: int) -> tuple[tuple[int, ...], ...]:
    """Rows of the subspaces, by task and connection: up to a quarter of a connection's inputs for the first task, up to a fifth
    for each later one, fewer where 85 % of the inputs would not suffice for all tasks.

    Args:
        settings: the network. tasks: how many, at least 1.
    """
    at_least(1, "tasks", tasks)
    inputs = [part.n_in for part in settings.synapses]
    budget, later = row_budget(inputs, tasks)
    first = [max(1, min(n // 4, rows)) for n, rows in zip(inputs, budget, strict=True)]
    return (tuple(first), *[tuple(later)] * (tasks - 1))


class OnChipTaskTrainer:
    """Trains a network on one task after another, each with an :class:`~lava_snnlearn.on_chip.trainer.OnChipTrainer`.

    A task ends with the weights of its last epoch; validation splits are not used. Same settings, same data: same bits, also
    when the run was killed and resumed at any point.

    Args:
        settings: the network. HLOP protects weights with memory "shadow" best: rounding 8 bits at random moves weights in all
            directions, protected ones too.
        tasks: what to learn, with a shared head.
        rows: HLOP: new rows of the subspaces for each task, one number for all connections or one each; see
            :func:`default_rows`. None: no subspaces, the sequential baseline.
        epochs, host_samples, progress: of each OnChipTrainer.
        run_dir: folder for config.json, checkpoint.h5 (after each task), matrix.csv and results.json, weights.h5 (the
            LocalState at the end) and a folder ``task_00``, ... with the files of each OnChipTrainer; None writes nothing.

    Attributes:
        state: the network.
        starts: the networks at the start of the tasks begun so far.
        history: metrics of all epochs so far, numbered through.

    Raises:
        ValueError, LimitError, TypeError: tasks with heads of their own, rows that do not fit; as the OnChipTrainer's own.
    """

    state: LocalState
    starts: list[LocalState]
    _accuracies: list[list[float]]
    _epochs: list[EpochMetrics]

    def __init__(
        self,
        settings: LocalSettings,
        tasks: TaskSequence,
        *,
        rows: Rows | None = None,
        epochs: int = 10,
        host_samples: int = 2000,
        run_dir: str | PathLike[str] | None = None,
        progress: bool = True,
    ) -> None:
        check_settings(settings)
        check_sequence(tasks)
        if tasks.heads != "shared":
            raise ValueError(f"tasks of {tasks.name!r} have heads of their own; a chip has one readout: take a shared head")
        self.settings, self.tasks, self.epochs = settings, tasks, epochs
        self.rows = None if rows is None else _checked_rows(rows, len(tasks))
        self.host_samples, self.show_progress = host_samples, progress
        self.run_dir = None if run_dir is None else Path(run_dir)
        self._folder = RunFolder(self.run_dir)
        self._restart()
        # Everything is refused here that would be refused between two tasks.
        state = self.state
        for task in range(len(tasks)):
            state = self._begun(state, task)
            self._lesson(task, state, None)

    def fit(self, *, overwrite: bool = False) -> Results:
        """Learn all tasks from the initial weights.

        Args:
            overwrite: start anew although run_dir holds a checkpoint.

        Raises:
            FileExistsError: run_dir holds a checkpoint of an earlier run. OSError: run_dir cannot be written.
        """
        self._folder.has_earlier(overwrite)
        self._folder.begin(self.config())
        if self.run_dir is not None:
            clear_tasks(self.run_dir)
        self._restart()
        self._save()
        return self._run()

    def resume(self) -> Results:
        """Continue the run in run_dir from where it was killed (or start it, if there is no checkpoint yet); ends with the same
        bits as an uninterrupted run.

        Raises:
            ValueError: no run_dir, or other settings than those of the checkpoint. FileFormatError: a damaged checkpoint.
            OSError: as in :meth:`fit`.
        """
        if self.run_dir is None:
            raise ValueError("resume() needs a run_dir")
        if not self._folder.has_checkpoint():
            return self.fit()
        tree, where = self._folder.read_checkpoint(self.config()), str(self.run_dir / CHECKPOINT)
        try:
            self._accuracies = [list(row) for row in tree["accuracies"]]
            self.starts = [LocalState.from_dict(start) for start in tree["starts"]]
            self._epochs = [EpochMetrics(**row) for row in tree["epochs"]]
            self.state = LocalState.from_dict(tree["chip"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{where} is not a valid checkpoint of a sequence of tasks: {error}") from error
        self._folder.claim(self.config())
        return self._run()

    def config(self) -> dict[str, Any]:
        """Settings that decide the result, as plain values; a resumed run must have the same."""
        return self._settings

    @cached_property
    def _settings(self) -> dict[str, Any]:
        first = self._lesson(0, self._begun(initial(self.settings), 0), None)
        return first.config() | {
            "start_sha256": None,
            "data": self.tasks.name,
            "data_sha256": [digest(task) for task in self.tasks.tasks],
            "rows": self.rows,
        }

    @property
    def lessons(self) -> tuple[OnChipTrainer, ...]:
        """A fresh trainer for each task begun so far, which knows its beginning and the order of its samples."""
        return tuple(self._lesson(task, start, None) for task, start in enumerate(self.starts))

    @property
    def history(self) -> History:
        """Metrics of all epochs so far, numbered through."""
        rows = tuple(replace(row, epoch=number) for number, row in enumerate(self._epochs, start=1))
        return History(rows, None)

    def _restart(self) -> None:
        self.state = initial(self.settings)
        self.starts = []
        self._accuracies = []
        self._epochs = []

    def _begun(self, state: LocalState, task: int) -> LocalState:
        return state if self.rows is None else begin_task(state, self.rows[task])

    def _lesson(self, task: int, start: LocalState, run_dir: Path | None) -> OnChipTrainer:
        data = self.tasks.tasks[task]
        return OnChipTrainer(
            self.settings,
            replace(data, valid=data.train.take(np.arange(0))),
            epochs=self.epochs,
            start=start,
            host_samples=self.host_samples,
            run_dir=run_dir,
            progress=self.show_progress,
        )

    def _run(self) -> Results:
        for task in range(len(self._accuracies), len(self.tasks)):
            self.starts.append(self._begun(self.state, task))
            folder = None if self.run_dir is None else self.run_dir / f"task_{task:02d}"
            lesson = self._lesson(task, self.starts[-1], folder)
            learnt = lesson.fit() if folder is None else lesson.resume()
            assert isinstance(lesson.state, LocalState)
            self.state = lesson.state
            self._epochs += learnt.epochs
            self._accuracies.append([self._accuracy(known) for known in self.tasks.tasks[: task + 1]])
            self._save()
        if self.run_dir is not None:
            self.state.save(self.run_dir / WEIGHTS)
        return self._results()

    def _accuracy(self, task: Dataset) -> float:
        return float((infer(self.state, task.test.x).predictions == task.test.y).mean())

    def _results(self) -> Results:
        done = len(self._accuracies)
        seconds = [sum(row.seconds for row in self._epochs[at * self.epochs : (at + 1) * self.epochs]) for at in range(done)]
        return Results.of_rows([task.name for task in self.tasks.tasks[:done]], self._accuracies, seconds)

    def _save(self) -> None:
        if self.run_dir is None:
            return
        if self._accuracies:
            self._results().save(self.run_dir)
        tree = {
            "config": self.config(),
            "accuracies": self._accuracies,
            "starts": [start.to_dict() for start in self.starts],
            "epochs": [asdict(row) for row in self._epochs],
            "chip": self.state.to_dict(),
        }
        write_tree(self.run_dir / CHECKPOINT, tree, content="checkpoint")


def _checked_rows(rows: Any, tasks: int) -> list[int | list[int]]:
    remedy = "give a list with an entry a task, a number or a list of one a connection, e.g. [[16, 32], [13, 25]]"
    instance_of("rows", rows, (list, tuple), remedy)
    if len(rows) != tasks:
        raise ValueError(f"rows has {len(rows)} entries for {tasks} tasks; {remedy}")
    return [
        [at_least(0, "rows", more) for more in entry] if isinstance(entry, (list, tuple)) else at_least(0, "rows", entry)
        for entry in rows
    ]
