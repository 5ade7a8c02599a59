"""Spiking message passing (GRSNN) as one writes it first: every edge's message is gathered and scattered, in plain torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lava_snnlearn.graphs import Graph
from lava_snnlearn.networks.propagation import Propagation, Tables
from lava_snnlearn.neurons.psp import exact_slope
from lava_snnlearn.neurons.surrogate import Sigmoid


def propagate_per_edge(graph: Graph, rule: Propagation, tables: Tables, source: Tensor) -> Tensor:
    """Features [B, N, D] of B queries (source int64 [B]), each with a row of the tables; without relation weights."""
    starts, relation, ends = (torch.tensor(np.asarray(column)) for column in (graph.source, graph.relation, graph.target))
    delay = tables.delay[:, relation]
    steps = delay.detach().round()
    injected = tables.code.new_zeros(len(source), graph.nodes, tables.code.shape[1])
    injected = injected.index_put((torch.arange(len(source)), source), tables.code)
    fire, current, membrane = Sigmoid(4.0), torch.zeros_like(injected), torch.zeros_like(injected)
    spikes: list[Tensor] = []
    slopes: list[Tensor] = []
    for t in range(rule.steps):
        if t:
            message, slope = torch.zeros_like(steps), torch.zeros_like(steps)
            for d in range(min(rule.max_delay, t - rule.hop) + 1):
                message = torch.where(steps == d, spikes[t - rule.hop - d][:, starts], message)
                slope = torch.where(steps == d, slopes[t - rule.hop - d][:, starts], slope)
            message = message + (delay - delay.detach()) * slope
            received = torch.zeros_like(injected).index_add(1, ends, message)
            x = rule.scale * torch.nn.functional.linear(received, tables.weight, tables.offset)
            current = rule.a * current + rule.kappa * x
        membrane = rule.a * membrane + current + injected
        spikes.append(fire.spike(membrane - rule.threshold))
        membrane = membrane * (1 - spikes[-1])
        slopes.append(exact_slope(torch.stack([spike.detach() for spike in spikes[-2:]]), rule.tau)[-1])
    raster = torch.stack(spikes)
    return torch.einsum("tbnd,t->bnd", raster, rule.decoding(raster))
