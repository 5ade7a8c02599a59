"""The torch twin: the eval forward of the quantised network in real numbers, layer by layer, each in its own active steps.

All integers of a FixedNetwork are dyadic real numbers (power-of-two scales), so float64 holds every value of this forward
exactly. It shares no arithmetic with the emulator, which makes their comparison a proof of the pipeline shift, of delays and of
the integer arithmetic at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.order import topological_order
from lava_snnlearn.fixed_point.population import UNFILTERED

NOT_ALIGNED = (
    "the torch twin takes graphs without cycles, graded neurons, relays, filtered currents, initial currents, resets at fixed "
    "times, exponents below 0 and payloads heard as spikes, in which every delay is at least the t_start of the target minus "
    "that of the source minus 1 (all that quantize makes of feed-forward networks); compare other graphs with Lava "
    "(against=['lava'])"
)


class TwinStates(NamedTuple):
    """Real-valued states: ``spikes`` and ``membranes`` [T, B, n] float64 per population; ``outputs`` [B, classes]."""

    spikes: dict[str, Tensor]
    membranes: dict[str, Tensor]
    outputs: Tensor


def forward(network: FixedNetwork, x: ArrayLike) -> TwinStates:
    """Eval forward of an aligned feed-forward graph (what ``quantize`` makes), for data or integer input as in ``emulate``.

    Raises:
        ValueError: another graph; see :func:`is_aligned`.
    """
    order = topological_order(network)
    if order is None or not is_aligned(network):
        raise ValueError(NOT_ALIGNED)
    signal = torch.from_numpy(network.encode(x).astype(np.float64))
    sent: dict[str, Tensor] = {INPUT: signal}
    membranes: dict[str, Tensor] = {}
    for population in order:
        unit = 2.0**population.scale_bits
        part = network.current_part(population.name)
        current = signal.new_zeros(*signal.shape[:2], population.size) if part is None else signal[:, :, part] / unit
        for connection in network.incoming(population.name):
            waiting = population.t_start - network.start_of(connection.source) - 1
            current = current + _delayed(connection, sent[connection.source], unit, waiting)
        sent[population.name], membranes[population.name] = _integrate(population, current, unit)
    last = network.population(network.output)
    outputs = sent[last.name].sum(0) if last.spiking else membranes[last.name][-1]
    return TwinStates({p.name: sent[p.name] for p in network.populations if p.spiking}, membranes, outputs)


def is_aligned(network: FixedNetwork) -> bool:
    """True if :func:`forward` takes the network: no cycle, nothing that only imported networks have, no graded neurons, and no
    synapse brings step t of its source to an earlier step of its target, ``delay >= t_start of the target - t_start of the
    source - 1`` (the input starts at 0)."""

    def aligned(connection: Connection) -> bool:
        return network.first_arrival(connection) >= network.population(connection.target).t_start

    other = any(p.sends_payloads or p.running or p.du != UNFILTERED for p in network.populations)
    if other or any(c.exponent < 0 or c.binary for c in network.connections) or topological_order(network) is None:
        return False
    return all(aligned(connection) for connection in network.connections)


def _delayed(connection: Connection, sent: Tensor, unit: float, waiting: int) -> Tensor:
    """Synaptic sums [T, B, n_target] in real units; a delay of ``waiting`` steps brings spikes to the same step."""
    weight = torch.from_numpy(np.asarray(connection.weight, dtype=np.float64)) * 2.0**connection.exponent / unit
    delay = torch.from_numpy(np.asarray(connection.delay, dtype=np.int64))
    total = None
    for late in (torch.unique(delay) - waiting).tolist():
        heard = torch.cat([torch.zeros_like(sent[:late]), sent[: len(sent) - late]]) if late < len(sent) else sent * 0
        part = _product(connection, heard, torch.where(delay == late + waiting, weight, 0.0))
        total = part if total is None else total + part
    assert total is not None
    return total


def _product(connection: Connection, sent: Tensor, weight: Tensor) -> Tensor:
    """Synaptic sums [T, B, n_target] of what is heard, [T, B, n_source]."""
    shape = connection.geometry
    if shape is None:
        return torch.nn.functional.linear(sent, weight)
    images = sent.reshape(-1, *shape.input_shape)
    summed = torch.nn.functional.conv2d(images, weight, None, shape.stride, shape.padding, shape.dilation, shape.groups)
    return summed.reshape(*sent.shape[:2], -1)


def _integrate(population: Population, current: Tensor, unit: float) -> tuple[Tensor, Tensor]:
    fine = 64.0 * unit
    highest = float((1 << 23) - 1) / fine
    bias = torch.from_numpy(population.bias.astype(np.float64)) / fine
    threshold, delta = population.vth / unit, float(population.delta or 0) / unit
    kept = (4096 - population.dv) / 4096
    v = torch.zeros_like(current[0]) + torch.from_numpy(np.asarray(population.v_init, dtype=np.float64)) / fine
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
