"""What tests of ``from_lava`` share: Lava's own models of a whole graph, the comparison with them, and a small graph."""

import numpy as np
import pytest
from lava.magma.core.process.ports.ports import create_port_id
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF

import lava_snnlearn as snn
from lava_snnlearn.lava_backend.driver import InProcessModel
from lava_snnlearn.lava_backend.housekeeping import network_of
from lava_snnlearn.lava_backend.importing.wiring import full_name
from lava_snnlearn.lava_backend.runner import guarded
from lava_snnlearn.processes.recorder.process import Recorder

STEPS = 14


class Inlet:
    """An InPort that sums up what its senders have sent in this step."""

    def __init__(self, run, port, dtype):
        self.run, self.port, self.dtype = run, port, dtype
        self.transforms = port.get_incoming_transform_funcs()

    def recv(self):
        total = np.zeros(self.port.shape, self.dtype)
        for source in self.port.get_src_ports():
            value = self.run.sent[source]
            for transform in self.transforms.get(create_port_id(source.process.id, source.name), []):
                value = transform(value)
            total = total + value
        return total


class StockRun:
    """Lava's own fixed_pt models of a whole graph, stepped in this interpreter.

    Synapses send what they hold in their buffers before they receive. So in each step their buffers are read first, and the
    models run in the order sources, neurons, synapses, sinks.
    """

    def __init__(self, process):
        self.processes = [member for member in network_of(process) if not member.procs.members]
        self.processes.sort(key=lambda member: (not isinstance(member, Source), not isinstance(member, LIF), is_sink(member)))
        self.models = {member.id: InProcessModel(member) for member in self.processes}
        self.sent = {}
        for member in self.processes:
            model = self.models[member.id].model
            for port in member.in_ports.members:
                setattr(model, port.name, Inlet(self, port, getattr(type(model), port.name).d_type))

    def step(self):
        for member in self.processes:
            model = self.models[member.id]
            if hasattr(model.model, "a_buff"):
                self.sent[member.a_out] = model.read("a_buff").reshape(*member.a_out.shape, -1)[..., 0]
            if hasattr(model.model, "a_buf"):
                self.sent[member.a_out] = model.read("a_buf")
        for member in self.processes:
            model = self.models[member.id]
            model.model.time_step += 1
            model._phases()
            for port in member.out_ports.members:
                value = model._outlets[port.name].value
                assert port not in self.sent or port.name != "a_out" or (value == self.sent[port]).all()
                self.sent[port] = value

    def run(self, steps):
        neurons = [member for member in self.processes if isinstance(member, LIF)]
        spikes, membranes = ({full_name(n): np.zeros((steps, *n.s_out.shape), int) for n in neurons} for _ in range(2))
        for t in range(steps):
            self.step()
            for neuron in neurons:
                spikes[full_name(neuron)][t] = self.sent[neuron.s_out]
                membranes[full_name(neuron)][t] = self.models[neuron.id].read("v")
        sinks = {full_name(sink): self.models[sink.id].read("data") for sink in self.processes if is_sink(sink)}
        return spikes, membranes, {name: np.moveaxis(data, -1, 0)[:steps] for name, data in sinks.items()}


def is_sink(process):
    return isinstance(process, Sink)


@pytest.fixture(scope="session")
def compare():
    """Import a graph, emulate it, and compare it with the models of the same processes."""

    def compared(process, steps=STEPS):
        """Returns the import and the number of spikes."""
        imported = snn.from_lava(process, steps)
        trace = imported.run()
        spikes, membranes, sinks = StockRun(process).run(steps)
        assert set(spikes) == set(imported.populations)
        for name in spikes:
            np.testing.assert_array_equal(imported.spikes(trace, name)[:, 0], spikes[name], err_msg=name)
            np.testing.assert_array_equal(imported.membranes(trace, name)[:, 0], membranes[name], err_msg=name)
        assert set(sinks) == set(imported.sinks)
        for name, data in sinks.items():
            np.testing.assert_array_equal(imported.received(trace, name)[:, 0], data, err_msg=name)
        return imported, sum(int(s.sum()) for s in spikes.values())

    return compared


@pytest.fixture(scope="session")
def run_for_real():
    """Spikes of all LIFs and what sinks received, from a guarded run on Lava's simulator."""

    def ran(process, steps):
        neurons = [member for member in network_of(process) if isinstance(member, LIF)]
        recorders = {full_name(neuron): Recorder(shape=neuron.s_out.shape, steps=steps) for neuron in neurons}
        sinks = [member for member in network_of(process) if is_sink(member)]
        for neuron in neurons:
            neuron.s_out.connect(recorders[full_name(neuron)].s_in)
        with guarded(process) as network:
            network.run(steps)
            received = {full_name(sink): np.moveaxis(sink.data.get(), -1, 0)[:steps].astype(int) for sink in sinks}
        return {name: recorder.spikes for name, recorder in recorders.items()}, received

    return ran


def pulses_of(*shape, seed=0, steps=STEPS):
    return np.random.default_rng(seed).integers(0, 2, (*shape, steps))


@pytest.fixture(scope="session")
def pulses():
    """Random spikes [*shape, steps]."""
    return pulses_of


@pytest.fixture(scope="session")
def chain():
    """source -> dense -> neuron."""

    def built(source=None, weights=((60, -20), (30, 90)), **options):
        source = Source(data=pulses_of(2)) if source is None else source
        options = {"shape": (2,), "vth": 50, "du": 4095, "name": "neuron"} | options
        dense, neuron = Dense(weights=np.array(weights)), LIF(**options)
        source.s_out.connect(dense.s_in)
        dense.a_out.connect(neuron.a_in)
        return source, dense, neuron

    return built
