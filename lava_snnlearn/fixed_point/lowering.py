"""From a network to populations and the linear maps between them: everything that is not a neuron becomes weights and biases.

:func:`lower` walks through a network with symbols instead of tensors. What reaches a population is a sum of terms, each a
linear map of the spikes of one earlier population or of the data. Norms (running statistics), standardisation, gains,
amplitudes, average pools and analogue shortcuts end up in the maps: a shortcut gives later populations synapses from all that
was added to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import INPUT
from lava_snnlearn.networks.delays import Delays
from lava_snnlearn.networks.layers import Neurons, Readout, affine_of_norm
from lava_snnlearn.networks.network import Network
from lava_snnlearn.networks.synapse import Shape, Synapse
from lava_snnlearn.neurons.lif import LIF

MATRIX_MAX = 1 << 25
"""Largest matrix (values) that a map which is no convolution is written out to."""


@dataclass(frozen=True)
class Link:
    """A linear map in real units, into one population.

    ``weight`` float64 [n_target, n_source], or a kernel [C_out, C_in, kh, kw] with its ``geometry``. ``lag``: logical steps
    between the source's spike and the target's step (0: feed-forward, 1: recurrent). ``delay`` int64 [n_target, n_source]:
    steps beyond that, of a matrix's synapses (None: none); ``delays`` is what they were taken from. ``label``: of a chip's
    connection.
    """

    source: str
    weight: NDArray[np.float64]
    geometry: ConvShape | None = None
    lag: int = 0
    delay: NDArray[np.int64] | None = None
    delays: Delays | None = None
    label: str = ""

    def apply(self, x: Tensor) -> Tensor:
        """The map of x [M, n_source], float64: [M, n_target]; delays apart."""
        weight = torch.from_numpy(self.weight)
        if self.geometry is None:
            return x.double() @ weight.T
        images = x.double().view(-1, *self.geometry.input_shape)
        return nn.functional.conv2d(images, weight, None, self.geometry.stride, self.geometry.padding).flatten(1)


@dataclass(frozen=True)
class Stage:
    """A population before quantisation.

    Args:
        name: "layer1" ... in the order of the forward pass, or "readout".
        shape: n or (C, H, W).
        neuron: None for the readout. threshold: its present one, real units.
        links: the maps into it, one a source.
        bias: float64 [n].
        start: membrane at the start of a sample.
        leak: of the readout's accumulator (neurons have their own).
    """

    name: str
    shape: Shape
    neuron: LIF | None
    threshold: float
    links: tuple[Link, ...]
    bias: NDArray[np.float64]
    start: float = 0.0
    leak: float = 0.0

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)


def lower(network: Network) -> list[Stage]:
    """The stages of a network in eval mode, in the order of the forward pass, the readout last.

    Raises:
        LimitError: a map that is no convolution and too large for a matrix; delays on the way to the readout.
    """
    walk = _Lowering(network)
    with torch.no_grad():
        network.respond(_Spikes(INPUT, network.input_shape), walk)
    return walk.stages


@dataclass(frozen=True)
class _Spikes:
    """Spikes of a population (or the data), each worth ``amplitude``."""

    source: str
    shape: Shape
    amplitude: float = 1.0
    lag: int = 0


@dataclass(frozen=True)
class _Term:
    """A synapse's map of spikes, times ``scale`` per output channel (None: 1)."""

    spikes: _Spikes
    synapse: Synapse
    scale: Tensor | None = None

    def scaled(self, factor: Tensor) -> _Term:
        return replace(self, scale=factor if self.scale is None else self.scale * factor)


@dataclass(frozen=True)
class _Currents:
    """A sum of terms and a bias per channel [C], float64."""

    shape: Shape
    terms: tuple[_Term, ...]
    bias: Tensor

    def __add__(self, other: _Currents) -> _Currents:
        return _Currents(self.shape, self.terms + other.terms, self.bias + other.bias)

    def __mul__(self, factor: Any) -> _Currents:
        return self.scaled(torch.as_tensor(factor, dtype=torch.float64).cpu().expand(self.shape[0]))

    def scaled(self, factor: Tensor) -> _Currents:
        """Times a factor per channel [C]."""
        return _Currents(self.shape, tuple(term.scaled(factor) for term in self.terms), self.bias * factor)


