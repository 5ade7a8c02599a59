"""The memory of a network that learns on the chip: initial weights, weights from outside, the host's norm limit, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least, instance_of, real_number, within
from lava_snnlearn.fixed_point.plasticity import SHADOW_BITS, random_bits, seen
from lava_snnlearn.on_chip.spide.settings import SYNAPSES_MAX, OnChipSettings, check_settings
from lava_snnlearn.on_chip.synapses import kept, payload_of, steps_of

_CONTENT = "OnChipState"
_DRAW_BITS = 32


@dataclass(frozen=True, eq=False)
class OnChipState:
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

    def __post_init__(self) -> None:
        check_settings(self.settings)
        object.__setattr__(self, "memories", tuple(self.memories))
        object.__setattr__(self, "samples", at_least(0, "samples", self.samples))
        eta = self.settings.eta if self.eta is None else self.eta
        real_number("eta", eta)
        object.__setattr__(self, "eta", float(eta))
        within("eta", self.eta, 0, 1e6, "Choose a learning rate near 0.03.")
        if len(self.memories) != len(self.settings.synapses):
            raise ValueError(f"{len(self.memories)} memories for the connections {', '.join(self.settings.names)}; one each")
        for part, memory in zip(self.settings.synapses, self.memories, strict=True):
            part.check(memory, self.settings.memory)
            part.rate(self.rate)

    @property
    def rate(self) -> float:
        """The learning rate from now on."""
        assert self.eta is not None
        return self.eta

    @property
    def views(self) -> tuple[NDArray[np.int16], ...]:
        """The weights that spikes see, even, -256..254, one array [n_out, n_in] a connection."""
        return tuple(seen(self.settings.memory, memory) for memory in self.memories)

    def weights(self) -> dict[str, NDArray[np.float64]]:
        """Real weights by connection as spikes see them; those of F for inputs of 1.0."""
        return {part.name: part.real(view) for part, view in zip(self.settings.synapses, self.views, strict=True)}

    def payload(self, x: ArrayLike) -> NDArray[np.int64]:
        """What the source sends: int64 [..., channels], with the constant of the bias unit in the last channel.

        Args:
            x: data [..., features], floats 0..1 (1.0 is sent as payload_one), or integers that are taken as the payloads.

        Raises:
            LimitError: a value that a payload cannot hold. ValueError: shape, NaN. TypeError: neither floats nor integers.
        """
        settings = self.settings
        return payload_of(x, settings.sizes[0], settings.payload_one, settings.bias_payload)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict of numbers, strings and arrays; :meth:`from_dict` is its inverse."""
        return {
            "settings": self.settings.to_dict(),
            "memories": list(self.memories),
            "samples": self.samples,
            "eta": self.eta,
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> OnChipState:
        """Rebuild, and check, a state from :meth:`to_dict`'s form."""
        return cls(OnChipSettings(**tree["settings"]), tuple(tree["memories"]), tree["samples"], tree["eta"])

    def save(self, path: str | PathLike[str]) -> None:
        """Write an HDF5 file, atomically."""
        from lava_snnlearn.files import write_tree

        write_tree(path, self.to_dict(), content=_CONTENT)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> OnChipState:
        """Read a file written by :meth:`save`; everything is checked.

        Raises:
            FileFormatError: the file is missing, truncated, foreign, or its content is not a valid state.
        """
        from lava_snnlearn.files import FileFormatError, read_tree

        tree = read_tree(path, content=_CONTENT)
        try:
            return cls.from_dict(tree)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{path} does not hold a valid {_CONTENT}: {error}") from error


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
    if len(weights) != len(settings.synapses):
        raise ValueError(f"{len(weights)} weights for the connections {', '.join(settings.names)}; one array each")
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
