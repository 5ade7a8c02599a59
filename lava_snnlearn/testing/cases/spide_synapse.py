"""How SpideSynapse is checked: against plain loops over Python integers (and floats), written from the equations."""

from __future__ import annotations

from typing import Any

import numpy as np

from lava_snnlearn.testing.cases.integers import random_word, rounded
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_N_OUT, _N_IN = 3, 4
_RULES = ("shadow", "stochastic", "nearest")


def case() -> ProcessCase:
    """Random synapses of all three memories, with and without mask, and with samples of different lengths."""
    return ProcessCase(
        parameters=_parameters,
        inputs=_inputs,
        fixed=lambda parameters, inputs, steps: _run(_Integers(parameters), parameters, inputs, steps),
        floating=lambda parameters, inputs, steps: _run(_Reals(parameters), parameters, inputs, steps),
        refused=_refused(),
        reset=lambda parameters, period: {
            **parameters,
            "multiplier": 0,
            "learn_phase": period - 1,
            "reset_interval": period,
        },
        steps=30,
    )


def _parameters(rng: np.random.Generator) -> Parameters:
    rule = str(rng.choice(_RULES))
    memory = rng.integers(-32767, 32768, (_N_OUT, _N_IN)) if rule == "shadow" else 2 * rng.integers(-128, 128, (_N_OUT, _N_IN))
    learn = int(rng.integers(3, 12))
    return {
        "memory": memory,
        "rule": rule,
        "exponent": int(rng.integers(0, 8)),
        "back_exponent": int(rng.integers(-8, 9)),
        "multiplier": int(rng.integers(0, 1 << 15)),
        "shift": int(rng.integers(0, 18)),
        "mask": None if rng.integers(2) else rng.random((_N_OUT, _N_IN)) < 0.7,
        "seed": int(rng.integers(0, 1 << 40)),
        "sample": int(rng.integers(0, 1000)),
        "learn_phase": learn,
        "reset_interval": learn + int(rng.integers(1, 4)),
    }


def _inputs(rng: np.random.Generator, _parameters: Parameters, steps: int) -> Arrays:
    largest = int(rng.choice([1, 16, 255]))
    silent = rng.random((2, steps, 1)) < 0.4
    return {
        "s_in": np.where(silent[0], 0, rng.integers(0, largest + 1, (steps, _N_IN))),
        "b_in": np.where(silent[1], 0, rng.integers(-1, 2, (steps, _N_OUT)) * int(rng.choice([1, 127]))),
    }


class _Integers:
    """The chip's numbers."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    def view(self, memory: Any) -> int:
        if self.parameters["rule"] != "shadow":
            return int(memory)
        return 2 * max(-128, min(127, (int(memory) + 128) // 256))

    def scale(self, total: Any, exponent: int) -> int:
        return rounded(int(total), -exponent)

    def learned(self, memory: Any, product: Any, place: int, sample: int) -> int:
        """``product``: of the counts. One synapse."""
        shift, change = self.parameters["shift"], self.parameters["multiplier"] * int(product)
        if self.parameters["rule"] == "shadow":
            return max(-32767, min(32767, int(memory) - rounded(change, shift)))
        bits = shift + 8
        noise = random_word(self.parameters["seed"], sample, place) >> (64 - bits)
        steps = rounded(change, bits) if self.parameters["rule"] == "nearest" else (change + noise) // 2**bits
        return max(-256, min(254, int(memory) - 2 * steps))


class _Reals:
    """The same without rounding."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    def view(self, memory: Any) -> float:
        return float(memory) / 128 if self.parameters["rule"] == "shadow" else float(memory)

    def scale(self, total: Any, exponent: int) -> float:
        return float(total) * 2.0**exponent

    def learned(self, memory: Any, product: Any, _place: int, _sample: int) -> float:
        change = self.parameters["multiplier"] / 2 ** self.parameters["shift"] * float(product)
        if self.parameters["rule"] == "shadow":
            return max(-32767.0, min(32767.0, float(memory) - change))
        return max(-256.0, min(254.0, float(memory) - change / 128))


def _run(numbers: _Integers | _Reals, parameters: Parameters, inputs: Arrays, steps: int) -> Arrays:
    mask = np.ones((_N_OUT, _N_IN), bool) if parameters["mask"] is None else parameters["mask"]
    places = [(i, j) for i in range(_N_OUT) for j in range(_N_IN)]
    memory: dict[tuple[int, int], float] = {place: parameters["memory"][place] for place in places}
    view: dict[tuple[int, int], float] = {}
    pre, post = [0] * _N_IN, [0] * _N_OUT
    a_next: list[float] = []
    b_next: list[float] = []
    sample = parameters["sample"]
    rows: dict[str, list[Any]] = {name: [] for name in ("a_out", "b_out", "memory", "view", "pre", "post")}
    for step in range(steps):
        phase = step % parameters["reset_interval"]
        if phase == 0:
            pre, post, a_next, b_next = [0] * _N_IN, [0] * _N_OUT, [0] * _N_OUT, [0] * _N_IN
            view = {place: numbers.view(memory[place]) * bool(mask[place]) for place in places}
        rows["a_out"].append(list(a_next))
        rows["b_out"].append(list(b_next))
        s, b = inputs["s_in"][step], inputs["b_in"][step]
        pre = [pre[j] + s[j] for j in range(_N_IN)]
        post = [post[i] + b[i] for i in range(_N_OUT)]
        a_next = [numbers.scale(sum(view[i, j] * s[j] for j in range(_N_IN)), parameters["exponent"]) for i in range(_N_OUT)]
        b_next = [
            numbers.scale(sum(view[i, j] * b[i] for i in range(_N_OUT)), parameters["back_exponent"]) for j in range(_N_IN)
        ]
        if phase == parameters["learn_phase"]:
            for i, j in places:
                if mask[i, j]:
                    memory[i, j] = numbers.learned(memory[i, j], post[i] * pre[j], i * _N_IN + j, sample)
            view = {place: numbers.view(memory[place]) * bool(mask[place]) for place in places}
            sample += 1
        for name, value in (("pre", pre), ("post", post)):
            rows[name].append(list(value))
        for name, matrix in (("memory", memory), ("view", view)):
            rows[name].append([[matrix[i, j] for j in range(_N_IN)] for i in range(_N_OUT)])
    return {name: np.array(values) for name, values in rows.items()}


def _refused() -> list[dict[str, Any]]:
    bad: dict[str, list[Any]] = {
        "memory": [np.zeros((0, 3), int), [1, 2], [[0.5]], [["one"]], [[1 << 15]], [[-(1 << 15)]], [[2**70]]],
        "rule": ["hebb", "Shadow"],
        "exponent": [-1, 8, 1.0],
        "back_exponent": [-41, 32, 0.5],
        "multiplier": [-1, 1 << 15, 0.5],
        "shift": [-1, 41, 1.0],
        "mask": [[[True]], [True], np.ones((_N_OUT, _N_IN), int)],
        "seed": [-1, 1 << 62, "a"],
        "sample": [-1, 1.5],
        "records": [-1, 1.5],
        "learn_phase": [-1, 0.5, 1 << 16],
        "reset_interval": [0, 1.5, (1 << 16) + 1],
    }
    shadow = {"memory": np.zeros((_N_OUT, _N_IN), int), "rule": "shadow"}
    single = [{**shadow, name: value} for name, values in bad.items() for value in values]
    narrow = [{"memory": [[value]], "mask": None, "rule": rule} for rule in _RULES[1:] for value in (-258, 256, 3, -1)]
    return [*single, *narrow]
