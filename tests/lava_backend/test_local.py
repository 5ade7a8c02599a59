"""A network that learns by a local rule on Lava: equal to the simulator in every phase."""

from collections import Counter
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError
from lava_snnlearn.lava_backend import InProcessModel, local
from lava_snnlearn.on_chip.local import LocalSettings, begin_task, initial, train_epoch, train_sample

FEATURES, CLASSES = 8, 4


def samples(count, rng, steps=None):
    shape = (count, FEATURES) if steps is None else (count, steps, FEATURES)
    return 4 * rng.random(shape), rng.integers(0, CLASSES, count)  # so that spikes reach deep layers


def network(hidden, tasks=(), seed=0, **options):
    """A network that has learnt ``tasks``, rows of each connection in each task, but the last one, which it begins."""
    state = initial(LocalSettings(sizes=(FEATURES, *hidden, CLASSES), seed=seed, **({"eta": 0.05} | options)))
    for number, rows in enumerate(tasks):
        if number:
            state, _ = train_epoch(state, *samples(6, np.random.default_rng(number)))
        state = begin_task(state, rows)
    return state


REAL_RUNS = {
    "OTTT": dict(hidden=(14, 12), readout_leak=0.5),
    "OTTT, one layer, accumulated in shadows": dict(hidden=(12,), update="accumulate", memory="shadow", error="mse"),
    "OTTT with HLOP": dict(hidden=(12,), tasks=[(2, 3), (1, 2)], surrogate="sigmoid", subspace_average=3),
    "DFA": dict(hidden=(10, 9, 8), feedback="fixed", memory="shadow", readout_leak=1.0),
    "OPZO, noise on spikes, baseline, with HLOP": dict(
        hidden=(10, 8), feedback="learned", baseline=4, tasks=[2, 1], update="accumulate", subspace_average=2
    ),
    "OPZO, noise before the threshold": dict(
        hidden=(10, 9, 8), feedback="learned", noise_position="pre", antithetic=False, readout_leak=1.0, error="mse"
    ),
}


@pytest.mark.parametrize("name", REAL_RUNS)
def test_lava_learns_what_the_simulator_learns(name, nothing_left):
    state = network(**REAL_RUNS[name])
    chosen = state.settings
    n = -(-200 // chosen.period)
    x, y = samples(n, np.random.default_rng(1), chosen.steps if "OPZO" in name else None)
    report = local.verify_learning(state, x, y)
    assert report.ok, str(report)
    assert report.samples == n
    phases, neurons = n * chosen.period, sum(chosen.sizes[1:-1])
    expected = {
        "spikes": phases * neurons,
        "signals": phases * neurons,
        "factors": phases * neurons,
        "outputs": phases * CLASSES,
        "errors": phases * CLASSES,
        "memories": phases * sum(memory.size for memory in state.memories),
        "readout sums": n * CLASSES,
        "number of samples": 1,
        "number of updates": 1,
    }
    if chosen.feedback == "learned":
        expected["noise"] = phases * neurons
    if chosen.feedback != "transport":
        expected["feedback matrices"] = phases * neurons * CLASSES
        expected["means of the output"] = chosen.layers * CLASSES
    rows = sum(subspace.size for subspace in state.subspaces)
    if rows:
        expected |= {"subspaces": n * rows, "velocities of subspaces": rows, "sums of subspaces": rows}
    assert report.compared == expected
    assert f"{n} samples learnt by the simulator and by Lava fixed_pt: EQUAL" in str(report)


def test_training_goes_on_where_it_ended():
    """Two runs of Lava are one run of the simulator; the second goes on from the first, unwatched, at another rate."""
    state = network((9, 8), tasks=[2, 2], feedback="learned", baseline=3, subspace_average=2)
    x, y = samples(5, np.random.default_rng(3))
    first = local.train_on_lava(state, x[:3], y[:3])
    second = local.train_on_lava(replace(first.state, eta=0.02), x[3:], y[3:], watched=False)
    assert len(first.samples) == 3
    assert second.samples == ()
    expected, _ = train_epoch(state, x[:3], y[:3])
    expected, _ = train_epoch(replace(expected, eta=0.02), x[3:], y[3:])
    assert_same(second.state, expected)
    assert (second.state.samples, second.state.updates) == (state.samples + 5, state.updates + 5 * 8)
    for name in ("memories", "matrices", "means", "subspaces"):
        assert all((a != b).any() for a, b in zip(getattr(state, name), getattr(second.state, name), strict=True)), name


def assert_same(found, expected):
    for name in ("memories", "matrices", "means", "subspaces", "velocities", "sums"):
        for ours, theirs in zip(getattr(found, name), getattr(expected, name), strict=True):
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs), name
    assert (found.samples, found.updates) == (expected.samples, expected.updates)


