"""FixedNetwork: an immutable graph of populations and connections in Loihi's integers.

Units: weights, currents and thresholds count *weight units*; membranes, biases and v_init count 1/64 of one (Loihi shifts
weights and thresholds left by 6 bits). ``2 ** scale_bits`` weight units of a population are one real unit of the trained net.

Time: a connection delivers one step late, ``a[t] = W s[t-1-delay]``, as on Lava. A population is active in the ``steps``
steps from ``t_start`` on; outside of that it ignores its input and does not spike. The state is reset between samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, instance_of, known_name, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_MAX, MEMBRANE_UNIT
from lava_snnlearn.fixed_point.convolution import ConvShape, image_shape, synapse_count
from lava_snnlearn.fixed_point.host import HostInput

KINDS = ("accumulator", "graded", "lif", "soft_reset_lif")
INPUT = "input"
"""Name of the input as the source of a connection."""


def frozen_integers(where: str, values: ArrayLike, dtype: type[np.integer[Any]], shape: tuple[int, ...]) -> NDArray[Any]:
    """A read-only integer array of this shape (scalars are spread); refuses floats, so that nothing is rounded in silence."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{where} has dtype {array.dtype}; fixed-point parameters must be integers (round them first, e.g. quantize)"
        )
    if array.size:
        info = np.iinfo(dtype)
        within(where, array, info.min, info.max, f"It does not fit into {np.dtype(dtype).name}.")
    if array.shape not in (shape, ()):
        raise ValueError(f"{where} has shape {array.shape}, expected {shape}")
    result = np.broadcast_to(array, shape).astype(dtype)
    result.setflags(write=False)
    return result


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons of one kind.

    Args:
        name: unique; letters, digits, underscore.
        size: number of neurons.
        kind: "soft_reset_lif" (reset by subtraction of delta, fires at >=), "lif" (Lava's stock LIF: reset to zero, fires at
            strict >, current not filtered), "accumulator" (never spikes; its membrane is the network's output) or "graded"
            (no memory: its state, and the payload that it sends in each step, is (sum + bias) >> shift, held in 0..top).
        vth: threshold, 0..131071 weight units. Not used by accumulators and graded neurons.
        delta: what a spike subtracts, 0..131071; None means vth.
        dv: leak per step in 1/4096, 0..4096.
        bias_mant, bias_exp: bias = bias_mant << bias_exp in 1/64 units (of graded neurons: in units of the sum); mantissa
            -4096..4095 (scalar or [size]), exponent 0..7.
        v_init: membrane at the start of a sample, 24 bit, 1/64 units.
        t_start: first active step of a sample.
        scale_bits: 2 ** scale_bits weight units are one real unit (for reading traces in real units).
        shape: of the population as an image (C, H, W), in the order of which its neurons are numbered; None: just a row.
        shift, top: of graded neurons, see above: 0..23, and 1..255 (which is 1.0).

    Raises:
        LimitError: a value out of range. TypeError: a float. UnknownNameError: an unknown kind. ValueError: a shape of
        another size, a parameter that the kind does not have.
    """

    name: str
    size: int
    kind: str = "soft_reset_lif"
    vth: int = 1
    delta: int | None = None
    dv: int = 0
    bias_mant: ArrayLike = 0
    bias_exp: int = 0
    v_init: int = 0
    t_start: int = 0
    scale_bits: int = 0
    shape: tuple[int, ...] | None = None
    shift: int = 0
    top: int = 0

    def __post_init__(self) -> None:
        where = f"population {self.name!r}"
        if not isinstance(self.name, str) or not self.name.isidentifier() or self.name == INPUT:
            raise ValueError(f"{where}: a name must be letters, digits and underscores, and not {INPUT!r}")
        known_name(f"kind of {where}", self.kind, KINDS)
        if self.delta is None:
            object.__setattr__(self, "delta", self.vth)
        for key in ("size", "vth", "delta", "dv", "bias_exp", "v_init", "t_start", "scale_bits", "shift", "top"):
            object.__setattr__(self, key, whole_number(f"{where}: {key}", getattr(self, key)))
        within(f"{where}: size", self.size, 1, 1 << 24, "A population needs at least one neuron.")
        within(f"{where}: vth", self.vth, 0, limits.THRESHOLD_MAX, "Lower the membrane scale (scale_bits).")
        within(f"{where}: delta", self.delta, 0, limits.THRESHOLD_MAX, "Lower the membrane scale (scale_bits).")
        within(f"{where}: dv", self.dv, 0, limits.DECAY_MAX, "The leak is dv/4096.")
        within(f"{where}: bias_exp", self.bias_exp, 0, limits.BIAS_EXPONENT_MAX, "Lower the membrane scale (scale_bits).")
        within(f"{where}: v_init", self.v_init, -MEMBRANE_MAX, MEMBRANE_MAX, "The membrane has 24 bits.")
        within(f"{where}: t_start", self.t_start, 0, 1 << 30, "Steps are counted from 0.")
        within(
            f"{where}: scale_bits", self.scale_bits, -limits.SCALE_MAX, limits.SCALE_MAX, "2^scale_bits must be a normal float."
        )
        bias = frozen_integers(f"{where}: bias_mant", self.bias_mant, np.int16, (self.size,))
        within(
            f"{where}: bias_mant",
            bias,
            limits.BIAS_MANTISSA_MIN,
            limits.BIAS_MANTISSA_MAX,
            "Raise bias_exp or lower scale_bits.",
        )
        object.__setattr__(self, "bias_mant", bias)
        if self.shape is not None:
            object.__setattr__(self, "shape", image_shape(f"{where}: shape", self.shape))
            if math.prod(self.shape) != self.size:
                raise ValueError(f"{where}: shape {self.shape} has {math.prod(self.shape)} neurons, but size is {self.size}")
        if self.kind == "lif" and (self.v_init or self.delta != self.vth):
            raise ValueError(f"{where}: Lava's LIF resets to zero; v_init must be 0 and delta must be left out")
        self._check_graded(where)

    def _check_graded(self, where: str) -> None:
        if self.kind == "graded":
            within(f"{where}: shift", self.shift, 0, limits.GRADED_SHIFT_MAX, "The state is the sum >> shift.")
            within(f"{where}: top", self.top, 1, limits.GRADED_MAX, "The state is sent as a payload of 8 bits.")
            if self.dv or self.v_init:
                raise ValueError(f"{where}: graded neurons have no memory; dv and v_init must be 0")
        elif self.shift or self.top:
            raise ValueError(f"{where}: shift and top belong to graded neurons, not to {self.kind}")

    @property
    def spiking(self) -> bool:
        """False for accumulators; graded neurons send their state in each step."""
        return self.kind != "accumulator"

    @property
    def counted(self) -> bool:
        """True if the population answers by spike counts; False if by its membrane or state after the last step."""
        return self.kind not in ("accumulator", "graded")

    @property
    def one(self) -> float:
        """Membrane (of graded neurons: state) that is one real unit."""
        return float(self.top) if self.kind == "graded" else MEMBRANE_UNIT * 2.0**self.scale_bits


@dataclass(frozen=True, eq=False)
class Connection:
    """Synapses from a population (or "input") to a population.

    Args:
        source, target: population names; source may be "input".
        weight: [n_target, n_source] even integers -256..254 in weight units; with a geometry the kernel
            [C_out, C_in / groups, kh, kw] of such integers.
        exponent: the sum is shifted left by this, 0..7.
        delay: steps beyond the usual one, 0..62: scalar or [n_target, n_source]; with a geometry a scalar.
        geometry: the connection is a convolution of the source, an image in the order C, H, W.

    Raises:
        LimitError: a value out of range, or an odd weight. TypeError: floats. ValueError: shapes that do not fit together.
    """

    source: str
    target: str
    weight: ArrayLike
    exponent: int = 0
    delay: ArrayLike = 0
    geometry: ConvShape | None = None

    def __post_init__(self) -> None:
        where = f"connection {self.name}"
        raw = np.asarray(self.weight)
        if self.geometry is not None:
            instance_of(f"{where}: geometry", self.geometry, ConvShape, "it must be a ConvShape")
            try:
                self.geometry.output_shape(raw.shape)
            except ValueError as error:
                raise type(error)(f"{where}: {error}") from error
        elif raw.ndim != 2 or 0 in raw.shape:
            raise ValueError(f"{where}: weight has shape {raw.shape}; expected [n_target, n_source]")
        weight = frozen_integers(f"{where}: weight", raw, np.int16, raw.shape)
        within(f"{where}: weight", weight, limits.WEIGHT_MIN, limits.WEIGHT_MAX, "Lower scale_bits or raise the exponent.")
        if (weight & 1).any():
            raise LimitError(
                f"{where}: weight {int(weight[(weight & 1).astype(bool)][0])} is odd; mixed-sign weights are even on the chip"
            )
        object.__setattr__(self, "exponent", whole_number(f"{where}: exponent", self.exponent))
        within(
            f"{where}: exponent", self.exponent, limits.EXPONENT_MIN, limits.EXPONENT_MAX, "Fold the factor into the weights."
        )
        delay = frozen_integers(f"{where}: delay", self.delay, np.int16, np.shape(self.delay) or ())
        if delay.shape != () and (self.geometry is not None or delay.shape != weight.shape):
            expected = f"a number or {weight.shape}" if self.geometry is None else "a number, the same for the whole image"
            raise ValueError(f"{where}: delay has shape {delay.shape}; expected {expected}")
        within(f"{where}: delay", delay, 0, limits.DELAY_MAX, "Loihi's delay field holds 0..62 steps.")
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "delay", delay)

    @property
    def name(self) -> str:
        """source_to_target."""
        return f"{self.source}_to_{self.target}"

    @property
    def shape(self) -> tuple[int, int]:
        """(n_target, n_source)."""
        kernel = np.shape(self.weight)
        return (kernel[0], kernel[1]) if self.geometry is None else (self.geometry.targets(kernel), self.geometry.sources)

    @property
    def stored_weights(self) -> int:
        """Weights that are not zero; those of a kernel, which all places share, are counted once."""
        return int(np.count_nonzero(self.weight))

    @property
    def synapses(self) -> int:
        """Pairs of neurons with a weight that is not zero."""
        weight = np.asarray(self.weight)
        return self.stored_weights if self.geometry is None else synapse_count(weight, self.geometry)

    @property
    def max_delay(self) -> int:
        """Longest delay in steps."""
        return int(np.max(self.delay))

    def bound(self, largest_input: int) -> int:
        """Largest magnitude of a synaptic sum for inputs up to ``largest_input``, after the exponent.

        Of a convolution: that of a place where the whole kernel lies on the image.
        """
        magnitude = np.abs(np.asarray(self.weight, dtype=np.int64))
        return (int(magnitude.reshape(len(magnitude), -1).sum(1).max()) * largest_input) << self.exponent


@dataclass(frozen=True, eq=False)
class FixedNetwork:
    """A network that a Loihi chip can hold: integers only, checked, immutable.

    Args:
        populations, connections: the graph.
        host: how data become the chip's input.
        steps: T, active steps of every population in a sample.
        output: name of the population that answers (an accumulator: its membrane at the end; graded neurons: their last state;
            else its spike counts).
        notes: what quantisation chose and lost, one line each.

    Raises:
        LimitError, ValueError, TypeError: the graph is not consistent or does not fit; the message names the place.
    """

    populations: tuple[Population, ...]
    connections: tuple[Connection, ...]
    host: HostInput
    steps: int
    output: str
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "populations", tuple(self.populations))
        object.__setattr__(self, "connections", tuple(self.connections))
        object.__setattr__(self, "notes", tuple(self.notes))
        from lava_snnlearn.fixed_point.validate import validate

        validate(self)

    def population(self, name: str) -> Population:
        """The population of this name."""
        names = [population.name for population in self.populations]
        return self.populations[names.index(known_name("population", name, names))]

    @property
    def period(self) -> int:
        """Steps from the start of one sample to the start of the next: until the last population is done and the last spike
        in flight has landed where it is ignored."""
        last = max(population.t_start for population in self.populations) + self.steps
        early = any(self.population(connection.target).t_start == 0 for connection in self.connections)
        return last + max((connection.max_delay for connection in self.connections), default=0) + int(early)

    @property
    def largest_input(self) -> int:
        """Largest value that the input sends over a connection: 1 for spikes, 255 for graded spikes."""
        return limits.GRADED_MAX if self.host.form == "graded" else 1

    def largest_sent(self, source: str) -> int:
        """Largest value that this source ("input" or a population) sends."""
        if source == INPUT:
            return self.largest_input
        population = self.population(source)
        return population.top if population.kind == "graded" else 1

    def incoming(self, name: str) -> list[Connection]:
        """Connections that end at this population."""
        return [connection for connection in self.connections if connection.target == name]

    def current_part(self, name: str) -> slice | None:
        """Which columns of an input of the form "current" go into this population; None if none do."""
        if name not in self.host.targets:
            return None
        before = self.host.targets[: self.host.targets.index(name)]
        first = sum(self.population(other).size for other in before)
        return slice(first, first + self.population(name).size)

    def encode(self, x: ArrayLike) -> NDArray[np.int32]:
        """The chip's integer input [T, B, n] for data x; see :meth:`lava_snnlearn.fixed_point.host.HostInput.encode`."""
        return self.host.encode(np.asarray(x), self.steps)

    def __str__(self) -> str:
        from lava_snnlearn.fixed_point.table import table

        return table(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict of numbers, strings and arrays; :meth:`from_dict` is its inverse."""
        keys = ("steps", "output")
        return {key: getattr(self, key) for key in keys} | {
            "notes": list(self.notes),
            "host": _plain(self.host),
            "populations": [_plain(population) for population in self.populations],
            "connections": [_plain(connection) for connection in self.connections],
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> FixedNetwork:
        """Rebuild, and check, a network from :meth:`to_dict`'s form."""
        return cls(
            populations=tuple(Population(**entry) for entry in tree["populations"]),
            connections=tuple(Connection(**_with_geometry(entry)) for entry in tree["connections"]),
            host=HostInput(**_with_geometry(tree["host"])),
            steps=tree["steps"],
            output=tree["output"],
            notes=tuple(tree["notes"]),
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write an HDF5 file, atomically (the old file stays until the new one is complete)."""
        from lava_snnlearn.files import write_tree

        write_tree(path, self.to_dict(), content="FixedNetwork")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> FixedNetwork:
        """Read a file written by :meth:`save`; no pickle, everything is checked.

        Raises:
            FileFormatError: the file is missing, truncated, foreign, or its content is not a valid network.
        """
        from lava_snnlearn.files import read_object

        return read_object(path, "FixedNetwork", cls.from_dict)


def check_network(function: str, network: Any) -> None:
    """Raise TypeError, in the name of ``function``, if this is no FixedNetwork."""
    if not isinstance(network, FixedNetwork):
        found = type(network).__name__
        remedy = "quantize a torch network first"
        if found == "FixedReasoner":
            remedy = "for reasoners lava_snnlearn.reasoning has emulate_reasoner, run_lava_reasoner and verify_reasoner"
        raise TypeError(f"{function} takes a FixedNetwork, got {found}; {remedy}")


def _plain(part: Population | Connection | HostInput) -> dict[str, Any]:
    """Fields of a part, its geometry as a dict of its own."""
    return {key: dict(vars(value)) if isinstance(value, ConvShape) else value for key, value in vars(part).items()}


def _with_geometry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of :func:`_plain`: the fields, with the geometry rebuilt."""
    geometry = entry.get("geometry")
    return dict(entry) | {"geometry": None if geometry is None else ConvShape(**geometry)}
