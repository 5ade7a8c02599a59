"""from_lava: runs on other data than a graph's own, and all that is refused."""

import re

import numpy as np
import pytest
from lava.magma.core.learning.learning_rule import Loihi2FLearningRule
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense, LearningDense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF, TernaryLIF

import lava_snnlearn as snn
from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.lava_backend.importing import LavaImportError

STEPS = 14


def pulses(*shape, seed=0, steps=STEPS):
    return np.random.default_rng(seed).integers(0, 2, (*shape, steps))


def chain(source=None, weights=((60, -20), (30, 90)), **options):
    """source -> dense -> neuron."""
    source = Source(data=pulses(2)) if source is None else source
    dense, neuron = Dense(weights=np.array(weights)), LIF(**{"shape": (2,), "vth": 50, "du": 4095, "name": "neuron"} | options)
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(neuron.a_in)
    return source, dense, neuron


# ---- other data -------------------------------------------------------------------------------------------------------------


def test_other_data_in_batches():
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


def test_larger_data_than_those_of_the_sources():
    source, _, neuron = chain()
    batch = np.full((4, 1, 2), 200)
    with pytest.raises(LimitError, match="spike input is 200"):
        snn.from_lava(neuron, STEPS).run(signal={source.name: batch})
    # Without message bits Lava's Dense hears anything but 0 as a spike.
    imported = snn.from_lava(neuron, STEPS, largest_input=255)
    ones = imported.run(signal={source.name: np.ones((4, 1, 2), int)})
    np.testing.assert_array_equal(imported.run(signal={source.name: batch}).spikes["neuron"], ones.spikes["neuron"])


def test_wrong_data():
    source, _, neuron = chain()
    imported = snn.from_lava(neuron, STEPS)
    with pytest.raises(UnknownNameError, match="unknown source 'sauce'"):
        imported.run(signal={"sauce": np.zeros((4, 1, 2), int)})
    with pytest.raises(TypeError, match="dtype float64"):
        imported.run(signal={source.name: np.zeros((4, 1, 2))})
    with pytest.raises(ValueError, match=r"shape \(4, 1, 3\), expected \[T, B, 2\]"):
        imported.run(signal={source.name: np.zeros((4, 1, 3), int)})
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
        ({"bias_mant": 5000}, ("bias_mant reaches from 5000 to 5000",)),
        ({"bias_mant": 3000, "bias_exp": 9}, ("1536000", "bias_exp of 0..7")),
        ({"u": 1 << 23}, ("u_init is 8388608",)),
    ],
)
def test_parameters_out_of_range(options, fragments):
    refused(LIF(shape=(2,), name="neuron", **options), "'neuron'", *map(re.escape, fragments), error=LimitError)


def test_fractional_weights():
    refused(Dense(weights=np.array([[0.5]]), name="dense"), "'dense'", "weights holds fractions")


def test_sums_under_way():
    _, dense, neuron = chain()
    dense.a_buff.init = 3
    refused(neuron, dense.name, "starts with sums under way")


def test_delays_beyond_the_chip():
    _, _, neuron = chain()
    late = DelayDense(weights=np.array([[2, 4]]), delays=np.array([[0, 63]]), max_delay=63)
    other = LIF(shape=(1,), name="other")
    neuron.s_out.connect(late.s_in)
    late.a_out.connect(other.a_in)
    refused(neuron, "delay is 63", error=LimitError)


def test_spikes_without_a_connection():
    first, second = LIF(shape=(2,), name="first"), LIF(shape=(2,), name="second")
    first.s_out.connect(second.a_in)
    refused(first, r"'second' \(LIF\) hears the spikes of process 'first' \(LIF\) in the same step")


def test_sums_of_spikes_on_a_binary_connection():
    _, dense, neuron = chain()
    neuron.s_out.connect(dense.s_in)
    refused(neuron, dense.name, "without message bits hears the sum of 2")


def test_connections_in_a_circle():
    _, dense, neuron = chain()
    back = Dense(weights=2 * np.eye(2, dtype=int), num_message_bits=8)
    dense.a_out.connect(back.s_in)
    back.a_out.connect(dense.s_in)
    refused(neuron, "in a circle", error=LimitError)


def test_names_that_are_not_unique():
    _, _, neuron = chain()
    dense, twin = Dense(weights=2 * np.eye(2, dtype=int)), LIF(shape=(2,), name="neuron")
    neuron.s_out.connect(dense.s_in)
    dense.a_out.connect(twin.a_in)
    refused(neuron, r"several processes have the names \['neuron'\]")


def test_large_kernels():
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


def test_no_process_and_nothing_to_run():
    with pytest.raises(TypeError, match="any process of the graph"):
        snn.from_lava("lif", STEPS)
    with pytest.raises(ValueError, match="steps"):
        snn.from_lava(LIF(shape=(1,)), 0)
    refused(Source(data=pulses(2)), "neither neurons nor connections")
