"""Every way in which a run on Lava can fail ends with one Python exception, within the limit, and leaves nothing behind."""

import logging

import numpy as np
import psutil
import pytest
import torch
from failing_processes import Faulty
from lava.magma.core.process.process import ProcessServer
from lava.magma.core.process.variable import VarServer
from lava.proc.io.extractor import Extractor
from lava.proc.io.injector import Injector
from lava.proc.lif.process import LIF

from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput
from lava_snnlearn.lava_backend import LavaRunError, guarded, run_config, run_guarded
from lava_snnlearn.lava_backend.importing import LavaImportError, from_lava
from lava_snnlearn.processes import FusedNetwork, Recorder, SampleSource, SoftResetLIF

pytestmark = pytest.mark.usefixtures("nothing_left")
DATA = np.arange(20).reshape(10, 2)


def chain(fault, at=2):
    """A source, the faulty process and a recorder that waits for it."""
    source, faulty, recorder = SampleSource(data=DATA), Faulty(fault=fault, at=at), Recorder(shape=(2,), steps=10)
    source.s_out.connect(faulty.a_in)
    faulty.s_out.connect(recorder.s_in)
    return faulty, recorder


@pytest.mark.parametrize(
    "fault, texts",
    [
        ("spk:raise", ["Traceback", "run_spk", "ValueError: broken on purpose", "PyFaulty"]),
        ("post:raise", ["Traceback", "run_post_mgmt", "ValueError: broken on purpose", "PyFaulty"]),
        ("init:raise", ["Traceback", "__init__", "ValueError: broken on purpose", "while starting"]),
        ("spk:unpicklable", ["Traceback", "cannot be pickled"]),
        ("init:unpicklable", ["Traceback", "cannot be pickled"]),
        ("spk:sys.exit", ["Traceback", "SystemExit: 3"]),
        ("spk:os._exit", ["PyFaulty", "exit code 7"]),
        ("spk:os._exit(0)", ["left the run early"]),
        ("init:os._exit", ["PyFaulty", "exit code 7"]),
        ("spk:SIGKILL", ["PyFaulty", "SIGKILL"]),
        ("spk:pause", ["asked the runtime to pause or stop"]),
        ("spk:stop", ["asked the runtime to pause or stop"]),
    ],
)
def test_failing_model(fault, texts):
    faulty, _ = chain(fault)
    with pytest.raises(LavaRunError) as caught:
        run_guarded(faulty, 10, time_limit=20)
    for text in texts:
        assert text in str(caught.value)
    assert "time_limit" not in str(caught.value)  # noticed at once, not when the time was over


def fused_chain(fault, at=2):
    """A whole network in one process, between a source and the faulty process."""
    out = Population("out", 2, vth=50, t_start=1)
    edges = (Connection("input", "out", np.full((2, 2), 40)),)
    fused = FusedNetwork(network=FixedNetwork((out,), edges, HostInput("graded", 2), 8, "out"))
    source, faulty, recorder = SampleSource(data=DATA), Faulty(fault=fault, at=at), Recorder(shape=(2,), steps=9)
    source.s_out.connect(fused.s_in)
    fused.s_out.connect(faulty.a_in)
    faulty.s_out.connect(recorder.s_in)
    return fused, faulty


@pytest.mark.parametrize(
    "fault, texts",
    [
        ("spk:raise", ["Traceback", "run_spk", "ValueError: broken on purpose", "PyFaulty"]),
        ("init:raise", ["Traceback", "__init__", "ValueError: broken on purpose", "while starting"]),
        ("post:raise", ["Traceback", "run_post_mgmt", "ValueError: broken on purpose", "PyFaulty"]),
        ("spk:os._exit", ["PyFaulty", "exit code 7"]),
        ("spk:SIGKILL", ["PyFaulty", "SIGKILL"]),
    ],
)
def test_a_faulty_process_beside_a_whole_network(fault, texts):
    fused, _ = fused_chain(fault)
    with pytest.raises(LavaRunError) as caught:
        run_guarded(fused, 9, run_config("fixed_pt"), time_limit=20)
    for text in texts:
        assert text in str(caught.value)
    assert "time_limit" not in str(caught.value)


def test_an_endless_loop_beside_a_whole_network():
    fused, _ = fused_chain("spk:loop")
    with pytest.raises(LavaRunError, match=r"time_limit of 1 s") as caught:
        run_guarded(fused, 9, run_config("fixed_pt"), time_limit=1)
    assert "PyFaulty" in str(caught.value)


def test_a_model_that_sends_a_wrong_shape():
    faulty, _ = chain("shape:send")
    with pytest.raises(LavaRunError, match=r"PyFaulty|PyRecorder") as caught:
        run_guarded(faulty, 10, time_limit=20)
    assert "Traceback" in str(caught.value)
    assert "time_limit" not in str(caught.value)


@pytest.mark.parametrize("fault", ["spk:raise", "init:os._exit"])
def test_a_graph_with_a_process_of_the_user_is_not_imported(fault):
    """Nothing of it is run; it can be run afterwards, and then fails as always."""
    faulty, _ = chain(fault)
    with pytest.raises(LavaImportError, match="Faulty"):
        from_lava(faulty, 10)
    with pytest.raises(LavaRunError, match="PyFaulty"):
        run_guarded(faulty, 10, time_limit=20)


