"""Integer learning: sums, updates and errors against scalar Python integers and closed forms."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lava_snnlearn.fixed_point.plasticity import (
    backward_sums,
    count_update,
    forward_sums,
    mse_error,
    nearest_update,
    random_bits,
    rounding_shift,
    softmax_error,
    softmax_table,
    stochastic_update,
    view_of,
)


def rounded(value: int, bits: int) -> int:
    """Division by 2^bits rounded to nearest, halves up, in exact fractions."""
    return floor(Fraction(value, 2**bits) + Fraction(1, 2))


def clipped(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def problem(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    shadow = draw.integers(-32767, 32768, (4, 5)).astype(np.int16)
    return shadow, draw.integers(0, 7651, 5), draw.integers(-255, 256, 4), draw.random((4, 5)) < 0.6


def test_every_shadow_has_the_view_of_its_rounded_upper_byte() -> None:
    shadow = np.arange(-32768, 32768)
    view = view_of(shadow)
    assert view.dtype == np.int16
    assert view.tolist() == [2 * clipped(rounded(int(value), 8), -128, 127) for value in shadow]


@given(st.integers(-(1 << 48), 1 << 48), st.integers(0, 50))
def test_rounding_shift_rounds_halves_up(value: int, bits: int) -> None:
    assert rounding_shift(np.array([value]), bits).tolist() == [rounded(value, bits)]


@given(st.integers(0, 10_000), st.integers(0, 7), st.integers(-9, 7))
def test_one_memory_is_read_in_both_directions(seed: int, exponent: int, back: int) -> None:
    draw = np.random.default_rng(seed)
    view = (2 * draw.integers(-128, 128, (3, 4))).astype(np.int16)
    s, b = draw.integers(0, 256, (2, 4)).astype(np.uint8), draw.integers(-128, 128, (2, 3)).astype(np.int8)
    weight = view.tolist()
    forward = [[2**exponent * sum(weight[i][j] * int(row[j]) for j in range(4)) for i in range(3)] for row in s]
    sums = [[sum(weight[i][j] * int(row[i]) for i in range(3)) for j in range(4)] for row in b]
    backward = [[value * 2**back if back >= 0 else rounded(value, -back) for value in row] for row in sums]
    assert forward_sums(view, s, exponent).tolist() == forward
    assert backward_sums(view, b, back).tolist() == backward


def test_the_largest_sums_are_exact() -> None:
    view = np.full((1, 4096), -256, np.int16)
    spikes = np.full(4096, (1 << 31) - 1)
    assert forward_sums(view, spikes, 0).tolist() == [-256 * 4096 * ((1 << 31) - 1)]


@pytest.mark.parametrize("masked", [False, True])
@given(seed=st.integers(0, 10_000), multiplier=st.integers(0, 32767), shift=st.integers(0, 40))
def test_updates_equal_scalar_integers(masked: bool, seed: int, multiplier: int, shift: int) -> None:
    shadow, pre, post, mask = problem(seed)
    mask = mask if masked else None  # type: ignore[assignment]
    view = view_of(shadow)

    def change(i: int, j: int, bits: int) -> int:
        here = mask is None or mask[i, j]
        return rounded(multiplier * int(post[i]) * int(pre[j]), bits) if here else 0

    expected = [[clipped(int(shadow[i, j]) - change(i, j, shift), -32767, 32767) for j in range(5)] for i in range(4)]
    assert count_update(shadow, pre, post, multiplier, shift, mask).tolist() == expected
    nearest = [[2 * clipped(int(view[i, j]) // 2 - change(i, j, shift + 8), -128, 127) for j in range(5)] for i in range(4)]
    assert nearest_update(view, pre, post, multiplier, shift, mask).tolist() == nearest
    # A draw moves the exact change down or up to the next step, and nowhere else.
    drawn = stochastic_update(view, pre, post, multiplier, shift, 3, seed, mask)
    exact = multiplier * np.multiply.outer(post, pre) / 2.0 ** (shift + 8) * (1 if mask is None else mask)
    down, up = (2 * np.clip(view // 2 - bound, -128, 127) for bound in (np.floor(exact), np.ceil(exact)))
    assert ((drawn == down) | (drawn == up)).all()


def test_updates_leave_their_arguments_alone_and_keep_the_dtype() -> None:
    shadow, pre, post, _ = problem(0)
    before = shadow.copy()
    assert count_update(shadow, pre, post, 9000, 12).dtype == np.int16
    assert stochastic_update(view_of(shadow), pre, post, 9000, 12, 0, 0).dtype == np.int16
    assert np.array_equal(shadow, before)


def test_stochastic_rounding_is_right_on_average() -> None:
    view = np.zeros((100, 100), np.int16)
    pre, post = np.full(100, 3), np.full(100, 5)
    # 15 counts of 1/256 step each; a draw is 0 or 1 with deviation sqrt(p (1 - p)).
    p, draws = 15 / 256, 20
    change = np.stack([stochastic_update(view, pre, post, 1, 0, 7, sample) for sample in range(draws)]) / -2
    assert abs(change.mean() - p) < 4 * np.sqrt(p * (1 - p) / change.size)
    # No synapse and no sample is like another: variances of the means are those of independent draws.
    for axis, number in ((0, draws), ((1, 2), view.size)):
        assert change.mean(axis).var() == pytest.approx(p * (1 - p) / number, rel=0.6)
    assert set(np.unique(change)) == {0.0, 1.0}


def test_random_bits_are_those_of_splitmix64() -> None:
    word, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15

    def finalised(value: int) -> int:  # Steele, Lea, Flood 2014; constants of Vigna's splitmix64.c
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & word
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & word
        return value ^ (value >> 31)

    seed, sample, bits = 12345, 678, 31
    inner = finalised((seed + 1) * golden & word)
    start = finalised((inner + sample + 1) * golden & word)
    expected = [[finalised((start + (3 * i + j) * golden) & word) >> (64 - bits) for j in range(3)] for i in range(2)]
    assert random_bits((2, 3), bits, seed, sample).tolist() == expected
    # The first outputs of splitmix64.c for seed 1234567, which every port is checked with.
    assert [finalised(1234567 + (i + 1) * golden & word) for i in range(2)] == [6457827717110365317, 3203168211198807973]


def test_random_bits_depend_on_seed_sample_and_place_only() -> None:
    base = random_bits((40, 30), 48, 1, 2)
    assert np.array_equal(base, random_bits((40, 30), 48, 1, 2))
    assert base.min() >= 0
    assert base.max() < 1 << 48
    assert len(np.unique(base)) == base.size
    for other in (random_bits((40, 30), 48, 2, 2), random_bits((40, 30), 48, 1, 3), random_bits((40, 30), 48, 2, 1)):
        assert not np.isin(base, other).any()


@given(st.integers(0, 10_000))
def test_the_softmax_by_table_is_the_softmax(seed: int) -> None:
    draw = np.random.default_rng(seed)
    shift, step = 8, 1 / 16
    logits = draw.normal(0, 3, (6, 10))
    target = np.eye(10, dtype=np.int64)[draw.integers(0, 10, 6)]
    z = np.rint(logits / step * 2**shift).astype(np.int64)
    error = softmax_error(z, target, softmax_table(step), shift)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    # Each weight is too large by at most a factor exp(step), and the quotient is rounded down.
    low, high = 128 * p * np.exp(-step) - 1.1, 128 * p * np.exp(step) + 0.1
    assert (error >= np.floor(low) - 128 * target).all()
    assert (error <= np.minimum(np.ceil(high) - 128 * target, 127)).all()


def test_softmax_error_of_known_sums() -> None:
    table = softmax_table(1.0)
    assert table[:3].tolist() == [32768, round(32768 / np.e), round(32768 / np.e**2)]
    assert table[-1] == 0
    z = np.array([[0, 0, 0, 0], [5 << 20, 0, 0, 0], [-9, -9, -9 - (1 << 30), -9 - (1 << 30)]])
    one_hot = np.eye(4, dtype=np.int64)
    error = softmax_error(z, one_hot[[2, 1, 0]], table, 4)
    # p = 32 each; p = 128, 0, 0, 0, of which 8 bits hold 127; p = 64, 64, 0, 0.
    assert error.tolist() == [[32, 32, -96, 32], [127, -128, 0, 0], [-64, 64, 0, 0]]


@pytest.mark.parametrize("kind", ["softmax", "mse"])
def test_no_target_no_error(kind: str) -> None:
    z, target = np.array([[900, 3], [900, 3]]), np.array([[0, 0], [0, 1]])
    error = softmax_error(z, target, softmax_table(0.1), 2) if kind == "softmax" else mse_error(z, target, 2)
    assert not error[0].any()
    assert error[1].any()


def test_mse_error_rounds_and_clips() -> None:
    z = np.array([[10, -10, 12, 128 * 8, 1 << 30, -(1 << 30)]])
    target = np.array([[0, 0, 0, 1, 0, 0]])
    assert mse_error(z, target, 3).tolist() == [[1, -1, 2, 0, 127, -128]]
