"""from_lava: runs on other data than a graph's own, and all that is refused."""

import re

import numpy as np
import pytest
from lava.lib.dl.netx.blocks import process as netx
from lava.magma.core.learning.learning_rule import Loihi2FLearningRule
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense, LearningDense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF, TernaryLIF

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.lava_backend.importing import LavaImportError
from lava_snnlearn.lava_backend.runner import guarded
from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF

STEPS = 14


# ---- other data -------------------------------------------------------------------------------------------------------------


def test_other_data_in_batches(chain, pulses):
    data = pulses(2, seed=1, steps=9)
    source, _, neuron = chain()
    imported = snn.from_lava(neuron, STEPS)
    batch = np.stack([np.moveaxis(pulses(2, seed=seed, steps=9), -1, 0) for seed in (1, 2)], axis=1)
    trace = imported.run(signal={source.name: batch})
    assert trace.spikes["neuron"].shape == (9, 2, 2)
    _, _, again = chain(Source(data=data))
    np.testing.assert_array_equal(trace.spikes["neuron"][:, :1], snn.from_lava(again, 9).run().spikes["neuron"])
    np.testing.assert_array_equal(imported.run(5).spikes["neuron"], imported.run().spikes["neuron"][:5])
    np.testing.assert_array_equal(imported.run(signal=imported.signal).spikes["neuron"], imported.run().spikes["neuron"])


def test_larger_data_than_those_of_the_sources(chain):
    source, _, neuron = chain()
    batch = np.full((4, 1, 2), 200)
    with pytest.raises(LimitError, match=r"from 200 to 200.*imported for 0 to 1.*from_lava\(\.\.\., largest_input=200\)"):
        snn.from_lava(neuron, STEPS).run(signal={source.name: batch})
    # Without message bits Lava's Dense hears anything but 0 as a spike.
    imported = snn.from_lava(neuron, STEPS, largest_input=200)
    ones = imported.run(signal={source.name: np.ones((4, 1, 2), int)})
    np.testing.assert_array_equal(imported.run(signal={source.name: batch}).spikes["neuron"], ones.spikes["neuron"])
    with pytest.raises(LimitError, match=r"from 201 to 201, .*largest_input=201"):
        imported.run(signal=np.full((4, 1, 2), 201))


def test_negative_data_where_there_were_spikes(chain):
    source, _, neuron = chain()
    batch = np.full((4, 1, 2), -1)
    with pytest.raises(LimitError, match=r"from -1 to -1.*largest_input=2"):
        snn.from_lava(neuron, STEPS).run(signal={source.name: batch})
    assert snn.from_lava(neuron, STEPS, largest_input=2).run(signal={source.name: batch}).spikes["neuron"].any()


def test_larger_currents():
    """Two sources that meet: the remedy holds for their sum."""
    neuron = LIF(shape=(2,), vth=90, name="neuron")
    for name, value in (("one", 50), ("two", 3)):
        source = Source(data=np.full((2, STEPS), value))
        source.name = name
        source.s_out.connect(neuron.a_in)
    batch = np.full((4, 1, 2), 60)
    with pytest.raises(LimitError, match=r"from 110 to 110.*imported for -53 to 53.*largest_input=60"):
        snn.from_lava(neuron, STEPS).run(signal={"two": batch})
    assert snn.from_lava(neuron, STEPS, largest_input=60).run(signal={"two": batch}).spikes["neuron"].any()


def test_wrong_data(chain):
    source, _, neuron = chain()
    imported = snn.from_lava(neuron, STEPS)
    with pytest.raises(UnknownNameError, match="unknown source 'sauce'"):
        imported.run(signal={"sauce": np.zeros((4, 1, 2), int)})
    with pytest.raises(TypeError, match="dtype float64"):
        imported.run(signal={source.name: np.zeros((4, 1, 2))})
    with pytest.raises(ValueError, match=r"shape \(4, 1, 3\), expected \[T, B, 2\]"):
        imported.run(signal={source.name: np.zeros((4, 1, 3), int)})
    with pytest.raises(ValueError, match=r"signal has shape \(4, 2\), expected \[T, B, 2\]"):
        imported.run(signal=np.zeros((4, 2), int))
    with pytest.raises(ValueError, match="imported for 14 steps, and 15"):
        imported.run(15)
    with pytest.raises(UnknownNameError, match="unknown process 'neuro'"):
        imported.spikes(imported.run(), "neuro")


# ---- refusals ---------------------------------------------------------------------------------------------------------------


def refused(process, *fragments, error=LavaImportError):
    with pytest.raises(error, match="(?s)" + ".*".join(fragments)):
        snn.from_lava(process, STEPS)


