"""SampleSource and Recorder on Lava's runtime, also together with stock processes."""

import numpy as np
import pytest
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.lif.process import LIF, LIFReset

from lava_snnlearn.lava_backend import InProcessModel, LavaRunError, guarded, run_config, run_guarded
from lava_snnlearn.processes import Recorder, SampleSource, SoftResetLIF

TAGS = ["fixed_pt", "floating_pt"]


@pytest.mark.parametrize("tag, dtype", [("fixed_pt", np.int32), ("floating_pt", np.float64)])
def test_source_to_stock_sink_and_recorder(tag, dtype):
    data = np.random.default_rng(0).integers(-(2**31), 2**31, (4, 3, 2))
    source, sink, recorder = SampleSource(data=data), Sink(shape=(3, 2), buffer=6), Recorder(shape=(3, 2), steps=6)
    source.s_out.connect(sink.a_in)
    source.s_out.connect(recorder.s_in)
    with guarded(source, Loihi2SimCfg(select_tag=tag)) as network:
        network.run(6)
        received = np.moveaxis(sink.data.get(), -1, 0)
    expected = np.concatenate([data, np.zeros((2, 3, 2))])
    assert np.array_equal(received, expected)
    assert np.array_equal(recorder.spikes, expected)
    assert recorder.spikes.dtype == dtype
    assert recorder.membranes.shape == (0, 3, 2)


def test_floats_are_sent_whole():
    data = np.random.default_rng(0).normal(size=(5, 2))
    source, recorder = SampleSource(data=data), Recorder(shape=(2,), steps=5)
    source.s_out.connect(recorder.s_in)
    run_guarded(source, 5, run_config("floating_pt"))
    assert np.array_equal(recorder.spikes, data)


def test_floats_are_refused_by_the_fixed_models():
    with pytest.raises(TypeError, match=r"fixed_pt model was given data of type float64.*floating_pt"):
        InProcessModel(SampleSource(data=[[0.5]]), "fixed_pt")
    with pytest.raises(TypeError, match="fixed_pt model received float64"):
        InProcessModel(Recorder(shape=(1,), steps=3), "fixed_pt").step(s_in=[0.5])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint32, np.float32])
def test_other_number_types(dtype):
    source = InProcessModel(SampleSource(data=np.array([[1, 0], [0, 1]], dtype=dtype)), "floating_pt")
    assert [source.step()["s_out"].tolist() for _ in range(3)] == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]


def test_data_are_copied():
    data = np.ones((2, 2), dtype=int)
    source = InProcessModel(SampleSource(data=data))
    data[:] = 7
    assert source.step()["s_out"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "build", [lambda: LIF(shape=(3,), vth=5, dv=400, du=4095), lambda: LIFReset(shape=(3,), reset_interval=4)]
)
@pytest.mark.parametrize("tag", TAGS)
def test_membranes_of_stock_neurons_after_the_update_of_the_same_step(build, tag):
    data = np.random.default_rng(1).integers(0, 5, (9, 3))
    source, neuron, recorder = SampleSource(data=data), build(), Recorder(shape=(3,), steps=9)
    source.s_out.connect(neuron.a_in)
    neuron.s_out.connect(recorder.s_in)
    recorder.v_ref.connect_var(neuron.v)
    run_guarded(neuron, 9, run_config(tag))
    driven = InProcessModel(build(), tag)
    for t in range(9):
        assert np.array_equal(driven.step(a_in=data[t])["s_out"], recorder.spikes[t])
        assert np.array_equal(driven.read("v"), recorder.membranes[t])
    assert recorder.membranes.any()
    assert recorder.membranes.dtype == (np.int32 if tag == "fixed_pt" else np.float64)


def test_recorder_asks_for_a_management_phase_only_if_it_reads_a_membrane():
    unconnected = InProcessModel(Recorder(shape=(2,), steps=2))
    assert unconnected.model.post_guard() is False

    class Connected:
        csp_ports = ("send", "receive")

    unconnected.model.v_ref = Connected()
    assert unconnected.model.post_guard() is True


def test_recorder_can_be_read_between_runs_and_refuses_a_run_that_is_too_long():
    source, recorder = SampleSource(data=np.arange(5)[:, None]), Recorder(shape=(1,), steps=3)
    source.s_out.connect(recorder.s_in)

    def run():
        with guarded(source) as network:
            network.run(2)
            assert recorder.spikes.tolist() == [[0], [1]]
            network.run(1)
            assert recorder.spikes.tolist() == [[0], [1], [2]]
            network.run(1)

    with pytest.raises(LavaRunError, match="Recorder holds 3 steps"):
        run()
    assert recorder.spikes.tolist() == [[0], [1], [2]]


@pytest.mark.parametrize(
    "data, text", [(np.zeros((0, 2)), "(0, 2)"), (np.zeros(3), "(3,)"), ([[np.nan]], "NaN"), ([[2**31]], "2147483648")]
)
def test_source_refuses(data, text):
    with pytest.raises(ValueError, match="SampleSource: data") as caught:
        SampleSource(data=data)
    assert text in str(caught.value)


def test_recorder_refuses_no_steps():
    with pytest.raises(ValueError, match="steps is 0"):
        Recorder(shape=(1,), steps=0)


def test_canonical_classes_are_one():
    from lava_snnlearn.processes.recorder.process import Recorder as SameRecorder
    from lava_snnlearn.processes.sample_source.process import SampleSource as SameSource
    from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF as SameNeuron

    assert (SameRecorder, SameSource, SameNeuron) == (Recorder, SampleSource, SoftResetLIF)
