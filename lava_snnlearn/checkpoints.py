"""Where a training run stands, and that on disk: weights, optimiser, generators and metrics in one file, written atomically."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from lava_snnlearn.distributed import from_first
from lava_snnlearn.files import FileFormatError, read_tree, write_text, write_tree
from lava_snnlearn.networks.classifier import Classifier
from lava_snnlearn.stored_runs import check_fields, check_optimiser, check_weights, same

CHECKPOINT, METRICS, CONFIG, WEIGHTS = "checkpoint.h5", "metrics.csv", "config.json", "weights.h5"


@dataclass(frozen=True)
class EpochMetrics:
    """One row of metrics.csv. Losses and accuracies are means over samples; spike_rate is spikes per neuron and step;
    valid_accuracy is NaN without a validation split; seconds is wall time; ``diagnostics`` are means over samples of what the
    method tells of itself, columns of their own in the table."""

    epoch: int
    train_loss: float
    train_accuracy: float
    valid_accuracy: float
    spike_rate: float
    learning_rate: float
    seconds: float
    diagnostics: dict[str, float] = field(default_factory=dict)

    def columns(self) -> dict[str, float]:
        """The row of metrics.csv: fields, then diagnostics, by name."""
        return {name: value for name, value in vars(self).items() if name != "diagnostics"} | self.diagnostics


def read_metrics(path: Path) -> tuple[EpochMetrics, ...]:
    """The rows of a metrics.csv.

    Raises:
        OSError: it cannot be read. FileFormatError: it is no such table.
    """
    known = [column.name for column in dataclasses.fields(EpochMetrics) if column.name not in ("epoch", "diagnostics")]
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    try:
        return tuple(
            EpochMetrics(
                int(row["epoch"]),
                **{name: float(row[name]) for name in known},
                diagnostics={name: float(value) for name, value in row.items() if name not in ("epoch", *known)},
            )
            for row in table
        )
    except (LookupError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} is not a valid table of metrics: {error}") from error


@dataclass
class RunState:
    """Where a run stands; everything that a checkpoint must hold besides weights, optimiser and generators."""

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    spikes: float = 0.0
    seconds: float = 0.0
    diagnostics: dict[str, float] = field(default_factory=dict)
    rows: list[EpochMetrics] = field(default_factory=list)
    best_epoch: int | None = None
    best_accuracy: float = -1.0
    best_weights: dict[str, Any] | None = None


def to_tree(value: Any) -> Any:
    """Tensors to arrays, integer keys to strings, tuples to lists, all the way down."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy().copy()
    if isinstance(value, Mapping):
        return {str(key): to_tree(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_tree(entry) for entry in value]
    return value


def to_tensors(value: Any) -> Any:
    """Arrays to tensors, all the way down."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        return {key: to_tensors(entry) for key, entry in value.items()}
    return [to_tensors(entry) for entry in value] if isinstance(value, list) else value


def load_weights(network: nn.Module, weights: Mapping[str, Any], where: str) -> None:
    """Load a state dict of arrays.

    Raises:
        FileFormatError: names or shapes differ from the network's.
    """
    try:
        network.load_state_dict(to_tensors(weights))
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{where} does not fit this network: {error}") from error


def compare_settings(stored: Any, now: Mapping[str, Any], where: str) -> None:
    """Refuse to continue a run with other settings.

    Raises:
        ValueError: names the first setting that differs. FileFormatError: ``stored`` is no dict of settings.
    """
    if not isinstance(stored, Mapping):
        raise FileFormatError(f"{where} is not a valid checkpoint: it holds no settings")
    for key, value in now.items():
        if not same(stored.get(key), value):
            raise ValueError(
                f"{where} was made with {key} = {stored.get(key)!r}, now it is {value!r}. Resume with the same settings, or "
                "start a new run in another run_dir."
            )


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's state as a tree."""
    state: dict[str, Any] = to_tree(optimiser.state_dict())
    return state


def load_optimiser(optimiser: torch.optim.Optimizer, tree: Mapping[str, Any], where: str) -> None:
    """Load :func:`optimiser_state`.

    Raises:
        FileFormatError: it belongs to another optimiser.
    """
    try:
        state = to_tensors(tree)
        check_optimiser(optimiser, state)
        optimiser.load_state_dict(
            {"state": {int(k): v for k, v in state["state"].items()}, "param_groups": state["param_groups"]}
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{where} holds the state of another optimiser: {error}") from error


def progress_tree(state: RunState) -> dict[str, Any]:
    """Where a run stands, as a tree."""
    return vars(state) | {"rows": [dataclasses.asdict(row) for row in state.rows]}


def read_progress(tree: Mapping[str, Any]) -> RunState:
    """Inverse of :func:`progress_tree`; raises LookupError, TypeError or ValueError where it is not one."""
    check_fields(RunState, tree)
    for row in tree["rows"]:
        check_fields(EpochMetrics, row)
    return RunState(**(dict(tree) | {"rows": [EpochMetrics(**row) for row in tree["rows"]]}))


def run_tree(
    config: Mapping[str, Any], state: RunState, network: Classifier, optimiser: torch.optim.Optimizer, device: torch.device
) -> dict[str, Any]:
    """All that a run needs to go on as if it had not been interrupted."""
    return {
        "config": dict(config),
        "progress": progress_tree(state),
        "network": to_tree(network.state_dict()),
        "memory": to_tree(network.memory),
        "optimiser": optimiser_state(optimiser),
        "generators": generator_states(device),
    }


def restore_run(
    tree: Mapping[str, Any], network: Classifier, optimiser: torch.optim.Optimizer, device: torch.device, where: str
) -> RunState:
    """Put network, optimiser and generators back to :func:`run_tree`; returns where the run stood.

    Raises:
        FileFormatError: the tree lacks something, or belongs to another network or optimiser.
    """
    try:
        state = read_progress(tree["progress"])
        load_weights(network, tree["network"], where)
        if state.best_weights is not None:
            check_weights(state.best_weights, tree["network"], "best epoch")
        network.memory = {name: value.to(device) for name, value in to_tensors(tree["memory"]).items()}
        load_optimiser(optimiser, tree["optimiser"], where)
        restore_generators(tree["generators"], device)
    except FileFormatError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise FileFormatError(f"{where} is not a valid checkpoint: {error}") from error
    return state


def generator_states(device: torch.device | None = None) -> dict[str, Any]:
    """States of torch's, numpy's and Python's global random number generators, and of ``device`` if it is a GPU."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 (users' methods may draw from it)
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state().numpy().copy(),
        "gpu": torch.cuda.get_rng_state(device).numpy().copy() if _is_gpu(device) else None,
        "numpy": [str(name), np.asarray(keys), int(position), int(has_gauss), float(gauss)],
        "python": [version, np.asarray(internal, dtype=np.uint32), gauss_next],
    }


def seed_generators(seed: int) -> None:
    """Seed torch's, numpy's and Python's global random number generators."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (users' methods may draw from it)
    random.seed(seed)


def restore_generators(states: Mapping[str, Any], device: torch.device | None = None) -> None:
    """Put the generators back to :func:`generator_states`; a GPU's only where the states are those of a GPU."""
    torch.set_rng_state(torch.from_numpy(states["torch"]))
    if _is_gpu(device) and states.get("gpu") is not None:
        torch.cuda.set_rng_state(torch.from_numpy(states["gpu"]), device)
    np.random.set_state(tuple(states["numpy"]))  # noqa: NPY002
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(int(word) for word in internal), gauss_next))


