"""Sigma-delta networks (SDNN) of lava-dl, run in exact integers as netx runs them on Lava's simulator.

They are no FixedNetworks, and the emulator does not run them: their neurons hold three registers, they send differences of any
size in both directions, and so no sum has a bound that could be checked beforehand, as all sums of a FixedNetwork are. They
have a reader (:func:`read_sigma_delta`) and a loop over the steps (:meth:`SigmaDeltaNetwork.run`) of their own, in numpy. What
wraps round here wraps round as in Lava, and is counted.

Equations (stock ``Delta``, ``SigmaDelta`` and ``Sigma`` of lava-nc 0.10.0, fixed_pt), with S = spike_exp + state_exp::

    input     c = x << S
    hidden    sigma = sigma + a;   c = max(sigma + (bias << S), 0)
    both      d = c - c[t-1] + r;   s = d where |d| >= vth << S, else 0;   r = d - s;   sends s >> state_exp
    output    sigma = sigma + a;   sends sigma
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, at_least, whole_number, within
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.fixed_point.convolution import ConvShape, convolve
from lava_snnlearn.interchange.foreign_hdf5 import naming, read_foreign
from lava_snnlearn.interchange.netx_layers import Layer, bias_of, image_of, kernel_of, layers_of, moves_of, not_kept
from lava_snnlearn.interchange.netx_weights import kept_by_netx, netx_shift

STATE_EXP = 6
"""Bits behind the point of a state, as netx sets them."""
SPIKE_EXP_MAX = 7
_TYPE = "SDNN"
_WORD, _CONV_WORD = 32, 24
"""Bits of Lava's integers, and of its Conv's sums."""
_EXACT = 1 << 53


class SigmaDeltaError(FileFormatError):
    """A file of a sigma-delta network where a FixedNetwork is expected."""


@dataclass(frozen=True, eq=False)
class SigmaDeltaLayer:
    """Neurons of one layer, and the synapses before them.

    Args:
        name: ``layer<i>``, i its number in the file.
        kind: "delta" (input), "sigma_delta" or "sigma" (output).
        shape: (n,) or (C, H, W).
        vth: threshold, in units of the data.
        bias: int64 [n], same units.
        weight: int64 [n, n_before], with a geometry the kernel; None: the layer takes the data.
        geometry: of a convolution.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    vth: int
    bias: NDArray[np.int64]
    weight: NDArray[np.int64] | None = None
    geometry: ConvShape | None = None

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)

    def sums(self, sent: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Synaptic sums [B, n] of what arrives [B, n_before], and how many of them wrapped round."""
        assert self.weight is not None
        reach = int(np.abs(self.weight).reshape(len(self.weight), -1).sum(1).max()) * int(np.abs(sent).max(initial=0))
        matrix = self.weight.astype(np.float64 if reach < _EXACT else np.int64)
        if self.geometry is not None:
            exact = convolve(sent.astype(matrix.dtype), matrix, self.geometry).astype(np.int64)
            return _wrapped(exact, _CONV_WORD)
        exact = (sent.astype(matrix.dtype) @ matrix.T).astype(np.int64)
        shift = netx_shift(self.weight)
        wrapped, count = _wrapped(exact << shift, _WORD)
        return wrapped >> shift, count


@dataclass(frozen=True, eq=False)
class SigmaDeltaTrace:
    """What the layers sent, by name: int32 [T, B, n]; and how many sums and states wrapped round in a layer."""

    sent: dict[str, NDArray[np.int32]]
    wrapped: dict[str, int]


@dataclass(frozen=True, eq=False)
class SigmaDeltaNetwork:
    """A chain of sigma-delta layers.

    Args:
        layers: the layers.
        inputs: width of the data, in the order C, H, W.
        spike_exp: bits behind the point of what is sent.
        notes: what netx changes, one line each.
    """

    layers: tuple[SigmaDeltaLayer, ...]
    inputs: int
    spike_exp: int = 6
    notes: tuple[str, ...] = ()

    def run(self, x: ArrayLike, steps: int | None = None) -> SigmaDeltaTrace:
        """Run a batch from rest.

        Args:
            x: integers [T, B, inputs], or [B, inputs] for data that stand still, for so many ``steps``. Where the file has no
                input neurons, x is what the first layer hears: differences, with spike_exp bits behind the point.

        Returns:
            SigmaDeltaTrace. All layers begin in step 0; each hears what the one before it sent in the step before.

        Raises:
            TypeError: no integers. ValueError: a shape that does not fit, or steps missing. LimitError: beyond 24 bits.
        """
        data = self._data(np.asarray(x), steps)
        count, batch = data.shape[:2]
        sent = {layer.name: np.zeros((count, batch, layer.size), np.int32) for layer in self.layers}
        wrapped = dict.fromkeys(sent, 0)
        neurons = [_Neurons(layer, batch, self.spike_exp) for layer in self.layers]
        for t in range(count):
            for place, (layer, states) in enumerate(zip(self.layers, neurons, strict=True)):
                if layer.weight is None:
                    arriving, over = data[t], 0
                elif place == 0:
                    arriving, over = layer.sums(data[t - 1] if t else np.zeros_like(data[0]))
                else:
                    before = sent[self.layers[place - 1].name]
                    arriving, over = layer.sums((before[t - 1] if t else np.zeros_like(before[0])).astype(np.int64))
                sent[layer.name][t] = states.step(arriving)
                wrapped[layer.name] += over + states.wrapped
        return SigmaDeltaTrace(sent, wrapped)

    def _data(self, x: NDArray[Any], steps: int | None) -> NDArray[np.int64]:
        if x.dtype.kind not in "iu":
            raise TypeError(f"input has dtype {x.dtype}; sigma-delta networks take integers, scaled as in training")
        fits = x.ndim in (2, 3) and x.shape[-1] == self.inputs and 0 not in x.shape and (x.ndim == 3) == (steps is None)
        if not fits:
            raise ValueError(
                f"input of shape {x.shape} does not fit; expected [T, batch, {self.inputs}], or [batch, {self.inputs}] and "
                "steps"
            )
        within("input", x, -(1 << 23), (1 << 23) - 1, "Lava's sigma-delta neurons have 24 bits.")
        whole = x.astype(np.int64)
        return whole if steps is None else np.broadcast_to(whole, (at_least(1, "steps", steps), *whole.shape))


class _Neurons:
    """State of a layer's neurons, [B, n]."""

    def __init__(self, layer: SigmaDeltaLayer, batch: int, spike_exp: int) -> None:
        self._kind, self._scale = layer.kind, spike_exp + STATE_EXP
        self._vth = layer.vth << self._scale
        self._bias = _wrapped(layer.bias << self._scale, _WORD)[0]
        self._sigma, self._before, self._residue = (np.zeros((batch, layer.size), np.int64) for _ in range(3))
        self.wrapped = 0

    def step(self, arriving: NDArray[np.int64]) -> NDArray[np.int64]:
        """What is sent for what arrives; ``wrapped`` counts the registers that overflowed in this step."""
        self.wrapped = 0
        if self._kind == "delta":
            charged = self._kept(arriving << self._scale)
        else:
            self._sigma = self._kept(self._sigma + arriving)
            if self._kind == "sigma":
                return self._sigma
            charged = np.maximum(self._kept(self._sigma + self._bias), 0)
        delta = self._kept(charged - self._before + self._residue)
        spike = np.where(np.abs(delta) >= self._vth, delta, 0)
        self._residue, self._before = delta - spike, charged
        return spike >> STATE_EXP

    def _kept(self, value: NDArray[np.int64]) -> NDArray[np.int64]:
        kept, count = _wrapped(value, _WORD)
        self.wrapped += count
        return kept


def _wrapped(value: NDArray[np.int64], bits: int) -> tuple[NDArray[np.int64], int]:
    """``value`` as a signed integer of so many bits, and how many of its elements that changes."""
    half = 1 << (bits - 1)
    kept = ((value + half) & ((1 << bits) - 1)) - half
    return kept, int(np.count_nonzero(kept != value))


def read_sigma_delta(path: str | PathLike[str], *, spike_exp: int = 6) -> SigmaDeltaNetwork:
    """Read a sigma-delta network of lava-dl.

    Args:
        path: a netx file whose neurons are all of the type SDNN (activation relu): layers input, conv, flatten, dense.
        spike_exp: as netx's argument of this name, 0..7.

    Raises:
        FileFormatError: a file that is missing, damaged or foreign; layers or neurons of another type. LimitError: weights that
        netx does not keep as whole numbers; spike_exp out of range. TypeError: spike_exp is no integer.
    """
    whole_number("spike_exp", spike_exp)
    within("spike_exp", spike_exp, 0, SPIKE_EXP_MAX, "netx uses 6.")
    tree = read_foreign(path)
    with naming(path):
        return chain_of(layers_of(tree), spike_exp)


def refuse_sigma_delta(layers: Sequence[Layer]) -> None:
    """Raise SigmaDeltaError if one of these layers has sigma-delta neurons."""
    found = [layer for layer in layers if (layer.neuron or {}).get("type") == _TYPE]
    if found:
        raise SigmaDeltaError(
            f"{found[0].where} has sigma-delta neurons ({_TYPE}). No sum of a sigma-delta network has a bound, so it is no "
            "FixedNetwork; interchange.read_sigma_delta reads such networks and runs them; so does lava-snnlearn emulate"
        )


def chain_of(layers: Sequence[Layer], spike_exp: int) -> SigmaDeltaNetwork:
    """The network of these layers; errors are those of :func:`read_sigma_delta`."""
    found: list[SigmaDeltaLayer] = []
    notes: list[str] = []
    shape: tuple[int, ...] | None = None
    inputs = 0
    for layer in layers:
        if layer.type == "flatten":
            shape = None if shape is None else (math.prod(shape),)
            continue
        if layer.type == "input":
            if layer.index or layer.shape is None:
                raise FileFormatError(f"{layer.where} must be layer 0, and say its shape")
            shape, inputs = layer.shape, math.prod(layer.shape)
            if layer.neuron is None:
                continue
            made = SigmaDeltaLayer(f"layer{layer.index}", "delta", shape, _threshold(layer), np.zeros(inputs, np.int64))
        elif layer.type in ("dense", "conv"):
            made = _conv(layer, shape) if layer.type == "conv" else _dense(layer, shape, notes)
            inputs = inputs or (made.weight.shape[1] if made.weight is not None else 0)
        else:
            raise FileFormatError(f"{layer.where} is not supported; sigma-delta networks have input, dense, conv and flatten")
        found.append(made)
        shape = made.shape
    if not found:
        raise FileFormatError("it has no layer of neurons")
    return SigmaDeltaNetwork(tuple(found), inputs, spike_exp, tuple(notes))


def _threshold(layer: Layer) -> int:
    neuron = layer.neuron or {}
    if neuron.get("type") != _TYPE or neuron.get("activation", "relu") != "relu":
        raise FileFormatError(
            f"{layer.where}: neurons {neuron.get('type')!r} with activation {neuron.get('activation')!r}; expected "
            "SDNN with relu"
        )
    value = neuron.get("vThMant", 0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= (1 << 17) or value != int(value):
        raise FileFormatError(f"{layer.where}: neuron/vThMant is {value!r}; it must be a whole number 0..{1 << 17}")
    return int(value)


def _made(layer: Layer, shape: tuple[int, ...], weight: NDArray[np.int64], geometry: ConvShape | None) -> SigmaDeltaLayer:
    if (layer.delay is not None and layer.delay.any()) or layer.recurrent is not None:
        raise FileFormatError(f"{layer.where} has delays or recurrent connections, which sigma-delta layers do not take")
    size = math.prod(shape)
    bias = bias_of(layer, shape)
    # netx asks only whether the entry is there.
    output = "sigma_output" in (layer.neuron or {})
    kind = "sigma" if output else "sigma_delta"
    if output and bias.any():
        raise FileFormatError(f"{layer.where}: a bias, which netx's output layer (sigma_output) does not take")
    threshold = _threshold(layer)
    return SigmaDeltaLayer(f"layer{layer.index}", kind, shape, threshold, np.broadcast_to(bias, (size,)), weight, geometry)


def _dense(layer: Layer, heard: tuple[int, ...] | None, notes: list[str]) -> SigmaDeltaLayer:
    weight, size = layer.weight, layer.size
    if weight is None or size is None or weight.size % size or (weight.ndim == 2 and len(weight) != size) or weight.ndim > 2:
        raise FileFormatError(f"{layer.where} needs a weight [n_out, n_in] and a shape that fits to it")
    weight = weight.reshape(size, -1)
    if heard is not None and heard != (weight.shape[1],) and math.prod(heard) != max(*heard, 0):
        raise FileFormatError(f"{layer.where}: the layer before has the shape {heard}; an image must be flattened first")
    if heard is not None and math.prod(heard) != weight.shape[1]:
        raise FileFormatError(f"{layer.where}: weight has shape {weight.shape}, but the layer before has the shape {heard}")
    kept = kept_by_netx(weight)
    if kept is None:
        if weight.any():
            raise LimitError(f"{layer.where}: netx has no whole numbers for its weights from {weight.min()} to {weight.max()}")
        kept = weight
    if (kept != weight).any():
        notes.append(not_kept(layer, int((kept != weight).sum())))
    return _made(layer, (size,), kept, None)


def _conv(layer: Layer, heard: tuple[int, ...] | None) -> SigmaDeltaLayer:
    kernel = kernel_of(layer)
    if heard is None or len(heard) != 3:
        raise FileFormatError(f"{layer.where} hears no image but {heard}; a layer 'input' must say (C, H, W)")
    geometry = ConvShape((heard[0], heard[1], heard[2]), **moves_of(layer))
    return _made(layer, image_of(layer, geometry, kernel.shape), kernel, geometry)
