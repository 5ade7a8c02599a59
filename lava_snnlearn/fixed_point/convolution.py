"""Two-dimensional convolution of integers: its geometry, its sparse matrix, and an exact product for batches.

An image is numbered in the flat order channel, row, column (C, H, W). As in torch the kernel is not turned round:
``y[o, r, c] = sum over i, a, b of kernel[o, i, a, b] * x[i, r*stride + a*dilation - padding, ...]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError, whole_number, within

IMAGE_MAX = 1 << 24
"""Largest number of values of a padded image and of an output: that of the neurons of a population."""
EXPANSION_MAX = 1 << 27
"""Largest number of synapses that a sparse matrix is made of (about 1 GiB)."""
_PATCHES = 1 << 20
"""Values of gathered patches that are multiplied at a time, so that they stay in the cache and memory stays small."""


class Axis(NamedTuple):
    """Rows or columns of a convolution: the image's ``size``, and how the kernel moves over it."""

    size: int
    stride: int
    padding: int
    dilation: int

    def outputs(self, taps: int) -> int:
        """Number of places of a kernel of so many taps; below 1 if it is larger than the padded image."""
        return (self.size + 2 * self.padding - self.dilation * (taps - 1) - 1) // self.stride + 1

    def inside(self, tap: int, taps: int) -> range:
        """Places at which this tap lies on the image, not on its padding."""
        first = self.padding - tap * self.dilation
        low, high = -(-first // self.stride), -(-(first + self.size) // self.stride)
        return range(max(low, 0), max(min(high, self.outputs(taps)), 0))

    def meetings(self, taps: int) -> NDArray[np.int64]:
        """All pairs of a tap and a place on the image, and the row (column) where they meet: [3 (tap, place, row), pairs]."""
        found = [
            (tap, place, place * self.stride + tap * self.dilation - self.padding)
            for tap in range(taps)
            for place in self.inside(tap, taps)
        ]
        return np.array(found, np.int64).reshape(-1, 3).T


@dataclass(frozen=True)
class ConvShape:
    """Geometry of a convolution; the kernel [C_out, C_in / groups, kh, kw] is kept beside it.

    Args:
        input_shape: (C_in, H, W) of the image.
        stride, padding, dilation: a number, or a pair (rows, columns). Padding is zeros, on both sides.
        groups: C_in and C_out are cut into so many blocks, each of which hears only its own.

    Raises:
        LimitError: a value out of range, or a padded image of more than 2^24 values. TypeError: no integers.
        ValueError: not three and not one or two numbers, or channels that cannot be cut into groups.
    """

    input_shape: tuple[int, int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", image_shape("input_shape of a convolution", self.input_shape, 3))
        for key, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
            value = getattr(self, key)
            pair = (value, value) if np.ndim(value) == 0 else tuple(value)
            if len(pair) != 2:
                raise ValueError(f"{key} of a convolution is {value}; give a number or a pair (rows, columns)")
            pair = tuple(whole_number(f"{key} of a convolution", part) for part in pair)
            within(f"{key} of a convolution", pair, least, IMAGE_MAX, "Give the number of neurons.")
            object.__setattr__(self, key, pair)
        object.__setattr__(self, "groups", whole_number("groups of a convolution", self.groups))
        channels = self.input_shape[0]
        within("groups of a convolution", self.groups, 1, channels, "A group needs at least one input channel.")
        if channels % self.groups:
            raise ValueError(f"a convolution cannot cut {channels} input channels into {self.groups} equal groups")
        padded = channels * math.prod(axis.size + 2 * axis.padding for axis in self.axes)
        if padded > IMAGE_MAX:
            raise LimitError(f"the padded image of a convolution has {padded} values, more than {IMAGE_MAX}; use less padding")

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Rows and columns."""
        moves = [(value, value) if isinstance(value, int) else value for value in (self.stride, self.padding, self.dilation)]
        (*_, height, width) = self.input_shape
        rows, columns = zip(*moves, strict=True)
        return Axis(height, *rows), Axis(width, *columns)

    @property
    def sources(self) -> int:
        """Number of values of the image."""
        return math.prod(self.input_shape)

    def largest_number(self, kernel: tuple[int, ...]) -> int:
        """Largest of the kernel's height and width, stride, padding, dilation and groups, all of which Lava keeps as int8."""
        return max(*kernel[2:], *(number for axis in self.axes for number in axis[1:]), self.groups)

    def output_shape(self, kernel: tuple[int, ...]) -> tuple[int, int, int]:
        """(C_out, H_out, W_out) for a kernel of this shape.

        Raises:
            ValueError: the kernel does not fit to the channels or the image. LimitError: more than 2^24 outputs.
        """
        channels = self.input_shape[0]
        if len(kernel) != 4 or 0 in kernel or kernel[1] * self.groups != channels or kernel[0] % self.groups:
            raise ValueError(
                f"kernel of shape {kernel} does not fit; expected [C_out, {channels // self.groups}, kh, kw] for an image "
                f"{self.input_shape} in {self.groups} groups"
            )
        rows, columns = (axis.outputs(taps) for axis, taps in zip(self.axes, kernel[2:], strict=True))
        if min(rows, columns) < 1:
            raise ValueError(f"kernel of shape {kernel} is larger than the padded image {self.input_shape}; use more padding")
        if kernel[0] * rows * columns > IMAGE_MAX:
            raise LimitError(
                f"a convolution to {kernel[0]}x{rows}x{columns} has more than {IMAGE_MAX} outputs; raise the stride"
            )
        return kernel[0], rows, columns

    def targets(self, kernel: tuple[int, ...]) -> int:
        """Number of outputs for a kernel of this shape."""
        return math.prod(self.output_shape(kernel))


def image_shape(where: str, shape: Any, dimensions: int | None = None) -> tuple[int, ...]:
    """``shape`` as a tuple of whole numbers above zero, at most 2^24 values altogether.

    Raises:
        TypeError: no sequence of integers. ValueError: not so many dimensions. LimitError: a number out of range.
    """
    if isinstance(shape, str) or not hasattr(shape, "__len__"):
        raise TypeError(f"{where} is {shape!r}; it must be a tuple of integers, e.g. (1, 28, 28)")
    sizes = tuple(whole_number(where, size) for size in shape)
    if not sizes or len(sizes) > 8 or (dimensions is not None and len(sizes) != dimensions):
        raise ValueError(f"{where} is {sizes}; expected {dimensions or '1 to 8'} numbers")
    within(where, sizes, 1, IMAGE_MAX, "Give the sizes of the image.")
    if math.prod(sizes) > IMAGE_MAX:
        raise LimitError(f"{where} is {sizes}: {math.prod(sizes)} values, more than {IMAGE_MAX}")
    return sizes


def synapse_count(kernel: NDArray[np.integer[Any]], geometry: ConvShape) -> int:
    """Synapses that are not zero, when the kernel is laid out over the image; those on the padding do not exist."""
    places = _places(kernel.shape, geometry)
    return int((np.count_nonzero(kernel, axis=(0, 1)) * places).sum())


def _places(kernel: tuple[int, ...], geometry: ConvShape) -> NDArray[np.int64]:
    """At how many places each tap lies on the image: int64 [kh, kw]."""
    counts = [
        np.array([len(axis.inside(tap, taps)) for tap in range(taps)], np.int64)
        for axis, taps in zip(geometry.axes, kernel[2:], strict=True)
    ]
    return np.outer(*counts)


def expand(kernel: NDArray[np.integer[Any]], geometry: ConvShape) -> Any:
    """The convolution as a matrix: scipy.sparse.csr_matrix, int32 [n_target, n_source], both in the order C, H, W.

    Raises:
        LimitError: more than 2^27 synapses, zeros among them.
    """
    from scipy.sparse import coo_matrix, vstack  # slow to import, and needed on the way to Lava alone

    out_channels, depth, *taps = kernel.shape
    _, height, width = geometry.input_shape
    _, rows, columns = geometry.output_shape(kernel.shape)
    count = out_channels * depth * int(_places(kernel.shape, geometry).sum())
    if count > EXPANSION_MAX:
        raise LimitError(
            f"this convolution has {count} synapses, more than {EXPANSION_MAX} for a sparse matrix. Run it in the emulator, or "
            "without exponent and delay on Lava, where it needs no matrix."
        )
    (tap_h, out_h, in_h), (tap_w, out_w, in_w) = (axis.meetings(n) for axis, n in zip(geometry.axes, taps, strict=True))
    tap = (tap_h[:, None] * taps[1] + tap_w).ravel()
    target = (out_h[:, None] * columns + out_w).ravel()
    source = (in_h[:, None] * width + in_w).ravel()
    blocks = []
    for channel, weights in enumerate(kernel.reshape(out_channels, depth, -1).astype(np.int32)):
        first = channel // (out_channels // geometry.groups) * depth
        values = weights[:, tap]
        used, at = np.nonzero(values)
        entries = (values[used, at], (target[at], (first + used) * height * width + source[at]))
        blocks.append(coo_matrix(entries, shape=(rows * columns, geometry.sources)))
    return vstack(blocks, format="csr", dtype=np.int32)


def convolve(images: NDArray[Any], kernel: NDArray[Any], geometry: ConvShape) -> NDArray[Any]:
    """Convolution of a batch, computed in the kernel's dtype.

    Patches are gathered and multiplied as matrices. So every value on the way is a sum of products, and integers stay exact
    in floating point as long as all of these fit; the Winograd and FFT forms of convolution libraries do not promise that.

    Args:
        images: [N, C_in * H * W].
        kernel: [C_out, C_in / groups, kh, kw].

    Returns:
        [N, C_out * H_out * W_out], of the kernel's dtype.
    """
    out_channels, rows, columns = geometry.output_shape(kernel.shape)
    groups, depth = geometry.groups, math.prod(kernel.shape[1:])
    blocks = kernel.reshape(groups, out_channels // groups, depth)
    result = np.empty((len(images), groups, out_channels // groups, rows * columns), kernel.dtype)
    slab = max(1, _PATCHES // (groups * depth * rows * columns))
    for at in range(0, len(images), slab):
        patches = _patches(images[at : at + slab], kernel, geometry).reshape(-1, groups, depth, rows * columns)
        np.matmul(blocks, patches, out=result[at : at + slab])
    return result.reshape(len(images), -1)


def _patches(images: NDArray[Any], kernel: NDArray[Any], geometry: ConvShape) -> NDArray[Any]:
    """What every tap meets at every place: [N, C_in, kh, kw, H_out, W_out]."""
    channels, height, width = geometry.input_shape
    _, rows, columns = geometry.output_shape(kernel.shape)
    down, across = geometry.axes
    padded = np.zeros((len(images), channels, height + 2 * down.padding, width + 2 * across.padding), kernel.dtype)
    inner = padded[:, :, down.padding : down.padding + height, across.padding : across.padding + width]
    inner[...] = images.reshape(-1, channels, height, width)
    patches = np.empty((len(images), channels, *kernel.shape[2:], rows, columns), kernel.dtype)
    for a, b in np.ndindex(*kernel.shape[2:]):
        top, left = a * down.dilation, b * across.dilation
        bottom, right = top + (rows - 1) * down.stride + 1, left + (columns - 1) * across.stride + 1
        patches[:, :, a, b] = padded[:, :, top : bottom : down.stride, left : right : across.stride]
    return patches
