"""A network that learns by SPIDE on Lava: equal to the simulator after each sample, and to the equations in real numbers."""

from dataclasses import replace

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError
from lava_snnlearn.lava_backend import InProcessModel, spide
from lava_snnlearn.on_chip.spide import OnChipSettings, initial, train_sample
from lava_snnlearn.processes import SpideSynapse

FEATURES, CLASSES = 8, 4


def network(**options):
    return initial(OnChipSettings(**{"steps": 10, "backward_steps": 20, "eta": 0.3, **options}))


def samples(count, seed=0, largest=1):
    rng = np.random.default_rng(seed)
    return largest * rng.random((count, FEATURES)), rng.integers(0, CLASSES, count)


@pytest.mark.parametrize(
    "options",
    [
        {"sizes": (FEATURES, 40, CLASSES), "error": "softmax", "memory": "shadow", "gain_bits": 4},
        {"sizes": (FEATURES, 16, 12, CLASSES), "error": "mse", "memory": "stochastic", "gain_bits": 2},
    ],
)
def test_lava_learns_what_the_simulator_learns(options, nothing_left):
    state = network(**options)
    x, y = samples(10)
    report = spide.verify_learning(state, x, y)
    assert report.ok, str(report)
    assert report.samples == 10
    synapses = sum(memory.size for memory in state.memories)
    neurons = sum(options["sizes"][1:-1])
    assert report.compared == {
        "forward counts": 10 * neurons,
        "readout sums": 10 * CLASSES,
        "errors": 10 * CLASSES,
        "injected currents": 10 * options["sizes"][-2],
        "clipped currents": 10,
        "masks": 10 * neurons,
        "backward counts": 10 * neurons,
        "memories": 10 * synapses,
        "weights": 10 * synapses,
    }
    assert "10 samples learnt by the simulator and by Lava fixed_pt: EQUAL" in str(report)


def test_training_goes_on_where_it_ended():
    """Two runs of Lava, each with what the last one left, are one run of the simulator; 8-bit weights, other rate."""
    state = network(sizes=(FEATURES, 12, CLASSES), memory="stochastic")
    x, y = samples(5)
    first = spide.train_on_lava(state, x[:2], y[:2])
    second = spide.train_on_lava(replace(first.state, eta=0.1), x[2:], y[2:])
    expected = state
    for number in range(5):
        expected, record = train_sample(replace(expected, eta=0.3 if number < 2 else 0.1), x[number], int(y[number]))
        theirs = (first.samples + second.samples)[number].record
        assert record.clipped == theirs.clipped
        assert all(np.array_equal(a, b) for a, b in zip(record.backward, theirs.backward, strict=True))
    assert second.state.samples == 5
    assert [memory.dtype for memory in second.state.memories] == [np.int16] * 3
    assert all(np.array_equal(a, b) for a, b in zip(expected.memories, second.state.memories, strict=True))
    assert any((a != b).any() for a, b in zip(first.state.memories, second.state.memories, strict=True))


def random_options(rng):
    """Networks of one to three layers, of all memories and errors, some with masks, without bias, or with frozen synapses."""
    hidden = [int(n) for n in rng.integers(3, 12, rng.integers(1, 4))]
    options = {
        "sizes": (FEATURES, *hidden, CLASSES),
        "steps": int(rng.integers(1, 20)),
        "backward_steps": int(rng.integers(1, 30)),
        "error": str(rng.choice(["softmax", "mse"])),
        "memory": str(rng.choice(["shadow", "stochastic", "nearest"])),
        "gain_bits": int(rng.integers(-1, 6)),
        "bias_payload": int(rng.choice([0, 16])),
        "hidden_exponent": int(rng.integers(5, 8)),  # narrow layers have large weights
        "eta": float(rng.choice([0.3, 3.0])),
        "seed": int(rng.integers(1000)),
        "frozen": ("R",) if rng.random() < 0.3 else (),
    }
    if rng.random() < 0.5:
        options["masks"] = {"R": rng.random((hidden[0], hidden[-1])) < 0.6}
    return options


