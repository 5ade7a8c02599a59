"""Layers on the chip's grid: what a network that is prepared for quantisation-aware training is made of.

Weights and biases are real parameters; what takes part in the forward are their rounded values (see
:mod:`~lava_snnlearn.fixed_point.straight_through`). Signals are spikes, or data as the chip gets them, in units of a power of
two; so all products are sums of dyadic numbers. They are made in float32 where such sums are exact in it, else in float64
("wide"). The neurons turn currents into whole weight units and go on in integers
(:mod:`~lava_snnlearn.fixed_point.integer_neurons`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_SHIFT, MEMBRANE_UNIT
from lava_snnlearn.fixed_point.graph import Population as ChipPopulation
from lava_snnlearn.fixed_point.host import DATA_FRACTION_BITS, HOST_WEIGHT_MAX
from lava_snnlearn.fixed_point.integer_neurons import IntegerNeurons, integrate_integers
from lava_snnlearn.fixed_point.plan import bias_mantissa
from lava_snnlearn.fixed_point.scales import weight_range
from lava_snnlearn.fixed_point.straight_through import Rounding
from lava_snnlearn.networks.layers import Population, Readout, SpikingLayer
from lava_snnlearn.networks.synapse import Shape, Synapse
from lava_snnlearn.neurons.fused import Integration, leaky_sum
from lava_snnlearn.neurons.lif import LIF, Drive

if TYPE_CHECKING:
    from lava_snnlearn.networks.walk import Walk

HOST_BIAS_MAX = 1 << 50
"""Largest bias of the host, in its units."""


@dataclass(frozen=True)
class ChipLIF(LIF):
    """A neuron with the leak and threshold that the chip gives it, in real units; ``start`` is its first membrane.

    Gain, bias and worth of a spike are in weights and biases already.
    """

    start: float = 0.0

    def drive(self, threshold: float) -> Drive:
        """Only the start."""
        return Drive(start=self.start)


def chip_neuron(neuron: LIF, population: ChipPopulation) -> ChipLIF:
    """The torch neuron that a population stands for; surrogate and gradient of the reset are the original's."""
    unit = 2.0**population.scale_bits
    # What is subtracted; stock LIF's own vth is 1 lower where it fires at strict >.
    threshold = (population.vth + int(population.kind == "lif" and population.dv == 0)) / unit
    return ChipLIF(
        leak=population.dv / DECAY_ONE,
        threshold=threshold,
        reset=neuron.reset,
        surrogate=neuron.surrogate,
        detach_reset=neuron.detach_reset,
        start=int(np.asarray(population.v_init)) / (unit * MEMBRANE_UNIT),
    )


@dataclass(frozen=True)
class Grid:
    """Roundings of a synapse's weights and of its bias (None: it has none)."""

    weight: Rounding
    bias: Rounding | None = None


