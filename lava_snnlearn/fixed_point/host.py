"""The host's part: how data become the integer input of the chip.

=========  ============================================================================================================
form       the chip's input in each step
=========  ============================================================================================================
current    integer current into one or more populations. For a static sample it is constant, i.e. a neuron's bias on the chip.
graded     8-bit graded spikes 0..255 over a connection
spikes     binary spikes over a connection (rate code, latency code, events)
=========  ============================================================================================================

The host computes in integers too: data are rounded to 1/1024, multiplied by 16-bit weights, and the sum is rounded once. So
the same data give the same input on every machine, which a floating-point product does not promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import finite, instance_of, known_name, whole_number, within
from lava_snnlearn.data.encoders import ENCODINGS, encode
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.convolution import ConvShape, convolve

FORMS = ("current", "graded", "spikes")
DATA_FRACTION_BITS = 10
"""Data are rounded to 2^-10 before the host's integer product."""
DATA_MAX = (1 << 15) - 1
"""16-bit data: |x| < 32 at 10 fraction bits."""
HOST_WEIGHT_MAX = (1 << 15) - 1


@dataclass(frozen=True, eq=False)
class HostInput:
    """How data [B, features] or [T, B, features] become integers [T, B, size].

    Args:
        form: "current", "graded" or "spikes".
        size: width of the chip's input: neurons of the target populations together (current), else number of input channels.
        targets: populations that take the current (form "current" only); it is cut among them in this order. Each hears step t
            of the input in its own active step t, whenever it starts.
        encoding: how a static sample becomes T steps: "direct", "rate", "latency".
        weight, bias, shift: form "current": current = (weight @ round(1024 x) + bias) / 2^shift, rounded half up. weight
            int32 [size, features] of at most 16 bits, bias int64 [size]. None: only integer currents are accepted.
        offset, step: form "graded": payload = round((x - offset) / step), real numbers. step 0: only integers are accepted.
        geometry: the product is a convolution of images, features in the order C, H, W. weight is then a kernel
            [C_out, C_in / groups, kh, kw], bias [size] or [C_out] (the same at every place), and size C_out * H_out * W_out.
        largest: values reach from -largest to largest, at most 2^23 - 1 (graded) or 2^31 - 1 (current), as in some imported
            networks. None: what the chip's host sends, 0..255 (graded), +-8190 (current) and 0..1 (spikes).

    Raises:
        LimitError, ValueError, TypeError, UnknownNameError: a value that does not fit; the message names it.
    """

    form: str
    size: int
    targets: tuple[str, ...] = ()
    encoding: str = "direct"
    weight: ArrayLike | None = None
    bias: ArrayLike | None = None
    shift: int = 0
    offset: float = 0.0
    step: float = 0.0
    geometry: ConvShape | None = None
    largest: int | None = None

    def __post_init__(self) -> None:
        known_name("input form", self.form, FORMS)
        known_name("encoding", self.encoding, ENCODINGS)
        object.__setattr__(self, "size", whole_number("input size", self.size))
        object.__setattr__(self, "shift", whole_number("host shift", self.shift))
        within("input size", self.size, 1, 1 << 24, "The input needs at least one channel.")
        instance_of("targets", self.targets, (tuple, list), "it must be a tuple of population names, e.g. ('hidden',)")
        object.__setattr__(self, "targets", tuple(self.targets))
        if (self.form == "current") != bool(self.targets) or len(set(self.targets)) != len(self.targets):
            raise ValueError(
                "target populations, each once, belong to input of the form 'current', and only to it; "
                f"got {self.targets} for {self.form!r}"
            )
        if not (np.isfinite(self.offset) and np.isfinite(self.step) and self.step >= 0):
            raise ValueError(f"graded input: offset {self.offset} and step {self.step} must be finite, step >= 0")
        if (self.weight is None) != (self.bias is None) or (self.weight is not None and self.form != "current"):
            raise ValueError("host weight and bias belong together, to input of the form 'current'")
        if self.geometry is not None:
            instance_of("host geometry", self.geometry, ConvShape, "it must be a ConvShape")
            if self.weight is None:
                raise ValueError("a host geometry belongs to a host weight, the kernel")
        self._check_largest()
        if self.weight is not None:
            self._keep_affine(np.array(self.weight), np.array(self.bias))

    def _check_largest(self) -> None:
        if self.largest is None:
            return
        if self.form == "spikes":
            raise ValueError("spikes are 0 or 1; a largest value belongs to the forms 'graded' and 'current'")
        object.__setattr__(self, "largest", whole_number("largest input", self.largest))
        top = limits.GRADED_PAYLOAD_MAX if self.form == "graded" else limits.CHANNEL_MAX
        within("largest input", self.largest, 1, top, f"Input of the form {self.form!r} holds no more.")

    def _keep_affine(self, weight: NDArray[Any], bias: NDArray[Any]) -> None:
        """Check weight and bias, and keep them read-only."""
        if weight.dtype.kind != "i" or bias.dtype.kind != "i":
            raise TypeError(f"host weight and bias have dtypes {weight.dtype} and {bias.dtype}; they must be integers")
        fits = weight.ndim == 2 and len(weight) == self.size and bias.shape == (self.size,)
        if self.geometry is not None:
            fits = self.geometry.targets(weight.shape) == self.size and bias.shape in ((self.size,), weight.shape[:1])
        if not fits:
            raise ValueError(f"host weight {weight.shape} and bias {bias.shape} do not fit an input of size {self.size}")
        within("host weight", weight, -HOST_WEIGHT_MAX, HOST_WEIGHT_MAX, "Host weights have 16 bits.")
        within("host bias", bias, -(1 << 50), 1 << 50, "Lower the membrane scale.")
        within("host shift", self.shift, 1, 40, "Lower the membrane scale.")
        for key, array in (("weight", weight.astype(np.int32)), ("bias", bias.astype(np.int64))):
            array.setflags(write=False)
            object.__setattr__(self, key, array)

    @property
    def value_range(self) -> tuple[int, int]:
        """Least and largest integer that the chip's input takes."""
        if self.largest is not None:
            return -self.largest, self.largest
        return {
            "current": (-limits.CURRENT_MAX, limits.CURRENT_MAX),
            "graded": (0, limits.GRADED_MAX),
            "spikes": (0, 1),
        }[self.form]

    @property
    def features(self) -> int:
        """Width of the data."""
        if self.geometry is not None:
            return self.geometry.sources
        return self.size if self.weight is None else int(np.shape(self.weight)[1])

    def encode(self, x: NDArray[Any], steps: int) -> NDArray[np.int32]:
        """Integers [T, B, size] for x; arguments and errors are those of :meth:`integers`."""
        values = self.integers(x, steps)
        # A view where the sample is static: T copies of a whole test set would cost memory for nothing.
        return np.broadcast_to(values.astype(np.int32), (steps, *values.shape[-2:]))

    def integers(self, x: NDArray[Any], steps: int) -> NDArray[Any]:
        """Whole numbers [T, B, size], or [B, size] if they are the same in each step, in whatever dtype they arose.

        Args:
            x: float data [B, features] or [T, B, features]; or integers (any int dtype) that are taken as the chip's own
                input, [B, size] (constant) or [T, B, size].
            steps: T.

        Raises:
            ValueError: shape, NaN or infinity, an empty batch. LimitError: a value that the chip's input cannot hold.
            TypeError: neither floats nor integers.
        """
        raw = x.dtype.kind in "iu"
        if not raw and x.dtype.kind != "f":
            raise TypeError(f"input has dtype {x.dtype}; pass floats (data) or integers (the chip's own input)")
        width = self.size if raw else self.features
        if x.ndim not in (2, 3) or x.shape[-1] != width or (x.ndim == 3 and x.shape[0] != steps) or 0 in x.shape:
            what = "integer input" if raw else "data"
            raise ValueError(
                f"{what} of shape {x.shape} does not fit; expected [batch, {width}] or [{steps} (time), batch, {width}]"
            )
        if raw:
            values = x
        else:
            finite("input", x)
            if x.ndim == 2 and self.encoding != "direct":
                x = self._spread(x, steps)
            values = {"current": self._current, "graded": self._payload, "spikes": self._spikes}[self.form](x)
        self._check(values)
        return values

    def _spread(self, x: NDArray[Any], steps: int) -> NDArray[Any]:

        return encode(torch.from_numpy(np.ascontiguousarray(x)), steps, self.encoding, seed=0).numpy()

    def _current(self, x: NDArray[Any]) -> NDArray[np.int64]:
        if self.weight is None:
            raise TypeError("this network has no host weights; pass integer currents instead of floats")
        rounded = np.rint(x.astype(np.float64) * (1 << DATA_FRACTION_BITS))
        within(
            "input (in 1/1024)",
            rounded,
            -DATA_MAX,
            DATA_MAX,
            f"Data must stay below {(DATA_MAX + 1) >> DATA_FRACTION_BITS}; rescale.",
        )
        # Exact: at most 15 + 15 bits a product, and 2^53 leaves room for 2^23 of them.
        weight, bias = np.asarray(self.weight, dtype=np.float64), np.asarray(self.bias)
        if self.geometry is None:
            product = rounded @ weight.T
        else:
            product = convolve(rounded.reshape(-1, self.features), weight, self.geometry).reshape(*x.shape[:-1], self.size)
        total = product.astype(np.int64) + np.repeat(bias, self.size // len(bias))
        current: NDArray[np.int64] = (total + (1 << (self.shift - 1))) >> self.shift
        return current

    def _payload(self, x: NDArray[Any]) -> NDArray[np.float64]:
        if self.step == 0:
            raise TypeError(
                "this network has no range for graded input; pass integers 0..255, or quantize with calibration data"
            )
        # Still floats: what does not fit into an integer, or is infinite by now, must reach the range check as it is.
        with np.errstate(over="ignore"):
            return np.rint((x.astype(np.float64) - self.offset) / self.step)

    def _spikes(self, x: NDArray[Any]) -> NDArray[Any]:
        if (np.rint(x) != x).any():
            raise ValueError("spike input must be 0.0 or 1.0; encode intensities by the rate or latency code")
        return x

    def _check(self, values: NDArray[Any]) -> None:
        remedy = {
            "current": "Pass data that cover this range as `calibration` to quantize, which then lowers the membrane scale.",
            "graded": "Pass data that cover this range as `calibration` to quantize.",
            "spikes": "Spikes are 0 or 1.",
        }[self.form]
        name = {"current": "input current", "graded": "graded input", "spikes": "spike input"}[self.form]
        within(name, values, *self.value_range, remedy)
