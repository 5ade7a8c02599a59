"""How TernaryIF is checked; and the random parameters and inputs that CoupledIF shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_UNIT, bias_current, ternary_step
from lava_snnlearn.testing.cases.phases import REFUSED_TIMES, random_times, sample_phase
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_NEURONS = 5
_RECORDED = ("s_out", "v", "g", "mask", "count", "forward_count", "clipped")

REFUSED: dict[str, list[Any]] = {
    "dv": [-1, 4097, 1.5, float("nan")],
    "vth": [0, -1, 1 << 17, float("inf"), "high"],
    "delta": [-1, 1 << 17, [1, 2]],
    "bias_mant": [-4097, 4096, 2**70],
    "bias_exp": [-1, 8, 1.0],
    "mask": [1, [True, False]],
    **REFUSED_TIMES,
}


def case() -> ProcessCase:
    """Random populations with both kinds of mask, limits of the injection, idle phases, resets, now and then saturation."""
    return ProcessCase(
        parameters=lambda rng: {**chip_parameters(rng), **_backward(rng, (40, 400))},
        float_parameters=_float_parameters,
        inputs=inputs,
        fixed=lambda parameters, arrived, steps: _reference(parameters, arrived, steps, fixed=True),
        floating=lambda parameters, arrived, steps: _reference(parameters, arrived, steps, fixed=False),
        refused=refused({**REFUSED, "mask_steps": [1, 2.0], "g_limit": [-1, "high"]}),
        # clipped is summed over the run, so it differs between samples where it counts anything
        reset=lambda parameters, period: {**parameters, **single_sample(period), "g_limit": None},
    )


def refused(bad: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """One set of arguments for each bad value."""
    return [{name: value} for name, values in bad.items() for value in values]


def single_sample(period: int) -> Parameters:
    """Times of a process that starts afresh every ``period`` steps."""
    return {"t_start": 1, "t_stop": None, "reset_interval": period}


def chip_parameters(rng: np.random.Generator) -> Parameters:
    """Random arguments in chip units that TernaryIF and CoupledIF share."""
    return {
        "shape": (_NEURONS,),
        "dv": rng.choice([0, 1, 410, 2048, 4096], size=_NEURONS),
        "vth": int(rng.integers(1, 300)),
        "delta": None if rng.integers(2) else rng.integers(0, 600, _NEURONS),
        "bias_mant": rng.integers(-4096, 4096, _NEURONS),
        "bias_exp": int(rng.integers(0, 4)),
        "mask": None if rng.integers(2) else rng.random(_NEURONS) < 0.7,
        **random_times(rng),
    }


def real_parameters(rng: np.random.Generator) -> Parameters:
    """Random arguments in real units that TernaryIF and CoupledIF share."""
    return {
        "shape": (_NEURONS,),
        "dv": rng.random(_NEURONS),
        "vth": 1.0,
        "delta": None if rng.integers(2) else float(2 * rng.random()),
        "bias_mant": rng.normal(size=_NEURONS) / 4,
        "bias_exp": int(rng.integers(0, 3)),
        "mask": None if rng.integers(2) else rng.random(_NEURONS) < 0.7,
        **random_times(rng),
    }


def inputs(rng: np.random.Generator, parameters: Parameters, steps: int) -> Arrays:
    """Currents in every step, an injection now and then, forward spikes in half of the steps."""
    size = (steps, *parameters["shape"])
    arriving = rng.random(size) < 0.1
    current: NDArray
    injected: NDArray
    if isinstance(parameters["vth"], float):
        current, injected = rng.normal(size=size), rng.normal(size=size)
    else:
        strength = int(rng.choice([1, 1, 3000]))
        current, injected = rng.integers(-300, 301, size) * strength, rng.integers(-300, 301, size)
    return {"a_in": current, "g_in": injected * arriving, "h_in": rng.integers(0, 2, size)}


def real_units(parameters: Parameters) -> tuple[float, NDArray, NDArray]:
    """What the floating-point reference counts with: membrane unit, leak as a fraction, bias."""
    chip = not isinstance(parameters["vth"], float)
    bias = parameters["bias_mant"] * 2.0 ** parameters["bias_exp"]
    return (MEMBRANE_UNIT, parameters["dv"] / DECAY_ONE, bias) if chip else (1.0, parameters["dv"], bias)


def delta_of(parameters: Parameters) -> Any:
    """The amount of the reset, also where it is the default."""
    return 2 * parameters["vth"] if parameters["delta"] is None else parameters["delta"]


def mask_of(parameters: Parameters) -> NDArray[np.bool_]:
    """The fixed mask, also where it is the default."""
    shape = parameters["shape"]
    return np.ones(shape, dtype=bool) if parameters["mask"] is None else np.array(parameters["mask"])


def _backward(rng: np.random.Generator, limits: tuple[float, float]) -> Parameters:
    """Random arguments that only TernaryIF has."""
    steps = None if rng.integers(2) else int(rng.integers(2, 5))
    own = {} if steps is None else {"mask": None}
    limit = rng.uniform(*limits, size=_NEURONS).astype(type(limits[0]))
    return {"mask_steps": steps, "g_limit": None if rng.integers(2) else limit, **own}


def _float_parameters(rng: np.random.Generator) -> Parameters:
    if rng.integers(2):
        return {**chip_parameters(rng), **_backward(rng, (40, 400))}
    return {**real_parameters(rng), **_backward(rng, (0.1, 1.0))}


def _reference(parameters: Parameters, arrived: Arrays, steps: int, fixed: bool) -> Arrays:
    """A sample's steps in a plain loop, with the integer arithmetic or in real numbers."""
    shape, limit, forward_steps = parameters["shape"], parameters["g_limit"], parameters["mask_steps"]
    state: Arrays = {name: np.zeros(shape) for name in _RECORDED}
    state["clipped"] = np.zeros(1)
    rows: dict[str, list[NDArray]] = {name: [] for name in _RECORDED}
    for step in range(steps):
        phase, active = sample_phase(parameters, step)
        if phase == 0:
            fresh = {name: np.zeros(shape) for name in _RECORDED if name != "clipped"}
            state.update(fresh, mask=fresh["mask"] if forward_steps else mask_of(parameters))
        state["g"] = state["g"] + arrived["g_in"][step]
        state["forward_count"] = state["forward_count"] + arrived["h_in"][step]
        if phase == parameters["t_start"]:
            if forward_steps:
                state["mask"] = (state["forward_count"] > 0) & (state["forward_count"] < forward_steps)
            if limit is not None:
                state["clipped"] = state["clipped"] + (abs(state["g"]) > limit).sum()
                state["g"] = np.sign(state["g"]) * np.minimum(abs(state["g"]), limit)
        state["s_out"] = np.zeros(shape)
        if active:
            current = arrived["a_in"][step] + state["g"]
            fired, state["v"] = (_fixed if fixed else _floating)(parameters, state["v"], current)
            state["s_out"] = np.where(state["mask"], fired, 0)
            state["count"] = state["count"] + state["s_out"]
        for name in _RECORDED:
            rows[name].append(state[name])
    return {name: np.array(values) for name, values in rows.items()}


def _fixed(parameters: Parameters, v: NDArray, current: NDArray) -> tuple[NDArray, NDArray]:
    bias = bias_current(parameters["bias_mant"], parameters["bias_exp"])
    step = ternary_step(
        v.astype(np.int64),
        current.astype(np.int64),
        dv=parameters["dv"],
        bias=bias,
        vth=parameters["vth"],
        delta=delta_of(parameters),
    )
    return step.spike, step.membrane


def _floating(parameters: Parameters, v: NDArray, current: NDArray) -> tuple[NDArray, NDArray]:
    unit, leak, bias = real_units(parameters)
    v = (1 - leak) * v + unit * current + bias
    fired = np.where(abs(v) >= unit * parameters["vth"], np.sign(v), 0)
    return fired, v - fired * (unit * delta_of(parameters))
