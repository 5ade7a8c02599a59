"""The memory of a network that learns on the chip by SPIDE: initial weights, weights from outside, the host's norm limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import instance_of
from lava_snnlearn.fixed_point.plasticity import SHADOW_BITS, random_bits
from lava_snnlearn.on_chip.settings import ChipSettings
from lava_snnlearn.on_chip.spide.settings import SYNAPSES_MAX, OnChipSettings, check_settings
from lava_snnlearn.on_chip.state import ChipState, check_number
from lava_snnlearn.on_chip.synapses import kept, steps_of

_DRAW_BITS = 32


@dataclass(frozen=True, eq=False)
class OnChipState(ChipState):
    """All that a network keeps between samples.

    Args:
        settings: what it is built from.
        memories: one int16 array [n_out, n_in] a connection, in the order of ``settings.names``: shadows, +-32767, or, where
            ``settings.memory`` is not "shadow", the 8-bit weights themselves, even, -256..254. 0 where a mask is False.
        samples: updates done so far; it numbers the random bits.
        eta: learning rate from now on; None: that of the settings.

    Raises:
        LimitError, ValueError, TypeError: arrays that do not fit the settings; the message names the connection.
    """

    settings: OnChipSettings
    memories: tuple[NDArray[np.int16], ...]
    samples: int = 0
    eta: float | None = None

    settings_type: ClassVar[type[ChipSettings]] = OnChipSettings

    def __post_init__(self) -> None:
        check_settings(self.settings)
        self._check_common()


def check_state(state: Any) -> None:
    """Raise TypeError if this is no OnChipState."""
    instance_of("state", state, OnChipState, "make one with initial(OnChipSettings(...)) or OnChipState.load")


def initial(settings: OnChipSettings) -> OnChipState:
    """Uniform weights, each row of unit length; biases 0; the norms of R and W limited.

    The draw depends on ``settings.seed`` only.
    """
    check_settings(settings)
    draw = np.random.default_rng(settings.seed)
    weights = []
    for part in settings.synapses:
        real = part.n_in if part.name != "F" else settings.sizes[0]
        rows = np.zeros((part.n_out, part.n_in))
        rows[:, :real] = draw.uniform(-1, 1, (part.n_out, real))
        if part.mask is not None:
            rows *= part.mask
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        # A row of one synapse would be +-1, which the format may just not hold.
        weights.append(np.clip(rows / np.where(lengths > 0, lengths, 1), -part.largest, part.largest))
    return from_weights(settings, weights)


def from_weights(settings: OnChipSettings, weights: Sequence[ArrayLike]) -> OnChipState:
    """A state from real weights, e.g. of a network trained with torch; rounded, zero where a mask is False, norms limited.

    Args:
        settings: see there; the formats must hold the weights.
        weights: one array [n_out, n_in] a connection in the order of ``settings.names``, F for inputs of 1.0, with the
            biases as its last column if there is a bias unit.

    Raises:
        LimitError: a weight that the format cannot hold. ValueError: shape, NaN.
    """
    check_settings(settings)
    check_number("weights", weights, settings.names)
    remedy = "Raise its exponent, or lower scale_bits or readout_scale_bits."
    memories = [
        part.memory_of(weight, settings.memory, remedy) for part, weight in zip(settings.synapses, weights, strict=True)
    ]
    return project(OnChipState(settings, tuple(memories)))


def project(state: OnChipState) -> OnChipState:
    """The state with R and every W scaled down, where needed, to a spectral norm of ``settings.norm_limit``; by the host.

    8-bit weights are rounded at random (memory "stochastic"), so that small weights shrink on average as they should.
    """
    # Here, not above: it comes with torch, which reading and emulating a network does not need.
    import torch

    from lava_snnlearn.methods.norm_limit import spectral_norm

    settings, memories = state.settings, list(state.memories)
    for number, part in enumerate(settings.synapses):
        if part.name in ("F", "C"):
            continue
        steps = steps_of(memories[number], settings.memory)
        unit = part.unit if settings.memory == "shadow" else part.unit * (1 << SHADOW_BITS)
        norm = float(spectral_norm(torch.from_numpy(steps * unit)))
        if norm > settings.norm_limit:
            smaller = steps * (settings.norm_limit / norm)
            if settings.memory == "stochastic":
                draw = random_bits(steps.shape, _DRAW_BITS, part.seed + SYNAPSES_MAX, state.samples)
                memories[number] = kept(np.floor(smaller + draw / 2.0**_DRAW_BITS), settings.memory)
            else:
                memories[number] = kept(np.rint(smaller), settings.memory)
    return replace(state, memories=tuple(memories))
