"""The layers of a netx file as plain, checked values; what they mean is left to import and export.

Layout (slayer's ``export_hdf5``)::

    /layer/<i>/  type, shape (n,) or (C, H, W), weight [n_out, n_in] or [C_out, C_in / groups, kh, kw], weight_rec [n, n],
                 bias, delay, stride, padding, dilation, groups
    /layer/<i>/neuron/  type, iDecay, vDecay, vThMant, ...
    /simulation/  Ts, tSample
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.fixed_point.convolution import ConvShape, image_shape

LAYERS_MAX = 1000
_VALUE_MAX = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer. Arrays are int64; pairs are (rows, columns).

    ``neuron``: its entries, numbers as int or float, None if there is none.
    """

    index: int
    type: str
    shape: tuple[int, ...] | None
    neuron: Mapping[str, Any] | None = None
    weight: NDArray[np.int64] | None = None
    recurrent: NDArray[np.int64] | None = None
    bias: NDArray[np.int64] | None = None
    delay: NDArray[np.int64] | None = None
    move: Mapping[str, Any] = field(default_factory=dict)
    """stride, padding, dilation: int or pair; groups: int. Those that the file holds."""

    @property
    def where(self) -> str:
        """For messages."""
        return f"layer {self.index} ({self.type})"

    @property
    def size(self) -> int | None:
        """Number of neurons, if the file says it."""
        return None if self.shape is None else math.prod(self.shape)


def layers_of(tree: Mapping[str, Any]) -> list[Layer]:
    """The layers in the tree of :func:`~lava_snnlearn.interchange.foreign_hdf5.read_foreign`.

    Raises:
        FileFormatError: no layers, gaps in their numbers, entries that are missing or of another type. LimitError: values that
        are not whole or beyond 32 bits.
    """
    entries = tree.get("layer")
    if not isinstance(entries, dict) or not entries:
        raise FileFormatError("it has no group 'layer' with layers 0, 1, ...; this is no netx file")
    if len(entries) > LAYERS_MAX or set(entries) != {str(index) for index in range(len(entries))}:
        raise FileFormatError(
            f"its layers must be numbered 0, 1, ... without gaps, at most {LAYERS_MAX}; it has {sorted(entries)[:8]}"
        )
    return [_layer(index, entries[str(index)]) for index in range(len(entries))]


def sample_steps(tree: Mapping[str, Any]) -> int | None:
    """Steps of a sample, where the file says them (simulation/tSample, of steps of Ts)."""
    simulation = tree.get("simulation")
    if not isinstance(simulation, dict) or "tSample" not in simulation:
        return None
    steps, unit = (int(integers(f"simulation/{key}", simulation.get(key, 1)).reshape(-1)[0]) for key in ("tSample", "Ts"))
    return steps // unit if unit > 0 else None


# What the layers of all kinds of neurons share.


def kernel_of(layer: Layer) -> NDArray[np.int64]:
    """Weights of a convolution, [C_out, C_in / groups, kh, kw]; older files have a fifth dimension of one.

    Raises:
        FileFormatError: there are none, or they have other dimensions.
    """
    weight = layer.weight
    if weight is None:
        raise FileFormatError(f"{layer.where} has no weight")
    if weight.ndim == 5 and weight.shape[4] == 1:
        weight = weight[..., 0]
    if weight.ndim != 4:
        raise FileFormatError(f"{layer.where}: weight has shape {weight.shape}, expected [C_out, C_in / groups, kh, kw]")
    return weight


def moves_of(layer: Layer) -> dict[str, Any]:
    """stride, padding, dilation and groups for a ConvShape, as far as the file holds them."""
    return dict(layer.move)


def image_of(layer: Layer, geometry: ConvShape, kernel: tuple[int, ...]) -> tuple[int, int, int]:
    """The image (C, H, W) that a convolution with a kernel of this shape makes.

    Raises:
        FileFormatError: the file says another one. ValueError: the kernel does not fit.
    """
    output = geometry.output_shape(kernel)
    if layer.shape not in (None, output):
        raise FileFormatError(f"{layer.where}: shape is {layer.shape}, but the convolution makes {output}")
    return output


