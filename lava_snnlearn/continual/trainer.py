"""ContinualTrainer: task after task with one network, resumable, and the accuracy on all tasks seen so far after each."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lava_snnlearn import checkpoints, distributed
from lava_snnlearn.checkpoints import CHECKPOINT, RunFolder
from lava_snnlearn.checks import at_least, known_name
from lava_snnlearn.continual.heads import check_sequence, fresh_readout
from lava_snnlearn.continual.results import Results, clear_tasks
from lava_snnlearn.data.batches import inputs
from lava_snnlearn.data.dataset import Dataset, Split, digest
from lava_snnlearn.data.tasks import TaskSequence
from lava_snnlearn.files import FileFormatError, write_tree
from lava_snnlearn.methods.base import Method
from lava_snnlearn.networks.classifier import Classifier
from lava_snnlearn.training import Trainer, accuracy

KEEP = ("last", "best")


class Seeds(NamedTuple):
    """What is drawn for a task, each from a seed of its own."""

    head: int
    begin: int
    training: int
    replay: int
    end: int
    sample: int


def seeds_of(seed: int, task: int) -> Seeds:
    """The seeds of a task; they depend on ``seed`` and the task's number alone, so a resumed run draws the same."""
    return Seeds(*map(int, np.random.SeedSequence([seed, task]).generate_state(len(Seeds._fields))))