def test_unknown_processes_are_named():
    ternary = TernaryLIF(shape=(2,), name="three")
    refused(ternary, "process 'three' is a TernaryLIF", "Conv", "Dense", "LIF", "SoftResetLIF")
    rule = Loihi2FLearningRule(dw="x0", x1_impulse=1, x1_tau=1, y1_impulse=1, y1_tau=1, t_epoch=1)
    refused(LearningDense(weights=np.eye(2), learning_rule=rule, name="plastic"), "'plastic' is a LearningDense")


class MyLIF(LIF):
    """A class of a user's own may have models of its own."""


def test_subclasses_are_unknown():
    refused(MyLIF(shape=(1,), name="mine"), "'mine' is a MyLIF")


@pytest.mark.parametrize(
    "options, fragments",
    [
        ({"du": 0.5}, ("du is the float 0.5", "1/4096")),
        ({"vth": 1.5}, ("vth is the float 1.5",)),
        ({"bias_mant": 0.25}, ("bias_mant holds fractions, e.g. 0.25", "floating_pt")),
        ({"v": np.array([0.0, 0.5])}, ("v holds fractions, e.g. 0.5",)),
        ({"du": np.array([3, 4])}, ("du differs from neuron to neuron",)),
    ],
)
def test_parameters_of_float_models(options, fragments):
    # Lava's Var takes one value for all neurons; an array of its shape gets in unnoticed.
    values = {key: options[key] for key in options if np.ndim(options[key]) and key == "du"}
    neuron = LIF(shape=(2,), name="neuron", **{key: value for key, value in options.items() if key not in values})
    for key, value in values.items():
        getattr(neuron, key).init = value
    refused(neuron, "'neuron' ", *map(re.escape, fragments))


@pytest.mark.parametrize(
    "options, fragments",
    [
        ({"vth": 1 << 17}, ("vth is 131072",)),
        ({"dv": 5000}, ("dv is 5000",)),
        ({"du": -2}, ("du is -2",)),
        ({"bias_mant": 5001}, ("from 5001 to 5001", "bias_exp of 0..7", "-4096..4095")),
        ({"bias_mant": -32769}, ("bias_mant reaches from -32769 to -32769", "int16")),
        ({"bias_mant": 3000, "bias_exp": 9}, ("1536000", "bias_exp of 0..7")),
        ({"u": 1 << 23}, ("u_init is 8388608",)),
    ],
)
def test_parameters_out_of_range(options, fragments):
    refused(LIF(shape=(2,), name="neuron", **options), "'neuron'", *map(re.escape, fragments), error=LimitError)


