"""How FusedNetwork is checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_MAX
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.testing.processes import Arrays, Parameters, ProcessCase

_INPUTS = 4
_STEPS = 16
"""Longer than the period of any network here."""
_FORMS = ("current", "graded", "spikes")


def case() -> ProcessCase:
    """Random networks of two or three populations with loops and delays, or of stock LIFs; inputs of all forms."""
    return ProcessCase(
        parameters=_parameters,
        inputs=_inputs,
        fixed=lambda parameters, inputs, steps: _simulate(parameters, inputs["s_in"], steps, real=False),
        floating=lambda parameters, inputs, steps: _simulate(parameters, inputs["s_in"], steps, real=True),
        refused=_refused(),
        reset=lambda parameters, period: {
            **parameters,
            "network": _pausing(parameters["network"]),
            "endless": False,
            "reset_interval": period,
        },
        steps=_STEPS,
    )


def _parameters(rng: np.random.Generator) -> Parameters:
    form = _FORMS[int(rng.integers(3))]
    network = _lockstep(rng, form) if rng.integers(3) == 0 else _loose(rng, form)
    endless = bool(rng.integers(4) == 0)
    interval = None if endless or rng.integers(2) else network.period + int(rng.integers(0, 4))
    also = tuple(p.name for p in network.populations if rng.integers(2))
    return {"network": network, "also": also, "reset_interval": interval, "endless": endless}


def _host(form: str, size: int) -> HostInput:
    return HostInput(form, size, targets=("p0",)) if form == "current" else HostInput(form, _INPUTS)


def _weights(rng: np.random.Generator, source: str, target: Population, size: int, **more: Any) -> Connection:
    weight = 2 * rng.integers(-20, 40, (target.size, size))
    return Connection(source, target.name, weight, exponent=int(rng.choice([0, 0, 2])), **more)


def _random_population(rng: np.random.Generator, name: str, kind: str, t_start: int) -> Population:
    size = int(rng.integers(1, 5))
    common: dict[str, Any] = {"bias_mant": rng.integers(-40, 60, size), "bias_exp": int(rng.choice([0, 6])), "t_start": t_start}
    if kind == "graded":
        return Population(name, size, kind, shift=int(rng.integers(0, 12)), top=int(rng.choice([7, 255])), **common)
    common |= {"dv": int(rng.choice([0, 1, 410, 4096])), "vth": int(rng.integers(1, 200))}
    if kind == "lif":
        return Population(name, size, kind, **common)
    start = int(rng.choice([0, -700, MEMBRANE_MAX]))
    return Population(name, size, kind, delta=int(rng.integers(0, 300)), v_init=start, **common)


def _loose(rng: np.random.Generator, form: str) -> FixedNetwork:
    """Populations that pause, in a loop, with delays; the last one may be an accumulator."""
    kinds = [*rng.choice(["soft_reset_lif", "graded"], 2, p=[0.7, 0.3]), rng.choice(["soft_reset_lif", "accumulator"])]
    starts = [0 if form == "current" else int(rng.integers(0, 2)), *(int(rng.integers(0, 3)) for _ in kinds[1:])]
    parts = [_random_population(rng, f"p{i}", str(k), t) for i, (k, t) in enumerate(zip(kinds, starts, strict=True))]
    edges = [] if form == "current" else [_weights(rng, INPUT, parts[0], _INPUTS)]
    for source, target in [(0, 1), (1, 2), (1, 0), (0, 0)]:
        size = parts[source].size
        delay = rng.integers(0, 3, (parts[target].size, size)) if rng.integers(2) else int(rng.integers(0, 2))
        edges.append(_weights(rng, f"p{source}", parts[target], size, delay=delay))
    return FixedNetwork(tuple(parts), tuple(edges), _host(form, parts[0].size), int(rng.integers(3, 6)), "p2")


def _lockstep(rng: np.random.Generator, form: str) -> FixedNetwork:
    """Two stock LIFs, the second one step behind the first."""
    first = int(form != "current")
    parts = [_random_population(rng, f"p{i}", "lif", first + i) for i in range(2)]
    edges = [] if form == "current" else [_weights(rng, INPUT, parts[0], _INPUTS)]
    edges.append(_weights(rng, "p0", parts[1], parts[0].size))
    return FixedNetwork(tuple(parts), tuple(edges), _host(form, parts[0].size), int(rng.integers(3, 9)), "p1")


def _pausing(network: FixedNetwork) -> FixedNetwork:
    """The network with neurons that pause in place of stock LIFs, which go on before their first step of a sample."""
    parts = [replace(p, kind="soft_reset_lif") if p.kind == "lif" else p for p in network.populations]
    return replace(network, populations=tuple(parts))


def _inputs(rng: np.random.Generator, parameters: Parameters, steps: int) -> Arrays:
    host = parameters["network"].host
    size = (steps, host.size)
    if host.form == "current":
        return {"s_in": rng.integers(-300, 700, size)}
    rows = (rng.random(size) < 0.6) * (1 if host.form == "spikes" else rng.integers(1, 256, size))
    rows[-1] = 0  # or it would land in the first step of the next sample, as in the graph
    return {"s_in": rows}


def _simulate(parameters: Parameters, signal: NDArray[Any], steps: int, real: bool) -> Arrays:
    """Neuron by neuron and synapse by synapse; what was sent in all steps so far is kept, [step][neuron]."""
    network: FixedNetwork = parameters["network"]
    interval = None if parameters["endless"] else parameters["reset_interval"] or network.period
    sent: dict[str, list[list[Any]]] = {p.name: [] for p in network.populations} | {INPUT: signal.tolist()}
    v: dict[str, list[Any]] = {p.name: [p.v_init] * p.size for p in network.populations}
    rows: dict[str, list[Any]] = {"s_out": [], "also_out": [], "v": []}
    for step in range(steps):
        phase = step if interval is None else step % interval
        now = {}
        for p in network.populations:
            heard = [_heard(network, p, i, step, sent, real) for i in range(p.size)]
            stops = interval is not None and phase >= p.t_start + network.steps
            now[p.name] = [
                _neuron(p, i, v[p.name], heard[i], phase, phase >= p.t_start and not stops, real) for i in range(p.size)
            ]
        for name, messages in now.items():
            sent[name].append(messages)
        rows["s_out"].append(now[network.output])
        rows["also_out"].append([value for name in parameters["also"] for value in now[name]] or [0])
        rows["v"].append([value for p in network.populations for value in v[p.name]])
    return {name: np.array(values) for name, values in rows.items()}


def _heard(network: FixedNetwork, p: Population, i: int, step: int, sent: dict[str, list[list[Any]]], real: bool) -> Any:
    """What neuron i hears in this step: the sum of what was sent 1 + delay steps before."""
    total: Any = sent[INPUT][step][i] if p.name in network.host.targets else 0
    for connection in network.incoming(p.name):
        weight = np.asarray(connection.weight).tolist()
        delays = np.broadcast_to(connection.delay, connection.shape).tolist()
        for j in range(connection.shape[1]):
            when = step - 1 - delays[i][j]
            if when >= 0:
                total += weight[i][j] * 2**connection.exponent * sent[connection.source][when][j]
    return float(total) if real else int(total)


def _neuron(p: Population, i: int, v: list[Any], heard: Any, phase: int, active: bool, real: bool) -> Any:
    """One step of neuron i, whose membrane v[i] is updated; returns what it sends."""
    bias = int(np.asarray(p.bias_mant)[i]) * 2**p.bias_exp
    if p.kind == "lif":
        return _stock(p, i, v, heard, bias, phase, real)
    if phase == 0:
        v[i] = p.v_init
    if active and p.kind == "graded":
        total = (heard + bias) / 2**p.shift
        v[i] = min(max(total if real else total // 1, 0), p.top)
    elif active:
        charged = _leaked(v[i], p.dv, real) + 64 * heard + bias
        fired = charged >= 64 * p.vth and p.kind != "accumulator"
        v[i] = _held(charged - (64 * (p.delta or 0) if fired else 0), real)
        if p.kind != "accumulator":
            return int(fired)
    return v[i] if p.kind == "accumulator" or active else 0


def _stock(p: Population, i: int, v: list[Any], heard: Any, bias: int, phase: int, real: bool) -> int:
    """Lava's LIF, which is never idle; its current is not filtered, and too small here to wrap."""
    before = 0 if phase == p.t_start else v[i]
    charged = _held(_leaked(before, p.dv, real) + 64 * heard + bias, real)
    fired = charged > 64 * p.vth
    v[i] = 0 if fired else charged
    return int(fired)


def _leaked(v: Any, dv: int, real: bool) -> Any:
    if real:
        return v * (4096 - dv) / 4096
    magnitude = abs(v) * (4096 - dv) // 4096
    return magnitude if v >= 0 else -magnitude


def _held(v: Any, real: bool) -> Any:
    return v if real else max(-MEMBRANE_MAX, min(MEMBRANE_MAX, v))


def _refused() -> list[dict[str, Any]]:
    bad: dict[str, list[Any]] = {
        "network": [None, "network.h5"],
        "also": ["p0", ("p9",), ("p0", "p0"), None],
        "endless": [1, None],
        "record": [-1, 2.5],
    }
    several = {"reset_interval": 5, "endless": True}
    single = [{name: value} for name, values in bad.items() for value in values]
    times = [{"reset_interval": value, "endless": False} for value in (0, 1, 2.5, -3)]
    return [*single, *times, several]
