"""A run on a sequence of tasks as one function: learn task after task, quantize, emulate all test sets, verify, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lava_snnlearn.checkpoints import CHECKPOINT
from lava_snnlearn.continual.joint import train_jointly
from lava_snnlearn.continual.results import Results
from lava_snnlearn.continual.settings import Plan, TaskSettings, make_plan
from lava_snnlearn.continual.trainer import ContinualTrainer
from lava_snnlearn.data.dataset import Split
from lava_snnlearn.data.tasks import TaskSequence
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.quantize import quantize
from lava_snnlearn.methods.base import Method
from lava_snnlearn.pipeline import CALIBRATION, Stages, time_first
from lava_snnlearn.training import predictions
from lava_snnlearn.verification import Report, verify

NETWORK = "network.h5"


@dataclass(frozen=True)
class Comparison:
    """What another way of learning the same tasks gave: accuracy on each at the end, float64 [K], and, where it learnt them one
    after another, the accuracies on the way."""

    accuracies: NDArray[np.float64]
    results: Results | None

    @property
    def acc(self) -> float:
        """Mean of the accuracies."""
        return float(self.accuracies.mean())


@dataclass(frozen=True)
class Answers:
    """What the chip says.

    Attributes:
        accuracies: on each task's test set.
        labels, predictions: of all these samples, int64 [N]; of tasks with heads of their own, their classes side by side.
        agreement: share that torch answers alike.
        saturated: membranes clipped, by population.
    """

    accuracies: tuple[float, ...]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    agreement: float
    saturated: Mapping[str, int]


@dataclass(frozen=True)
class Summary:
    """What a run gave.

    Attributes:
        folder, results: where its files are, and the float accuracies.
        chips: the network that runs; of tasks with heads of their own, one for each.
        answers: of these in fixed point.
        comparisons: what was trained beside, by name.
        verification: of all ``chips``.
        seconds: of each stage.
    """

    folder: Path
    results: Results
    chips: tuple[FixedNetwork, ...]
    answers: Answers
    comparisons: Mapping[str, Comparison]
    verification: Report
    seconds: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether everything compared was equal."""
        return self.verification.ok

    def rows(self) -> list[list[str]]:
        """Means over the tasks' test sets, as text cells."""
        rows = [
            ["float (torch), mean of the tasks (ACC)", f"{self.results.acc:.4f}"],
            ["what earlier tasks gained since (BWT)", f"{self.results.bwt:+.4f}"],
            ["fixed point (emulator), mean of the tasks", f"{np.mean(self.answers.accuracies):.4f}"],
            ["same prediction in both", f"{self.answers.agreement:.4f}"],
        ]
        for name, one in self.comparisons.items():
            transfer = "" if one.results is None else f", BWT {one.results.bwt:+.4f}"
            rows.append([f"compared: {name} (float)", f"{one.acc:.4f}{transfer}"])
        return rows


def run(
    settings: TaskSettings, folder: Path, *, resume: bool = False, overwrite: bool = False, tell: Callable[[str], None] = print
) -> Summary:
    """Learn the tasks one after another, quantize what came out, emulate it on every task's test set, verify and report.

    Tasks with a shared head give one network.h5. Where each has a head of its own, every task gets a file, network_00.h5 and so
    on: the same layers, each with the task's readout.

    Args:
        settings: what to run.
        folder: gets config.json, checkpoint.h5, matrix.csv, results.json, a folder of each task, a folder compare_... of each
            comparison, the network files, summary.json, report.html and PNGs.
        resume: continue an earlier run in this folder; overwrite: start anew there.
        tell: called with a line of text at each stage.

    Raises:
        FileExistsError, OSError, ValueError, LavaRunError: as in ContinualTrainer, quantize and run_lava.
    """
    from lava_snnlearn.continual.report import write

    settings.require_backends()
    stages = Stages(tell)
    torch.set_num_threads(settings.threads)
    plan = make_plan(settings)
    settings, tasks = plan.settings, plan.tasks
    trainer = _trainer(plan, plan.method, folder)
    stages.done("load", f"{plan.method}\n{tasks.name}: {len(tasks)} tasks, {tasks.heads} head{'s' * (tasks.heads == 'own')}")
    if overwrite:
        for earlier in folder.glob(f"compare_*/{CHECKPOINT}"):
            earlier.unlink()
    results = trainer.resume() if resume else trainer.fit(overwrite=overwrite)
    learnt = f"learnt {len(tasks)} tasks, {settings.epochs} epochs each"
    stages.done("train", f"{learnt}: ACC {results.acc:.4f}, BWT {results.bwt:+.4f} (float)")
    comparisons = {}
    for name in plan.rivals:
        comparisons[name] = _compared(plan, name, folder / f"compare_{name}")
        stages.done(name, f"{name}: ACC {comparisons[name].acc:.4f} (float)")
    chips = _quantized(plan, trainer)
    files = [folder / name for name in _files(len(chips))]
    for stale in set(folder.glob("network*.h5")) - set(files):
        stale.unlink()
    for file, chip in zip(files, chips, strict=True):
        chip.save(file)
    stages.done("quantize", f"quantized to {settings.weight_bits} bits: {', '.join(map(str, files))}")
    answers = _emulated(chips, trainer)
    told = " ".join(f"{accuracy:.4f}" for accuracy in answers.accuracies)
    clipped = sum(answers.saturated.values())
    stages.done("emulate", f"emulated: test accuracies {told} (fixed point), {clipped} membranes clipped")
    proof = _verified(chips, tasks, settings)
    stages.done("verify", str(proof))
    summary = Summary(folder, results, chips, answers, comparisons, proof, stages.seconds)
    write(plan, summary)
    stages.done("report", f"report: {folder / 'report.html'}")
    return summary


