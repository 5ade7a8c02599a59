"""The fast run configuration chooses what Lava's own discovery chooses."""

import numpy as np
import pytest
from failing_processes import Faulty
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.io.injector import Injector, PyLoihiInjectorModel
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF, LIFRefractory, LIFReset, TernaryLIF
from lava.proc.monitor.process import Monitor
from lava.proc.sdn.process import Delta, SigmaDelta
from lava.proc.sparse.process import Sparse

from lava_snnlearn.lava_backend import ModelMap, run_config, run_guarded
from lava_snnlearn.lava_backend.driver import find_model
from lava_snnlearn.processes import Recorder, SampleSource, SoftResetLIF

ONE = np.ones((2, 2), dtype=int)
PROCESSES = [
    lambda: SoftResetLIF(shape=(2,), vth=1),
    lambda: SampleSource(data=ONE),
    lambda: Recorder(shape=(2,), steps=1),
    lambda: LIF(shape=(2,)),
    lambda: LIFReset(shape=(2,), reset_interval=3),
    lambda: TernaryLIF(shape=(2,), vth_lo=-3, vth_hi=3),
    lambda: Dense(weights=ONE),
    lambda: DelayDense(weights=ONE, delays=ONE),
    lambda: Sparse(weights=__import__("scipy.sparse").sparse.csr_matrix(ONE)),
    lambda: Conv(weight=np.ones((1, 1, 1, 1)), input_shape=(2, 2, 1)),
    lambda: Source(data=ONE),
    lambda: Sink(shape=(2,), buffer=3),
    lambda: SigmaDelta(shape=(2,), vth=1),
    lambda: Delta(shape=(2,), vth=1),
]


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
@pytest.mark.parametrize("build", PROCESSES)
def test_same_choice_as_lava(build, tag):
    process = build()
    chosen = find_model(process, tag)
    models = ModelMap(tag)
    assert process in models
    assert models[process] is chosen
    assert models[type(process)] is chosen
    assert run_config(tag).select(process, [chosen]) is chosen


def test_tag_that_a_process_does_not_have_is_left_to_lava():
    process = LIFRefractory(shape=(2,), refractory_period=2)
    assert process not in ModelMap("fixed_pt")
    with pytest.raises(KeyError):
        ModelMap("fixed_pt")[process]
    with pytest.raises(AssertionError, match="fixed_pt"):
        find_model(process, "fixed_pt")


def test_untagged_models_and_entries_by_hand():
    injector = Injector(shape=(2,))
    assert ModelMap("fixed_pt")[injector] is PyLoihiInjectorModel
    by_hand = ModelMap("fixed_pt")
    by_hand[LIF] = PyLoihiInjectorModel
    assert by_hand[LIF(shape=(2,))] is PyLoihiInjectorModel


def test_strange_processes_keep_lavas_discovery():
    faulty = Faulty(fault="spk:none")
    assert faulty not in run_config("fixed_pt").exception_proc_model_map
    run_guarded(faulty, 2, run_config("fixed_pt"))


def test_slow_configuration_is_lavas_own():
    config = run_config("floating_pt", fast=False)
    assert type(config) is Loihi2SimCfg
    assert config.select_tag == "floating_pt"
    assert config.exception_proc_model_map == {}


def test_monitor_runs_under_a_fast_configuration():
    neuron, monitor = SoftResetLIF(shape=(2,), vth=4, bias_mant=2, bias_exp=6), Monitor()
    monitor.probe(neuron.v, 3)
    from lava_snnlearn.lava_backend import guarded

    with guarded(neuron, run_config("fixed_pt")) as network:
        network.run(3)
        recorded = monitor.get_data()[neuron.name]["v"]
    assert recorded.tolist() == [[128, 128], [0, 0], [128, 128]]
