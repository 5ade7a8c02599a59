"""How CoupledIF is checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import bias_current, coupled_step
from lava_snnlearn.testing.cases import ternary_if as ternary
from lava_snnlearn.testing.cases.phases import sample_phase
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase


def case() -> ProcessCase:
    """Random halves of both polarities whose partner fires at random, which it never does in a real couple."""
    return ProcessCase(
        parameters=lambda rng: {**ternary.chip_parameters(rng), **_polarity(rng)},
        float_parameters=_float_parameters,
        inputs=_inputs,
        fixed=lambda parameters, arrived, steps: _reference(parameters, arrived, steps, fixed=True),
        floating=lambda parameters, arrived, steps: _reference(parameters, arrived, steps, fixed=False),
        refused=ternary.refused({**ternary.REFUSED, "polarity": [0, 2, 1.0]}),
        reset=lambda parameters, period: {**parameters, **ternary.single_sample(period)},
    )


def _polarity(rng: np.random.Generator) -> Parameters:
    return {"polarity": int(rng.choice([-1, 1]))}


def _float_parameters(rng: np.random.Generator) -> Parameters:
    shared = ternary.chip_parameters(rng) if rng.integers(2) else ternary.real_parameters(rng)
    return {**shared, **_polarity(rng)}


def _inputs(rng: np.random.Generator, parameters: Parameters, steps: int) -> Arrays:
    arriving = ternary.inputs(rng, parameters, steps)
    return {"a_in": arriving["a_in"], "g_in": arriving["g_in"], "c_in": (rng.random(arriving["h_in"].shape) < 0.2).astype(int)}


def _reference(parameters: Parameters, arrived: Arrays, steps: int, fixed: bool) -> Arrays:
    """A plain loop, with the integer arithmetic or in real numbers."""
    shape, polarity = parameters["shape"], parameters["polarity"]
    v, g = np.zeros(shape), np.zeros(shape)
    rows: dict[str, list[NDArray]] = {"s_out": [], "v": [], "g": []}
    for step in range(steps):
        phase, active = sample_phase(parameters, step)
        if phase == 0:
            v, g = np.zeros(shape), np.zeros(shape)
        g = g + arrived["g_in"][step]
        fired = np.zeros(shape)
        if active:
            partner = arrived["c_in"][step] * (phase > parameters["t_start"])
            current = polarity * (arrived["a_in"][step] + g)
            fired, v = (_fixed if fixed else _floating)(parameters, v, current, partner)
        for name, value in (("s_out", polarity * fired), ("v", v), ("g", g)):
            rows[name].append(value)
    return {name: np.array(values) for name, values in rows.items()}


def _fixed(parameters: Parameters, v: NDArray, current: NDArray, partner: NDArray) -> tuple[NDArray, NDArray]:
    mask = ternary.mask_of(parameters)
    fired, membrane, _ = coupled_step(
        v.astype(np.int64),
        current.astype(np.int64),
        partner,
        dv=parameters["dv"],
        bias=parameters["polarity"] * bias_current(parameters["bias_mant"], parameters["bias_exp"]),
        vth=parameters["vth"],
        delta=mask * ternary.delta_of(parameters),
    )
    return fired & mask, membrane


def _floating(parameters: Parameters, v: NDArray, current: NDArray, partner: NDArray) -> tuple[NDArray, NDArray]:
    unit, leak, bias = ternary.real_units(parameters)
    mask = ternary.mask_of(parameters)
    delta = unit * ternary.delta_of(parameters)
    v = (1 - leak) * (v + partner * mask * delta) + unit * current + parameters["polarity"] * bias
    fired = (v >= unit * parameters["vth"]) & mask
    return fired, v - fired * delta
