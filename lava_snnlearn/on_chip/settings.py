"""What the settings of all networks that learn on the chip have in common: sizes, number formats, and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import at_least, instance_of, real_number, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.on_chip.synapses import Synapses

Ranges = Mapping[str, tuple[float, float, str]]
"""Least and largest value of a setting, and the remedy."""

STEPS_MAX = 127
"""Counts of spikes have 7 bits."""
LOGITS = 16
"""The softmax's table spans about this difference of logits; exp(-16) is far below its resolution."""
FORMATS: Ranges = {
    "payload_one": (1, limits.GRADED_MAX, "Graded spikes have 8 bits."),
    "bias_payload": (0, limits.GRADED_MAX, "Graded spikes have 8 bits."),
    "input_exponent": (0, limits.EXPONENT_MAX, "Fold the factor into scale_bits."),
    "hidden_exponent": (0, limits.EXPONENT_MAX, "Fold the factor into scale_bits."),
    "readout_exponent": (0, limits.EXPONENT_MAX, "Fold the factor into readout_scale_bits."),
    "readout_scale_bits": (0, 15, "Choose a scale at which weights have 8 bits."),
}
ETA_MAX = 1e6


class ChipSettings:
    """Base of the settings, which are frozen dataclasses with these fields and more."""

    sizes: tuple[int, ...]
    steps: int
    scale_bits: int
    payload_one: int
    bias_payload: int
    input_exponent: int
    hidden_exponent: int
    readout_exponent: int
    readout_scale_bits: int
    eta: float
    memory: str

    @property
    def synapses(self) -> tuple[Synapses, ...]:
        """All connections."""
        raise NotImplementedError

    @property
    def layers(self) -> int:
        """L, number of hidden layers."""
        return len(self.sizes) - 2

    @property
    def channels(self) -> int:
        """Input channels: features, and one for the bias unit if there is one."""
        return self.sizes[0] + (self.bias_payload > 0)

    @property
    def vth(self) -> int:
        """Threshold of the hidden neurons in weight units."""
        return 1 << self.scale_bits

    def by_layer(self, values: NDArray) -> list[NDArray]:
        """Parts [..., h_l], one a hidden layer, of values [..., N] of all hidden neurons."""
        return np.split(values, np.cumsum(self.sizes[1:-1])[:-1], axis=-1)

    def to_dict(self) -> dict[str, Any]:
        """Plain dict of numbers, strings, tuples and arrays; the class called with ``**d`` is its inverse."""
        return {key: getattr(self, key) for key in self.__dataclass_fields__}  # type: ignore[attr-defined]

    def _check_sizes(self, layers_max: int) -> None:
        instance_of("sizes", self.sizes, (tuple, list), "it must be (features, hidden, ..., classes), e.g. (64, 128, 10)")
        object.__setattr__(self, "sizes", tuple(at_least(1, "a size", size) for size in self.sizes))
        if len(self.sizes) < 3 or self.sizes[-1] < 2:
            raise ValueError(f"sizes is {self.sizes}; it needs features, at least one hidden layer, and at least two classes")
        within("number of hidden layers", self.layers, 1, layers_max, "Take fewer, wider layers.")

    def _check_numbers(self, whole: Ranges, real: Ranges) -> None:
        """Whole numbers and floats of these ranges, and the bias."""
        for name, (low, top, remedy) in whole.items():
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
            within(name, getattr(self, name), low, top, remedy)
        for name, (low, top, remedy) in real.items():
            real_number(name, getattr(self, name))
            object.__setattr__(self, name, float(getattr(self, name)))
            within(name, getattr(self, name), low, top, remedy)
        # The trained network has this bias in a neuron's register, of 13 bits, with exponent 7.
        remedy = "A neuron's bias register holds no more; lower bias_payload."
        within("bias_payload << input_exponent", self.bias_payload << self.input_exponent, 0, 32, remedy)
