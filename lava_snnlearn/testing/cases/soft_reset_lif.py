"""How SoftResetLIF is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import DECAY_ONE, MEMBRANE_MAX, MEMBRANE_UNIT, bias_current, soft_reset_step
from lava_snnlearn.testing.cases.phases import REFUSED_TIMES, random_times, sample_phase
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_NEURONS = 5


def case() -> ProcessCase:
    """Random populations with scalar and per-neuron parameters, idle phases, resets and, now and then, saturation."""
    return ProcessCase(
        parameters=_chip_parameters,
        float_parameters=lambda rng: _chip_parameters(rng) if rng.integers(2) else _real_parameters(rng),
        inputs=_inputs,
        fixed=_fixed,
        floating=_floating,
        refused=_refused(),
        reset=lambda parameters, period: {**parameters, "t_start": 1, "t_stop": None, "reset_interval": period},
    )


def _chip_parameters(rng: np.random.Generator) -> Parameters:
    return {
        "shape": (_NEURONS,),
        "dv": rng.choice([0, 1, 410, 2048, 4096], size=_NEURONS),
        "vth": int(rng.integers(0, 300)),
        "delta": None if rng.integers(2) else rng.integers(0, 400, _NEURONS),
        "v_init": int(rng.choice([0, -500, 9000, MEMBRANE_MAX, -MEMBRANE_MAX])),
        "bias_mant": rng.integers(-4096, 4096, _NEURONS),
        "bias_exp": int(rng.integers(0, 8)),
        **random_times(rng),
    }


def _real_parameters(rng: np.random.Generator) -> Parameters:
    return {
        "shape": (_NEURONS,),
        "dv": rng.random(_NEURONS),
        "vth": 1.0,
        "delta": None if rng.integers(2) else float(rng.random()),
        "v_init": float(rng.normal()),
        "bias_mant": rng.normal(size=_NEURONS),
        "bias_exp": int(rng.integers(0, 3)),
        **random_times(rng),
    }


def _inputs(rng: np.random.Generator, parameters: Parameters, steps: int) -> Arrays:
    size = (steps, *parameters["shape"])
    if isinstance(parameters["vth"], float):
        return {"a_in": rng.normal(size=size)}
    return {"a_in": rng.integers(-300, 400, size) * int(rng.choice([1, 1, 300]))}


def _delta(parameters: Parameters) -> Any:
    return parameters["vth"] if parameters["delta"] is None else parameters["delta"]


def _fixed(parameters: Parameters, inputs: Arrays, steps: int) -> Arrays:
    """The emulator's arithmetic in a plain loop."""
    v: NDArray[np.int64] = np.zeros(parameters["shape"], dtype=np.int64)
    spikes, membranes = [], []
    for step in range(steps):
        phase, active = sample_phase(parameters, step)
        v = np.full_like(v, parameters["v_init"]) if phase == 0 else v
        fired = np.zeros(v.shape, dtype=bool)
        if active:
            fired, v, _ = soft_reset_step(
                v,
                inputs["a_in"][step],
                dv=parameters["dv"],
                bias=bias_current(parameters["bias_mant"], parameters["bias_exp"]),
                vth=parameters["vth"],
                delta=_delta(parameters),
            )
        spikes.append(fired)
        membranes.append(v)
    return {"s_out": np.array(spikes, dtype=np.int32), "v": np.array(membranes)}


def _floating(parameters: Parameters, inputs: Arrays, steps: int) -> Arrays:
    """The equations in real numbers; membranes in 1/64 where the parameters are chip units."""
    chip = not isinstance(parameters["vth"], float)
    unit, leak = (MEMBRANE_UNIT, parameters["dv"] / DECAY_ONE) if chip else (1, parameters["dv"])
    bias = parameters["bias_mant"] * 2.0 ** parameters["bias_exp"]
    v = np.zeros(parameters["shape"])
    spikes, membranes = [], []
    for step in range(steps):
        phase, active = sample_phase(parameters, step)
        v = np.full(v.shape, float(parameters["v_init"])) if phase == 0 else v
        fired = np.zeros(v.shape)
        if active:
            v = (1 - leak) * v + unit * inputs["a_in"][step] + bias
            fired = (v >= unit * parameters["vth"]).astype(float)
            v = v - fired * (unit * _delta(parameters))
        spikes.append(fired)
        membranes.append(v)
    return {"s_out": np.array(spikes), "v": np.array(membranes)}


def _refused() -> list[dict[str, Any]]:
    bad: dict[str, list[Any]] = {
        "dv": [-1, 4097, 1.5, float("nan")],
        "vth": [-1, 1 << 17, float("inf"), "high"],
        "delta": [-1, 1 << 17, [1, 2]],
        "v_init": [1 << 23, -(1 << 23)],
        "bias_mant": [-4097, 4096, 2**70],
        "bias_exp": [-1, 8, 1.0],
        **REFUSED_TIMES,
    }
    return [{name: value} for name, values in bad.items() for value in values]
