"""OTTT, HLOP and OPZO in the fixed engine of Lava's stock learning connection: equal to a slow mirror of its arithmetic, and
the properties that survive it.
"""

import math

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError
from lava_snnlearn.lava_backend import stock
from lava_snnlearn.lava_backend.stock.engine import FIXED

ROUNDING_SEED = 2
"""Of every fixed learning connection's weights, whatever the rule's seed."""


def clipped(value):
    return max(-(2**15) - 1, min(2**15 - 1, value))


def learnt(weight, products, draw):
    """One weight after one epoch. products: (integer value of all factors with sign, lost bits, exponent as written)."""
    accumulator = weight << 7
    for value, lost, exponent in products:
        accumulator = clipped(accumulator + clipped((value >> lost) << (exponent + 7)))
    whole = accumulator // 128
    whole += draw < (accumulator - 128 * whole) / 128
    return max(-256, min(255, whole))


def draws(seed, count):
    """Lava draws one number when it builds the model, and the first that it uses is the second."""
    return np.random.default_rng(seed).random(count + 1)[1:]


def ottt_mirror(how, weights, spikes, errors):
    """Epochs: the trace of each input decays with one rounding number an epoch, which is drawn twice a Lava step."""
    factor = math.exp(-1 / how.rule.x1_tau)
    trace_draws = draws(how.seed, 2 * how.epoch * len(spikes))[2 * how.epoch - 1 :: 2 * how.epoch]
    trace, history = [0] * weights.shape[1], [weights.tolist()]
    for row, error, trace_draw, draw in zip(spikes, errors, trace_draws, draws(ROUNDING_SEED, len(spikes)), strict=True):
        for j, spike in enumerate(row):
            for phase in range(how.epoch):
                decayed = factor * trace[j]
                trace[j] = math.floor(decayed) + int(trace_draw < decayed % 1)
                if phase == 0 and spike:
                    trace[j] = min(127, trace[j] + how.impulse)
        exponent = how.exponent + 3
        history.append(
            [
                [
                    learnt(w, [(trace[j] * max(-e, 0), 3, exponent), (-trace[j] * max(e, 0), 3, exponent)], draw)
                    for j, w in enumerate(line)
                ]
                for line, e in zip(history[-1], map(int, error), strict=True)
            ]
        )
    return np.array(history[1:])


@pytest.mark.parametrize("leak, exponent, impulse, seed", [(0.5, -10, 63, 0), (0.3, -7, 30, 5)])
def test_ottt_is_what_the_mirror_says(leak, exponent, impulse, seed, nothing_left):
    rng = np.random.default_rng(8)
    start = 2 * rng.integers(-40, 41, (3, 5))
    spikes, errors = (rng.random((60, 5)) < 0.4).astype(int), rng.integers(-60, 61, (60, 3))
    how = stock.ThreeFactor(leak=leak, exponent=exponent, impulse=impulse, seed=seed)
    found = stock.run_layer(how, start, spikes, errors, tag=FIXED)
    expected = ottt_mirror(how, start, spikes, errors)
    np.testing.assert_array_equal(found.learned, expected)
    assert np.any(expected % 2), "learnt weights take odd values, too"
    assert np.any(expected[-1] != start)


def test_traces_that_seven_bits_cannot_hold_are_refused():
    """Two spikes in a row with leak 0.5: (64 * 0.5^(3/4)) * 0.5^(1/4) + 64 = 96 fits, with an impulse of 90 it would be 135."""
    weights, spikes, errors = np.zeros((1, 1), int), np.ones((2, 1), int), np.zeros((2, 1), int)
    stock.run_layer(stock.ThreeFactor(leak=0.5, exponent=-9, impulse=64), weights, spikes, errors, tag=FIXED)
    with pytest.raises(LimitError, match=r"trace x1 is 135.0.*an impulse of 84 or less"):
        stock.run_layer(stock.ThreeFactor(leak=0.5, exponent=-9, impulse=90), weights, spikes, errors, tag=FIXED)
    with pytest.raises(ValueError, match=r"impulse is 1\.68.*e\.g\. 63"):
        stock.run_layer(stock.ThreeFactor(leak=0.5, exponent=-9), weights, spikes, errors, tag=FIXED)


def signed(pre, post):
    """Phases as they reach the engine: (x1, y1, y2) of each of the three Lava steps of an update."""
    for r, y in zip(pre, post, strict=True):
        up, down = np.maximum(y, 0), np.maximum(-y, 0)
        yield from ((0 * r, 0 * y, 0 * y), (np.maximum(r, 0), up, down), (np.maximum(-r, 0), down, up))


