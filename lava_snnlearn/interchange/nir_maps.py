"""Maps between populations: the nodes without a state on the way from one population to another, composed.

A way becomes a :class:`~lava_snnlearn.fixed_point.lowering.Link`, a kernel where it is pools and one
convolution, else a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lava_snnlearn.checks import LimitError
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.fixed_point.convolution import ConvShape
from lava_snnlearn.fixed_point.lowering import MATRIX_MAX, matrix_of
from lava_snnlearn.interchange.nir_pools import refuse_large, ungrouped
from lava_snnlearn.interchange.nir_tree import Node

Shape = tuple[int, ...]
_WORK_MAX = 1 << 27
"""Values that are computed at most to write a chain of maps out as a matrix."""
_WHOLE = 1e-3
"""Delays may be off whole steps by so much (they are read from seconds)."""


@dataclass(frozen=True)
class Way:
    """What a way does to spikes of ``source``: weight float64 [n_target, n_source] or a kernel with its geometry, a bias per
    target neuron, int64 ``delay`` [n_target, n_source] or one number, and the shape of its end."""

    source: str
    weight: NDArray[np.float64]
    geometry: ConvShape | None
    bias: NDArray[np.float64]
    delay: NDArray[np.int64]
    shape: Shape


def way_of(source: str, shape: Shape, nodes: Sequence[Node], dt: float) -> Way:
    """The composed way from a source with neurons of ``shape`` through these nodes.

    Raises:
        LimitError, FileFormatError: nodes that do not fit together, or what no synapse here can do; names the node.
    """
    maps = [node for node in nodes if node.kind != "Delay"]
    shapes = [shape]
    for node in maps:
        shapes.append(_shape_behind(node, shapes[-1]))
    delay = _delays(nodes, shape, shapes[-1], dt)
    convolved = _as_convolution(maps, shapes)
    if convolved is not None:
        weight, geometry, per_channel = convolved
        if delay.size != 1:
            raise LimitError(f"{nodes[-1].where}: delays that differ between neurons cannot stand beside a convolution")
        return Way(source, weight, geometry, np.repeat(per_channel, math.prod(shapes[-1][1:])), delay, shapes[-1])
    weight, bias = _matrix(maps, shapes)
    spread = delay if delay.size == 1 else np.broadcast_to(delay, weight.shape).copy()
    return Way(source, weight, None, bias, spread, shapes[-1])


# Shapes.


def _shape_behind(node: Node, shape: Shape) -> Shape:
    """The shape that a node makes of ``shape``."""
    fields = node.fields
    if node.kind in ("Linear", "Affine"):
        weight = fields["weight"]
        if weight.ndim != 2 or shape != (weight.shape[1],):
            raise FileFormatError(f"{node.where}: weight {weight.shape} does not fit to what it hears, {shape}")
        if "bias" in fields and fields["bias"].shape not in ((len(weight),), ()):
            raise FileFormatError(f"{node.where}: bias {fields['bias'].shape} does not fit to the weight {weight.shape}")
        return (len(weight),)
    if node.kind == "Flatten":
        return _flattened(node, shape)
    if node.kind == "Scale":
        if fields["scale"].shape not in (shape, (), (1,)):
            raise FileFormatError(f"{node.where}: scale {fields['scale'].shape} does not fit to what it hears, {shape}")
        return shape
    if node.kind == "Conv2d":
        weight, geometry = _kernel(node, shape)
        if fields["bias"].shape not in ((len(weight),), ()):
            raise FileFormatError(f"{node.where}: bias {fields['bias'].shape} does not fit to the kernel {weight.shape}")
        return geometry.output_shape(weight.shape)
    return _pooled(node, shape)


def _flattened(node: Node, shape: Shape) -> Shape:
    start, end = _whole(node, "start_dim"), _whole(node, "end_dim")
    first = start if start >= 0 else start + len(shape)
    last = end if end >= 0 else end + len(shape)
    if first == last:
        return shape
    if (first, last) != (0, len(shape) - 1):
        raise LimitError(
            f"{node.where}: start_dim {start} and end_dim {end} leave more than one dimension of {shape} (a NIR shape has no "
            "batch); use start_dim 0 and end_dim -1"
        )
    return (math.prod(shape),)


def _pooled(node: Node, shape: Shape) -> Shape:
    sizes, strides, padding = (_pair(node, key) for key in ("kernel_size", "stride", "padding"))
    if len(shape) != 3:
        raise FileFormatError(f"{node.where} needs maps (channels, height, width), but hears {shape}")
    sides = [
        (side + 2 * pad - size) // stride + 1
        for side, size, stride, pad in zip(shape[1:], sizes, strides, padding, strict=True)
    ]
    if min(sides) < 1 or any(2 * pad > size for size, pad in zip(sizes, padding, strict=True)):
        raise FileFormatError(f"{node.where}: kernel_size {sizes} with padding {padding} does not fit to {shape}")
    return (shape[0], *sides)


def _kernel(node: Node, shape: Shape) -> tuple[NDArray[np.float64], ConvShape]:
    """Kernel and geometry of a Conv2d."""
    weight, dilation = node.fields["weight"], _pair(node, "dilation", 1)
    stride = _pair(node, "stride", 1)
    if weight.ndim != 4 or len(shape) != 3:
        raise FileFormatError(f"{node.where}: weight {weight.shape} and input {shape} must have 4 and 3 dimensions")
    padding = node.fields["padding"]
    if isinstance(padding, str):
        reach = [(size - 1) * gap for size, gap in zip(weight.shape[2:], dilation, strict=True)]
        if padding == "same" and (any(side % 2 for side in reach) or stride != (1, 1)):
            raise LimitError(f"{node.where}: padding 'same' needs odd kernels and stride 1; give the padding as numbers")
        pads = (0, 0) if padding == "valid" else (reach[0] // 2, reach[1] // 2)
    else:
        pads = _pair(node, "padding")
    image = (shape[0], shape[1], shape[2])
    try:
        geometry = ConvShape(image, stride, pads, dilation, _whole(node, "groups", 1))
        geometry.output_shape(weight.shape)
    except ValueError as error:
        raise FileFormatError(f"{node.where}: {error}") from error
    return weight, geometry


def _whole(node: Node, key: str, least: int | None = None) -> int:
    value = node.fields[key]
    if value.size != 1 or value.flat[0] != round(value.flat[0]) or (least is not None and value.flat[0] < least):
        raise FileFormatError(f"{node.where}: {key} is {value.tolist()}; expected one whole number")
    return int(value.flat[0])


def _pair(node: Node, key: str, least: int = 0) -> tuple[int, int]:
    value = node.fields[key]
    least = max(least, 0 if key == "padding" else 1)
    good = not isinstance(value, str) and value.size in (1, 2)
    if not good or (value != np.rint(value)).any() or (value < least).any() or (value > 1 << 24).any():
        shown = value if isinstance(value, str) else value.tolist()
        raise FileFormatError(f"{node.where}: {key} is {shown}; expected whole numbers of at least {least}, one or two")
    first, second = np.broadcast_to(np.ravel(value), (2,))
    return int(first), int(second)


# Delays.


def _delays(nodes: Sequence[Node], shape: Shape, target: Shape, dt: float) -> NDArray[np.int64]:
    """Delays along a way: [1, 1], or [n_target, 1], [1, n_source] or both, to be spread over the matrix."""
    total = np.zeros((1, 1), np.int64)
    position = 0
    maps = [node for node in nodes if node.kind != "Delay"]
    late = False
    for node in nodes:
        if node.kind != "Delay":
            position += 1
            late = late or bool(np.any(node.fields.get("bias", 0.0)))
            continue
        steps = node.fields["delay"] / dt
        whole = np.rint(steps)
        if (np.abs(steps - whole) > _WHOLE * np.maximum(whole, 1)).any() or (whole < 0).any() or whole.max() > 1 << 20:
            raise LimitError(f"{node.where}: delays must be whole steps of {dt} s, at least 0; pass another dt")
        if late and whole.any():
            raise LimitError(
                f"{node.where} stands behind a bias, which it would keep away at first; put it in front of the map"
            )
        flat = whole.astype(np.int64).ravel()
        if (flat == flat[0]).all():
            total = total + flat[0]
        elif flat.size == math.prod(shape) and all(part.kind in ("Flatten", "Scale") for part in maps[:position]):
            total = total + flat
        elif flat.size == math.prod(target) and all(part.kind in ("Flatten", "Scale") for part in maps[position:]):
            total = total + flat[:, None]
        else:
            raise LimitError(f"{node.where}: delays that differ between neurons must stand next to neurons, not between maps")
    return total


# Weights.


def _as_convolution(
    maps: Sequence[Node], shapes: Sequence[Shape]
) -> tuple[NDArray[np.float64], ConvShape, NDArray[np.float64]] | None:
    """Kernel, geometry and bias per channel of square pools followed by at most one convolution; None for other ways."""
    pools = [node for node in maps if node.kind in ("SumPool2d", "AvgPool2d")]
    rest = list(maps[len(pools) :])
    if len(shapes[0]) != 3 or list(maps[: len(pools)]) != pools or [node.kind for node in rest] not in ([], ["Conv2d"]):
        return None
    pool, gain = 1, 1.0
    for node in pools:
        sizes, strides, padding = (_pair(node, key) for key in ("kernel_size", "stride", "padding"))
        if sizes != strides or sizes[0] != sizes[1] or padding != (0, 0):
            return None
        pool *= sizes[0]
        gain *= sizes[0] ** 2 if node.kind == "SumPool2d" else 1
    image = shapes[len(pools)]
    if rest:
        weight, geometry = _dense_kernel(rest[0], *_kernel(rest[0], image))
        stride, padding_, bias = geometry.axes[0].stride, geometry.axes[0].padding, rest[0].fields["bias"]
    else:
        refuse_large(f"{pools[-1].where if pools else 'a way from maps'}: the kernel that passes maps on", image[0] ** 2)
        weight, stride, padding_, bias = np.eye(image[0])[:, :, None, None], 1, 0, np.zeros(())
    if padding_ and any(side % pool for side in shapes[0][1:]):
        return None
    # An average pool in front of a convolution is a convolution with an enlarged kernel and stride.
    refuse_large(f"{maps[-1].where if maps else 'a way'}: the kernel behind its pools", weight.size * pool**2)
    large = weight.repeat(pool, 2).repeat(pool, 3) * (gain / pool**2)
    source = shapes[0]
    geometry = ConvShape((source[0], source[1], source[2]), stride * pool, padding_ * pool)
    return large, geometry, np.broadcast_to(bias, (len(weight),))


def _dense_kernel(node: Node, weight: NDArray[np.float64], shape: ConvShape) -> tuple[NDArray[np.float64], ConvShape]:
    """The same convolution by a square kernel without groups and dilation, zeros filled in."""
    rows, columns = shape.axes
    weight = ungrouped(weight, shape.groups)
    if max(rows.dilation, columns.dilation) > 1:
        taps = [(size - 1) * axis.dilation + 1 for size, axis in zip(weight.shape[2:], shape.axes, strict=True)]
        refuse_large(f"{node.where}: the dilated kernel", math.prod(taps) * weight.shape[0] * weight.shape[1])
        spread = np.zeros((*weight.shape[:2], *taps))
        spread[:, :, :: rows.dilation, :: columns.dilation] = weight
        weight = spread
    height, width = weight.shape[2:]
    if rows.stride != columns.stride or height - 2 * rows.padding != width - 2 * columns.padding:
        raise LimitError(
            f"{node.where}: stride {shape.stride}, padding {shape.padding} and kernel {(height, width)} treat rows and columns "
            "differently; supported are square kernels, and those that zeros make square"
        )
    more = max(rows.padding, columns.padding)
    fill = [(more - axis.padding,) * 2 for axis in (rows, columns)]
    refuse_large(f"{node.where}: the kernel made square", len(weight) * weight.shape[1] * max(height, width) ** 2)
    weight = np.pad(weight, ((0, 0), (0, 0), *fill))
    return weight, ConvShape(shape.input_shape, rows.stride, more)


def _matrix(maps: Sequence[Node], shapes: Sequence[Shape]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix [n_target, n_source] and bias [n_target] of a chain of maps; ``shapes`` in front of each, and behind the last."""
    sources, targets = math.prod(shapes[0]), math.prod(shapes[-1])
    linear = [node for node in maps if node.kind != "Flatten"]
    if len(linear) == 1 and linear[0].kind in ("Linear", "Affine"):
        fields = linear[0].fields
        return fields["weight"], np.broadcast_to(fields.get("bias", np.zeros(())), (targets,))
    largest = max(math.prod(shape) for shape in shapes)
    if sources * targets > MATRIX_MAX or min(sources, targets) * largest > _WORK_MAX:
        names = ", ".join(node.name for node in maps) or "nothing"
        raise LimitError(
            f"the way through {names} would be a matrix of {targets} x {sources} values, with maps of {largest} between; at "
            f"most {MATRIX_MAX} values, and {_WORK_MAX} steps to find them, are possible. Only pools followed by a convolution "
            "stay a convolution."
        )
    with torch.no_grad():
        bias = _apply(maps, torch.zeros(1, *shapes[0], dtype=torch.float64))
    return matrix_of(lambda x: _apply(maps, x) - bias, shapes[0]), bias.flatten().numpy()