class _Lowering:
    """The walk: builds a stage wherever the network fires or is read."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.stages: list[Stage] = []

    def synapse(self, synapse: Synapse, signal: _Spikes) -> _Currents:
        _, bias = Synapse.folded(synapse)
        return _Currents(synapse.shape, (_Term(signal, synapse),), bias.cpu())

    def normalise(self, population: Neurons, current: _Currents) -> _Currents:
        if population.batch_norm is None:
            return current
        scale, shift = (value.cpu() for value in affine_of_norm(population.batch_norm))
        scaled = current.scaled(scale)
        return replace(scaled, bias=scaled.bias + shift)

    def fire(self, population: Any, current: _Currents, fresh: bool = False) -> _Spikes:
        neuron: LIF = population.neuron
        drive = population.drive
        driven = replace(current, bias=current.bias + drive.bias) * drive.gain
        name = f"layer{len(self.stages) + 1}"
        links = _links(name, driven.terms)
        if population.recurrent is not None:
            weight = population.recurrent.detach().double().cpu().numpy() * (drive.gain * drive.amplitude)
            links = (*links, Link(name, weight, lag=1))
        self.stages.append(Stage(name, current.shape, neuron, population.level, links, _per_neuron(driven), start=drive.start))
        return _Spikes(name, current.shape, drive.amplitude)

    def read(self, readout: Readout, signal: _Spikes | _Currents) -> None:
        weight, bias = (value.cpu() for value in Synapse.folded(readout))
        if isinstance(signal, _Spikes):
            links = _links("readout", (_Term(signal, readout),))
        else:
            links = tuple(_through_readout(readout, term) for term in signal.terms)
            analogue = signal.bias.view(-1, *[1] * (len(signal.shape) - 1)).expand(signal.shape)
            pooled = readout.prepare(analogue.unsqueeze(0)).flatten(1)
            bias = bias + pooled[0] @ weight.T / readout.input_gain
        self.stages.append(Stage("readout", readout.shape, None, 0.0, links, bias.numpy(), leak=readout.leak))

    def recall(self, feedback: Synapse, delay: int) -> _Spikes:
        populations = self.network.populations
        return _Spikes(f"layer{len(populations)}", feedback.source, populations[-1].drive.amplitude, lag=delay)

    def remember(self, feedback: Synapse, spikes: _Spikes) -> None:
        """Nothing: recall knows the source by its number."""


def _per_neuron(current: _Currents) -> NDArray[np.float64]:
    places = math.prod(current.shape[1:])
    return np.repeat(current.bias.numpy(), places)


def _links(target: str, terms: tuple[_Term, ...]) -> tuple[Link, ...]:
    links = tuple(_link(term) for term in terms)
    sources = [link.source for link in links]
    if len(set(sources)) != len(sources):
        raise LimitError(
            f"{target} is reached from {sorted(sources)} more than once; a chip's graph has one connection between two "
            "populations. Add the maps up in the network."
        )
    return links


def _link(term: _Term) -> Link:
    """A term as a kernel where it is a convolution, else as a matrix."""
    synapse, spikes = term.synapse, term.spikes
    weight = Synapse.folded(synapse).weight.cpu() * spikes.amplitude
    geometry, pool = synapse.geometry, synapse.pool
    if geometry is None and pool == 1:
        rows = weight if term.scale is None else weight * term.scale.unsqueeze(1)
        delays = synapse.delays
        steps = None if delays is None else delays.matrix().cpu().numpy()
        return Link(spikes.source, rows.numpy(), lag=spikes.lag, delay=steps, delays=delays)
    if geometry is None or geometry.transposed or synapse.upsample > 1 or _cuts_into_padding(synapse):
        matrix = matrix_of(lambda x: _scaled(synapse.map(synapse.prepare(x), _double(synapse), None), term.scale), spikes.shape)
        return Link(spikes.source, matrix * spikes.amplitude, lag=spikes.lag)
    if term.scale is not None:
        weight = weight * term.scale.view(-1, 1, 1, 1)
    if pool > 1:
        # An average pool in front of a convolution is a convolution with an enlarged kernel and stride.
        weight = weight.repeat_interleave(pool, 2).repeat_interleave(pool, 3) / pool**2
    channels, height, width = spikes.shape
    shape = ConvShape((channels, height, width), geometry.stride * pool, geometry.padding * pool)
    return Link(spikes.source, weight.numpy(), shape, spikes.lag)


def _double(synapse: Synapse) -> Tensor:
    return synapse.effective_weight().detach().double().cpu()


def _scaled(y: Tensor, scale: Tensor | None) -> Tensor:
    return y if scale is None else y * scale.view(1, -1, *[1] * (y.dim() - 2))


def _cuts_into_padding(synapse: Synapse) -> bool:
    """Whether rows that a pool cuts off would be met by the enlarged kernel where the pooled map has padding."""
    geometry, pool = synapse.geometry, synapse.pool
    return geometry is not None and geometry.padding > 0 and any(side % pool for side in synapse.source[1:])


def _through_readout(readout: Readout, term: _Term) -> Link:
    """A term of an analogue current as the readout sees it."""
    synapse = term.synapse
    if synapse.delays is not None:
        raise LimitError(
            f"the delayed currents of a synapse from {synapse.source} go into the readout without neurons between; a chip's "
            "synapses join neurons. Put a population behind the synapse."
        )

    def both(x: Tensor) -> Tensor:
        analogue = _scaled(synapse.map(synapse.prepare(x), _double(synapse), None), term.scale)
        return readout.map(readout.prepare(analogue), _double(readout), None)

    return Link(term.spikes.source, matrix_of(both, term.spikes.shape) * term.spikes.amplitude, lag=term.spikes.lag)


def matrix_of(apply: Callable[[Tensor], Tensor], source: Shape) -> NDArray[np.float64]:
    """A linear map [M, *source] -> [M, ...] written out, float64 [n_target, n_source].

    Row by row as gradients, or column by column as images of unit vectors, whichever are fewer.
    """
    n_source = math.prod(source)
    with torch.enable_grad():
        x = torch.zeros(1, *source, dtype=torch.float64, requires_grad=True)
        y = apply(x).flatten()
        if y.numel() * n_source > MATRIX_MAX:
            raise LimitError(
                f"a map from {n_source} to {y.numel()} neurons that is no plain convolution would be a matrix of "
                f"{y.numel() * n_source} values, more than {MATRIX_MAX}. Use sizes that its pool divides, or a smaller network."
            )
        if y.numel() <= n_source:
            rows = [torch.autograd.grad(value, x, retain_graph=True)[0].flatten() for value in y]
            return torch.stack(rows).numpy()
    with torch.no_grad():
        columns = [apply(torch.eye(n_source, dtype=torch.float64)[at : at + 256].view(-1, *source)).flatten(1)
                   for at in range(0, n_source, 256)]  # fmt: skip
        return torch.cat(columns).T.contiguous().numpy()
