"""An independent reference: all kinds of neurons and connections, formulas as in Lava, one global time step after the other."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import strategies as st

from lava_snnlearn.fixed_point import twin
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput

TOP = 8_388_607


def leaked(v, dv):
    magnitude = abs(v) * (4096 - dv) // 4096
    return magnitude if v >= 0 else -magnitude


def soft_step(v, a, dv, bias, vth, delta):
    charged = leaked(v, dv) + 64 * a + bias
    spike = charged >= 64 * vth
    after = charged - 64 * delta if spike else charged
    kept = max(-TOP, min(TOP, after))
    return spike, kept, kept != after


def zero_step(v, a, dv, bias, vth):
    u = 64 * a
    if u > 8_388_608:
        u -= 16_777_216
    elif u <= -8_388_608:
        u += 16_777_216
    charged = leaked(v, dv) + u + bias
    kept = max(-TOP, min(TOP, charged))
    spike = kept > 64 * vth
    return spike, 0 if spike else kept, kept != charged or u != 64 * a


def int32(value):
    """Bits above the lowest 32 are lost."""
    return (value + 2**31) % 2**32 - 2**31


def leaked_all(v, constant):
    """As :func:`leaked`, of many."""
    return np.sign(v) * (np.abs(v) * (4096 - constant) // 4096)


class SlowNeurons:
    """One population, formulas as in Lava."""

    def __init__(self, population, batch):
        self.p = population
        self.v = np.zeros((batch, population.size), np.int64) + population.v_init
        self.u = np.zeros((batch, population.size), np.int64) + population.u_init
        self.bias = np.asarray(population.bias_mant).astype(np.int64) * 2**population.bias_exp
        self.saturated = 0

    def step(self, a, t):
        p = self.p
        if p.kind == "relay":
            self.v = a
            return a
        if p.kind == "graded":
            self.v = np.clip((a + self.bias) // 2**p.shift, 0, p.top)
            return self.v
        if p.reset_interval and (t + 1) % p.reset_interval == p.reset_offset % p.reset_interval:
            self.u, self.v = np.zeros_like(self.u), np.zeros_like(self.v)
        if p.kind == "lif":
            raw = leaked_all(self.u, p.du + 1) + 64 * a
            u = int32(raw)
            self.u = np.where(u > 2**23, u - 2**24, np.where(u <= -(2**23), u + 2**24, u))
            raw_v = leaked_all(self.v, p.dv) + self.u + self.bias
            kept = np.clip(int32(raw_v), -TOP, TOP)
            spike = kept > 64 * p.vth
            self.v = np.where(spike, 0, kept)
            self.saturated += int(((raw != self.u) | (kept != raw_v)).sum())
            return spike.astype(np.int64)
        raw_v = leaked_all(self.v, p.dv) + 64 * a + self.bias
        spike = (raw_v >= 64 * p.vth) & (p.kind == "soft_reset_lif")
        after = raw_v - 64 * p.delta * spike
        self.v = np.clip(after, -TOP, TOP)
        self.saturated += int((self.v != after).sum())
        return spike.astype(np.int64)


def heard(connection, matrix, sent, now):
    """What a connection's target hears at chip step ``now``: [B, n_target]."""
    delay = np.broadcast_to(connection.delay, matrix.shape)
    total = 0
    for d in np.unique(delay):
        if now - 1 - d >= 0:
            values = sent[now - 1 - d]
            values = (values != 0).astype(np.int64) if connection.binary else values
            total = total + values @ (matrix * (delay == d)).T
    return total * 2**connection.exponent if connection.exponent >= 0 else total // 2**-connection.exponent


