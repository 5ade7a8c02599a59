"""Spiking message passing on a graph with delays: all time steps of a batch of queries in one call, forward and backward.

Every node has D neurons. For a query from source node x with code b [D], delays dhat [R, D] (whole steps; R relations) and
weights omega [R, D] (1 if there are none), in this order (GRSNN, ICML 2024; grsnn spec, section 1.2):

    t = 0:  I = 0;  u = B;  s[0] = H(u - Vth);  u <- u (1 - s[0])                       B_v = b at v = x, 0 elsewhere
    t > 0:  A_v[k] = sum over edges (y, r, v) of omega[r,k] s_y[t - hop - dhat[r,k], k]   (0 for a negative step)
            x_v = c (W [s_v[t-1]; A_v] + w0)                                             (W A_v without self connection)
            I <- a I + kappa x_v;   u <- a u + I + B_v;   s[t] = H(u - Vth);   u <- u (1 - s[t])
    h_v = sum_t s_v[t] lam^t / Z,   Z = sum_t lam^t

with H(0) = 1, a = exp(-1/tau), kappa = e/tau. The gradient goes through current, membrane and reset, with the surrogate
H'(x) = 4 sg(4x) (1 - sg(4x)); that of a delay is the sum over edges and t of dL/dm_e[t] slope[t - hop - dhat], with one of the
slopes of :mod:`lava_snnlearn.neurons.psp`, and goes straight through the rounding.

All edges with the same (relation, source) carry the same message, which is made once: the pairs of :class:`Graph`.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from lava_snnlearn.checks import known_name
from lava_snnlearn.graphs.graph import Graph
from lava_snnlearn.networks.message_reference import propagate_reference
from lava_snnlearn.networks.propagation import Propagated, Propagation, Tables

BACKENDS = ("auto", "fused", "torch")
"""Compiled kernels where they can run, else plain torch; the kernels or an error; plain torch."""


def propagate(
    graph: Graph,
    rule: Propagation,
    tables: Tables,
    source: Tensor,
    row: Tensor,
    *,
    record: bool = False,
    backend: str = "auto",
) -> Propagated:
    """Run B queries, each on its own; differentiable with respect to the tables.

    Args:
        graph: N nodes and R relations.
        source: int64 [B], the node of each query, which its code is injected into.
        row: int64 [B], the row of each query in the tables.
        record: also return the spikes.
        backend: one of :data:`BACKENDS`.

    Raises:
        UnknownNameError: another backend. ValueError: backend="fused" where the kernels cannot run.
    """
    known_name("backend", backend, BACKENDS)
    obstacle = None if backend == "torch" else _obstacle(tables.code)
    if obstacle is not None and backend == "fused":
        raise ValueError(f'the kernels of backend="fused" {obstacle}; use backend="auto"')
    fused = _fused()
    if backend == "torch" or obstacle is not None or fused is None:
        return propagate_reference(graph, rule, tables, source, row).propagated(record)
    found: Propagated = fused.propagate_fused(graph, rule, tables, source, row, record=record)
    return found


def _obstacle(code: Tensor) -> str | None:
    """Why the kernels cannot run on tables like ``code``, or None."""
    if code.device.type != "cpu":
        return f"run on the CPU, not on {code.device}"
    if code.dtype not in (torch.float32, torch.float64):
        return f"compute in float32 and float64, not in {code.dtype}"
    return None if _fused() is not None else "need numba, which cannot be imported"


@cache
def _fused() -> ModuleType | None:
    try:
        from lava_snnlearn.networks import message_fused
    except ImportError:
        return None
    return message_fused
