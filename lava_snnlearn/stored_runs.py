"""What a checkpoint must hold for a run to go on: a sound file whose content does not fit is refused before it does harm."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lava_snnlearn.checks import instance_of, real_number, whole_number, within

_LARGEST = 1 << 62


def _count(where: str, value: Any) -> None:
    within(where, whole_number(where, value), 0, _LARGEST, "It counts.")


def _numbers(where: str, value: Any) -> None:
    instance_of(where, value, Mapping, "it must be a dict of numbers")
    for name, number in value.items():
        real_number(f"{where} {name}", number)


def _mapping(where: str, value: Any) -> None:
    instance_of(where, value, Mapping, "it must be a dict")


_CHECKS = {
    "int": _count,
    "float": real_number,
    "dict[str, float]": _numbers,
    "Mapping[str, float]": _numbers,
    "int | None": lambda where, value: None if value is None else _count(where, value),
    "dict[str, Any] | None": lambda where, value: None if value is None else _mapping(where, value),
}
"""By the annotation of a field; others are left to their own checks."""


def check_fields(kind: type, values: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError where a value is not of the type that the field of this dataclass has."""
    for field in dataclasses.fields(kind):
        if field.name in values and field.type in _CHECKS:
            _CHECKS[str(field.type)](field.name, values[field.name])


def same(stored: Any, now: Any) -> bool:
    """Whether two values of settings are equal; arrays, which are no settings, equal nothing."""
    try:
        return bool(stored == now)
    except ValueError:
        return False


def check_weights(weights: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    """Raise ValueError unless these are arrays of the expected names and shapes."""
    if weights.keys() != expected.keys():
        raise ValueError(f"{where} has the entries {sorted(weights)}, expected {sorted(expected)}")
    for name, value in weights.items():
        if not isinstance(value, np.ndarray) or value.shape != np.shape(expected[name]) or not value.dtype.isnative:
            raise ValueError(f"{where}: {name} is no array of shape {np.shape(expected[name])}")


def check_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Raise ValueError where options are of other types than the optimiser's, or memories of other shapes than its weights."""
    for group, stored in zip(optimiser.param_groups, state["param_groups"], strict=True):
        for name, value in group.items():
            if name != "params" and not _alike(value, stored[name]):
                raise ValueError(f"option {name} of the optimiser is {stored[name]!r}, expected something like {value!r}")
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for index, memory in state["state"].items():
        within("number of a weight", int(index), 0, len(weights) - 1, "The optimiser has no more.")
        for name, value in memory.items():
            fits = value is None or (isinstance(value, Tensor) and value.shape in ((), weights[int(index)].shape))
            if not fits:
                raise ValueError(f"{name} of weight {index} is no array of shape {tuple(weights[int(index)].shape)}")


def _alike(value: Any, stored: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return isinstance(stored, (tuple, list)) and len(stored) == len(value) and all(map(_alike, value, stored))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return isinstance(stored, (int, float)) and not isinstance(stored, bool)
    return type(value) is type(stored)
