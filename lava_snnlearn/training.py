"""Trainer: a seeded, resumable training loop for any method."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lava_snnlearn import checkpoints
from lava_snnlearn.checks import instance_of, known_name, real_number, whole_number
from lava_snnlearn.data.dataset import Dataset, Split
from lava_snnlearn.files import FileFormatError, read_tree, write_text, write_tree
from lava_snnlearn.methods.base import Method, check_method
from lava_snnlearn.networks.network import Network
from lava_snnlearn.progress import Progress

OPTIMISERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine")
CHECKPOINT, METRICS, CONFIG, WEIGHTS = "checkpoint.h5", "metrics.csv", "config.json", "weights.h5"


@dataclass(frozen=True)
class EpochMetrics:
    """One row of metrics.csv. Losses and accuracies are means over samples; spike_rate is spikes per neuron and step;
    valid_accuracy is NaN without a validation split; seconds is wall time."""

    epoch: int
    train_loss: float
    train_accuracy: float
    valid_accuracy: float
    spike_rate: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class History:
    """What a training run gave: metrics of each epoch, and the epoch whose weights were kept (None: the last)."""

    epochs: tuple[EpochMetrics, ...]
    best_epoch: int | None


@dataclass
class _Progress:
    """Where a run stands; everything that a checkpoint must hold besides weights, optimiser and generators."""

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    spikes: float = 0.0
    seconds: float = 0.0
    rows: list[EpochMetrics] = field(default_factory=list)
    best_epoch: int | None = None
    best_accuracy: float = -1.0
    best_weights: dict[str, Any] | None = None


class Trainer:
    """Trains a network by a method.

    Same seed, same data, same number of threads: same bits, also when the run was killed and resumed in between.

    Args:
        network: trained in place.
        method: any :class:`~lava_snnlearn.methods.base.Method`.
        data: train and valid splits are used here; the test split is not touched.
        epochs, batch_size: at least 1.
        seed: order of the samples, dropout and other draws of torch, at least 0 (initial weights are the caller's).
        learning_rate: None takes the method's published one.
        optimiser: "sgd" (with momentum 0.9) or "adam"; weight_decay as usual.
        schedule: "cosine" (per epoch, to zero) or "constant".
        run_dir: folder for config.json, metrics.csv, checkpoint.h5 and weights.h5; None writes nothing.
        checkpoint_batches: also write a checkpoint every so many batches; None: after each epoch only.
        progress: show a progress bar.
        device: torch device for the training.

    Raises:
        ValueError: a number out of range, a data set and a network that do not fit. UnknownNameError: unknown optimiser or
            schedule. TypeError: a network, method, data set or number of another type.
    """

    def __init__(
        self,
        network: Network,
        method: Method,
        data: Dataset,
        *,
        epochs: int = 10,
        seed: int = 0,
        batch_size: int = 128,
        learning_rate: float | None = None,
        optimiser: str = "sgd",
        weight_decay: float = 0.0,
        schedule: str = "cosine",
        run_dir: str | PathLike[str] | None = None,
        checkpoint_batches: int | None = None,
        progress: bool = True,
        device: str = "cpu",
    ) -> None:
        instance_of("network", network, Network, "build one, e.g. snn.networks.mlp([64, 128, 10])")
        check_method(method)
        instance_of("data", data, Dataset, 'pass a Dataset, e.g. snn.data.load("digits")')
        rate = method.preset.learning_rate if learning_rate is None else learning_rate
        every = 1 if checkpoint_batches is None else checkpoint_batches
        _check_numbers(rate, weight_decay, epochs=epochs, seed=seed, batch_size=batch_size, checkpoint_batches=every)
        _check_fit(network, data, batch_size)
        known_name("optimiser", optimiser, OPTIMISERS)
        known_name("schedule", schedule, SCHEDULES)
        self.network, self.method, self.data = network, method, data
        # Plain numbers, since numpy's cannot be written to config.json.
        self.epochs, self.seed, self.batch_size, self.learning_rate = int(epochs), int(seed), int(batch_size), float(rate)
        self.optimiser_name, self.weight_decay, self.schedule = optimiser, float(weight_decay), schedule
        self.run_dir = None if run_dir is None else Path(run_dir)
        self.checkpoint_batches, self.show_progress, self.device = checkpoint_batches, progress, torch.device(device)

    def fit(self, *, overwrite: bool = False) -> History:
        """Train from the network's present weights; afterwards it holds those of the epoch best on the validation split.

        Args:
            overwrite: start anew although run_dir holds a checkpoint.

        Raises:
            FileExistsError: run_dir holds a checkpoint of an earlier run. OSError: run_dir cannot be written.
            FloatingPointError: the loss became NaN or infinite; says where and what to try.
        """
        if self.run_dir is not None and (self.run_dir / CHECKPOINT).exists() and not overwrite:
            raise FileExistsError(
                f"{self.run_dir} holds a checkpoint of an earlier run. Continue it with resume(), choose another run_dir, "
                "or pass overwrite=True to start anew."
            )
        optimiser = self._optimiser()
        if self.run_dir is not None:
            if (self.run_dir / CHECKPOINT).exists():
                self._rehearse()
            self._claim()
            for name in (CHECKPOINT, METRICS, WEIGHTS):
                (self.run_dir / name).unlink(missing_ok=True)
        checkpoints.seed_generators(self.seed)
        return self._run(_Progress(), optimiser)

    def resume(self) -> History:
        """Continue the run in run_dir from its last checkpoint (or start it, if there is none yet); ends with the same bits
        as an uninterrupted run.

        Raises:
            ValueError: no run_dir, or other settings than those of the checkpoint. FileFormatError: a damaged checkpoint.
            OSError, FloatingPointError: as in :meth:`fit`.
        """
        if self.run_dir is None:
            raise ValueError("resume() needs a run_dir")
        path = self.run_dir / CHECKPOINT
        if not path.exists():
            return self.fit()
        tree = read_tree(path, content="checkpoint")
        checkpoints.compare_settings(tree.get("config"), self.config(), str(path))
        optimiser = self._optimiser()
        try:
            state = dict(tree["progress"])
            state["rows"] = [EpochMetrics(**row) for row in state["rows"]]
            progress = _Progress(**state)
            checkpoints.load_weights(self.network, tree["network"], str(path))
            checkpoints.load_optimiser(optimiser, tree["optimiser"], str(path))
            checkpoints.restore_generators(tree["generators"])
        except FileFormatError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise FileFormatError(f"{path} is not a valid checkpoint: {error}") from error
        self._claim()
        # A run killed between the last checkpoint and its table would never write the table otherwise.
        self._save_metrics(progress)
        return self._run(progress, optimiser)

    def _claim(self) -> None:
        """Write config.json, which shows before any work is lost that run_dir can be written; sweep up after killed runs."""
        assert self.run_dir is not None
        write_text(self.run_dir / CONFIG, json.dumps(self.config(), indent=2) + "\n")
        for name in (CHECKPOINT, METRICS, CONFIG, WEIGHTS):
            for leftover in self.run_dir.glob(f".{name}.*"):
                leftover.unlink(missing_ok=True)

    def _rehearse(self) -> None:
        """One batch on a copy: a method that refuses this network says so before an earlier run is deleted."""
        generators = checkpoints.generator_states()
        x, y = self._tensors(self.data.train, np.arange(min(self.batch_size, len(self.data.train))))
        try:
            self.method.gradients(copy.deepcopy(self.network).train(), x, y, lambda: None)
        finally:
            checkpoints.restore_generators(generators)

    def config(self) -> dict[str, Any]:
        """Settings that decide the result, as plain values; a resumed run must have the same."""
        return {
            "method": repr(self.method),
            "network": repr(self.network),
            "steps": self.network.steps,
            "encoding": self.network.encoding,
            "dropout": self.network.dropout,
            "dtype": str(self.network.readout.weight.dtype),
            "data": self.data.name,
            "data_sha256": self._data_digest,
            "epochs": self.epochs,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "optimiser": self.optimiser_name,
            "weight_decay": self.weight_decay,
            "schedule": self.schedule,
        }

    @cached_property
    def _data_digest(self) -> str:
        digest = hashlib.sha256()
        for array in (self.data.train.x, self.data.train.y, self.data.valid.x, self.data.valid.y):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _optimiser(self) -> torch.optim.Optimizer:
        self.network.to(self.device)
        parameters = self.network.parameters()
        if self.optimiser_name == "adam":
            return torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=0.9, weight_decay=self.weight_decay)

    def _rate(self, epoch: int) -> float:
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))

    def _run(self, progress: _Progress, optimiser: torch.optim.Optimizer) -> History:
        batches = math.ceil(len(self.data.train) / self.batch_size)
        done = progress.epoch * batches + progress.batch
        with Progress(self.epochs * batches, done, self.show_progress) as bar:
            for epoch in range(progress.epoch, self.epochs):
                for group in optimiser.param_groups:
                    group["lr"] = self._rate(epoch)
                self._epoch(progress, optimiser, bar)
                self._finish_epoch(progress, optimiser)
                bar.note(progress.rows[-1])
        if progress.best_weights is not None:
            checkpoints.load_weights(self.network, progress.best_weights, "best epoch")
        self.network.eval()
        if self.run_dir is not None:
            checkpoints.save_weights(self.run_dir / WEIGHTS, self.network)
        return History(tuple(progress.rows), progress.best_epoch)

    def _epoch(self, progress: _Progress, optimiser: torch.optim.Optimizer, bar: Progress) -> None:
        train = self.data.train
        # The order depends on seed and epoch alone, so that a run resumed in the middle of an epoch sees the same batches.
        order = np.random.default_rng([self.seed, progress.epoch]).permutation(len(train))
        starts = range(0, len(order), self.batch_size)
        self.network.train()
        for number in range(progress.batch, len(starts)):
            begin = time.perf_counter()
            chosen = np.sort(order[starts[number] : starts[number] + self.batch_size])
            x, y = self._tensors(train, chosen)
            result, total = self._step(optimiser, x, y), len(y)
            if not math.isfinite(result.loss):
                raise self._diverged(f"the loss became {result.loss}", progress.epoch, number)
            progress.batch = number + 1
            progress.loss += result.loss * total
            progress.correct += int((result.outputs.argmax(1) == y).sum())
            progress.seen += total
            progress.spikes += result.spike_rate * total
            progress.seconds += time.perf_counter() - begin
            bar.advance(progress.loss / progress.seen, progress.correct / progress.seen, progress.spikes / progress.seen)
            # The loss is that before the update, so it says nothing about weights that this update broke.
            if not all(bool(torch.isfinite(parameter).all()) for parameter in self.network.parameters()):
                raise self._diverged("weights became NaN or infinite", progress.epoch, number)
            if self.checkpoint_batches is not None and progress.batch % self.checkpoint_batches == 0:
                self._save(progress, optimiser)

    def _diverged(self, what: str, epoch: int, number: int) -> FloatingPointError:
        kept = self.run_dir is not None and (self.run_dir / CHECKPOINT).exists()
        return FloatingPointError(
            f"{what} in epoch {epoch + 1}, batch {number + 1}. Lower the learning rate (now {self._rate(epoch):.3g}) or use a "
            f"norm.{f' The checkpoint in {self.run_dir} is that of the last good state.' if kept else ''}"
        )

    def _step(self, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Any:
        def update() -> None:
            optimiser.step()
            optimiser.zero_grad()

        optimiser.zero_grad()
        if self.method.optimiser_every == "step":
            return self.method.gradients(self.network, x, y, update)
        result = self.method.gradients(self.network, x, y)
        update()
        return result

    def _finish_epoch(self, progress: _Progress, optimiser: torch.optim.Optimizer) -> None:
        has_valid = len(self.data.valid) > 0
        valid = accuracy(self.network, self.data.valid) if has_valid else math.nan
        row = EpochMetrics(
            epoch=progress.epoch + 1,
            train_loss=progress.loss / progress.seen,
            train_accuracy=progress.correct / progress.seen,
            valid_accuracy=valid,
            spike_rate=progress.spikes / progress.seen,
            learning_rate=self._rate(progress.epoch),
            seconds=progress.seconds,
        )
        progress.rows.append(row)
        # Among equals the later epoch: it was trained at a lower learning rate.
        if has_valid and valid >= progress.best_accuracy:
            progress.best_epoch, progress.best_accuracy = row.epoch, valid
            progress.best_weights = checkpoints.to_tree(self.network.state_dict())
        progress.epoch, progress.batch = progress.epoch + 1, 0
        progress.loss, progress.correct, progress.seen, progress.spikes, progress.seconds = 0.0, 0, 0, 0.0, 0.0
        self._save(progress, optimiser)

    def _save(self, progress: _Progress, optimiser: torch.optim.Optimizer) -> None:
        if self.run_dir is None:
            return
        tree = {
            "config": self.config(),
            "progress": vars(progress) | {"rows": [dataclasses.asdict(row) for row in progress.rows]},
            "network": checkpoints.to_tree(self.network.state_dict()),
            "optimiser": checkpoints.optimiser_state(optimiser),
            "generators": checkpoints.generator_states(),
        }
        write_tree(self.run_dir / CHECKPOINT, tree, content="checkpoint")
        self._save_metrics(progress)

    def _save_metrics(self, progress: _Progress) -> None:
        assert self.run_dir is not None
        columns = [column.name for column in dataclasses.fields(EpochMetrics)]
        checkpoints.write_table(self.run_dir / METRICS, columns, progress.rows)

    def _tensors(self, split: Split, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        dtype = self.network.readout.weight.dtype
        x = torch.from_numpy(split.x[chosen]).to(self.device, dtype)
        return x, torch.from_numpy(split.y[chosen]).to(self.device)


def predictions(network: Network, split: Split, batch_size: int = 512) -> np.ndarray:
    """Predicted classes of a split, int64 [N], in eval mode."""
    weight = network.readout.weight
    parts = [
        network.predict(torch.from_numpy(split.x[at : at + batch_size]).to(weight.device, weight.dtype)).cpu().numpy()
        for at in range(0, len(split), batch_size)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def accuracy(network: Network, split: Split) -> float:
    """Fraction of a split that the network classifies correctly.

    Raises:
        ValueError: an empty split.
    """
    if len(split) == 0:
        raise ValueError("accuracy of an empty split is not defined")
    return float((predictions(network, split) == split.y).mean())


def _check_numbers(rate: float, weight_decay: float, **counts: int) -> None:
    for name, value in counts.items():
        least = 0 if name == "seed" else 1
        if not least <= whole_number(name, value) < 1 << 63:
            raise ValueError(f"{name} is {value}; it must be at least {least} and below 2^63")
    for name, number in (("learning_rate", rate), ("weight_decay", weight_decay)):
        real_number(name, number)
        if not (math.isfinite(number) and number >= 0):
            raise ValueError(f"{name} is {number}; it must be finite and >= 0")


def _check_fit(network: Network, data: Dataset, batch_size: int) -> None:
    if data.features != network.inputs or data.classes != network.classes:
        raise ValueError(
            f"data set {data.name!r} has {data.features} features and {data.classes} classes, the network has "
            f"{network.inputs} inputs and {network.classes} outputs"
        )
    # Torch would refuse this batch as well, but only after all others of the first epoch.
    norms = ("bn_step", "bn_time") if network.steps == 1 else ("bn_step",)
    found = [layer.norm_name for layer in network.spiking_layers if layer.norm_name in norms]
    if found and len(data.train) % batch_size == 1 % batch_size:
        raise ValueError(
            f"batch_size {batch_size} leaves a batch of one sample ({len(data.train)} in all), and norm={found[0]!r} cannot "
            f"take the variance of one (steps = {network.steps}). Choose another batch_size or norm."
        )
