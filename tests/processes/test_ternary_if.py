"""TernaryIF against a slow reference in plain Python integers and against cases by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.fixed_point.arithmetic import coupled_step, ternary_step
from lava_snnlearn.lava_backend import InProcessModel, LavaRunError, guarded, run_config, run_guarded
from lava_snnlearn.processes import TernaryIF
from lava_snnlearn.testing import check_process

LARGEST = 8388607  # 24 bits with a sign, symmetric
PROOF = settings(deadline=None, derandomize=True, max_examples=300)


def scalar_step(v, current, dv, bias, vth, delta):
    """One step of one neuron; Python's integers never overflow."""
    kept = abs(v) * (4096 - dv) // 4096
    v = (kept if v >= 0 else -kept) + 64 * current + bias
    saturated = abs(v) > LARGEST
    v = max(-LARGEST, min(LARGEST, v))
    spike = 1 if v >= 64 * vth else -1 if v <= -64 * vth else 0
    return spike, v - spike * 64 * delta, saturated


def scalar_reference(
    inputs, *, dv, vth, delta, bias_mant, bias_exp, mask, mask_steps, g_limit, t_start, t_stop, reset_interval
):
    """One neuron over rows of (a_in, g_in, h_in). Returns rows of (spike sent, v, g, mask, count, forward_count)."""
    rows = []
    v = g = count = forward = 0
    open_ = mask
    for step, (current, injected, heard) in enumerate(inputs):
        tau = step if reset_interval is None else step - reset_interval * (step // reset_interval)
        if tau == 0:
            v = g = count = forward = 0
            open_ = mask if mask_steps is None else False
        g += injected
        forward += heard
        if tau == t_start:
            if mask_steps is not None:
                open_ = 0 < forward < mask_steps
            if g_limit is not None:
                g = max(-g_limit, min(g_limit, g))
        sent = 0
        if tau >= t_start and (t_stop is None or tau < t_stop):
            spike, v, _ = scalar_step(v, current + g, dv, bias_mant * 2**bias_exp, vth, delta)
            sent = spike if open_ else 0
            count += sent
        rows.append((sent, v, g, int(open_), count, forward))
    return rows


def drive(process, inputs, tag="fixed_pt"):
    """Rows as of scalar_reference, of a population of one."""
    model = InProcessModel(process, tag)
    rows = []
    for current, injected, heard in inputs:
        sent = model.step(a_in=[current], g_in=[injected], h_in=[heard])["s_out"]
        states = [model.read(name)[0] for name in ("v", "g", "mask", "count", "forward_count")]
        rows.append((sent[0], *states))
    return rows


@st.composite
def neurons(draw):
    t_start = draw(st.integers(0, 4))
    later = st.none() | st.integers(t_start + 1, t_start + 9)
    mask_steps = draw(st.none() | st.integers(2, 5))
    return {
        "dv": draw(st.sampled_from([0, 1, 2048, 4095, 4096]) | st.integers(0, 4096)),
        "vth": draw(st.sampled_from([1, 131071]) | st.integers(1, 400)),
        "delta": draw(st.sampled_from([0, 131071]) | st.integers(0, 800)),
        "bias_mant": draw(st.sampled_from([0, -4096, 4095]) | st.integers(-300, 300)),
        "bias_exp": draw(st.integers(0, 7)),
        "mask": True if mask_steps else draw(st.booleans()),
        "mask_steps": mask_steps,
        "g_limit": draw(st.none() | st.integers(0, 300)),
        "t_start": t_start,
        "t_stop": draw(later),
        "reset_interval": draw(later),
    }


WIDE = st.sampled_from([2**31 - 1, -(2**31), 131071, -131071])
ARRIVING = st.tuples(st.integers(-300, 300) | WIDE, st.just(0) | st.integers(-400, 400) | WIDE, st.integers(0, 1))
INPUTS = st.lists(ARRIVING, min_size=1, max_size=16)


@PROOF
@given(parameters=neurons(), inputs=INPUTS)
def test_fixed_model_equals_the_scalar_reference(parameters, inputs):
    own_mask = {} if parameters["mask_steps"] else {"mask": [parameters["mask"]]}
    process = TernaryIF(shape=(1,), **{**parameters, "mask": None, **own_mask})
    assert drive(process, inputs) == scalar_reference(inputs, **parameters)


@PROOF
@given(
    v=st.integers(-LARGEST, LARGEST),
    current=st.integers(-400, 400) | WIDE,
    dv=st.integers(0, 4096),
    bias=st.integers(-4096 << 7, 4095 << 7),
    vth=st.integers(1, 300) | st.integers(1, 131071),
    delta=st.integers(0, 131071),
)
def test_ternary_step_equals_the_scalar_step_and_its_mirror_image(v, current, dv, bias, vth, delta):
    step = ternary_step(v, current, dv=dv, bias=bias, vth=vth, delta=delta)
    assert tuple(int(part) for part in step) == scalar_step(v, current, dv, bias, vth, delta)
    mirrored = ternary_step(-v, -current, dv=dv, bias=-bias, vth=vth, delta=delta)
    assert (mirrored.spike, mirrored.membrane, mirrored.saturated) == (-step.spike, -step.membrane, step.saturated)
    assert abs(int(step.membrane)) <= LARGEST


def test_ternary_step_with_a_batch_axis():
    rng = np.random.default_rng(0)
    v, current = rng.integers(-9000, 9000, (4, 6)), rng.integers(-150, 150, (4, 6))
    vth, delta, bias = rng.integers(1, 100, 6), rng.integers(0, 200, 6), rng.integers(-900, 900, 6)
    step = ternary_step(v, current, dv=300, bias=bias, vth=vth, delta=delta)
    assert (step.spike.dtype, step.membrane.dtype, step.saturated.dtype) == (np.int8, np.int64, np.bool_)
    for b, n in np.ndindex(v.shape):
        expected = scalar_step(int(v[b, n]), int(current[b, n]), 300, int(bias[n]), int(vth[n]), int(delta[n]))
        assert (step.spike[b, n], step.membrane[b, n], step.saturated[b, n]) == expected
    assert {-1, 0, 1} == set(step.spike.ravel().tolist())


def test_the_clip_stands_before_the_reset():
    """From 24 bit full: the reset is taken off what the register holds, not off what did not fit."""
    step = ternary_step(LARGEST, 1000, dv=0, bias=0, vth=10, delta=5)
    assert (int(step.spike), int(step.membrane), bool(step.saturated)) == (1, LARGEST - 320, True)
    half = coupled_step(LARGEST, 1000, 0, dv=0, bias=0, vth=10, delta=5)
    assert (bool(half.spike), int(half.membrane), bool(half.saturated)) == (True, LARGEST - 320, True)


def test_known_steps():
    """By hand: fires at equality, delta is 2 * vth by default, the leak by half rounds towards zero."""
    neuron = InProcessModel(TernaryIF(shape=(1,), vth=3, dv=2048))
    rows = [(3, 1, -192), (0, 0, -96), (-3, -1, 144), (0, 0, 72), (-4, -1, 164), (-1, 0, 18), (0, 0, 9), (0, 0, 4)]
    for current, spike, membrane in rows:
        assert neuron.step(a_in=[current])["s_out"].tolist() == [spike]
        assert neuron.read("v").tolist() == [membrane]


def test_fires_at_equality_with_minus_vth():
    neuron = InProcessModel(TernaryIF(shape=(2,), vth=3, delta=3, bias_mant=[-192, -191]))
    assert neuron.step()["s_out"].tolist() == [-1, 0]
    assert neuron.read("v").tolist() == [0, -191]


def test_the_rate_is_the_injected_current():
    """One injection before the active phase is held: |rate - g / delta| <= 1 / (2 T), as v stays within +-delta / 2."""
    g = np.array([-200, -130, -7, 0, 1, 64, 199, 200])
    neuron = InProcessModel(TernaryIF(shape=g.shape, vth=100, t_start=2, t_stop=152))
    neuron.step(g_in=g)
    for _ in range(170):
        neuron.step()
    assert np.abs(neuron.read("count") / 150 - g / 200).max() <= 1 / 300
    assert neuron.read("count")[[0, 3, 7]].tolist() == [-150, 0, 150]


def test_injection_in_the_first_active_step_counts_in_it():
    neuron = InProcessModel(TernaryIF(shape=(1,), vth=10, t_start=1))
    assert neuron.step(g_in=[4])["s_out"].tolist() == [0]
    assert neuron.step(g_in=[6])["s_out"].tolist() == [1]


def test_mask_from_the_forward_phase():
    """Forward counts 0, 1, 3, 4 of T_F = 4: only neurons that fired, but not always, send; all of them would fire."""
    neuron = InProcessModel(TernaryIF(shape=(4,), vth=10, mask_steps=4, t_start=4, reset_interval=8))
    heard = np.array([[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1]])
    for sample in range(2):
        for row in heard:
            assert not neuron.step(h_in=row, g_in=[5, 5, 5, 5])["s_out"].any()
        assert neuron.read("forward_count").tolist() == [0, 1, 3, 4]
        for _ in range(4):
            assert neuron.step()["s_out"].tolist() == [0, 1, 1, 0]
        assert neuron.read("count").tolist() == [0, 4, 4, 0], sample


def test_clipping_is_counted_over_the_run():
    neuron = InProcessModel(TernaryIF(shape=(3,), vth=10, g_limit=[20, 20, 30], t_start=1, reset_interval=3))
    clipped = []
    for step in range(6):
        neuron.step(g_in=[20, -21, 40] if step % 3 == 0 else [0, 0, 0])
        clipped.append(neuron.read("clipped").tolist())
        if step % 3:
            assert neuron.read("g").tolist() == [20, -20, 30]
    assert clipped == [[0], [2], [2], [2], [4], [4]]


def test_a_masked_neuron_sends_nothing_and_its_membrane_evolves():
    neuron = InProcessModel(TernaryIF(shape=(2,), vth=10, mask=[True, False]))
    assert [neuron.step(a_in=[12, 12])["s_out"].tolist() for _ in range(3)] == [[1, 0], [0, 0], [1, 0]]
    assert neuron.read("count").tolist() == [2, 0]
    assert neuron.read("v").tolist() == [-4 * 64, -4 * 64]


@pytest.mark.parametrize("real", [False, True])
def test_floating_model_neither_rounds_nor_clips(real):
    unit = 1.0 if real else 64.0
    leak = 0.25 / 1024 if real else 1
    neuron = InProcessModel(TernaryIF(shape=(1,), vth=3.0 if real else 3, delta=5, dv=leak, bias_exp=1), "floating_pt")
    membranes = []
    for current in (-2, -4, 2.5e6):
        neuron.step(a_in=[current])
        membranes.append(neuron.read("v")[0])
    kept = 4095 / 4096
    first = -2 * unit
    second = first * kept - 4 * unit + 5 * unit
    assert membranes == pytest.approx([first, second, second * kept + 2.5e6 * unit - 5 * unit], rel=1e-14)


def test_conformance():
    check_process(TernaryIF, seed=2)


def test_vars_can_be_read_and_set_between_runs():
    neuron = TernaryIF(shape=(2,), vth=100, bias_mant=64, bias_exp=6)
    with guarded(neuron, run_config("fixed_pt"), 20) as network:
        network.run(2)
        read = {var.name: var.get().tolist() for var in neuron.vars.members}
        neuron.mask.set(np.array([0, 1]))
        neuron.g.set(np.array([100, 100]))
        network.run(1)
        counts = neuron.count.get().tolist()
    assert read["v"] == [(128 - 200) * 64] * 2
    assert (read["count"], read["mask"], read["delta"], read["mask_steps"]) == ([1, 1], [1, 1], [200], [0])
    assert counts == [1, 1]  # -72 + 64 + 100 = 92 is below the threshold


def test_floats_are_refused_by_the_fixed_model():
    with pytest.raises(LavaRunError, match="TernaryIF's fixed_pt model was given float parameters"):
        run_guarded(TernaryIF(shape=(2,), vth=1, g_limit=0.5), 2, run_config("fixed_pt"))
    neuron = InProcessModel(TernaryIF(shape=(2,), vth=1), "fixed_pt")
    with pytest.raises(TypeError, match="TernaryIF's fixed_pt model received float64 on g_in"):
        neuron.step(g_in=[0.5, 1.0])


@pytest.mark.parametrize(
    "bad, error, texts",
    [
        ({"dv": 4097}, ValueError, ["dv", "4097", "4096"]),
        ({"vth": 0}, ValueError, ["vth", "0", "both thresholds"]),
        ({"vth": 0.0}, ValueError, ["vth", "0.0", "both thresholds"]),
        ({"vth": 65536}, ValueError, ["delta (2 * vth", "131072", "131071", "scale"]),
        ({"delta": [1, 200000]}, ValueError, ["delta", "200000", "index 1", "131071"]),
        ({"bias_mant": 5000}, ValueError, ["bias_mant", "5000", "4095", "bias_exp"]),
        ({"bias_exp": 8}, ValueError, ["bias_exp", "8", "7"]),
        ({"mask": [1, 0]}, TypeError, ["mask", "int64", "bools"]),
        ({"mask": [True] * 3}, ValueError, ["mask", "(3,)", "(2,)"]),
        ({"mask": [True, True], "mask_steps": 5}, ValueError, ["mask and mask_steps", "both"]),
        ({"mask_steps": 1}, ValueError, ["mask_steps", "1", "T_F"]),
        ({"mask_steps": 4.0}, TypeError, ["mask_steps", "4.0", "integer"]),
        ({"g_limit": -1}, ValueError, ["g_limit", "-1", "weight units"]),
        ({"g_limit": float("nan")}, ValueError, ["g_limit", "nan", "real units"]),
        ({"t_start": 4, "t_stop": 4}, ValueError, ["t_stop", "4", "t_start = 4"]),
        ({"reset_interval": 0}, ValueError, ["reset_interval", "0"]),
    ],
)
def test_refusals_name_parameter_value_limit_and_remedy(bad, error, texts):
    with pytest.raises(error) as caught:
        TernaryIF(**{"shape": (2,), "vth": 10, **bad})
    for text in ["TernaryIF", *texts]:
        assert text.lower() in str(caught.value).lower()


@pytest.mark.parametrize(
    "edge",
    [
        {"dv": 4096, "vth": 131071, "delta": 131071, "bias_mant": 4095, "bias_exp": 7, "g_limit": 2**31 - 1},
        {"vth": 65535, "mask_steps": 2, "g_limit": 0},
        {"vth": 1, "delta": 0, "bias_mant": -4096, "t_stop": 1, "reset_interval": 1, "mask": False},
        {"dv": 1.0, "vth": 1e-300},
    ],
)
def test_limits_themselves_are_accepted(edge):
    TernaryIF(**{"shape": (2,), **edge})
