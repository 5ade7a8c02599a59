"""Neurons of one population, step after step of one sample after the other; in the chip's integers and in real numbers.

Populations are idle outside of their active steps: they ignore what arrives, keep their membrane and send nothing. On Lava
stock LIFs and relays cannot pause: they are never idle, and LIFs are reset where their active steps begin. Where Lava runs
every sample as a run of its own (``network.one_by_one``), they pause here as all others do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import (
    DECAY_ONE,
    MEMBRANE_UNIT,
    bias_current,
    graded_step,
    lif_step,
    soft_reset_step,
)
from lava_snnlearn.fixed_point.graph import Population

Update = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
"""An active step: (membranes, updated in place; sums that arrive) -> what is sent, both [n]."""


LifUpdate = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]
"""A step of stock LIFs: (currents u, membranes v, sums that arrive) -> spikes, u, v; all [n]."""
Active = Callable[[int], bool]
"""From the number of a step in its sample, from 0, to whether a population is active."""


class Neurons(Protocol):
    """What every kind of neuron does in a step."""

    def step(self, phase: int, membranes: NDArray[Any], arriving: NDArray[Any]) -> NDArray[Any] | int:
        """One step of the sample, ``phase`` from 0; membranes [n] are updated in place. Returns what is sent: [n], or 0."""
        ...


class _Gated:
    """Neurons that are active in some steps of a sample, and idle in the others."""

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
    """Lava's LIFReset: u and v are set before the update of the first active step, and cleared at its fixed times."""

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
    if population.kind in ("lif", "relay") and not pauses:
        return lambda phase: True
    start = population.t_start
    stop = None if steps is None else start + steps
    return lambda phase: phase >= start and (stop is None or phase < stop)


def integer_neurons(population: Population, active: Active) -> Neurons:
    """Neurons in the chip's integers, by the arithmetic that the emulator and the Lava models share."""
    p, bias = population, bias_current(np.asarray(population.bias_mant), population.bias_exp)
    if p.kind == "lif":

        def lif(u: NDArray[Any], v: NDArray[Any], a: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
            result = lif_step(u, v, a, du=p.du, dv=p.dv, bias=bias, vth=p.vth)
            return result.spike, result.current, result.membrane

        return _StockLif(p, active, lif)

    def graded(v: NDArray[Any], a: NDArray[Any]) -> NDArray[Any]:
        v[:] = graded_step(v, a, bias=bias, shift=p.shift, top=p.top)
        return v

    def soft(v: NDArray[Any], a: NDArray[Any]) -> NDArray[Any]:
        delta = p.delta if p.spiking else 0
        assert delta is not None
        spike, v[:], _ = soft_reset_step(v, a, dv=p.dv, bias=bias, vth=p.vth, delta=delta)
        return spike

    return _Gated(p, active, {"graded": graded, "relay": _relay}.get(p.kind, soft))


def real_neurons(population: Population, active: Active) -> Neurons:
    """The same in real numbers: nothing is rounded, clipped or wrapped; membranes in 1/64 weight units, as in the integers."""
    p, bias = population, np.asarray(population.bias_mant) * 2.0**population.bias_exp
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
