"""Convolutions: geometry against torch, the sparse matrix against explicit loops, products exact to the last bit."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point import convolution
from lava_snnlearn.fixed_point.convolution import ConvShape, convolve, expand, synapse_count
from lava_snnlearn.fixed_point.engine.products import Product
from lava_snnlearn.fixed_point.graph import Connection

PROOF = settings(deadline=None, derandomize=True, max_examples=150)
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw):
    """(geometry, kernel shape), with other numbers for rows than for columns."""
    groups = draw(st.integers(1, 3))
    depth, out = draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    image = (groups * depth, draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    geometry = ConvShape(image, draw(PAIRS), padding, draw(PAIRS), groups)
    kernel = (out, depth, *draw(st.tuples(st.integers(1, 4), st.integers(1, 4))))
    assume(min(axis.outputs(taps) for axis, taps in zip(geometry.axes, kernel[2:], strict=True)) > 0)
    return geometry, kernel


def in_torch(images, kernel, geometry):
    x = torch.from_numpy(np.asarray(images, np.float64)).reshape(-1, *geometry.input_shape)
    w = torch.from_numpy(np.asarray(kernel, np.float64))
    options = (geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    return torch.nn.functional.conv2d(x, w, None, *options).numpy()


@PROOF
@given(case=convolutions(), seed=st.integers(0, 99))
def test_shape_matrix_and_product_equal_torch_and_loops(reference, case, seed):
    geometry, shape = case
    rng = np.random.default_rng(seed)
    kernel = 2 * rng.integers(-128, 128, shape) * rng.integers(0, 2, shape)
    images = rng.integers(0, 256, (3, geometry.sources))
    expected = in_torch(images, kernel, geometry)
    assert geometry.output_shape(shape) == expected.shape[1:]
    assert geometry.targets(shape) == expected[0].size
    loops, matrix = reference.laid_out(kernel, geometry), expand(kernel, geometry)
    np.testing.assert_array_equal(matrix.toarray(), loops)
    assert matrix.nnz == synapse_count(kernel, geometry) == np.count_nonzero(loops)
    for dtype in (np.float32, np.float64, np.int64):
        found = convolve(images.astype(np.uint8), kernel.astype(dtype), geometry)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected.reshape(3, -1))


def test_a_number_stands_for_rows_and_columns():
    geometry = ConvShape([2, 5, 6], stride=2, padding=1, dilation=3)
    assert (geometry.input_shape, geometry.stride, geometry.padding, geometry.dilation) == ((2, 5, 6), (2, 2), (1, 1), (3, 3))
    assert geometry == ConvShape((2, 5, 6), (2, 2), (1, 1), (3, 3))


@pytest.mark.parametrize("images", [1, 2, 3, 7])
def test_batches_larger_than_a_slab(monkeypatch, images):
    geometry, rng = ConvShape((2, 5, 4), (1, 2), (1, 0)), np.random.default_rng(images)
    kernel, x = rng.integers(-9, 9, (3, 2, 3, 2)).astype(np.float32), rng.integers(0, 5, (images, 40))
    expected = in_torch(x, kernel, geometry).reshape(images, -1)
    for patches in (1, 2 * 3 * 2 * 2 * 5 * 2, 1 << 20):
        monkeypatch.setattr(convolution, "_PATCHES", patches)
        np.testing.assert_array_equal(convolve(x, kernel, geometry), expected)


# ---- exactness ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("batch", [1, 16, 40])
@pytest.mark.parametrize("channels, dtype", [(28, np.float32), (300, np.float64)])
def test_extreme_values_are_exact(size, batch, channels, dtype):
    """Kernels and strides of 1 for which libraries take the Winograd or FFT form; sums right below the limit of float32."""
    rng = np.random.default_rng(size + batch)
    kernel = rng.choice([-256, -254, 254, 2], (4, channels, size, size))
    if channels == 28:
        kernel[:, 28 * 9 // size**2 :] = 0
    geometry = ConvShape((channels, 6, 6), padding=size // 2)
    connection = Connection("input", "a", kernel, geometry=geometry, exponent=3)
    product = Product.of(connection, 255)
    assert product.dtype is dtype
    images = rng.choice([0, 1, 254, 255], (batch, geometry.sources))
    exact = (expand(kernel, geometry).astype(np.int64) @ images.T).T << 3
    assert not product.lags.any()
    np.testing.assert_array_equal(product.apply(images), exact)
    assert np.abs(exact).max() > 255 * 254 * 8


def test_sums_beyond_float32_lose_bits_without_the_wider_dtype():
    """So that the test above is known to be hard: the same product in float32 is wrong."""
    rng = np.random.default_rng(0)
    half = 2 * rng.integers(60, 128, (2, 150, 3, 3))
    kernel = np.concatenate([half, -half, np.full((2, 1, 3, 3), 2)], axis=1)
    geometry = ConvShape((301, 5, 5))
    big = rng.integers(128, 256, (3, 150, 5, 5))
    images = np.concatenate([big, big, rng.integers(1, 9, (3, 1, 5, 5))], axis=1).reshape(3, -1)
    product = Product.of(Connection("input", "a", kernel, geometry=geometry), 255)
    exact = (expand(kernel, geometry).astype(np.int64) @ images.T).T
    np.testing.assert_array_equal(product.apply(images), exact)
    careless = dataclasses.replace(product, dtype=np.float32, weight=product.weight.astype(np.float32))
    assert (careless.apply(images) != exact).any()


def test_the_bound_is_reached_in_the_middle_of_the_image():
    kernel = np.array([[[[2, -4], [6, -256]]], [[[254, 2], [2, 2]]]])
    connection = Connection("input", "a", kernel, exponent=2, geometry=ConvShape((1, 3, 3), padding=1))
    assert connection.bound(255) == 268 * 255 * 4
    image = np.where(kernel[:1, 0] > 0, 255, -255).reshape(1, 2, 2)
    placed = np.zeros((1, 3, 3), int)
    placed[:, 1:, 1:] = image
    assert Product.of(connection, 255).apply(placed.reshape(1, -1)).max() == connection.bound(255)


# ---- refusals ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, error, match",
    [
        ({"input_shape": (1, 5)}, ValueError, r"input_shape.*\(1, 5\); expected 3 numbers"),
        ({"input_shape": 5}, TypeError, "input_shape.*tuple of integers"),
        ({"input_shape": "155"}, TypeError, "input_shape.*tuple of integers"),
        ({"input_shape": (1, 5.0, 5)}, TypeError, "5.0; it must be an integer"),
        ({"input_shape": (1, 0, 5)}, LimitError, "input_shape.* is 0 at index 1"),
        ({"input_shape": (1, 1 << 30, 1 << 30)}, LimitError, f"input_shape.* is {1 << 30} at index 1"),
        ({"input_shape": (1, 1 << 13, 1 << 12)}, LimitError, f"{1 << 25} values, more than {1 << 24}"),
        ({"stride": 0}, LimitError, "stride of a convolution is 0"),
        ({"stride": (1, 0)}, LimitError, "stride of a convolution is 0 at index 1"),
        ({"stride": 1.0}, TypeError, "stride of a convolution is 1.0"),
        ({"stride": True}, TypeError, "stride of a convolution is True"),
        ({"stride": (1, 1, 1)}, ValueError, r"stride.*\(1, 1, 1\); give a number or a pair"),
        ({"padding": -1}, LimitError, "padding of a convolution is -1"),
        ({"padding": 1 << 20}, LimitError, "padded image.* more than .*less padding"),
        ({"dilation": (0, 1)}, LimitError, "dilation of a convolution is 0 at index 0"),
        ({"groups": 0}, LimitError, "groups of a convolution is 0"),
        ({"groups": 3}, LimitError, "groups of a convolution is 3"),
        ({"groups": 1.0}, TypeError, "groups of a convolution is 1.0"),
        ({"input_shape": (4, 5, 5), "groups": 3}, ValueError, "cannot cut 4 input channels into 3"),
    ],
)
def test_geometries_that_do_not_fit(fields, error, match):
    with pytest.raises(error, match=match):
        ConvShape(**{"input_shape": (2, 5, 5)} | fields)


@pytest.mark.parametrize(
    "kernel, error, match",
    [
        ((3, 2, 3), ValueError, r"\(3, 2, 3\) does not fit; expected \[C_out, 2, kh, kw\]"),
        ((4, 4, 3, 3), ValueError, r"expected \[C_out, 2, kh, kw\] for an image \(4, 5, 5\) in 2 groups"),
        ((3, 2, 3, 3), ValueError, r"\(3, 2, 3, 3\) does not fit"),
        ((4, 2, 0, 3), ValueError, "does not fit"),
        ((4, 2, 6, 3), ValueError, "larger than the padded image"),
        ((4, 2, 3, 6), ValueError, "larger than the padded image"),
        ((671_096, 2, 1, 1), LimitError, f"more than {1 << 24} outputs"),
    ],
)
def test_kernels_that_do_not_fit(kernel, error, match):
    with pytest.raises(error, match=match):
        ConvShape((4, 5, 5), groups=2).output_shape(kernel)


def test_a_matrix_that_would_fill_the_memory_is_refused():
    kernel = np.zeros((512, 512, 3, 3), np.int16)
    kernel[0, 0, 0, 0] = 2
    with pytest.raises(LimitError, match=f"synapses, more than {1 << 27}"):
        expand(kernel, ConvShape((512, 32, 32)))