def _is_gpu(device: torch.device | None) -> TypeGuard[torch.device]:
    return device is not None and device.type == "cuda"


def save_weights(path: str | PathLike[str], network: nn.Module) -> None:
    """Write a network's state dict alone."""
    write_tree(path, to_tree(network.state_dict()), content="weights")


def read_weights(path: str | PathLike[str], network: nn.Module) -> None:
    """Load what :func:`save_weights` wrote.

    Raises:
        FileFormatError: missing, damaged, foreign, or of another network.
    """
    load_weights(network, read_tree(path, content="weights"), str(path))


def write_table(path: str | PathLike[str], columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV with these columns; read by anything."""
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, table.getvalue())


class RunFolder:
    """The files of a run: config.json, checkpoint.h5, metrics.csv and weights.h5. ``path`` None: there are none.

    Of several processes that train together, process 0 reads and writes for all: other machines need not have the folder.
    What fails there fails everywhere.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def has_checkpoint(self) -> bool:
        """Whether a run has come to its first checkpoint here."""
        return self.path is not None and from_first((self.path / CHECKPOINT).exists)

    def has_earlier(self, overwrite: bool) -> bool:
        """Whether there is an earlier run, which may be deleted.

        Raises:
            FileExistsError: there is one, and it may not.
        """
        found = self.has_checkpoint()
        if found and not overwrite:
            raise FileExistsError(
                f"{self.path} holds a checkpoint of an earlier run. Continue it with resume(), choose another run_dir, "
                "or pass overwrite=True to start anew."
            )
        return found

    def read_checkpoint(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The checkpoint's tree, to go on with these settings.

        Raises:
            FileFormatError: missing, damaged or foreign. ValueError: it was made with other settings.
        """
        assert self.path is not None
        path = self.path / CHECKPOINT
        tree = from_first(lambda: read_tree(path, content="checkpoint"))
        compare_settings(tree.get("config"), config, str(path))
        return tree

    def begin(self, config: Mapping[str, Any]) -> None:
        """Make room for a new run: what an earlier one left is deleted."""

        def clear(path: Path) -> None:
            for name in (CHECKPOINT, METRICS, WEIGHTS):
                (path / name).unlink(missing_ok=True)

        self.claim(config)
        self._on_first(clear)

    def claim(self, config: Mapping[str, Any]) -> None:
        """Write config.json, which shows before any work is lost that the folder can be written; sweep up after killed runs."""

        def write(path: Path) -> None:
            write_text(path / CONFIG, json.dumps(config, indent=2) + "\n")
            for name in (CHECKPOINT, METRICS, CONFIG, WEIGHTS):
                for leftover in path.glob(f".{name}.*"):
                    leftover.unlink(missing_ok=True)

        self._on_first(write)

    def save(self, make: Callable[[], Mapping[str, Any]], rows: Sequence[EpochMetrics]) -> None:
        """Write a checkpoint of the tree that ``make`` gives, then the table."""
        self.save_checkpoint(make)
        self.save_metrics(rows)

    def save_checkpoint(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Write a checkpoint of the tree that ``make`` gives."""
        self._on_first(lambda path: write_tree(path / CHECKPOINT, make(), content="checkpoint"))

    def save_metrics(self, rows: Sequence[EpochMetrics]) -> None:
        """Write metrics.csv."""
        columns = [column.name for column in dataclasses.fields(EpochMetrics) if column.name != "diagnostics"]
        columns += rows[-1].diagnostics if rows else ()
        self.save_table(columns, [row.columns() for row in rows])

    def save_table(self, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write metrics.csv with these columns."""
        self._on_first(lambda path: write_table(path / METRICS, columns, rows))

    def save_weights(self, network: nn.Module) -> None:
        """Write weights.h5."""
        self._on_first(lambda path: save_weights(path / WEIGHTS, network))

    def _on_first(self, act: Callable[[Path], object]) -> None:
        path = self.path
        if path is not None:

            def quietly() -> None:
                act(path)

            from_first(quietly)
