"""Joint training: all tasks at once, the bound that continual learning is measured against."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lava_snnlearn.checks import at_least
from lava_snnlearn.continual.heads import check_sequence, fresh_readout
from lava_snnlearn.continual.trainer import seeds_of
from lava_snnlearn.data.tasks import TaskSequence
from lava_snnlearn.methods.base import Method
from lava_snnlearn.networks.classifier import Classifier
from lava_snnlearn.training import Trainer, accuracy


def train_jointly(
    network: Classifier,
    method: Method,
    tasks: TaskSequence,
    *,
    epochs: int = 10,
    seed: int = 0,
    run_dir: str | PathLike[str] | None = None,
    resume: bool = False,
    **options: Any,
) -> NDArray[np.float64]:
    """Train a network on the joined samples of all tasks with one Trainer; the test accuracy on each task.

    Tasks with heads of their own share one wide readout, which replaces the network's: the classes of all tasks side by side,
    trained by one loss over all of them. A test sample of a task is answered among that task's classes.

    Args:
        network: trained in place.
        method: its functions ``begin_task`` and ``end_task`` are not called; of a method that has them, pass its base.
        tasks: what to learn.
        epochs: over the joined samples.
        seed: of everything that is drawn, at least 0 (the body's initial weights are the caller's).
        run_dir: folder of the Trainer's files; None writes nothing.
        resume: continue what run_dir holds (or start, if it holds nothing).
        options: of the :class:`~lava_snnlearn.training.Trainer`.

    Returns:
        float64 [K], fractions of 1. Their mean compares with :attr:`~lava_snnlearn.continual.results.Results.acc`.

    Raises:
        ValueError, TypeError, FileExistsError, ...: as the Trainer's own and those of its fit() and resume().
    """
    check_sequence(tasks)
    joined = tasks.joined()
    if tasks.heads == "own":
        network.readout = fresh_readout(network, joined.classes, seeds_of(at_least(0, "seed", seed), 0).head)
    trainer = Trainer(network, method, joined, epochs=epochs, seed=seed, run_dir=run_dir, **options)
    if resume:
        trainer.resume()
    else:
        trainer.fit()
    if tasks.heads == "shared":
        return np.array([accuracy(network, task.test) for task in tasks.tasks])
    wide = network.readout
    try:
        return np.array([_own_accuracy(network, wide, tasks, index) for index in range(len(tasks))])
    finally:
        network.readout = wide


@torch.no_grad()
def _own_accuracy(network: Any, wide: Any, tasks: TaskSequence, index: int) -> float:
    """Accuracy on a task with the rows of the wide readout that are this task's."""
    task, first = tasks.tasks[index], tasks.first_classes[index]
    head = fresh_readout(network, task.classes, 0)
    for name, parameter in head.named_parameters():
        parameter.copy_(wide.get_parameter(name)[first : first + task.classes])
    network.readout = head
    return accuracy(network, task.test)
