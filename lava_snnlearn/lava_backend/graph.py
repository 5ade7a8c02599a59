"""FixedNetwork -> Lava process graph -> Trace.

Stock ``Dense`` (with delays ``DelayConnection``, equal to stock ``DelayDense`` and many times faster) and, per population,
``SoftResetLIF`` (reset by subtraction, accumulators), stock ``LIFReset`` (reset to zero) or ``EPNeuron`` (graded). A whole
batch of samples is one long run: the sources send sample after sample, ``period`` steps each, and the neurons reset themselves
between them. Networks that are ``one_by_one`` run each sample by itself, on fresh processes. Relays are no processes: synapses
that feed one are connected with those that it feeds.

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
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.sparse.process import Sparse
from lava.utils.weightutils import SignMode
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.convolution import expand
from lava_snnlearn.fixed_point.graph import INPUT, Connection, FixedNetwork, Population, check_network
from lava_snnlearn.fixed_point.order import topological_order
from lava_snnlearn.fixed_point.sums import message_bits
from lava_snnlearn.fixed_point.trace import Trace
from lava_snnlearn.fixed_point.validate import WAITING
from lava_snnlearn.lava_backend.configuration import run_config
from lava_snnlearn.lava_backend.driver import InProcessModel
from lava_snnlearn.lava_backend.runner import TIME_LIMIT, run_guarded
from lava_snnlearn.lava_backend.schedule import scheduled
from lava_snnlearn.processes.delay_connection.process import DelayConnection
from lava_snnlearn.processes.ep_neuron.process import EPNeuron
from lava_snnlearn.processes.recorder.process import Recorder
from lava_snnlearn.processes.sample_source.process import SampleSource
from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF

SIGN_MODES = {"mixed": SignMode.MIXED, "excitatory": SignMode.EXCITATORY, "inhibitory": SignMode.INHIBITORY}
_TURNED = (2, 1, 0)
"""Axes that turn (C, H, W) into Conv's (W, H, C), and back."""


@dataclass(frozen=True)
class ProcessGraph:
    """The processes of a network, connected, for one run of ``steps`` steps over ``samples`` samples.

    ``sources`` go by what they feed: "input" (connections from the input), or a population that takes a current. ``neurons``
    (without relays) and ``recorders`` go by population name, ``synapses`` by the connection's name.
    """

    sources: dict[str, SampleSource]
    neurons: dict[str, AbstractProcess]
    synapses: dict[str, AbstractProcess]
    recorders: dict[str, Recorder]
    samples: int
    steps: int


def build(network: FixedNetwork, x: ArrayLike) -> ProcessGraph:
    """Fresh, connected processes for the samples x (as in ``emulate``).

    Users who want to add processes of their own connect them to ``neurons[name].s_out`` before they run the graph.

    Raises:
        ValueError: several samples for a network that takes them one by one.
    """
    signal = network.encode(x)
    samples, period = signal.shape[1], network.period
    if network.one_by_one:
        period = network.last_step
        if samples > 1:
            raise ValueError(f"this network runs its samples one by one on Lava, and there are {samples}; build each by itself")
    neurons = {
        population.name: _neuron(population, network) for population in network.populations if population.kind != "relay"
    }
    sources = _sources(network, signal, period)
    synapses = {connection.name: _synapse(connection, network) for connection in network.connections}
    graph = ProcessGraph(sources, neurons, synapses, {}, samples, samples * period)
    for connection in network.connections:
        for port in _outlets(network, graph, connection.source):
            _connect_into(connection, port, synapses[connection.name])
    for population in network.populations:
        recorder = Recorder(shape=(population.size,), steps=samples * period)
        graph.recorders[population.name] = recorder
        if population.kind == "relay":
            inlets = [recorder.s_in]
        else:
            neuron = neurons[population.name]
            neuron.s_out.connect(recorder.s_in)
            recorder.v_ref.connect_var(neuron.v)
            inlets = [neuron.a_in]
        for port in _feeding(network, graph, population.name):
            for inlet in inlets:
                port.connect(inlet)
    return graph


def _feeding(network: FixedNetwork, graph: ProcessGraph, name: str) -> list[Any]:
    """Flat ports that send what a population hears."""
    ports = [_outlet(connection, graph.synapses[connection.name]) for connection in network.incoming(name)]
    return ports + ([graph.sources[name].s_out] if name in network.host.targets else [])


