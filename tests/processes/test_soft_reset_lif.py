"""SoftResetLIF against a slow scalar reference in plain Python integers, a plain loop in floats, and on Lava's runtime."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense

from lava_snnlearn.lava_backend import InProcessModel, LavaRunError, guarded, run_config, run_guarded
from lava_snnlearn.processes import Recorder, SampleSource, SoftResetLIF

LARGEST = 8388607  # 24 bits with a sign, symmetric


def scalar_reference(current, *, dv, vth, delta, v_init, bias_mant, bias_exp, t_start, t_stop, reset_interval):
    """One neuron, step by step; Python's integers never overflow. Returns spikes and membranes."""
    v, spikes, membranes = 0, [], []
    for step, arriving in enumerate(current):
        tau = step if reset_interval is None else step - reset_interval * (step // reset_interval)
        if tau == 0:
            v = v_init
        spike = 0
        if tau >= t_start and (t_stop is None or tau < t_stop):
            kept = abs(v) * (4096 - dv) // 4096
            v = (kept if v >= 0 else -kept) + 64 * arriving + bias_mant * 2**bias_exp
            if v >= 64 * vth:
                spike = 1
                v -= 64 * delta
            v = max(-LARGEST, min(LARGEST, v))
        spikes.append(spike)
        membranes.append(v)
    return spikes, membranes


def drive(process, current, tag="fixed_pt"):
    model = InProcessModel(process, tag)
    spikes, membranes = [], []
    for row in current:
        spikes.append(model.step(a_in=row)["s_out"])
        membranes.append(model.read("v"))
    return np.array(spikes), np.array(membranes)


@st.composite
def neurons(draw):
    t_start = draw(st.integers(0, 4))
    later = st.none() | st.integers(t_start + 1, t_start + 9)
    return {
        "dv": draw(st.sampled_from([0, 1, 2048, 4095, 4096]) | st.integers(0, 4096)),
        "vth": draw(st.sampled_from([0, 1, 131071]) | st.integers(0, 400)),
        "delta": draw(st.sampled_from([0, 131071]) | st.integers(0, 400)),
        "v_init": draw(st.sampled_from([0, LARGEST, -LARGEST]) | st.integers(-20000, 20000)),
        "bias_mant": draw(st.sampled_from([0, -4096, 4095]) | st.integers(-300, 300)),
        "bias_exp": draw(st.integers(0, 7)),
        "t_start": t_start,
        "t_stop": draw(later),
        "reset_interval": draw(later),
    }


currents = st.lists(st.integers(-300, 400) | st.sampled_from([2**31 - 1, -(2**31), 131071, -131071]), min_size=1, max_size=16)


@settings(deadline=None, max_examples=300)
@given(parameters=neurons(), current=currents)
def test_fixed_model_equals_the_scalar_reference(parameters, current):
    spikes, membranes = drive(SoftResetLIF(shape=(1,), **parameters), np.array(current)[:, None])
    expected_spikes, expected_membranes = scalar_reference(current, **parameters)
    assert spikes[:, 0].tolist() == expected_spikes
    assert membranes[:, 0].tolist() == expected_membranes


def test_per_neuron_parameters_in_two_dimensions():
    rng = np.random.default_rng(0)
    shape, steps = (2, 3), 30
    varied = {
        "dv": rng.integers(0, 4097, shape),
        "vth": rng.integers(10, 300, shape),
        "delta": rng.integers(0, 300, (1, 3)),
        "v_init": rng.integers(-9000, 9000, shape),
        "bias_mant": rng.integers(-4096, 4096, (2, 1)),
        "bias_exp": rng.integers(0, 4, shape),
    }
    times = {"t_start": 1, "t_stop": 9, "reset_interval": 11}
    current = rng.integers(-200, 400, (steps, *shape))
    spikes, membranes = drive(SoftResetLIF(shape=shape, **varied, **times), current)
    for index in np.ndindex(shape):
        own = {name: int(np.broadcast_to(value, shape)[index]) for name, value in varied.items()}
        expected = scalar_reference(current[(slice(None), *index)].tolist(), **own, **times)
        assert spikes[(slice(None), *index)].tolist() == expected[0]
        assert membranes[(slice(None), *index)].tolist() == expected[1]


def test_known_steps():
    """By hand: fires at equality, keeps the rest above the threshold, leak by half rounds towards zero."""
    neuron = InProcessModel(SoftResetLIF(shape=(1,), vth=3, dv=2048))
    rows = [(3, 1, 0), (5, 1, 128), (0, 0, 64), (-2, 0, -96), (0, 0, -48), (0, 0, -24)]
    for current, spike, membrane in rows:
        assert neuron.step(a_in=[current])["s_out"].tolist() == [spike]
        assert neuron.read("v").tolist() == [membrane]


def test_delta_defaults_to_vth():
    explicit = drive(SoftResetLIF(shape=(2,), vth=[5, 9], delta=[5, 9]), np.full((6, 2), 7))
    default = drive(SoftResetLIF(shape=(2,), vth=[5, 9]), np.full((6, 2), 7))
    assert np.array_equal(explicit[1], default[1])
    assert explicit[0].any()


@pytest.mark.parametrize("real", [False, True])
def test_floating_model_equals_a_plain_loop(real):
    rng = np.random.default_rng(1)
    steps, n = 40, 4
    unit, leak_one = (1.0, 1.0) if real else (64.0, 4096.0)
    dv = rng.random(n) if real else rng.integers(0, 4097, n)
    vth, delta, v_init = (1.0, 0.75, 0.5) if real else (100, 90, 32)
    bias = rng.normal(size=n) if real else rng.integers(-100, 100, n)
    current = rng.normal(size=(steps, n)) if real else rng.integers(-50, 120, (steps, n))
    process = SoftResetLIF(
        shape=(n,), dv=dv, vth=vth, delta=delta, v_init=v_init, bias_mant=bias, bias_exp=1, t_start=2, reset_interval=15
    )
    spikes, membranes = drive(process, current, "floating_pt")
    for i in range(n):
        v = 0.0
        for t in range(steps):
            v = float(v_init) if t % 15 == 0 else v
            fired = 0
            if t % 15 >= 2:
                v = v - v * float(dv[i]) / leak_one + unit * float(current[t, i]) + 2.0 * float(bias[i])
                fired = int(v >= unit * vth)
                v -= fired * unit * delta
            assert spikes[t, i] == fired
            assert membranes[t, i] == pytest.approx(v, rel=1e-12, abs=1e-9)
    assert 0 < spikes.sum() < spikes.size
    assert membranes.dtype == np.float64


def test_floating_model_of_chip_parameters_neither_rounds_nor_clips():
    _, membranes = drive(SoftResetLIF(shape=(1,), vth=131071, dv=1), np.array([[1], [0]]), "floating_pt")
    assert membranes[:, 0].tolist() == [64.0, 64.0 * 4095 / 4096]
    _, membranes = drive(SoftResetLIF(shape=(1,), vth=131071, delta=0), np.array([[131071], [131071]]), "floating_pt")
    assert membranes[-1, 0] == 64.0 * 2 * 131071  # above 2**23 - 1
    _, membranes = drive(SoftResetLIF(shape=(1,), vth=131071, delta=0), np.array([[131071], [131071]]), "fixed_pt")
    assert membranes[-1, 0] == LARGEST


def test_real_units_are_refused_by_the_fixed_model():
    with pytest.raises(TypeError, match=r"fixed_pt model was given float parameters.*Quantise"):
        InProcessModel(SoftResetLIF(shape=(2,), vth=1.0), "fixed_pt")
    with pytest.raises(LavaRunError, match="fixed_pt model was given float parameters"):
        run_guarded(SoftResetLIF(shape=(2,), vth=1, v_init=0.5), 2, run_config("fixed_pt"))


def test_float_currents_are_refused_by_the_fixed_model():
    neuron = InProcessModel(SoftResetLIF(shape=(2,), vth=1), "fixed_pt")
    with pytest.raises(TypeError, match="received float64 on a_in"):
        neuron.step(a_in=[0.5, 1.0])


@pytest.mark.parametrize(
    "bad, error, texts",
    [
        ({"dv": 4097}, ValueError, ["dv", "4097", "4096", "Give", "give"]),
        ({"vth": 131072}, ValueError, ["vth", "131072", "131071", "scale"]),
        ({"delta": [1, 200000]}, ValueError, ["delta", "200000", "index 1", "131071"]),
        ({"v_init": -(2**23)}, ValueError, ["v_init", "-8388608", "8388607"]),
        ({"bias_mant": 5000}, ValueError, ["bias_mant", "5000", "4095", "bias_exp"]),
        ({"bias_exp": 8}, ValueError, ["bias_exp", "8", "7"]),
        ({"t_start": -1}, ValueError, ["t_start", "-1"]),
        ({"t_start": 4, "t_stop": 4}, ValueError, ["t_stop", "4", "t_start = 4"]),
        ({"t_start": 4, "reset_interval": 4}, ValueError, ["reset_interval", "t_start = 4"]),
        ({"reset_interval": 0}, ValueError, ["reset_interval", "0"]),
        ({"t_start": 1.0}, TypeError, ["t_start", "integer"]),
        ({"bias_exp": 2.0}, TypeError, ["bias_exp", "integer"]),
        ({"dv": True}, TypeError, ["dv", "bool"]),
        ({"dv": 2048, "vth": 1.0}, ValueError, ["dv", "2048", "real units", "fraction"]),
        ({"vth": float("nan")}, ValueError, ["vth", "nan"]),
        ({"v_init": float("-inf")}, ValueError, ["v_init", "inf"]),
        ({"dv": [1, 2, 3]}, ValueError, ["dv", "(3,)", "(2,)"]),
    ],
)
def test_refusals_name_parameter_value_limit_and_remedy(bad, error, texts):
    with pytest.raises(error) as caught:
        SoftResetLIF(**{"shape": (2,), "vth": 10, **bad})
    for text in texts:
        assert text.lower() in str(caught.value).lower()


@pytest.mark.parametrize(
    "edge",
    [
        {"dv": 4096, "vth": 131071, "v_init": 2**23 - 1, "bias_mant": 4095, "bias_exp": 7},
        {
            "dv": 0,
            "vth": 0,
            "delta": 0,
            "v_init": -(2**23) + 1,
            "bias_mant": -4096,
            "bias_exp": 0,
            "t_stop": 1,
            "reset_interval": 1,
        },
        {"dv": 1.0, "vth": 0.0},
    ],
)
def test_limits_themselves_are_accepted(edge):
    SoftResetLIF(**{"shape": (2,), "vth": 10, **edge})


def samples_network(interval):
    """Two equal samples of 8 steps through a Dense; the neurons behind it lag by one step."""
    rng = np.random.default_rng(5)
    sample = rng.integers(0, 2, (8, 5))
    data = np.concatenate([sample, np.zeros((1, 5), int)] * 2)
    dense = Dense(weights=rng.integers(-40, 60, (3, 5)) * 2)
    neuron = SoftResetLIF(shape=(3,), vth=90, dv=300, v_init=1000, bias_mant=50, bias_exp=3, t_start=1, reset_interval=interval)
    source, recorder = SampleSource(data=data), Recorder(shape=(3,), steps=18)
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(neuron.a_in)
    neuron.s_out.connect(recorder.s_in)
    recorder.v_ref.connect_var(neuron.v)
    return data, dense.weights.init, neuron, recorder


@pytest.mark.parametrize("plain", [True, False])
def test_run_on_lava_equals_the_scalar_reference(plain):
    data, weights, neuron, recorder = samples_network(9)
    run_guarded(neuron, 18, Loihi2SimCfg(select_tag="fixed_pt") if plain else run_config("fixed_pt"))
    current = np.concatenate([np.zeros((1, 3), int), data[:-1] @ weights.T])
    for i in range(3):
        spikes, membranes = scalar_reference(
            current[:, i].tolist(),
            **{"dv": 300, "vth": 90, "delta": 90, "v_init": 1000, "bias_mant": 50, "bias_exp": 3},
            **{"t_start": 1, "t_stop": None, "reset_interval": 9},
        )
        assert recorder.spikes[:, i].tolist() == spikes
        assert recorder.membranes[:, i].tolist() == membranes
    assert recorder.spikes.any()
    assert np.array_equal(recorder.spikes[:9], recorder.spikes[9:])
    assert np.array_equal(recorder.membranes[:9], recorder.membranes[9:])


def test_without_reset_the_samples_differ():
    _, _, neuron, recorder = samples_network(None)
    run_guarded(neuron, 18)
    assert not np.array_equal(recorder.membranes[:9], recorder.membranes[9:])


def test_vars_can_be_read_and_set_between_runs():
    neuron = SoftResetLIF(shape=(2,), vth=100, dv=7, bias_mant=64)
    with guarded(neuron, run_config("fixed_pt"), 20) as network:
        network.run(1)
        read = {var.name: var.get().tolist() for var in neuron.vars.members}
        neuron.v.set(np.array([0, 6400]))
        neuron.bias_mant.set(np.array([0]))
        neuron.dv.set(np.array([0]))
        network.run(1)
        after = neuron.v.get().tolist()
    assert read["v"] == [64, 64]
    assert read["dv"] == [7]
    assert read["t_start"] == [0]
    assert after == [0, 0]  # at rest; and at the threshold, so that 100 << 6 was subtracted
