"""Messages and neurons of a graph reasoner in integers, compiled by numba: one step of some samples, edge by edge.

Edges are those of :class:`~lava_snnlearn.graphs.graph.Graph`, sorted by pairs (relation, source): a pair's message is made once
and added to all of its targets. All arrays are int32 unless said; spikes are uint8 [T, B, N, D]. ``active`` int32 [B, N] is the
last step at which a node spiked, -1 for none, so that silent nodes cost nothing. ``row`` int64 [B]: each sample's row in the
tables of the distinct queries.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_MAX, MEMBRANE_SHIFT, MEMBRANE_UNIT
from lava_snnlearn.neurons.compiling import compiled, inlined


@inlined
def _gather(spikes: Any, b: int, u: int, now: int, delay: Any, factor: Any, message: Any) -> bool:
    """message[k] = factor[k] * s[now - delay[k], u, k] (0 for a negative step); False if nothing arrives."""
    some = False
    for k in range(len(message)):
        t = now - delay[k]
        if t >= 0 and spikes[t, b, u, k]:
            message[k] = factor[k]
            some = True
        else:
            message[k] = 0
    return some


@compiled
def add_messages(
    spikes: Any,
    now: int,
    longest: int,
    active: Any,
    row: Any,
    delays: Any,
    factors: Any,
    pair_source: Any,
    pair_relation: Any,
    pair_first: Any,
    target: Any,
    message: Any,
    total: Any,
) -> None:
    """total[b, v, k] += factor[q, r, k] * s[now - delay[q, r, k], u, k] over the edges (u, r, v).

    delays int64 [Q, R, D]; factors [Q, R, D]; message [D], room for one; total [B, N, D].
    """
    for b in range(total.shape[0]):
        q = row[b]
        for p in range(len(pair_source)):
            u = pair_source[p]
            if active[b, u] < 0 or active[b, u] < now - longest:
                continue
            r = pair_relation[p]
            if _gather(spikes, b, u, now, delays[q, r], factors[q, r], message):
                for e in range(pair_first[p], pair_first[p + 1]):
                    into = total[b, target[e]]
                    for k in range(len(message)):
                        into[k] += message[k]


@compiled
def add_products(
    spikes: Any,
    now: int,
    longest: int,
    active: Any,
    row: Any,
    delays: Any,
    matrices: Any,
    pair_source: Any,
    pair_relation: Any,
    pair_first: Any,
    target: Any,
    ones: Any,
    message: Any,
    product: Any,
    total: Any,
) -> None:
    """total[b, v, m] += sum_k matrix[q, r, k, m] s[now - delay[q, r, k], u, k] over the edges (u, r, v).

    matrices [Q, R, D, D], transposed; ones [D]; message, product [D], room for one; total [B, N, D].
    """
    for b in range(total.shape[0]):
        q = row[b]
        for p in range(len(pair_source)):
            u = pair_source[p]
            if active[b, u] < 0 or active[b, u] < now - longest:
                continue
            r = pair_relation[p]
            if _gather(spikes, b, u, now, delays[q, r], ones, message):
                product[:] = 0
                for k in range(len(message)):
                    if message[k]:
                        for m in range(len(product)):
                            product[m] += matrices[q, r, k, m]
                for e in range(pair_first[p], pair_first[p + 1]):
                    into = total[b, target[e]]
                    for m in range(len(product)):
                        into[m] += product[m]


@compiled
def multiply(sent: Any, weight: Any, shift: int, total: Any) -> None:
    """total[b, v, m] += (sum_k weight[k, m] sent[b, v, k]) << shift; sent [B, N, D] of any integers, weight transposed."""
    for b in range(sent.shape[0]):
        for v in range(sent.shape[1]):
            into = total[b, v]
            for k in range(sent.shape[2]):
                value = sent[b, v, k]
                if value:
                    for m in range(len(into)):
                        into[m] += (weight[k, m] * value) << shift


@inlined
def _advance_row(
    current: Any, membrane: Any, arriving: Any, bias: Any, keep_u: float, keep_v: float, theta: int, spikes: Any, charged: Any
) -> tuple[int, int, int, int]:
    """One step of D neurons; spikes, clipped, wrapped, largest magnitude that arrived.

    In float64, which vector code can multiply: a leak is ``trunc(x * (4096 - d) / 4096)``, of 24 + 12 bits, and so exact.
    """
    limit, top = float(MEMBRANE_MAX + 1), float(MEMBRANE_MAX)
    fired, clipped, wrapped, worst = 0, 0, 0, 0
    for k in range(len(current)):
        heard = arriving[k]
        worst = max(worst, abs(heard))
        left = np.trunc(current[k] * keep_u) + float(heard) * MEMBRANE_UNIT
        u = left - 2 * limit if left > limit else left
        u = left + 2 * limit if left <= -limit else u
        v = np.trunc(membrane[k] * keep_v) + u + bias[k]
        kept = min(max(v, -top), top)
        fires = kept > theta
        wrapped += u != left
        clipped += kept != v
        fired += fires
        current[k] = np.int32(u)
        membrane[k] = np.int32(0.0 if fires else kept)
        charged[k] = np.int32(kept)
        spikes[k] = fires
    return fired, clipped, wrapped, worst


@compiled
def advance(
    current: Any,
    membrane: Any,
    arriving: Any,
    source: Any,
    bias: Any,
    du: int,
    dv: int,
    vth: int,
    step: int,
    decode: int,
    spikes: Any,
    charged: Any,
    features: Any,
    counts: Any,
    active: Any,
    seen: Any,
) -> None:
    """:func:`lava_snnlearn.fixed_point.arithmetic.lif_step` of all neurons, in place, and what is kept of it.

    current, membrane, arriving int32 [B, N, D]; source int64 [B], the nodes with the bias int64 [B, D] (1/64 weight units);
    spikes uint8 [B, N, D] receives this step's, charged int32 [B, N, D] (or [1, 1, D]: not kept) the membranes before the
    reset; features int64 [B, N, D] += decode and counts int64 [B, N] += 1 for each; active as in the module; seen int64 [3]:
    clipped membranes and wrapped currents are added, the largest magnitude that arrived is kept.
    """
    keep_u, keep_v, theta = (DECAY_ONE - 1 - du) / DECAY_ONE, (DECAY_ONE - dv) / DECAY_ONE, vth << MEMBRANE_SHIFT
    silent, every = np.zeros(current.shape[2], np.int64), charged.shape == current.shape
    for b in range(current.shape[0]):
        for n in range(current.shape[1]):
            row = charged[b, n] if every else charged[0, 0]
            own = bias[b] if n == source[b] else silent
            fired, clipped, wrapped, worst = _advance_row(
                current[b, n], membrane[b, n], arriving[b, n], own, keep_u, keep_v, theta, spikes[b, n], row
            )
            seen[0] += clipped
            seen[1] += wrapped
            seen[2] = max(seen[2], worst)
            if fired:
                counts[b, n] += fired
                active[b, n] = step
                for k in range(len(own)):
                    features[b, n, k] += decode * spikes[b, n, k]
