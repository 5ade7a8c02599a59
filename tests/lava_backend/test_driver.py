"""The in-process driver equals Lava's runtime, for this library's and for stock models."""

import logging

import numpy as np
import pytest
from lava.magma.core.process.process import ProcessServer
from lava.magma.core.process.variable import VarServer
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.lif.process import LIF

from lava_snnlearn.lava_backend import InProcessModel, run_config, run_guarded
from lava_snnlearn.processes import Recorder, SampleSource, SoftResetLIF


def stock_network():
    rng = np.random.default_rng(3)
    weights = rng.integers(-60, 80, (4, 6)) * 2
    return (
        Dense(weights=weights, num_message_bits=8),
        LIF(shape=(4,), vth=60, du=700, dv=100, bias_mant=40, bias_exp=2),
        rng.integers(0, 3, (40, 6)),
    )


def test_stock_models_equal_the_runtime():
    dense, neuron, data = stock_network()
    source, recorder = SampleSource(data=data), Recorder(shape=(4,), steps=40)
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(neuron.a_in)
    neuron.s_out.connect(recorder.s_in)
    recorder.v_ref.connect_var(neuron.v)
    run_guarded(neuron, 40, run_config("fixed_pt"))

    dense, neuron, data = stock_network()
    dense, neuron = InProcessModel(dense), InProcessModel(neuron)
    spikes, membranes = [], []
    for row in data:
        spikes.append(neuron.step(a_in=dense.step(s_in=row)["a_out"])["s_out"])
        membranes.append(neuron.read("v"))
    assert np.array(spikes).any()
    assert np.array_equal(recorder.spikes, spikes)
    assert np.array_equal(recorder.membranes, membranes)
    assert recorder.membranes.dtype == np.int32


def test_inputs_and_outputs():
    neuron = InProcessModel(SoftResetLIF(shape=(2,), vth=3))
    assert neuron.step(a_in=[3, 2])["s_out"].tolist() == [1, 0]
    assert neuron.step()["s_out"].tolist() == [0, 0]  # a missing input is silence, not the last one
    assert neuron.step(a_in=[2, 1])["s_out"].dtype == np.int32
    with pytest.raises(KeyError, match=r"'x' is no InPort of PySoftResetLIFFixed.*InPorts: a_in"):
        neuron.step(x=[1, 1])
    before = neuron.read("v")
    neuron.read("v")[:] = 99
    assert np.array_equal(neuron.read("v"), before)


def test_wrong_shape_is_refused():
    class WrongShape:
        shape = (3,)

    neuron = InProcessModel(SoftResetLIF(shape=(2,), vth=3))
    with pytest.raises(ValueError, match="broadcast"):
        neuron.step(a_in=np.ones(WrongShape.shape))


def test_nothing_is_kept_by_lava():
    def sizes():
        return len(ProcessServer().processes), len(VarServer().vars), len(logging.getLogger().handlers)

    before = sizes()
    for _ in range(3):
        InProcessModel(SoftResetLIF(shape=(2,), vth=3)).step(a_in=[1, 1])
    assert sizes() == before


def test_model_that_does_not_exist():
    with pytest.raises(AssertionError, match="no_such_tag"):
        InProcessModel(Sink(shape=(2,), buffer=2), "no_such_tag")