class InProcessGraph:
    """The models of a graph stepped in this interpreter, wired as the processes' ports are connected.

    Synapses send first what they hold, so their outputs are known before their inputs; then neurons follow in Lava's order.
    """

    def __init__(self, graph):
        self.period = graph.settings.period
        processes = [graph.source, graph.target, *graph.forward, *graph.backward, graph.error, *graph.synapses.values()]
        # A backward layer hears a forward one in the same step, and nothing else that is not a synapse.
        self.models = {process: InProcessModel(process) for process in processes}
        self.sent = {}

    def step(self, number):
        for process, model in self.models.items():
            if isinstance(process, SpideSynapse):
                for port, buffer in ((process.a_out, "a_buffer"), (process.b_out, "b_buffer")):
                    self.sent[port] = model.read(buffer) * (number % self.period != 0)
        for process, model in self.models.items():
            inputs = {}
            for port in process.in_ports.members:
                inputs[port.name] = sum((self.sent[source] for source in port.get_src_ports()), np.zeros(port.shape, int))
            for name, values in model.step(**inputs).items():
                port = getattr(process, name)
                if isinstance(process, SpideSynapse):
                    assert np.array_equal(values, self.sent[port])
                self.sent[port] = values


@pytest.mark.parametrize("seed", range(12))
def test_models_equal_the_simulator_for_random_networks(seed):
    rng = np.random.default_rng(seed)
    state = network(**random_options(rng))
    settings = state.settings
    x, y = samples(3, seed, largest=4)  # so that spikes reach deep layers
    graph = spide.build(state, x, y)
    lava = InProcessGraph(graph)
    clipped = 0
    for number in range(3):
        for step in range(settings.period):
            lava.step(number * settings.period + step)
        state, record = train_sample(state, x[number], int(y[number]))
        clipped += record.clipped
        held = {
            **{(mirror, "forward_count"): record.forward[i] for i, mirror in enumerate(graph.backward)},
            **{(mirror, "mask"): record.masks[i] for i, mirror in enumerate(graph.backward)},
            **{(mirror, "count"): record.backward[i] for i, mirror in enumerate(graph.backward)},
            (graph.backward[-1], "g"): record.g,
            (graph.backward[-1], "clipped"): clipped,
            (graph.error, "z"): record.z,
            (graph.error, "e"): record.e,
            **{(graph.synapses[name], "memory"): state.memories[i] for i, name in enumerate(settings.names)},
            **{(graph.synapses[name], "view"): record.views[i] for i, name in enumerate(settings.names)},
        }
        for (process, name), expected in held.items():
            found = lava.models[process].read(name)
            assert np.array_equal(found, np.broadcast_to(expected, found.shape)), (number, name, settings)


def test_random_networks_are_not_trivial():
    """What is compared above moves: spikes both ways, masked neurons, clipped currents, weights of every connection."""
    seen = {"forward": 0, "backward": 0, "masked": 0, "clipped": 0}
    moved = set()
    for seed in range(12):
        state = network(**random_options(np.random.default_rng(seed)))
        x, y = samples(3, seed, largest=4)  # so that spikes reach deep layers
        for number in range(3):
            after, record = train_sample(state, x[number], int(y[number]))
            seen["forward"] += sum(int(counts.sum()) for counts in record.forward)
            seen["backward"] += sum(int(np.abs(counts).sum()) for counts in record.backward)
            seen["masked"] += sum(int((~mask).sum()) for mask in record.masks)
            seen["clipped"] += record.clipped
            moved |= {
                name
                for name, old, new in zip(state.settings.names, state.memories, after.memories, strict=True)
                if (old != new).any()
            }
            state = after
    assert all(count > 20 for count in seen.values()), seen
    assert moved == {"F", "W1", "W2", "R", "C"}


def real_sample(weights, x, label, *, steps, backward_steps, gain, eta):
    """One sample by SPIDE's equations in real numbers, V = 1, delta = 2, V_B = 1/2, squared error, one step of delay a layer.

    weights: F (last column: bias), W1, R, C of a network of two hidden layers. Returns counts of both phases and new weights.
    """
    f, w, r, c = weights
    total = steps + 1
    u = [np.zeros(len(f)), np.zeros(len(w))]
    s = np.zeros((2, len(f))), np.zeros((2, len(w)))  # spikes of the last step and of this one
    counts = [np.zeros(len(f)), np.zeros(len(w))]
    for t in range(total):
        drives = [f @ np.append(x, 1.0) + r @ s[1][0], w @ s[0][0]]
        for layer in (0, 1):
            s[layer][1] = 0
            if layer <= t < layer + steps:
                u[layer] += drives[layer]
                s[layer][1] = u[layer] >= 1
                u[layer] -= 2 * s[layer][1]
                counts[layer] += s[layer][1]
        for pair in s:
            pair[0] = pair[1]
    rates = [count / steps for count in counts]
    masks = [(rate > 0) & (rate < 1) for rate in rates]
    error = c @ rates[1] - np.eye(len(c))[label]
    g = np.clip(gain * c.T @ error, -1, 1)
    v = [np.zeros(len(f)), np.zeros(len(w))]
    b = [np.zeros(len(f)), np.zeros(len(w))]
    betas = [np.zeros(len(f)), np.zeros(len(w))]
    for t in range(backward_steps + 1):
        drives = [w.T @ b[1] / 2, g + r.T @ b[0] / 2]
        b = [np.zeros(len(f)), np.zeros(len(w))]
        for layer, first in ((1, 0), (0, 1)):
            if first <= t < first + backward_steps:
                v[layer] += drives[layer]
                spikes = (v[layer] >= 0.5) * 1.0 - (v[layer] <= -0.5)
                v[layer] -= spikes
                b[layer] = masks[layer] * spikes
                betas[layer] += b[layer]
    deep, near = (beta / (backward_steps * gain * 2) for beta in (betas[0], betas[1]))
    changed = (
        f - eta * np.outer(deep, np.append(x, 1.0)),
        w - eta * np.outer(near, rates[0]),
        r - eta * np.outer(deep, rates[1]),
        c - eta * np.outer(error, rates[1]),
    )
    return counts, betas, changed


