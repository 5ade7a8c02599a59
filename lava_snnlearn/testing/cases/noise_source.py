"""How NoiseSource is checked: against SplitMix64 in plain Python integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from lava_snnlearn.testing.cases.integers import random_word
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase


def case() -> ProcessCase:
    """Random sources, antithetic and not, with idle steps before and after the noise, over 200 steps."""
    return ProcessCase(
        parameters=_parameters,
        fixed=_reference,
        floating=_reference,
        refused=_refused(),
        steps=200,
        trials=6,
    )


def _parameters(rng: np.random.Generator) -> Parameters:
    start, half = int(rng.integers(0, 5)), int(rng.integers(1, 6))
    antithetic = bool(rng.integers(2))
    steps = 2 * half - (0 if antithetic else int(rng.integers(2)))
    return {
        "shape": (int(rng.integers(1, 7)),),
        "seed": int(rng.integers(0, 1 << 62)),
        "steps": steps,
        "t_start": start,
        "reset_interval": start + steps + int(rng.integers(0, 4)),
        "sample": int(rng.choice([0, rng.integers(0, 1 << 40)])),
        "antithetic": antithetic,
    }


def _reference(parameters: Parameters, _inputs: Arrays, steps: int) -> Arrays:
    rows: list[list[int]] = []
    for step in range(steps):
        sample, phase = divmod(step, parameters["reset_interval"])
        t = phase - parameters["t_start"]
        number = (parameters["sample"] + sample) * parameters["steps"] + t
        sent = [0] * parameters["shape"][0]
        if 0 <= t < parameters["steps"]:
            flipped = parameters["antithetic"] and number % 2 == 1
            bits = [random_word(parameters["seed"], number - flipped, i) >> 63 for i in range(len(sent))]
            sent = [1 if bit != flipped else -1 for bit in bits]
        rows.append(sent)
    return {"z_out": np.array(rows)}


def _refused() -> list[dict[str, Any]]:
    bad: dict[str, list[Any]] = {
        "shape": [(0,), (2, 3), (2.5,)],
        "seed": [-1, 1 << 62, 0.5],
        "steps": [0, 1.5, (1 << 16) + 2],
        "t_start": [-1, 1.5, 1 << 16],
        "reset_interval": [0, 1.5, (1 << 16) + 1],
        "sample": [-1, 0.5, 1 << 40],
        "antithetic": [1, "yes"],
    }
    return [{name: value} for name, values in bad.items() for value in values] + [{"steps": 3, "antithetic": True}]
