"""How ErrorReadout is checked: against plain loops over Python integers (and floats), written from the equations."""

from __future__ import annotations

from typing import Any

import numpy as np

from lava_snnlearn.testing.cases.error_stage import REFUSED_ERRORS, fixed_error, real_error
from lava_snnlearn.testing.cases.phases import REFUSED_TIMES, random_times, sample_phase
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_CLASSES = 4


def case() -> ProcessCase:
    """Random readouts of both kinds of error, with and without memory; some samples without a target, over 200 steps."""
    return ProcessCase(
        parameters=parameters,
        inputs=inputs,
        fixed=lambda given, arrived, steps: _run(True, given, arrived, steps),
        floating=lambda given, arrived, steps: _run(False, given, arrived, steps),
        refused=_refused(),
        reset=lambda given, period: {**given, "dv": 0, "t_start": 1, "t_stop": None, "reset_interval": period},
        steps=200,
        trials=10,
        rtol=1e-12,
    )


def parameters(rng: np.random.Generator) -> Parameters:
    """Random valid arguments."""
    return {
        "shape": (_CLASSES,),
        "kind": str(rng.choice(["softmax", "mse"])),
        "shift": int(rng.integers(0, 12)),
        "table_step": float(rng.choice([1 / 16, 0.02, 1.0])),
        "dv": int(rng.choice([0, 1, 2048, 4096])),
        **random_times(rng),
    }


def inputs(rng: np.random.Generator, given: Parameters, steps: int) -> Arrays:
    """Sums of different sizes, and a target in any phase of most samples."""
    largest = int(rng.choice([3, 64, 100_000]))
    target = np.zeros((steps, _CLASSES), int)
    period = given["reset_interval"] or steps
    for start in range(0, steps, period):
        step = start + int(rng.integers(0, min(period, 4)))
        if step < steps and rng.random() < 0.8:
            target[step, rng.integers(_CLASSES)] = 1
    return {"a_in": rng.integers(-largest, largest + 1, (steps, _CLASSES)), "y_in": target}


def _run(fixed: bool, given: Parameters, arrived: Arrays, steps: int) -> Arrays:
    rows: dict[str, list[Any]] = {name: [] for name in ("e_out", "o_out", "output", "z", "e", "target")}
    for step in range(steps):
        phase, active = sample_phase(given, step)
        if phase == 0:
            output, z, target = (_zeros() for _ in range(3))
        current = arrived["a_in"][step].tolist() if active else [0] * _CLASSES
        target = [max(old, new) for old, new in zip(target, arrived["y_in"][step].tolist(), strict=True)]
        e = _zeros()
        if active:
            output = [_leaked(fixed, o, given["dv"]) + a for o, a in zip(output, current, strict=True)]
            z = [old + a for old, a in zip(z, current, strict=True)]
            if any(target):
                e = (fixed_error if fixed else real_error)(given, output, target)
        for name, values in (("e_out", e), ("e", e), ("o_out", current), ("output", output), ("z", z), ("target", target)):
            rows[name].append(values)
    return {name: np.array(values) for name, values in rows.items()}


def _zeros() -> list[Any]:
    return [0] * _CLASSES


def _leaked(fixed: bool, value: Any, dv: int) -> Any:
    if not fixed:
        return (1 - dv / 4096) * value
    kept = abs(value) * (4096 - dv) // 4096
    return kept if value >= 0 else -kept


def _refused() -> list[dict[str, Any]]:
    bad: dict[str, list[Any]] = {**REFUSED_ERRORS, "dv": [-1, 4097, 0.5], "records": [-1, 1.5], **REFUSED_TIMES}
    return [{name: value} for name, values in bad.items() for value in values]
