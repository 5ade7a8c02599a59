"""Population and Connection: every limit, at its last good value and one beyond."""

import numpy as np
import pytest

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.fixed_point.graph import Connection, Population


def refuses(error, *fragments):
    """An error whose message holds all fragments, in this order."""
    return pytest.raises(error, match="(?s)" + ".*".join(fragments))


@pytest.mark.parametrize(
    "key, low, high, remedy",
    [
        ("size", 1, 1 << 24, "at least one neuron"),
        ("vth", 0, 131_071, "Lower the membrane scale"),
        ("delta", 0, 131_071, "Lower the membrane scale"),
        ("dv", 0, 4096, "dv/4096"),
        ("bias_mant", -4096, 4095, "Raise bias_exp"),
        ("bias_exp", 0, 7, "Lower the membrane scale"),
        ("v_init", -8_388_607, 8_388_607, "24 bits"),
        ("t_start", 0, 1 << 30, "counted from 0"),
        ("scale_bits", -512, 512, "normal float"),
    ],
)
def test_population_limits(key, low, high, remedy):
    assert np.all(getattr(Population("a", **{"size": 2} | {key: low}), key) == low)
    if key != "size":
        assert np.all(getattr(Population("a", **{"size": 2} | {key: high}), key) == high)
    for value in (low - 1, high + 1):
        with refuses(LimitError, "'a'", key, f" is {value}", rf"\[{low}, {high}\]", remedy):
            Population("a", **{"size": 2} | {key: value})


@pytest.mark.parametrize("key", ["size", "vth", "delta", "dv", "bias_exp", "v_init", "t_start", "scale_bits"])
@pytest.mark.parametrize("value", [1.0, True, "1", np.float32(2.0), np.array([1])])
def test_population_numbers_must_be_integers(key, value):
    with refuses(TypeError, "'a'", key, "must be an integer"):
        Population("a", **{"size": 2} | {key: value})


@pytest.mark.parametrize("value", [0.0, [1.0, 2.0], np.array([True, False]), np.array([0.5, 1.5]), [10**30, 0]])
def test_bias_must_be_integers(value):
    with refuses(TypeError, "'a'", "bias_mant", "must be integers"):
        Population("a", 2, bias_mant=value)


def test_population_values_are_named_by_index():
    with refuses(LimitError, "bias_mant is 4096 at index 2"):
        Population("a", 3, bias_mant=[0, 1, 4096])
    with refuses(LimitError, "bias_mant is 1099511627776", "int16"):
        Population("a", 1, bias_mant=1 << 40)
    with refuses(ValueError, "bias_mant", r"\(2,\)", r"\(3,\)"):
        Population("a", 3, bias_mant=[0, 1])


def test_numpy_integers_become_plain_ones():
    population = Population("a", np.int64(2), vth=np.uint8(5), bias_mant=np.array([1, 2], dtype=np.uint64))
    assert type(population.size) is int
    assert type(population.vth) is int
    assert population.delta == 5
    assert population.bias_mant.dtype == np.int16


@pytest.mark.parametrize("name", ["input", "", "a b", "1a", "a/b", "a.b"])
def test_population_names(name):
    with refuses(ValueError, "letters, digits and underscores"):
        Population(name, 1)


@pytest.mark.parametrize("kind, near", [("LIF", "lif"), ("soft_reset", "soft_reset_lif"), ("acumulator", "accumulator")])
def test_unknown_kinds_give_the_nearest(kind, near):
    with refuses(UnknownNameError, repr(kind), f"Did you mean '{near}'"):
        Population("a", 1, kind)


@pytest.mark.parametrize("delta", [3, 0])
def test_stock_lif_resets_to_zero(delta):
    assert Population("a", 1, "lif", vth=5, delta=5).delta == 5
    with refuses(ValueError, "'a'", "resets to zero"):
        Population("a", 1, "lif", vth=5, delta=delta)


@pytest.mark.parametrize(
    "key, low, high, remedy",
    [
        ("du", -1, 4095, r"\(du \+ 1\)/4096"),
        ("u_init", -8_388_607, 8_388_607, "24 bits"),
        ("reset_interval", 0, 1 << 30, "never"),
        ("reset_offset", 0, 1 << 30, "from 1"),
    ],
)
def test_limits_of_stock_lifs(key, low, high, remedy):
    for value in (low, high):
        assert getattr(Population("a", 2, "lif", **{key: value}), key) == value
    for value in (low - 1, high + 1):
        with refuses(LimitError, "'a'", f"{key} is {value}", rf"\[{low}, {high}\]", remedy):
            Population("a", 2, "lif", **{key: value})
    with refuses(TypeError, "'a'", key):
        Population("a", 2, "lif", **{key: 1.0})


@pytest.mark.parametrize("key", ["u_init", "v_init"])
def test_initial_states_of_single_stock_lifs(key):
    np.testing.assert_array_equal(getattr(Population("a", 2, "lif", **{key: [-3, 4]}), key), [-3, 4])
    with refuses(LimitError, "'a'", f"{key} is 8388608 at index 1", "24 bits"):
        Population("a", 2, "lif", **{key: [0, 1 << 23]})
    with refuses(ValueError, "'a'", key, r"\(3,\)", r"\(2,\)"):
        Population("a", 2, "lif", **{key: [0, 1, 2]})
    with refuses(TypeError, "'a'", "v_init", "must be an integer"):
        Population("a", 2, v_init=[0, 1])


