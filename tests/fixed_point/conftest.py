"""An independent reference in plain Python integers: one sample, one neuron, one global time step after the other."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import strategies as st

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


def neuron_step(population, i, v, a):
    bias = int(population.bias_mant[i]) * 2**population.bias_exp
    if population.kind == "lif":
        return zero_step(v, a, population.dv, bias, population.vth)
    if population.kind == "accumulator":
        _, after, saturated = soft_step(v, a, population.dv, bias, population.vth, 0)
        return False, after, saturated
    return soft_step(v, a, population.dv, bias, population.vth, population.delta)


def synaptic_input(network, population, i, now, signal, sent):
    """What neuron i hears at this global step: ``a_in[t] = W s[t-1-delay]``; ``sent[name][t]`` is what was sent at step t."""
    total, first = 0, 0
    for name in network.host.targets:
        if name == population.name:
            total += int(signal[now - population.t_start][first + i])
        first += network.population(name).size
    for connection in network.connections:
        if connection.target != population.name:
            continue
        weight = matrix(connection)
        delays = np.broadcast_to(connection.delay, weight.shape)
        for j in np.flatnonzero(weight[i]):
            when = now - 1 - int(delays[i, j])
            if when >= 0:
                total += int(weight[i, j]) * 2**connection.exponent * int(sent[connection.source][when][j])
    return total


@lru_cache(maxsize=64)
def matrix(connection):
    """Weights [n_target, n_source]."""
    weight = np.asarray(connection.weight)
    return weight if connection.geometry is None else laid_out(weight, connection.geometry)


def laid_out(kernel, shape):
    """The matrix of a convolution, channel by channel, place by place and tap by tap."""
    channels, height, width = shape.input_shape
    out, depth, *taps = kernel.shape
    reach = [d * (k - 1) + 1 for d, k in zip(shape.dilation, taps, strict=True)]
    sizes = zip((height, width), shape.padding, reach, shape.stride, strict=True)
    rows, columns = ((size + 2 * pad - long) // step + 1 for size, pad, long, step in sizes)
    result = np.zeros((out, rows, columns, channels, height, width), int)
    for o, r, c, i, a, b in np.ndindex(out, rows, columns, *kernel.shape[1:]):
        y = r * shape.stride[0] + a * shape.dilation[0] - shape.padding[0]
        x = c * shape.stride[1] + b * shape.dilation[1] - shape.padding[1]
        if 0 <= y < height and 0 <= x < width:
            result[o, r, c, o // (out // shape.groups) * depth + i, y, x] = kernel[o, i, a, b]
    return result.reshape(out * rows * columns, -1)


def simulate_sample(network, signal):
    """Spikes and membranes as {population: [step][neuron]}, clipped neuron-steps as {population: count}."""
    sizes = {"input": network.host.size} | {p.name: p.size for p in network.populations}
    sent = {name: [] for name in sizes}
    spikes = {p.name: [] for p in network.populations}
    membranes = {p.name: [] for p in network.populations}
    saturated = {p.name: 0 for p in network.populations}
    state = {p.name: [p.v_init] * p.size for p in network.populations}
    for now in range(max(p.t_start for p in network.populations) + network.steps):
        sent["input"].append(signal[now] if now < network.steps else [0] * sizes["input"])
        fired = {}
        for p in network.populations:
            fired[p.name] = [0] * p.size
            if not p.t_start <= now < p.t_start + network.steps:
                continue
            for i in range(p.size):
                a = synaptic_input(network, p, i, now, signal, sent)
                spike, state[p.name][i], clipped = neuron_step(p, i, state[p.name][i], a)
                fired[p.name][i] = int(spike)
                saturated[p.name] += int(clipped)
            spikes[p.name].append(fired[p.name])
            membranes[p.name].append(list(state[p.name]))
        for name, now_sent in fired.items():
            sent[name].append(now_sent)
    return spikes, membranes, saturated


def simulate(network, signal):
    """The whole batch; integer arrays [T, B, n] per population, and the sum of clipped neuron-steps per population."""
    samples = [simulate_sample(network, np.asarray(signal)[:, b].tolist()) for b in range(np.shape(signal)[1])]
    names = [p.name for p in network.populations]
    return SimpleNamespace(
        spikes={n: np.array([s[0][n] for s in samples]).swapaxes(0, 1) for n in names},
        membranes={n: np.array([s[1][n] for s in samples]).swapaxes(0, 1) for n in names},
        saturated={n: sum(s[2][n] for s in samples) for n in names},
    )


@pytest.fixture(scope="session")
def reference():
    return SimpleNamespace(leaked=leaked, soft_step=soft_step, zero_step=zero_step, simulate=simulate, laid_out=laid_out)


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
