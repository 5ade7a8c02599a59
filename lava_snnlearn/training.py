"""Trainer: a seeded, resumable training loop for any method, in one process or in several that ``torchrun`` started."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lava_snnlearn import checkpoints, distributed
from lava_snnlearn.checkpoints import CHECKPOINT, EpochMetrics, RunFolder, RunState
from lava_snnlearn.checks import instance_of, known_name, real_number, whole_number
from lava_snnlearn.data.augmentation import PerSample
from lava_snnlearn.data.batches import Augmentation, augmented, check_augmentation, description, inputs
from lava_snnlearn.data.dataset import Dataset, Split, digest
from lava_snnlearn.distributed import Share
from lava_snnlearn.methods.base import Method, StepResult, check_method
from lava_snnlearn.networks.classifier import Classifier
from lava_snnlearn.networks.delays import delays_of
from lava_snnlearn.progress import Progress

OPTIMISERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine")
# Input values that predictions() turns into floats at once (128 MB as float32), so that large samples go in small batches.
_VALUES_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class History:
    """What a training run gave: metrics of each epoch, and the epoch whose weights were kept (None: the last)."""

    epochs: tuple[EpochMetrics, ...]
    best_epoch: int | None


class Trainer:
    """Trains a network by a method.

    Same seed, same data, same number of threads: same bits, also when the run was killed and resumed in between.

    Under ``torchrun --nproc-per-node N``, N processes that run the same script train one network: fit() and resume() join them
    and leave when done (or use the group that is active; see :mod:`lava_snnlearn.distributed`). Each works on its share of
    every batch; weights and metrics are those of one process up to the rounding of sums, about 1e-6. Process 0 alone reads and
    writes the files of run_dir and shows the progress. A run may be resumed with another number of processes. What fails in one
    process ends all.

    Args:
        network: trained in place.
        method: any :class:`~lava_snnlearn.methods.base.Method`.
        data: train and valid splits are used here; the test split is not touched.
        epochs, batch_size: at least 1. Several processes share each batch, which needs at least one sample for each of them.
        seed: order of the samples, dropout and other draws of torch, at least 0 (initial weights are the caller's).
        learning_rate: None takes the method's published one.
        optimiser: "sgd" (with momentum 0.9) or "adam"; weight_decay as usual, but for learned delays, which are without.
        schedule: "cosine" (per epoch, to zero) or "constant".
        augment: changes each training batch, e.g. :func:`~lava_snnlearn.data.augmentation.augmentation`; called with a tensor
            [B, C, H, W] (sequences: [T, B, C, H, W]) if the data set has a ``shape``, else [B, n] ([T, B, n]), and returns one
            of the same shape. Its draws must come from torch's global generator, or a resumed run ends with other bits. Its
            repr is one of the settings, and should name all that it depends on.
        run_dir: folder for config.json, metrics.csv, checkpoint.h5 and weights.h5; None writes nothing.
        checkpoint_batches: also write a checkpoint every so many batches; None: after each epoch only.
        progress: show a progress bar.
        device: torch device for the training; "cuda" is the GPU numbered LOCAL_RANK where several processes train.

    Raises:
        ValueError: a number out of range, a data set and a network that do not fit. UnknownNameError: unknown optimiser or
            schedule. TypeError: a network, method, data set or number of another type, an augmentation that cannot be called.
    """

    def __init__(
        self,
        network: Classifier,
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
        augment: Augmentation | None = None,
        run_dir: str | PathLike[str] | None = None,
        checkpoint_batches: int | None = None,
        progress: bool = True,
        device: str = "cpu",
    ) -> None:
        remedy = "build one, e.g. snn.networks.mlp([64, 128, 10]); a GraphReasoner has snn.reasoning.ReasoningTrainer"
        instance_of("network", network, Classifier, remedy)
        check_method(method)
        instance_of("data", data, Dataset, 'pass a Dataset, e.g. snn.data.load("digits")')
        rate = method.preset.learning_rate if learning_rate is None else learning_rate
        every = 1 if checkpoint_batches is None else checkpoint_batches
        _check_numbers(rate, weight_decay, epochs=epochs, seed=seed, batch_size=batch_size, checkpoint_batches=every)
        _check_fit(network, data, batch_size)
        known_name("optimiser", optimiser, OPTIMISERS)
        known_name("schedule", schedule, SCHEDULES)
        check_augmentation(augment)
        check_optimiser = getattr(method, "check_optimiser", None)
        if check_optimiser is not None:
            check_optimiser(optimiser, weight_decay)
        self.network, self.method, self.data = network, method, data
        # Plain numbers, since numpy's cannot be written to config.json.
        self.epochs, self.seed, self.batch_size, self.learning_rate = int(epochs), int(seed), int(batch_size), float(rate)
        self.optimiser_name, self.weight_decay, self.schedule = optimiser, float(weight_decay), schedule
        self.run_dir = None if run_dir is None else Path(run_dir)
        self._folder = RunFolder(self.run_dir)
        self.augment = augment
        self.checkpoint_batches, self.show_progress, self.device = checkpoint_batches, progress, distributed.own_device(device)

    def fit(self, *, overwrite: bool = False) -> History:
        """Train from the network's present weights; afterwards it holds those of the epoch best on the validation split.

        Args:
            overwrite: start anew although run_dir holds a checkpoint.

        Raises:
            FileExistsError: run_dir holds a checkpoint of an earlier run. OSError: run_dir cannot be written.
            FloatingPointError: the loss became NaN or infinite; says where and what to try.
            LostProcessError: another process that trains along failed or ended. ValueError: it has other settings.
        """
        with distributed.process_group():
            self._agree()
            return self._fit(overwrite)

    def _fit(self, overwrite: bool) -> History:
        earlier = self._folder.has_earlier(overwrite)
        optimiser = self._optimiser()
        if earlier:
            self._rehearse()
        self._folder.begin(self.config())
        checkpoints.seed_generators(self.seed)
        return self._run(RunState(), optimiser)

    def resume(self) -> History:
        """Continue the run in run_dir from its last checkpoint (or start it, if there is none yet); ends with the same bits
        as an uninterrupted run.

        Raises:
            ValueError: no run_dir, or other settings than those of the checkpoint. FileFormatError: a damaged checkpoint.
            OSError, FloatingPointError: as in :meth:`fit`.
        """
        if self.run_dir is None:
            raise ValueError("resume() needs a run_dir")
        with distributed.process_group():
            self._agree()
            return self._resume(str(self.run_dir / CHECKPOINT))

    def _resume(self, where: str) -> History:
        if not self._folder.has_checkpoint():
            return self._fit(overwrite=False)
        tree = self._folder.read_checkpoint(self.config())
        optimiser = self._optimiser()
        state = checkpoints.restore_run(tree, self.network, optimiser, self.device, where)
        self._folder.claim(self.config())
        # A run killed between the last checkpoint and its table would never write the table otherwise.
        self._folder.save_metrics(state.rows)
        return self._run(state, optimiser)

    def _agree(self) -> None:
        """Raise ValueError in processes that would train something else than process 0, or exchange at other times."""
        if distributed.world() == 1:
            return
        own = self.config() | {"checkpoint_batches": self.checkpoint_batches, "has a run_dir": self.run_dir is not None}
        first = distributed.from_first(lambda: own)
        different = next((key for key in first if first[key] != own[key]), None)
        if different is not None:
            raise ValueError(
                f"process {distributed.rank()} has {different} = {own[different]!r}, process 0 has {first[different]!r}. "
                "Let all processes run the same script with the same data."
            )

    def _rehearse(self) -> None:
        """One batch on a copy: a method that refuses this network says so before an earlier run is deleted."""
        generators = checkpoints.generator_states(self.device)
        first = np.arange(min(self.batch_size, len(self.data.train)))
        share = distributed.share_of(len(first))
        try:
            with distributed.working_on(share):
                x, y = self._tensors(self.data.train, first, share)
                self.method.gradients(copy.deepcopy(self.network).train(), x, y, lambda: None)
        finally:
            checkpoints.restore_generators(generators, self.device)

    def config(self) -> dict[str, Any]:
        """Settings that decide the result, as plain values; a resumed run must have the same."""
        return {
            "method": description(self.method),
            "network": repr(self.network),
            "steps": self.network.steps,
            "encoding": self.network.encoding,
            "dropout": self.network.dropout,
            "dtype": str(self.network.like.dtype),
            "data": self.data.name,
            "data_sha256": self._data_digest,
            "epochs": self.epochs,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "optimiser": self.optimiser_name,
            "weight_decay": self.weight_decay,
            "schedule": self.schedule,
            "augment": description(self.augment),
        }

    @cached_property
    def _data_digest(self) -> str:
        return digest(self.data)

    def _optimiser(self) -> torch.optim.Optimizer:
        self.network.to(self.device)
        parameters = _groups(self.network, self.weight_decay)
        if self.optimiser_name == "adam":
            return torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=0.9, weight_decay=self.weight_decay)

    def _rate(self, epoch: int) -> float:
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))

    def _run(self, state: RunState, optimiser: torch.optim.Optimizer) -> History:
        distributed.take_from_first(self.network.state_dict().values())
        self._constrain()
        batches = math.ceil(len(self.data.train) / self.batch_size)
        done = state.epoch * batches + state.batch
        with Progress(self.epochs * batches, done, self.show_progress and distributed.is_first()) as bar:
            for epoch in range(state.epoch, self.epochs):
                for group in optimiser.param_groups:
                    group["lr"] = self._rate(epoch)
                self._epoch(state, optimiser, bar)
                self._finish_epoch(state, optimiser)
                bar.note(state.rows[-1])
        if state.best_weights is not None:
            checkpoints.load_weights(self.network, state.best_weights, "best epoch")
        self.network.eval()
        self._folder.save_weights(self.network)
        return History(tuple(state.rows), state.best_epoch)

    def _epoch(self, state: RunState, optimiser: torch.optim.Optimizer, bar: Progress) -> None:
        train = self.data.train
        # The order depends on seed and epoch alone, so that a run resumed in the middle of an epoch sees the same batches.
        order = np.random.default_rng([self.seed, state.epoch]).permutation(len(train))
        starts = range(0, len(order), self.batch_size)
        self.network.train()
        for number in range(state.batch, len(starts)):
            begin = time.perf_counter()
            chosen = np.sort(order[starts[number] : starts[number] + self.batch_size])
            (loss, correct, spikes), diagnostics = self._batch(optimiser, chosen)
            if not math.isfinite(loss):
                raise self._diverged(f"the loss became {loss}", state.epoch, number)
            state.batch = number + 1
            state.loss += loss
            state.correct += int(correct)
            state.seen += len(chosen)
            state.spikes += spikes
            for name, value in diagnostics.items():
                state.diagnostics[name] = state.diagnostics.get(name, 0.0) + value
            state.seconds += time.perf_counter() - begin
            sums = {"loss": state.loss, "acc": state.correct, "rate": state.spikes}
            bar.advance({name: total / state.seen for name, total in sums.items()})
            # The loss is that before the update, so it says nothing about weights that this update broke.
            if not all(bool(torch.isfinite(parameter).all()) for parameter in self.network.parameters()):
                raise self._diverged("weights became NaN or infinite", state.epoch, number)
            if self.checkpoint_batches is not None and state.batch % self.checkpoint_batches == 0:
                self._save(state, optimiser)

    def _batch(self, optimiser: torch.optim.Optimizer, chosen: np.ndarray) -> tuple[list[float], dict[str, float]]:
        """Train on these samples; their losses, correct answers and spike rates, and the method's own diagnostics, summed over
        samples of all processes."""
        share = distributed.share_of(len(chosen))
        with distributed.working_on(share):
            x, y = self._tensors(self.data.train, chosen, share)
            result = self._step(optimiser, x, y, share)
        correct = int((result.outputs.argmax(1) == y).sum())
        own = [value * len(y) for value in result.diagnostics.values()]
        sums = distributed.joined_sum([result.loss * len(y), correct, result.spike_rate * len(y), *own])
        return sums[:3], dict(zip(result.diagnostics, sums[3:], strict=True))

    def _diverged(self, what: str, epoch: int, number: int) -> FloatingPointError:
        kept = self._folder.has_checkpoint()
        return FloatingPointError(
            f"{what} in epoch {epoch + 1}, batch {number + 1}. Lower the learning rate (now {self._rate(epoch):.3g}) or use a "
            f"norm.{f' The checkpoint in {self.run_dir} is that of the last good state.' if kept else ''}"
        )

    def _step(self, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor, share: Share) -> StepResult:
        def update() -> None:
            distributed.join_gradients(self.network.parameters(), share.weight)
            optimiser.step()
            self._constrain()
            optimiser.zero_grad()

        optimiser.zero_grad()
        if self.method.optimiser_every == "step":
            return self.method.gradients(self.network, x, y, update)
        result = self.method.gradients(self.network, x, y)
        update()
        return result

    def _constrain(self) -> None:
        """Let the method bring the weights back within its bounds, where it has any."""
        constrain = getattr(self.method, "constrain", None)
        if constrain is not None:
            constrain(self.network)

    def _valid_accuracy(self) -> float:
        """Each process answers its part of the validation split; NaN if there is none."""
        valid = self.data.valid
        if len(valid) == 0:
            return math.nan
        part = distributed.own_part(len(valid))
        mine = Split(valid.x[part], valid.y[part])
        (correct,) = distributed.joined_sum([float((predictions(self.network, mine) == mine.y).sum())])
        return correct / len(valid)

    def _finish_epoch(self, state: RunState, optimiser: torch.optim.Optimizer) -> None:
        valid = self._valid_accuracy()
        row = EpochMetrics(
            epoch=state.epoch + 1,
            train_loss=state.loss / state.seen,
            train_accuracy=state.correct / state.seen,
            valid_accuracy=valid,
            spike_rate=state.spikes / state.seen,
            learning_rate=self._rate(state.epoch),
            seconds=state.seconds,
            diagnostics={name: total / state.seen for name, total in state.diagnostics.items()},
        )
        state.rows.append(row)
        # Among equals the later epoch: it was trained at a lower learning rate.
        if valid >= state.best_accuracy:
            state.best_epoch, state.best_accuracy = row.epoch, valid
            state.best_weights = checkpoints.to_tree(self.network.state_dict())
        state.epoch, state.batch = state.epoch + 1, 0
        state.loss, state.correct, state.seen, state.spikes, state.seconds = 0.0, 0, 0, 0.0, 0.0
        state.diagnostics = {}
        self._save(state, optimiser)

    def _save(self, state: RunState, optimiser: torch.optim.Optimizer) -> None:
        def tree() -> dict[str, Any]:
            return checkpoints.run_tree(self.config(), state, self.network, optimiser, self.device)

        self._folder.save(tree, state.rows)

    def _tensors(self, split: Split, chosen: np.ndarray, share: Share) -> tuple[Tensor, Tensor]:
        """This process's share of a training batch: inputs [B, n] or time first [T, B, n] in the network's dtype, augmented,
        and labels [B]."""
        mine = chosen[share.first : share.last]
        y = torch.from_numpy(split.y[mine]).to(self.device)
        # A function of the user's own draws what it would in one process only if it gets all samples.
        whole = self.augment is not None and not isinstance(self.augment, PerSample)
        x = inputs(split.x[chosen if whole else mine], self.device, self.network.like.dtype)
        if self.augment is not None:
            x = augmented(self.augment, x, self.data.shape)
        return (x.narrow(x.dim() - 2, share.first, len(mine)) if whole else x), y


def predictions(network: Classifier, split: Split, batch_size: int = 512) -> np.ndarray:
    """Predicted classes of a split, int64 [N], in eval mode; batches are smaller where samples are large."""
    size = max(1, min(batch_size, _VALUES_AT_ONCE // max(1, math.prod(split.x.shape[1:]))))
    weight = network.like
    parts = [
        network.predict(inputs(split.x[at : at + size], weight.device, weight.dtype)).cpu().numpy()
        for at in range(0, len(split), size)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def accuracy(network: Classifier, split: Split) -> float:
    """Fraction of a split that the network classifies correctly.

    Raises:
        ValueError: an empty split.
    """
    if len(split) == 0:
        raise ValueError("accuracy of an empty split is not defined")
    return float((predictions(network, split) == split.y).mean())


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters for an optimiser: weight decay would pull delays towards the middle of their range, so they are without."""
    delays = {delay.theta for delay in delays_of(network)} if weight_decay else set()
    groups: list[dict[str, Any]] = [{"params": [p for p in network.parameters() if p not in delays]}]
    late = [p for p in network.parameters() if p in delays]
    return [*groups, {"params": late, "weight_decay": 0.0}] if late else groups


def _check_numbers(rate: float, weight_decay: float, **counts: int) -> None:
    for name, value in counts.items():
        least = 0 if name == "seed" else 1
        if not least <= whole_number(name, value) < 1 << 63:
            raise ValueError(f"{name} is {value}; it must be at least {least} and below 2^63")
    for name, number in (("learning_rate", rate), ("weight_decay", weight_decay)):
        real_number(name, number)
        if not (math.isfinite(number) and number >= 0):
            raise ValueError(f"{name} is {number}; it must be finite and >= 0")


def _check_fit(network: Classifier, data: Dataset, batch_size: int) -> None:
    if data.features != network.inputs or data.classes != network.classes:
        raise ValueError(
            f"data set {data.name!r} has {data.features} features and {data.classes} classes, the network has "
            f"{network.inputs} inputs and {network.classes} outputs"
        )
    if data.sequence and data.steps != network.steps:
        raise ValueError(
            f"data set {data.name!r} has sequences of {data.steps} steps, the network simulates {network.steps}. Build it with "
            f"steps={data.steps}, or load the events with steps={network.steps}"
        )
    processes, smallest = distributed.launched(), len(data.train) % batch_size or min(batch_size, len(data.train))
    if smallest < processes:
        raise ValueError(
            f"batch_size {batch_size} leaves a batch of {smallest} samples ({len(data.train)} in all), which {processes} "
            "processes cannot share. Choose another batch_size, or start fewer processes."
        )
    # Torch would refuse this batch as well, but only after all others of the first epoch.
    norms = ("bn_step", "bn_time") if network.steps == 1 else ("bn_step",)
    found = [norm for norm in network.batch_norms if norm in norms]
    if found and len(data.train) % batch_size == 1 % batch_size:
        raise ValueError(
            f"batch_size {batch_size} leaves a batch of one sample ({len(data.train)} in all), and norm={found[0]!r} cannot "
            f"take the variance of one (steps = {network.steps}). Choose another batch_size or norm."
        )