def test_processes_that_pause():
    """Fewer steps help only where the process is active from the first one on."""
    times = {"t_stop": 8, "reset_interval": 20}
    late = SoftResetLIF(shape=(2,), vth=5, dv=0, bias_mant=1, t_start=2, name="late", **times)
    refused(late, r"process 'late' \(SoftResetLIF\) is active in the steps 2 to 8", "steps. Keep the FixedNetwork")
    soon = SoftResetLIF(shape=(2,), vth=5, dv=0, bias_mant=1, name="soon", **times)
    refused(soon, "steps. Import at most 8 steps, or keep the FixedNetwork")
    assert snn.from_lava(soon, 8).run().membranes["soon"][:, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_fractional_weights():
    refused(Dense(weights=np.array([[0.5]]), name="dense"), "'dense'", "weights holds fractions")


def test_sums_under_way(chain):
    _, dense, neuron = chain()
    dense.a_buff.init = 3
    refused(neuron, dense.name, "starts with sums under way")


def test_delays_beyond_the_chip(chain):
    _, _, neuron = chain()
    late = DelayDense(weights=np.array([[2, 4]]), delays=np.array([[0, 63]]), max_delay=63)
    other = LIF(shape=(1,), name="other")
    neuron.s_out.connect(late.s_in)
    late.a_out.connect(other.a_in)
    refused(neuron, "delay is 63", error=LimitError)


def test_delays_with_sums_that_lava_rounds_one_by_one(chain):
    _, _, neuron = chain()
    late = DelayDense(weights=np.array([[16, 24]]), delays=np.array([[0, 3]]), max_delay=3, weight_exp=-4, name="late")
    other = LIF(shape=(1,), name="other")
    neuron.s_out.connect(late.s_in)
    late.a_out.connect(other.a_in)
    refused(neuron, "'late'", "weight 24", "multiples of 16", "weight_exp")


def test_synapses_that_nothing_feeds():
    dense, neuron = Dense(weights=np.full((3, 4), 6), name="dense"), LIF(shape=(3,), vth=10, name="neuron")
    dense.a_out.connect(neuron.a_in)
    refused(neuron, "nothing feeds port 's_in' of process 'dense'", "RingBuffer")


def test_containers_that_nothing_feeds():
    block = netx.Dense(shape=(3,), weight=np.full((3, 4), 6), neuron_params={"neuron_proc": LIF, "vth": 10}, name="block")
    refused(block, "nothing feeds port 'inp' of process 'block'", "RingBuffer")


def test_processes_that_have_run(chain):
    _, _, neuron = chain()
    with guarded(neuron) as network:
        network.run(3)
        with pytest.warns(UserWarning, match=r"'neuron'.*has been run.*as it was built"):
            imported = snn.from_lava(neuron, STEPS)
    *_, fresh = chain()
    np.testing.assert_array_equal(imported.run().spikes["neuron"], snn.from_lava(fresh, STEPS).run().spikes["neuron"])


def test_spikes_without_a_connection():
    first, second = LIF(shape=(2,), name="first"), LIF(shape=(2,), name="second")
    first.s_out.connect(second.a_in)
    refused(first, r"'second' \(LIF\) hears the spikes of process 'first' \(LIF\) in the same step")


def test_sums_of_spikes_on_a_binary_connection(chain):
    _, dense, neuron = chain()
    neuron.s_out.connect(dense.s_in)
    refused(neuron, dense.name, "without message bits hears the sum of 2")


def test_connections_in_a_circle(chain):
    _, dense, neuron = chain()
    back = Dense(weights=2 * np.eye(2, dtype=int), num_message_bits=8)
    dense.a_out.connect(back.s_in)
    back.a_out.connect(dense.s_in)
    refused(neuron, "in a circle", error=LimitError)


def test_names_that_are_not_unique(chain):
    _, _, neuron = chain()
    dense, twin = Dense(weights=2 * np.eye(2, dtype=int)), LIF(shape=(2,), name="neuron")
    neuron.s_out.connect(dense.s_in)
    dense.a_out.connect(twin.a_in)
    refused(neuron, r"several processes have the names \['neuron'\]")


def test_large_kernels(pulses):
    source = Source(data=pulses(4, 4, 1))
    conv = Conv(weight=np.full((1, 3, 3, 1), 301), input_shape=(4, 4, 1), name="conv")
    source.s_out.connect(conv.s_in)
    conv.a_out.connect(Sink(shape=conv.output_shape, buffer=STEPS).a_in)
    refused(conv, "'conv'", "weights from 301 to 301", error=LimitError)


def test_sums_of_a_convolution_that_lava_wraps():
    source = Source(data=np.full((4, 4, 1, STEPS), 40_000))
    conv = Conv(weight=np.full((1, 3, 3, 1), 100), input_shape=(4, 4, 1), name="conv", num_message_bits=8)
    source.s_out.connect(conv.s_in)
    conv.a_out.connect(Sink(shape=conv.output_shape, buffer=STEPS).a_in)
    refused(conv, "'conv'", "36000000, more than 8388607", error=LimitError)


def test_sums_of_delays_that_lava_wraps_before_it_shifts_them():
    source = Source(data=np.full((64, STEPS), 1 << 18))
    weights, delays = np.full((1, 64), 128), np.arange(64).reshape(1, 64) % 5
    synapses = DelayDense(weights=weights, delays=delays, weight_exp=-7, num_message_bits=24, name="delayed")
    neuron = LIF(shape=(1,), du=4095, name="neuron")
    source.s_out.connect(synapses.s_in)
    synapses.a_out.connect(neuron.a_in)
    refused(neuron, "'delayed'", "2147483648, more than 2147483647", error=LimitError)


def test_no_process_and_nothing_to_run(pulses):
    with pytest.raises(TypeError, match="any process of the graph"):
        snn.from_lava("lif", STEPS)
    with pytest.raises(ValueError, match="steps"):
        snn.from_lava(LIF(shape=(1,)), 0)
    refused(Source(data=pulses(2)), "neither neurons nor connections")


def test_the_same_biases_with_other_exponents(compare):
    """Mantissas of more than 13 bits, which Lava holds in int16, where a larger exponent writes the same bias."""
    for mantissa, exponent in ((5000, 0), (-8192, 3), (np.array([32_000, -5000]), 1), (3, 9)):
        imported, _ = compare(LIF(shape=(2,), vth=2000, bias_mant=mantissa, bias_exp=exponent, name="neuron"))
        [neuron] = imported.network.populations
        assert np.abs(neuron.bias_mant).max() <= 4096
