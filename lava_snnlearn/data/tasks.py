"""Sequences of tasks for continual learning: permuted, rotated and split data sets, and several data sets one after another.

Sources: I. J. Goodfellow et al., "An empirical investigation of catastrophic forgetting in gradient-based neural networks",
arXiv 1312.6211, 2013 (permuted); F. Zenke, B. Poole and S. Ganguli, "Continual learning through synaptic intelligence", ICML
2017 (split); D. Lopez-Paz and M. Ranzato, "Gradient episodic memory for continual learning", NeurIPS 2017 (rotated);
S. Ebrahimi et al., "Adversarial continual learning", ECCV 2020 (5-datasets).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import at_least, instance_of, known_name, real_number
from lava_snnlearn.data.dataset import Dataset, Split
from lava_snnlearn.data.loaders import load

HEADS = ("own", "shared")
FIVE_DATASETS = ("cifar10", "mnist", "svhn", "fashion", "notmnist")
"""The 5-datasets sequence, in its order."""
# Samples that are rotated at once: their float64 copies are small beside the data.
_BLOCK = 4096

Change = Callable[[Split], Split]


@dataclass(frozen=True)
class TaskSequence:
    """Tasks that a network learns one after another.

    Args:
        name: for reports.
        tasks: a data set each, held in memory as they are: a task of 60,000 + 10,000 images of 784 pixels takes 220 MB.
        heads: "shared" (one readout for all tasks, whose labels mean the same in each) or "own" (a readout for each task, which
            must be known when the network is asked).

    Raises:
        ValueError: no task; tasks whose features, steps, or, with a shared head, numbers of classes differ.
        UnknownNameError: unknown heads. TypeError: a task that is no Dataset.
    """

    name: str
    tasks: tuple[Dataset, ...]
    heads: str

    def __post_init__(self) -> None:
        known_name("heads", self.heads, HEADS)
        if len(self.tasks) == 0:
            raise ValueError(f"{self.name} has no tasks; give at least one data set")
        for index, task in enumerate(self.tasks):
            instance_of(f"{self.name}: tasks[{index}]", task, Dataset, 'pass a Dataset, e.g. snn.data.load("digits")')
            self._check_agreement(index, task)
        object.__setattr__(self, "tasks", tuple(self.tasks))

    def _check_agreement(self, index: int, task: Dataset) -> None:
        first = self.tasks[0]
        if (task.features, task.steps, task.train.x.dtype) != (first.features, first.steps, first.train.x.dtype):
            raise ValueError(
                f"{self.name}: tasks[{index}] has {_form(task)}, tasks[0] has {_form(first)}; one network takes inputs of one "
                "form: pad, crop or reframe the samples"
            )
        if self.heads == "shared" and task.classes != first.classes:
            raise ValueError(
                f"{self.name}: tasks[{index}] has {task.classes} classes, tasks[0] has {first.classes}; a shared head has one "
                'number of classes. Use heads="own"'
            )

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def first_classes(self) -> tuple[int, ...]:
        """The class of :meth:`joined` that is class 0 of each task: 0 for all that share a head."""
        if self.heads == "shared":
            return (0,) * len(self)
        return tuple(accumulate((task.classes for task in self.tasks[:-1]), initial=0))

    def joined(self) -> Dataset:
        """All tasks as one data set (copies), the classes of tasks with heads of their own side by side."""
        last = self.tasks[-1]
        return Dataset(
            f"{self.name}-joined",
            self._joined_split([task.train for task in self.tasks]),
            # An empty validation split may have any form, so it cannot be joined.
            self._joined_split([task.valid if len(task.valid) else task.train.take(np.arange(0)) for task in self.tasks]),
            self._joined_split([task.test for task in self.tasks]),
            self.first_classes[-1] + last.classes,
            shape=last.shape,
        )

    def _joined_split(self, parts: list[Split]) -> Split:
        labels = [part.y + first for part, first in zip(parts, self.first_classes, strict=True)]
        return Split(np.concatenate([part.x for part in parts]), np.concatenate(labels))


def permuted(data: Dataset, tasks: int = 10, seed: int = 0) -> TaskSequence:
    """The same classes under another order of the features in each task; task 0 is the data as they are. Shared head.

    Args:
        data: any data set; sequences have their features permuted alike in all steps.
        tasks: how many, at least 1.
        seed: of the permutations, at least 0. Each holds for all samples of a task, in training and in testing, and does not
            depend on the number of tasks.

    Raises:
        ValueError: a number out of range. TypeError: a number that is not whole, data of another type.
    """
    _check_data(data)
    seed = at_least(0, "seed", seed)
    made = []
    for index in range(at_least(1, "tasks", tasks)):
        if index == 0:
            made.append(replace(data, name=f"{data.name}-permuted0"))
            continue
        order = np.random.default_rng([seed, index]).permutation(data.features)
        made.append(_changed(data, f"{data.name}-permuted{index}", _reordering(order)))
    return TaskSequence(f"permuted-{data.name}", tuple(made), "shared")


def rotated(data: Dataset, angles: int | Sequence[float] = 5) -> TaskSequence:
    """The same images, turned by another angle in each task. Shared head.

    Args:
        data: static images, i.e. a data set with a ``shape``.
        angles: degrees, counter-clockwise, one a task; or a number of tasks n >= 1: task k is turned by k 180 / n degrees.
            Values between pixels are interpolated linearly; beyond the edges the pixels of the edge go on.

    Raises:
        ValueError: no angle, an angle that is not finite, data that are no static images. TypeError: an angle that is no
            number, data of another type.
    """
    _check_data(data)
    if data.sequence or data.shape is None:
        raise ValueError(f"{data.name} holds {_form(data)}; only static images with a shape=(channels, height, width) turn")
    if not isinstance(angles, Sequence):
        count = at_least(1, "angles", angles)
        angles = [180 * index / count for index in range(count)]
    if len(angles) == 0:
        raise ValueError("angles is empty; give the angle of each task in degrees")
    made = []
    for angle in angles:
        real_number("angle", angle)
        if not math.isfinite(angle):
            raise ValueError(f"angle is {angle}; it must be finite, in degrees")
        made.append(_changed(data, f"{data.name}-rotated{angle:g}", _turning(float(angle), data.shape)))
    return TaskSequence(f"rotated-{data.name}", tuple(made), "shared")


def split(data: Dataset, tasks: int = 5, heads: str = "own") -> TaskSequence:
    """The classes in equal groups, one a task: 10 classes in 5 tasks are 0 and 1, then 2 and 3, ...

    Args:
        data: e.g. ``load("mnist")``, ``load("cifar10")``; of "cifar100" usual are 10 tasks.
        tasks: a divisor of the number of classes.
        heads: "own": the labels of each task are 0 .. k - 1. "shared": they stay what they are.

    Raises:
        ValueError: no divisor, a task without samples. UnknownNameError: unknown heads. TypeError: a number that is not whole,
            data of another type.
    """
    _check_data(data)
    known_name("heads", heads, HEADS)
    size, rest = divmod(data.classes, at_least(1, "tasks", tasks))
    if rest:
        divisors = [n for n in range(1, data.classes + 1) if data.classes % n == 0]
        raise ValueError(f"tasks is {tasks}; {data.name} has {data.classes} classes, which divide evenly into {divisors} tasks")
    made = []
    for first in range(0, data.classes, size):
        end = first + size
        group = _changed(data, f"{data.name}-classes{first}to{end - 1}", _of_classes(first, end, heads == "own"))
        made.append(replace(group, classes=size) if heads == "own" else group)
    return TaskSequence(f"split-{data.name}", tuple(made), heads)


def five_datasets(
    names: Sequence[str] = ("cifar10", "mnist", "fashion", "notmnist"),
    *,
    valid: float = 0.0,
    train_size: int | None = None,
    seed: int = 0,
) -> TaskSequence:
    """The 5-datasets sequence, each with a head of its own, all as 3 x 32 x 32: smaller images are padded with their background
    and grey ones repeated in the three colours.

    By default these are four: SVHN is not among the files of a local folder. With a network connection (torchvision downloads
    it), ``five_datasets(FIVE_DATASETS)`` is the whole sequence. Of CIFAR-10 and notMNIST, the local folder holds 10,000 images
    each: results on these must be named so. The four take 1.8 GB of memory; train_size makes them smaller.

    Args:
        names: which, in order; at least one of :data:`FIVE_DATASETS`.
        valid, train_size, seed: of each, see :func:`~lava_snnlearn.data.loaders.load`.

    Raises:
        UnknownNameError: a name that is not of the sequence. ValueError: no name, a size out of range.
        RuntimeError: a data set that is neither at hand nor could be downloaded; says what to do.
    """
    if isinstance(names, str) or len(names) == 0:
        raise ValueError(f"names is {names!r}; give one or more of {', '.join(FIVE_DATASETS)} as a list")
    for name in names:
        known_name("data set of the sequence", name, FIVE_DATASETS)
    sets = tuple(_in_colour(load(name, valid=valid, train_size=train_size, seed=seed)) for name in names)
    return TaskSequence(f"{len(sets)}-datasets", sets, "own")


def _check_data(data: Dataset) -> None:
    instance_of("data", data, Dataset, 'pass a Dataset, e.g. snn.data.load("digits")')


def _form(data: Dataset) -> str:
    steps = "" if data.steps is None else f"{data.steps} steps of "
    return f"{steps}{data.features} features ({data.train.x.dtype})"


def _changed(data: Dataset, name: str, change: Change) -> Dataset:
    return replace(data, name=name, train=change(data.train), valid=change(data.valid), test=change(data.test))


def _reordering(order: NDArray[np.int64]) -> Change:
    def reorder(part: Split) -> Split:
        if len(part) == 0:  # an empty validation split may have any form
            return part
        x: Any = np.take(part.x, order, axis=-1)
        return Split(x, part.y)

    return reorder


def _turning(angle: float, shape: tuple[int, int, int]) -> Change:
    from scipy.ndimage import rotate

    def turn(part: Split) -> Split:
        turned = np.empty(part.x.shape, np.float32)
        for at in range(0, len(part), _BLOCK):
            images = part.x[at : at + _BLOCK].reshape(-1, *shape)
            found = rotate(images, angle, axes=(2, 3), reshape=False, order=1, mode="nearest")
            turned[at : at + _BLOCK] = found.reshape(len(images), -1)
        return Split(turned, part.y)

    return turn


def _of_classes(first: int, end: int, renumber: bool) -> Change:
    def choose(part: Split) -> Split:
        chosen = part.take(np.flatnonzero((part.y >= first) & (part.y < end)))
        return Split(chosen.x, chosen.y - first) if renumber else chosen

    return choose


def _in_colour(data: Dataset) -> Dataset:
    """The images as 3 x 32 x 32."""
    shape = data.shape
    if shape is None or shape == (3, 32, 32):
        return data
    channels, height, width = shape
    top, left = (32 - height) // 2, (32 - width) // 2
    edges = ((0, 0), (0, 0), (top, 32 - height - top), (left, 32 - width - left))
    # The smallest value of a set that was scaled as a whole is that of a black pixel.
    black = float(data.train.x.min())

    def colour(part: Split) -> Split:
        padded = np.pad(part.x.reshape(len(part), *shape), edges, constant_values=black)
        return Split(np.repeat(padded, 3 // channels, axis=1).reshape(len(part), 3 * 32 * 32), part.y)

    return Dataset(data.name, colour(data.train), colour(data.valid), colour(data.test), data.classes, shape=(3, 32, 32))
