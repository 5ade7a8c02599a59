"""The couple of two binary neurons is the ternary neuron, spike for spike."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.utils.weightutils import SignMode

from lava_snnlearn.lava_backend import InProcessModel, run_config, run_guarded
from lava_snnlearn.processes import CoupledIF, Recorder, SampleSource, TernaryCouple, TernaryIF
from lava_snnlearn.testing import check_process

LARGEST = 8388607  # 24 bits with a sign, symmetric


def drive_both(tag, current, injected, **neuron):
    """The ternary neuron and a couple whose halves hear each other one step late; also the membranes of the couple.

    Returns the spikes of the ternary neuron, of P and of M, and the membranes of the three, each [steps, n].
    """
    shape = current.shape[1:]
    ternary = InProcessModel(TernaryIF(shape=shape, **neuron), tag)
    halves = [InProcessModel(CoupledIF(shape=shape, polarity=polarity, **neuron), tag) for polarity in (1, -1)]
    spikes, membranes = [], []
    fired = [np.zeros(shape, dtype=int), np.zeros(shape, dtype=int)]
    for drive, injection in zip(current, injected, strict=True):
        one = ternary.step(a_in=drive, g_in=injection)["s_out"]
        late = reversed(fired)
        fired = [half.step(a_in=drive, g_in=injection, c_in=c)["s_out"] for half, c in zip(halves, late, strict=True)]
        spikes.append((one, *fired))
        membranes.append([model.read("v") for model in (ternary, *halves)])
    return np.array(spikes).swapaxes(0, 1), np.array(membranes).swapaxes(0, 1)


@st.composite
def populations(draw):
    """Neurons, a seed of their inputs and the strength of these: up to saturation."""
    t_start = draw(st.integers(0, 3))
    later = st.none() | st.integers(t_start + 1, t_start + 30)
    neuron = {
        "dv": draw(st.sampled_from([0, 1, 41, 2048, 4095, 4096]) | st.integers(0, 4096)),
        "vth": draw(st.sampled_from([1, 65535, 131071]) | st.integers(1, 400)),
        "delta": draw(st.sampled_from([0, 131071]) | st.integers(0, 800)),
        "bias_mant": draw(st.sampled_from([0, -4096, 4095]) | st.integers(-300, 300)),
        "bias_exp": draw(st.integers(0, 7)),
        "mask": np.array([True, True, True, draw(st.booleans())]),
        "t_start": t_start,
        "t_stop": draw(later),
        "reset_interval": draw(later),
    }
    return neuron, draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([10, 100, 400, 100_000, 2**31 - 1]))


@settings(deadline=None, derandomize=True, max_examples=150)
@given(population=populations())
def test_fixed_couple_equals_the_ternary_neuron(population):
    neuron, seed, strength = population
    rng = np.random.default_rng(seed)
    current = rng.integers(-strength, strength, (40, 4))
    injected = rng.integers(-200, 201, (40, 4)) * (rng.random((40, 4)) < 0.05)
    (ternary, p, m), (v, _, _) = drive_both("fixed_pt", current, injected, **neuron)
    assert np.array_equal(ternary, p + m)
    assert not (p * m).any()
    assert np.abs(v).max() <= LARGEST


@pytest.mark.parametrize("dv", [0.0, 0.01, 0.3, 1.0])
def test_floating_couple_equals_the_ternary_neuron(dv):
    """Rounding is symmetric to the sign: no spike differs, although currents are any floats."""
    rng = np.random.default_rng(1)
    current = rng.normal(size=(400, 30))
    injected = rng.normal(size=(400, 30)) * (rng.random((400, 30)) < 0.01)
    (ternary, p, m), _ = drive_both("floating_pt", current, injected, vth=0.5, dv=dv, bias_mant=0.01, reset_interval=150)
    assert np.array_equal(ternary, p + m)
    assert not (p * m).any()
    assert min((p == 1).sum(), (m == -1).sum()) > 1000


def test_saturated_couple():
    """Driven into both ends of the 24-bit register, where the clip acts in about every second step."""
    current = np.random.default_rng(2).choice([-140_000, 140_000, 90_000], size=(300, 5))
    (ternary, p, m), (v, _, _) = drive_both("fixed_pt", current, 0 * current, vth=131071, delta=100_000, dv=100)
    assert np.array_equal(ternary, p + m)
    assert (np.abs(v) == LARGEST - 64 * 100_000).sum() > 100
    assert (p == 1).any()
    assert (m == -1).any()


@pytest.mark.parametrize("dv", [0, 700])
def test_the_halves_are_mirror_images_when_they_are_compared_with_the_threshold(dv):
    """Also where masked. After a spike the partner's correction is under way; everywhere else the membranes are opposite."""
    rng = np.random.default_rng(3)
    neuron = {"vth": 60, "dv": dv, "mask": [True, True, False]}
    (_, p, m), (_, v_p, v_m) = drive_both("fixed_pt", rng.integers(-100, 100, (200, 3)), np.zeros((200, 3), int), **neuron)
    assert np.array_equal(v_p - 64 * 120 * m, -(v_m + 64 * 120 * p))
    assert np.abs(p - m).sum() > 50


