"""What a run on a sequence of tasks is made of: its settings, and tasks, network and method that follow from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lava_snnlearn import methods
from lava_snnlearn.checks import known_name, whole_number
from lava_snnlearn.data import EVENT_DATASETS, load
from lava_snnlearn.data.tasks import FIVE_DATASETS, TaskSequence, five_datasets, permuted, rotated, split
from lava_snnlearn.methods.hlop import HLOP, row_budget
from lava_snnlearn.methods.projection import fan_in, synapses_of
from lava_snnlearn.networks.network import Network
from lava_snnlearn.pipeline import Settings, build_network, completed, image_augmentation

PROTECTING = tuple(sorted(name for name, cls in methods.METHODS.items() if hasattr(cls, "begin_task")))
"""Methods that protect earlier tasks; they take a base method."""
BASE_PREFIX = "base."
"""Beginning of the options that go to the base method."""
SEQUENCES = {"five": 4, "permuted": 2, "rotated": 5, "split": 5}
"""Sequences of tasks, and how many tasks they have if nothing else is said."""
COMPARISONS = (*PROTECTING, "joint", "sequential")
"""What a run can be compared with: the other methods, all tasks at once, and no protection."""
DEFAULT_EPOCHS = {"digits": 6, "mnist": 1, "fashion": 1}
DEFAULT_BATCH_SIZE = {"digits": 32}
# Strongly correlated inputs need a slower Oja rule (published: 0.001 for 784 pixels).
_MANY_INPUTS, _SLOW_RATE, _RATE = 256, 0.001, 0.01


@dataclass(frozen=True)
class TaskSettings(Settings):
    """What to run; None takes the default of the method, the data set or the sequence.

    Beyond the settings of a run on one task:

    ``method`` "hlop" or "gpm" protects what was learnt around the method ``base`` (default "ottt"), whose options have keys
    that begin with "base.", e.g. {"base.update": "online"}; any other one is the sequential baseline. ``sequence`` is
    "permuted", "rotated", "split" (a head each) or "five" (several data sets, a head each; ``data`` is then its first one,
    "cifar10"), ``tasks`` the number of its tasks. ``epochs`` are those of each task. ``compare`` names what else is trained
    from the same weights: some of :data:`COMPARISONS`.

    Raises:
        UnknownNameError: an unknown sequence, base or comparison. ValueError: settings that do not go together.
    """

    method: str = "hlop"
    sequence: str = "permuted"
    tasks: int | None = None
    base: str | None = None
    compare: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        known_name("sequence", self.sequence, SEQUENCES)
        if self.tasks is not None and whole_number("tasks", self.tasks) < 2:
            raise ValueError(
                f"tasks is {self.tasks}; a sequence has at least 2. To learn one, run {self.base_name} without a sequence"
            )
        self._check_data()
        if methods.METHODS[self.method]().preset.energy:
            raise ValueError(
                f"{self.method} trains energy networks, which learn no sequences of tasks here; give another method, "
                "e.g. hlop, gpm or ottt"
            )
        if self.base is not None and self.method not in PROTECTING:
            raise ValueError(
                f"base is {self.base!r}, but {self.method} has no base method; leave it out, or run {' or '.join(PROTECTING)}"
            )
        if self.method in PROTECTING:
            known_name("base method", self.base_name, [name for name in methods.METHODS if name not in PROTECTING])
            if "base" in dict(self.options):
                raise ValueError("the base method is no option; name it by the setting base")
        self._check_comparisons()

    def _check_data(self) -> None:
        if self.data in EVENT_DATASETS:
            raise ValueError(
                f"data {self.data!r} are events; sequences of tasks are made of images: give digits, mnist or cifar10"
            )
        if self.augment is not None and self.sequence == "permuted":
            raise ValueError(f"augment {self.augment!r} moves pixels, which have no places in permuted images; leave it out")
        if self.sequence != "five":
            return
        if self.data != FIVE_DATASETS[0]:
            raise ValueError(
                f"data is {self.data!r}, but the sequence five has data sets of its own, {FIVE_DATASETS[0]} first; leave it out"
            )
        if self.encoding != "direct":
            raise ValueError(
                f"input {self.input!r} needs data of [0, 1]; the sequence five has standardised ones: give current or graded"
            )
        if self.tasks is not None and self.tasks > len(FIVE_DATASETS):
            raise ValueError(f"tasks is {self.tasks}; the sequence five has at most {len(FIVE_DATASETS)}")

    def _check_comparisons(self) -> None:
        own = self.method if self.method in PROTECTING else "sequential"
        for name in self.compare:
            known_name("comparison", name, COMPARISONS)
            if name == own:
                raise ValueError(f"compare names {name!r}, which is what is run; give others of {', '.join(COMPARISONS)}")

    @property
    def title(self) -> str:
        """Sequence and data, e.g. "permuted-digits"."""
        return self.sequence if self.sequence == "five" else f"{self.sequence}-{self.data}"

    @property
    def base_name(self) -> str:
        """The method that is protected, or, without protection, the method."""
        if self.method not in PROTECTING:
            return self.method
        return "ottt" if self.base is None else self.base

    def learner(self, **defaults: Any) -> methods.Method:
        """The method with its options; ``defaults`` are those that hold where nothing is said."""
        if self.method not in PROTECTING:
            return methods.get(self.method, **dict(self.options))
        own = {key: value for key, value in self.options if not key.startswith(BASE_PREFIX)}
        return methods.get(self.method, base=self.base_learner(), **defaults | own)

    def base_learner(self) -> methods.Method:
        """The base method with its options, or, without protection, the method."""
        if self.method not in PROTECTING:
            return self.learner()
        options = {key.removeprefix(BASE_PREFIX): value for key, value in self.options if key.startswith(BASE_PREFIX)}
        return methods.get(self.base_name, **options)

    def task_sequence(self) -> TaskSequence:
        """The tasks; no validation split is set aside, since each task ends with its last epoch."""
        tasks = SEQUENCES[self.sequence] if self.tasks is None else self.tasks
        if self.sequence == "five":
            names = FIVE_DATASETS if tasks == len(FIVE_DATASETS) else [name for name in FIVE_DATASETS if name != "svhn"][:tasks]
            return five_datasets(names, train_size=self.train_size)
        data = load(self.data, valid=0.0, scale="standard" if self.encoding == "direct" else "unit", train_size=self.train_size)
        if self.sequence == "permuted":
            return permuted(data, tasks, seed=self.seed)
        return rotated(data, tasks) if self.sequence == "rotated" else split(data, tasks)


@dataclass(frozen=True)
class Plan:
    """Completed settings and what they say: tasks, method, ``network`` (makes it anew, with the same initial weights) and the
    methods of the comparisons, by name."""

    settings: TaskSettings
    tasks: TaskSequence
    method: methods.Method
    network: Callable[[], Network]
    rivals: dict[str, methods.Method]

    @property
    def training(self) -> dict[str, Any]:
        """Options of the trainers, the same for all methods."""
        settings = self.settings
        return {
            "epochs": settings.epochs,
            "seed": settings.seed,
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "augment": image_augmentation(settings.augment, self.tasks.tasks[0]),
        }


def make_plan(settings: TaskSettings) -> Plan:
    """Fill in the defaults, and refuse what would fail in a later task.

    Raises:
        ValueError, UnknownNameError, TypeError: as methods, networks, tasks and data sets raise; more rows of HLOP than all
            tasks together have room for.
    """
    method, tasks = settings.learner(), settings.task_sequence()
    settings = dataclasses.replace(
        settings,
        tasks=len(tasks),
        base=settings.base_name if settings.method in PROTECTING else None,
        epochs=DEFAULT_EPOCHS.get(settings.data, 5) if settings.epochs is None else settings.epochs,
        batch_size=DEFAULT_BATCH_SIZE.get(settings.data, 64) if settings.batch_size is None else settings.batch_size,
    )
    settings = completed(settings, method, tasks.tasks[0])

    def fresh() -> Network:
        torch.manual_seed(settings.seed)
        network = build_network(settings, method, tasks.tasks[0])
        assert isinstance(network, Network)  # energy networks were refused
        return network

    network = fresh()
    if settings.method in PROTECTING:
        defaults = protection(settings.method, network, tasks)
        settings = dataclasses.replace(settings, options=tuple((defaults | dict(settings.options)).items()))
        method = settings.learner()
    rivals = {
        name: methods.get(name, base=settings.base_learner(), **protection(name, network, tasks))
        if name in PROTECTING
        else settings.base_learner()
        for name in settings.compare
    }
    for learner in (method, *rivals.values()):
        if isinstance(learner, HLOP):
            learner.check_tasks(network, len(tasks))
    return Plan(settings, tasks, method, fresh, rivals)


def protection(name: str, network: Network, tasks: TaskSequence) -> dict[str, Any]:
    """Defaults of a protecting method that depend on network and tasks.

    Raises:
        ValueError: a network whose gradients cannot be projected.
    """
    readout = tasks.heads == "shared"
    inputs = [fan_in(synapse) for synapse in synapses_of(network, readout).values()]
    if name != "hlop":
        return {"readout": readout}
    first, increment = row_budget(inputs, len(tasks))
    rate = [_SLOW_RATE if index == 0 and n >= _MANY_INPUTS else _RATE for index, n in enumerate(inputs)]
    return {"first": first, "increment": increment, "rate": rate, "readout": readout}