def _outlets(network: FixedNetwork, graph: ProcessGraph, source: str) -> list[Any]:
    """Flat ports that together send what a source sends."""
    if source == INPUT:
        return [graph.sources[INPUT].s_out]
    if source in graph.neurons:
        return [graph.neurons[source].s_out]
    return _feeding(network, graph, source)


def _sources(network: FixedNetwork, signal: NDArray[np.int32], period: int) -> dict[str, SampleSource]:
    """What sends the signal [T, B, n]: one for all connections, or one for each population that takes a part of the current,
    which it hears in its own active steps."""
    sources = {}
    for name in network.host.targets or (INPUT,):
        start = 0 if name == INPUT else network.population(name).t_start
        part = signal if name == INPUT else signal[:, :, network.current_part(name)]
        sources[name] = SampleSource(data=scheduled(part, period, start))
    return sources


def _connect_into(connection: Connection, port: Any, synapse: AbstractProcess) -> None:
    """Connect a flat port with a synapse."""
    if isinstance(synapse, Conv):
        assert connection.geometry is not None
        port = port.reshape(connection.geometry.input_shape).transpose(_TURNED)
    port.connect(synapse.s_in)


def _outlet(connection: Connection, synapse: AbstractProcess) -> Any:
    """The flat port that a synapse sends its sums on."""
    return synapse.a_out.transpose(_TURNED).flatten() if isinstance(synapse, Conv) else synapse.a_out


def _neuron(population: Population, network: FixedNetwork) -> AbstractProcess:
    bias = np.asarray(population.bias_mant, dtype=np.int64)
    if population.kind == "lif":
        return _stock_lif(population, network)
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


def _stock_lif(population: Population, network: FixedNetwork) -> AbstractProcess:
    options: dict[str, Any] = {
        "shape": (population.size,),
        "du": population.du,
        "dv": population.dv,
        "vth": population.vth,
        "bias_mant": np.asarray(population.bias_mant, dtype=np.int64),
        "bias_exp": population.bias_exp,
        "u": np.asarray(population.u_init),
        "v": np.asarray(population.v_init),
    }
    if population.t_start and network.one_by_one:
        options["v"] = WAITING
    if population.t_start or not network.one_by_one:
        # Lava counts steps from 1. A period is longer than a run of one sample, which is reset but once then: what the bias did
        # before the first active step is undone.
        return LIFReset(reset_interval=network.period, reset_offset=population.t_start + 1, **options)
    if population.reset_interval:
        return LIFReset(reset_interval=population.reset_interval, reset_offset=population.reset_offset, **options)
    return LIF(**options)


def _synapse(connection: Connection, network: FixedNetwork) -> AbstractProcess:
    # Above 0 synapses hear the value of a message, whatever its number of bits.
    bits = message_bits(network, connection)
    if _conv_is_exact(connection, network):
        return _conv(connection, bits)
    weights = np.asarray(connection.weight, dtype=np.int64)
    options: dict[str, Any] = {
        "weights": weights if connection.geometry is None else expand(weights, connection.geometry),
        "weight_exp": connection.exponent,
        "num_weight_bits": limits.WEIGHT_BITS,
        "num_message_bits": bits,
        # Lava guesses the sign mode from the matrix, and the rounding of weights depends on it.
        "sign_mode": SIGN_MODES[connection.sign_mode],
    }
    if connection.max_delay:
        return DelayConnection.dense(delays=connection.delay, **options)
    return Dense(**options) if connection.geometry is None else Sparse(**options)


def _conv_is_exact(connection: Connection, network: FixedNetwork) -> bool:
    """True if stock Conv computes this connection without delay, exponent, wrapped sum or wrapped geometry."""
    shape = connection.geometry
    if shape is None or connection.max_delay or connection.exponent:
        return False
    reach = connection.bound(network.largest_sent(connection.source))
    largest = shape.largest_number(np.shape(connection.weight))
    return largest <= limits.CONV_GEOMETRY_MAX and reach <= limits.CONV_SUM_MAX


def _conv(connection: Connection, bits: int) -> Conv:
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
        num_message_bits=bits,
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
    config = run_config("fixed_pt") if run_cfg is None else run_cfg
    traces = []
    for samples in _runs(network, x):
        graph = build(network, samples)
        run_guarded(next(iter(graph.sources.values())), graph.steps, config, time_limit)
        traces.append(_trace(network, graph, {name: (r.spikes, r.membranes) for name, r in graph.recorders.items()}))
    return _joined(traces)


