"""Training state on disk: weights, optimiser, random number generators and metrics in one HDF5 file, written atomically."""

from __future__ import annotations

import csv
import dataclasses
import io
import random
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lava_snnlearn.files import FileFormatError, read_tree, write_text, write_tree


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
    except RuntimeError as error:
        raise FileFormatError(f"{where} does not fit this network: {error}") from error


def compare_settings(stored: Any, now: Mapping[str, Any], where: str) -> None:
    """Refuse to continue a run with other settings.

    Raises:
        ValueError: names the first setting that differs. FileFormatError: ``stored`` is no dict of settings.
    """
    if not isinstance(stored, Mapping):
        raise FileFormatError(f"{where} is not a valid checkpoint: it holds no settings")
    for key, value in now.items():
        if value != stored.get(key):
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
    state = to_tensors(tree)
    try:
        optimiser.load_state_dict(
            {"state": {int(k): v for k, v in state["state"].items()}, "param_groups": state["param_groups"]}
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{where} holds the state of another optimiser: {error}") from error


def generator_states() -> dict[str, Any]:
    """States of torch's, numpy's and Python's global random number generators."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 (users' methods may draw from it)
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state().numpy().copy(),
        "numpy": [str(name), np.asarray(keys), int(position), int(has_gauss), float(gauss)],
        "python": [version, np.asarray(internal, dtype=np.uint32), gauss_next],
    }


def seed_generators(seed: int) -> None:
    """Seed torch's, numpy's and Python's global random number generators."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (users' methods may draw from it)
    random.seed(seed)


def restore_generators(states: Mapping[str, Any]) -> None:
    """Put the generators back to :func:`generator_states`."""
    torch.set_rng_state(torch.from_numpy(states["torch"]))
    np.random.set_state(tuple(states["numpy"]))  # noqa: NPY002
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(int(word) for word in internal), gauss_next))


def save_weights(path: str | PathLike[str], network: nn.Module) -> None:
    """Write a network's state dict alone."""
    write_tree(path, to_tree(network.state_dict()), content="weights")


def read_weights(path: str | PathLike[str], network: nn.Module) -> None:
    """Load what :func:`save_weights` wrote.

    Raises:
        FileFormatError: missing, damaged, foreign, or of another network.
    """
    load_weights(network, read_tree(path, content="weights"), str(path))


def write_table(path: str | PathLike[str], columns: Sequence[str], rows: Sequence[Any]) -> None:
    """Write dataclass instances as CSV with these columns; read by anything."""
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    write_text(path, table.getvalue())
