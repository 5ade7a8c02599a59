"""FixedNetwork -> Lava process graph -> Trace.

Stock ``Dense`` (with delays ``DelayConnection``, equal to stock ``DelayDense`` and many times faster) and, per population,
``SoftResetLIF`` (reset by subtraction, accumulators), stock ``LIFReset`` (reset to zero) or ``EPNeuron`` (graded). A whole
batch of samples is one long run: the sources send sample after sample, ``period`` steps each, and the neurons reset themselves
between them.

A convolution is stock ``Conv`` where that is exact: it ignores the weight exponent, wraps sums at 24 bits and keeps its
geometry in 8 bits. Elsewhere it is a stock ``Sparse`` (``DelayConnection`` with a delay). ``Conv`` numbers images in the order
(W, H, C): virtual ports turn what goes in and what comes out, so that populations keep the order C, H, W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import RunConfig
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import Sparse
from lava.utils.weightutils import SignMode
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.convolution import expand
from lava_snnlearn.fixed_point.emulator import topological_order
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population, check_network
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.lava_backend.configuration import run_config
from lava_snnlearn.lava_backend.driver import InProcessModel
from lava_snnlearn.lava_backend.runner import TIME_LIMIT, run_guarded
from lava_snnlearn.lava_backend.schedule import scheduled
from lava_snnlearn.processes.delay_connection.process import DelayConnection
from lava_snnlearn.processes.ep_neuron.process import EPNeuron
from lava_snnlearn.processes.recorder.process import Recorder
from lava_snnlearn.processes.sample_source.process import SampleSource
from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF

_CONV_SUM_MAX = (1 << 23) - 1
"""Stock Conv wraps its sums to signed 24 bits."""
_CONV_GEOMETRY_MAX = 127
"""Stock Conv keeps kernel size, stride, padding, dilation and groups as int8."""
_TURNED = (2, 1, 0)
"""Axes that turn (C, H, W) into Conv's (W, H, C), and back."""


@dataclass(frozen=True)
class ProcessGraph:
    """The processes of a network, connected, for one run of ``steps`` steps over ``samples`` samples.

    ``sources`` go by what they feed: "input" (connections from the input), or a population that takes a current. ``neurons``
    and ``recorders`` go by population name, ``synapses`` by (source, target).
    """

    sources: dict[str, SampleSource]
    neurons: dict[str, AbstractProcess]
    synapses: dict[tuple[str, str], AbstractProcess]
    recorders: dict[str, Recorder]
    samples: int
    steps: int


def build(network: FixedNetwork, x: ArrayLike) -> ProcessGraph:
    """Fresh, connected processes for the samples x (as in ``emulate``).

    Users who want to add processes of their own connect them to ``neurons[name].s_out`` before they run the graph.
    """
    signal = network.encode(x)
    samples, period = signal.shape[1], network.period
    neurons = {population.name: _neuron(population, network) for population in network.populations}
    sources = _sources(network, signal)
    synapses: dict[tuple[str, str], AbstractProcess] = {}
    for connection in network.connections:
        sender = sources[INPUT] if connection.source == INPUT else neurons[connection.source]
        synapse = _synapse(connection, network)
        _connect(connection, sender, synapse, neurons[connection.target])
        synapses[connection.source, connection.target] = synapse
    for name in network.host.targets:
        sources[name].s_out.connect(neurons[name].a_in)
    recorders: dict[str, Recorder] = {}
    for population in network.populations:
        recorder = Recorder(shape=(population.size,), steps=samples * period)
        neurons[population.name].s_out.connect(recorder.s_in)
        recorder.v_ref.connect_var(neurons[population.name].v)
        recorders[population.name] = recorder
    return ProcessGraph(sources, neurons, synapses, recorders, samples, samples * period)


def _sources(network: FixedNetwork, signal: NDArray[np.int32]) -> dict[str, SampleSource]:
    """What sends the signal [T, B, n]: one for all connections, or one for each population that takes a part of the current,
    which it hears in its own active steps."""
    sources = {}
    for name in network.host.targets or (INPUT,):
        start = 0 if name == INPUT else network.population(name).t_start
        part = signal if name == INPUT else signal[:, :, network.current_part(name)]
        sources[name] = SampleSource(data=scheduled(part, network.period, start))
    return sources


