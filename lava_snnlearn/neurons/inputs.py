"""What the callers of the kernels share: checks of a current and of what goes with it, and the arrays as kernels take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lava_snnlearn.checks import positive, tensor, whole_number
from lava_snnlearn.neurons.lif import LIF
from lava_snnlearn.neurons.surrogate import FUSED


@dataclass(frozen=True)
class Dynamics:
    """What a kernel needs to know of a neuron; ``kind`` is the surrogate's number in ``FUSED``, ``a`` its shape parameter."""

    lam: float
    threshold: float
    hard: bool
    detach: bool
    kind: int
    a: float
    trace_lam: float = 0.0


def extent(current: Tensor, steps: int | None, name: str = "current") -> tuple[int, tuple[int, ...]]:
    """T and [B, ...] of ``current``: [T, B, ...], or with ``steps`` = T a static one [B, ...]."""
    tensor(name, current)
    if not current.is_floating_point():
        raise TypeError(f"{name} has dtype {current.dtype}; it must be floating point, convert it with .float()")
    if steps is not None:
        length = whole_number("steps", steps)
        if length < 1:
            raise ValueError(f"steps is {length}; it must be at least 1 time step")
        return length, tuple(current.shape)
    if current.dim() == 0 or len(current) == 0:
        raise ValueError(
            f"{name} has shape {tuple(current.shape)}; it must be [T, B, ...] with T at least 1 time step (or give steps)"
        )
    return len(current), tuple(current.shape[1:])


def same_kind(name: str, value: Tensor | None, shape: Sequence[int], current: Tensor) -> None:
    """Refuse ``value`` unless it is None or has ``shape``, and dtype and device of ``current``."""
    if value is None:
        return
    tensor(name, value)
    found = (tuple(value.shape), value.dtype, value.device)
    needed = (tuple(shape), current.dtype, current.device)
    if found != needed:
        raise ValueError(
            f"{name} is {found[1]} of shape {found[0]} on {found[2]}; "
            f"beside this current it must be {needed[1]} of shape {needed[0]} on {needed[2]}"
        )


def threshold_of(neuron: LIF, threshold: float | None) -> float:
    """``threshold``, or the neuron's own if it is None; refused unless finite and > 0."""
    if threshold is None:
        return float(neuron.threshold)
    positive("threshold", threshold)
    return float(threshold)


def dynamics_of(neuron: LIF, threshold: float, trace_lam: float | None = None) -> Dynamics:
    """The numbers of ``neuron``, whose surrogate is one of ``FUSED``, at a threshold."""
    surrogate = neuron.surrogate
    hard, detach = neuron.reset == "zero", bool(neuron.detach_reset)
    return Dynamics(neuron.lam, threshold, hard, detach, FUSED[type(surrogate)], float(surrogate.a), float(trace_lam or 0.0))


def by_step(current: Tensor, steps: int | None) -> tuple[Tensor, ...]:
    """The current of each step."""
    return current.unbind(0) if steps is None else (current,) * steps


def as_rows(values: Tensor, length: int = 1, steps: int | None = None) -> Tensor:
    """``values`` as a contiguous [T, N], or [1, N] if they are static or their steps are one and the same memory."""
    values = values.detach()
    if steps is not None:
        length = 1
    elif length > 1 and values.stride(0) == 0:
        values, length = values[:1], 1
    return values.reshape(length, values.numel() // length).contiguous()


def row_copy(values: Tensor) -> Tensor:
    """A copy of ``values`` [B, ...] as [N], which a kernel may write to."""
    return values.detach().reshape(-1).clone(memory_format=torch.contiguous_format)