class Lateral:
    """Stands in for the port ``r_in``: steps the lateral circuit with what its connection has just sent to it."""

    def __init__(self, lateral, synapse):
        self.lateral, self.synapse = lateral, synapse

    def recv(self):
        return self.lateral.step(x_in=self.synapse.model.x_out.value)["r_out"]


class InProcessGraph:
    """The models of a graph stepped in this interpreter, wired as the processes' ports are connected.

    Connections and feedback send first what they hold, so that their outputs are known before their inputs.
    """

    def __init__(self, graph):
        self.period, self.time = graph.state.settings.period, count()
        early = {process: {"a_out": "a_buffer", "b_out": "b_buffer"} for process in graph.synapses.values()}
        early |= {process: {"g_out": "buffer"} for process in graph.feedback}
        order = [graph.source, graph.target, *graph.noise, *graph.neurons, graph.readout, *early]
        self.models = {process: InProcessModel(process) for process in order}
        self.laterals = {name: InProcessModel(lateral) for name, lateral in graph.laterals.items()}
        for name, lateral in self.laterals.items():
            synapse = self.models[graph.synapses[name]]
            synapse.model.r_in = Lateral(lateral, synapse)
        self.early, self.sent = early, {}

    def step(self):
        """One step of all models; returns what each OutPort sent."""
        begins = next(self.time) % self.period == 0
        for process, buffers in self.early.items():
            for port, buffer in buffers.items():
                self.sent[getattr(process, port)] = self.models[process].read(buffer) * (not begins)
        for process, model in self.models.items():
            inputs = {
                port.name: sum((self.sent[source] for source in port.get_src_ports()), np.zeros(port.shape, int))
                for port in process.in_ports.members
                if port.name != "r_in"
            }
            for name, values in model.step(**inputs).items():
                port = getattr(process, name)
                if name in self.early.get(process, ()):
                    assert np.array_equal(values, self.sent[port])
                self.sent[port] = values
        return self.sent


def states(draw):
    """Networks of one to three layers, of all rules, memories, errors and noises, some with subspaces of a second task."""
    hidden = draw(st.lists(st.integers(4, 10), min_size=1, max_size=3))
    rows = st.lists(st.integers(0, 2), min_size=len(hidden) + 1, max_size=len(hidden) + 1)
    return network(
        hidden,
        tasks=draw(st.lists(rows, max_size=2)),
        seed=draw(st.integers(0, 1000)),
        steps=draw(st.sampled_from([2, 6, 8])),
        feedback=draw(st.sampled_from(["transport", "fixed", "learned"])),
        update=draw(st.sampled_from(["online", "accumulate"])),
        memory=draw(st.sampled_from(["stochastic", "shadow", "nearest"])),
        leak=draw(st.sampled_from([0.0, 0.125, 0.3, 0.5, 1.0])),
        readout_leak=draw(st.sampled_from([0.0, 0.5, 1.0])),
        surrogate=draw(st.sampled_from(["triangle", "sigmoid"])),
        error=draw(st.sampled_from(["softmax", "mse"])),
        # A trace holds 8 steps of it without leak.
        payload_one=15,
        bias_payload=draw(st.sampled_from([0, 15])),
        hidden_exponent=draw(st.integers(3, 6)),
        readout_exponent=draw(st.integers(3, 6)),
        gain_bits=draw(st.integers(0, 4)),
        eta=draw(st.sampled_from([0.0, 0.01, 0.3])),
        noise_position=draw(st.sampled_from(["post", "pre"])),
        noise_bits=draw(st.integers(2, 3)),
        antithetic=draw(st.booleans()),
        momentum=draw(st.integers(0, 12)),
        baseline=draw(st.sampled_from([0, 3])),
        subspace_average=draw(st.integers(1, 3)),
        subspace_eta=draw(st.sampled_from([0.0, 0.001, 0.1])),
    )


def test_models_equal_the_simulator_for_random_networks():
    """And what is compared moves: spikes and factors of all layers, weights, feedback, subspaces of two tasks."""
    seen = Counter()

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.data())
    def check(data):
        state = states(data.draw)
        steps = state.settings.steps if data.draw(st.booleans()) else None
        compare(state, *samples(4, np.random.default_rng(data.draw(st.integers(0, 100))), steps), seen)

    check()
    assert all(seen[name] > 5 for name in ("spikes 3", "factors 3", "weights", "matrices", "new subspaces", "second tasks")), (
        seen
    )