class ContinualTrainer:
    """Trains a network on one task after another, each with a Trainer of its own: fresh optimiser, fresh momentum.

    Before a task it calls ``method.begin_task(network, task)`` (task from 0), after it ``method.end_task(network, x)`` with
    inputs x of the task (float [N, n], or sequences [T, N, n]), where the method has these functions. A method without them is
    the sequential baseline. What a method remembers is in ``network.memory``, which goes from task to task.

    Where tasks have heads of their own, each gets a readout like the network's, with the task's classes and new weights; the
    network's own is not used. ``heads`` holds them, and the network holds that of the last task (:meth:`use_head` changes it).

    Same seed, same data, same number of threads: same bits, also when the run was killed and resumed at any point. The files of
    run_dir: checkpoint.h5 (network, memory and heads after the last task that was finished), matrix.csv and results.json (after
    each task), and a folder ``task_00``, ``task_01``, ... with each Trainer's files.

    Args:
        network: trained in place.
        method: any :class:`~lava_snnlearn.methods.base.Method`.
        tasks: what to learn, e.g. :func:`~lava_snnlearn.data.tasks.permuted`.
        epochs: for each task.
        seed: of everything that is drawn, at least 0 (the body's initial weights are the caller's).
        keep: "last": each task ends with the weights of its last epoch, and validation splits are not used. "best": with those
            of the epoch best on the task's validation split; the method's memory is that of the last epoch all the same.
        replay: samples per class of each task that are kept and trained again after each later task, before ``end_task``, by
            the same method; 0: none.
        replay_epochs: how often. Samples of tasks with a shared head are mixed; heads of their own take turns, an epoch each.
        activity_samples: N of ``end_task``, drawn from the task's training samples (all, where there are fewer).
        run_dir: folder for the files above; None writes nothing.
        options: of each :class:`~lava_snnlearn.training.Trainer`: batch_size, learning_rate, optimiser, weight_decay, schedule,
            augment, checkpoint_batches, progress, device. Optimisers that rescale gradients (Adam) or shrink weights spoil
            methods that project gradients.

    Raises:
        ValueError, UnknownNameError, TypeError: a number out of range; tasks, network and method that do not fit; as the
            Trainer's own. ValueError: several processes, or keep="best" with a task that has no validation split.
    """

    def __init__(
        self,
        network: Classifier,
        method: Method,
        tasks: TaskSequence,
        *,
        epochs: int = 10,
        seed: int = 0,
        keep: str = "last",
        replay: int = 0,
        replay_epochs: int = 5,
        activity_samples: int = 300,
        run_dir: str | PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        check_sequence(tasks)
        if distributed.launched() > 1:
            raise ValueError(f"{distributed.launched()} processes were started; sequences of tasks train in one process")
        self.network, self.method, self.tasks, self.epochs, self.options = network, method, tasks, epochs, options
        self.seed, self.keep = at_least(0, "seed", seed), known_name("keep", keep, KEEP)
        self.replay, self.replay_epochs = at_least(0, "replay", replay), at_least(1, "replay_epochs", replay_epochs)
        self.activity_samples = at_least(1, "activity_samples", activity_samples)
        self.run_dir = None if run_dir is None else Path(run_dir)
        self._folder = RunFolder(self.run_dir)
        self.heads = [
            fresh_readout(network, task.classes, seeds_of(self.seed, index).head)
            for index, task in enumerate(tasks.tasks)
            if tasks.heads == "own"
        ]
        # Everything is refused here that one of the Trainers would refuse after hours.
        for index, task in enumerate(tasks.tasks):
            if keep == "best" and len(task.valid) == 0:
                raise ValueError(f'{task.name} has no validation split, which keep="best" needs; load the data with valid=0.1')
            self.use_head(index)
            self._device = self._trainer(self._lesson(task), epochs, 0).device
            for head, data, again in self._turns(index):
                self.use_head(head)
                self._trainer(data, again, 0)
        if (check := getattr(method, "check_tasks", None)) is not None:
            check(network, len(tasks))

    def fit(self, *, overwrite: bool = False) -> Results:
        """Learn all tasks from the network's present weights.

        Args:
            overwrite: start anew although run_dir holds a checkpoint.

        Raises:
            FileExistsError: run_dir holds a checkpoint of an earlier run. OSError: run_dir cannot be written.
            FloatingPointError: the loss became NaN or infinite.
        """
        self._folder.has_earlier(overwrite)
        self._place()
        # The checkpoint goes first: without it, what remains of an earlier run is never taken for this one's.
        self._folder.begin(self.config())
        if self.run_dir is not None:
            clear_tasks(self.run_dir)
        self._save([], [])
        return self._run([], [])

    def resume(self) -> Results:
        """Continue the run in run_dir from where it was killed, within a task or between two (or start it, if there is no
        checkpoint yet); ends with the same bits as an uninterrupted run.

        Raises:
            ValueError: no run_dir, or other settings than those of the checkpoint. FileFormatError: a damaged checkpoint.
            OSError, FloatingPointError: as in :meth:`fit`.
        """
        if self.run_dir is None:
            raise ValueError("resume() needs a run_dir")
        if not self._folder.has_checkpoint():
            return self.fit()
        where = str(self.run_dir / CHECKPOINT)
        self._place()
        tree = self._folder.read_checkpoint(self.config())
        rows, seconds = self._restore(tree, where)
        self._folder.claim(self.config())
        return self._run(rows, seconds)

    def use_head(self, task: int) -> None:
        """Let the network answer for this task: it gets the task's readout, where tasks have their own.

        Raises:
            ValueError: no such task. TypeError: the number is not whole.
        """
        if not at_least(0, "task", task) < len(self.tasks):
            raise ValueError(f"task is {task}; {self.tasks.name} has tasks 0..{len(self.tasks) - 1}")
        if self.heads:
            self.network.readout = self.heads[task]

    def config(self) -> dict[str, Any]:
        """Settings that decide the result, as plain values; a resumed run must have the same."""
        return self._settings

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return self._trainer(self.tasks.tasks[0], self.epochs, 0).config() | {
            "data": self.tasks.name,
            "data_sha256": [digest(task) for task in self.tasks.tasks],
            "heads": self.tasks.heads,
            "seed": self.seed,
            "keep": self.keep,
            "replay": self.replay,
            "replay_epochs": self.replay_epochs,
            "activity_samples": self.activity_samples,
        }

    def _place(self) -> None:
        """Put the network and all heads, the first in use, on the device, and read the settings while nothing has changed."""
        self.use_head(0)
        for module in (self.network, *self.heads):
            module.to(self._device)
        self.config()

    def _run(self, rows: list[list[float]], seconds: list[float]) -> Results:
        for task in range(len(rows), len(self.tasks)):
            seconds.append(self._learn(task))
            rows.append([self._accuracy(earlier) for earlier in range(task + 1)])
            self.use_head(task)
            self._save(rows, seconds)
        return self._results(rows, seconds)

    def _results(self, rows: list[list[float]], seconds: list[float]) -> Results:
        return Results.of_rows([task.name for task in self.tasks.tasks[: len(rows)]], rows, seconds)

    def _learn(self, task: int) -> float:
        """Train one task, with what the method and the replay do about it; seconds of its training."""
        seeds, data = seeds_of(self.seed, task), self.tasks.tasks[task]
        self.use_head(task)
        folder = None if self.run_dir is None else self.run_dir / f"task_{task:02d}"
        trainer = self._trainer(self._lesson(data), self.epochs, seeds.training, folder)
        self._tell("begin_task", seeds.begin, task)
        history = trainer.fit() if folder is None else trainer.resume()
        self._rehearse(task, seeds.replay)
        x = data.train.x[_drawn(np.arange(len(data.train)), self.activity_samples, seeds.sample)]
        like = self.network.like
        self._tell("end_task", seeds.end, inputs(x, like.device, like.dtype))
        return sum(row.seconds for row in history.epochs)

    def _tell(self, hook: str, seed: int, what: Any) -> None:
        """Call a function of the method, where it has it; what it draws comes from a seed, so a resumed run draws it again."""
        act = getattr(self.method, hook, None)
        if act is not None:
            checkpoints.seed_generators(seed)
            act(self.network, what)

    def _lesson(self, data: Dataset) -> Dataset:
        """What the Trainer gets: no validation split unless the best epoch is wanted."""
        if self.keep == "best" or len(data.valid) == 0:
            return data
        return dataclasses.replace(data, valid=_none_of(data.train))

    def _trainer(self, data: Dataset, epochs: int, seed: int, folder: Path | None = None) -> Trainer:
        return Trainer(self.network, self.method, data, epochs=epochs, seed=seed, run_dir=folder, **self.options)

    def _turns(self, task: int) -> list[tuple[int, Dataset, int]]:
        """What is trained again after a task: head, stored samples, epochs."""
        if not (self.replay and task):
            return []
        kept = [self._stored(earlier) for earlier in range(task + 1)]
        if self.heads:
            return [(earlier, data, 1) for _ in range(self.replay_epochs) for earlier, data in enumerate(kept)]
        return [(task, TaskSequence("replay", tuple(kept), "shared").joined(), self.replay_epochs)]

    def _rehearse(self, task: int, seed: int) -> None:
        """Train on stored samples. It is short, has no files, and a run that was killed here does it again."""
        for number, (head, data, epochs) in enumerate(self._turns(task)):
            self.use_head(head)
            self._trainer(data, epochs, seed + number).fit()
        self.use_head(task)

    def _stored(self, task: int) -> Dataset:
        """The samples kept of a task: ``replay`` of each class, or all where there are fewer."""
        data, seed = self.tasks.tasks[task], seeds_of(self.seed, task).sample
        of_classes = [np.flatnonzero(data.train.y == label) for label in range(data.classes)]
        kept = data.train.take(np.concatenate([_drawn(indices, self.replay, seed) for indices in of_classes]))
        # Trainers do not touch the test split; a data set must have one.
        return dataclasses.replace(data, train=kept, valid=_none_of(kept), test=kept)

    def _accuracy(self, task: int) -> float:
        self.use_head(task)
        return accuracy(self.network, self.tasks.tasks[task].test)

    def _save(self, rows: list[list[float]], seconds: list[float]) -> None:
        if self.run_dir is None:
            return
        if rows:
            self._results(rows, seconds).save(self.run_dir)
        tree = {
            "config": self.config(),
            "accuracies": rows,
            "seconds": seconds,
            "network": checkpoints.to_tree(self.network.state_dict()),
            "memory": checkpoints.to_tree(self.network.memory),
            "heads": [checkpoints.to_tree(head.state_dict()) for head in self.heads],
        }
        write_tree(self.run_dir / CHECKPOINT, tree, content="checkpoint")

    def _restore(self, tree: dict[str, Any], where: str) -> tuple[list[list[float]], list[float]]:
        """Put network, memory and heads back to a checkpoint; returns the accuracies and times so far."""
        try:
            rows, seconds = tree["accuracies"], tree["seconds"]
            self.use_head(max(0, len(rows) - 1))
            checkpoints.load_weights(self.network, tree["network"], where)
            for head, weights in zip(self.heads, tree["heads"], strict=True):
                checkpoints.load_weights(head, weights, where)
            memory = checkpoints.to_tensors(tree["memory"])
            self.network.memory = {name: value.to(self._device) for name, value in memory.items()}
        except FileFormatError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{where} is not a valid checkpoint of a sequence of tasks: {error}") from error
        return rows, seconds


def _none_of(split: Split) -> Split:
    return split.take(np.arange(0))


def _drawn(indices: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` of the indices, in their order; all where there are fewer."""
    if len(indices) <= count:
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, count, replace=False))
