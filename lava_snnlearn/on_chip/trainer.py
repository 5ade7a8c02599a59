"""OnChipTrainer: a seeded, resumable run of learning on the chip, in its integers, one sample after the other."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn import checkpoints, distributed
from lava_snnlearn.checkpoints import CHECKPOINT, WEIGHTS, EpochMetrics, RunFolder, RunState
from lava_snnlearn.checks import at_least, flag, instance_of
from lava_snnlearn.data.dataset import Dataset, Split, digest
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.on_chip.learners import Learner, Settings, State, learner_of
from lava_snnlearn.progress import Progress
from lava_snnlearn.training import History

DECAY, DECAY_AT = 0.2, (60, 85)
"""The learning rate is multiplied by DECAY after these percentages of the epochs (ide_spide spec, 6-H)."""
PROBE = 200
"""Training samples by which the gain is chosen, and of which each epoch tells loss and spike rate."""


class OnChipTrainer:
    """Trains a network in the simulation of the chip: by SPIDE, of :class:`~lava_snnlearn.on_chip.spide.OnChipSettings`, or by
    a local rule (OTTT, DFA, OPZO, HLOP), of :class:`~lava_snnlearn.on_chip.local.LocalSettings`.

    Same settings, same data: same bits, also when the run was killed and resumed in between.

    A row of metrics.csv has the loss and the spike rate (spikes per neuron and step) of the first :data:`PROBE` training
    samples after the epoch, the training accuracy, and as diagnostics those of the simulator's (``Diagnostics``; means over the
    pieces between visits of the host). SPIDE: the accuracy is that of all samples, each before it was learnt, and the gain is
    among the diagnostics. Local rules: the accuracy is that of the first :data:`PROBE` samples after the epoch, since a sample
    that is learnt during its answer is answered too well.

    Args:
        settings: the network; its ``seed`` is also that of the order of the samples, ``eta`` the learning rate of the start,
            which falls to a fifth after 60 % and again after 85 % of the epochs.
        data: static samples of [0, 1], e.g. ``load("digits", scale="unit")``; the test split is not touched.
        epochs: at least 1.
        auto_gain: SPIDE: choose ``gain_bits`` by the first :data:`PROBE` training samples before the first epoch. (Local rules
            have the gain of the settings.)
        start: a network of these settings to continue from, e.g. of ``begin_task``; its gain and samples are kept. None: a
            fresh one.
        host_samples: the host visits the chip after so many samples and after each epoch: it limits the norms of SPIDE's
            feedback loop and writes a checkpoint.
        run_dir: folder for config.json, metrics.csv, checkpoint.h5 and weights.h5 (an OnChipState or a LocalState); None writes
            nothing.
        progress: show a progress bar.

    Attributes:
        state: the network; after a run that of the epoch best on the validation split, or without such a split the last.
        history: of the last run.

    Raises:
        ValueError: a number out of range, a data set and a network that do not fit, several processes, a start of other
            settings. LimitError: data that a payload cannot hold. TypeError: settings, start, data or a number of another type.
    """

    def __init__(
        self,
        settings: Settings,
        data: Dataset,
        *,
        epochs: int = 10,
        auto_gain: bool = True,
        start: State | None = None,
        host_samples: int = 2000,
        run_dir: str | PathLike[str] | None = None,
        progress: bool = True,
    ) -> None:
        self.learner = learner_of(settings)
        instance_of("data", data, Dataset, 'pass a Dataset, e.g. snn.data.load("digits", scale="unit")')
        flag("auto_gain", auto_gain)
        self.settings, self.data = settings, data
        self.auto_gain = bool(auto_gain) and start is None and self.learner.choose_gain is not None
        self.epochs, self.host_samples = at_least(1, "epochs", epochs), at_least(1, "host_samples", host_samples)
        if distributed.launched() > 1:
            raise ValueError(
                f"{distributed.launched()} processes were started, but a chip learns one sample after the other; start one"
            )
        self.start = None if start is None else _continued(self.learner, settings, start)
        self.state = self._begun(settings)
        _check_fit(self.state, data)
        self.run_dir = None if run_dir is None else Path(run_dir)
        self.show_progress = progress
        self._folder = RunFolder(self.run_dir)

    def fit(self, *, overwrite: bool = False) -> History:
        """Train from ``start`` or the initial weights; afterwards ``state`` is that of the epoch best on the validation split.

        Args:
            overwrite: start anew although run_dir holds a checkpoint.

        Raises:
            FileExistsError: run_dir holds a checkpoint of an earlier run. OSError: run_dir cannot be written.
            ValueError: no gain is small enough (see ``choose_gain``).
        """
        self._folder.has_earlier(overwrite)
        self.state = self._begun(self.settings)
        if self.auto_gain and self.learner.choose_gain is not None:
            self.state = self.learner.choose_gain(self.state, self._probe.x, self._probe.y)
        self._folder.begin(self.config())
        return self._run(RunState())

    def resume(self) -> History:
        """Continue the run in run_dir from its last checkpoint (or start it, if there is none yet); ends with the same bits
        as an uninterrupted run.

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
            run = checkpoints.read_progress(tree["progress"])
            self.state = self.learner.state.from_dict(tree["chip"])
            if run.best_weights is not None:
                self.learner.state.from_dict(run.best_weights)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{where} is not a valid checkpoint: {error}") from error
        self._folder.claim(self.config())
        self._folder.save_metrics(run.rows)
        return self._run(run)

    def config(self) -> dict[str, Any]:
        """Settings that decide the result, as plain values; a resumed run must have the same."""
        plain = {field.name: _plain(getattr(self.settings, field.name)) for field in fields(self.settings)}
        return {
            "method": f"{self.learner.method(self.state)} on chip",
            **plain,
            "gain_bits": None if self.auto_gain else self.settings.gain_bits,
            "data": self.data.name,
            "data_sha256": self._digest,
            "start_sha256": None if self.start is None else _digest_of(self.start),
            "epochs": self.epochs,
            "host_samples": self.host_samples,
        }

    def beginning(self) -> State:
        """The network before the first sample, with the gain of ``state``: after a run, what the run began with."""
        return self._begun(replace(self.settings, gain_bits=self.state.settings.gain_bits))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Indices of the training samples in the order in which epoch ``epoch`` (from 0) learns them."""
        before = 0 if self.start is None else self.start.samples
        return np.random.default_rng([self.settings.seed, epoch, before]).permutation(len(self.data.train))

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of epoch ``epoch`` (from 0)."""
        return self.settings.eta * DECAY ** sum(100 * epoch >= percent * self.epochs for percent in DECAY_AT)

    def _begun(self, settings: Settings) -> State:
        fresh: State = self.learner.initial(settings) if self.start is None else self.start
        return fresh

    @cached_property
    def _digest(self) -> str:
        return digest(self.data)

    @property
    def _probe(self) -> Split:
        return Split(self.data.train.x[:PROBE], self.data.train.y[:PROBE])

    def _run(self, run: RunState) -> History:
        samples = len(self.data.train)
        done = run.epoch * samples + min(run.batch * self.host_samples, samples)
        with Progress(self.epochs * samples, done, self.show_progress) as bar:
            for epoch in range(run.epoch, self.epochs):
                self._epoch(run, epoch, bar)
                self._finish_epoch(run, epoch)
                bar.note(run.rows[-1])
        if run.best_weights is not None:
            self.state = self.learner.state.from_dict(run.best_weights)
        if self.run_dir is not None:
            self.state.save(self.run_dir / WEIGHTS)
        self.history = History(tuple(run.rows), run.best_epoch)
        return self.history

    def _epoch(self, run: RunState, epoch: int, bar: Progress) -> None:
        train, order = self.data.train, self.order(epoch)
        starts = range(0, len(order), self.host_samples)
        self.state = replace(self.state, eta=self.learning_rate(epoch))
        for number in range(run.batch, len(starts)):
            begin = time.perf_counter()
            piece = train.take(order[starts[number] : starts[number] + self.host_samples])
            self.state, report = self.learner.train_epoch(self.state, piece.x, piece.y)
            run.batch = number + 1
            run.correct += round(report.accuracy * len(piece))
            run.seen += len(piece)
            for name, value in report.diagnostics._asdict().items():
                run.diagnostics[name] = run.diagnostics.get(name, 0.0) + value * len(piece)
            run.seconds += time.perf_counter() - begin
            bar.advance({"acc": run.correct / run.seen} if self.learner.answers_first else {}, by=len(piece))
            # The last piece's checkpoint is that of the epoch.
            if run.batch < len(starts):
                self._save(run)

    def _finish_epoch(self, run: RunState, epoch: int) -> None:
        settings, probe, valid, infer = self.state.settings, self._probe, self.data.valid, self.learner.infer
        answer = infer(self.state, probe.x)
        right = float((infer(self.state, valid.x).predictions == valid.y).mean()) if len(valid) else math.nan
        learnt = run.correct / run.seen if self.learner.answers_first else float((answer.predictions == probe.y).mean())
        spikes = sum(int(counts.sum()) for counts in answer.counts)
        row = EpochMetrics(
            epoch=epoch + 1,
            train_loss=_loss(settings, answer.z, probe.y),
            train_accuracy=learnt,
            valid_accuracy=right,
            spike_rate=spikes / (len(probe) * sum(settings.sizes[1:-1]) * settings.steps),
            learning_rate=self.learning_rate(epoch),
            seconds=run.seconds,
            diagnostics={name: total / run.seen for name, total in run.diagnostics.items()} | self._gain(),
        )
        run.rows.append(row)
        # Among equals the later epoch: it was trained at a lower learning rate.
        if right >= run.best_accuracy:
            run.best_epoch, run.best_accuracy, run.best_weights = row.epoch, right, self.state.to_dict()
        run.epoch, run.batch = epoch + 1, 0
        run.correct, run.seen, run.seconds, run.diagnostics = 0, 0, 0.0, {}
        self._save(run)

    def _gain(self) -> dict[str, float]:
        return {} if self.learner.choose_gain is None else {"gain": 2.0**self.state.settings.gain_bits}

    def _save(self, run: RunState) -> None:
        def tree() -> dict[str, Any]:
            return {"config": self.config(), "progress": checkpoints.progress_tree(run), "chip": self.state.to_dict()}

        self._folder.save(tree, run.rows)


