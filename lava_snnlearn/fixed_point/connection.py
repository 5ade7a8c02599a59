"""Connection: synapses between two populations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, flag, instance_of, known_name, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.convolution import ConvShape, synapse_count
from lava_snnlearn.fixed_point.population import frozen_integers

SIGN_MODES = {
    "mixed": (limits.WEIGHT_MIN, limits.WEIGHT_MAX),
    "excitatory": (0, limits.UNSIGNED_WEIGHT_MAX),
    "inhibitory": (-limits.UNSIGNED_WEIGHT_MAX, 0),
}
"""Least and largest weight of each sign mode; those of mixed sign are even."""


@dataclass(frozen=True, eq=False)
class Connection:
    """Synapses from a population (or "input") to a population.

    Args:
        source, target: population names; source may be "input".
        weight: [n_target, n_source] integers of the sign mode's range in weight units; with a geometry the kernel
            [C_out, C_in / groups, kh, kw] of such integers.
        exponent: the sum is shifted left by this, -8..7; below 0 it is shifted right (floor), and there are no delays.
        delay: steps beyond the usual one, 0..62: scalar or [n_target, n_source]; with a geometry a scalar.
        geometry: the connection is a convolution of the source, an image in the order C, H, W.
        sign_mode: "mixed" (even weights -256..254), "excitatory" (0..255) or "inhibitory" (-255..0).
        binary: everything but 0 that the source sends counts as 1 (Lava's connections without message bits).
        label: tells several connections between the same two populations apart; letters, digits, underscore.

    Raises:
        LimitError: a value out of range, or an odd weight of mixed sign. TypeError: floats. UnknownNameError: an unknown sign
        mode. ValueError: shapes that do not fit together, delays with an exponent below 0.
    """

    source: str
    target: str
    weight: ArrayLike
    exponent: int = 0
    delay: ArrayLike = 0
    geometry: ConvShape | None = None
    sign_mode: str = "mixed"
    binary: bool = False
    label: str = ""

    def __post_init__(self) -> None:
        where = f"connection {self.name}"
        if not isinstance(self.label, str) or not f"_{self.label}".isidentifier():
            raise ValueError(f"{where}: label {self.label!r} must be letters, digits and underscores")
        flag(f"{where}: binary", self.binary)
        raw = np.asarray(self.weight)
        if self.geometry is not None:
            instance_of(f"{where}: geometry", self.geometry, ConvShape, "it must be a ConvShape")
            try:
                self.geometry.output_shape(raw.shape)
            except ValueError as error:
                raise type(error)(f"{where}: {error}") from error
        elif raw.ndim != 2 or 0 in raw.shape:
            raise ValueError(f"{where}: weight has shape {raw.shape}; expected [n_target, n_source]")
        object.__setattr__(self, "weight", self._checked_weight(where, raw))
        object.__setattr__(self, "exponent", whole_number(f"{where}: exponent", self.exponent))
        exponents = limits.RIGHT_SHIFT_MIN, limits.EXPONENT_MAX
        within(f"{where}: exponent", self.exponent, *exponents, "Fold the factor into the weights.")
        object.__setattr__(self, "delay", self._checked_delay(where, raw.shape))

    def _checked_weight(self, where: str, raw: NDArray[Any]) -> NDArray[np.int16]:
        weight = frozen_integers(f"{where}: weight", raw, np.int16, raw.shape)
        low, high = SIGN_MODES[known_name(f"sign mode of {where}", self.sign_mode, SIGN_MODES)]
        remedy = "Lower scale_bits or raise the exponent."
        if self.sign_mode != "mixed":
            remedy = f"These are the weights of the sign mode {self.sign_mode}."
        within(f"{where}: weight", weight, low, high, remedy)
        if self.sign_mode == "mixed" and (weight & 1).any():
            raise LimitError(
                f"{where}: weight {int(weight[(weight & 1).astype(bool)][0])} is odd; mixed-sign weights are even on the chip"
            )
        return weight

    def _checked_delay(self, where: str, shape: tuple[int, ...]) -> NDArray[np.int16]:
        delay = frozen_integers(f"{where}: delay", self.delay, np.int16, np.shape(self.delay) or ())
        if delay.shape != () and (self.geometry is not None or delay.shape != shape):
            expected = f"a number or {shape}" if self.geometry is None else "a number, the same for the whole image"
            raise ValueError(f"{where}: delay has shape {delay.shape}; expected {expected}")
        within(f"{where}: delay", delay, 0, limits.DELAY_MAX, "Loihi's delay field holds 0..62 steps.")
        if self.exponent < 0 and delay.any():
            raise ValueError(
                f"{where}: the exponent is {self.exponent} and there are delays; Lava would round the sums of every delay by "
                "themselves. Use an exponent of at least 0, or no delays."
            )
        return delay

    @property
    def name(self) -> str:
        """source_to_target, or source_to_target_label."""
        return f"{self.source}_to_{self.target}" + (f"_{self.label}" if self.label else "")

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

    def reach(self, largest_input: int) -> int:
        """Largest magnitude of a synaptic sum for inputs of magnitude up to ``largest_input``, before the exponent.

        Of a convolution: that of a place where the whole kernel lies on the image.
        """
        magnitude = np.abs(np.asarray(self.weight, dtype=np.int64))
        heard = min(largest_input, 1) if self.binary else largest_input
        return int(magnitude.reshape(len(magnitude), -1).sum(1).max()) * heard

    def bound(self, largest_input: int) -> int:
        """As :meth:`reach`, after the exponent."""
        reach = self.reach(largest_input)
        # The floor of a negative sum lies further from 0 than that of a positive one.
        return reach << self.exponent if self.exponent >= 0 else -(-reach >> -self.exponent)
