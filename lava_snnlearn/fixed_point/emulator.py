"""The emulator: a FixedNetwork run on batches in exact integers, equal to Lava's fixed_pt simulation bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import known_name
from lava_snnlearn.fixed_point.arithmetic import NeuronStep, bias_current, graded_step, soft_reset_step, zero_reset_step
from lava_snnlearn.fixed_point.graph import FixedNetwork, Population, check_network
from lava_snnlearn.fixed_point.trace import Trace

RECORDS = ("all", "outputs", "spikes")


def emulate(
    network: FixedNetwork, x: ArrayLike, *, record: str = "all", device: str = "cpu", threads: int | None = None
) -> Trace:
    """Run a network on a batch in exact integers.

    Args:
        network: the network.
        x: data, floats [B, features] or [T, B, features]; or integers that are taken as the chip's own input (spikes as uint8
            are read where they lie, all else is copied).
        record: "all", "spikes" (no membranes) or "outputs" (neither spikes nor membranes; least memory).
        device: "cpu": compiled kernels. "cuda", or one card as "cuda:1": torch on a graphics card. Results are the same.
        threads: of the kernels, at most; None: as many as torch takes. Results do not depend on it.

    Returns:
        Trace, equal to that of ``run_lava`` on the same input, bit for bit.

    Raises:
        ValueError, TypeError: input that does not fit; see :meth:`lava_snnlearn.fixed_point.host.HostInput.encode`.
        UnknownNameError: an unknown record.
        RuntimeError: the device is not there.
    """
    # Here, not above: networks can be read and printed where there is no compiler.
    from lava_snnlearn.fixed_point.engine.batch import run_batch
    from lava_snnlearn.fixed_point.engine.program import program_of
    from lava_snnlearn.fixed_point.engine.signal import chip_input

    check_network("emulate", network)
    known_name("record", record, RECORDS)
    signal = chip_input(network, x)
    if device != "cpu":
        from lava_snnlearn.fixed_point.engine.on_torch import run_on_torch

        return run_on_torch(network, signal, record, device)
    return run_batch(program_of(network), signal, record, threads)


def stepper(population: Population) -> Callable[[NDArray[Any], NDArray[Any]], NeuronStep]:
    """The integer step (membrane, current) -> NeuronStep of a population whose membrane is its whole state: not of stock LIFs
    that filter their current."""
    bias = bias_current(np.asarray(population.bias_mant), population.bias_exp)
    if population.kind == "lif":
        return lambda v, a: zero_reset_step(v, a, dv=population.dv, bias=bias, vth=population.vth)
    if population.kind == "relay":
        return lambda _, a: _sent(np.asarray(a, dtype=np.int64))
    if population.kind == "graded":
        return lambda v, a: _sent(graded_step(v, a, bias=bias, shift=population.shift, top=population.top))
    delta = population.delta if population.spiking else 0
    assert delta is not None
    return lambda v, a: soft_reset_step(v, a, dv=population.dv, bias=bias, vth=population.vth, delta=delta)


def _sent(state: NDArray[np.int64]) -> NeuronStep:
    """Graded neurons and relays send their state, which no register clips."""
    return NeuronStep(state, state, np.zeros(state.shape, dtype=bool))


def topological_order(network: FixedNetwork) -> list[Population] | None:
    """Populations so that every source comes before its targets; None if the graph has a cycle."""
    waiting = list(network.populations)
    done: list[Population] = []
    while waiting:
        names = {population.name for population in waiting}
        ready = [p for p in waiting if not any(c.source in names for c in network.incoming(p.name))]
        if not ready:
            return None
        done += ready
        waiting = [p for p in waiting if p not in ready]
    return done
