"""Lava's stock learning engine driven by arrays: rules for both engines, what they do exactly, and what is refused."""

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.lava_backend import stock
from lava_snnlearn.lava_backend.stock.engine import FIXED, FLOATING, rule_text


@pytest.mark.parametrize(
    "factors, lost",
    [(("x1",), 0), (("w",), 0), (("x1", "y1"), 3), (("y1", "w"), 5), (("x1", "x1", "y1"), 10), (("y1", "y1", "w"), 12)],
)
def test_the_fixed_engine_needs_a_larger_exponent(factors, lost):
    """Widths 7 of traces and 9 of weights, 4 of the mantissa, into 15 bits."""
    product = stock.Product(-1, -6, "x0", factors)
    assert product.lost_bits == lost
    text = "*".join(("x0", *factors))
    assert rule_text((product,), FLOATING) == f"- 2^-6*{text}"
    assert rule_text((product, stock.Product(1, -6, "x0", ("x1",))), FIXED) == f"- 2^{lost - 6}*{text} + 2^-6*x0*x1"


@pytest.mark.parametrize("exponent, tag", [(-8, FLOATING), (9, FLOATING), (-11, FIXED), (6, FIXED)])
def test_an_exponent_that_cannot_be_written_is_refused(exponent, tag):
    with pytest.raises(LimitError, match=r"u0\*x1\*y1.*limit \[-7, 8\]"):
        stock.Product(1, exponent, "u0", ("x1", "y1")).text(tag)


def test_an_unknown_factor_is_refused():
    with pytest.raises(UnknownNameError, match="y4"):
        stock.Product(1, 0, "u0", ("y4",)).text(FLOATING)


@pytest.mark.parametrize("tag", [FLOATING, FIXED])
def test_the_same_product_changes_weights_alike_in_both_engines(tag):
    """Numbers that no shift cuts: 40 * 16 / 64 = 10; y * w: 32 * 64 / 128 = 16. With one exponent: 10 / 8, 16 / 32."""
    spikes, factor = np.array([[80]]), {"y1": np.array([[16]])}
    rule = stock.StockRule(weight=(stock.Product(1, -6, "x0", ("x1", "y1")),), graded=True)
    assert stock.run_stock(np.zeros((1, 1), int), rule, spikes, factor, tag=tag).weights[0, 0, 0] == 10
    rule = stock.StockRule(weight=(stock.Product(-1, -7, "u0", ("y1", "w")),))
    run = stock.run_stock(np.full((1, 1), 32), rule, np.zeros((1, 1), int), {"y1": np.array([[64]])}, tag=tag)
    assert run.weights[0, 0, 0] == 16


def test_the_fixed_engine_learns_integer_outer_products_exactly(nothing_left):
    """Signed factors, one trace, 200 steps; the currents are those of the weights that were there."""
    rng = np.random.default_rng(0)
    start = 2 * rng.integers(-20, 21, (5, 7))
    spikes = (rng.random((200, 7)) < 0.3).astype(int)
    factors = rng.integers(-8, 9, (200, 5))
    rule = stock.StockRule(weight=(stock.Product(1, 0, "x0", ("y1",)),))
    run = stock.run_stock(start, rule, spikes, {"y1": factors}, tag=FIXED)
    expected = start + np.cumsum(factors[:, :, None] * spikes[:, None], axis=0)
    assert np.abs(expected).max() < 255
    assert np.any(expected % 2)
    np.testing.assert_array_equal(run.weights, expected)
    before = np.concatenate([start[None], expected[:-1]])
    np.testing.assert_array_equal(run.currents[1:], np.einsum("tij,tj->ti", before, spikes)[:-1])


@pytest.mark.parametrize("tag, expected", [(FLOATING, [-10, -10]), (FIXED, [-10, 0])])
def test_where_the_post_neuron_spikes_the_fixed_engine_loses_negative_factors(tag, expected):
    rule = stock.StockRule(weight=(stock.Product(1, -6, "u0", ("x1", "y1")),), graded=True)
    factors, spiking = {"y1": np.array([[-16, -16]])}, np.array([[0, 1]])
    run = stock.run_stock(np.zeros((2, 1), int), rule, np.array([[80]]), factors, tag=tag, post_spikes=spiking)
    assert run.weights[0, :, 0].tolist() == expected


