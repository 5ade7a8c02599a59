"""verify: the proof that what was trained is what runs, spike for spike and membrane for membrane.

Three independent computations of the same quantised network are compared at every step of every population:

* the emulator (batched integers),
* the ProcessModels on Lava's simulator, ``fixed_pt``,
* the torch twin: the eval forward in real numbers, layer by layer, without Lava's time shift.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import known_name
from lava_snnlearn.fixed_point import twin
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_UNIT
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import FixedNetwork, check_network
from lava_snnlearn.fixed_point.trace import Trace

BACKENDS = ("lava", "torch")
WHY_NOT = {"lava": " (not asked for)", "torch": " (not asked for, or a network with feedback, for which there is none)"}


@dataclass(frozen=True)
class Mismatch:
    """The first place where two computations differ. ``step`` counts the population's own active steps from 0."""

    backend: str
    quantity: str
    population: str
    neuron: int
    step: int
    sample: int
    emulator: int
    other: int

    def __str__(self) -> str:
        return (
            f"{self.quantity} of population {self.population!r}, neuron {self.neuron}, step {self.step}, sample {self.sample}: "
            f"emulator {self.emulator}, {self.backend} {self.other}"
        )


@dataclass(frozen=True)
class Report:
    """Result of a comparison.

    Attributes:
        samples, steps: what was compared.
        compared: values compared per backend.
        mismatches: values that differ per backend.
        first_mismatch: the earliest one (in steps, then in the order of populations), None if all are equal.
        backends: those that there are for such a network.
    """

    samples: int
    steps: int
    compared: Mapping[str, int]
    mismatches: Mapping[str, int]
    first_mismatch: Mismatch | None
    backends: tuple[str, ...] = BACKENDS

    @property
    def ok(self) -> bool:
        """True if every value compared is equal."""
        return not any(self.mismatches.values())

    def __str__(self) -> str:
        names = {"lava": "Lava fixed_pt simulation", "torch": "torch forward of the quantised network"}
        lines = [
            f"emulator = {names[backend]}: {self.mismatches[backend]} mismatches in {count} spikes and membranes"
            for backend, count in self.compared.items()
        ]
        lines += [
            f"{names[backend]}: not compared{WHY_NOT[backend]}" for backend in self.backends if backend not in self.compared
        ]
        lines.append(f"{self.samples} samples, {self.steps} steps, every population: {'EQUAL' if self.ok else 'DIFFERENT'}")
        if self.first_mismatch is not None:
            lines.append(f"first mismatch: {self.first_mismatch}")
        return "\n".join(lines)


def verify(
    network: FixedNetwork, x: ArrayLike, *, against: Collection[str] | None = None, time_limit: float | None = None
) -> Report:
    """Compare the emulator with Lava's simulator and with the torch forward of the quantised network.

    Args:
        network, x: as in ``emulate``; every sample is run on Lava's simulator, which takes some milliseconds a step.
        against: any of "lava" and "torch"; None takes both, and Lava alone for networks that have no torch forward
            (it exists for feed-forward graphs in which no spike arrives too early; see :func:`twin.is_aligned`).
        time_limit: of the guarded Lava run; see ``run_lava``.

    Returns:
        Report; ``report.ok`` is the answer, ``str(report)`` the readable form.

    Raises:
        UnknownNameError: an unknown backend. ValueError: ``against`` is empty, or torch is asked of another graph.
        TypeError: no FixedNetwork.
        LavaRunError: the Lava run failed.
    """
    check_network("verify", network)
    if against is None:
        against = BACKENDS if twin.is_aligned(network) else ("lava",)
    if not against:
        raise ValueError("nothing to compare with: give against=('lava', 'torch') or one of them")
    chosen = [known_name("backend", backend, BACKENDS) for backend in against]
    if "torch" in chosen and not twin.is_aligned(network):
        raise ValueError(twin.NOT_ALIGNED)
    trace = emulate(network, x)
    compared: dict[str, int] = {}
    mismatches: dict[str, int] = {}
    firsts: list[Mismatch] = []
    for backend in chosen:
        states = _lava(network, x, time_limit) if backend == "lava" else _torch(network, x)
        compared[backend], mismatches[backend], first = _compare(network, trace, states, backend)
        firsts += [first] if first is not None else []
    samples = next(iter(trace.membranes.values())).shape[1]
    return Report(samples, network.steps, compared, mismatches, firsts[0] if firsts else None)


@dataclass(frozen=True)
class _States:
    """Spikes and membranes of another computation, as integers [T, B, n]."""

    spikes: Mapping[str, NDArray[Any]]
    membranes: Mapping[str, NDArray[Any]]


def _lava(network: FixedNetwork, x: ArrayLike, time_limit: float | None) -> Trace:
    from lava_snnlearn.lava_backend.graph import run_lava

    return run_lava(network, x) if time_limit is None else run_lava(network, x, time_limit=time_limit)


def _torch(network: FixedNetwork, x: ArrayLike) -> _States:
    real = twin.forward(network, x)
    units = {p.name: float(MEMBRANE_UNIT) * 2.0**p.scale_bits for p in network.populations}
    return _States(
        {name: spikes.numpy() for name, spikes in real.spikes.items()},
        {name: membrane.numpy() * units[name] for name, membrane in real.membranes.items()},
    )


def _compare(network: FixedNetwork, trace: Trace, other: Trace | _States, backend: str) -> tuple[int, int, Mismatch | None]:
    """Values compared, values that differ, and the first of them."""
    compared = different = 0
    found: list[tuple[int, int, Mismatch]] = []
    for order, population in enumerate(network.populations):
        pairs: list[tuple[str, NDArray[Any], NDArray[Any]]] = [
            ("membrane", trace.membranes[population.name], other.membranes[population.name])
        ]
        if population.spiking:
            pairs.insert(0, ("spike", trace.spikes[population.name], other.spikes[population.name]))
        for quantity, ours, theirs in pairs:
            differs = ours != theirs
            compared += differs.size
            different += int(differs.sum())
            if differs.any():
                step, sample, neuron = (int(i) for i in np.argwhere(differs)[0])
                values = int(ours[step, sample, neuron]), int(theirs[step, sample, neuron])
                found.append((step, order, Mismatch(backend, quantity, population.name, neuron, step, sample, *values)))
    first = min(found, key=lambda item: item[:2])[2] if found else None
    return compared, different, first
