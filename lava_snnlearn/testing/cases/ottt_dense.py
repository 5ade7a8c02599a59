"""How OTTTDense is checked: against plain loops over Python integers (and floats), written from the equations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lava_snnlearn.testing.cases.integers import clipped, random_word, rounded
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_N_OUT, _N_IN = 3, 4
_RULES = ("shadow", "stochastic", "nearest")
_PLACES = [(i, j) for i in range(_N_OUT) for j in range(_N_IN)]


def case() -> ProcessCase:
    """Random synapses of all memories and both updates, with noisy spikes, delays and projected traces, over 200 steps."""
    return ProcessCase(
        parameters=parameters,
        inputs=inputs,
        fixed=lambda given, arrived, steps: _run(_Integers(given), given, arrived, steps),
        floating=lambda given, arrived, steps: _run(_Reals(given), given, arrived, steps),
        refused=_refused(),
        reset=_still,
        steps=200,
        trials=8,
        rtol=1e-12,
    )


def parameters(rng: np.random.Generator) -> Parameters:
    """Random valid arguments."""
    rule = str(rng.choice(_RULES))
    memory = rng.integers(-32767, 32768, (_N_OUT, _N_IN)) if rule == "shadow" else 2 * rng.integers(-128, 128, (_N_OUT, _N_IN))
    period = int(rng.integers(1, 14))
    return {
        "memory": memory,
        "rule": rule,
        "update": str(rng.choice(["online", "accumulate"])),
        "exponent": int(rng.integers(0, 8)),
        "back_exponent": int(rng.integers(-14, 3)),
        "impulse": int(rng.choice([1, 32, 127])),
        "dv": int(rng.choice([0, 1, 410, 2048, 4096])),
        "delay": int(rng.integers(0, min(period, 4))),
        "spike_bits": int(rng.choice([0, 2, 5])),
        "multiplier": int(rng.integers(0, 1 << 15)),
        "shift": int(rng.integers(8, 18)),
        "projected": bool(rng.integers(2)),
        "seed": int(rng.integers(0, 1 << 62)),
        "sample": int(rng.choice([0, 1000, 1 << 39])),
        "learn_phase": None if rng.integers(2) else int(rng.integers(period)),
        "reset_interval": period,
    }


def inputs(rng: np.random.Generator, given: Parameters, steps: int) -> Arrays:
    """Spikes with noise on them where they have room for it, else payloads; factors; residuals of traces."""
    quiet = rng.random((steps, 1)) < 0.2
    bits = given["spike_bits"]
    if bits:
        sent = (rng.integers(0, 2, (steps, _N_IN)) << bits) + rng.integers(-1, 2, (steps, _N_IN))
    else:
        sent = rng.integers(-2, int(rng.choice([2, 256])), (steps, _N_IN))
    return {
        "s_in": np.where(quiet, 0, sent),
        "m_in": rng.integers(-128, 128, (steps, _N_OUT)) * rng.integers(0, 2, (steps, _N_OUT)),
        "r_in": rng.integers(-127, 128, (steps, _N_IN)) * rng.integers(0, 2, (steps, _N_IN)),
    }


def _still(given: Parameters, period: int) -> Parameters:
    """Without learning only traces and what is under way tell one sample from the next."""
    return {**given, "multiplier": 0, "dv": 1, "impulse": 1, "learn_phase": None, "delay": 0, "reset_interval": period}


class _Integers:
    """The chip's numbers."""

    def __init__(self, given: Parameters) -> None:
        self.given = given
        self.rule = given["rule"]

    def seen(self, memory: Any) -> int:
        return 2 * max(-128, min(127, rounded(memory, 8))) if self.rule == "shadow" else memory

    def clean(self, sent: Any) -> int:
        return max(0, rounded(int(sent), self.given["spike_bits"]))

    def traced(self, trace: Any, spikes: Any) -> int:
        return min(trace * (4096 - self.given["dv"]) // 4096 + self.given["impulse"] * spikes, 127)

    def back(self, total: Any) -> int:
        return clipped(rounded(int(total), -self.given["back_exponent"]), 127)

    def learned(self, memory: Any, product: Any, place: int, number: int) -> int:
        shift, exact = self.given["shift"], self.given["multiplier"] * int(product)
        if self.rule == "shadow":
            return clipped(memory - rounded(exact, shift), 32767)
        noise = random_word(self.given["seed"], number, place) >> (56 - shift)
        steps = rounded(exact, shift + 8) if self.rule == "nearest" else (exact + noise) // 2 ** (shift + 8)
        return max(-256, min(254, memory - 2 * steps)) if product else memory


class _Reals:
    """The same without rounding and clipping."""

    def __init__(self, given: Parameters) -> None:
        self.given = given
        self.unit = 128 if given["rule"] == "shadow" else 1

    def seen(self, memory: Any) -> float:
        return memory / self.unit

    def clean(self, sent: Any) -> float:
        bits = self.given["spike_bits"]
        return max(0.0, float(math.floor(sent / 2**bits + 0.5)) if bits else float(sent))

    def traced(self, trace: Any, spikes: Any) -> float:
        return trace * (1 - self.given["dv"] / 4096) + self.given["impulse"] * spikes

    def back(self, total: Any) -> float:
        return total * 2.0 ** self.given["back_exponent"]

    def learned(self, memory: Any, product: Any, _place: int, _number: int) -> float:
        return memory - product * self.given["multiplier"] / 2.0 ** self.given["shift"] * self.unit / 128


def _run(numbers: _Integers | _Reals, given: Parameters, arrived: Arrays, steps: int) -> Arrays:
    weight: dict[tuple[int, int], Any]
    memory: dict[tuple[int, int], Any] = {place: int(given["memory"][place]) for place in _PLACES}
    period, delay, accumulates = given["reset_interval"], given["delay"], given["update"] == "accumulate"
    learn_phase = period - 1 if given["learn_phase"] is None else given["learn_phase"]
    names = ("a_out", "b_out", "x_out", "memory", "gradient", "trace", "a_buffer", "b_buffer")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for step in range(steps):
        phase, sample = step % period, given["sample"] + step // period
        number = sample * period + phase
        if phase == 0:
            gradient = dict.fromkeys(_PLACES, 0)
            trace, a_next, b_next = _zeros(_N_IN), _zeros(_N_OUT), _zeros(_N_IN)
        rows["a_out"].append(a_next)
        rows["b_out"].append(b_next)
        s, m = arrived["s_in"][step].tolist(), arrived["m_in"][step].tolist()
        weight = {place: numbers.seen(memory[place]) for place in _PLACES}
        a_next = [sum(weight[i, j] * s[j] for j in range(_N_IN)) * 2 ** given["exponent"] for i in range(_N_OUT)]
        b_next = [numbers.back(sum(weight[i, j] * m[i] for i in range(_N_OUT))) for j in range(_N_IN)]
        late = arrived["s_in"][step - delay] if phase >= delay else [0] * _N_IN
        trace = [numbers.traced(trace[j], numbers.clean(late[j])) for j in range(_N_IN)]
        pre = arrived["r_in"][step].tolist() if given["projected"] else trace
        for place in _PLACES:
            i, j = place
            if accumulates:
                gradient[place] += m[i] * pre[j]
            else:
                memory[place] = numbers.learned(memory[place], m[i] * pre[j], i * _N_IN + j, number)
        if accumulates and phase == learn_phase:
            for place in _PLACES:
                memory[place] = numbers.learned(memory[place], gradient[place], place[0] * _N_IN + place[1], number)
            gradient = dict.fromkeys(_PLACES, 0)
        for name, matrix in (("memory", memory), ("gradient", gradient)):
            rows[name].append([[matrix[i, j] for j in range(_N_IN)] for i in range(_N_OUT)])
        for name, value in (("x_out", trace), ("trace", trace), ("a_buffer", a_next), ("b_buffer", b_next)):
            rows[name].append(value)
    return {name: np.array(values) for name, values in rows.items()}


def _zeros(count: int) -> list[Any]:
    return [0] * count


def _refused() -> list[dict[str, Any]]:
    bad: dict[str, list[Any]] = {
        "memory": [np.zeros((0, 3), int), [1, 2], [[0.5]], [["one"]], [[1 << 15]], [[-(1 << 15)]], [[2**70]]],
        "rule": ["hebb", "Shadow"],
        "update": ["offline", "a"],
        "exponent": [-1, 8, 1.0],
        "back_exponent": [-41, 32, 0.5],
        "impulse": [0, 128, 1.0],
        "dv": [-1, 4097, 0.5],
        "delay": [-1, 14, 1.0],
        "spike_bits": [-1, 17, 0.5],
        "multiplier": [-1, 1 << 15, 0.5],
        "shift": [-1, 41, 1.0],
        "projected": [1, None],
        "seed": [-1, 1 << 62, "a"],
        "sample": [-1, 1.5, 1 << 40],
        "records": [-1, 1.5],
        "learn_phase": [-1, 0.5, 1 << 16],
        "reset_interval": [0, 1.5, (1 << 16) + 1],
    }
    shadow = {"memory": np.zeros((_N_OUT, _N_IN), int), "rule": "shadow"}
    single = [{**shadow, name: value} for name, values in bad.items() for value in values]
    narrow = [{"memory": [[value]], "rule": rule} for rule in _RULES[1:] for value in (-258, 256, 3, -1)]
    return [*single, *narrow]
