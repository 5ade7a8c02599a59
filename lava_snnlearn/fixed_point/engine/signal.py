"""The chip's input in the narrowest form that kernels read without another copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.fixed_point.graph import FixedNetwork
from lava_snnlearn.fixed_point.limits import GRADED_MAX


def chip_input(network: FixedNetwork, x: ArrayLike) -> NDArray[Any]:
    """The chip's input for data x, C-contiguous: [T, B, n], or [1, B, n] if it is the same in each step.

    uint8 for spikes and for payloads of 8 bits, else int32. Spikes that come as uint8 are not copied.

    Raises:
        ValueError, LimitError, TypeError: see :meth:`lava_snnlearn.fixed_point.host.HostInput.encode`.
    """
    values = network.host.integers(np.asarray(x), network.steps)
    # Writable, too: for arrays that are not, every kernel would be compiled once more.
    return np.require(values.reshape(-1, *values.shape[-2:]), input_dtype(network), ["C", "W"])


def input_dtype(network: FixedNetwork) -> type[np.integer[Any]]:
    """uint8 where the chip's input is never below 0 or above 255, else int32."""
    low, high = network.host.value_range
    return np.uint8 if low >= 0 and high <= GRADED_MAX else np.int32