def _connect(connection: Connection, sender: AbstractProcess, synapse: AbstractProcess, target: AbstractProcess) -> None:
    if isinstance(synapse, Conv):
        assert connection.geometry is not None
        sender.s_out.reshape(connection.geometry.input_shape).transpose(_TURNED).connect(synapse.s_in)
        synapse.a_out.transpose(_TURNED).flatten().connect(target.a_in)
    else:
        sender.s_out.connect(synapse.s_in)
        synapse.a_out.connect(target.a_in)


def _neuron(population: Population, network: FixedNetwork) -> AbstractProcess:
    bias = np.asarray(population.bias_mant, dtype=np.int64)
    if population.kind == "lif":
        # du = 4095: the effective current decay is du + 1 = 4096, i.e. the current is not filtered. Lava counts steps from 1.
        return LIFReset(
            shape=(population.size,),
            du=4095,
            dv=population.dv,
            vth=population.vth,
            bias_mant=bias,
            bias_exp=population.bias_exp,
            reset_interval=network.period,
            reset_offset=population.t_start + 1,
        )
    common: dict[str, Any] = {
        "shape": (population.size,),
        "bias_mant": bias,
        "bias_exp": population.bias_exp,
        "t_start": population.t_start,
        "t_stop": population.t_start + network.steps,
        "reset_interval": network.period,
    }
    if population.kind == "graded":
        return EPNeuron(shift=population.shift, top=population.top, **common)
    spiking = population.spiking
    return SoftResetLIF(
        dv=population.dv,
        vth=population.vth if spiking else limits.THRESHOLD_MAX,
        delta=population.delta if spiking else 0,
        v_init=population.v_init,
        **common,
    )


def _synapse(connection: Connection, network: FixedNetwork) -> AbstractProcess:
    message_bits = 8 if network.largest_sent(connection.source) > 1 else 0
    if _conv_is_exact(connection, network):
        return _conv(connection, message_bits)
    weights = np.asarray(connection.weight, dtype=np.int64)
    options: dict[str, Any] = {
        "weights": weights if connection.geometry is None else expand(weights, connection.geometry),
        "weight_exp": connection.exponent,
        "num_weight_bits": limits.WEIGHT_BITS,
        "num_message_bits": message_bits,
        # Lava guesses the sign mode from the matrix, and the rounding of weights depends on it.
        "sign_mode": SignMode.MIXED,
    }
    if connection.max_delay:
        return DelayConnection.dense(delays=connection.delay, **options)
    return Dense(**options) if connection.geometry is None else Sparse(**options)


def _conv_is_exact(connection: Connection, network: FixedNetwork) -> bool:
    """True if stock Conv computes this connection without delay, exponent, wrapped sum or wrapped geometry."""
    shape = connection.geometry
    if shape is None or connection.max_delay or connection.exponent:
        return False
    largest = max(*np.shape(connection.weight)[2:], *(max(axis[1:]) for axis in shape.axes), shape.groups)
    reach = connection.bound(network.largest_sent(connection.source))
    return largest <= _CONV_GEOMETRY_MAX and reach <= _CONV_SUM_MAX