def _apply(maps: Sequence[Node], x: Tensor) -> Tensor:
    """The maps of x [M, *shape], float64."""
    for node in maps:
        fields = node.fields
        if node.kind in ("Linear", "Affine"):
            x = x @ _tensor(fields["weight"]).T + _tensor(fields.get("bias", np.zeros(())))
        elif node.kind == "Flatten":
            x = x.flatten(1)
        elif node.kind == "Scale":
            x = x * _tensor(fields["scale"])
        elif node.kind == "Conv2d":
            x = _convolve(node, x)
        else:
            sizes, strides, padding = (_pair(node, key) for key in ("kernel_size", "stride", "padding"))
            divisor: Any = 1 if node.kind == "SumPool2d" else None
            x = F.avg_pool2d(x, sizes, strides, padding, divisor_override=divisor)
    return x


def _convolve(node: Node, x: Tensor) -> Tensor:
    weight, geometry = _kernel(node, tuple(x.shape[1:]))
    rows, columns = geometry.axes
    bias = np.broadcast_to(node.fields["bias"], (len(weight),))
    pairs = ((rows.stride, columns.stride), (rows.padding, columns.padding), (rows.dilation, columns.dilation))
    return F.conv2d(x, _tensor(weight), _tensor(bias), *pairs, geometry.groups)


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
