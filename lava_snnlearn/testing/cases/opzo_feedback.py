"""How OPZOFeedback is checked: against plain loops over Python integers (and floats), written from the equations."""

from __future__ import annotations

from typing import Any

import numpy as np

from lava_snnlearn.testing.cases.integers import clipped, rounded
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_N, _CLASSES = 4, 3


def case() -> ProcessCase:
    """Random matrices that learn and that do not, with and without a running mean, over 200 steps of short samples."""
    return ProcessCase(
        parameters=parameters,
        inputs=inputs,
        fixed=lambda given, arrived, steps: _run(_Integers(), given, arrived, steps),
        floating=lambda given, arrived, steps: _run(_Reals(), given, arrived, steps),
        refused=_refused(),
        # Without learning only the signal under way tells one sample from the next.
        reset=lambda given, period: {**given, "learning": False, "reset_interval": period},
        steps=200,
        trials=8,
    )


def parameters(rng: np.random.Generator) -> Parameters:
    """Random valid arguments."""
    largest = int(rng.choice([0, 4096, 32767 << 12]))
    return {
        "matrix": rng.integers(-largest, largest + 1, (_N, _CLASSES)),
        "reset_interval": int(rng.integers(1, 12)),
        "delay": int(rng.integers(0, 5)),
        "momentum": int(rng.choice([0, 4, 7, 20])),
        "count": int(rng.choice([0, 6, 1 << 30])),
        "shift": int(rng.integers(-3, 22)),
        "learning": bool(rng.random() < 0.8),
        "baseline": int(rng.choice([0, 3, 20])),
        "mean": None if rng.integers(2) else rng.integers(-(32767 << 8), (32767 << 8) + 1, _CLASSES),
    }


def inputs(rng: np.random.Generator, given: Parameters, steps: int) -> Arrays:
    """Noise with pauses, outputs of up to the whole range of 32 bits, and errors of 8 bits."""
    pause = rng.random((steps, 1)) < 0.3
    largest = int(rng.choice([20, 3000, 32768, (1 << 31) - 1]))
    return {
        "z_in": np.where(pause, 0, rng.choice([-1, 1], (steps, _N))),
        "o_in": rng.integers(-largest, largest + 1, (steps, _CLASSES)),
        "e_in": rng.integers(-128, 128, (steps, _CLASSES)) * rng.integers(0, 2, (steps, _CLASSES)),
    }


class _Integers:
    """The chip's numbers."""

    def output(self, value: Any) -> int:
        return clipped(int(value), 32767)

    def divided(self, value: Any, bits: int) -> int:
        return rounded(int(value), bits)

    def signal(self, value: Any) -> int:
        return clipped(value, 127)


class _Reals:
    """The same without rounding and clipping."""

    def output(self, value: Any) -> float:
        return float(value)

    def divided(self, value: Any, bits: int) -> float:
        return float(value) / 2.0**bits

    def signal(self, value: Any) -> float:
        return value


def _run(numbers: _Integers | _Reals, given: Parameters, arrived: Arrays, steps: int) -> Arrays:
    matrix: list[list[float]] = [[int(value) for value in row] for row in given["matrix"]]
    mean: list[float] = [0] * _CLASSES if given["mean"] is None else [int(value) for value in given["mean"]]
    count, under_way = given["count"], [0.0] * _N
    rows: dict[str, list[Any]] = {name: [] for name in ("g_out", "matrix", "mean", "count", "buffer")}
    for step in range(steps):
        phase = step % given["reset_interval"]
        rows["g_out"].append([0] * _N if phase == 0 else list(under_way))
        z = arrived["z_in"][step - given["delay"]].tolist() if phase >= given["delay"] else [0] * _N
        if given["learning"] and any(z):
            output = [numbers.output(value) for value in arrived["o_in"][step]]
            if given["baseline"]:
                centred = [numbers.output(o - numbers.divided(m, 8)) for o, m in zip(output, mean, strict=True)]
                mean = [m + numbers.divided(256 * o - m, given["baseline"]) for o, m in zip(output, mean, strict=True)]
                output = centred
            count += 1
            bits = min(len(bin(count)) - 3, given["momentum"])  # floor of the logarithm
            for i in range(_N):
                for c in range(_CLASSES):
                    matrix[i][c] += numbers.divided(4096 * z[i] * output[c] - matrix[i][c], bits)
        error = arrived["e_in"][step].tolist()
        sums = [sum(m * e for m, e in zip(row, error, strict=True)) for row in matrix]
        under_way = [numbers.signal(numbers.divided(total, given["shift"])) for total in sums]
        rows["matrix"].append([list(row) for row in matrix])
        for name, value in (("mean", list(mean)), ("count", [count]), ("buffer", under_way)):
            rows[name].append(value)
    return {name: np.array(values) for name, values in rows.items()}


def _refused() -> list[dict[str, Any]]:
    bad: dict[str, list[Any]] = {
        "matrix": [np.zeros((0, 3), int), [1, 2], [[0.5]], [["one"]], [[(32767 << 12) + 1]], [[-(1 << 40)]]],
        "delay": [-1, 63, 1.5],
        "momentum": [-1, 21, 0.5],
        "count": [-1, 0.5],
        "shift": [-13, 41, 1.0],
        "learning": [1, "yes"],
        "baseline": [-1, 21, 0.5],
        "mean": [[0] * (_CLASSES + 1), [[0] * _CLASSES], [0.5] * _CLASSES, [(32767 << 8) + 1] * _CLASSES],
        "records": [-1, 0.5],
        "reset_interval": [0, 1.5, (1 << 16) + 1],
    }
    return [{name: value} for name, values in bad.items() for value in values]
