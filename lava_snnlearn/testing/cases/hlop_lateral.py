"""How HLOPLateral is checked: against plain loops over Python integers (and floats), written from the equations."""

from __future__ import annotations

from typing import Any

import numpy as np

from lava_snnlearn.testing.cases.integers import clipped, rounded
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_ROWS, _N = 3, 5


def case() -> ProcessCase:
    """Random subspaces, with and without frozen rows, in small and in violent motion, over 200 steps of short samples."""
    return ProcessCase(
        parameters=parameters,
        float_parameters=lambda rng: {**parameters(rng), "multiplier": int(rng.integers(0, 20)), "shift": 12},
        inputs=inputs,
        fixed=lambda given, arrived, steps: _recordable(trajectory(given, arrived, steps, fixed=True)),
        floating=lambda given, arrived, steps: _recordable(trajectory(given, arrived, steps, fixed=False)),
        refused=_refused(),
        steps=200,
        trials=8,
    )


def parameters(rng: np.random.Generator) -> Parameters:
    """Random valid arguments."""
    start, learn = int(rng.integers(0, 3)), int(rng.integers(4, 9))
    largest = int(rng.choice([2000, 16384, 32767]))
    going_on = bool(rng.integers(2))
    return {
        "subspace": rng.integers(-largest, largest + 1, (_ROWS, _N)),
        "learn_phase": learn,
        "reset_interval": learn + int(rng.integers(1, 4)),
        "old": int(rng.integers(0, _ROWS + 1)),
        "multiplier": int(rng.integers(0, 1 << 15)),
        "shift": int(rng.choice([8, 16, 24])),
        "average": int(rng.integers(1, 4)),
        "sample": int(rng.integers(0, 9)),
        "t_start": start,
        "t_stop": None if rng.integers(2) else int(rng.integers(start + 1, learn + 2)),
        "velocity": rng.integers(-(1 << 20), 1 << 20, (_ROWS, _N)) if going_on else None,
        "sums": rng.integers(-(1 << 24), 1 << 24, (_ROWS, _N)) if going_on else None,
        "learning": bool(rng.random() < 0.85),
    }


def inputs(rng: np.random.Generator, _given: Parameters, steps: int) -> Arrays:
    """Traces with pauses, of 7 bits or, with a sign, of all that is accepted."""
    low, high = [(0, 127), (0, 8), (-255, 255)][int(rng.integers(3))]
    return {"x_in": rng.integers(low, high + 1, (steps, _N)) * (rng.random((steps, 1)) < 0.8)}


class _Integers:
    """The chip's numbers."""

    def divided(self, value: Any, bits: int) -> int:
        return rounded(int(value), bits)

    def clipped(self, value: Any, limit: int) -> int:
        return clipped(value, limit)


class _Reals:
    """The same without rounding and clipping."""

    def divided(self, value: Any, bits: int) -> float:
        return float(value) / 2.0**bits

    def clipped(self, value: Any, _limit: int) -> float:
        return value


Matrix = list[list[float]]


def _answer(numbers: _Integers | _Reals, h: Matrix, x: list[int]) -> tuple[list[float], list[float]]:
    """The responses to a trace, and what is left of it."""
    y = [numbers.divided(sum(h_rj * x_j for h_rj, x_j in zip(row, x, strict=True)), 8) for row in h]
    return y, [x[j] - numbers.divided(sum(y_r * row[j] for y_r, row in zip(y, h, strict=True)), 20) for j in range(_N)]


def _recordable(rows: Arrays) -> Arrays:
    """Without the sums: a Recorder holds 32 bits."""
    return {name: values for name, values in rows.items() if name != "sums"}


def trajectory(given: Parameters, arrived: Arrays, steps: int, fixed: bool) -> Arrays:
    """What is sent, and all that is learned, after each step; with the chip's numbers or in real numbers."""
    numbers = _Integers() if fixed else _Reals()

    def start(name: str) -> Matrix:
        return [[0] * _N for _ in range(_ROWS)] if given[name] is None else [[int(v) for v in row] for row in given[name]]

    h, velocity, sums = start("subspace"), start("velocity"), start("sums")
    old, sample = given["old"], given["sample"]
    stop = given["learn_phase"] + 1 if given["t_stop"] is None else given["t_stop"]
    rows: dict[str, list[Any]] = {name: [] for name in ("r_out", "subspace", "velocity", "sums", "sample")}
    for step in range(steps):
        phase = step % given["reset_interval"]
        x = arrived["x_in"][step].tolist()
        rows["r_out"].append([numbers.clipped(rest, 127) for rest in _answer(numbers, h[:old], x)[1]])
        if given["learning"] and given["t_start"] <= phase < stop:
            y, rest = _answer(numbers, h, x)
            for r in range(old, _ROWS):
                for j in range(_N):
                    sums[r][j] += y[r] * rest[j]
        if given["learning"] and phase == given["learn_phase"]:
            sample += 1
            if sample % given["average"] == 0:
                for r in range(old, _ROWS):
                    for j in range(_N):
                        push = numbers.divided(numbers.clipped(sums[r][j], 2**46) * given["multiplier"], given["shift"])
                        v = velocity[r][j] + push - numbers.divided(velocity[r][j], 3)
                        velocity[r][j] = numbers.clipped(v, 2**29 - 1)
                        h[r][j] = numbers.clipped(h[r][j] + numbers.divided(velocity[r][j], 8), 32767)
                        sums[r][j] = 0
        for name, matrix in (("subspace", h), ("velocity", velocity), ("sums", sums)):
            rows[name].append([list(row) for row in matrix])
        rows["sample"].append([sample])
    return {name: np.array(values) for name, values in rows.items()}


def _refused() -> list[dict[str, Any]]:
    wrong: list[Any] = [np.zeros((_ROWS, _N + 1), int), [1, 2], np.zeros((_ROWS, _N))]
    bad: dict[str, list[Any]] = {
        "subspace": [np.zeros((0, 3), int), [1, 2], [[0.5]], [["one"]], [[1 << 15]], np.zeros((1, (1 << 21) + 1), int)],
        "velocity": [*wrong, np.full((_ROWS, _N), 1 << 29)],
        "sums": [*wrong, np.full((_ROWS, _N), (1 << 46) + 1)],
        "old": [-1, _ROWS + 1, 0.5],
        "multiplier": [-1, 1 << 15, 0.5],
        "shift": [-1, 41, 1.0],
        "average": [0, 1.5],
        "sample": [-1, 0.5],
        "t_start": [-1, 0.5, 100],
        "t_stop": [0, 100, 3.5],
        "learning": [1, "yes"],
        "records": [-1, 0.5],
        "learn_phase": [-1, 0.5, 1 << 16],
        "reset_interval": [0, 1.5, (1 << 16) + 1],
    }
    return [{name: value} for name, values in bad.items() for value in values]
