"""The torch twin: the eval forward of the quantised network in real numbers, layer by layer, without Lava's time shift.

All integers of a FixedNetwork are dyadic real numbers (power-of-two scales), so float64 holds every value of this forward
exactly. It shares no code with the emulator, which makes their comparison a proof of the pipeline shift and of the integer
arithmetic at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lava_snnlearn.fixed_point.graph import INPUT, FixedNetwork, Population


class TwinStates(NamedTuple):
    """Real-valued states: ``spikes`` and ``membranes`` [T, B, n] float64 per population; ``outputs`` [B, classes]."""

    spikes: dict[str, Tensor]
    membranes: dict[str, Tensor]
    outputs: Tensor


def forward(network: FixedNetwork, x: ArrayLike) -> TwinStates:
    """Eval forward of a chain without delays (what ``quantize`` makes), for data or integer input as in ``emulate``.

    Raises:
        ValueError: the graph is not a chain without delays.
    """
    signal = torch.from_numpy(network.encode(x).astype(np.float64))
    spikes: dict[str, Tensor] = {}
    membranes: dict[str, Tensor] = {}
    for population in _chain(network):
        unit = 2.0**population.scale_bits
        incoming = network.incoming(population.name)
        if incoming:
            weight = torch.from_numpy(np.asarray(incoming[0].weight, dtype=np.float64)) * 2.0 ** incoming[0].exponent / unit
            current = torch.nn.functional.linear(signal, weight)
        else:
            current = signal / unit
        spikes[population.name], membranes[population.name] = _integrate(population, current, unit)
        signal = spikes[population.name]
    last = network.population(network.output)
    outputs = spikes[last.name].sum(0) if last.spiking else membranes[last.name][-1]
    return TwinStates({p.name: spikes[p.name] for p in network.populations if p.spiking}, membranes, outputs)


def _chain(network: FixedNetwork) -> list[Population]:
    chain: list[Population] = []
    for connection in network.connections:
        before = [] if connection.source == INPUT else [network.population(connection.source)]
        if connection.max_delay or (chain and before != chain[-1:]):
            raise ValueError("the torch twin takes feed-forward chains without delays; compare other graphs with Lava")
        chain += [*(before if not chain else []), network.population(connection.target)]
    if not chain:
        chain = list(network.populations)
    if len(chain) != len(network.populations):
        raise ValueError("the torch twin takes feed-forward chains without delays; compare other graphs with Lava")
    return chain


def _integrate(population: Population, current: Tensor, unit: float) -> tuple[Tensor, Tensor]:
    fine = 64.0 * unit
    highest = float((1 << 23) - 1) / fine
    bias = torch.from_numpy(np.asarray(population.bias_mant, dtype=np.float64)) * 2.0**population.bias_exp / fine
    threshold, delta = population.vth / unit, float(population.delta or 0) / unit
    kept = (4096 - population.dv) / 4096
    v = torch.full_like(current[0], population.v_init / fine)
    spikes, membranes = [], []
    for now in current.unbind(0):
        leaked = torch.sign(v) * torch.floor(v.abs() * kept * fine) / fine
        if population.kind == "lif":
            u = torch.clamp(leaked + _wrap(now * fine) / fine + bias, -highest, highest)
            spike = (u > threshold).double()
            v = u * (1 - spike)
        else:
            u = leaked + now + bias
            spike = (u >= threshold).double() if population.spiking else torch.zeros_like(u)
            v = torch.clamp(u - delta * spike, -highest, highest)
        spikes.append(spike)
        membranes.append(v)
    return torch.stack(spikes), torch.stack(membranes)


def _wrap(current: Tensor) -> Tensor:
    """Lava's 24-bit current register: (-2^23, 2^23], one wrap."""
    span = float(1 << 24)
    return current - span * (current > span / 2).double() + span * (current <= -span / 2).double()
