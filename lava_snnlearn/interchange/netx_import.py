"""netx layers -> FixedNetwork."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_SHIFT
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, HostInput, Population
from lava_snnlearn.fixed_point.host import DATA_FRACTION_BITS
from lava_snnlearn.interchange.netx_layers import Layer, bias_of, image_of, kernel_of, moves_of, not_kept
from lava_snnlearn.interchange.netx_weights import as_synapses, kept_by_netx

CUBA = ("CUBA", "LOIHI")
_SUPPORTED = "input, dense, dense_rec, conv, pool, flatten and average"
_WEIGHT_ONE = 64
"""Weight 1.0 in slayer, and what an input layer multiplies data by where its file does not say."""
_MATRIX_MAX = 1 << 27
"""Largest number of weights that are made of a layer without weights of its own."""
_RATE_WEIGHT = 2
"""Weight of the synapses that count spikes for an average."""


def network_of(layers: Sequence[Layer], steps: int, timing: str | None, input_shape: tuple[int, ...] | None) -> FixedNetwork:
    """The network of these layers; arguments and errors are those of :func:`~lava_snnlearn.interchange.netx.from_netx`."""
    lagging = any(layer.recurrent is not None or (layer.delay is not None and layer.delay.any()) for layer in layers)
    running = lagging if timing is None else timing == "running"
    chain = _Chain(running, last=len(layers) - 1, shape=input_shape)
    for layer in layers:
        chain.add(layer)
    if chain.host is None or not chain.populations:
        raise FileFormatError("it has no layer of neurons")
    notes = (*chain.notes, _TIMES[running])
    output = chain.populations[-1].name
    return FixedNetwork(tuple(chain.populations), tuple(chain.connections), chain.host, steps, output, notes)


_TIMES = {
    True: "running: all populations are active from step 0 on, as netx is without resets",
    False: "every population is reset when a sample reaches it, as netx does with a reset_interval",
}


@dataclass
class _Chain:
    """A network that grows by one layer after the other.

    ``shape``: of what the next layer hears, (n,) or (C, H, W); None where neither file nor user say it. ``source``: who sends
    it.
    """

    running: bool
    last: int
    shape: tuple[int, ...] | None
    source: str = INPUT
    host: HostInput | None = None
    populations: list[Population] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, layer: Layer) -> None:
        kinds = {
            "input": self._input,
            "flatten": self._flatten,
            "dense": self._dense,
            "dense_rec": self._dense,
            "conv": self._conv,
            "pool": self._pool,
            "average": self._average,
        }
        if layer.type not in kinds:
            raise FileFormatError(f"{layer.where} is not supported; supported are {_SUPPORTED}")
        kinds[layer.type](layer)

    def _input(self, layer: Layer) -> None:
        if layer.index or layer.shape is None:
            raise FileFormatError(f"{layer.where} must be layer 0, and say its shape")
        if self.shape not in (None, layer.shape):
            raise ValueError(f"input_shape is {self.shape}, but {layer.where} has the shape {layer.shape}; leave it out")
        self.shape = layer.shape
        if layer.neuron is None:
            return
        name, image = f"layer{layer.index}", (layer.shape if len(layer.shape) == 3 else (1, 1, math.prod(layer.shape)))
        scale = _WEIGHT_ONE if layer.weight is None else _one(f"{layer.where}: weight", layer.weight)
        shift = 0 if layer.bias is None else _one(f"{layer.where}: bias", layer.bias)
        channels = image[0]
        # One factor and one summand for all data: a convolution by 1 x 1, every channel by itself.
        self.host = HostInput(
            "current",
            math.prod(image),
            targets=(name,),
            weight=np.full((channels, 1, 1, 1), scale, np.int32),
            bias=np.full(channels, shift << DATA_FRACTION_BITS, np.int64),
            shift=DATA_FRACTION_BITS,
            geometry=ConvShape(image, groups=channels),
        )
        self._populate(layer, name, image, np.zeros(1, np.int64), hears=False)

    def _flatten(self, layer: Layer) -> None:
        if self.shape is not None:
            self.shape = (math.prod(self.shape),)

    def _dense(self, layer: Layer) -> None:
        weight = _required(layer, layer.weight, "weight")
        size = layer.size
        if weight.ndim == 1 and size is not None:
            weight = weight.reshape(size, -1) if weight.size % size == 0 else weight
        if weight.ndim != 2 or size not in (None, len(weight)):
            raise FileFormatError(f"{layer.where}: weight has shape {weight.shape}, expected [n_out, n_in] with n_out = {size}")
        heard = (weight.shape[1],) if self.shape is None else self.shape
        if math.prod(heard) != weight.shape[1] or math.prod(heard) != max(heard):
            raise FileFormatError(
                f"{layer.where}: weight has shape {weight.shape}, but the layer before has the shape {heard} (an image must be "
                "flattened first)"
            )
        weight, recurrent = self._kept(layer, weight)
        self._expect_input(math.prod(heard))
        name, delay = f"layer{layer.index}", self._delay(layer, weight.shape)
        source = self.source
        self._populate(layer, name, (len(weight),), bias_of(layer, (len(weight),)))
        synapses = as_synapses(f"{layer.where}: weight", weight, bool(delay.any()))
        self.connections.append(Connection(source, name, delay=delay, **synapses))
        if recurrent is not None:
            self.connections.append(Connection(name, name, **as_synapses(f"{layer.where}: weight_rec", recurrent)))

    def _kept(self, layer: Layer, weight: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """The weights, and the recurrent ones, with which netx computes."""
        recurrent = layer.recurrent
        if layer.type == "dense_rec":
            recurrent = _required(layer, recurrent, "weight_rec")
            if recurrent.size != len(weight) ** 2:
                raise FileFormatError(
                    f"{layer.where}: weight_rec has shape {recurrent.shape}, expected {(len(weight), len(weight))}"
                )
            recurrent = recurrent.reshape(len(weight), -1)
        elif recurrent is not None:
            raise FileFormatError(f"{layer.where}: weight_rec belongs to layers of the type dense_rec")
        whole = weight if recurrent is None else np.hstack((weight, recurrent))
        if not whole.any():
            self.notes.append(f"{layer.where}: all weights are 0, with which netx would not load the file")
            return weight, recurrent
        kept = kept_by_netx(whole)
        if kept is None:
            raise LimitError(
                f"{layer.where}: netx has no whole numbers for its weights from {whole.min()} to {whole.max()}; they must have "
                "8 bits, and a matrix without positive weights none below -127"
            )
        changed = int((kept != whole).sum())
        if changed:
            self.notes.append(not_kept(layer, changed))
        return kept[:, : weight.shape[1]], None if recurrent is None else kept[:, weight.shape[1] :]

    def _delay(self, layer: Layer, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Delays [n_out, n_in], or 0."""
        delay = layer.delay
        if delay is None or not delay.any():
            return np.zeros((), np.int64)
        if layer.recurrent is not None:
            raise FileFormatError(f"{layer.where} has delays; with recurrent connections netx does not run them")
        if delay.min() < 0:
            raise LimitError(f"{layer.where}: delay is {delay.min()}; it must be at least 0")
        if delay.max() > limits.DELAY_MAX:
            self.notes.append(f"{layer.where}: delays up to {delay.max()} are held at {limits.DELAY_MAX}, as netx does")
            delay = np.minimum(delay, limits.DELAY_MAX)
        if delay.shape == shape or delay.size == 1:
            spread = delay.reshape(delay.shape if delay.shape == shape else ())
        elif delay.size == shape[0]:
            spread = delay.reshape(-1, 1)
        elif delay.size == shape[1]:
            spread = delay.reshape(1, -1)
        else:
            raise FileFormatError(f"{layer.where}: delay has shape {delay.shape}, but weight has shape {shape}")
        return np.broadcast_to(spread, shape)

    def _conv(self, layer: Layer) -> None:
        self._convolve(layer, kernel_of(layer), moves_of(layer).get("groups", 1))

    def _pool(self, layer: Layer) -> None:
        kernel = kernel_of(layer)
        if kernel.shape[:2] != (1, 1) or self.shape is None:
            raise FileFormatError(
                f"{layer.where}: weight has shape {kernel.shape}, expected [1, 1, kh, kw] for an image of known shape"
            )
        self._convolve(layer, kernel, self.shape[0], copies=self.shape[0])

    def _convolve(self, layer: Layer, kernel: NDArray[np.int64], groups: Any, copies: int = 1) -> None:
        """``copies``: so many times the kernel stands one below the other."""
        if self.shape is None or len(self.shape) != 3:
            raise FileFormatError(
                f"{layer.where} hears no image but {self.shape}; a layer 'input' or input_shape (check and import "
                "--input-shape) must say (C, H, W)"
            )
        if layer.delay is not None and layer.delay.any():
            raise FileFormatError(f"{layer.where} has delays, which netx drops without a word in convolutions")
        geometry = ConvShape(self.shape, **(moves_of(layer) | {"groups": groups}))
        # First the question whether it fits, which also bounds the memory of the copies.
        output = image_of(layer, geometry, (copies * len(kernel), *kernel.shape[1:]))
        kernel = np.repeat(kernel, copies, axis=0)
        self._expect_input(math.prod(self.shape))
        name, source = f"layer{layer.index}", self.source
        self._populate(layer, name, output, bias_of(layer, output))
        synapses = as_synapses(f"{layer.where}: weight", kernel)
        self.connections.append(Connection(source, name, geometry=geometry, **synapses))

    def _average(self, layer: Layer) -> None:
        groups, size = layer.size, 0 if self.shape is None else math.prod(self.shape)
        if layer.index != self.last or not self.populations or groups is None or size % groups:
            raise FileFormatError(f"{layer.where} must be the last one, and cut the {size} neurons before into equal groups")
        if groups * size > _MATRIX_MAX:
            raise LimitError(f"{layer.where}: {groups} averages of {size} neurons need more than {_MATRIX_MAX} weights")
        weight = np.repeat(np.eye(groups, dtype=np.int64) * _RATE_WEIGHT, size // groups, axis=1)
        name = f"layer{layer.index}"
        self.connections.append(Connection(self.source, name, weight))
        self.populations.append(Population(name, groups, "accumulator", t_start=self._start()))
        self.notes.append(
            f"{name}: sums of spikes, whose averages are membrane / {(_RATE_WEIGHT * size // groups) << MEMBRANE_SHIFT}; netx "
            "has no such layer"
        )

    def _expect_input(self, size: int) -> None:
        """A first layer without input neurons hears spikes."""
        if self.host is None:
            self.host = HostInput("spikes", size)

    def _start(self, hears: bool = True) -> int:
        if self.running or not hears:
            return 0
        return 1 + (0 if self.source == INPUT else self.populations[-1].t_start)

    def _populate(self, layer: Layer, name: str, shape: tuple[int, ...], bias: NDArray[np.int64], hears: bool = True) -> None:
        size = math.prod(shape)
        if not self.running and self.source == INPUT and hears and bias.any():
            self.notes.append(f"{layer.where}: begins with the first spikes that reach it, in step 1: give netx reset_offset=1")
        neuron = self._neuron(layer, bias)
        mantissa, exponent = _mantissas(bias)
        image = shape if len(shape) == 3 else None
        self.populations.append(
            Population(
                name,
                size,
                t_start=self._start(hears),
                shape=image,
                bias_mant=np.broadcast_to(mantissa, (size,)),
                bias_exp=exponent,
                **neuron,
            )
        )
        self.source, self.shape = name, shape

    def _neuron(self, layer: Layer, bias: NDArray[np.int64]) -> dict[str, Any]:
        """Kind and constants of a layer's neurons."""
        neuron, last = layer.neuron, layer.index == self.last
        if neuron is None:
            # netx: current that never leaks, membrane that is this current, threshold that is never reached.
            if not last or bias.any() or layer.recurrent is not None:
                raise FileFormatError(f"{layer.where} has no neuron; only the last layer may, without bias and recurrence")
            return {"kind": "accumulator"}
        kind = neuron.get("type")
        if kind not in CUBA:
            raise FileFormatError(f"{layer.where}: neurons of the type {kind!r} are not supported, {CUBA} are")
        numbers = {key: _whole(layer, neuron, key) for key in ("iDecay", "vDecay", "vThMant")}
        if neuron.get("gradedSpike") or neuron.get("messageBits"):
            raise FileFormatError(f"{layer.where}: graded spikes of {kind} neurons are not supported, as they are not in netx")
        for key, usual in (("refDelay", 1), ("wgtExp", 0), ("weight_exp", 0)):
            if neuron.get(key, usual) != usual:
                self.notes.append(f"{layer.where}: {key} is {neuron[key]}, which netx ignores; so does this")
        threshold, filtered = numbers["vThMant"], numbers["iDecay"] != DECAY_ONE
        if last and threshold >= limits.THRESHOLD_MAX and layer.recurrent is None:
            if not filtered:
                return {"kind": "accumulator", "dv": numbers["vDecay"]}
            self.notes.append(
                f"{layer.where}: not meant to spike; its answer is the membrane after the last step, in Trace.membranes"
            )
            threshold = limits.THRESHOLD_MAX
        return {"kind": "lif", "du": numbers["iDecay"] - 1, "dv": numbers["vDecay"], "vth": threshold}


def _required(layer: Layer, value: NDArray[np.int64] | None, name: str) -> NDArray[np.int64]:
    if value is None:
        raise FileFormatError(f"{layer.where} has no {name}")
    return value


def _whole(layer: Layer, neuron: Any, key: str) -> int:
    value = neuron.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value if math.isfinite(value) else 0):
        raise FileFormatError(f"{layer.where}: neuron/{key} is {value!r}; it must be a whole number")
    return int(value)


def _one(where: str, value: NDArray[np.int64]) -> int:
    if value.size != 1:
        raise FileFormatError(f"{where} has {value.size} values; netx takes one for all inputs")
    return int(value.reshape(-1)[0])


def _mantissas(bias: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Mantissas and exponent of a bias in weight units."""
    wide = np.abs(bias).max() > limits.BIAS_MANTISSA_MAX
    if wide and not (bias % 2).any():
        return bias // 2, MEMBRANE_SHIFT + 1
    return bias, MEMBRANE_SHIFT
