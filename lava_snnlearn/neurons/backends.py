"""Which code runs the neurons' time loops: numba on the CPU, Triton on a GPU, or the plain torch loop that they equal."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from lava_snnlearn.checks import known_name
from lava_snnlearn.neurons.surrogate import FUSED, Surrogate

BACKENDS = ("auto", "reference", "numba", "triton")
"""Names that :func:`backend` and :func:`set_backend` know. "auto" takes the fastest that can run, "reference" is torch."""

_BY_DEVICE = {"cpu": "numba", "cuda": "triton"}
_chosen = "auto"


def set_backend(name: str) -> None:
    """Choose the backend of the neurons for the whole process, one of :data:`BACKENDS`.

    Raises:
        UnknownNameError: another name.
    """
    global _chosen
    _chosen = known_name("backend", name, BACKENDS)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Like :func:`set_backend`, until the end of the ``with`` block.

    Raises:
        UnknownNameError: another name.
    """
    before = _chosen
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


def kernels_for(current: Tensor, surrogate: Surrogate | None = None) -> ModuleType | None:
    """The module whose kernels take ``current``; None where the plain torch loop has to do.

    Raises:
        ValueError: a backend was chosen by name that cannot run this.
    """
    if _chosen == "reference":
        return None
    name = _BY_DEVICE.get(current.device.type) if _chosen == "auto" else _chosen
    if name is None:
        return None
    obstacle = _obstacle(name, current, surrogate)
    if obstacle is None:
        return _module(name)
    if _chosen == "auto":
        return None
    raise ValueError(f"the backend {name!r} {obstacle}. Use backend 'auto', which takes what can run.")


def _obstacle(name: str, current: Tensor, surrogate: Surrogate | None) -> str | None:
    """Why the backend ``name`` cannot run this, or None."""
    if surrogate is not None and type(surrogate) not in FUSED:
        return f"has no kernel for the surrogate {type(surrogate).__name__}"
    if current.dtype not in (torch.float32, torch.float64):
        return f"computes in float32 and float64, not in {current.dtype}"
    try:
        module = _module(name)
    except ImportError as error:
        return f"cannot be imported ({error})"
    if current.device.type not in module.DEVICES:
        return f"cannot run on {current.device}"
    return None


@cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(f"lava_snnlearn.neurons.{name}_kernels")