GRADED = stock.StockRule(weight=(stock.Product(1, -3, "x0", ("x1", "y1")),), graded=True)
BINARY = stock.StockRule(weight=(stock.Product(1, 0, "x0", ("y1",)),))
WEIGHTS, SILENCE, FACTORS = np.zeros((2, 3), int), np.zeros((4, 3), int), np.zeros((4, 2), int)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"weights": WEIGHTS + 0.5}, TypeError, "weights is of type float64"),
        ({"weights": WEIGHTS + 1}, ValueError, "odd"),
        ({"weights": WEIGHTS + 256}, LimitError, "weights is 256"),
        ({"weights": WEIGHTS[0]}, ValueError, "weights have shape"),
        ({"weights": WEIGHTS + np.nan, "tag": FLOATING}, ValueError, "weights holds"),
        ({"spikes": SILENCE - 2}, LimitError, "s_in is -2.*two phases"),
        ({"spikes": SILENCE + 255}, LimitError, r"s_in is 255.*\[0, 254\]"),
        ({"rule": BINARY, "spikes": SILENCE + 2}, LimitError, r"s_in is 2.*\[0, 1\]"),
        ({"spikes": SILENCE[:, :2]}, ValueError, r"s_in has shape \(4, 2\)"),
        ({"spikes": SILENCE[:0], "posts": {}}, ValueError, "at least 1"),
        ({"posts": {"y1": FACTORS + 128}}, LimitError, "s_in_y1 is 128"),
        ({"posts": {"y2": FACTORS[:3]}}, ValueError, "s_in_y2 has shape"),
        ({"posts": {"y4": FACTORS}}, UnknownNameError, "y4"),
        ({"tag": "fixed"}, UnknownNameError, "fixed_pt"),
        ({"rule": stock.StockRule(weight=BINARY.weight, epoch=64)}, LimitError, "epoch is 64"),
    ],
)
def test_what_the_engine_would_bend_in_silence_is_refused(arguments, error, message):
    given = {"weights": WEIGHTS, "rule": GRADED, "spikes": SILENCE, "posts": {"y1": FACTORS}, "tag": FIXED, **arguments}
    tag = given.pop("tag")
    with pytest.raises(error, match=message):
        stock.run_stock(*given.values(), tag=tag)


def test_deviation_of_known_errors():
    """Changes +1 and -1 in turn; one synapse errs by +-1 in each update, the other by 0.5 upwards and by 0 downwards."""
    start = np.array([4.0, 8.0])
    exact = start + np.cumsum([[1, 1], [-1, -1], [1, 1], [-1, -1]], axis=0)
    errors = np.array([[1, 0.5], [-1, 0], [1, 0.5], [-1, 0]])
    found = stock.deviation(start, exact, exact + np.cumsum(errors, axis=0))
    assert found.bias_up == 0.75
    assert found.bias_down == -0.5
    assert found.travelled == 0
    assert found.drift == pytest.approx(np.sqrt(0.5))
    assert found.spread == pytest.approx(errors.std())
    assert found.shared == pytest.approx(0.625**2 / ((1 + 0.25**2) / 2))
    with pytest.raises(ValueError, match="shapes"):
        stock.deviation(start, exact, exact[:3])


def test_errors_that_all_synapses_have_in_common():
    rng = np.random.default_rng(0)
    exact, single = np.zeros((4000, 2, 5)), rng.normal(size=(4000, 2, 5))
    alike = np.broadcast_to(rng.normal(size=(4000, 1, 1)), exact.shape)
    assert stock.deviation(exact[0], exact, np.cumsum(alike, axis=0)).shared == pytest.approx(1)
    assert stock.deviation(exact[0], exact, np.cumsum(single, axis=0)).shared == pytest.approx(0.1, rel=0.1)
    assert stock.deviation(exact[0], exact, exact).shared == 0
    assert np.isnan(stock.deviation(exact[0], exact, exact).bias_up)