def simulate(laid_out, network, signal):
    """Spikes and membranes {name: [T, B, n]}, and clipped neuron-steps {name: count}; signal: integers [T, B, n]."""
    steps, batch = network.steps, signal.shape[1]
    matrices = [
        (np.asarray(c.weight) if c.geometry is None else laid_out(np.asarray(c.weight), c.geometry)).astype(np.int64)
        for c in network.connections
    ]
    nodes = {p.name: SlowNeurons(p, batch) for p in network.populations}
    sent = {p.name: [] for p in network.populations} | {"input": []}
    membranes = {name: [] for name in nodes}
    for now in range(max(p.t_start for p in network.populations) + steps):
        sent["input"].append(signal[now].astype(np.int64) if now < steps else np.zeros(signal.shape[1:], np.int64))
        fired = {}
        for p in network.populations:
            silent = np.zeros((batch, p.size), np.int64)
            if not p.t_start <= now < p.t_start + steps:
                fired[p.name] = silent
                continue
            a = silent
            part = network.current_part(p.name)
            if part is not None:
                a = a + signal[now - p.t_start][:, part]
            for connection, matrix in zip(network.connections, matrices, strict=True):
                if connection.target == p.name:
                    a = a + heard(connection, matrix, sent[connection.source], now)
            fired[p.name] = nodes[p.name].step(a, now - p.t_start)
            membranes[p.name].append(nodes[p.name].v)
        for name, values in fired.items():
            sent[name].append(values)
    start = {p.name: p.t_start for p in network.populations}
    spikes = {name: np.stack(sent[name][start[name] : start[name] + steps]) for name in nodes}
    return SimpleNamespace(
        spikes=spikes,
        membranes={name: np.stack(rows) for name, rows in membranes.items()},
        saturated={name: neurons.saturated for name, neurons in nodes.items()},
    )


@pytest.fixture(scope="session")
def reference(laid_out):
    return SimpleNamespace(
        leaked=leaked, soft_step=soft_step, zero_step=zero_step, simulate=partial(simulate, laid_out), laid_out=laid_out
    )


@pytest.fixture(scope="session")
def assert_twin():
    """Every membrane, spike and output of the emulator is that of the twin in torch; the emulator's trace comes back."""

    def check(chip, x):
        trace, states = emulate(chip, x), twin.forward(chip, x)
        for population in chip.populations:
            name, fine = population.name, 64 * 2.0**population.scale_bits
            np.testing.assert_array_equal(trace.membranes[name], states.membranes[name].numpy() * fine, err_msg=name)
            if population.spiking:
                np.testing.assert_array_equal(trace.spikes[name], states.spikes[name].numpy(), err_msg=name)
        last = chip.population(chip.output)
        unit = 1 if last.spiking else 64 * 2.0**last.scale_bits
        np.testing.assert_array_equal(trace.outputs, states.outputs.numpy() * unit)
        return trace

    return check


# ---- random networks --------------------------------------------------------------------------------------------------------

EVEN = st.one_of(st.integers(-5, 5), st.integers(-128, 127), st.sampled_from([-128, 127])).map(lambda half: 2 * half)
LEAKS = st.one_of(st.sampled_from([0, 1, 2048, 4095, 4096]), st.integers(0, 4096))
THRESHOLDS = st.one_of(st.integers(0, 30), st.integers(0, 2000), st.sampled_from([0, 131_071]))
MANTISSAS = st.one_of(st.just(0), st.integers(-64, 64), st.integers(-4096, 4095))


@st.composite
def populations(draw, index, kind, t_start, coarse):
    size = draw(st.integers(1, 4))
    soft = kind == "soft_reset_lif"
    if coarse:
        vth, dv = draw(st.sampled_from([2, 4, 6, 8])), draw(st.sampled_from([0, 0, 4096]))
        return Population(f"p{index}", size, kind, vth=vth, dv=dv, t_start=t_start)
    return Population(
        f"p{index}",
        size,
        kind,
        vth=draw(THRESHOLDS),
        delta=draw(st.one_of(st.none(), THRESHOLDS)) if soft else None,
        dv=draw(LEAKS),
        bias_mant=np.array(draw(st.lists(MANTISSAS, min_size=size, max_size=size))),
        bias_exp=draw(st.sampled_from([0, 0, 3, 6, 7])),
        v_init=0 if kind == "lif" else draw(st.one_of(st.just(0), st.integers(-TOP, TOP))),
        t_start=t_start,
    )


