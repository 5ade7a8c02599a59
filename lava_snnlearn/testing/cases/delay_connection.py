"""How DelayConnection is checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.utils.weightutils import SignMode

from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_N_OUT, _N_IN = 4, 5


def case() -> ProcessCase:
    """Random edges, some of them parallel, with shared tables; binary spikes and payloads that make sums wrap."""
    return ProcessCase(
        parameters=lambda rng: _parameters(rng, real=False),
        float_parameters=lambda rng: _parameters(rng, real=bool(rng.integers(2))),
        inputs=_inputs,
        fixed=_fixed,
        floating=_floating,
        refused=_refused(),
        reset=lambda parameters, period: {**parameters, "reset_interval": period},
    )


def _parameters(rng: np.random.Generator, real: bool) -> Parameters:
    count = int(rng.integers(0, 40))
    entries, waits = int(rng.integers(1, 8)), int(rng.integers(1, 8))
    delays = rng.integers(0, int(rng.choice([1, 5, 20, 63])), waits)
    longest = int(delays.max())
    return {
        "shape": (_N_OUT, _N_IN),
        "target": rng.integers(0, _N_OUT, count),
        "source": rng.integers(0, _N_IN, count),
        "weights": rng.normal(size=entries) if real else rng.integers(-300, 300, entries),
        "delays": delays,
        "weight_index": rng.integers(0, entries, count),
        "delay_index": rng.integers(0, waits, count),
        "max_delay": None if rng.integers(2) else int(rng.integers(longest, 63)),
        "weight_exp": int(rng.integers(0, 8)),
        "num_message_bits": int(rng.choice([0, 8, 24])),
        "num_weight_bits": int(rng.integers(1, 9)),
        "sign_mode": [SignMode.MIXED, SignMode.EXCITATORY, SignMode.INHIBITORY][int(rng.integers(3))],
        "reset_interval": None if rng.integers(2) else int(rng.integers(1, 12)),
    }


def _inputs(rng: np.random.Generator, parameters: Parameters, steps: int) -> Arrays:
    fired = rng.random((steps, _N_IN)) < 0.5
    if parameters["weights"].dtype.kind == "f":
        return {"s_in": fired * rng.normal(size=fired.shape)}
    return {"s_in": fired * rng.integers(-200, 200, fired.shape) * int(rng.choice([1, 1, 9_000_000]))}


def cut_weight(weight: int, mode: SignMode, bits: int) -> int:
    """What the chip holds of a weight: clipped, its lowest bits gone (if all are inhibitory, those of the magnitude)."""
    if mode is SignMode.MIXED:
        unit = 2 ** (9 - bits)
        return max(-256, min(255, weight)) // unit * unit
    sign, unit = (-1 if mode is SignMode.INHIBITORY else 1), 2 ** (8 - bits)
    return sign * (max(0, min(255, sign * weight)) // unit * unit)


def _wrapped(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def _fixed(parameters: Parameters, inputs: Arrays, steps: int) -> Arrays:
    mode, bits = parameters["sign_mode"], parameters["num_weight_bits"]
    weights = [cut_weight(int(weight), mode, bits) for weight in parameters["weights"]]
    sums = _arriving(parameters, inputs, steps, [weight << parameters["weight_exp"] for weight in weights])
    rows = [[_wrapped(value) for value in row] for row in sums]
    return {"a_out": np.array(rows), "weights": np.array([weights] * steps)}


def _floating(parameters: Parameters, inputs: Arrays, steps: int) -> Arrays:
    return {"a_out": np.array(_arriving(parameters, inputs, steps, parameters["weights"].tolist()), dtype=float)}


def _arriving(parameters: Parameters, inputs: Arrays, steps: int, weights: list[Any]) -> list[list[Any]]:
    """Synapse by synapse and spike by spike: what arrives in which step, [steps, n_out]; Python's integers never overflow."""
    period = parameters["reset_interval"] or steps
    sums: list[list[Any]] = [[0] * _N_OUT for _ in range(steps)]
    edges = zip(*(parameters[name] for name in ("target", "source", "weight_index", "delay_index")), strict=True)
    for target, source, entry, wait in edges:
        for step, sent in enumerate(inputs["s_in"][:, source].tolist()):
            arrival = step + 1 + int(parameters["delays"][wait])
            if sent and arrival < min(steps, (step // period + 1) * period):
                sums[arrival][target] += weights[entry] * (sent if parameters["num_message_bits"] else 1)
    return sums


def _refused() -> list[dict[str, Any]]:
    bad: dict[str, list[Any]] = {
        "shape": [(4,), (4, 0), (4, 5, 6), (4.0, 5)],
        "weights": [[], [[1, 2]], [float("nan")], [float("inf")], ["one"], [True], [1 << 31]],
        "delays": [[], [[1]], [-1], [63], [1.0], 0.5],
        "max_delay": [-1, 63, 2.5],
        "weight_exp": [-1, 8, 1.0],
        "num_message_bits": [-1, 33, 8.0],
        "num_weight_bits": [0, 9, 8.0],
        "sign_mode": [SignMode.NULL, 1, None],
        "reset_interval": [0, 1.5],
    }
    single: list[dict[str, Any]] = [{name: value} for name, values in bad.items() for value in values]
    edges = {"target": [0, 1], "source": [1, 0], "weights": [2, 4], "delays": [0, 3], "weight_index": None, "delay_index": None}
    wrong: dict[str, list[Any]] = {
        "target": [[0], [0, 4], [0, -1], [0.0, 1.0], [[0, 1]], 3],
        "source": [[1], [1, 5], [-1, 0], [True, False], [[0, 1]]],
        "weight_index": [[0], [0, 2], [-1, 0], [0.0, 1.0]],
        "delay_index": [[0], [0, 2], [-1, 0], [0.0, 1.0]],
        "weights": [[2, 4, 6]],
        "delays": [[1, 2, 3]],
    }
    listed = [{**edges, name: value} for name, values in wrong.items() for value in values]
    return [*single, *listed, {**edges, "max_delay": 2}]