@pytest.mark.parametrize("exponent", [-10, -6])
def test_two_phases_never_change_a_weight_the_wrong_way(exponent):
    """H9 in fixed: signs of the update are those of the product, or nothing changes; and each step is as the mirror says."""
    rng = np.random.default_rng(9)
    start = 2 * rng.integers(-20, 21, (3, 4))
    pre, post = rng.integers(-30, 31, (80, 4)), rng.integers(-20, 21, (80, 3))
    found = stock.run_signed_updates(start, pre, post, exponent=exponent, tag=FIXED).weights
    changes = np.diff(found, axis=0, prepend=start[None])
    product = post[:, :, None] * pre[:, None]
    assert np.all(changes * product >= 0)
    assert np.all(changes[product == 0] == 0)
    assert np.any(changes != 0)
    weights, history = start.tolist(), []
    for (x1, y1, y2), draw in zip(signed(pre, post), draws(ROUNDING_SEED, 240), strict=True):
        weights = [
            [
                learnt(w, [(int(x1[j] * y1[i]), 3, exponent + 3), (-int(x1[j] * y2[i]), 3, exponent + 3)], draw)
                for j, w in enumerate(line)
            ]
            for i, line in enumerate(weights)
        ]
        history.append(weights)
    np.testing.assert_array_equal(found, history[2::3])


def test_small_decreases_are_rounded_away_from_zero_and_increases_towards_it():
    """x1 * y1 = 1 is less than the three bits that are shifted out: +1 gives 0, and -1 gives -1/8 of 2^(e+3) always."""
    ones = np.ones((10, 1), int)
    up, down = (
        stock.run_signed_updates(np.zeros((1, 1), int), ones, sign * ones, exponent=-3, tag=FIXED).weights[-1].item()
        for sign in (1, -1)
    )
    assert up == 0
    assert down == -10, "in float it would be -10/8"


def test_the_feedback_matrix_is_what_the_mirror_says():
    """Noise of +-8 makes the products exact; the decay of 2^-3 acts in every fourth network step."""
    rng = np.random.default_rng(10)
    start, steps = 2 * rng.integers(-30, 31, (4, 3)), 40
    outputs, errors = rng.integers(-60, 61, (steps, 3)), rng.integers(-100, 101, (steps, 3))
    noise = 8 * rng.choice([-1, 1], (steps, 4))
    how = stock.DecimatedDecay(gain=-10, shift=3, decimation=4)
    found = stock.run_feedback(how, start, outputs, noise, errors, tag=FIXED)
    matrix, history = start, []
    rounding = draws(ROUNDING_SEED, 4 * steps).reshape(steps, 4)
    for step in range(steps):
        halves = np.maximum(outputs[step], 0), np.maximum(-outputs[step], 0), 0 * outputs[step], 0 * outputs[step]
        for phase, x1 in enumerate(halves):
            z = (-1) ** phase * noise[step]
            decays = (4 * step + phase + 1) % 16 == 0
            matrix = np.array(
                [
                    [
                        learnt(int(w), [(int(x1[j] * z[i]), 3, -7), (-int(w) * decays, 0, -3)], rounding[step, phase])
                        for j, w in enumerate(line)
                    ]
                    for i, line in enumerate(matrix)
                ]
            )
            if phase == 1:
                np.testing.assert_array_equal(found.modulations[step], matrix @ errors[step])
        history.append(matrix)
    np.testing.assert_array_equal(found.matrices, history)


def test_all_synapses_share_one_rounding_number():
    """Equal synapses stay equal: 0.5 is added 100 times to 12 of them, and they move together, between 0 and 100."""
    drive = {"exponent": -5, "tag": FIXED}
    found = stock.run_signed_updates(np.zeros((3, 4), int), np.full((100, 4), 4), np.full((100, 3), 4), **drive).weights
    assert np.all(found == found[:, :1, :1])
    expected = np.cumsum(draws(ROUNDING_SEED, 300)[1::3] < 0.5)
    np.testing.assert_array_equal(found[:, 0, 0], expected)
    exact = np.broadcast_to(np.arange(1, 101)[:, None, None] / 2, found.shape)
    assert stock.deviation(np.zeros((3, 4)), exact, found).shared == pytest.approx(1)
