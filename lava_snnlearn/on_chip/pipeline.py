"""Learning on the chip as one function: train in the simulation, emulate, verify inference and learning on Lava, report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import at_least, known_name
from lava_snnlearn.citations import citation
from lava_snnlearn.data import DATASETS, EVENT_DATASETS, Dataset, load
from lava_snnlearn.files import write_text
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.table import advice, connection_rows, population_rows
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.on_chip.spide import OnChipSettings, OnChipState, infer, to_fixed_network, train_sample
from lava_snnlearn.on_chip.trainer import OnChipTrainer
from lava_snnlearn.pipeline import FEEDBACK_LAYERS, PICTURED, ROWS, Layers, Stages, counts, verified
from lava_snnlearn.training import History
from lava_snnlearn.verification import Report, verify

if TYPE_CHECKING:
    from lava_snnlearn.lava_backend.spide import LearningReport
    from lava_snnlearn.report import Figures

DEFAULT_EPOCHS = {"digits": 10}
OPTIONS = tuple(
    field.name for field in dataclasses.fields(OnChipSettings) if field.name not in ("sizes", "steps", "seed", "masks")
)
"""Options of OnChipSettings that ``options`` can set; the others have settings of their own, or are no plain values."""


@dataclass(frozen=True)
class Settings:
    """What to run; None takes the default of the data set or of OnChipSettings.

    ``layers`` are sizes of dense hidden layers, the last of which feeds back to the first. ``steps`` is T_F,
    ``learning_rate`` eta. ``options`` go to OnChipSettings, e.g. {"error": "mse"}; with "gain_bits" among them the gain is not
    chosen automatically. ``replay_samples``: training samples of the beginning that Lava learns again.
    """

    data: str = "digits"
    options: tuple[tuple[str, Any], ...] = ()
    layers: Layers | None = None
    epochs: int | None = None
    steps: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    train_size: int | None = None
    verify_samples: int = 32
    replay_samples: int = 10

    def __post_init__(self) -> None:
        if known_name("data set", self.data, [*DATASETS, *EVENT_DATASETS]) in EVENT_DATASETS:
            raise ValueError(
                f"data {self.data!r} are events; learning on the chip is shown static images: give digits or mnist"
            )
        if isinstance(self.layers, str):
            raise ValueError(f"layers {self.layers!r}: what learns on the chip has dense layers; give sizes, e.g. 100")
        for key, _ in self.options:
            known_name("option of spide on chip", key, OPTIONS)
        if self.learning_rate is not None and "eta" in dict(self.options):
            raise ValueError("learning_rate and the option eta are the same; give one of them")
        for name in ("verify_samples", "replay_samples"):
            at_least(1, name, getattr(self, name))

    def completed(self) -> Settings:
        """With the defaults of the data set filled in, so that a report shows what was run."""
        changes: dict[str, Any] = {}
        if self.layers is None:
            changes["layers"] = FEEDBACK_LAYERS.get(self.data, ROWS)
        if self.epochs is None:
            changes["epochs"] = DEFAULT_EPOCHS.get(self.data, 2)
        return dataclasses.replace(self, **changes)

    def network(self, data: Dataset) -> OnChipSettings:
        """The network that learns."""
        options = dict(self.options)
        if self.steps is not None:
            options["steps"] = self.steps
        if self.learning_rate is not None:
            options["eta"] = self.learning_rate
        assert isinstance(self.layers, tuple)  # completed, and text was refused
        return OnChipSettings(sizes=(data.features, *self.layers, data.classes), seed=self.seed, **options)


@dataclass(frozen=True)
class Summary:
    """What a run gave. ``accuracy``: on the test set. ``disagreements``: test samples that simulator and emulator answer
    differently. ``verification``: of inference, ``replay``: of learning on Lava."""

    folder: Path
    history: History
    network: FixedNetwork
    accuracy: float
    disagreements: int
    verification: Report
    replay: LearningReport
    seconds: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether everything compared was equal."""
        return self.verification.ok and self.replay.ok and not self.disagreements

    def rows(self) -> list[list[str]]:
        """The accuracy on the test set, as text cells."""
        return [["learnt on the chip (integers)", f"{self.accuracy:.4f}"]]


