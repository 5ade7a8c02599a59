"""PerturbedLIF: against its conformance case, SoftResetLIF, the surrogates of training, and what noise and delay are for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError
from lava_snnlearn.lava_backend import InProcessModel
from lava_snnlearn.neurons import Sigmoid, Triangle
from lava_snnlearn.processes import OTTTDense, PerturbedLIF, SoftResetLIF
from lava_snnlearn.testing import check_process

TIMES = {"t_start": 1, "t_stop": 9, "reset_interval": 11}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_conformance(seed):
    check_process(PerturbedLIF, seed=seed)


@st.composite
def neurons(draw):
    start = draw(st.integers(0, 5))
    later = st.none() | st.integers(start + 1, start + 30)
    return {
        "shape": (4,),
        "vth": draw(st.sampled_from([1, 131071]) | st.integers(1, 500)),
        "dv": draw(st.sampled_from([0, 4096]) | st.integers(0, 4096)),
        "table_shift": draw(st.sampled_from([0, 30]) | st.integers(4, 12)),
        "surrogate": draw(st.sampled_from(["triangle", "sigmoid"])),
        "spike_bits": draw(st.integers(2, 16)),
        "position": draw(st.sampled_from(["post", "pre"])),
        "amplitude": draw(st.sampled_from([0, 8388607]) | st.integers(0, 20000)),
        "delay": draw(st.integers(0, 12)),
        "t_start": start,
        "t_stop": draw(later),
        "reset_interval": draw(later),
    }


@settings(deadline=None, max_examples=30)
@given(parameters=neurons(), seed=st.integers(0, 2**32 - 1))
def test_fixed_model_equals_plain_integers_over_200_steps(parameters, seed):
    case = PerturbedLIF.conformance_case()
    arrived = case.inputs(np.random.default_rng(seed), parameters, 200)
    expected = case.fixed(parameters, arrived, 200)
    model = InProcessModel(PerturbedLIF(**parameters))
    for step in range(200):
        sent = model.step(**{port: rows[step] for port, rows in arrived.items()})
        for name, rows in expected.items():
            assert np.array_equal(sent[name] if name in sent else model.read(name), rows[step]), (name, step)


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_without_noise_it_is_the_soft_reset_neuron(tag):
    rng = np.random.default_rng(0)
    shared = {"shape": (6,), "vth": 90, "dv": 410, **TIMES}
    ours, plain = InProcessModel(PerturbedLIF(table_shift=7, **shared), tag), InProcessModel(SoftResetLIF(**shared), tag)
    fired = 0
    for _ in range(250):
        current = rng.integers(-80, 120, 6)
        sent = ours.step(a_in=current)["s_out"]
        assert np.array_equal(sent, plain.step(a_in=current)["s_out"])
        assert np.array_equal(ours.read("v"), plain.read("v"))
        fired += sent.sum()
    assert fired > 100


@pytest.mark.parametrize("kind, surrogate", [("triangle", Triangle(1.0)), ("sigmoid", Sigmoid(4.0))])
def test_psi_is_the_surrogate_of_training(kind, surrogate):
    """In units of 1/128: exact in floats; in integers to half a step of the table and of the rounding."""
    vth, width = 100, 2**8
    current = np.arange(-60, 300)
    options = {"shape": (len(current),), "vth": vth, "surrogate": kind, "table_shift": 8, "dv": 0}
    exact = 128 * surrogate(torch.tensor((current - vth) / vth)).numpy()
    for tag in ("fixed_pt", "floating_pt"):
        model = InProcessModel(PerturbedLIF(**options), tag)
        model.step(a_in=current)
        if tag == "floating_pt":
            assert model.read("psi") == pytest.approx(exact, rel=1e-12, abs=1e-12)
        else:
            steepest = 128 * (1.0 if kind == "triangle" else 8 / 3**1.5) / (64 * vth)  # of 4 sg (1 - sg): 16 * 1 / (6 sqrt 3)
            assert abs(model.read("psi") - np.minimum(exact, 127)).max() <= width / 2 * 2 * steepest + 0.5


def test_noise_behind_the_neuron_rides_on_its_spikes():
    """The membrane does not feel it, and a synapse can take it off again."""
    rng = np.random.default_rng(1)
    shared = {"shape": (5,), "vth": 50, "table_shift": 6, "spike_bits": 2, **TIMES}
    noisy, quiet = InProcessModel(PerturbedLIF(**shared)), InProcessModel(PerturbedLIF(**shared))
    synapse = InProcessModel(OTTTDense(memory=np.zeros((1, 5), int), spike_bits=2, dv=4096, reset_interval=11))
    fired = 0
    for step in range(110):
        current, noise = rng.integers(-20, 60, 5), rng.choice([-1, 1], 5)
        sent, plain = noisy.step(a_in=current, z_in=noise)["s_out"], quiet.step(a_in=current)["s_out"]
        assert np.array_equal(sent - plain, noise * (1 <= step % 11 < 9))
        assert np.array_equal(noisy.read("v"), quiet.read("v"))
        assert np.array_equal(synapse.step(s_in=sent)["x_out"], plain // 4)
        fired += plain.any()
    assert fired > 20


def test_noise_before_the_neuron_moves_the_threshold_only():
    """At 10 units below: a push of 10 * 64 fires it, one less does not; the membrane keeps what it had without noise."""
    for amplitude, spikes in ((640, [1, 0]), (639, [0, 0])):
        model = InProcessModel(PerturbedLIF(shape=(2,), vth=100, table_shift=7, position="pre", amplitude=amplitude))
        assert model.step(a_in=[90, 90], z_in=[1, -1])["s_out"].tolist() == spikes
        assert model.read("v").tolist() == [64 * (90 - 100 * s) for s in spikes]


def test_a_factor_belongs_to_the_step_for_which_the_signal_comes_back():
    """A membrane at the threshold has psi 127 in one step only; the signal meets it two steps later, within the sample."""
    model = InProcessModel(PerturbedLIF(shape=(1,), vth=100, table_shift=1, dv=4096, delay=2, t_stop=5, reset_interval=6))
    for sample in range(2):
        at = (1, 4)[sample]  # 4: its signal would come in the next sample
        found = [model.step(a_in=[100 if step == at else 0], d_in=[100])["m_out"][0] for step in range(6)]
        assert found == [round(127 * 100 / 128) if step == at + 2 else 0 for step in range(6)]
    assert [model.step(d_in=[100])["m_out"][0] for _ in range(3)] == [0, 0, 0]


def test_signals_are_clipped_and_factors_rounded():
    for signal, factor in ((400, 126), (-400, -126), (1, 1), (-1, -1), (0, 0)):
        model = InProcessModel(PerturbedLIF(shape=(1,), vth=100, table_shift=7))
        assert model.step(a_in=[100], d_in=[signal])["m_out"].tolist() == [factor]  # psi 127: 0.99 of the signal


def test_clipped_membranes_are_counted_over_the_run():
    shared = {"shape": (3,), "vth": 1, "table_shift": 0, "reset_interval": 2}
    model = InProcessModel(PerturbedLIF(**shared))
    for _ in range(4):
        model.step(a_in=[1 << 20, -(1 << 20), 5])
    assert model.read("clipped").tolist() == [8]
    assert model.read("v").tolist() == [8388607, -8388607, 2 * 4 * 64]
    real = InProcessModel(PerturbedLIF(**shared), "floating_pt")
    real.step(a_in=[1 << 20, 0, 0])
    assert real.read("v")[0] == 64 * ((1 << 20) - 1)


@pytest.mark.parametrize("bits, noise, fits", [(0, 1, False), (1, 1, False), (2, 1, True), (2, 2, False), (4, -7, True)])
def test_noise_without_room_on_the_spikes_is_refused(bits, noise, fits):
    model = InProcessModel(PerturbedLIF(shape=(1,), vth=9, table_shift=4, spike_bits=bits))
    if fits:
        assert model.step(z_in=[noise])["s_out"].tolist() == [noise]
    else:
        with pytest.raises(LimitError, match=rf"z_in is {noise} .*larger spike_bits"):
            model.step(z_in=[noise])


@pytest.mark.parametrize("port", ["a_in", "z_in", "d_in"])
def test_float_signals_are_refused_by_the_fixed_model(port):
    with pytest.raises(TypeError, match=f"received float64 on {port}"):
        InProcessModel(PerturbedLIF(shape=(2,), vth=9, table_shift=4)).step(**{port: [0.5, 0]})