def chip_grid(population: ChipPopulation, weight_bits: int, *, bias: bool, wide: bool, signal: int = 0) -> Grid:
    """Of synapses on the chip, for signals in units of ``2 ** signal``."""
    scale = population.scale_bits
    step, low, high = weight_range(weight_bits)
    weight = Rounding(step.bit_length() - 1 - scale - signal, low // step, high // step, wide)
    if not bias:
        return Grid(weight)
    ends = limits.BIAS_MANTISSA_MIN, limits.BIAS_MANTISSA_MAX
    return Grid(weight, Rounding(population.bias_exp - scale - MEMBRANE_SHIFT, *ends, wide))


def host_grid(scale: int, shift: int) -> Grid:
    """Of the host's product, whose sums need float64."""
    weight = Rounding(DATA_FRACTION_BITS - shift - scale, -HOST_WEIGHT_MAX, HOST_WEIGHT_MAX, wide=True)
    return Grid(weight, Rounding(-shift - scale, -HOST_BIAS_MAX, HOST_BIAS_MAX, wide=True))


class _OnGrid(Synapse):
    """A synapse with weight and bias on a grid. Delays, which are whole steps already, are a copy of the trained ones.

    The weight takes the seam of standardised weights, which walks know; the bias is parametrised.
    """

    wide = False

    def put_on_grid(self, weight: NDArray[np.float64], bias: NDArray[np.float64], grid: Grid, shape: Shape) -> None:
        """Take these values (the bias [C] or [n], if the grid has one), in the units of the signal.

        ``shape`` of the targets: where the map had to be written out as a matrix, the synapse itself knows a row of them only.
        """
        dtype = self.weight.dtype
        self.wide, self.shape = grid.weight.wide, shape
        self.weight = nn.Parameter(near(weight, grid.weight, dtype))
        self.standardise = grid.weight  # type: ignore[assignment]
        self.bias = None if grid.bias is None else nn.Parameter(near(bias, grid.bias, dtype))
        if self.bias is not None and grid.bias is not None:
            # The host's bias has more than float32's 24 bits; the lowest stay as they are.
            rest = grid.bias(torch.from_numpy(bias)) - grid.bias(self.bias.detach()).double()
            grid.bias.rest = rest if bool(rest.any()) else None
            parametrize.register_parametrization(self, "bias", grid.bias, unsafe=True)

    def prepare(self, x: Tensor) -> Tensor:
        """As in Synapse, in float64 where the sums need it."""
        prepared = super().prepare(x)
        return prepared.double() if self.wide else prepared


def near(values: NDArray[np.float64], rounding: Rounding, dtype: torch.dtype) -> Tensor:
    """``values`` in ``dtype``; those that would be rounded to another multiple then are moved back by one bit."""
    exact = torch.from_numpy(np.ascontiguousarray(values))
    found = exact.to(dtype)
    wrong = rounding(found).double() != rounding(exact)
    towards = torch.where(exact > found.double(), math.inf, -math.inf).to(dtype)
    return torch.where(wrong, torch.nextafter(found, towards), found)


def present(weight: Tensor) -> NDArray[np.float64]:
    """A parameter as float64."""
    values: NDArray[np.float64] = weight.detach().double().cpu().numpy()
    return values


@dataclass(frozen=True)
class Place:
    """A stage's neurons in integers, for biases that are being trained.

    Args:
        population: with bias 0.
        hosted: the bias is the host's, and currents come with it.
        offset: real-valued bias [n] that is not trained, beside the trained one; None is 0.
    """

    population: ChipPopulation
    hosted: bool = False
    offset: NDArray[np.float64] | None = None

    def with_bias(self, bias: Tensor | None) -> IntegerNeurons:
        """The neurons with the rounded bias [C] or [n] that currents hold."""
        chip = self.population
        zero = np.zeros(chip.size)
        if bias is None or self.hosted:
            return IntegerNeurons(chip, zero, zero)
        held = np.repeat(present(bias), chip.size // len(bias))
        mantissa = bias_mantissa(held if self.offset is None else held + self.offset, chip.scale_bits, chip.bias_exp)
        both = mantissa * 2.0 ** (chip.bias_exp - chip.scale_bits - MEMBRANE_SHIFT)
        return IntegerNeurons(replace(chip, bias_mant=mantissa), held, both - held)

    def check_input(self, current: Tensor) -> None:
        """Raise LimitError where the host's current [..., *shape], without that of other neurons, is more than a chip holds."""
        largest = float(current.detach().abs().max()) * 2.0**self.population.scale_bits
        if largest > limits.CURRENT_MAX + 0.5:
            raise LimitError(
                f"{self.population.name}: input currents reach {largest:.0f} weight units, more than {limits.CURRENT_MAX}. "
                "Prepare the network with calibration data of a wider range (e.g. 2 * x), or train with a lower learning rate."
            )


class _ChipNeurons:
    """Populations whose time loop is the chip's. ``carrier`` is the synapse that may bring the bias."""

    place: Place
    neuron: LIF
    carrier: Any

    def integers(self) -> IntegerNeurons:
        """The neurons with the present bias."""
        return self.place.with_bias(self.carrier.bias)

    def integrate(
        self,
        current: Tensor,
        membrane: Tensor | None,
        *,
        steps: int | None = None,
        gradient: str = "full",
        time_weights: Tensor | None = None,
        trace_lam: float | None = None,
        trace: Tensor | None = None,
        **_: Any,
    ) -> Integration:
        """As :func:`lava_snnlearn.neurons.fused.integrate`, in the chip's integers; threshold and memory are its own."""
        spike, last = integrate_integers(
            self.integers(),
            self.neuron,
            current,
            membrane,
            steps=steps,
            gradient=gradient,
            time_weights=time_weights,
            dtype=self.carrier.weight.dtype,
        )
        return Integration(spike, last, None if trace_lam is None else leaky_sum(spike.detach(), trace_lam, trace))


class ChipSynapse(_OnGrid):
    """A synapse without neurons of its own. ``reads``: the name of what it hears."""

    reads = ""


class ChipLayer(_ChipNeurons, _OnGrid, SpikingLayer):
    """A layer of a chain."""

    @property
    def carrier(self) -> _OnGrid:
        """Itself."""
        return self

    def respond(self, signal: Any, walk: Walk, extra: Any = None, behind_norm: bool = False) -> Any:
        """As in SpikingLayer; norms are part of the weights here, and feedback joins behind them.

        Raises:
            LimitError: the host's current is more than a chip holds.
        """
        current = walk.synapse(self, signal)
        if self.place.hosted:
            self.place.check_input(current)
        return walk.fire(self, current if extra is None else current + extra, fresh=True)

    def put_recurrent(self, weight: NDArray[np.float64], rounding: Rounding) -> None:
        """Take the weights of the layer's spikes for itself."""
        self.recurrent = nn.Parameter(near(weight, rounding, self.weight.dtype))
        parametrize.register_parametrization(self, "recurrent", rounding)


class JoinedPopulation(_ChipNeurons, Population):
    """Neurons that hear several others: their own synapses, then the neurons."""

    def __init__(self, name: str, shape: Shape, neuron: LIF, synapses: list[ChipSynapse]) -> None:
        super().__init__(shape, neuron)
        self.name = name
        self.synapses = nn.ModuleList(synapses)

    @property
    def carrier(self) -> ChipSynapse:
        """The first synapse."""
        first: Any = self.synapses[0]
        return first

    def hear(self, sent: Mapping[str, Tensor], walk: Walk) -> Tensor:
        """Spikes [T, B, *shape] for what all others sent.

        Raises:
            LimitError: the host's current is more than a chip holds.
        """
        currents = [walk.synapse(synapse, sent[synapse.reads]) for synapse in self.synapses]
        if self.place.hosted:
            self.place.check_input(currents[0])
        return walk.fire(self, sum(currents[1:], currents[0]))


class Graph(nn.Module):
    """Populations that hear any earlier ones; sends what the readout hears, side by side [T, B, n].

    Args:
        source: shape of the data.
        populations: in the order of the forward pass.
        heard: names of those that the readout hears.
    """

    def __init__(self, source: Shape, populations: list[JoinedPopulation], heard: tuple[str, ...]) -> None:
        super().__init__()
        self.source, self.heard = source, heard
        self.populations = nn.ModuleList(populations)
        self.shape: Shape = (sum(population.outputs for population in populations if population.name in heard),)

    def respond(self, signal: Tensor, walk: Walk) -> Tensor:
        """What the readout hears for data [T, B, *source]."""
        # A walk keeps the current of its static frame for one synapse only; a view is no frame to it.
        sent = {"input": signal.view_as(signal) if walk.static else signal}
        for population in self.populations:
            sent[population.name] = population.hear(sent, walk)
        return torch.cat([sent[name].flatten(2) for name in self.heard], 2)


class ChipReadout(_OnGrid, Readout):
    """The chip's accumulator: in eval mode its answer is that of the 24-bit register, in training mode the plain sum."""

    place: Place

    def integers(self) -> IntegerNeurons:
        """The accumulator with the present bias."""
        return self.place.with_bias(self.bias)

    def collect(self, outputs: Tensor, before: Tensor | None = None) -> Tensor:
        """As in Readout."""
        if self.training:
            return super().collect(outputs, before)
        neurons = self.integers()
        fine = neurons.unit * MEMBRANE_UNIT
        start = np.zeros(outputs.shape[1:], np.int64) if before is None else np.rint(present(before) * fine).astype(np.int64)
        found = neurons.run(neurons.integers(outputs), start, len(outputs), keep=False)
        return torch.from_numpy(found.last / fine).to(outputs)