def _conv(connection: Connection, message_bits: int) -> Conv:
    shape = connection.geometry
    assert shape is not None
    rows, columns = shape.axes
    # Lava's convolution turns the kernel round, torch's does not.
    kernel = np.asarray(connection.weight, dtype=np.int64)[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
    return Conv(
        weight=np.ascontiguousarray(kernel),
        input_shape=shape.input_shape[::-1],
        stride=(columns.stride, rows.stride),
        padding=(columns.padding, rows.padding),
        dilation=(columns.dilation, rows.dilation),
        groups=shape.groups,
        num_weight_bits=limits.WEIGHT_BITS,
        num_message_bits=message_bits,
    )


def run_lava(network: FixedNetwork, x: ArrayLike, *, time_limit: float = TIME_LIMIT, run_cfg: RunConfig | None = None) -> Trace:
    """Run samples on Lava's simulator (``fixed_pt`` models), guarded.

    Args:
        network, x: as in ``emulate``.
        time_limit: seconds that may pass without any process finishing a phase of a step.
        run_cfg: a run configuration of your own, e.g. a plain ``Loihi2SimCfg(select_tag="fixed_pt")``.

    Returns:
        Trace; ``saturated`` is empty, because Lava does not tell.

    Raises:
        LavaRunError: a model raised, died or blocked; the message holds its traceback. TypeError: no FixedNetwork.
    """
    check_network("run_lava", network)
    graph = build(network, x)
    first = next(iter(graph.sources.values()))
    run_guarded(first, graph.steps, run_config("fixed_pt") if run_cfg is None else run_cfg, time_limit)
    records = {name: (recorder.spikes, recorder.membranes) for name, recorder in graph.recorders.items()}
    return _trace(network, graph.samples, records)


def run_in_process(network: FixedNetwork, x: ArrayLike) -> Trace:
    """The same ProcessModels as :func:`run_lava`, stepped in this interpreter: no runtime, no other processes, for sweeps.

    Raises:
        ValueError: a graph with a cycle (a model's output would be needed before its input); use ``run_lava``.
    """
    order = topological_order(network)
    if order is None:
        raise ValueError("run_in_process takes graphs without cycles; use run_lava for recurrent networks")
    graph = build(network, x)
    sources = {name: InProcessModel(process) for name, process in graph.sources.items()}
    neurons = {name: InProcessModel(process) for name, process in graph.neurons.items()}
    synapses = {ends: InProcessModel(process) for ends, process in graph.synapses.items()}
    shape = {p.name: (graph.steps, p.size) for p in network.populations}
    records = {name: (np.zeros(shape[name], np.int32), np.zeros(shape[name], np.int32)) for name in neurons}
    for t in range(graph.steps):
        fed = {name: source.step()["s_out"] for name, source in sources.items()}
        sent = {INPUT: fed[INPUT]} if INPUT in fed else {}
        for population in order:
            name = population.name
            current = np.zeros(population.size, np.int32) + fed.get(name, 0)
            for connection in network.incoming(name):
                ends = (connection.source, name)
                current = current + _step(graph.synapses[ends], synapses[ends], connection, sent[connection.source])
            sent[name] = neurons[name].step(a_in=current)["s_out"]
            records[name][0][t], records[name][1][t] = sent[name], neurons[name].read("v")
    return _trace(network, graph.samples, records)


def _step(process: AbstractProcess, model: InProcessModel, connection: Connection, sent: NDArray[Any]) -> NDArray[Any]:
    """One step of a synapse's model between flat populations; what :func:`_connect` does by virtual ports."""
    if isinstance(process, Conv):
        assert connection.geometry is not None
        image = sent.reshape(connection.geometry.input_shape).transpose(_TURNED)
        return model.step(s_in=image)["a_out"].transpose(_TURNED).reshape(-1)
    return model.step(s_in=sent)["a_out"]


def _trace(network: FixedNetwork, samples: int, records: dict[str, tuple[NDArray[Any], NDArray[Any]]]) -> Trace:
    """Cut the run of all samples into [T, B, n], each population from its own first active step."""
    spikes: dict[str, NDArray[np.uint8]] = {}
    membranes: dict[str, NDArray[np.int32]] = {}
    for name, (sent, membrane) in records.items():
        if not len(sent) == len(membrane) == samples * network.period:
            raise RuntimeError(f"population {name!r} recorded {len(sent)} of {samples * network.period} steps")
    for population in network.populations:
        active = slice(population.t_start, population.t_start + network.steps)
        sent, membrane = (rows.reshape(samples, network.period, -1).swapaxes(0, 1)[active] for rows in records[population.name])
        membranes[population.name] = membrane.astype(np.int32)
        if population.spiking:
            spikes[population.name] = sent.astype(np.uint8)
    last = network.output
    counted = network.population(last).counted
    outputs = spikes[last].sum(axis=0, dtype=np.int64) if counted else membranes[last][-1].astype(np.int64)
    return Trace(spikes, membranes, outputs)
