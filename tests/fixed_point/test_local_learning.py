"""Kernels of local learning: against scalar Python integers, and against the library's array functions where there are such."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lava_snnlearn.fixed_point import local_learning as local
from lava_snnlearn.fixed_point import plasticity
from lava_snnlearn.fixed_point.arithmetic import decay, soft_reset_step
from lava_snnlearn.neurons.surrogate import surrogate

RULES = plasticity.RULES
INT32 = (1 << 31) - 1
SEEDS = st.integers(0, 2**32 - 1)
RATES = {
    "multiplier": st.sampled_from([0, 1, 32767]) | st.integers(0, 32767),
    "shift": st.sampled_from([0, 40]) | st.integers(0, 40),
}
RANDOM = {"key": st.sampled_from([0, (1 << 62) - 1]) | st.integers(0, 1 << 61), "number": st.integers(0, (1 << 62) - 1)}
many = settings(deadline=None, max_examples=60)


def rounded(value: int, bits: int) -> int:
    """Division by 2^bits rounded to nearest, halves up, in exact fractions."""
    return floor(Fraction(int(value)) / Fraction(2) ** bits + Fraction(1, 2))


def clipped(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def leaked(value: int, dv: int) -> int:
    """Towards zero."""
    kept = abs(int(value)) * (4096 - dv) // 4096
    return kept if value >= 0 else -kept


def ints(draw: np.random.Generator, limit: int, *shape: int, low: int | None = None) -> np.ndarray:
    """int32 of -limit..limit (or low..limit), a third of them at the ends of the range or zero."""
    least = -limit if low is None else low
    values = draw.integers(least, limit + 1, shape)
    ends = draw.choice([least, limit, max(0, least)], shape)
    return np.where(draw.random(shape) < 1 / 3, ends, values).astype(np.int32)


def memories(draw: np.random.Generator, rule: str, *shape: int) -> np.ndarray:
    if rule == "shadow":
        return ints(draw, 32767, *shape).astype(np.int16)
    return (2 * ints(draw, 127, *shape, low=-128)).astype(np.int16)


@many
@given(seed=SEEDS, dv=st.sampled_from([0, 2048, 4096]) | st.integers(0, 4096), impulse=st.integers(0, 127))
def test_traces_decay_saturate_and_take_no_negative_spikes(seed: int, dv: int, impulse: int) -> None:
    draw = np.random.default_rng(seed)
    trace, spikes = ints(draw, 127, 9, low=0), ints(draw, 255, 9)
    expected = [min(int(t) * (4096 - dv) // 4096 + impulse * max(int(s), 0), 127) for t, s in zip(trace, spikes, strict=True)]
    local.step_filter_trace(trace, spikes, dv, impulse)
    assert trace.tolist() == expected


@many
@given(seed=SEEDS, bits=st.integers(2, 12))
def test_spikes_are_cleaned_of_any_noise_below_half(seed: int, bits: int) -> None:
    draw = np.random.default_rng(seed)
    spikes, half = ints(draw, 255, 20, low=0), 1 << bits >> 1
    noise = ints(draw, half - 1, 20)
    found = np.empty_like(spikes)
    local.step_clean((spikes << bits) + noise, bits, found)
    assert np.array_equal(found, spikes)
    local.step_clean(noise, 0, found)  # nothing rides on spikes of 1
    assert np.array_equal(found, noise)


@pytest.mark.parametrize("rule", RULES)
@many
@given(seed=SEEDS, exponent=st.integers(0, 7), back=st.integers(-9, 7))
def test_sums_are_those_of_the_view_in_both_directions(rule: str, seed: int, exponent: int, back: int) -> None:
    draw = np.random.default_rng(seed)
    memory, sent, factor = memories(draw, rule, 4, 5), ints(draw, 255, 5), ints(draw, 127, 4)
    view = plasticity.seen(rule, memory)
    forth, back_sums = np.empty(4, np.int32), np.empty(5, np.int32)
    assert local.step_forward(memory, RULES.index(rule), sent, exponent, forth)
    local.step_backward(memory, RULES.index(rule), factor, back, back_sums)
    assert np.array_equal(forth, plasticity.forward_sums(view, sent, exponent))
    assert np.array_equal(back_sums, np.clip(plasticity.backward_sums(view, factor, back), -127, 127))


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_beyond_32_bits_are_told(sign: int) -> None:
    """254 s + 2 r up to 2^31 - 2, the largest even sum, and to 2^31."""
    memory, sums = np.array([[254, 2], [0, 0]], np.int16), np.empty(2, np.int32)
    s, r = divmod(((1 << 31) - 2) // 2, 127)
    assert local.step_forward(memory, local.NEAREST, np.array([sign * s, sign * r], np.int32), 0, sums)
    assert sums.tolist() == [sign * ((1 << 31) - 2), 0]
    assert not local.step_forward(memory, local.NEAREST, np.array([sign * s, sign * (r + 1)], np.int32), 0, sums)
    assert not local.step_forward(memory, local.NEAREST, np.array([sign * s, 0], np.int32), 1, sums)


@pytest.mark.parametrize("rule", RULES)
@many
@given(seed=SEEDS, **RATES, **RANDOM)
def test_an_update_is_that_of_plasticity(rule: str, seed: int, multiplier: int, shift: int, key: int, number: int) -> None:
    """Online, and by way of a gradient that is gathered first."""
    draw = np.random.default_rng(seed)
    memory, pre, post = memories(draw, rule, 4, 5), ints(draw, 127, 5), ints(draw, 127, 4)
    expected = plasticity.learned(rule, memory, pre, post, multiplier, shift, key, number)
    online, gathered, gradient = memory.copy(), memory.copy(), np.zeros((4, 5), np.int32)
    local.step_learn(online, RULES.index(rule), pre, post, multiplier, shift, key, number)
    local.step_gather(gradient, pre, post)
    assert np.array_equal(gradient, np.outer(post, pre))
    local.step_apply_gathered(gathered, RULES.index(rule), gradient, multiplier, shift, key, number)
    assert np.array_equal(online, expected)
    assert np.array_equal(gathered, expected)
    assert not gradient.any()


@pytest.mark.parametrize("rule", RULES)
@many
@given(seed=SEEDS, **RATES, **RANDOM)
def test_gathered_gradients_of_any_size(rule: str, seed: int, multiplier: int, shift: int, key: int, number: int) -> None:
    draw = np.random.default_rng(seed)
    memory, gradient = memories(draw, rule, 3, 4), ints(draw, INT32, 3, 4)
    bits = shift + 8
    noise = plasticity.random_bits((3, 4), bits, key, number)

    def changed(place: tuple[int, int]) -> int:
        before, exact = int(memory[place]), multiplier * int(gradient[place])
        if rule == "shadow":
            return clipped(before - rounded(exact, shift), -32767, 32767)
        steps = rounded(exact, bits) if rule == "nearest" else floor(Fraction(exact + int(noise[place]), 2**bits))
        return 2 * clipped(before // 2 - steps, -128, 127)

    expected = [[changed((i, j)) for j in range(4)] for i in range(3)]
    local.step_apply_gathered(memory, RULES.index(rule), gradient, multiplier, shift, key, number)
    assert memory.tolist() == expected


@many
@given(seed=SEEDS)
def test_a_gradient_is_the_sum_of_products(seed: int) -> None:
    draw = np.random.default_rng(seed)
    gradient, steps = np.zeros((3, 4), np.int32), [(ints(draw, 127, 4), ints(draw, 127, 3)) for _ in range(6)]
    for pre, post in steps:
        local.step_gather(gradient, pre, post)
    assert gradient.tolist() == sum(np.outer(post, pre) for pre, post in steps).tolist()


NEURONS = {
    "dv": st.sampled_from([0, 2048, 4096]) | st.integers(0, 4096),
    "vth": st.sampled_from([1, 131071]) | st.integers(1, 300),
    "table_shift": st.sampled_from([0, 17]) | st.integers(0, 17),
}


def fire(membrane: np.ndarray, current: np.ndarray, noise: np.ndarray, **options: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Spikes, psi and the number of clipped membranes by a table of the numbers 1..64."""
    spikes, psi = np.empty_like(membrane), np.empty_like(membrane)
    dv, vth, amplitude, table_shift = (options[name] for name in ("dv", "vth", "amplitude", "table_shift"))
    table = np.arange(1, 65, dtype=np.int32)
    return spikes, psi, local.step_fire(membrane, current, noise, spikes, psi, dv, vth, amplitude, table, table_shift)