def answered_by(tasks: TaskSequence, file: Path) -> Split:
    """The test samples that a network file of a run on ``tasks`` answers: those of all tasks, or of the file's own one."""
    if tasks.heads == "shared":
        return _joined([task.test for task in tasks.tasks])
    names = _files(len(tasks))
    if file.name not in names:
        raise ValueError(
            f"{file} is none of the run's network files, {', '.join(names)}; name the samples with --data or --npy"
        )
    return tasks.tasks[names.index(file.name)].test


def _files(chips: int) -> list[str]:
    return [NETWORK] if chips == 1 else [NETWORK.replace(".", f"_{index:02d}.") for index in range(chips)]


def _joined(parts: Sequence[Split]) -> Split:
    return Split(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))


def _trainer(plan: Plan, method: Method, folder: Path) -> ContinualTrainer:
    return ContinualTrainer(plan.network(), method, plan.tasks, run_dir=folder, **plan.training)


def _compared(plan: Plan, name: str, folder: Path) -> Comparison:
    """Train the comparison, or go on with it."""
    method = plan.rivals[name]
    if name == "joint":
        return Comparison(train_jointly(plan.network(), method, plan.tasks, run_dir=folder, resume=True, **plan.training), None)
    results = _trainer(plan, method, folder).resume()
    return Comparison(results.accuracies[-1], results)


def _quantized(plan: Plan, trainer: ContinualTrainer) -> tuple[FixedNetwork, ...]:
    """The network of all tasks, or that of each."""
    settings, tasks = plan.settings, plan.tasks.tasks
    form = settings.input if settings.encoding == "direct" else "spikes"

    def integers(samples: Sequence[np.ndarray]) -> FixedNetwork:
        typical = time_first(np.concatenate(samples))
        return quantize(trainer.network, weight_bits=settings.weight_bits, input=form, calibration=typical)

    if plan.tasks.heads == "shared":
        return (integers([task.train.x[: -(-CALIBRATION // len(tasks))] for task in tasks]),)
    chips = []
    for index, task in enumerate(tasks):
        trainer.use_head(index)
        chips.append(integers([task.train.x[:CALIBRATION]]))
    return tuple(chips)


def _emulated(chips: Sequence[FixedNetwork], trainer: ContinualTrainer) -> Answers:
    """Every task's test set, in integers and in torch."""
    tasks = trainer.tasks
    labels, answers, alike, accuracies = [], [], [], []
    saturated: dict[str, int] = {}
    for index, (task, first) in enumerate(zip(tasks.tasks, tasks.first_classes, strict=True)):
        trainer.use_head(index)
        trace = emulate(chips[index % len(chips)], time_first(task.test.x), record="outputs")
        accuracies.append(float((trace.predictions == task.test.y).mean()))
        alike.append(trace.predictions == predictions(trainer.network, task.test))
        labels.append(task.test.y + first)
        answers.append(trace.predictions + first)
        saturated = {name: count + saturated.get(name, 0) for name, count in trace.saturated.items()}
    agreement = float(np.concatenate(alike).mean())
    return Answers(tuple(accuracies), np.concatenate(labels), np.concatenate(answers), agreement, saturated)


def _verified(chips: Sequence[FixedNetwork], tasks: TaskSequence, settings: TaskSettings) -> Report:
    """Verify each network on samples of its tasks, ``verify_samples`` in all, but at least one of each task."""
    each = [max(1, len(part)) for part in np.array_split(np.arange(settings.verify_samples), len(tasks))]
    shown = [time_first(task.test.x[:count]) for task, count in zip(tasks.tasks, each, strict=True)]
    if len(chips) == 1:
        return verify(chips[0], np.concatenate(shown), against=settings.against)
    proofs = [verify(chip, x, against=settings.against) for chip, x in zip(chips, shown, strict=True)]
    return Report(
        samples=sum(proof.samples for proof in proofs),
        steps=proofs[0].steps,
        compared={name: sum(proof.compared[name] for proof in proofs) for name in proofs[0].compared},
        mismatches={name: sum(proof.mismatches[name] for proof in proofs) for name in proofs[0].mismatches},
        first_mismatch=next((proof.first_mismatch for proof in proofs if not proof.ok), None),
    )
