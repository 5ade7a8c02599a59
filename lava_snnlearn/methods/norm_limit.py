"""The bound on the norm of the feedback's weight by which IDE and SPIDE keep their equilibrium unique (ide_spide spec, 1.4)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lava_snnlearn.checks import known_name, real_number
from lava_snnlearn.methods.base import check_spiking
from lava_snnlearn.networks.feedback import rows_of
from lava_snnlearn.networks.network import Network

NORM_KINDS = ("spectral", "frobenius")
_POWER_STEPS = 30
_EXACT_NORM = 256
"""Matrices up to this side have their spectral norm computed exactly."""


def check_limit(limit: Any, kind: str) -> None:
    """Check a bound on the norm of the feedback; raises ValueError, TypeError, UnknownNameError."""
    known_name("norm_kind", kind, NORM_KINDS)
    if limit is not None:
        real_number("norm_limit", limit)
        if not (math.isfinite(limit) and limit > 0):
            raise ValueError(f"norm_limit is {limit}; it must be finite and > 0, or None for no limit")


@torch.no_grad()
def project(network: Network, limit: float | None, kind: str = "spectral") -> None:
    """Scale the feedback's weight down to the norm ``limit`` where it is above; of kernels, the norm of the matrix of rows."""
    check_spiking(network)
    if limit is None or network.feedback is None:
        return
    rows = rows_of(network.feedback)
    size = rows.norm()
    # The Frobenius norm is never below the spectral one, so most calls need no more than it.
    if kind == "spectral" and float(size) > limit:
        size = spectral_norm(rows)
    if float(size) > limit:
        network.feedback.weight.mul_(limit / size)


def spectral_norm(matrix: Tensor) -> Tensor:
    """Largest singular value: exact up to 256 rows or columns; of larger matrices the largest on the space that 30 steps of a
    power iteration pass through, which is less by far below 1 % (the last step alone, by up to 3 %)."""
    if min(matrix.shape) <= _EXACT_NORM:
        return torch.linalg.matrix_norm(matrix, 2)
    # A draw of its own: no matrix is orthogonal to it by its structure, and the run's random state stays as it is.
    start = torch.randn(matrix.shape[1], 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    space = torch.linalg.qr(start.to(matrix)).Q
    for _ in range(_POWER_STEPS):
        space = torch.linalg.qr(torch.cat([space, matrix.t() @ (matrix @ space[:, -1:])], 1)).Q
    return torch.linalg.matrix_norm(matrix @ space, 2)
