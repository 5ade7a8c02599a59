"""The integer step against a slow scalar reference, and against Lava's own LIF model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.fixed_point.arithmetic import bias_current, decay, lif_step, soft_reset_step, zero_reset_step

TOP = (1 << 23) - 1
PROOF = settings(deadline=None, derandomize=True, max_examples=300)
MEMBRANES = st.one_of(st.integers(-TOP, TOP), st.sampled_from([0, 1, -1, TOP, -TOP, 4095, -4095, 4096]))
LEAKS = st.one_of(st.integers(0, 4096), st.sampled_from([0, 1, 2048, 4095, 4096]))
BIASES = st.one_of(st.integers(-4096 << 7, 4095 << 7), st.just(0))
THRESHOLDS = st.one_of(st.integers(0, (1 << 17) - 1), st.integers(0, 50), st.sampled_from([0, (1 << 17) - 1]))
EDGE = 1 << 17
"""A current of this many weight units is 2^23 in the current register, where it wraps."""
CURRENTS = st.one_of(
    st.integers(-50, 50),
    st.integers(-(1 << 25), (1 << 25) - 1),
    st.sampled_from([EDGE, EDGE + 1, EDGE - 1, -EDGE, -EDGE + 1, -EDGE - 1, 2 * EDGE, -2 * EDGE]),
)


@PROOF
@given(value=MEMBRANES, constant=LEAKS)
def test_decay_rounds_towards_zero(reference, value, constant):
    assert int(decay(value, constant)) == reference.leaked(value, constant)


def test_decay_in_closed_form():
    values = np.array([0, 1, -1, 4095, -4095, 4096, -4096, TOP, -TOP])
    np.testing.assert_array_equal(decay(values, 0), values)
    np.testing.assert_array_equal(decay(values, 4096), 0)
    np.testing.assert_array_equal(decay(values, 4095), [0, 0, 0, 0, 0, 1, -1, 2047, -2047])
    np.testing.assert_array_equal(decay(values, 2048), [0, 0, 0, 2047, -2047, 2048, -2048, 4_194_303, -4_194_303])


@PROOF
@given(mantissa=st.integers(-4096, 4095), exponent=st.integers(0, 7))
def test_bias_current_is_mantissa_times_power_of_two(mantissa, exponent):
    assert int(bias_current(mantissa, exponent)) == mantissa * 2**exponent


@PROOF
@given(v=MEMBRANES, a=CURRENTS, dv=LEAKS, bias=BIASES, vth=THRESHOLDS, delta=THRESHOLDS)
def test_soft_reset_step_equals_the_reference(reference, v, a, dv, bias, vth, delta):
    result = soft_reset_step(v, a, dv=dv, bias=bias, vth=vth, delta=delta)
    assert tuple(int(part) for part in result) == reference.soft_step(v, a, dv, bias, vth, delta)


@PROOF
@given(v=MEMBRANES, a=CURRENTS, dv=LEAKS, bias=BIASES, vth=THRESHOLDS)
def test_zero_reset_step_equals_the_reference(reference, v, a, dv, bias, vth):
    result = zero_reset_step(v, a, dv=dv, bias=bias, vth=vth)
    assert tuple(int(part) for part in result) == reference.zero_step(v, a, dv, bias, vth)


@PROOF
@given(vth=THRESHOLDS, short=st.integers(-3, 3))
def test_a_tie_fires_with_soft_reset_and_not_with_zero_reset(vth, short):
    bias = 64 * vth + short
    assert bool(soft_reset_step(0, 0, dv=0, bias=bias, vth=vth, delta=vth).spike) == (short >= 0)
    assert bool(zero_reset_step(0, 0, dv=0, bias=bias, vth=vth).spike) == (short > 0)


def test_arrays_and_broadcasting_give_what_scalars_give(reference):
    rng = np.random.default_rng(0)
    v, a = rng.integers(-TOP, TOP, (7, 5)), rng.integers(-EDGE - 9, EDGE + 9, (7, 5))
    bias, vth = rng.integers(-4096, 4096, 5), rng.integers(0, 99, 5)
    soft = soft_reset_step(v, a, dv=77, bias=bias, vth=vth, delta=vth)
    zero = zero_reset_step(v, a, dv=77, bias=bias, vth=vth)
    assert soft.membrane.dtype == zero.membrane.dtype == np.int64
    for b, n in np.ndindex(v.shape):
        args = (int(v[b, n]), int(a[b, n]), 77, int(bias[n]), int(vth[n]))
        assert tuple(int(part[b, n]) for part in soft) == reference.soft_step(*args, int(vth[n]))
        assert tuple(int(part[b, n]) for part in zero) == reference.zero_step(*args)


def test_inputs_are_left_as_they_were():
    v, a = np.array([100, -100], dtype=np.int32), np.array([5, -5], dtype=np.int8)
    soft_reset_step(v, a, dv=5, bias=1, vth=1, delta=1)
    zero_reset_step(v, a, dv=5, bias=1, vth=1)
    assert v.tolist() == [100, -100]
    assert a.tolist() == [5, -5]


def test_an_eight_bit_current_does_not_overflow_in_the_shift():
    assert int(soft_reset_step(0, np.int8(127), dv=0, bias=0, vth=131_071, delta=0).membrane) == 127 * 64


@PROOF
@given(
    u=st.one_of(st.integers(-TOP, TOP + 1), st.sampled_from([0, TOP + 1])),
    v=MEMBRANES,
    a=st.one_of(st.integers(-2 * EDGE, 2 * EDGE), CURRENTS),
    du=st.one_of(st.integers(-1, 4095), st.sampled_from([-1, 0, 4095])),
    dv=LEAKS,
    bias=BIASES,
    vth=THRESHOLDS,
)
def test_lif_step_equals_the_reference(reference, u, v, a, du, dv, bias, vth):
    leaked = reference.leaked(u, du + 1) + 64 * a
    current = leaked - (1 << 24) if leaked > 1 << 23 else leaked + (1 << 24) if leaked <= -(1 << 23) else leaked
    charged = reference.leaked(v, dv) + current + bias
    kept = max(-TOP, min(TOP, charged))
    spike = kept > 64 * vth
    step = lif_step(u, v, a, du=du, dv=dv, bias=bias, vth=vth)
    assert step.spike == spike
    assert (int(step.current), int(step.membrane)) == (current, 0 if spike else kept)
    assert (bool(step.wrapped), bool(step.saturated)) == (current != leaked, kept != charged)


# ---- Lava's own model ---------------------------------------------------------------------------------------------------


def currents_of(case, neurons, rng):
    """[neurons] int32, of the kind that the name says."""
    if case == "ties":
        return rng.integers(-6, 7, neurons) * 2
    if case == "saturation":
        return rng.integers(60_000, EDGE, neurons) * rng.choice([-1, 1], neurons)
    # Around both edges of the current register, and far beyond them up to the last int32 that Lava's shift holds.
    near = rng.choice([-2 * EDGE, -EDGE, EDGE, 2 * EDGE], neurons) + rng.integers(-2, 3, neurons)
    far = rng.integers(-(1 << 25), 1 << 25, neurons)
    return np.where(rng.random(neurons) < 0.7, near, far)


@pytest.mark.parametrize("case", ["ties", "saturation", "wrap"])
@pytest.mark.parametrize("dv, vth, exponent", [(0, 12, 0), (410, 12, 6), (4095, 0, 3), (4096, 131_071, 7), (1, 131_071, 7)])
def test_zero_reset_step_equals_lavas_stock_lif(case, dv, vth, exponent):
    from lava.proc.lif.process import LIF

    from lava_snnlearn.lava_backend.driver import InProcessModel

    neurons, steps, rng = 256, 60, np.random.default_rng(5)
    mantissa = rng.integers(-4096, 4096, neurons) if case != "ties" else 64 * rng.integers(-1, 2, neurons)
    lava = InProcessModel(LIF(shape=(neurons,), du=4095, dv=dv, vth=vth, bias_mant=mantissa, bias_exp=exponent), "fixed_pt")
    assert type(lava.model).__name__ == "PyLifModelBitAcc"
    bias, v, mismatches, seen = bias_current(mantissa, exponent), np.zeros(neurons, np.int64), 0, np.zeros(2, int)
    for _ in range(steps):
        a = currents_of(case, neurons, rng).astype(np.int32)
        theirs = lava.step(a_in=a)["s_out"]
        ours = zero_reset_step(v, a, dv=dv, bias=bias, vth=vth)
        v = ours.membrane
        mismatches += int((theirs.astype(bool) != ours.spike).sum() + (lava.read("v") != v).sum())
        seen += ours.spike.sum(), ours.saturated.sum()
    assert mismatches == 0
    assert seen[0] > 0 or vth == 131_071
    assert seen[1] > 0 or case == "ties" or dv == 4096


@pytest.mark.parametrize("case", ["ties", "saturation", "wrap"])
@pytest.mark.parametrize("du, dv, vth, exponent", [(905, 906, 12, 2), (-1, 0, 90, 7), (0, 1, 400, 6), (4095, 4096, 0, 3)])
def test_lif_step_equals_lavas_stock_lif(case, du, dv, vth, exponent):
    from lava.proc.lif.process import LIF

    from lava_snnlearn.lava_backend.driver import InProcessModel

    neurons, steps, rng = 256, 60, np.random.default_rng(6)
    mantissa = rng.integers(-4096, 4096, neurons) if case != "ties" else 64 * rng.integers(-1, 2, neurons)
    # Lava keeps du and dv as unsigned 16 bits; -1 needs an array of its own, as netx does.
    leaks = {"du": np.full(neurons, du), "dv": dv}
    lava = InProcessModel(LIF(shape=(neurons,), **leaks, vth=vth, bias_mant=mantissa, bias_exp=exponent), "fixed_pt")
    assert type(lava.model).__name__ == "PyLifModelBitAcc"
    bias, mismatches, seen = bias_current(mantissa, exponent), 0, np.zeros(3, int)
    u, v = np.zeros((2, neurons), np.int64)
    for _ in range(steps):
        a = np.clip(currents_of(case, neurons, rng), -2 * EDGE, 2 * EDGE).astype(np.int32)
        theirs = lava.step(a_in=a)["s_out"]
        step = lif_step(u, v, a, du=du, dv=dv, bias=bias, vth=vth)
        u, v = step.current, step.membrane
        mismatches += int((theirs.astype(bool) != step.spike).sum())
        mismatches += int((lava.read("v") != v).sum() + (lava.read("u") != u).sum())
        seen += step.spike.sum(), step.wrapped.sum(), step.saturated.sum()
    assert mismatches == 0
    assert seen[0] > 0
    assert seen[1] > 0 or case != "wrap"
    assert seen[2] > 0 or case == "ties" or dv == 4096
