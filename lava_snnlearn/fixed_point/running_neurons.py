"""Neurons of one population, step after step of one sample after the other; in the chip's integers and in real numbers.

Populations are idle outside of their active steps: they ignore what arrives, keep their membrane and send nothing. On Lava
stock LIFs and relays cannot pause: they are never idle, and LIFs are reset where their active steps begin. Where Lava runs
every sample as a run of its own (``network.one_by_one``), they pause here as all others do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point import limits, running_kernels
from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_UNIT
from lava_snnlearn.fixed_point.engine import neurons as engine
from lava_snnlearn.fixed_point.graph import Population
from lava_snnlearn.fixed_point.population import KINDS

Update = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
"""An active step: (membranes, updated in place; sums that arrive) -> what is sent, both [n]."""
LifUpdate = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]
"""A step of stock LIFs: (currents u, membranes v, sums that arrive) -> spikes, u, v; all [n]."""
Active = Callable[[int], bool]
"""From the number of a step in its sample, from 0, to whether a population is active."""
_NOT_KEPT = engine.Kept()


class Neurons(Protocol):
    """What every kind of neuron does in a step."""

    def step(self, phase: int, membranes: NDArray[Any], arriving: NDArray[Any]) -> NDArray[Any] | int:
        """One step of the sample, ``phase`` from 0; membranes [n] are updated in place, ``arriving`` [n] is of their dtype and
        contiguous. Returns what is sent, until the next step: [n], or 0."""
        ...


class ChipNeurons:
    """The chip's integers, by the emulator's kernels: a block of one sample, and windows of one step."""

    def __init__(self, population: Population, active: Active) -> None:
        self._population, self._active = population, active
        self._starts = population.t_start if population.kind == "lif" else 0
        self._neurons = engine.Neurons(population, 1, limits.CHANNEL_MAX, running_kernels)
        self._sent = np.zeros((1, 1, population.size), population.sent_dtype)
        self._to = engine.Target(self._sent, 0) if population.spiking else None

    def step(self, phase: int, membranes: NDArray[np.int32], arriving: NDArray[np.int32]) -> NDArray[Any] | int:
        """See :class:`Neurons`."""
        neurons = self._neurons
        if phase == self._starts:
            membranes[:] = self._population.v_init
            neurons.u[:] = self._population.u_init
        active = self._active(phase)
        if active:
            neurons.v[0] = membranes
            neurons.advance(arriving[np.newaxis, np.newaxis], 0, 1, phase, self._to, _NOT_KEPT)
            membranes[:] = neurons.v[0]
        if self._to is None:
            # What an accumulator sends is its membrane, which stays to be read when the sample is over.
            return membranes
        return self._sent[0, 0] if active else 0


@cache
def prepare() -> None:
    """Have the kernels of all kinds compiled, or loaded from numba's cache, in this process."""
    for kind in KINDS:
        population = Population("any", 1, kind, top=int(kind == "graded"))
        ChipNeurons(population, lambda phase: True).step(0, np.zeros(1, np.int32), np.zeros(1, np.int32))


class _Gated:
    """Real numbers: neurons that are active in some steps of a sample, and idle in the others."""

    def __init__(self, population: Population, active: Active, update: Update) -> None:
        self._active, self._initial, self._update = active, population.v_init, update
        self._keeps = population.kind == "accumulator"

    def step(self, phase: int, membranes: NDArray[Any], arriving: NDArray[Any]) -> NDArray[Any] | int:
        if phase == 0:
            membranes[:] = self._initial
        sent = self._update(membranes, arriving) if self._active(phase) else 0
        # What an accumulator sends is its membrane, which stays to be read when the sample is over.
        return membranes if self._keeps else sent


class _StockLif:
    """Real numbers: Lava's LIFReset; u and v are set before the update of the first active step, cleared at its fixed times."""

    def __init__(self, population: Population, active: Active, update: LifUpdate) -> None:
        self._population, self._active, self._update = population, active, update
        self._u: NDArray[Any] = np.broadcast_to(0, (population.size,))

    def step(self, phase: int, membranes: NDArray[Any], arriving: NDArray[Any]) -> NDArray[Any] | int:
        if not self._active(phase):
            return 0
        if phase == self._population.t_start:
            membranes[:], self._u = self._population.v_init, np.broadcast_to(self._population.u_init, membranes.shape)
        if self._population.resets_at(phase):
            membranes[:], self._u = 0, np.zeros_like(self._u)
        spikes, self._u, membranes[:] = self._update(self._u, membranes, arriving)
        return spikes


def active_steps(population: Population, steps: int | None, pauses: bool) -> Active:
    """In which phases of a sample the population is active.

    steps: active steps; None: once started, it never stops. pauses: stock LIFs and relays pause as well.
    """
    if not (population.pauses or pauses):
        return lambda phase: True
    start = population.t_start
    stop = None if steps is None else start + steps
    return lambda phase: phase >= start and (stop is None or phase < stop)


def real_neurons(population: Population, active: Active) -> Neurons:
    """In real numbers: nothing is rounded, clipped or wrapped; membranes in 1/64 weight units, as in the integers."""
    p, bias = population, population.bias
    kept, threshold = 1 - p.dv / DECAY_ONE, MEMBRANE_UNIT * p.vth
    if p.kind == "lif":
        kept_current = 1 - (p.du + 1) / DECAY_ONE

        def lif(u: NDArray[Any], v: NDArray[Any], a: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
            current = kept_current * u + MEMBRANE_UNIT * a
            charged = kept * v + current + bias
            spikes = charged > threshold
            return spikes, current, np.where(spikes, 0.0, charged)

        return _StockLif(p, active, lif)

    def graded(v: NDArray[Any], a: NDArray[Any]) -> NDArray[Any]:
        v[:] = np.clip((a + bias) / 2.0**p.shift, 0, p.top)
        return v

    def soft(v: NDArray[Any], a: NDArray[Any]) -> NDArray[Any]:
        charged = kept * v + MEMBRANE_UNIT * a + bias
        spikes = charged >= threshold if p.spiking else np.zeros(charged.shape, bool)
        v[:] = charged - spikes * float(MEMBRANE_UNIT * (p.delta or 0))
        return spikes

    return _Gated(p, active, {"graded": graded, "relay": _relay}.get(p.kind, soft))


def _relay(v: NDArray[Any], a: NDArray[Any]) -> NDArray[Any]:
    """What arrives goes on; there is no memory, and ``v`` only shows it."""
    v[:] = a
    return v