def run(
    settings: Settings, folder: Path, *, resume: bool = False, overwrite: bool = False, tell: Callable[[str], None] = print
) -> Summary:
    """Learn, emulate, verify inference and learning, and report into ``folder``.

    Args:
        settings: what to run.
        folder: gets config.json, metrics.csv, checkpoint.h5, weights.h5 (an OnChipState), network.h5, summary.json, report.html
            and PNGs.
        resume: continue an earlier run in this folder; overwrite: start anew there.
        tell: called with a line of text at each stage.

    Raises:
        FileExistsError, OSError, ValueError, LavaRunError: as in OnChipTrainer, verify and verify_learning.
    """
    stages = Stages(tell)
    settings = settings.completed()
    data = load(settings.data, scale="unit", train_size=settings.train_size)
    assert settings.epochs is not None  # completed
    trainer = OnChipTrainer(
        settings.network(data),
        data,
        epochs=settings.epochs,
        auto_gain="gain_bits" not in dict(settings.options),
        run_dir=folder,
    )
    stages.done("load", f"SPIDE on chip, {'-'.join(map(str, trainer.settings.sizes))}\n{counts(data)}")
    history = trainer.resume() if resume else trainer.fit(overwrite=overwrite)
    simulated = infer(trainer.state, data.test.x).predictions
    accuracy = float((simulated == data.test.y).mean())
    stages.done("train", f"learnt {settings.epochs} epochs on the chip: test accuracy {accuracy:.4f} (integers)")
    chip = to_fixed_network(trainer.state)
    chip.save(folder / "network.h5")
    answer = emulate(chip, data.test.x, record="outputs")
    disagreements = int((answer.predictions != simulated).sum())
    clipped = sum(answer.saturated.values())
    stages.done(
        "emulate",
        f"emulated: {disagreements} of {len(simulated)} test samples answered otherwise than by the simulator, "
        f"{clipped} membranes clipped",
    )
    proof = verify(chip, data.test.x[: settings.verify_samples])
    stages.done("verify", str(proof))
    replay = _replay(trainer, settings.replay_samples)
    stages.done("replay", str(replay))
    summary = Summary(folder, history, chip, accuracy, disagreements, proof, replay, stages.seconds)
    _write(settings, trainer, summary, answer)
    stages.done("report", f"report: {folder / 'report.html'}")
    return summary


def backward_spikes(state: OnChipState, x: NDArray[Any], label: int) -> tuple[NDArray[np.int8], ...]:
    """The ternary spikes of one sample's backward phase: int8 [T_B, n_l] of -1, 0, 1 for each hidden layer.

    Args:
        state: the network. x: data [features]. label: its class.
    """
    # A phase of t steps is the beginning of one of t + 1, so spikes are the differences of the sums.
    sums = []
    for steps in range(1, state.settings.backward_steps + 1):
        shorter = dataclasses.replace(state.settings, backward_steps=steps, eta=0.0)
        _, record = train_sample(dataclasses.replace(state, settings=shorter, eta=0.0), x, label)
        sums.append(record.backward)
    return tuple(
        np.diff(np.stack(layer), axis=0, prepend=np.zeros((1, layer[0].size), np.int32)).astype(np.int8)
        for layer in zip(*sums, strict=True)
    )


def _replay(trainer: OnChipTrainer, samples: int) -> LearningReport:
    """Lava learns the run's first samples again."""
    from lava_snnlearn.lava_backend.spide import verify_learning

    # Later ones have met the host.
    first = trainer.data.train.take(trainer.order(0)[: min(samples, trainer.host_samples)])
    return verify_learning(trainer.beginning(), first.x, first.y)


