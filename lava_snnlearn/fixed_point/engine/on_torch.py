"""The same network as torch tensors, for graphics cards: products of matrices in the fastest exact type, integer neurons.

All samples of a batch advance together. Products of integers in float32 (without TF32) are exact as long as all sums stay below
2^24, whatever the order of summation; larger ones, of at most 2^31, are made in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_MAX, MEMBRANE_SHIFT
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.engine.products import exact_dtype
from lava_snnlearn.fixed_point.engine.run import empty_records
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.order import components
from lava_snnlearn.fixed_point.trace import Trace

SUMS = 1 << 27
"""Values of sums, spikes and signals of a batch that are held at a time (about 1 GB)."""
_DTYPES = {np.float32: torch.float32, np.float64: torch.float64}


def card(name: str) -> torch.device:
    """The torch device of this name.

    Raises:
        ValueError: torch does not know it. RuntimeError: it is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown to torch; use 'cpu', 'cuda' or e.g. 'cuda:1'") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise RuntimeError(
            f"device {name!r}: torch finds {torch.cuda.device_count()} graphics card(s) here; use device='cpu', which gives "
            "the same results"
        )
    return device


def run_on_torch(network: FixedNetwork, signal: NDArray[Any], record: str, name: str) -> Trace:
    """Emulate a batch on a torch device; arguments as of :func:`lava_snnlearn.fixed_point.engine.batch.run_batch`.

    ``name``: of the device. "cpu" runs the same code without a card.
    """
    device = card(name)
    samples, nodes = signal.shape[1], network.populations
    spikes, membranes = empty_records(
        nodes if record != "outputs" else (), nodes if record == "all" else (), network.steps, samples
    )
    outputs = np.zeros((samples, network.population(network.output).size), np.int64)
    saturated = dict.fromkeys((p.name for p in nodes), 0)
    held = network.steps * (network.host.size + 2 * sum(p.size for p in nodes))
    size = max(1, SUMS // held)
    with torch.no_grad(), _exact_products():
        wires = {p.name: [_Wire.of(network, c, device) for c in network.incoming(p.name)] for p in nodes}
        for at in range(0, samples, size):
            part = slice(at, min(at + size, samples))
            run = _Run(network, torch.from_numpy(np.array(signal[:, part])).to(device), wires, record == "all")
            run.all_steps()
            outputs[part] = run.result().cpu().numpy()
            for table, found in ((spikes, run.sent), (membranes, run.membranes)):
                for key, values in table.items():
                    values[:, part] = found[key].cpu().numpy()
            for key, count in run.saturated.items():
                saturated[key] += int(count)
    return Trace(spikes=spikes, membranes=membranes, outputs=outputs, saturated=saturated)


@contextmanager
def _exact_products() -> Iterator[None]:
    """No TF32, whose factors have 11 bits."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@dataclass(frozen=True)
class _Wire:
    """A connection: for every delay that it has, the delay and the weights that have it: [n_source, n_target], or a kernel as
    [groups, C_out of a group, taps]."""

    source: str
    exponent: int
    binary: bool
    parts: tuple[tuple[int, Tensor], ...]
    geometry: ConvShape | None
    kernel: tuple[int, ...]
    targets: int

    @classmethod
    def of(cls, network: FixedNetwork, connection: Connection, device: torch.device) -> _Wire:
        dtype = _DTYPES[exact_dtype(connection.reach(network.largest_sent(connection.source)))]
        weight, delay = np.asarray(connection.weight), np.asarray(connection.delay)
        if connection.geometry is not None:
            parts = [(int(delay), weight.reshape(connection.geometry.groups, -1, math.prod(weight.shape[1:])))]
        else:
            parts = [(int(d), (weight * (delay == d)).T) for d in np.unique(delay)]
        ready = tuple((d, torch.from_numpy(np.array(w)).to(device, dtype)) for d, w in parts)
        return cls(
            connection.source,
            connection.exponent,
            connection.binary,
            ready,
            connection.geometry,
            weight.shape,
            connection.shape[0],
        )

    def add(self, sums: Tensor, first: int, sent: Tensor, shift: int) -> None:
        """Add to ``sums`` [S, B, n], those of the target's active steps from ``first`` on.

        ``sent``: [T, B, n_source]; the target's step i hears its row i + shift - delay.
        """
        dtype = self.parts[0][1].dtype
        total = torch.zeros(sums.shape, dtype=dtype, device=sums.device)
        for delay, weight in self.parts:
            lag = shift - delay
            low, high = max(first, -lag), min(first + len(sums), len(sent) - lag)
            if low < high:
                heard = sent[low + lag : high + lag]
                static = heard.stride(0) == 0  # one step that stands for all
                product = self._product(heard[:1] if static else heard, weight, dtype)
                total[low - first : high - first] += product
        whole = total.long()
        sums += whole << self.exponent if self.exponent >= 0 else whole >> -self.exponent

    def _product(self, heard: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        rows = (heard != 0 if self.binary else heard).reshape(-1, heard.shape[-1]).to(dtype)
        if self.geometry is not None:
            rows = _convolved(rows, weight, self.geometry, self.kernel)
        else:
            rows = rows @ weight
        return rows.view(len(heard), -1, self.targets)


def _convolved(images: Tensor, kernel: Tensor, geometry: ConvShape, shape: tuple[int, ...]) -> Tensor:
    """Convolutions of [N, C_in * H * W] as products of matrices; Winograd's and Fourier's forms are not exact."""
    rows, columns = geometry.axes
    options = {
        "dilation": (rows.dilation, columns.dilation),
        "padding": (rows.padding, columns.padding),
        "stride": (rows.stride, columns.stride),
    }
    patches = functional.unfold(images.view(-1, *geometry.input_shape), shape[2:], **options)
    patches = patches.view(len(images), geometry.groups, kernel.shape[2], -1)
    return torch.matmul(kernel, patches).flatten(1)


class _Run:
    """A batch on its way through the network; ``signal``: [T or 1, B, n] on the device."""

    def __init__(self, network: FixedNetwork, signal: Tensor, wires: dict[str, list[_Wire]], keep: bool) -> None:
        steps, (_, batch, _) = network.steps, signal.shape
        self.network, self.signal, self.wires = network, signal.expand(steps, -1, -1), wires
        nodes = network.populations

        def empty(kind: torch.dtype, size: int) -> Tensor:
            return torch.zeros((steps, batch, size), dtype=kind, device=signal.device)

        kinds = {np.uint8: torch.uint8, np.int32: torch.int32}
        self.sent = {p.name: empty(kinds[p.sent_dtype], p.size) for p in nodes if p.spiking}
        self.membranes = {p.name: empty(torch.int32, p.size) for p in nodes} if keep else {}
        self.neurons = {p.name: _Neurons(p, batch, signal.device) for p in nodes}

    @property
    def saturated(self) -> dict[str, Tensor]:
        """Clipped neuron-steps of each population."""
        return {name: neurons.saturated for name, neurons in self.neurons.items()}

    def result(self) -> Tensor:
        """What the network answers, int64 [B, n]."""
        output = self.network.population(self.network.output)
        return self.sent[output.name].sum(0, dtype=torch.int64) if output.counted else self.neurons[output.name].v

    def all_steps(self) -> None:
        """Populations in a circle step by step, all others one after the other."""
        network = self.network
        for names in components(network):
            group = [network.population(name) for name in names]
            if len(group) == 1 and all(wire.source != names[0] for wire in self.wires[names[0]]):
                self._advance(group[0], 0, network.steps)
                continue
            for step in range(min(p.t_start for p in group), max(p.t_start for p in group) + network.steps):
                for population in group:
                    if 0 <= step - population.t_start < network.steps:
                        self._advance(population, step - population.t_start, step - population.t_start + 1)

    def _advance(self, population: Population, first: int, last: int) -> None:
        name = population.name
        shape = last - first, self.signal.shape[1], population.size
        sums = torch.zeros(shape, dtype=torch.int64, device=self.signal.device)
        part = self.network.current_part(name)
        if part is not None:
            sums += self.signal[first:last, :, part]
        for wire in self.wires[name]:
            start = self.network.start_of(wire.source)
            sent = self.signal if wire.source == INPUT else self.sent[wire.source]
            wire.add(sums, first, sent, population.t_start - 1 - start)
        neurons = self.neurons[name]
        for t, current in enumerate(sums, start=first):
            spike = neurons.step(current, t)
            if population.spiking:
                self.sent[name][t] = spike
            if self.membranes:
                self.membranes[name][t] = neurons.v


class _Neurons:
    """Registers of a population, int64 [B, n], and its step: :mod:`lava_snnlearn.fixed_point.arithmetic` in torch."""

    def __init__(self, population: Population, batch: int, device: torch.device) -> None:
        def register(values: Any) -> Tensor:
            rows = np.broadcast_to(np.asarray(values, dtype=np.int64), (batch, population.size))
            return torch.from_numpy(rows.copy()).to(device)

        self.population = population
        self.v, self.u = register(population.v_init), register(population.u_init)
        self.bias = register(population.bias)[:1]
        self.theta = population.vth << MEMBRANE_SHIFT
        self.saturated = torch.zeros((), dtype=torch.int64, device=device)

    def step(self, current: Tensor, t: int) -> Tensor:
        """What the neurons send in active step t, for sums int64 [B, n]."""
        p = self.population
        if p.kind == "relay":
            self.v = current
            return current
        if p.kind == "graded":
            self.v = ((current + self.bias) >> p.shift).clamp(0, p.top)
            return self.v
        if p.kind == "lif":
            return self._stock_lif(current, t)
        assert p.delta is not None
        charged = _leaked(self.v, p.dv) + (current << MEMBRANE_SHIFT) + self.bias
        spike = charged >= self.theta
        after = charged - spike * (p.delta << MEMBRANE_SHIFT) if p.spiking else charged
        self.v = after.clamp(-MEMBRANE_MAX, MEMBRANE_MAX)
        self.saturated += (self.v != after).sum()
        return spike

    def _stock_lif(self, current: Tensor, t: int) -> Tensor:
        p, edge = self.population, MEMBRANE_MAX + 1
        if p.resets_at(t):
            self.u, self.v = torch.zeros_like(self.u), torch.zeros_like(self.v)
        arrived = _leaked(self.u, p.du + 1) + (current << MEMBRANE_SHIFT)
        register = _int32(arrived)
        self.u = torch.where(register > edge, register - 2 * edge, register)
        self.u = torch.where(register <= -edge, register + 2 * edge, self.u)
        driven = _leaked(self.v, p.dv) + self.u + self.bias
        held = _int32(driven).clamp(-MEMBRANE_MAX, MEMBRANE_MAX)
        spike = held > self.theta
        self.saturated += ((self.u != arrived) | (held != driven)).sum()
        self.v = held * ~spike
        return spike


def _leaked(value: Tensor, constant: int) -> Tensor:
    return value.sign() * ((value.abs() * (DECAY_ONE - constant)) >> 12)


def _int32(value: Tensor) -> Tensor:
    return value.to(torch.int32).to(torch.int64)
