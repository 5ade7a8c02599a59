"""The host's integer input against exact rational numbers."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.fixed_point.host import HostInput

PROOF = settings(deadline=None, derandomize=True, max_examples=200)
CURRENT_MAX = 8190


def exact_current(weight, bias, shift, row):
    """(weight @ round(1024 x) + bias) / 2^shift for one neuron, rounded half up, in rational numbers."""
    rounded = [round(Fraction(float(value)) * 1024) for value in row]
    total = sum(int(w) * r for w, r in zip(weight, rounded, strict=True)) + int(bias)
    return int((Fraction(total, 2**shift) + Fraction(1, 2)).__floor__())


def drawn(data, values, *shape):
    count = int(np.prod(shape))
    return np.array(data.draw(st.lists(values, min_size=count, max_size=count))).reshape(shape)


@PROOF
@given(data=st.data(), width=st.sampled_from([32, 64]), sequence=st.booleans(), wide=st.booleans())
def test_currents_are_the_exact_rational_result(data, width, sequence, wide):
    size, features, batch, steps = 2, data.draw(st.integers(1, 4)), 2, 3
    # Narrow data leave room for a shift at which each 1/1024 counts.
    bits = data.draw(st.integers(2, 15))
    shift, span = (bits + 4, 31.875) if wide else (bits, 1.875)
    weight = drawn(data, st.integers(1 - (1 << bits), (1 << bits) - 1), size, features)
    bias = drawn(data, st.integers(-20 << shift, 20 << shift), size)
    # Halves of 1/1024 too: the ties of the rounding.
    halves = st.integers(-int(span * 2048), int(span * 2048)).map(lambda count: count / 2048)
    values = st.one_of(st.floats(-span, span, width=width), halves)
    shape = (steps, batch, features) if sequence else (batch, features)
    x = drawn(data, values, *shape).astype(f"f{width // 8}")
    host = HostInput("current", size, targets=("a",), weight=weight, bias=bias, shift=shift)
    got = host.encode(x, steps)
    assert got.dtype == np.int32
    assert got.shape == (steps, batch, size)
    for t, b, n in np.ndindex(got.shape):
        row = x[t, b] if sequence else x[b]
        assert int(got[t, b, n]) == exact_current(weight[n], bias[n], shift, row)


@pytest.mark.parametrize("total, shift, expected", [(1, 1, 1), (-1, 1, 0), (3, 1, 2), (-3, 1, -1), (5, 2, 1), (6, 2, 2)])
def test_halves_are_rounded_up(total, shift, expected):
    host = HostInput("current", 1, targets=("a",), weight=[[0]], bias=[total], shift=shift)
    assert host.encode(np.zeros((1, 1)), 1).item() == expected


def test_a_wide_product_stays_exact():
    rng = np.random.default_rng(3)
    weight, x = rng.integers(-32_767, 32_768, (3, 2000)), rng.uniform(-31.9, 31.9, (2, 2000))
    host = HostInput("current", 3, targets=("a",), weight=weight, bias=np.array([1, -1, 0]), shift=30)
    expected = [[exact_current(weight[n], host.bias[n], 30, x[b]) for n in range(3)] for b in range(2)]
    np.testing.assert_array_equal(host.encode(x, 1)[0], expected)


@PROOF
@given(data=st.data(), offset=st.sampled_from([0.0, -1.5, 0.25]), step=st.sampled_from([0.25, 0.5, 2.0]))
def test_payloads_are_the_exact_rational_result(data, offset, step):
    wanted = data.draw(st.lists(st.integers(0, 1020), min_size=4, max_size=4))
    x = np.array([offset + step * quarter / 4 for quarter in wanted]).reshape(2, 2)
    host = HostInput("graded", 2, offset=offset, step=step)
    expected = [[round((Fraction(float(v)) - Fraction(offset)) / Fraction(step)) for v in row] for row in x]
    for now in host.encode(x, 3):
        np.testing.assert_array_equal(now, expected)


@pytest.mark.parametrize(
    "host, low, high",
    [
        (HostInput("current", 2, targets=("a",)), -CURRENT_MAX, CURRENT_MAX),
        (HostInput("graded", 2), 0, 255),
        (HostInput("spikes", 2), 0, 1),
    ],
)
@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.uint16])
def test_integers_are_taken_as_they_are_up_to_the_limits(host, low, high, dtype):
    low = max(low, np.iinfo(dtype).min)
    constant = np.array([[low, high], [high, low]], dtype)
    every_step = np.stack([constant, constant[::-1], constant])
    got = host.encode(constant, 3)
    assert got.shape == (3, 2, 2)
    for now in got:
        np.testing.assert_array_equal(now, constant)
    np.testing.assert_array_equal(host.encode(every_step, 3), every_step)
    with pytest.raises(LimitError, match=rf"is {high + 1} at index \(1, 0\).*\[{-CURRENT_MAX if high > 255 else 0}, {high}\]"):
        host.encode(np.array([[low, high], [high + 1, low]], dtype), 3)
    if np.dtype(dtype).kind == "i":
        bound = -CURRENT_MAX if high > 255 else 0
        with pytest.raises(LimitError, match=rf"is {bound - 1} at index \(0, 1\)"):
            host.encode(np.array([[low, bound - 1]], dtype), 3)


def test_integers_far_out_are_refused_and_not_wrapped():
    for value in (1 << 32, (1 << 63) - 1, -(1 << 63)):
        with pytest.raises(LimitError, match=str(value)):
            HostInput("spikes", 1).encode(np.array([[value]]), 2)
    with pytest.raises(LimitError, match=str((1 << 64) - 1)):
        HostInput("spikes", 1).encode(np.array([[(1 << 64) - 1]], np.uint64), 2)


@pytest.fixture
def hosts():
    weight, bias = np.array([[1 << 14, 0]]), np.array([0])
    return {
        "current": HostInput("current", 1, targets=("a",), weight=weight, bias=bias, shift=11),
        "graded": HostInput("graded", 2, offset=0.0, step=1 / 255),
        "spikes": HostInput("spikes", 2),
    }


@pytest.mark.parametrize("form", ["current", "graded", "spikes"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_not_a_number_and_infinity(hosts, form, bad, dtype):
    with pytest.raises(ValueError, match=r"1 values that are NaN or infinite \(first at index \(1, 0\)\)"):
        hosts[form].encode(np.array([[0, 0], [bad, 0]], dtype), 2)


@pytest.mark.parametrize("form", ["current", "graded", "spikes"])
@pytest.mark.parametrize("shape", [(2,), (3, 3), (0, 2), (4, 1, 2), (3, 0, 2), (3, 1, 3), (1, 3, 1, 2), ()])
def test_wrong_shapes_and_empty_batches(hosts, form, shape):
    with pytest.raises(ValueError, match=r"does not fit; expected \[batch, 2\] or \[3 \(time\), batch, 2\]"):
        hosts[form].encode(np.zeros(shape), 3)


@pytest.mark.parametrize("dtype", [bool, object, complex, "U1"])
def test_neither_floats_nor_integers(hosts, dtype):
    with pytest.raises(TypeError, match=r"pass floats .* or integers"):
        hosts["spikes"].encode(np.zeros((1, 2)).astype(dtype), 3)


@pytest.mark.parametrize("value", [32.0, -32.0, 1e6, 1e300, -1e300])
def test_data_beyond_the_hosts_range(hosts, value):
    with pytest.raises(LimitError, match="stay below 32; rescale"):
        hosts["current"].encode(np.array([[0.0, value]]), 3)


def test_current_overflow_names_the_remedy(hosts):
    # weight 2^14, shift 11: the current is 8192 x.
    assert hosts["current"].encode(np.array([[1023 / 1024, 0.0]]), 1).item() == 8184
    with pytest.raises(LimitError, match=r"input current is 8192 at index \(0, 0\).*8190\].*`calibration` to quantize"):
        hosts["current"].encode(np.array([[1.0, 0.0]]), 1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [256 / 255, -1 / 255, 1e300, -1e300])
def test_payload_overflow_names_the_remedy(hosts, value):
    with pytest.raises(LimitError, match=r"graded input is .*\[0, 255\].*`calibration` to quantize"):
        hosts["graded"].encode(np.array([[0.5, value]]), 3)


@pytest.mark.filterwarnings("error")
def test_a_payload_that_overflows_to_infinity_is_refused():
    with pytest.raises(LimitError, match="graded input is inf"):
        HostInput("graded", 1, step=1e-300).encode(np.array([[1e300]]), 3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "value, error", [(0.5, ValueError), (1e-9, ValueError), (2.0, LimitError), (-1.0, LimitError), (1e300, LimitError)]
)
def test_spike_data_are_zero_or_one(hosts, value, error):
    assert hosts["spikes"].encode(np.array([[0.0, 1.0]]), 1).tolist() == [[[0, 1]]]
    with pytest.raises(error, match=r"0 or 1|0\.0 or 1\.0"):
        hosts["spikes"].encode(np.array([[0.0, value]]), 1)


def test_floats_need_a_stage_that_takes_them():
    with pytest.raises(TypeError, match="no host weights; pass integer currents"):
        HostInput("current", 2, targets=("a",)).encode(np.zeros((1, 2)), 1)
    with pytest.raises(TypeError, match=r"no range for graded input; pass integers 0\.\.255"):
        HostInput("graded", 2).encode(np.zeros((1, 2)), 1)


def test_latency_in_closed_form():
    x = np.array([[0.0, 1.0, 0.5, 0.25, 0.01]])
    got = HostInput("spikes", 5, encoding="latency").encode(x, 5)[:, 0]
    assert [np.flatnonzero(column).tolist() for column in got.T] == [[], [0], [2], [3], [4]]


@pytest.mark.parametrize("encoding", ["rate", "latency"])
def test_codes_are_the_same_every_time(encoding):
    x = np.random.default_rng(1).random((6, 5)).astype(np.float32)
    host = HostInput("spikes", 5, encoding=encoding)
    torch.manual_seed(1)
    first = host.encode(x, 20)
    torch.manual_seed(2)
    torch.rand(3)
    np.testing.assert_array_equal(host.encode(x, 20), first)
    assert set(np.unique(first)) == {0, 1}


def test_rate_spikes_as_often_as_it_should():
    x, steps = np.array([[0.0, 1.0, 0.25, 0.75]]), 4000
    means = HostInput("spikes", 4, encoding="rate").encode(x, steps).mean((0, 1))
    assert means[:2].tolist() == [0, 1]
    # Six standard deviations of a binomial share.
    np.testing.assert_allclose(means[2:], [0.25, 0.75], atol=6 * np.sqrt(0.25 * 0.75 / steps))


def test_codes_leave_sequences_as_they_are():
    x = np.random.default_rng(1).integers(0, 2, (4, 3, 2)).astype(np.float64)
    np.testing.assert_array_equal(HostInput("spikes", 2, encoding="rate").encode(x, 4), x)


@pytest.mark.parametrize("encoding", ["rate", "latency"])
def test_codes_take_intensities(encoding):
    with pytest.raises(ValueError, match=rf"the {encoding} code takes intensities in \[0, 1\], got values from 0 to 1.5"):
        HostInput("spikes", 2, encoding=encoding).encode(np.array([[0.0, 1.5]]), 4)


WEIGHTS = {"weight": [[1, 2]], "bias": [0], "shift": 10}


@pytest.mark.parametrize(
    "fields, error, match",
    [
        ({"form": "currnt"}, UnknownNameError, "Did you mean 'current'"),
        ({"encoding": "latncy"}, UnknownNameError, "Did you mean 'latency'"),
        ({"size": 0}, LimitError, "input size is 0"),
        ({"size": 1.0}, TypeError, "input size is 1.0; it must be an integer"),
        ({"targets": ()}, ValueError, "target populations, each once, belong to"),
        ({"form": "spikes"}, ValueError, "target populations, each once, belong to"),
        ({"weight": None}, ValueError, "weight and bias belong together"),
        ({"bias": None}, ValueError, "weight and bias belong together"),
        ({"form": "graded", "targets": ()}, ValueError, "belong together, to input of the form 'current'"),
        ({"weight": [[1.0, 2.0]]}, TypeError, "float64.*must be integers"),
        ({"bias": [0.0]}, TypeError, "float64.*must be integers"),
        ({"weight": [[1, 32_768]]}, LimitError, r"host weight is 32768 at index \(0, 1\).*16 bits"),
        ({"weight": [[1, -32_768]]}, LimitError, "host weight is -32768"),
        ({"bias": [(1 << 50) + 1]}, LimitError, "host bias is 1125899906842625"),
        ({"shift": 0}, LimitError, r"host shift is 0.*\[1, 40\]"),
        ({"shift": 41}, LimitError, r"host shift is 41.*\[1, 40\]"),
        ({"shift": 10.0}, TypeError, "host shift is 10.0; it must be an integer"),
        ({"weight": [[1], [2]]}, ValueError, r"host weight \(2, 1\).*size 1"),
        ({"bias": [0, 0]}, ValueError, r"bias \(2,\) do not fit an input of size 1"),
        ({"offset": np.nan}, ValueError, "offset nan.*finite"),
        ({"step": -1.0}, ValueError, "step -1.0.*>= 0"),
        ({"step": np.inf}, ValueError, "step inf.*finite"),
    ],
)
def test_hosts_that_do_not_fit(fields, error, match):
    valid = {"form": "current", "size": 1, "targets": ("a",)} | WEIGHTS
    assert HostInput(**valid).features == 2
    with pytest.raises(error, match=match):
        HostInput(**valid | fields)


def test_host_arrays_are_read_only_copies():
    weight = np.array([[1, 2]])
    host = HostInput("current", 1, targets=("a",), weight=weight, bias=np.array([0]), shift=10)
    weight[...] = 9
    assert host.weight.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="read-only"):
        host.bias[...] = 1