def test_float_models_compute_the_equations_in_real_numbers():
    """Dyadic everywhere (steps, weights, data, rate), so that even sums of floats are exact, in both samples."""
    state = network(sizes=(FEATURES, 10, 7, CLASSES), steps=8, backward_steps=16, eta=0.25, error="mse", gain_bits=3)
    settings = state.settings
    memories = tuple((128 * (memory // 256) * 2).astype(np.int16) for memory in state.memories)  # views without rounding
    state = replace(state, memories=memories)
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 17, (2, FEATURES)) / 16, np.array([1, 3])
    found = spide.run(spide.build(state, x, y), tag="floating_pt")
    weights = tuple(memory * part.unit for part, memory in zip(settings.synapses, memories, strict=True))
    for number, sample in enumerate(found):
        counts, betas, weights = real_sample(
            weights, x[number], y[number], steps=8, backward_steps=16, gain=8.0, eta=settings.eta
        )
        for ours, theirs in ((sample.record.forward, counts), (sample.record.backward, betas)):
            assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)), number
            assert all(np.any(b) for b in theirs)
        for part, memory, expected in zip(settings.synapses, sample.memories, weights, strict=True):
            assert memory * part.unit == pytest.approx(expected, rel=1e-12, abs=1e-12), part.name


def test_a_difference_is_found_and_named(monkeypatch):
    state = network(sizes=(FEATURES, 6, CLASSES))
    x, y = samples(2)
    true = []
    after = state
    for number in range(2):
        after, record = train_sample(after, x[number], int(y[number]))
        true.append(spide.LavaSample(record, after.memories))
    false = [memory.copy() for memory in true[1].memories]
    false[1][2, 5] += 3
    backward = true[1].record.backward[0] + [0, 0, 0, 0, 1, 1]
    wrong = spide.LavaSample(true[1].record._replace(backward=(backward,)), tuple(false))
    monkeypatch.setattr(spide, "train_on_lava", lambda *_, **__: spide.LavaTraining((true[0], wrong), after))
    report = spide.verify_learning(state, x, y)
    assert not report.ok
    assert {name: count for name, count in report.mismatches.items() if count} == {"backward counts": 2, "memories": 1}
    first = report.first_mismatch
    assert (first.sample, first.quantity, first.part, first.index) == (1, "backward counts", "layer 1", (4,))
    assert first.lava == first.simulator + 1
    text = str(report)
    assert "DIFFERENT" in text
    assert f"sample 1, backward counts of layer 1 at (4,): simulator {first.simulator}, Lava {first.lava}" in text


@pytest.mark.parametrize(
    "x, y, error, text",
    [
        (np.zeros((2, FEATURES + 1)), [0, 1], ValueError, "features"),
        (np.zeros(FEATURES), [0], ValueError, "do not fit; expected .samples, "),
        (np.zeros((0, FEATURES)), np.zeros(0, int), ValueError, "at least one sample"),
        (np.full((1, FEATURES), 100.0), [0], LimitError, "payload"),
        (np.zeros((2, FEATURES)), [0], ValueError, "one for each of the 2 samples"),
        (np.zeros((1, FEATURES)), [CLASSES], LimitError, "labels is 4"),
        (np.zeros((1, FEATURES)), [0.5], TypeError, "labels"),
    ],
)
def test_bad_samples_are_refused_before_anything_runs(x, y, error, text):
    with pytest.raises(error, match=text):
        spide.build(network(sizes=(FEATURES, 5, CLASSES)), x, y)
