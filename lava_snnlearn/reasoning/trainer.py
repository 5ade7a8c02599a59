"""ReasoningTrainer: a seeded, resumable training loop for graph reasoners."""

from __future__ import annotations

import math
import time
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lava_snnlearn import checkpoints, distributed
from lava_snnlearn.checkpoints import CHECKPOINT, RunFolder
from lava_snnlearn.checks import at_least, instance_of, known_name, positive
from lava_snnlearn.data.batches import description
from lava_snnlearn.data.knowledge_graph import InductiveTask, KnowledgeGraph
from lava_snnlearn.methods.grsnn import GRSNN
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.progress import Progress
from lava_snnlearn.reasoning.evaluation import check_model, evaluate
from lava_snnlearn.reasoning.history import ReasoningEpoch, ReasoningHistory, TrainingState, restore_state, state_tree
from lava_snnlearn.reasoning.lessons import Lessons

KEEP = ("best", "last")


class ReasoningTrainer:
    """Trains a graph reasoner by a method on the queries of a knowledge graph.

    An update takes ``accumulate`` batches of ``batch_size`` training triples (h, r, t), each batch on a graph without the edges
    that the method removes: the first half of a batch asks (h, r, ?), the second (t, r + R, ?), the inverse relation.

    Same seed, same data, same number of threads: same bits, also when the run was killed and resumed in between.

    Args:
        model: trained in place.
        method: what is minimised, and against how many negatives.
        data: the graph and its queries; of an inductive task the graph for training.
        epochs, batch_size, accumulate: at least 1.
        learning_rate: of Adam.
        seed: order of the triples and negatives, at least 0 (initial weights are the caller's).
        steps_per_epoch: updates in an epoch; None: as many as the training triples make.
        validate_every: epochs from one validation to the next; the last epoch is always validated.
        valid_queries: validation triples that are asked, drawn once by the seed; None: all.
        keep: "best" ends with the weights of the epoch best on the validation triples (MRR, or AUROC of homogeneous graphs),
            "last" with those of the last epoch.
        run_dir: folder for config.json, metrics.csv, checkpoint.h5 and weights.h5; None writes nothing.
        checkpoint_batches: also write a checkpoint every so many updates; None: after each epoch only.
        progress: show a progress bar.
        device: torch device for the training.

    Raises:
        ValueError: a number out of range, a model and data that do not fit, no training triples, several processes.
        UnknownNameError: another ``keep``. TypeError: a model, method, data or number of another type.
    """

    def __init__(
        self,
        model: GraphReasoner,
        method: GRSNN,
        data: KnowledgeGraph | InductiveTask,
        *,
        epochs: int = 4,
        batch_size: int = 16,
        accumulate: int = 1,
        learning_rate: float = 5e-3,
        seed: int = 0,
        steps_per_epoch: int | None = None,
        validate_every: int = 1,
        valid_queries: int | None = None,
        keep: str = "best",
        run_dir: str | PathLike[str] | None = None,
        checkpoint_batches: int | None = None,
        progress: bool = True,
        device: str = "cpu",
    ) -> None:
        if distributed.launched() > 1:
            raise ValueError(f"{distributed.launched()} processes were started; graph reasoners train in one process")
        instance_of("method", method, GRSNN, "pass an instance, e.g. snn.methods.GRSNN()")
        graph = check_model(model, data, "train")
        self.model, self.method, self.data = model, method, data
        self.epochs, self.seed = at_least(1, "epochs", epochs), at_least(0, "seed", seed)
        self.batch_size, self.accumulate = at_least(1, "batch_size", batch_size), at_least(1, "accumulate", accumulate)
        positive("learning_rate", learning_rate)
        self.learning_rate, self.keep = float(learning_rate), known_name("keep", keep, KEEP)
        self.validate_every = at_least(1, "validate_every", validate_every)
        self.steps_per_epoch, self.valid_queries, self.checkpoint_batches = (
            None if number is None else at_least(1, name, number)
            for name, number in (
                ("steps_per_epoch", steps_per_epoch),
                ("valid_queries", valid_queries),
                ("checkpoint_batches", checkpoint_batches),
            )
        )
        self.show_progress, self.device = progress, distributed.own_device(device)
        self.run_dir = None if run_dir is None else Path(run_dir)
        self._folder = RunFolder(self.run_dir)
        self._lessons = Lessons(graph, method, self.batch_size, self.accumulate, self.seed, self.steps_per_epoch)

    def fit(self, *, overwrite: bool = False) -> ReasoningHistory:
        """Train from the model's present weights; afterwards it holds those of the epoch that is kept.

        Args:
            overwrite: start anew although run_dir holds a checkpoint.

        Raises:
            FileExistsError: run_dir holds a checkpoint of an earlier run. OSError: run_dir cannot be written.
            FloatingPointError: the loss became NaN or infinite; says where and what to try.
            ValueError: a query for which there are too few wrong candidates.
        """
        self._folder.has_earlier(overwrite)
        optimiser = self._optimiser()
        self._folder.begin(self.config())
        checkpoints.seed_generators(self.seed)
        return self._run(TrainingState(), optimiser)

    def resume(self) -> ReasoningHistory:
        """Continue the run in run_dir from its last checkpoint (or start it, if there is none yet); ends with the same bits
        as an uninterrupted run.

        Raises:
            ValueError: no run_dir, or other settings than those of the checkpoint. FileFormatError: a damaged checkpoint.
            OSError, FloatingPointError: as in :meth:`fit`.
        """
        if self.run_dir is None:
            raise ValueError("resume() needs a run_dir")
        if not self._folder.has_checkpoint():
            return self.fit()
        tree = self._folder.read_checkpoint(self.config())
        optimiser = self._optimiser()
        state = restore_state(tree, self.model, optimiser, self.device, str(self.run_dir / CHECKPOINT))
        self._folder.claim(self.config())
        # A run killed between the last checkpoint and its table would never write the table otherwise.
        self._save_table(state)
        return self._run(state, optimiser)

    def config(self) -> dict[str, Any]:
        """Settings that decide the result, as plain values; a resumed run must have the same."""
        return self._settings

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return {
            "method": description(self.method),
            "model": f"{self.model!r} {self.model.rule}",
            "dtype": str(next(self.model.parameters()).dtype),
            "data": self.data.name,
            "data_sha256": self._lessons.digest(),
            "epochs": self.epochs,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "learning_rate": self.learning_rate,
            "steps_per_epoch": self.steps_per_epoch,
            "validate_every": self.validate_every,
            "valid_queries": self.valid_queries,
            "keep": self.keep,
        }

    def _optimiser(self) -> torch.optim.Optimizer:
        self.model.to(self.device)
        return torch.optim.Adam((p for p in self.model.parameters() if p.requires_grad), lr=self.learning_rate)

    def _run(self, state: TrainingState, optimiser: torch.optim.Optimizer) -> ReasoningHistory:
        steps = self._lessons.steps
        with Progress(self.epochs * steps, state.epoch * steps + state.step, self.show_progress) as bar:
            for epoch in range(state.epoch, self.epochs):
                self._epoch(epoch, state, optimiser, bar)
                self._finish_epoch(state, optimiser)
                bar.tell(_line(state.rows[-1]))
        if state.best_weights is not None:
            checkpoints.load_weights(self.model, state.best_weights, "best epoch")
        self.model.eval()
        self._folder.save_weights(self.model)
        return ReasoningHistory(tuple(state.rows), state.best_epoch)

    def _epoch(self, epoch: int, state: TrainingState, optimiser: torch.optim.Optimizer, bar: Progress) -> None:
        # The order depends on seed and epoch alone, so that a run resumed in the middle of an epoch sees the same batches.
        updates = self._lessons.updates(epoch)
        self.model.train()
        for number in range(state.step, len(updates)):
            begin = time.perf_counter()
            loss, spikes = self._update(optimiser, epoch, number, updates[number])
            if not math.isfinite(loss):
                raise self._diverged(f"the loss became {loss}", epoch, number)
            if not all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters()):
                raise self._diverged("weights became NaN or infinite", epoch, number)
            state.add(loss, spikes, len(updates[number]), time.perf_counter() - begin)
            bar.advance({"loss": state.loss / state.seen, "rate": state.spikes / state.seen})
            if self.checkpoint_batches is not None and state.step % self.checkpoint_batches == 0:
                self._save(state, optimiser)

    def _update(
        self, optimiser: torch.optim.Optimizer, epoch: int, number: int, triples: NDArray[np.int64]
    ) -> tuple[float, float]:
        """One update of the weights; losses and spike rates, summed over its queries."""
        optimiser.zero_grad()
        loss = spikes = 0.0
        for lesson in self._lessons.of_update(triples, epoch, number):
            source, query, candidates = (
                torch.from_numpy(a).to(self.device) for a in (lesson.source, lesson.query, lesson.candidates)
            )
            size = len(lesson.source)
            result = self.method.gradients(self.model, lesson.graph, source, query, candidates, share=size / len(triples))
            loss, spikes = loss + result.loss * size, spikes + result.spike_rate * size
        optimiser.step()
        return loss, spikes

    def _diverged(self, what: str, epoch: int, number: int) -> FloatingPointError:
        kept = self._folder.has_checkpoint()
        return FloatingPointError(
            f"{what} in epoch {epoch + 1}, update {number + 1}. Lower the learning rate (now {self.learning_rate:.3g}) or the "
            f"model's scale.{f' The checkpoint in {self.run_dir} is that of the last good state.' if kept else ''}"
        )

    def _finish_epoch(self, state: TrainingState, optimiser: torch.optim.Optimizer) -> None:
        number = state.epoch + 1
        asked = number % self.validate_every == 0 or number == self.epochs
        valid = self._validate() if asked else {}
        state.next_epoch(
            ReasoningEpoch(
                epoch=number,
                loss=state.loss / state.seen,
                spike_rate=state.spikes / state.seen,
                learning_rate=self.learning_rate,
                seconds=state.seconds,
                valid=valid,
            )
        )
        if self.keep == "best" and valid and (value := next(iter(valid.values()))) > state.best_value:
            state.best_epoch, state.best_value = number, value
            state.best_weights = checkpoints.to_tree(self.model.state_dict())
        self._save(state, optimiser)

    def _validate(self) -> dict[str, float]:
        """Measures of the validation split, the decisive one first; none if there is no split."""
        if len(self._lessons.graph.valid) == 0:
            return {}
        return evaluate(self.model, self.data, "valid", limit=self.valid_queries, seed=self.seed).measures

    def _save(self, state: TrainingState, optimiser: torch.optim.Optimizer) -> None:
        self._folder.save_checkpoint(lambda: state_tree(self.config(), state, self.model, optimiser, self.device))
        self._save_table(state)

    def _save_table(self, state: TrainingState) -> None:
        measured = next((row for row in reversed(state.rows) if row.valid), None)
        columns = ReasoningEpoch.names(() if measured is None else tuple(measured.valid))
        self._folder.save_table(columns, [dict.fromkeys(columns, math.nan) | row.columns() for row in state.rows])


def _line(row: ReasoningEpoch) -> str:
    told = [f"{name} {value:.4f}" for name, value in row.valid.items() if name in ("mrr", "hits@10", "auroc", "ap")]
    valid = f"  valid {'  '.join(told)}" if told else ""
    return f"epoch {row.epoch:3d}  loss {row.loss:.4f}{valid}  rate {row.spike_rate:.3f}  {row.seconds:.1f} s"