def bias_of(layer: Layer, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Bias in weight units, of every neuron or one for all: netx takes one a neuron or, of images, one a channel; images as
    (W, H, C).

    Raises:
        FileFormatError: another number of values.
    """
    bias = layer.bias
    if bias is None:
        return np.zeros(1, np.int64)
    if len(shape) == 3 and bias.shape == shape[::-1]:
        return bias.transpose(2, 1, 0).reshape(-1)
    flat = bias.reshape(-1)
    if len(shape) == 3 and len(flat) == shape[0]:
        return np.repeat(flat, shape[1] * shape[2])
    if len(flat) not in (1, math.prod(shape)):
        raise FileFormatError(f"{layer.where}: bias has shape {bias.shape}, expected one value for each of {shape}")
    return flat


def not_kept(layer: Layer, count: int) -> str:
    """The note on weights that netx changes."""
    return f"{layer.where}: {count} weights are not kept by netx, which clips and truncates; so does this"


def _layer(index: int, entry: Any) -> Layer:
    where = f"layer {index}"
    if not isinstance(entry, dict):
        raise FileFormatError(f"{where} is not a group")
    kind = entry.get("type")
    if not isinstance(kind, str):
        raise FileFormatError(f"{where} has no type (a text such as 'dense')")
    where = f"{where} ({kind[:40]})"
    arrays = {
        key: _optional(f"{where}: {name}", entry, name)
        for key, name in (("weight", "weight"), ("recurrent", "weight_rec"), ("bias", "bias"), ("delay", "delay"))
    }
    move = {key: _pair(f"{where}: {key}", entry[key]) for key in ("stride", "padding", "dilation", "groups") if key in entry}
    shape = _optional(f"{where}: shape", entry, "shape")
    neuron = entry.get("neuron")
    if neuron is not None and not isinstance(neuron, dict):
        raise FileFormatError(f"{where}: neuron is not a group")
    return Layer(
        index,
        kind,
        None if shape is None else image_shape(f"{where}: shape", [int(part) for part in shape.reshape(-1)]),
        None if neuron is None else {key: _single(f"{where}: neuron/{key}", value) for key, value in neuron.items()},
        move=move,
        **arrays,
    )


def _optional(where: str, entry: Mapping[str, Any], name: str) -> NDArray[np.int64] | None:
    if name not in entry:
        return None
    if isinstance(entry[name], dict) and {"real", "imag"} & set(entry[name]):
        raise FileFormatError(f"{where} is complex (real, imag); resonate-and-fire layers are not supported")
    return integers(where, entry[name])


def integers(where: str, value: Any) -> NDArray[np.int64]:
    """An array of whole numbers, whatever their type in the file.

    Raises:
        FileFormatError: no numbers, or none at all. LimitError: fractions, NaN, values beyond 32 bits.
    """
    array = np.asarray(value) if isinstance(value, (np.ndarray, int, float)) else None
    if array is None or array.dtype.kind not in "iufb" or not array.size:
        raise FileFormatError(f"{where} must be an array of numbers")
    wide = array.astype(np.float64)
    bad = ~(np.abs(wide) <= _VALUE_MAX) | (wide != np.floor(wide))
    if bad.any():
        raise LimitError(f"{where} holds {wide[bad][0]}; it must hold whole numbers of 32 bits. Export a quantized network.")
    return wide.astype(np.int64)


def _pair(where: str, value: Any) -> int | tuple[int, int]:
    parts = [int(part) for part in integers(where, value).reshape(-1)]
    if len(parts) > 2:
        raise FileFormatError(f"{where} has {len(parts)} numbers; expected one, or rows and columns")
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])


def _single(where: str, value: Any) -> Any:
    """A neuron's entry: a text, or its number."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray) and value.size == 1:
        return value.reshape(-1)[0].item()
    raise FileFormatError(f"{where} must be one number or one text")
