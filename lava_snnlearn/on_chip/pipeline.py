"""Learning on the chip as one function: train in the simulation, emulate, verify inference and learning on Lava, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lava_snnlearn.checks import at_least, known_name
from lava_snnlearn.continual.results import Results
from lava_snnlearn.data import DATASETS, EVENT_DATASETS, Dataset, load
from lava_snnlearn.data.tasks import permuted
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.on_chip import learners
from lava_snnlearn.on_chip.continual import OnChipTaskTrainer, default_rows
from lava_snnlearn.on_chip.local import LocalSettings
from lava_snnlearn.on_chip.spide import OnChipSettings
from lava_snnlearn.on_chip.trainer import OnChipTrainer
from lava_snnlearn.pipeline import FEEDBACK_LAYERS, ROWS, Layers, Stages, counts
from lava_snnlearn.training import History
from lava_snnlearn.verification import Report, verify

if TYPE_CHECKING:
    from lava_snnlearn.lava_backend.learning_report import LearningReport

LOCAL_LAYERS: dict[str, Layers] = {"digits": (128,)}
DEFAULT_EPOCHS = {"digits": 10}
TASKS = 2
"""Tasks of HLOP, if nothing else is said."""


_NOISE = ("noise_bits", "noise_position", "antithetic", "momentum", "baseline")
_SUBSPACES = ("subspace_eta", "subspace_average")


class Rule(NamedTuple):
    """A method that learns on the chip: the class of its settings, those of them that it needs, the defaults that it has of its
    own, and settings without effect on it."""

    settings: type[OnChipSettings] | type[LocalSettings]
    needs: Mapping[str, Any] = {}
    defaults: Mapping[str, Any] = {}
    unused: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """Settings that ``options`` can set, and their defaults; the others have settings of their own, or are no plain
        values."""
        taken = {"sizes", "steps", "seed", "masks", *self.needs, *self.unused}
        plain = {field.name: field.default for field in dataclasses.fields(self.settings) if field.name not in taken}
        return plain | dict(self.defaults)


RULES: dict[str, Rule] = {
    "dfa": Rule(LocalSettings, needs={"feedback": "fixed"}, unused=_NOISE + _SUBSPACES),
    # Weights of 8 bits move by their rounding in all directions, protected ones too.
    "hlop": Rule(LocalSettings, defaults={"memory": "shadow", "rows": None}),
    "opzo": Rule(LocalSettings, needs={"feedback": "learned"}, unused=_SUBSPACES),
    "ottt": Rule(LocalSettings, needs={"feedback": "transport"}, unused=_NOISE + _SUBSPACES),
    "spide": Rule(OnChipSettings),
}
"""The methods that learn on the chip."""


@dataclass(frozen=True)
class Settings:
    """What to run; None takes the default of the method or the data set.

    ``method`` is one of :data:`RULES`. ``layers`` are sizes of dense hidden layers (of SPIDE, the last one feeds back to the
    first). ``steps`` is T (T_F), ``learning_rate`` eta. ``options`` go to OnChipSettings or LocalSettings, e.g. {"error":
    "mse"}; of SPIDE, with "gain_bits" among them the gain is not chosen automatically; of HLOP, "rows" are those of
    OnChipTaskTrainer. ``tasks``: more than one is continual learning of so many permutations of the features (HLOP: 2, all
    others 1; OTTT, DFA and OPZO are then the sequential baseline). ``replay_samples``: training samples of the beginning, of
    each task, that Lava learns again.
    """

    data: str = "digits"
    method: str = "spide"
    options: tuple[tuple[str, Any], ...] = ()
    layers: Layers | None = None
    tasks: int | None = None
    epochs: int | None = None
    steps: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    train_size: int | None = None
    verify_samples: int = 32
    replay_samples: int = 10

    def __post_init__(self) -> None:
        known_name("method on chip", self.method, RULES)
        if known_name("data set", self.data, [*DATASETS, *EVENT_DATASETS]) in EVENT_DATASETS:
            raise ValueError(
                f"data {self.data!r} are events; learning on the chip is shown static images: give digits or mnist"
            )
        if isinstance(self.layers, str):
            raise ValueError(f"layers {self.layers!r}: what learns on the chip has dense layers; give sizes, e.g. 100")
        for key, _ in self.options:
            known_name(f"option of {self.method} on chip", key, self.rule.options)
        if self.learning_rate is not None and "eta" in dict(self.options):
            raise ValueError("learning_rate and the option eta are the same; give one of them")
        for name in ("verify_samples", "replay_samples"):
            at_least(1, name, getattr(self, name))
        tasks = at_least(1, "tasks", TASKS if self.tasks is None else self.tasks)
        if self.method == "hlop" and tasks == 1:
            raise ValueError("tasks is 1; hlop protects what earlier tasks taught: give at least 2, or the method ottt")
        if self.method == "spide" and self.tasks is not None and tasks > 1:
            raise ValueError(f"tasks is {tasks}; spide on chip learns one task, ottt, dfa, opzo and hlop learn several")

    @property
    def rule(self) -> Rule:
        """The method."""
        return RULES[self.method]

    def completed(self) -> Settings:
        """With the defaults of method and data set filled in, so that a report shows what was run."""
        changes: dict[str, Any] = {}
        if self.layers is None:
            known = FEEDBACK_LAYERS if self.method == "spide" else LOCAL_LAYERS
            changes["layers"] = known.get(self.data, ROWS)
        if self.epochs is None:
            changes["epochs"] = DEFAULT_EPOCHS.get(self.data, 2)
        if self.tasks is None:
            changes["tasks"] = TASKS if self.method == "hlop" else 1
        return dataclasses.replace(self, **changes)

    def network(self, data: Dataset) -> learners.Settings:
        """The network that learns."""
        options = dict(self.rule.needs) | dict(self.rule.defaults) | dict(self.options)
        options.pop("rows", None)
        if self.steps is not None:
            options["steps"] = self.steps
        if self.learning_rate is not None:
            options["eta"] = self.learning_rate
        assert isinstance(self.layers, tuple)  # completed, and text was refused
        return self.rule.settings(sizes=(data.features, *self.layers, data.classes), seed=self.seed, **options)

    def trainer(self, data: Dataset, folder: Path) -> OnChipTrainer | OnChipTaskTrainer:
        """What trains the network; of completed settings."""
        network = self.network(data)
        assert self.epochs is not None
        assert self.tasks is not None
        if self.tasks == 1:
            auto_gain = "gain_bits" not in dict(self.options)
            return OnChipTrainer(network, data, epochs=self.epochs, auto_gain=auto_gain, run_dir=folder)
        assert isinstance(network, LocalSettings)  # SPIDE was refused
        rows = None
        if self.method == "hlop":
            rows = dict(self.options).get("rows")
            rows = default_rows(network, self.tasks) if rows is None else rows
        tasks = permuted(data, self.tasks, seed=self.seed)
        return OnChipTaskTrainer(network, tasks, rows=rows, epochs=self.epochs, run_dir=folder)


@dataclass(frozen=True)
class Summary:
    """What a run gave.

    Attributes:
        folder, history, network: where its files are, its epochs, and what was learnt.
        accuracy: on the test set, of several tasks on those of all.
        tasks: of several tasks, how well each is done after each.
        disagreements: test samples that simulator and emulator answer differently.
        verification: of inference. replays: of learning on Lava, one a task.
        seconds: of each stage.
    """

    folder: Path
    history: History
    network: FixedNetwork
    accuracy: float
    tasks: Results | None
    disagreements: int
    verification: Report
    replays: tuple[LearningReport, ...]
    seconds: dict[str, float]

    @property
    def replayed(self) -> bool:
        """Whether Lava learnt the same."""
        return all(replay.ok for replay in self.replays)

    @property
    def ok(self) -> bool:
        """Whether everything compared was equal."""
        return self.verification.ok and self.replayed and not self.disagreements

    @cached_property
    def compared(self) -> dict[str, tuple[int, int]]:
        """(values compared, mismatches) of all replays, by quantity."""
        names = self.replays[0].compared
        return {
            name: (sum(r.compared[name] for r in self.replays), sum(r.mismatches[name] for r in self.replays)) for name in names
        }

    def rows(self) -> list[list[str]]:
        """The accuracy on the test set, as text cells."""
        if self.tasks is None:
            return [["learnt on the chip (integers)", f"{self.accuracy:.4f}"]]
        return [
            ["learnt on the chip (integers), mean of the tasks", f"{self.tasks.acc:.4f}"],
            ["what earlier tasks gained since (BWT)", f"{self.tasks.bwt:+.4f}"],
        ]


def run(
    settings: Settings, folder: Path, *, resume: bool = False, overwrite: bool = False, tell: Callable[[str], None] = print
) -> Summary:
    """Learn, emulate, verify inference and learning, and report into ``folder``.

    Args:
        settings: what to run.
        folder: gets config.json, metrics.csv (of several tasks: a folder of each, matrix.csv, results.json), checkpoint.h5,
            weights.h5 (an OnChipState or LocalState), network.h5, summary.json, report.html and PNGs.
        resume: continue an earlier run in this folder; overwrite: start anew there.
        tell: called with a line of text at each stage.

    Raises:
        FileExistsError, OSError, ValueError, LavaRunError: as in OnChipTrainer, verify and verify_learning.
    """
    from lava_snnlearn.on_chip.report import write

    stages = Stages(tell)
    settings = settings.completed()
    data = load(settings.data, scale="unit", train_size=settings.train_size)
    trainer = settings.trainer(data, folder)
    sizes = "-".join(map(str, trainer.settings.sizes))
    stages.done("load", f"{settings.method.upper()} on chip, {sizes}{_of_tasks(settings)}\n{counts(data)}")
    learnt = trainer.resume() if resume else trainer.fit(overwrite=overwrite)
    lessons: tuple[OnChipTrainer, ...]
    if isinstance(trainer, OnChipTaskTrainer):
        # The network is asked for all tasks.
        data, lessons, history = trainer.tasks.joined(), trainer.lessons, trainer.history
    else:
        lessons, history = (trainer,), trainer.history
    learner = learners.learner_of(trainer.settings)
    simulated = learner.infer(trainer.state, data.test.x).predictions
    accuracy = float((simulated == data.test.y).mean())
    told = f"learnt {settings.epochs} epochs{_of_tasks(settings)} on the chip: test accuracy {accuracy:.4f} (integers)"
    stages.done("train", told)
    chip = learner.to_fixed_network(trainer.state)
    chip.save(folder / "network.h5")
    answer = emulate(chip, data.test.x, record="outputs")
    disagreements = int((answer.predictions != simulated).sum())
    clipped = sum(answer.saturated.values())
    stages.done(
        "emulate",
        f"emulated: {disagreements} of {len(simulated)} test samples answered otherwise than by the simulator, "
        f"{clipped} membranes clipped",
    )
    proof = verify(chip, data.test.x[np.linspace(0, len(data.test), settings.verify_samples, endpoint=False, dtype=int)])
    stages.done("verify", str(proof))
    replays = tuple(_replay(lesson, settings.replay_samples) for lesson in lessons)
    stages.done("replay", "\n".join(map(str, replays)))
    tasks = learnt if isinstance(learnt, Results) else None
    summary = Summary(folder, history, chip, accuracy, tasks, disagreements, proof, replays, stages.seconds)
    write(settings, summary, data, lessons, trainer.state, trainer.config(), answer)
    stages.done("report", f"report: {folder / 'report.html'}")
    return summary


def _of_tasks(settings: Settings) -> str:
    return f", each of {settings.tasks} tasks" if settings.tasks != 1 else ""


def _replay(lesson: OnChipTrainer, samples: int) -> LearningReport:
    """Lava learns the first samples of a training again."""
    # Later ones have met the host.
    first = lesson.data.train.take(lesson.order(0)[: min(samples, lesson.host_samples)])
    report: LearningReport = lesson.learner.verify_learning(lesson.beginning(), first.x, first.y)
    return report
