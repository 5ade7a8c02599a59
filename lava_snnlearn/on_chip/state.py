"""What the memories of all networks that learn on the chip have in common: learning rate, weights, files, answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from os import PathLike
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least, real_number, within
from lava_snnlearn.fixed_point import plasticity
from lava_snnlearn.on_chip.settings import ETA_MAX, ChipSettings
from lava_snnlearn.on_chip.synapses import payload_of

AnyState = TypeVar("AnyState", bound="ChipState")


class Inference(NamedTuple):
    """What a network answers: spike counts int32 [B, h_l] of each hidden layer, the readout's summed currents z int64
    [B, classes] in weight units, and the classes int64 [B] (largest z, the lowest index among equals)."""

    counts: tuple[NDArray[np.int32], ...]
    z: NDArray[np.int64]
    predictions: NDArray[np.int64]

    @classmethod
    def of(cls, settings: ChipSettings, counts: NDArray[np.int32], z: NDArray[np.int64]) -> Inference:
        """From the counts [B, N] of all hidden neurons."""
        return cls(tuple(settings.by_layer(counts)), z, np.asarray(z.argmax(axis=1)))


class ChipState:
    """Base of the states, which are frozen dataclasses with these fields and more.

    Attributes:
        settings: what the network is built from.
        memories: one int16 array [n_out, n_in] a connection.
        samples: learnt so far.
        eta: learning rate from now on; None becomes that of the settings.
    """

    settings_type: ClassVar[type[ChipSettings]]
    settings: ChipSettings
    memories: tuple[NDArray[np.int16], ...]
    samples: int
    eta: float | None

    def _check_common(self) -> None:
        object.__setattr__(self, "memories", tuple(self.memories))
        object.__setattr__(self, "samples", at_least(0, "samples", self.samples))
        eta = self.settings.eta if self.eta is None else self.eta
        real_number("eta", eta)
        object.__setattr__(self, "eta", float(eta))
        within("eta", self.eta, 0, ETA_MAX, "Choose a learning rate near that of the settings.")
        parts = self.settings.synapses
        check_number("memories", self.memories, [part.name for part in parts])
        for part, memory in zip(parts, self.memories, strict=True):
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
        return tuple(plasticity.seen(self.settings.memory, memory) for memory in self.memories)

    def weights(self) -> dict[str, NDArray[np.float64]]:
        """Real weights by connection as spikes see them; those of the first for inputs of 1.0."""
        return {part.name: part.real(view) for part, view in zip(self.settings.synapses, self.views, strict=True)}

    def payload(self, x: ArrayLike) -> NDArray[np.int64]:
        """What the source sends: int64 [..., channels]; see :func:`~lava_snnlearn.on_chip.synapses.payload_of`."""
        settings = self.settings
        return payload_of(x, settings.sizes[0], settings.payload_one, settings.bias_payload)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict of numbers, strings and arrays; :meth:`from_dict` is its inverse."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return plain | {"settings": self.settings.to_dict()}

    @classmethod
    def from_dict(cls: type[AnyState], tree: Mapping[str, Any]) -> AnyState:
        """Rebuild, and check, a state from :meth:`to_dict`'s form."""
        values = {field.name: tree[field.name] for field in fields(cls)}  # type: ignore[arg-type]
        return cls(**values | {"settings": cls.settings_type(**tree["settings"])})

    def save(self, path: str | PathLike[str]) -> None:
        """Write an HDF5 file, atomically."""
        from lava_snnlearn.files import write_tree

        write_tree(path, self.to_dict(), content=type(self).__name__)

    @classmethod
    def load(cls: type[AnyState], path: str | PathLike[str]) -> AnyState:
        """Read a file written by :meth:`save`; everything is checked.

        Raises:
            FileFormatError: the file is missing, truncated, foreign, or its content is not a valid state.
        """
        from lava_snnlearn.files import read_object

        return read_object(path, cls.__name__, cls.from_dict)


def check_number(what: str, values: Sequence[Any], names: Sequence[str]) -> None:
    """Raise ValueError if there is not one value for each of the connections (or layers) of these names."""
    if len(values) != len(names):
        raise ValueError(f"{len(values)} {what} for {', '.join(names) or 'none'}; give one for each")