@many
@given(
    seed=SEEDS, amplitude=st.sampled_from([0, 1 << 20]) | st.integers(0, 4096), scale=st.sampled_from([300, INT32]), **NEURONS
)
def test_neurons_equal_scalar_integers(seed: int, amplitude: int, scale: int, dv: int, vth: int, table_shift: int) -> None:
    draw = np.random.default_rng(seed)
    top = (1 << 23) - 1
    membrane, current, noise = ints(draw, top if scale == INT32 else 64 * vth, 8), ints(draw, scale, 8), ints(draw, 1, 8)
    expected = []
    for v, a, z in zip(membrane.tolist(), current.tolist(), noise.tolist(), strict=True):
        charged = leaked(v, dv) + 64 * a
        distance = charged + amplitude * z - 64 * vth
        place = abs(distance) // 2**table_shift
        after = charged - 64 * vth * (distance >= 0)
        kept = clipped(after, -top, top)
        expected.append((int(distance >= 0), place + 1 if place < 64 else 0, kept, kept != after))
    spikes, psi, count = fire(membrane, current, noise, dv=dv, vth=vth, amplitude=amplitude, table_shift=table_shift)
    found = zip(spikes.tolist(), psi.tolist(), membrane.tolist(), strict=True)
    assert list(found) == [row[:3] for row in expected]
    assert count == sum(row[3] for row in expected)