def couple_and_ternary(tag, current, injected, **neuron):
    """Both on Lava's runtime, with the same sources. Returns what a consumer of each receives."""
    shape = current.shape[1:]
    couple, ternary = TernaryCouple(shape=shape, **neuron), TernaryIF(shape=shape, **neuron)
    sources = {"a_in": SampleSource(data=current), "g_in": SampleSource(data=injected)}
    recorders = []
    for process in (couple, ternary):
        for port, source in sources.items():
            source.s_out.connect(getattr(process, port))
        recorders.append(Recorder(shape=shape, steps=len(current)))
        process.s_out.connect(recorders[-1].s_in)
    run_guarded(couple, len(current), Loihi2SimCfg(select_tag=tag))
    return [recorder.spikes for recorder in recorders]


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_couple_equals_the_ternary_neuron_on_lava(tag):
    """50 neurons with and without leak, samples that start at once, a mask, an injected current: a plain run configuration."""
    rng = np.random.default_rng(4)
    mask = rng.random(50) < 0.9
    neuron = {"vth": 90, "dv": rng.choice([0, 0, 60, 900], size=50), "bias_mant": rng.integers(-500, 500, 50)}
    current = rng.integers(-150, 150, (200, 50))
    injected = rng.integers(-50, 50, (200, 50)) * (np.arange(200) % 40 == 0)[:, None]
    if tag == "floating_pt":  # real units
        neuron = {"vth": 90.0, "dv": neuron["dv"] / 4096, "bias_mant": neuron["bias_mant"] / 64}
    couple, ternary = couple_and_ternary(tag, current, injected, mask=mask, reset_interval=40, **neuron)
    assert np.array_equal(couple, ternary)
    assert np.abs(ternary).sum() >= 2000
    assert not ternary[:, ~mask].any()
    assert (ternary == 1).sum() > 500
    assert (ternary == -1).sum() > 500


def test_parts_of_a_two_dimensional_couple_can_be_reshaped_and_its_sum_cannot():
    rng = np.random.default_rng(5)
    shape, steps = (2, 3), 40
    current, weights = rng.integers(-200, 200, (steps, *shape)), 2 * rng.integers(-50, 50, (4, 6))
    couple = TernaryCouple(shape=shape, vth=90)
    source, recorder = SampleSource(data=current), Recorder(shape=(4,), steps=steps)
    dense = Dense(weights=weights, num_message_bits=1, sign_mode=SignMode.MIXED)
    source.s_out.connect(couple.a_in)
    for part in (couple.p_out, couple.m_out):
        part.flatten().connect(dense.s_in)
    dense.a_out.connect(recorder.s_in)
    for refuse in (couple.s_out.flatten, couple.s_out.transpose, lambda: couple.s_out.reshape((6,))):
        with pytest.raises(NotImplementedError, match="p_out and m_out"):
            refuse()
    run_guarded(couple, steps, run_config("fixed_pt"))
    ternary = InProcessModel(TernaryIF(shape=shape, vth=90))
    spikes = np.array([ternary.step(a_in=row)["s_out"].ravel() for row in current])
    assert np.array_equal(recorder.spikes[1:], (spikes @ weights.T)[:-1])
    assert np.abs(spikes).sum() > 50


def test_a_couple_with_nothing_connected_runs_and_leaves_no_log_handlers():
    handlers = len(logging.getLogger().handlers)
    run_guarded(TernaryCouple(shape=(3,), vth=9), 3, run_config("fixed_pt"))
    assert len(logging.getLogger().handlers) == handlers


def test_conformance_of_the_halves():
    check_process(CoupledIF, seed=3)


@pytest.mark.parametrize(
    "process, bad, error, texts",
    [
        (CoupledIF, {"polarity": 0}, ValueError, ["polarity", "0"]),
        (CoupledIF, {"polarity": 1.0}, TypeError, ["polarity", "integer"]),
        (CoupledIF, {"polarity": 1, "vth": 0}, ValueError, ["vth", "both thresholds"]),
        (CoupledIF, {"polarity": 1, "mask": [True] * 5}, ValueError, ["mask", "(5,)"]),
        (TernaryCouple, {"vth": 131072}, ValueError, ["vth", "131072", "131071"]),
        (TernaryCouple, {"dv": 4097}, ValueError, ["dv", "4097"]),
        (TernaryCouple, {"mask": [1, 0]}, TypeError, ["mask", "bools"]),
        (TernaryCouple, {"bias_exp": 9}, ValueError, ["bias_exp", "9", "7"]),
        (TernaryCouple, {"t_stop": 0}, ValueError, ["t_stop", "t_start = 0"]),
    ],
)
def test_refusals(process, bad, error, texts):
    with pytest.raises(error) as caught:
        process(**{"shape": (2,), "vth": 10, **bad})
    for text in [process.__name__, *texts]:
        assert text in str(caught.value)
