"""The simulator of local learning on the chip: a reference in logical time, feedback that is learned, splitting, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError
from lava_snnlearn.files import FileFormatError, write_tree
from lava_snnlearn.fixed_point.arithmetic import decay, soft_reset_step
from lava_snnlearn.fixed_point.plasticity import error, learned, rounding_shift
from lava_snnlearn.on_chip.local import (
    FEEDBACKS,
    LocalSettings,
    LocalState,
    begin_task,
    from_weights,
    infer,
    initial,
    train_epoch,
    train_sample,
)


def samples(rng: np.random.Generator, settings: LocalSettings, count: int):
    return rng.random((count, settings.sizes[0])), rng.integers(0, settings.sizes[-1], count)


def clip(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -127, 127)


def sample_in_logical_time(state: LocalState, payload: np.ndarray, label: int) -> list[np.ndarray]:
    """Memories after a sample of accumulating OTTT or DFA, with no latency anywhere: layer after layer within a time step."""
    settings, last = state.settings, state.settings.layers
    parts, views, classes = settings.synapses, [view.astype(np.int64) for view in state.views], settings.sizes[-1]
    v = [np.zeros(n, np.int64) for n in settings.sizes[1:-1]]
    trace = [np.zeros(part.n_in, np.int64) for part in parts]
    gathered = [np.zeros(view.shape, np.int64) for view in views]
    output, target = np.zeros(classes, np.int64), np.eye(classes, dtype=np.int64)[label]
    for _ in range(settings.steps):
        spikes, psi = [payload], []
        for layer in range(last):
            current = (views[layer] @ spikes[-1]) << parts[layer].exponent
            leaky = decay(v[layer], settings.dv) + (current << 6)
            step = soft_reset_step(v[layer], current, dv=settings.dv, bias=0, vth=settings.vth, delta=settings.vth)
            v[layer] = step.membrane
            spikes.append(step.spike.astype(np.int64))
            place = np.abs(leaky - (settings.vth << 6)) >> settings.table_shift
            psi.append(np.where(place < 64, settings.surrogate_table[np.minimum(place, 63)], 0).astype(np.int64))
        output = decay(output, settings.readout_dv) + ((views[-1] @ spikes[-1]) << parts[-1].exponent)
        factors = [error(settings.error, output, target, settings.error_table, settings.error_shift)]
        for layer in range(last - 1, -1, -1):
            if settings.feedback == "transport":
                product, shift = views[layer + 1].T @ factors[0], -parts[layer + 1].back_exponent
            else:
                product, shift = state.matrices[layer].astype(np.int64) @ factors[-1], settings.signal_shift()
            signal = clip(rounding_shift(product, shift) if shift > 0 else product << -shift)
            factors.insert(0, rounding_shift(psi[layer] * signal, 7))
        for number, part in enumerate(parts):
            dv = settings.readout_dv if number == last else settings.dv
            impulse = settings.impulse(number + 1)
            trace[number] = np.minimum(((trace[number] * (4096 - dv)) >> 12) + impulse * spikes[number], 127)
            assert part.n_in == len(trace[number])
            gathered[number] += np.outer(factors[number], trace[number])
    number = state.samples * settings.period + settings.learn_step
    return [
        # The rule takes the product of two counts: of the gathered products times one.
        np.stack(
            [
                learned(settings.memory, memory[i], row, np.ones((), np.int64), *part.rate(state.rate), part.seed, number)
                for i, row in enumerate(product)
            ]
        )
        for part, memory, product in zip(parts, state.memories, gathered, strict=True)
    ]


@pytest.mark.parametrize("sizes", [(20, 24, 5), (16, 20, 18, 4), (20, 30, 30, 20, 4)])
@pytest.mark.parametrize("feedback", ["transport", "fixed"])
@pytest.mark.parametrize(("kind", "leaks"), [("softmax", (0.25, 0.5)), ("mse", (0.125, 1.0))])
def test_latencies_do_not_show(sizes, feedback, kind, leaks) -> None:
    settings = LocalSettings(
        sizes=sizes, feedback=feedback, update="accumulate", memory="shadow", error=kind, leak=leaks[0], readout_leak=leaks[1],
        eta=0.1, steps=16, seed=3,
    )  # fmt: skip
    state = start = initial(settings)
    x, y = samples(np.random.default_rng(1), settings, 6)
    for image, label in zip(x, y, strict=True):
        expected = sample_in_logical_time(state, state.payload(image), int(label))
        state, record = train_sample(state, image, int(label))
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(state.memories, expected, strict=True))
        assert all(np.array_equal(steps[-1], memory) for steps, memory in zip(record.weights, state.memories, strict=True))
    assert all((new != old).any() for new, old in zip(state.memories, start.memories, strict=True))


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_a_run_can_be_cut_anywhere(feedback) -> None:
    settings = LocalSettings(sizes=(6, 8, 7, 3), feedback=feedback, eta=0.05, subspace_average=3, baseline=4)
    x, y = samples(np.random.default_rng(2), settings, 11)
    start = begin_task(initial(settings), [2, 3, 1])
    whole, _ = train_epoch(start, x, y)
    part, _ = train_epoch(start, x[:4], y[:4])
    part, _ = train_epoch(LocalState.from_dict(part.to_dict()), x[4:10], y[4:10])
    part, _ = train_sample(part, x[10], int(y[10]))
    assert (part.samples, part.updates) == (whole.samples, whole.updates) == (11, 11 * 8 * (feedback == "learned"))
    for name in ("memories", "matrices", "means", "subspaces", "velocities", "sums"):
        pairs = zip(getattr(part, name), getattr(whole, name), strict=True)
        assert all(np.array_equal(ours, theirs) for ours, theirs in pairs), name
    assert (whole.memories[0] != start.memories[0]).any()
    assert (whole.subspaces[1] != start.subspaces[1]).any()


def test_what_does_not_learn_stays() -> None:
    settings = LocalSettings(sizes=(6, 8, 3), eta=0.0, feedback="learned", subspace_eta=0.0)
    start = begin_task(initial(settings), 2)
    x, y = samples(np.random.default_rng(0), settings, 5)
    after, _ = train_epoch(start, x, y)
    assert all(np.array_equal(new, old) for new, old in zip(after.memories, start.memories, strict=True))
    assert all(np.array_equal(new, old) for new, old in zip(after.subspaces, start.subspaces, strict=True))
    # Inference does not learn, has no noise, and does not depend on what else is in the batch.
    answer = infer(replace(start, eta=1.0), x)
    assert np.array_equal(infer(start, x[3:4]).z[0], answer.z[3])
    assert np.array_equal(answer.counts[0], infer(after, x).counts[0])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.parametrize(("position", "antithetic"), [("post", True), ("post", False)])
def test_learned_feedback_becomes_the_transposed_readout(position, antithetic) -> None:
    settings = LocalSettings(
        sizes=(12, 20, 16, 5), feedback="learned", eta=0.0, noise_position=position, antithetic=antithetic, momentum=14, seed=1
    )
    rng = np.random.default_rng(0)
    x, y = samples(rng, settings, 1200)
    state, _ = train_epoch(initial(settings), x, y)
    matrix, view = state.matrices[-1].astype(float), state.views[-1].astype(float)
    assert cosine(matrix, view.T) > 0.97
    # One step beside, noise and output have nothing in common (spec O6): the noise of another layer's time.
    assert abs(cosine(matrix, np.roll(view, 1, axis=1).T)) < 0.3
    # Its size is that of the Jacobian: noise of 1 passes through the weight as it is sent.
    expected = view.T * 2.0 ** (settings.synapses[-1].exponent + 12)
    assert 0.9 < (matrix * expected).sum() / (expected * expected).sum() < 1.1


def test_noise_before_the_threshold_also_teaches() -> None:
    settings = LocalSettings(sizes=(12, 20, 5), feedback="learned", eta=0.0, noise_position="pre", momentum=14, seed=1)
    x, y = samples(np.random.default_rng(0), settings, 1500)
    state, _ = train_epoch(initial(settings), x, y)
    assert cosine(state.matrices[-1].astype(float), state.views[-1].T.astype(float)) > 0.6


def test_a_projected_connection_keeps_its_answers_to_what_it_protects() -> None:
    settings = LocalSettings(sizes=(12, 10, 4), bias_payload=0, eta=0.1, memory="shadow", subspace_eta=0.02, subspace_average=1)
    rng = np.random.default_rng(5)
    # Old inputs lie in a plane; their traces are multiples of them, up to rounding.
    plane = np.eye(12)[:2] * 0.9 + 0.1
    x = rng.dirichlet([0.5, 0.5], 400) @ plane
    y = rng.integers(0, 4, 400)
    state = begin_task(initial(settings), [2, 0])
    for _ in range(4):
        state, _ = train_epoch(state, x, y)
    rows = state.subspaces[0] / 2.0**14
    assert np.abs(rows @ rows.T - np.eye(2)).max() < 0.02
    captured = ((x @ rows.T) ** 2).sum() / (x**2).sum()
    assert captured > 0.99
    state = begin_task(state, [2, 0])
    assert np.array_equal(state.subspaces[0][:2] / 2.0**14, rows)
    moved = {}
    for name, start in (("with", state), ("without", replace(state, old=(0, 0)))):
        after, _ = train_epoch(start, rng.random((200, 12)), rng.integers(0, 4, 200))
        change = (after.memories[0] - state.memories[0]).astype(float)
        moved[name] = np.linalg.norm(change @ x.T) / (np.linalg.norm(change, 2) * np.linalg.norm(x))
        if name == "with":
            assert np.array_equal(after.subspaces[0][:2], state.subspaces[0][:2])
            assert np.abs((after.subspaces[0][2:] / 2.0**14) @ rows.T).max() < 0.02
    assert moved["with"] < 0.1
    assert moved["without"] > 0.3


@pytest.mark.parametrize(
    ("feedback", "sizes", "bar"),
    [
        ("transport", (64, 128, 10), 0.94),
        ("fixed", (64, 128, 10), 0.93),
        ("learned", (64, 128, 10), 0.94),
        ("learned", (64, 128, 128, 10), 0.92),
    ],
)
def test_digits_are_learnt(feedback, sizes, bar) -> None:
    data = snn.data.load("digits", scale="unit")
    accuracies = []
    for seed in range(3):
        state = initial(LocalSettings(sizes=sizes, feedback=feedback, seed=seed))
        for epoch in range(4):
            state, _ = train_epoch(replace(state, eta=0.01 * 0.2 ** (epoch >= 3)), data.train.x, data.train.y, seed=epoch)
        accuracies.append(float((infer(state, data.test.x).predictions == data.test.y).mean()))
    assert np.mean(accuracies) >= bar


def test_rounding_to_nearest_stalls() -> None:
    data = snn.data.load("digits", scale="unit")
    accuracy = {}
    for memory in ("stochastic", "nearest"):
        state, _ = train_epoch(initial(LocalSettings(sizes=(64, 128, 10), memory=memory)), data.train.x, data.train.y, seed=0)
        accuracy[memory] = float((infer(state, data.test.x).predictions == data.test.y).mean())
    assert accuracy["stochastic"] - accuracy["nearest"] > 0.03


def test_sequences_are_read_step_by_step() -> None:
    settings = LocalSettings(sizes=(5, 6, 3), steps=4)
    state = initial(settings)
    x = np.random.default_rng(0).integers(0, 16, (3, 4, 5))
    assert np.array_equal(infer(state, np.repeat(x[:, :1], 4, axis=1)).z, infer(state, x[:, 0]).z)
    assert (infer(state, x).z != infer(state, x[:, 0]).z).any()


def test_files_hold_all(tmp_path) -> None:
    settings = LocalSettings(sizes=(6, 8, 3), feedback="learned")
    x, y = samples(np.random.default_rng(0), settings, 5)
    state, _ = train_epoch(begin_task(initial(settings), [2, 1]), x, y)
    state.save(tmp_path / "state.h5")
    again = LocalState.load(tmp_path / "state.h5")
    one, _ = train_sample(state, x[0], 1)
    two, _ = train_sample(again, x[0], 1)
    assert np.array_equal(one.memories[0], two.memories[0])
    assert np.array_equal(one.matrices[0], two.matrices[0])
    tree = state.to_dict()
    tree["memories"][0][0, 0] = 1
    write_tree(tmp_path / "odd.h5", tree, content="LocalState")
    with pytest.raises(FileFormatError, match="odd weights"):
        LocalState.load(tmp_path / "odd.h5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": (5, 3)}, "at least one hidden layer"),
        ({"steps": 0}, "steps"),
        ({"steps": 7, "feedback": "learned"}, "antithetic"),
        ({"feedback": "none"}, "feedback"),
        ({"update": "never"}, "update"),
        ({"leak": 1.5}, "leak"),
        ({"payload_one": 64}, "W1: trace of an input of 1.0"),
        ({"leak": 0.0, "steps": 8}, "W1: trace of an input of 1.0"),
        ({"noise_bits": 4}, "noise_bits"),
        ({"hidden_exponent": 1, "feedback": "learned"}, "hidden_exponent"),
        ({"eta": -1.0}, "eta"),
        ({"eta": float("nan")}, "eta"),
        ({"eta": 1e6}, "update multiplier"),
        ({"subspace_eta": 2000.0}, "subspace_eta"),
        ({"sizes": (400000, 5, 3), "input_exponent": 7, "bias_payload": 0}, "largest sum"),
    ],
)
def test_bad_settings_are_refused(changes, message) -> None:
    with pytest.raises((ValueError, LimitError), match=message):
        LocalSettings(**({"sizes": (5, 4, 3)} | changes))


def test_bad_data_and_states_are_refused() -> None:
    state = initial(LocalSettings(sizes=(5, 4, 3)))
    with pytest.raises(ValueError, match="features"):
        infer(state, np.zeros((2, 6)))
    with pytest.raises(ValueError, match="expected"):
        infer(state, np.zeros((2, 3, 5)))
    with pytest.raises(LimitError, match="payload"):
        infer(state, np.full((1, 5), -0.5))
    with pytest.raises(LimitError, match="labels"):
        train_epoch(state, np.zeros((1, 5)), [3])
    with pytest.raises(ValueError, match="at least one sample"):
        train_epoch(state, np.zeros((0, 5)), [])
    with pytest.raises(LimitError, match="rows"):
        begin_task(state, [7, 0])
    with pytest.raises(ValueError, match="rows"):
        begin_task(state, [1])
    with pytest.raises(TypeError, match="rows"):
        begin_task(state, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="LocalState"):
        infer("state", np.zeros((1, 5)))  # type: ignore[arg-type]
    with pytest.raises(LimitError, match="W1"):
        from_weights(state.settings, [np.full((4, 6), 9.0), np.zeros((3, 4))])
    with pytest.raises(ValueError, match="old rows"):
        replace(state, old=(1, 0))
    with pytest.raises(ValueError, match="matrices"):
        replace(state, matrices=(np.zeros((4, 3), np.int32),))