@many
@given(seed=SEEDS, **NEURONS)
def test_without_noise_a_neuron_is_the_emulators(seed: int, dv: int, vth: int, table_shift: int) -> None:
    draw = np.random.default_rng(seed)
    membrane = ints(draw, (1 << 23) - 1, 30)
    current = np.where(draw.random(30) < 0.5, ints(draw, 300, 30), ints(draw, INT32, 30)).astype(np.int32)
    wanted = soft_reset_step(membrane, current, dv=dv, bias=0, vth=vth, delta=vth)
    spikes, _, count = fire(membrane, current, np.ones(30, np.int32), dv=dv, vth=vth, amplitude=0, table_shift=table_shift)
    assert np.array_equal(spikes, wanted.spike)
    assert np.array_equal(membrane, wanted.membrane)
    assert count == wanted.saturated.sum()


@pytest.mark.parametrize("kind", ["triangle", "sigmoid"])
@pytest.mark.parametrize("vth, shift", [(1, 0), (64, 7), (300, 10), (131071, 17)])
def test_the_table_is_the_float_surrogate(kind: str, vth: int, shift: int) -> None:
    """Both surrogates with the library's own parameters, both with a peak of 1: at the middle of every entry, then anywhere."""
    table = local.surrogate_table(kind, vth, shift)
    assert table.dtype == np.int32
    assert table.shape == (64,)
    phi = surrogate(kind)
    middle = (torch.arange(64, dtype=torch.float64) + 0.5) * 2**shift / (64 * vth)
    assert table.tolist() == np.minimum(np.rint(128 * phi(middle).numpy()), 127).tolist()
    distance = torch.arange(0, 64 << shift, max(1, (64 << shift) // 1000), dtype=torch.float64)
    found = torch.from_numpy(table[(distance.long() >> shift).numpy()]).double() / 128
    steepest = 1.6 * 2**shift / (64 * vth)  # of the sigmoid with a = 4; the triangle's is 1
    assert ((found - phi(distance / (64 * vth))).abs() <= steepest / 2 + 1 / 128).all()


@many
@given(seed=SEEDS)
def test_a_factor_is_a_product_rounded(seed: int) -> None:
    draw = np.random.default_rng(seed)
    psi, signal, factor = ints(draw, 127, 40, low=0), ints(draw, 400, 40), np.empty(40, np.int32)
    local.step_modulate(psi, signal, factor)
    assert factor.tolist() == [rounded(int(p) * clipped(int(s), -127, 127), 7) for p, s in zip(psi, signal, strict=True)]
    assert abs(factor).max() <= 126  # 127 * 127 / 128


@many
@given(antithetic=st.booleans(), **RANDOM)
def test_noise_is_made_of_the_librarys_random_bits(antithetic: bool, key: int, number: int) -> None:
    noise = np.empty(17, np.int32)
    local.step_rademacher(noise, key, number, antithetic)
    odd = antithetic and number % 2 == 1
    bits = plasticity.random_bits((17,), 1, key, number - odd)
    assert noise.tolist() == [(2 * bit - 1) * (-1 if odd else 1) for bit in bits.tolist()]


@many
@given(seed=SEEDS, dv=st.sampled_from([0, 4096]) | st.integers(0, 4096))
def test_a_readout_leaks_towards_zero(seed: int, dv: int) -> None:
    draw = np.random.default_rng(seed)
    output, current = ints(draw, INT32 // 2, 12), ints(draw, INT32 // 2, 12)
    expected = [leaked(o, dv) + int(a) for o, a in zip(output, current, strict=True)]
    assert expected == (decay(output, dv) + current).tolist()
    local.step_integrate(output, current, dv)
    assert output.tolist() == expected


@pytest.mark.parametrize("kind", plasticity.ERRORS)
@many
@given(
    seed=SEEDS,
    scale=st.sampled_from([3, 1000, INT32]),
    label=st.integers(-1, 4),
    shift=st.sampled_from([0, 30]) | st.integers(0, 12),
)
def test_errors_are_those_of_plasticity(kind: str, seed: int, scale: int, label: int, shift: int) -> None:
    output = ints(np.random.default_rng(seed), scale, 5)
    table = plasticity.softmax_table(1 / 16)
    target = np.eye(5, dtype=int)[label] if label >= 0 else np.zeros(5, int)
    error = np.full(5, 99, np.int32)
    local.step_output_error(plasticity.ERRORS.index(kind), output, label, table, shift, error)
    assert np.array_equal(error, plasticity.error(kind, output, target, table, shift))


def test_momentum_is_the_logarithm_of_the_count() -> None:
    for count in range(1, 2050):
        assert 2 ** local.momentum_bits(count, 40) <= count < 2 ** (local.momentum_bits(count, 40) + 1)
        assert local.momentum_bits(count, 5) == min(local.momentum_bits(count, 40), 5)
    assert local.momentum_bits((1 << 62) - 1, 40) == 40


@many
@given(seed=SEEDS, bits=st.integers(0, 20), scale=st.sampled_from([50, 32767, INT32]))
def test_feedback_matrices_move_to_noise_times_output(seed: int, bits: int, scale: int) -> None:
    draw = np.random.default_rng(seed)
    limit = 32767 << 12
    matrix, noise, output = ints(draw, limit, 4, 3), ints(draw, 1, 4), ints(draw, scale, 3)
    target = np.outer(noise, np.clip(output, -32767, 32767)) * 4096
    expected = [
        [int(m) + rounded(int(t) - int(m), bits) for m, t in zip(*rows, strict=True)]
        for rows in zip(matrix, target, strict=True)
    ]
    local.step_learn_feedback(matrix, noise, output, bits)
    assert matrix.tolist() == expected
    assert abs(matrix).max() <= limit
    for _ in range(3 if bits == 0 else 0):  # 2 ** -0: there at once, and stays
        assert np.array_equal(matrix, target)
        local.step_learn_feedback(matrix, noise, output, bits)


@many
@given(seed=SEEDS, bits=st.integers(0, 20), scale=st.sampled_from([50, 32767, INT32]))
def test_a_running_mean_is_taken_out_and_then_updated(seed: int, bits: int, scale: int) -> None:
    """Outputs beyond 16 bits are clipped, so that the mean of 2^-8 fits into 24 bits."""
    draw = np.random.default_rng(seed)
    output, mean, centred = ints(draw, scale, 6), ints(draw, 32767 << 8, 6), np.empty(6, np.int32)
    held = [clipped(int(o), -32767, 32767) for o in output]
    expected = [o - rounded(m, 8) for o, m in zip(held, mean, strict=True)]
    after = [int(m) + rounded(256 * o - int(m), bits) for o, m in zip(held, mean, strict=True)]
    local.step_centre(output, mean, bits, centred)
    assert centred.tolist() == expected
    assert mean.tolist() == after
    assert abs(mean).max() <= 32767 << 8


@many
@given(seed=SEEDS, shift=st.sampled_from([-12, 0, 40]) | st.integers(-12, 40), limit=st.sampled_from([300, 32767 << 12]))
def test_feedback_is_a_product_rounded_and_clipped(seed: int, shift: int, limit: int) -> None:
    draw = np.random.default_rng(seed)
    matrix, error, signal = ints(draw, limit, 5, 3), ints(draw, 128, 3), np.empty(5, np.int32)
    local.step_feed_back(matrix, error, shift, signal)
    totals = [sum(int(m) * int(e) for m, e in zip(row, error, strict=True)) for row in matrix]
    assert signal.tolist() == [clipped(rounded(total, shift), -127, 127) for total in totals]


def answer(subspace: np.ndarray, trace: np.ndarray) -> tuple[list[int], list[int]]:
    """Responses in 2^-6, and what they send back."""
    y = [rounded(sum(int(h) * int(x) for h, x in zip(row, trace, strict=True)), 8) for row in subspace]
    back = [sum(y_r * int(row[j]) for y_r, row in zip(y, subspace, strict=True)) for j in range(len(trace))]
    return y, [rounded(total, 20) for total in back]


@many
@given(seed=SEEDS, rows=st.integers(0, 4), limit=st.sampled_from([900, 16384, 32767]), scale=st.sampled_from([5, 255]))
def test_subspaces_answer_as_scalar_integers_do(seed: int, rows: int, limit: int, scale: int) -> None:
    draw = np.random.default_rng(seed)
    subspace, trace = ints(draw, limit, 4, 6).astype(np.int16), ints(draw, scale, 6)
    response, image, rest = np.full(4, 77, np.int32), np.empty(6, np.int32), np.empty(6, np.int32)
    y, back = answer(subspace[:rows], trace)
    local.step_residual(subspace, rows, trace, response, image, rest)
    assert rest.tolist() == [clipped(int(x) - b, -127, 127) for x, b in zip(trace, back, strict=True)]

    old = rows // 2
    sums = draw.integers(-(1 << 45), 1 << 45, (4, 6))
    expected = sums.tolist()
    for r in range(old, rows):
        expected[r] = [total + y[r] * (int(x) - b) for total, x, b in zip(expected[r], trace, back, strict=True)]
    local.step_hear(subspace, old, rows, trace, response, image, sums)
    assert sums.tolist() == expected


@many
@given(seed=SEEDS, old=st.integers(0, 3), rows=st.integers(3, 4), big=st.booleans(), **RATES)
@example(seed=0, old=0, rows=4, big=True, multiplier=32767, shift=0)
def test_subspaces_turn_as_scalar_integers_do(seed: int, old: int, rows: int, big: bool, multiplier: int, shift: int) -> None:
    draw = np.random.default_rng(seed)
    subspace, velocity = ints(draw, 32767, 4, 5).astype(np.int16), ints(draw, (1 << 29) - 1, 4, 5)
    reach = 1 << 62 if big else 1 << 25
    sums = draw.integers(-reach, reach, (4, 5))
    wanted_h, wanted_v, wanted_sums = subspace.tolist(), velocity.tolist(), sums.tolist()
    for r in range(old, rows):
        for j in range(5):
            push = rounded(clipped(int(sums[r, j]), -(1 << 46), 1 << 46) * multiplier, shift)
            v = wanted_v[r][j]
            v = clipped(v - rounded(v, 3) + push, -(1 << 29) + 1, (1 << 29) - 1)
            wanted_h[r][j] = clipped(wanted_h[r][j] + rounded(v, 8), -32767, 32767)
            wanted_v[r][j], wanted_sums[r][j] = v, 0
    local.step_turn(subspace, velocity, sums, old, rows, multiplier, shift)
    assert subspace.tolist() == wanted_h
    assert velocity.tolist() == wanted_v
    assert sums.tolist() == wanted_sums


def test_prepared_kernels_are_those_that_the_models_call() -> None:
    """In a fresh interpreter: after the constructors nothing more is compiled or loaded, as a Lava child would have to."""
    script = """
import numpy as np
from lava_snnlearn.fixed_point import local_learning as local
from lava_snnlearn.lava_backend import InProcessModel
from lava_snnlearn.processes import HLOPLateral, NoiseSource, OPZOFeedback

models = [
    InProcessModel(NoiseSource(shape=(2,), seed=1, steps=2, reset_interval=2)),
    InProcessModel(OPZOFeedback(matrix=np.ones((2, 3), int), delay=1, baseline=3, reset_interval=9)),
    InProcessModel(HLOPLateral(subspace=np.ones((3, 2), int), old=1, learn_phase=0, reset_interval=1)),
]
kernels = {name: kernel._dispatcher for name, kernel in vars(local).items() if name.startswith("step_")}
before = {name: len(kernel.signatures) for name, kernel in kernels.items()}
for _ in range(3):
    models[0].step()
    models[1].step(z_in=[1, -1], o_in=[5, 6, 7], e_in=[1, 2, 3])
    models[2].step(x_in=[3, 4])
assert min(before.values()) == 1, before
assert {name: len(kernel.signatures) for name, kernel in kernels.items()} == before
assert models[1].read("count") == 2 and models[2].read("sample") == 3
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
