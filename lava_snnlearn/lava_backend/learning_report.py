"""What a proof of learning on Lava says: the values of simulator and Lava side by side, and the first that differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Row: TypeAlias = tuple[str, Sequence[str], Sequence[NDArray[Any]]]


class Quantity(NamedTuple):
    """Integers of one kind that belong together; ``phase``: in which step of the sample they were, None: at its end."""

    name: str
    part: str
    values: NDArray[Any]
    phase: int | None = None


def quantities(rows: Iterable[Row], phase: int | None = None) -> Iterator[Quantity]:
    """Those of rows of (name, parts, an array for each part)."""
    for name, parts, arrays in rows:
        for part, values in zip(parts, arrays, strict=True):
            yield Quantity(name, part, values, phase)


@dataclass(frozen=True)
class LearningMismatch:
    """The first place where simulator and Lava differ. ``index``: neuron or class, or (out, in) of a synapse."""

    sample: int
    quantity: str
    part: str
    index: tuple[int, ...]
    simulator: int
    lava: int
    phase: int | None = None

    def __str__(self) -> str:
        time = f"sample {self.sample}" + ("" if self.phase is None else f", phase {self.phase}")
        place = f"{time}, {self.quantity} of {self.part} at {self.index}"
        return f"{place}: simulator {self.simulator}, Lava {self.lava}"


@dataclass(frozen=True)
class LearningReport:
    """Result of ``verify_learning``.

    Attributes:
        samples: how many were learnt.
        compared, mismatches: values compared and values that differ, by quantity.
        first_mismatch: the first one in time, None if all are equal.
    """

    samples: int
    compared: Mapping[str, int]
    mismatches: Mapping[str, int]
    first_mismatch: LearningMismatch | None

    @property
    def ok(self) -> bool:
        """True if every value compared is equal."""
        return not any(self.mismatches.values())

    def __str__(self) -> str:
        lines = [f"{name}: {self.mismatches[name]} mismatches in {count} values" for name, count in self.compared.items()]
        verdict = "EQUAL" if self.ok else "DIFFERENT"
        lines.append(f"{self.samples} samples learnt by the simulator and by Lava fixed_pt: {verdict}")
        if self.first_mismatch is not None:
            lines.append(f"first mismatch: {self.first_mismatch}")
        return "\n".join(lines)


def compare_learning(pairs: Iterable[tuple[Iterable[Quantity], Iterable[Quantity]]]) -> LearningReport:
    """The report of all samples.

    Args:
        pairs: of each sample what the simulator and what Lava held, in the order in which it comes about, the same
            quantities of the same shapes.

    Raises:
        ValueError: one of the two holds more, or something of another shape.
    """
    compared: dict[str, int] = {}
    mismatches: dict[str, int] = {}
    first: LearningMismatch | None = None
    samples = 0
    for simulator, lava in pairs:
        for ours, theirs in zip(simulator, lava, strict=True):
            if ours.values.shape != theirs.values.shape:
                shapes = f"{ours.values.shape} in the simulator and {theirs.values.shape} on Lava"
                raise ValueError(f"{ours.name} of {ours.part} have the shape {shapes}; both must have learnt the same network")
            if not ours.values.size:
                continue
            differs = ours.values != theirs.values
            compared[ours.name] = compared.get(ours.name, 0) + differs.size
            mismatches[ours.name] = mismatches.get(ours.name, 0) + int(differs.sum())
            if first is None and differs.any():
                index = tuple(int(i) for i in np.argwhere(differs)[0])
                values = int(ours.values[index]), int(theirs.values[index])
                first = LearningMismatch(samples, ours.name, ours.part, index, *values, ours.phase)
        samples += 1
    return LearningReport(samples, compared, mismatches, first)