def compare(state, x, y, seen):
    """Let simulator and models learn the samples; all they hold is equal in all phases."""
    chosen, begin = state.settings, state
    graph = local.build(state, x, y, watched=False)
    lava = InProcessGraph(graph)
    for number in range(len(y)):
        state, record = train_sample(state, x[number], int(y[number]))
        for phase in range(chosen.period):
            for process, name, expected in phase_values(graph, record, phase, lava.step()):
                found = lava.models[process].read(name) if isinstance(name, str) else name
                assert np.array_equal(found, expected), (number, phase, process, chosen)
        for name, lateral in lava.laterals.items():
            at = chosen.names.index(name)
            for var, values in (("subspace", state.subspaces), ("velocity", state.velocities), ("sums", state.sums)):
                assert np.array_equal(lateral.read(var), values[at]), (number, name, var, chosen)
        for feedback, mean in zip(graph.feedback, state.means, strict=True):
            assert np.array_equal(lava.models[feedback].read("mean"), mean)
            assert lava.models[feedback].read("count") == state.updates
        for layer in range(chosen.layers):
            seen[f"spikes {layer + 1}"] += record.spikes[layer].any()
            seen[f"factors {layer + 1}"] += record.factors[layer].any()
    for name, kept in (("weights", "memories"), ("matrices", "matrices"), ("new subspaces", "subspaces")):
        pairs = zip(getattr(begin, kept), getattr(state, kept), strict=True)
        seen[name] += any((new != old).any() for new, old in pairs)
    seen["second tasks"] += any(begin.old)


def phase_values(graph, record, phase, sent):
    """(process, name of a Var or what was sent, the simulator's values) of a phase."""
    for layer, neuron in enumerate(graph.neurons):
        (source,) = neuron.d_in.get_src_ports()
        yield neuron, "spikes", record.spikes[layer][phase]
        yield neuron, sent[neuron.m_out], record.factors[layer][phase]
        yield neuron, sent[source], record.signals[layer][phase]
    for noise, expected in zip(graph.noise, record.noise, strict=bool(graph.noise)):
        yield noise, sent[noise.z_out], expected[phase]
    yield graph.readout, sent[graph.readout.e_out], record.factors[-1][phase]
    yield graph.readout, "output", record.outputs[phase]
    for synapse, weights in zip(graph.synapses.values(), record.weights, strict=True):
        yield synapse, "memory", weights[phase]
    for feedback, matrices in zip(graph.feedback, record.matrices, strict=True):
        yield feedback, "matrix", matrices[phase]


def test_a_difference_is_found_and_named(monkeypatch):
    """The first in time: a factor of phase 7 before a memory of phase 9, although it is of the layer behind."""
    state = network((6, 5), tasks=[1])
    x, y = samples(2, np.random.default_rng(0))
    true, after = [], state
    for number in range(2):
        after, record = train_sample(after, x[number], int(y[number]))
        true.append(record)
    weights = [values.copy() for values in true[1].weights]
    weights[0][9, 2, 5] += 2
    factors = [values.copy() for values in true[1].factors]
    factors[1][7, 3] += 1
    wrong = replace(true[1], weights=tuple(weights), factors=tuple(factors))
    sums = (after.sums[0] + 1, *after.sums[1:])
    training = local.LavaTraining((true[0], wrong), replace(after, sums=sums))
    monkeypatch.setattr(local, "train_on_lava", lambda *_, **__: training)
    report = local.verify_learning(state, x, y)
    assert not report.ok
    found = {name: count for name, count in report.mismatches.items() if count}
    assert found == {"factors": 1, "memories": 1, "sums of subspaces": after.sums[0].size}
    first = report.first_mismatch
    assert (first.sample, first.phase, first.quantity, first.part, first.index) == (1, 7, "factors", "layer 2", (3,))
    assert first.lava == first.simulator + 1
    text = str(report)
    assert "DIFFERENT" in text
    assert f"sample 1, phase 7, factors of layer 2 at (3,): simulator {first.simulator}, Lava {first.lava}" in text


@pytest.mark.parametrize(
    "x, y, error, text",
    [
        (np.zeros((2, FEATURES + 1)), [0, 1], ValueError, "features"),
        (np.zeros((2, 3, FEATURES)), [0, 1], ValueError, "do not fit; expected .batch, "),
        (np.zeros((0, FEATURES)), np.zeros(0, int), ValueError, "at least one sample"),
        (np.full((1, FEATURES), 100.0), [0], LimitError, "payload"),
        (np.zeros((2, FEATURES)), [0], ValueError, "one for each of the 2 samples"),
        (np.zeros((1, FEATURES)), [CLASSES], LimitError, "labels is 4"),
        (np.zeros((1, FEATURES)), [0.5], TypeError, "labels"),
    ],
)
def test_bad_samples_are_refused_before_anything_runs(x, y, error, text):
    with pytest.raises(error, match=text):
        local.build(network((5,)), x, y)


def test_only_states_of_local_networks_are_taken():
    with pytest.raises(TypeError, match="LocalState"):
        local.build("state", np.zeros((1, FEATURES)), [0])
