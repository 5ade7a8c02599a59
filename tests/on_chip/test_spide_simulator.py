"""On-chip SPIDE: gradients, rates, norms, gain, deployment, files, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.emulator import emulate
from lava_snnlearn.on_chip.spide import (
    OnChipSettings,
    OnChipState,
    choose_gain,
    diagnose,
    from_weights,
    infer,
    initial,
    project,
    to_fixed_network,
    train_epoch,
    train_sample,
)


def small(**changes: object) -> OnChipState:
    options: dict = {"sizes": (6, 20, 4), "steps": 20, "backward_steps": 50, "seed": 3} | changes
    return initial(OnChipSettings(**options))


def data(samples: int = 30) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(5)
    return draw.random((samples, 6)), draw.integers(0, 4, samples)


def test_a_batch_is_inferred_as_its_samples_are() -> None:
    state, (x, y) = small(sizes=(6, 9, 20, 4)), data()
    result = infer(state, x)
    for i in range(len(x)):
        _, record = train_sample(state, x[i], int(y[i]))
        assert all(np.array_equal(counts[i], one) for counts, one in zip(result.counts, record.forward, strict=True))
        assert np.array_equal(result.z[i], record.z)
        assert result.predictions[i] == record.z.argmax()


@pytest.mark.parametrize("every", [None, 7])
def test_an_epoch_is_its_samples_and_the_norm_limit(every: int | None) -> None:
    state, (x, y) = small(memory="stochastic", eta=3.0, gamma=0.9), data()
    after, report = train_epoch(state, x, y, seed=9, project_every=every)
    one, right = state, 0
    for number, index in enumerate(np.random.default_rng(9).permutation(len(x)), start=1):
        one, record = train_sample(one, x[index], int(y[index]))
        right += int(record.z.argmax() == y[index])
        if number % (every or len(x)) == 0 or number == len(x):
            one = project(one)
    assert all(np.array_equal(a, b) for a, b in zip(after.memories, one.memories, strict=True))
    assert after.samples == len(x)
    assert report.accuracy == right / len(x)


@pytest.mark.parametrize(("layers", "least"), [(1, 0.97), (2, 0.94)])
def test_counts_give_the_implicit_gradient(layers: int, least: float) -> None:
    """Summed over samples, c_B c_F^T points along the gradient at the exact fixed point, and has its length."""
    state = small(sizes=(6, *[20] * layers, 4), steps=100, backward_steps=250, gain_bits=0)
    x, y = data()
    w, n = state.weights(), 20 * layers
    loop, drive = np.zeros((n, n)), np.zeros((n, 7))
    for layer in range(1, layers):
        loop[20 * layer : 20 * layer + 20, 20 * layer - 20 : 20 * layer] = w[f"W{layer}"]
    loop[:20, n - 20 :] = w["R"]
    drive[:20] = w["F"]
    wanted, found = np.zeros((2, n, n))
    for i in range(len(x)):
        payload = np.append(np.rint(16 * x[i]) / 16, 1)
        a = np.zeros(n)
        for _ in range(300):
            a = np.clip((loop @ a + drive @ payload) / 2, 0, 1)
        p = np.exp(w["C"] @ a[-20:])
        g = np.zeros(n)
        g[-20:] = w["C"].T @ (p / p.sum() - np.eye(4)[y[i]])
        slope = np.diag((a > 0) & (a < 1)) / 2.0
        wanted += np.outer(slope @ np.linalg.solve(np.eye(n) - loop.T @ slope, g), a)
        _, record = train_sample(state, x[i], int(y[i]))
        found += np.outer(np.concatenate(record.backward) / 250 / 2, np.concatenate(record.forward) / 100)
    assert (wanted * found).sum() / np.linalg.norm(wanted) / np.linalg.norm(found) > least
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(wanted), rel=0.1)


def test_learning_rates_are_those_of_the_paper_in_real_units() -> None:
    settings = small(steps=30, backward_steps=100, gain_bits=1).settings
    eta, s_eff, delta = 0.03, 2, 2
    unit = {"F": 16 * 2.0**-18, "R": 2.0**-15, "C": 2.0**-14}  # a shadow unit: 1/128 of 1/2048 * 16, of 8/2048, of 1/128
    exact = {"F": eta / (s_eff * delta * 100 * 30 * 16), "R": eta / (s_eff * delta * 100 * 30), "C": eta / (128 * 30)}
    for part in settings.synapses:
        multiplier, shift = part.rate(eta)
        assert 1 << 14 <= multiplier < 1 << 15
        assert multiplier / 2**shift * unit[part.name] == pytest.approx(exact[part.name], rel=1e-4)
        assert part.rate(0.0) == (0, 0)


@pytest.mark.parametrize("memory", ["shadow", "stochastic"])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_host_keeps_the_norms(memory: str, layers: int) -> None:
    state = small(sizes=(6, *[30] * layers, 4), memory=memory, gamma=0.4)
    draw, high = np.random.default_rng(0), 12_000 if memory == "shadow" else 90
    wild = replace(state, memories=tuple((2 * draw.integers(-high, high, m.shape)).astype(np.int16) for m in state.memories))
    limited = project(wild)
    for name in state.settings.names:
        norm = np.linalg.norm(limited.weights()[name], 2)
        if name in ("F", "C"):
            assert np.array_equal(limited.weights()[name], wild.weights()[name])
        elif memory == "shadow":  # the view's rounding is left
            assert norm == pytest.approx(2 * 0.4 ** (1 / layers), rel=0.03)
        else:
            assert norm == pytest.approx(2 * 0.4 ** (1 / layers), rel=0.1)
    again = project(limited)
    assert all(np.abs(a - b).max() <= 2 for a, b in zip(again.memories, limited.memories, strict=True))


def test_initial_rows_have_unit_length_and_no_bias() -> None:
    state = small(sizes=(30, 25, 4), gamma=1.0)
    weights = state.weights()
    assert not weights["F"][:, -1].any()
    for name in ("F", "C"):
        assert np.linalg.norm(weights[name], axis=1) == pytest.approx(1, abs=0.03)
    assert not np.array_equal(small(seed=4).memories[0], small(seed=5).memories[0])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_fixed_network_spikes_as_the_simulator(layers: int) -> None:
    state, (x, y) = small(sizes=(6, *range(12, 12 + layers), 4), eta=0.3), data()
    for epoch in range(3):
        state, _ = train_epoch(state, x, y, seed=epoch)
    network, result = to_fixed_network(state), infer(state, x)
    trace = emulate(network, x)
    assert not any(trace.saturated.values())
    for layer, counts in enumerate(result.counts, start=1):
        assert np.array_equal(trace.spikes[f"hidden{layer}"].sum(0), counts)
    assert np.array_equal(trace.outputs, result.z << 6)
    assert np.array_equal(trace.predictions, result.predictions)
    assert result.counts[0].std() > 1
    assert state.views[0][:, -1].any()


def test_a_state_comes_back_from_its_file(tmp_path) -> None:
    state, (x, y) = small(masks={"F": np.random.default_rng(0).random((20, 7)) < 0.5}, frozen=("R",)), data()
    state, _ = train_epoch(replace(state, eta=0.5), x, y)
    state.save(tmp_path / "state.h5")
    back = OnChipState.load(tmp_path / "state.h5")
    assert back.eta == 0.5
    assert back.samples == len(x)
    one, other = (train_epoch(each, x, y)[0] for each in (state, back))
    assert all(np.array_equal(a, b) for a, b in zip(one.memories, other.memories, strict=True))


@pytest.mark.parametrize("part", ["memories", "settings", "samples", "shape"])
def test_a_file_with_a_wrong_part_is_refused(part: str, tmp_path) -> None:
    from lava_snnlearn.files import FileFormatError, write_tree

    tree = small().to_dict()
    if part == "shape":
        tree["memories"][1] = tree["memories"][1][:-1]
    elif part == "settings":
        tree["settings"]["steps"] = 1000
    else:
        del tree[part]
    write_tree(tmp_path / "state.h5", tree, content="OnChipState")
    with pytest.raises(FileFormatError, match="OnChipState"):
        OnChipState.load(tmp_path / "state.h5")


def test_diagnostics_are_those_of_the_samples() -> None:
    state, (x, y) = small(eta=0.0, gain_bits=4), data()
    records = [train_sample(state, x[i], int(y[i]))[1] for i in range(len(x))]
    wrong = [record for record in records if record.e.any()]
    active = np.concatenate([np.abs(record.backward[0][record.masks[0]]) for record in wrong])
    found = diagnose(state, x, y)
    assert found == train_epoch(state, x, y)[1].diagnostics
    assert found.clipped == sum(record.clipped for record in wrong) / (20 * len(wrong)) > 0
    assert found.saturated == pytest.approx((active == 50).mean())
    assert found.dead_zone == pytest.approx((active == 0).mean())
    assert found.saturated > 0
    assert found.median_beta == np.percentile(active, 50, method="lower") / 50


def test_the_gain_fulfils_both_conditions() -> None:
    state, (x, y) = small(sizes=(6, 40, 4), gain_bits=9), data(100)
    chosen, trials = choose_gain(state, x, y)
    found = diagnose(chosen, x, y)
    assert found.clipped < 0.01
    assert found.saturated < 0.01
    assert found.median_beta >= 2 / 50
    assert chosen.settings.gain_bits in [trial.gain_bits for trial in trials]
    assert all(np.array_equal(a, b) for a, b in zip(chosen.memories, state.memories, strict=True))


def test_a_gain_that_cannot_be_heard_is_warned_of(caplog) -> None:
    state, (x, y) = small(backward_steps=1), data()
    chosen, _ = choose_gain(state, x, y)
    assert "spikes 0.0 times" in caplog.text
    assert diagnose(chosen, x, y).clipped < 0.01


def test_no_gain_without_errors() -> None:
    state, (x, y) = small(), data()
    silent = replace(state, memories=(state.memories[0] * 0, state.memories[1], state.memories[2]))
    for state in (silent, small(steps=1)):  # no neuron fires; in one step, none fires but not always
        with pytest.raises(ValueError, match=r"no gain can be chosen: none of the .* samples .*raise steps"):
            choose_gain(state, x, y)


def test_no_gain_where_all_clip() -> None:
    """A readout so strong that its gradient clips at each gain that is tried."""
    state, (x, y) = small(readout_scale_bits=0, readout_exponent=7, error="mse"), data()
    strong = replace(state, memories=(*state.memories[:2], np.full_like(state.memories[2], 32767)))
    with pytest.raises(ValueError, match=r"no gain from 2\^-8 on keeps less than 1 % clipped and"):
        choose_gain(strong, x, y)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"sizes": (6, 4)}, ValueError, "hidden layer"),
        ({"sizes": (6, 0, 4)}, ValueError, "at least 1"),
        ({"sizes": 6}, TypeError, "sizes"),
        ({"sizes": (6, 20, 1)}, ValueError, "two classes"),
        ({"sizes": (9000, 20, 4), "input_exponent": 1, "bias_payload": 0, "payload_one": 255}, None, ""),
        ({"sizes": (40000, 20, 4)}, LimitError, "channel"),
        ({"steps": 128}, LimitError, "steps"),
        ({"steps": 2.5}, TypeError, "steps"),
        ({"backward_steps": 256}, LimitError, "backward_steps"),
        ({"bias_payload": 33}, LimitError, "bias_payload"),
        ({"hidden_exponent": 8}, LimitError, "hidden_exponent"),
        ({"error": "hinge"}, ValueError, "hinge"),
        ({"memory": "shadows"}, ValueError, "Did you mean 'shadow'"),
        ({"gamma": 1.5}, LimitError, "gamma"),
        ({"eta": -1.0}, LimitError, "eta"),
        ({"eta": float("nan")}, LimitError, "eta"),
        ({"eta": "fast"}, TypeError, "eta"),
        ({"eta": 1e6}, LimitError, "multiplier"),
        ({"masks": {"W1": np.ones((20, 20), bool)}}, ValueError, "W1"),
        ({"masks": {"F": np.ones((20, 6), bool)}}, ValueError, "mask of F"),
        ({"masks": {"F": np.ones((20, 7))}}, ValueError, "mask of F"),
        ({"frozen": ("G",)}, ValueError, "G"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, error: type[Exception] | None, match: str) -> None:
    if error is None:
        small(**changes)
        return
    with pytest.raises(error, match=match):
        small(**changes)


@pytest.mark.parametrize(
    ("x", "y", "error", "match"),
    [
        (np.zeros((3, 5)), [0, 1, 2], ValueError, "expected"),
        (np.zeros(6), [0], ValueError, "samples"),
        (np.zeros((0, 6)), [], ValueError, "at least one sample"),
        (np.full((3, 6), np.nan), [0, 1, 2], ValueError, "NaN"),
        (np.full((3, 6), 17.0), [0, 1, 2], LimitError, "payload"),
        (np.full((3, 6), -1), [0, 1, 2], LimitError, "payload"),
        (np.full((3, 6), True), [0, 1, 2], TypeError, "bool"),
        (np.zeros((3, 6)), [0, 1], ValueError, "labels"),
        (np.zeros((3, 6)), [0, 1, 4], LimitError, "label"),
        (np.zeros((3, 6)), [0.0, 1.0, 2.0], TypeError, "labels"),
    ],
)
def test_data_that_do_not_fit_are_refused(x: np.ndarray, y: list, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        train_epoch(small(), x, y)


def test_memories_that_do_not_fit_are_refused() -> None:
    state = small(memory="stochastic", masks={"R": np.eye(20, dtype=bool)})
    f, r, c = state.memories
    for memories, match in (
        ((f, r), "2 memories"),
        ((f, r, c.astype(np.int32)), "int32"),
        ((f | 1, r, c), "odd"),
        ((f, np.full_like(r, 2), c), "mask"),
        ((f, r, np.full_like(c, 300)), "8 bits"),
    ):
        with pytest.raises(ValueError, match=match):
            OnChipState(state.settings, memories)
    with pytest.raises(TypeError, match="eta is 'fast'"):
        replace(state, eta="fast")
    with pytest.raises(ValueError, match="2 weights for F, R, C"):
        from_weights(state.settings, [np.zeros((20, 7)), np.zeros((20, 20))])
    with pytest.raises(TypeError, match="OnChipState"):
        infer(state.settings, np.zeros((1, 6)))  # type: ignore[arg-type]