def _continued(learner: Learner, settings: Settings, start: Any) -> State:
    """A checked network to continue from, at the learning rate of the start."""
    instance_of("start", start, learner.state, f"its settings are {type(settings).__name__}, so it must be of their kind")
    for field in fields(settings):
        ours, theirs = _plain(getattr(settings, field.name)), _plain(getattr(start.settings, field.name))
        if field.name != "gain_bits" and ours != theirs:
            raise ValueError(f"start was made with {field.name} = {theirs}, but settings have {ours}; pass start.settings")
    begun: State = replace(start, eta=settings.eta)
    return begun


def _digest_of(state: State) -> str:
    """Of all arrays and numbers."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Mapping):
            value = list(value.items())
        if isinstance(value, (list, tuple)):
            for entry in value:
                add(entry)
            return
        found.update(repr((value.dtype.str, value.shape)).encode() if isinstance(value, np.ndarray) else repr(value).encode())
        if isinstance(value, np.ndarray):
            found.update(np.ascontiguousarray(value).data)

    add(state.to_dict())
    return found.hexdigest()


def _check_fit(state: State, data: Dataset) -> None:
    sizes = state.settings.sizes
    if data.sequence:
        raise ValueError(f"data set {data.name!r} has sequences; a chip that learns is shown static samples")
    if (data.features, data.classes) != (sizes[0], sizes[-1]):
        raise ValueError(
            f"data set {data.name!r} has {data.features} features and {data.classes} classes, the network has {sizes[0]} "
            f"inputs and {sizes[-1]} outputs"
        )
    for split in (data.train, data.valid):
        if len(split):
            state.payload(split.x)


def _loss(settings: Settings, z: NDArray[np.int64], y: NDArray[np.int64]) -> float:
    """What the readout's error descends, of z in real numbers: cross-entropy, or half the squared error; mean over samples."""
    rows, output = np.arange(len(y)), z / settings.output_one
    if settings.error == "mse":
        output[rows, y] -= 1
        return float(0.5 * (output**2).sum(axis=1).mean())
    output -= output.max(axis=1, keepdims=True)
    return float((np.log(np.exp(output).sum(axis=1)) - output[rows, y]).mean())


def _plain(value: Any) -> Any:
    """As JSON and checkpoints give it back: lists for tuples, digests for masks."""
    if isinstance(value, Mapping):
        return {key: hashlib.sha256(np.ascontiguousarray(mask).data).hexdigest() for key, mask in value.items()}
    return list(value) if isinstance(value, tuple) else value