@st.composite
def connections(draw, source, rows, target, columns, max_delay, coarse):
    count = rows * columns
    values = st.integers(-2, 4).map(lambda half: 2 * half) if coarse else EVEN
    weight = np.array(draw(st.lists(values, min_size=count, max_size=count))).reshape(rows, columns)
    delay = draw(st.one_of(st.just(0), st.integers(0, max_delay)))
    if max_delay and draw(st.booleans()):
        delay = np.array(draw(st.lists(st.integers(0, max_delay), min_size=count, max_size=count))).reshape(rows, columns)
    return Connection(source, target, weight, exponent=0 if coarse else draw(st.sampled_from([0, 0, 1, 4, 7])), delay=delay)


@st.composite
def inputs(draw, form, shape):
    values = {
        "current": st.one_of(st.integers(-60, 60), st.integers(-8190, 8190)),
        "graded": st.one_of(st.sampled_from([0, 1, 255]), st.integers(0, 255)),
        "spikes": st.integers(0, 1),
    }[form]
    count = int(np.prod(shape))
    return np.array(draw(st.lists(values, min_size=count, max_size=count))).reshape(shape)


@st.composite
def networks(draw):
    """(network, integer input): chains of one to three populations, with feedback where all reset by subtraction."""
    form = draw(st.sampled_from(["current", "graded", "spikes"]))
    # Coarse networks count in twos without leak or bias: their membranes meet the threshold exactly, again and again.
    feedback, coarse = draw(st.booleans()), draw(st.integers(0, 2)) == 0
    depth, steps, first = draw(st.integers(1, 3)), draw(st.integers(1, 6)), int(form != "current")
    kinds = [draw(st.sampled_from(["soft_reset_lif"] if feedback else ["soft_reset_lif", "lif"])) for _ in range(depth)]
    kinds[-1] = draw(st.sampled_from([kinds[-1], "accumulator"]))
    loose = all(kind != "lif" for kind in kinds)
    starts = [first + index for index in range(depth)]
    if loose:
        starts = [starts[0] if form == "current" else draw(st.integers(0, 2)), *(draw(st.integers(0, 4)) for _ in starts[1:])]
    nodes = [draw(populations(i, kind, start, coarse)) for i, (kind, start) in enumerate(zip(kinds, starts, strict=True))]
    max_delay = draw(st.sampled_from([0, 2, 5])) if loose else 0
    host = HostInput(form, nodes[0].size, targets=("p0",)) if form == "current" else HostInput(form, draw(st.integers(1, 4)))
    edges = [] if form == "current" else [draw(connections("input", nodes[0].size, "p0", host.size, max_delay, coarse))]
    for before, after in pairwise(nodes):
        edges.append(draw(connections(before.name, after.size, after.name, before.size, max_delay, coarse)))
    if feedback:
        for source in nodes:
            target = draw(st.sampled_from(nodes))
            if source.spiking and not any((e.source, e.target) == (source.name, target.name) for e in edges):
                edges.append(draw(connections(source.name, target.size, target.name, source.size, max_delay, coarse)))
    output = nodes[-1].name
    network = FixedNetwork(tuple(draw(st.permutations(nodes))), tuple(draw(st.permutations(edges))), host, steps, output)
    batch = draw(st.integers(1, 3))
    constant = draw(st.booleans())
    return network, draw(inputs(form, (batch, host.size) if constant else (steps, batch, host.size)))


@pytest.fixture(scope="session")
def random_case():
    """Call it with hypothesis' ``data``: a random network and integer input for it."""
    return lambda data: data.draw(networks())


@pytest.fixture(scope="session")
def chain():
    """A small valid network, input -> hidden -> out, with parts replaced by keyword."""

    def build(hidden=(), out=(), entry=(), link=(), **changes):
        fields = {
            "populations": (
                Population(**{"name": "hidden", "size": 3, "vth": 10, "t_start": 1} | dict(hidden)),
                Population(**{"name": "out", "size": 2, "kind": "accumulator", "t_start": 2} | dict(out)),
            ),
            "connections": (
                Connection(**{"source": "input", "target": "hidden", "weight": np.full((3, 4), 2)} | dict(entry)),
                Connection(**{"source": "hidden", "target": "out", "weight": np.full((2, 3), -4)} | dict(link)),
            ),
            "host": HostInput("spikes", 4),
            "steps": 5,
            "output": "out",
        }
        return FixedNetwork(**fields | changes)

    return build
