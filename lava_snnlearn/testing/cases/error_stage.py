"""How ErrorStage is checked: against plain loops over Python integers (and floats), written from the equations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_CLASSES = 4

REFUSED_ERRORS: dict[str, list[Any]] = {
    "shape": [(0,), (2, 3), (2.5,)],
    "kind": ["hinge"],
    "shift": [-1, 31, 0.5],
    "table_step": [0, -0.5, math.inf, math.nan, "small"],
}


def case() -> ProcessCase:
    """Random sums and targets of both kinds of error; some samples without a target, some with sums far apart."""
    return ProcessCase(
        parameters=_parameters,
        inputs=_inputs,
        fixed=lambda parameters, inputs, steps: _run(fixed_error, parameters, inputs, steps),
        floating=lambda parameters, inputs, steps: _run(real_error, parameters, inputs, steps),
        refused=_refused(),
        reset=lambda parameters, period: {**parameters, "error_phase": period - 2, "reset_interval": period},
    )


def _parameters(rng: np.random.Generator) -> Parameters:
    phase = int(rng.integers(1, 8))
    return {
        "shape": (_CLASSES,),
        "kind": str(rng.choice(["softmax", "mse"])),
        "shift": int(rng.integers(0, 12)),
        "table_step": float(rng.choice([1 / 16, 0.02, 1.0])),
        "error_phase": phase,
        "reset_interval": phase + int(rng.integers(1, 5)),
    }


def _inputs(rng: np.random.Generator, parameters: Parameters, steps: int) -> Arrays:
    largest = int(rng.choice([3, 64, 100_000]))
    target = np.zeros((steps, _CLASSES), int)
    for start in range(0, steps, parameters["reset_interval"]):
        step = start + int(rng.integers(0, parameters["reset_interval"]))  # also behind the error phase: too late
        if step < steps and rng.random() < 0.8:
            target[step, rng.integers(_CLASSES)] = 1
    return {"a_in": rng.integers(-largest, largest + 1, (steps, _CLASSES)), "y_in": target}


def fixed_error(parameters: Parameters, z: list[int], target: list[int]) -> list[int]:
    """The chip's error of potentials against a one-hot target, of arguments that ErrorReadout shares."""
    shift = parameters["shift"]
    if parameters["kind"] == "mse":
        outputs = [(2 * value + 2**shift) // 2 ** (shift + 1) for value in z]
    else:
        table = [round(32768 * math.exp(-i * parameters["table_step"])) for i in range(256)]
        weights = [table[min((max(z) - value) // 2**shift, 255)] for value in z]
        outputs = [128 * weight // sum(weights) for weight in weights]
    return [max(-128, min(127, output - 128 * wanted)) for output, wanted in zip(outputs, target, strict=True)]


def real_error(parameters: Parameters, z: list[float], target: list[float]) -> list[float]:
    """The same without rounding and clipping."""
    scaled = [value / 2 ** parameters["shift"] for value in z]
    if parameters["kind"] == "mse":
        return [value - 128 * wanted for value, wanted in zip(scaled, target, strict=True)]
    weights = [math.exp(parameters["table_step"] * (value - max(scaled))) for value in scaled]
    return [128 * (weight / sum(weights) - wanted) for weight, wanted in zip(weights, target, strict=True)]


def _run(error: Any, parameters: Parameters, inputs: Arrays, steps: int) -> Arrays:
    rows: dict[str, list[Any]] = {name: [] for name in ("e_out", "z", "e", "target")}
    z, e, target = [[0] * _CLASSES for _ in range(3)]
    for step in range(steps):
        phase = step % parameters["reset_interval"]
        if phase == 0:
            z, e, target = [[0] * _CLASSES for _ in range(3)]
        sent = [0] * _CLASSES
        if phase <= parameters["error_phase"]:
            z = [old + int(new) for old, new in zip(z, inputs["a_in"][step], strict=True)]
            target = [max(old, int(new)) for old, new in zip(target, inputs["y_in"][step], strict=True)]
        if phase == parameters["error_phase"]:
            e = error(parameters, z, target) if any(target) else [0] * _CLASSES
            sent = e
        for name, values in (("e_out", sent), ("z", z), ("e", e), ("target", target)):
            rows[name].append(list(values))
    return {name: np.array(values) for name, values in rows.items()}


def _refused() -> list[dict[str, Any]]:
    bad: dict[str, list[Any]] = {
        **REFUSED_ERRORS,
        "error_phase": [-1, 1.5],
        "reset_interval": [0, 1.5],
    }
    return [{name: value} for name, values in bad.items() for value in values]
