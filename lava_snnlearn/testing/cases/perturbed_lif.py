"""How PerturbedLIF is checked: against plain loops over Python integers (and floats), written from the equations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lava_snnlearn.testing.cases.integers import clipped, rounded
from lava_snnlearn.testing.cases.phases import REFUSED_TIMES, random_times, sample_phase
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_N = 4
_LARGEST = 8388607  # 24 bits with a sign, symmetric


def case() -> ProcessCase:
    """Random neurons of both surrogates and places of the noise, with idle phases, delays and saturation, over 200 steps."""
    return ProcessCase(
        parameters=parameters,
        inputs=inputs,
        fixed=lambda given, arrived, steps: _run(_Integers(given), given, arrived, steps),
        floating=lambda given, arrived, steps: _run(_Reals(given), given, arrived, steps),
        refused=_refused(),
        reset=lambda given, period: {**given, "vth": 200, "t_start": 1, "t_stop": None, "reset_interval": period, "delay": 1},
        steps=200,
        trials=10,
        rtol=1e-12,
    )


def parameters(rng: np.random.Generator) -> Parameters:
    """Random valid arguments."""
    vth = int(rng.choice([1, 40, 200, 3000]))
    position = str(rng.choice(["post", "pre"]))
    return {
        "shape": (_N,),
        "vth": vth,
        "dv": int(rng.choice([0, 1, 410, 2048, 4096])),
        "table_shift": max(0, vth.bit_length() + int(rng.integers(-2, 2))),
        "surrogate": str(rng.choice(["triangle", "sigmoid"])),
        "spike_bits": int(rng.choice([2, 3, 8])),
        "position": position,
        "amplitude": int(rng.choice([0, 64, 5000])),
        "delay": int(rng.integers(0, 5)),
        **random_times(rng),
    }


def inputs(rng: np.random.Generator, given: Parameters, steps: int) -> Arrays:
    """Currents about the threshold, now and then far beyond the membrane's range; signs; signals, some beyond their range."""
    strength = given["vth"] * int(rng.choice([1, 1, 1, 3000]))
    return {
        "a_in": rng.integers(-strength, 2 * strength + 1, (steps, _N)),
        "z_in": rng.integers(-1, 2, (steps, _N)),
        "d_in": rng.integers(-160, 161, (steps, _N)),
    }


class _Integers:
    """The chip's numbers."""

    def __init__(self, given: Parameters) -> None:
        self.given = given
        middles = [(i + 0.5) * 2 ** given["table_shift"] / (64 * given["vth"]) for i in range(64)]
        self.table = [min(127, round(128 * _surrogate(given["surrogate"], x))) for x in middles]

    def charged(self, v: Any, current: Any) -> int:
        kept = abs(v) * (4096 - self.given["dv"]) // 4096
        return (kept if v >= 0 else -kept) + 64 * current

    def slope(self, distance: Any) -> int:
        place = distance // 2 ** self.given["table_shift"]
        return self.table[place] if place < 64 else 0

    def held(self, v: Any) -> int:
        return clipped(v, _LARGEST)

    def factor(self, psi: Any, signal: Any) -> int:
        return rounded(psi * clipped(signal, 127), 7)


class _Reals:
    """The same without rounding and clipping."""

    def __init__(self, given: Parameters) -> None:
        self.given = given

    def charged(self, v: Any, current: Any) -> float:
        return (1 - self.given["dv"] / 4096) * v + 64 * current

    def slope(self, distance: Any) -> float:
        return 128 * _surrogate(self.given["surrogate"], distance / (64 * self.given["vth"]))

    def held(self, v: Any) -> float:
        return v

    def factor(self, psi: Any, signal: Any) -> float:
        return psi * signal / 128


def _surrogate(kind: str, distance: float) -> float:
    """Derivatives with a peak of 1: a triangle as wide as high, and 4 sg (1 - sg) of 4 x = (1 / cosh(2 x))**2."""
    return max(1 - distance, 0.0) if kind == "triangle" else math.cosh(min(2 * distance, 300.0)) ** -2


def _run(numbers: _Integers | _Reals, given: Parameters, arrived: Arrays, steps: int) -> Arrays:
    theta, delay, pre = 64 * given["vth"], given["delay"], given["position"] == "pre"
    rows: dict[str, list[Any]] = {name: [] for name in ("s_out", "m_out", "v", "spikes", "psi", "factor")}
    for step in range(steps):
        phase, active = sample_phase(given, step)
        if phase == 0:
            v: list[Any] = [0] * _N
        psi: list[Any] = [0] * _N
        spikes, noise = [0] * _N, arrived["z_in"][step].tolist()
        if active:
            for i in range(_N):
                charged = numbers.charged(v[i], arrived["a_in"][step, i].item())
                above = charged + pre * given["amplitude"] * noise[i] - theta
                spikes[i] = int(above >= 0)
                psi[i] = numbers.slope(abs(above))
                v[i] = numbers.held(charged - spikes[i] * theta)
        rows["psi"].append(psi)
        past = rows["psi"][step - delay] if phase >= delay else [0] * _N
        factor = [numbers.factor(p, d) for p, d in zip(past, arrived["d_in"][step].tolist(), strict=True)]
        riding = noise if active and not pre else [0] * _N
        rows["s_out"].append([s * 2 ** given["spike_bits"] + z for s, z in zip(spikes, riding, strict=True)])
        for name, values in (("m_out", factor), ("factor", factor), ("v", list(v)), ("spikes", spikes)):
            rows[name].append(values)
    return {name: np.array(values) for name, values in rows.items()}


def _refused() -> list[dict[str, Any]]:
    bad: dict[str, list[Any]] = {
        "shape": [(0,), (2, 3), (2.5,)],
        "vth": [0, 1 << 17, 1.5],
        "dv": [-1, 4097, 0.5],
        "table_shift": [-1, 31, 1.0],
        "surrogate": ["rectangle"],
        "spike_bits": [-1, 17, 1.0],
        "position": ["middle"],
        "amplitude": [-1, 1 << 23, 0.5],
        "delay": [-1, 1 << 16, 0.5],
        **REFUSED_TIMES,
    }
    return [{name: value} for name, values in bad.items() for value in values]