def _write(settings: Settings, trainer: OnChipTrainer, summary: Summary, answer: Trace) -> None:
    from lava_snnlearn.report import activity, verdict, write_report

    proof, replay, data, state = summary.verification, summary.replay, trainer.data, trainer.state
    trace = emulate(summary.network, data.test.x[:PICTURED])
    last = summary.history.epochs[-1]
    results = {
        "fixed_accuracy": summary.accuracy,
        "disagreements": summary.disagreements,
        "saturated": dict(answer.saturated),
        "spike_rates": trace.spike_rates(),
        "best_epoch": summary.history.best_epoch,
        "gain": 2.0**state.settings.gain_bits,
        "diagnostics": last.diagnostics,
        **verified(proof),
        "replayed": replay.ok,
        "replayed_samples": replay.samples,
        "replayed_values": dict(replay.compared),
        "replay_mismatches": dict(replay.mismatches),
        "seconds": summary.seconds,
    }
    shown = {"method": "spide", "on_chip": True} | dataclasses.asdict(settings) | {"options": dict(settings.options)}
    content = {"settings": shown, "network": trainer.config(), "results": results}
    write_text(summary.folder / "summary.json", json.dumps(content, indent=2) + "\n")
    total = sum(replay.compared.values())
    learnt = f"Learning replayed on Lava: {replay.samples} samples, {total} counts, masks, sums and weights, "
    agreed = "" if not summary.disagreements else f" {summary.disagreements} test samples answered otherwise by the emulator."
    write_report(
        summary.folder,
        title=f"SPIDE on chip, {data.name}",
        verdict=f"{verdict(proof)} {learnt}{'0 mismatches.' if replay.ok else 'NOT equal, see below.'}{agreed}",
        ok=summary.ok,
        tables={
            "Result": [
                ["", "test accuracy"],
                *summary.rows(),
                *activity(trace, answer),
                ["gain of the injected gradient", f"{results['gain']:g}"],
                *([name, f"{value:.4g}"] for name, value in last.diagnostics.items() if name != "gain"),
            ],
            "Replay of learning": [
                ["compared after each sample", "values", "mismatches"],
                *([name, str(count), str(replay.mismatches[name])] for name, count in replay.compared.items()),
            ],
            "Populations": population_rows(summary.network),
            "Connections": connection_rows(summary.network),
        },
        figures=_figures(trainer, summary, answer, trace),
        text={
            "Replay": str(replay),
            "Verification": str(proof),
            "Resources": "\n".join([*advice(summary.network), *summary.network.notes]),
            "Settings": "\n".join(f"{key} = {value}" for key, value in (shown | trainer.config()).items()),
            "Please cite": citation("spide"),
        },
    )


def _figures(trainer: OnChipTrainer, summary: Summary, answer: Trace, trace: Trace) -> Figures:
    from lava_snnlearn.report import inference_figures, ternary_raster, training_figures, weight_pictures

    settings, before = trainer.settings, trainer.beginning()
    index = int(trainer.order(0)[0])
    sample, label = trainer.data.train.x[index], int(trainer.data.train.y[index])
    names = [f"backward {layer}" for layer in range(1, settings.layers + 1)]
    starts = {name: settings.error_step + settings.layers - layer for layer, name in enumerate(names)}
    spikes = dict(zip(names, backward_spikes(before, sample, label), strict=True))
    return (
        training_figures(summary.history.epochs)
        | inference_figures(summary.network, trainer.data, answer, trace)
        | {
            "Backward spikes": (
                ternary_raster(spikes, starts),
                "All ternary spikes of the first training sample, before anything was learnt; their sums are the error signal.",
            ),
            "Weights": (
                weight_pictures(before.weights(), trainer.state.weights()),
                "F: input (last column: bias), W: layer to layer, R: feedback, C: readout; as spikes see them, in real units.",
            ),
        }
    )
