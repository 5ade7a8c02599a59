"""How EPNeuron is checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from lava_snnlearn.testing.cases.phases import REFUSED_TIMES, random_times, sample_phase
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_NEURONS = 5


def case() -> ProcessCase:
    """Random populations in both kinds of messages, free and nudged, with idle phases and resets."""
    return ProcessCase(
        parameters=_parameters,
        inputs=_inputs,
        fixed=lambda parameters, arrived, steps: _reference(parameters, arrived, steps, fixed=True),
        floating=lambda parameters, arrived, steps: _reference(parameters, arrived, steps, fixed=False),
        refused=_refused(),
        # Without memory of its input, a neuron would be the same without a reset.
        reset=lambda parameters, period: parameters | {"t_start": 1, "t_stop": None, "reset_interval": period, "changes": True},
    )


def _parameters(rng: np.random.Generator) -> Parameters:
    return {
        "shape": (_NEURONS,),
        "shift": int(rng.integers(0, 12)),
        "top": int(rng.choice([1, 127, 255])),
        "bias_mant": rng.integers(-4096, 4096, _NEURONS),
        "bias_exp": int(rng.integers(0, 6)),
        "beta": int(rng.integers(-256, 257)),
        "t_nudge": None if rng.integers(3) == 0 else int(rng.integers(0, 12)),
        "changes": bool(rng.integers(2)),
        **random_times(rng),
    }


def _inputs(rng: np.random.Generator, parameters: Parameters, steps: int) -> Arrays:
    size = (steps, *parameters["shape"])
    largest = int(2 * parameters["top"]) << parameters["shift"]
    return {
        "a_in": rng.integers(-largest, largest + 1, size),
        "y_in": rng.integers(0, parameters["top"] + 1, size) * (rng.random(size) < 0.1),
    }


def _reference(parameters: Parameters, inputs: Arrays, steps: int, fixed: bool) -> Arrays:
    """The equations in a plain loop; floors are Python's integer division."""
    bias = parameters["bias_mant"].astype(np.int64) * 2 ** parameters["bias_exp"]
    top, unit, beta = parameters["top"], 2 ** parameters["shift"], parameters["beta"]
    nudge_from = np.inf if parameters["t_nudge"] is None else parameters["t_nudge"]
    zero = np.zeros(parameters["shape"], dtype=np.int64 if fixed else float)
    v, total, target, events = zero, zero, zero, zero
    rows: dict[str, list[Any]] = {name: [] for name in ("s_out", "v", "a", "target", "events")}
    for step in range(steps):
        phase, active = sample_phase(parameters, step)
        if phase == 0:
            v, total, target, events = zero, zero, zero, zero
        target = np.maximum(target, inputs["y_in"][step])
        sent = zero
        if active:
            total = inputs["a_in"][step] + (total if parameters["changes"] else 0)
            charge = (total + bias) // unit if fixed else (total + bias) / unit
            pull = (beta if phase >= nudge_from else 0) * (target - v)
            state = np.clip(charge, 0, top) + ((pull + 128) // 256 if fixed else pull / 256)
            sent, v = state - (v if parameters["changes"] else 0), state
            events = events + (sent != 0)
        for name, value in (("s_out", sent), ("v", v), ("a", total), ("target", target), ("events", events)):
            rows[name].append(value)
    return {name: np.array(values) for name, values in rows.items()}


def _refused() -> list[dict[str, Any]]:
    bad: dict[str, list[Any]] = {
        "shift": [-1, 24, 1.5],
        "top": [0, 256, True],
        "beta": [-257, 257, 0.5],
        "t_nudge": [-1, 2.5],
        "changes": [1],
        "bias_mant": [-4097, 4096, 0.5],
        "bias_exp": [-1, 8, 1.0],
        **REFUSED_TIMES,
    }
    return [{name: value} for name, values in bad.items() for value in values]
