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

NO_CHAIN = "the torch twin takes feed-forward chains without delays; compare other graphs with Lava (against=['lava'])"


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
    chain = _chain(network)
    if chain is None:
        raise ValueError(NO_CHAIN)
    for population in chain:
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


def is_chain(network: FixedNetwork) -> bool:
    """True if :func:`forward` takes the network."""
    return _chain(network) is not None


def _chain(network: FixedNetwork) -> list[Population] | None:
    """Populations from the input on, each fed by the one before alone and one step behind it; None for other graphs."""
    first = network.host.target
    chain = [first] if first else []
    for connection in network.connections:
        if connection.max_delay or connection.source != (chain[-1] if chain else INPUT):
            return None
        chain.append(connection.target)
    if len(set(chain)) != len(chain) or len(chain) != len(network.populations):
        return None
    populations = [network.population(name) for name in chain]
    starts = [population.t_start for population in populations]
    return populations if starts == list(range(starts[0], starts[0] + len(starts))) and starts[0] == (not first) else None


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