@pytest.mark.parametrize("kind", ["soft_reset_lif", "accumulator", "relay"])
@pytest.mark.parametrize("extra", [{"du": 0}, {"u_init": 1}, {"reset_interval": 5}, {"reset_offset": 1}])
def test_only_stock_lifs_filter_their_current_and_reset_at_fixed_times(kind, extra):
    with refuses(ValueError, "'a'", "belong to stock LIFs", kind):
        Population("a", 1, kind, **extra)


@pytest.mark.parametrize("extra", [{"dv": 1}, {"v_init": 1}, {"bias_mant": 1}])
def test_relays_have_no_parameters(extra):
    with refuses(ValueError, "'a'", "a relay sends its synaptic sum as it is"):
        Population("a", 1, "relay", **extra)


@pytest.mark.parametrize("value", [-258, 256, 1 << 20])
def test_weights_out_of_range(value):
    with refuses(LimitError, "input_to_a", rf"weight is {value} at index \(1, 0\)"):
        Connection("input", "a", [[2, -256], [value, 254]])


def test_weights_at_the_limits_are_kept():
    weight = np.array([[-256, 254, 0, 2]])
    np.testing.assert_array_equal(Connection("input", "a", weight).weight, weight)


@pytest.mark.parametrize("value", [1, -1, 253, -255])
def test_odd_weights(value):
    with refuses(LimitError, "input_to_a", f"weight {value} is odd", "even"):
        Connection("input", "a", [[2, value]])


@pytest.mark.parametrize("weight", [2, [2, 4], np.zeros((0, 3), int), np.zeros((3, 0), int), np.zeros((1, 1, 1), int)])
def test_weights_are_matrices(weight):
    with refuses(ValueError, "weight has shape", r"\[n_target, n_source\]"):
        Connection("input", "a", weight)


@pytest.mark.parametrize("field, value", [("weight", [[2.0]]), ("weight", [[True]]), ("delay", 1.0), ("delay", [[0.0]])])
def test_synapses_must_be_integers(field, value):
    with refuses(TypeError, "input_to_a", field, "must be integers"):
        Connection("input", "a", **{"weight": [[2]]} | {field: value})


@pytest.mark.parametrize("value", [1.5, 1.0, True, None])
def test_the_exponent_must_be_an_integer(value):
    with refuses(TypeError, "exponent", "must be an integer"):
        Connection("input", "a", [[2]], exponent=value)


@pytest.mark.parametrize("field, low, high", [("exponent", -8, 7), ("delay", 0, 62)])
def test_connection_limits(field, low, high):
    for value in (low, high):
        assert getattr(Connection("input", "a", [[2, 4]], **{field: value}), field) == value
    for value in (low - 1, high + 1):
        with refuses(LimitError, "input_to_a", f"{field} is {value}", rf"\[{low}, {high}\]"):
            Connection("input", "a", [[2, 4]], **{field: value})


def test_delays_by_synapse():
    connection = Connection("input", "a", [[2, 4]], delay=[[0, 62]])
    assert connection.max_delay == 62
    with refuses(LimitError, r"delay is 63 at index \(0, 1\)", "0..62"):
        Connection("input", "a", [[2, 4]], delay=[[0, 63]])
    with refuses(ValueError, r"delay has shape \(2,\)", r"\(1, 2\)"):
        Connection("input", "a", [[2, 4]], delay=[0, 1])


@pytest.mark.parametrize("mode, low, high", [("excitatory", 0, 255), ("inhibitory", -255, 0)])
def test_weights_of_one_sign_may_be_odd(mode, low, high):
    weight = np.array([[low, high, (low + high) // 2]])
    np.testing.assert_array_equal(Connection("input", "a", weight, sign_mode=mode).weight, weight)
    for value in (low - 1, high + 1):
        with refuses(LimitError, "input_to_a", f"weight is {value}", rf"\[{low}, {high}\]", mode):
            Connection("input", "a", [[value]], sign_mode=mode)
    with refuses(UnknownNameError, "sign mode of connection input_to_a", "'excitator'", f"{mode}"):
        Connection("input", "a", weight, sign_mode="excitator")


def test_sums_that_are_shifted_right_have_no_delays():
    assert Connection("input", "a", [[2, 4]], exponent=-1).exponent == -1
    with refuses(ValueError, "input_to_a", "exponent is -1", "delays"):
        Connection("input", "a", [[2, 4]], exponent=-1, delay=[[0, 3]])


def test_labels_tell_connections_apart():
    assert Connection("a", "b", [[2]], label="late").name == "a_to_b_late"
    for label in ("a b", "a/b", 1):
        with refuses(ValueError, "label", "letters, digits and underscores"):
            Connection("a", "b", [[2]], label=label)
    with refuses(TypeError, "binary"):
        Connection("a", "b", [[2]], binary=1)


def test_bound_of_shifted_sums():
    # Of sums down to -6, floor(-6 / 4) = -2.
    assert Connection("input", "a", [[2, -4]], exponent=-2).bound(1) == 2
    assert Connection("input", "a", [[2, -4]], exponent=-2).reach(3) == 18
    assert Connection("input", "a", [[2, -4]], binary=True).bound(255) == 6


def test_bound_is_the_largest_row_sum():
    assert Connection("input", "a", [[2, -4], [254, -256]], exponent=3).bound(255) == (254 + 256) * 255 * 8