def _runs(network: FixedNetwork, x: ArrayLike) -> list[NDArray[np.int32]]:
    """The chip's input of every run on Lava: all samples, or one by one."""
    signal = network.encode(x)
    return [signal[:, b : b + 1] for b in range(signal.shape[1])] if network.one_by_one else [signal]


def run_in_process(network: FixedNetwork, x: ArrayLike) -> Trace:
    """The same ProcessModels as :func:`run_lava`, stepped in this interpreter: no runtime, no other processes, for sweeps.

    Raises:
        ValueError: a graph with a cycle (a model's output would be needed before its input); use ``run_lava``.
    """
    order = topological_order(network)
    if order is None:
        raise ValueError("run_in_process takes graphs without cycles; use run_lava for recurrent networks")
    return _joined([_step_through(network, order, build(network, samples)) for samples in _runs(network, x)])


def _step_through(network: FixedNetwork, order: list[Population], graph: ProcessGraph) -> Trace:
    sources = {name: InProcessModel(process) for name, process in graph.sources.items()}
    neurons = {name: InProcessModel(process) for name, process in graph.neurons.items()}
    synapses = {name: InProcessModel(process) for name, process in graph.synapses.items()}
    shape = {p.name: (graph.steps, p.size) for p in network.populations}
    records = {p.name: (np.zeros(shape[p.name], np.int32), np.zeros(shape[p.name], np.int32)) for p in order}
    for t in range(graph.steps):
        fed = {name: source.step()["s_out"] for name, source in sources.items()}
        sent = {INPUT: fed[INPUT]} if INPUT in fed else {}
        for population in order:
            name = population.name
            current = np.zeros(population.size, np.int32) + fed.get(name, 0)
            for connection in network.incoming(name):
                synapse = graph.synapses[connection.name]
                current = current + _step(synapse, synapses[connection.name], connection, sent[connection.source])
            sent[name] = neurons[name].step(a_in=current)["s_out"] if name in neurons else current
            records[name][0][t] = sent[name]
            if name in neurons:
                records[name][1][t] = neurons[name].read("v")
    return _trace(network, graph, records)


def _step(process: AbstractProcess, model: InProcessModel, connection: Connection, sent: NDArray[Any]) -> NDArray[Any]:
    """One step of a synapse's model between flat populations; what :func:`build` does by virtual ports."""
    if isinstance(process, Conv):
        assert connection.geometry is not None
        image = sent.reshape(connection.geometry.input_shape).transpose(_TURNED)
        return model.step(s_in=image)["a_out"].transpose(_TURNED).reshape(-1)
    return model.step(s_in=sent)["a_out"]


def _trace(network: FixedNetwork, graph: ProcessGraph, records: dict[str, tuple[NDArray[Any], NDArray[Any]]]) -> Trace:
    """Cut the run of all samples into [T, B, n], each population from its own first active step."""
    spikes: dict[str, NDArray[Any]] = {}
    membranes: dict[str, NDArray[np.int32]] = {}
    period = graph.steps // graph.samples
    for population in network.populations:
        name = population.name
        sent, membrane = records[name]
        # What relays send is all that they have.
        membrane = sent if population.kind == "relay" else membrane
        if not len(sent) == len(membrane) == graph.steps:
            raise RuntimeError(f"population {name!r} recorded {len(sent)} of {graph.steps} steps")
        active = slice(population.t_start, population.t_start + network.steps)
        sent, membrane = (rows.reshape(graph.samples, period, -1).swapaxes(0, 1)[active] for rows in (sent, membrane))
        membranes[name] = membrane.astype(np.int32)
        if population.spiking:
            spikes[name] = sent.astype(population.sent_dtype)
    last = network.output
    counted = network.population(last).counted
    outputs = spikes[last].sum(axis=0, dtype=np.int64) if counted else membranes[last][-1].astype(np.int64)
    return Trace(spikes, membranes, outputs)


def _joined(traces: list[Trace]) -> Trace:
    """The traces of several runs as one of all their samples."""
    if len(traces) == 1:
        return traces[0]
    first = traces[0]
    return Trace(
        {name: np.concatenate([trace.spikes[name] for trace in traces], axis=1) for name in first.spikes},
        {name: np.concatenate([trace.membranes[name] for trace in traces], axis=1) for name in first.membranes},
        np.concatenate([trace.outputs for trace in traces]),
    )
