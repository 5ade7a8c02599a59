"""Where the training of a graph reasoner stands, and what it gave epoch by epoch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lava_snnlearn import checkpoints
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.stored_runs import check_fields, check_weights


@dataclass(frozen=True)
class ReasoningEpoch:
    """One row of metrics.csv: ``loss`` (mean over queries), ``spike_rate`` (spikes per neuron and step), ``seconds`` of wall
    time for the training alone; ``valid``: measures of the validation queries by name, empty where they were not asked (NaN in
    the table)."""

    epoch: int
    loss: float
    spike_rate: float
    learning_rate: float
    seconds: float
    valid: dict[str, float] = field(default_factory=dict)

    def columns(self) -> dict[str, float]:
        """The row of metrics.csv: fields, then validation measures as ``valid_mrr`` and so on."""
        own = {name: value for name, value in vars(self).items() if name != "valid"}
        return own | {f"valid_{name}": value for name, value in self.valid.items()}

    @classmethod
    def names(cls, valid: Sequence[str]) -> list[str]:
        """The columns of a table with these validation measures."""
        own = [column.name for column in dataclasses.fields(cls) if column.name != "valid"]
        return own + [f"valid_{name}" for name in valid]


@dataclass(frozen=True)
class ReasoningHistory:
    """What a training run gave: its epochs, and the one whose weights were kept (None: the last)."""

    epochs: tuple[ReasoningEpoch, ...]
    best_epoch: int | None


@dataclass
class TrainingState:
    """Where a run stands; ``step`` counts the updates of this epoch, the sums are those over its queries so far."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    spikes: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    rows: list[ReasoningEpoch] = field(default_factory=list)
    best_epoch: int | None = None
    best_value: float = -math.inf
    best_weights: dict[str, Any] | None = None

    def add(self, loss: float, spikes: float, queries: int, seconds: float) -> None:
        """Sums over the queries of an update."""
        self.step += 1
        self.loss, self.spikes, self.seen = self.loss + loss, self.spikes + spikes, self.seen + queries
        self.seconds += seconds

    def next_epoch(self, row: ReasoningEpoch) -> None:
        """This epoch is done."""
        self.rows.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        self.loss, self.spikes, self.seen, self.seconds = 0.0, 0.0, 0, 0.0


def state_tree(
    config: Mapping[str, Any], state: TrainingState, model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device
) -> dict[str, Any]:
    """All that a run needs to go on as if it had not been interrupted."""
    return {
        "config": dict(config),
        "progress": vars(state) | {"rows": [_row_tree(row) for row in state.rows]},
        "model": checkpoints.to_tree(model.state_dict()),
        "optimiser": checkpoints.optimiser_state(optimiser),
        "generators": checkpoints.generator_states(device),
    }


def restore_state(
    tree: Mapping[str, Any], model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device, where: str
) -> TrainingState:
    """Put model, optimiser and generators back to :func:`state_tree`; returns where the run stood.

    Raises:
        FileFormatError: the tree lacks something, or belongs to another model or optimiser.
    """
    try:
        progress = dict(tree["progress"])
        check_fields(TrainingState, progress)
        state = TrainingState(**(progress | {"rows": [_row_of(row) for row in progress["rows"]]}))
        checkpoints.load_weights(model, tree["model"], where)
        if state.best_weights is not None:
            check_weights(state.best_weights, tree["model"], "best epoch")
        checkpoints.load_optimiser(optimiser, tree["optimiser"], where)
        checkpoints.restore_generators(tree["generators"], device)
    except FileFormatError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise FileFormatError(f"{where} is not a valid checkpoint of a graph reasoner: {error}") from error
    return state


def _row_tree(row: ReasoningEpoch) -> dict[str, Any]:
    """The measures as a list: a file does not keep the order of a dict, and the decisive one is the first."""
    return vars(row) | {"valid": [{"name": name, "value": value} for name, value in row.valid.items()]}


def _row_of(tree: Mapping[str, Any]) -> ReasoningEpoch:
    values = dict(tree) | {"valid": {measure["name"]: measure["value"] for measure in tree["valid"]}}
    check_fields(ReasoningEpoch, values)
    return ReasoningEpoch(**values)