@pytest.mark.parametrize("fault", ["spk:loop", "post:loop"])
def test_endless_loop_names_the_processes_and_the_limit(fault):
    faulty, _ = chain(fault, at=3)
    with pytest.raises(LavaRunError, match=r"time_limit of 1 s") as caught:
        run_guarded(faulty, 10, time_limit=1)
    assert "PyFaulty" in str(caught.value)
    assert "PySampleSourceFixed" not in str(caught.value).partition("They wait")[0]
    assert "Last finished time step: " in str(caught.value)


def test_endless_loop_in_a_constructor():
    faulty, _ = chain("init:loop")
    with pytest.raises(LavaRunError, match="blocked while starting"):
        run_guarded(faulty, 10, time_limit=1)


def test_deadlocked_cycle():
    first, second = SoftResetLIF(shape=(2,), vth=1, name="first"), SoftResetLIF(shape=(2,), vth=1, name="second")
    first.s_out.connect(second.a_in)
    second.s_out.connect(first.a_in)
    with pytest.raises(LavaRunError, match="Last finished time step: 0") as caught:
        run_guarded(first, 5, time_limit=1)
    assert "first (SoftResetLIF" in str(caught.value)
    assert "second (SoftResetLIF" in str(caught.value)


def test_starving_injector():
    injector, neuron = Injector(shape=(2,)), LIF(shape=(2,))
    injector.out_port.connect(neuron.a_in)

    def run():
        with guarded(neuron, run_config("floating_pt"), time_limit=1) as network:
            injector.send(np.ones(2))
            network.run(2)

    with pytest.raises(LavaRunError, match="Injector") as caught:
        run()
    assert "Last finished time step: 1" in str(caught.value)


def test_extractor_that_nobody_receives_from():
    """The source finishes step 4, the extractor finds its three places taken."""
    source, extractor = SampleSource(data=DATA), Extractor(shape=(2,), buffer_size=3)
    source.s_out.connect(extractor.in_port)
    with pytest.raises(LavaRunError, match=r"time_limit of 1 s") as caught:
        run_guarded(source, 10, run_config("floating_pt"), time_limit=1)
    assert "Extractor" in str(caught.value)
    assert "Last finished time step: 4" in str(caught.value)


def test_injector_into_a_fixed_point_model():
    """Injectors send float64, which the integer model cannot shift or add."""
    injector, neuron = Injector(shape=(2,)), LIF(shape=(2,))
    injector.out_port.connect(neuron.a_in)

    def run():
        with guarded(neuron, run_config("fixed_pt"), time_limit=20) as network:
            injector.send(np.ones(2))
            network.run(1)

    with pytest.raises(LavaRunError, match="PyLifModelBitAcc") as caught:
        run()
    assert "Traceback" in str(caught.value)
    assert "TypeError" in str(caught.value)


def test_reading_a_var_that_lava_cannot_send():
    faulty, _ = chain("spk:none")

    def run():
        with guarded(faulty, time_limit=1) as network:
            network.run(2)
            assert faulty.count.get().tolist() == [2]
            faulty.scalar.get()

    with pytest.raises(LavaRunError, match="reading or setting Vars"):
        run()


def test_exception_of_the_user_inside_the_block_passes():
    faulty, recorder = chain("spk:none")

    def run():
        with guarded(faulty) as network:
            network.run(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert recorder.spikes.tolist() == DATA[:3].tolist()


def test_torch_in_a_model_after_threaded_torch_in_the_parent():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.ones(500, 500) @ torch.ones(500, 500)
    try:
        run_guarded(chain("spk:torch")[0], 4, time_limit=20)
    finally:
        torch.set_num_threads(before)


def test_compiling_twice_is_refused_up_front():
    faulty, _ = chain("spk:none")
    run_guarded(faulty, 2)
    with pytest.raises(LavaRunError, match=r"only once.*fresh"):
        run_guarded(faulty, 2)
    with guarded(chain("spk:none")[0]) as network:
        network.run(1)
    with pytest.raises(LavaRunError, match="stopped"):
        network.run(1)


@pytest.mark.parametrize("steps", [0, -5])
def test_steps_below_one(steps):
    faulty, _ = chain("spk:none")
    with pytest.raises(ValueError, match=f"steps is {steps}"):
        run_guarded(faulty, steps)
    run_guarded(faulty, 1)  # the refusal has not used the processes up


def test_vars_after_the_run_are_an_error_and_stop_is_harmless():
    faulty, _ = chain("spk:none")
    run_guarded(faulty, 2)
    with pytest.raises(RuntimeError, match="not started"):
        faulty.count.get()
    faulty.stop()


def test_many_runs_leave_nothing():
    def run():
        faulty, recorder = chain("spk:none")
        run_guarded(faulty, 3)
        assert recorder.spikes.tolist() == DATA[:3].tolist()
        with pytest.raises(LavaRunError):
            run_guarded(chain("spk:raise")[0], 3)

    run()

    def held():
        return len(logging.getLogger().handlers), len(ProcessServer().processes), len(VarServer().vars)

    before, files = held(), psutil.Process().num_fds()
    for _ in range(8):
        run()
    assert psutil.Process().num_fds() <= files
    assert held() == before
