"""The Lava processes of a network that learns by a local rule, connected.

Input ``SampleSource`` -> W1 -> ``PerturbedLIF`` 1 -> W2 ... -> W(L+1) -> ``ErrorReadout``. Every connection is one
``OTTTDense`` that hears, beside the spikes, the factors of the neurons behind it, or the readout's errors. Signals come down
through the next connection (feedback "transport"), or from one ``OPZOFeedback`` a hidden layer, which, if it learns, shares a
``NoiseSource`` with the layer's neurons. Beside a connection with a subspace there is an ``HLOPLateral``. All samples are one
long run of ``settings.period`` steps each; every process knows the phase of a sample by its step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from lava.magma.core.process.ports.ports import OutPort
from numpy.typing import ArrayLike

from lava_snnlearn.lava_backend.schedule import held, scheduled
from lava_snnlearn.on_chip.local import LocalSettings, LocalState, checked_batch
from lava_snnlearn.processes.error_readout.process import ErrorReadout
from lava_snnlearn.processes.hlop_lateral.process import HLOPLateral
from lava_snnlearn.processes.noise_source.process import NoiseSource
from lava_snnlearn.processes.opzo_feedback.process import OPZOFeedback
from lava_snnlearn.processes.ottt_dense.process import OTTTDense
from lava_snnlearn.processes.perturbed_lif.process import PerturbedLIF
from lava_snnlearn.processes.recorder.process import Recorder
from lava_snnlearn.processes.sample_source.process import SampleSource


@dataclass(frozen=True)
class Watch:
    """Recorders of what the processes send: spikes (with the noise on them), noise (only where feedback is learned), top-down
    signals and factors, one a hidden layer, and the readout's errors and currents."""

    spikes: tuple[Recorder, ...]
    noise: tuple[Recorder, ...]
    signals: tuple[Recorder, ...]
    factors: tuple[Recorder, ...]
    errors: Recorder
    currents: Recorder


@dataclass(frozen=True)
class LocalGraph:
    """The connected processes of a network that learns, for one run over ``samples`` samples.

    Attributes:
        state: of the network before the run. samples: how many the sources hold; each takes ``settings.period`` steps.
        source, target: send the payloads and the one-hot classes.
        synapses: by name, in the order of ``settings.names``. laterals: those that project a connection, by its name.
        neurons: one population a hidden layer, layer 1 first. readout: the readout's end.
        noise, feedback: one a hidden layer; none where the rule has none.
        watch: the recorders, or None.
    """

    state: LocalState
    samples: int
    source: SampleSource
    target: SampleSource
    synapses: dict[str, OTTTDense]
    laterals: dict[str, HLOPLateral]
    neurons: tuple[PerturbedLIF, ...]
    readout: ErrorReadout
    noise: tuple[NoiseSource, ...]
    feedback: tuple[OPZOFeedback, ...]
    watch: Watch | None


def build(state: LocalState, x: ArrayLike, labels: ArrayLike, *, watched: bool = True) -> LocalGraph:
    """Fresh, connected processes that learn the samples one after the other.

    Args:
        state: the network before.
        x: data [samples, features] or [samples, T, features], floats 0..1, or payloads, integers.
        labels: classes [samples].
        watched: connect recorders, one a quantity and layer; without them the run is faster, and tells its last memory only.

    Raises:
        LimitError, ValueError, TypeError: data that do not fit the network.
    """
    payload, classes = checked_batch(state, x, labels)
    settings = state.settings
    count, steps = len(payload), settings.steps
    hidden = range(1, settings.layers + 1)
    learned, direct = settings.feedback == "learned", settings.feedback != "transport"
    data = np.broadcast_to(payload.swapaxes(0, 1), (steps, count, payload.shape[2]))
    graph = LocalGraph(
        state,
        count,
        source=SampleSource(data=scheduled(data, settings.period)),
        target=SampleSource(data=scheduled(held(np.eye(settings.sizes[-1], dtype=np.int32)[classes], 1), settings.period)),
        synapses={part.name: _synapse(state, number, count) for number, part in enumerate(settings.synapses)},
        laterals={
            part.name: _lateral(state, number, count)
            for number, part in enumerate(settings.synapses)
            if len(state.subspaces[number])
        },
        neurons=tuple(_neuron(settings, layer) for layer in hidden),
        readout=_readout(settings, count),
        noise=tuple(_noise(state, layer) for layer in hidden) if learned else (),
        feedback=tuple(_feedback(state, layer, count) for layer in hidden) if direct else (),
        watch=_watch(settings, count * settings.period) if watched else None,
    )
    _connect(graph)
    return graph


def _synapse(state: LocalState, number: int, samples: int) -> OTTTDense:
    settings, part, layer = state.settings, state.settings.synapses[number], number + 1
    multiplier, shift = part.rate(state.rate)
    return OTTTDense(
        memory=state.memories[number],
        rule=settings.memory,
        exponent=part.exponent,
        back_exponent=part.back_exponent,
        spike_bits=settings.spike_bits if number else 0,
        impulse=settings.impulse(layer),
        dv=settings.readout_dv if layer > settings.layers else settings.dv,
        delay=settings.post_delay(layer) + 1,
        update=settings.update,
        multiplier=multiplier,
        shift=shift,
        projected=len(state.subspaces[number]) > 0,
        seed=part.seed,
        sample=state.samples,
        learn_phase=settings.learn_step,
        reset_interval=settings.period,
        records=samples * settings.period,
    )


def _lateral(state: LocalState, number: int, samples: int) -> HLOPLateral:
    settings = state.settings
    multiplier, shift = settings.turn_rate(number)
    start = number + settings.post_delay(number + 1) + 1
    return HLOPLateral(
        subspace=state.subspaces[number],
        velocity=state.velocities[number],
        sums=state.sums[number],
        old=state.old[number],
        multiplier=multiplier,
        shift=shift,
        average=settings.subspace_average,
        sample=state.samples,
        t_start=start,
        t_stop=start + settings.steps,
        learn_phase=settings.learn_step,
        reset_interval=settings.period,
        records=samples,
    )


def _neuron(settings: LocalSettings, layer: int) -> PerturbedLIF:
    return PerturbedLIF(
        shape=(settings.sizes[layer],),
        vth=settings.vth,
        dv=settings.dv,
        surrogate=settings.surrogate,
        table_shift=settings.table_shift,
        spike_bits=settings.spike_bits,
        position=settings.noise_position,
        amplitude=settings.amplitude,
        delay=settings.post_delay(layer),
        t_start=layer,
        t_stop=layer + settings.steps,
        reset_interval=settings.period,
    )


def _readout(settings: LocalSettings, samples: int) -> ErrorReadout:
    start = settings.layers + 1
    return ErrorReadout(
        shape=(settings.sizes[-1],),
        kind=settings.error,
        shift=settings.error_shift,
        table_step=settings.table_step,
        dv=settings.readout_dv,
        t_start=start,
        t_stop=start + settings.steps,
        reset_interval=settings.period,
        records=samples * settings.period,
    )


def _noise(state: LocalState, layer: int) -> NoiseSource:
    settings = state.settings
    return NoiseSource(
        shape=(settings.sizes[layer],),
        seed=settings.noise_seed(layer),
        sample=state.samples,
        steps=settings.steps,
        t_start=layer,
        antithetic=settings.antithetic,
        reset_interval=settings.period,
    )


def _feedback(state: LocalState, layer: int, samples: int) -> OPZOFeedback:
    settings = state.settings
    return OPZOFeedback(
        matrix=state.matrices[layer - 1],
        mean=state.means[layer - 1],
        count=state.updates,
        delay=settings.layers + 1 - layer,
        momentum=settings.momentum,
        baseline=settings.baseline,
        shift=settings.signal_shift(),
        learning=settings.feedback == "learned",
        reset_interval=settings.period,
        records=samples * settings.period,
    )


def _watch(settings: LocalSettings, steps: int) -> Watch:
    def layers() -> tuple[Recorder, ...]:
        return tuple(Recorder(shape=(size,), steps=steps) for size in settings.sizes[1:-1])

    classes = settings.sizes[-1:]
    return Watch(
        spikes=layers(),
        noise=layers() if settings.feedback == "learned" else (),
        signals=layers(),
        factors=layers(),
        errors=Recorder(shape=classes, steps=steps),
        currents=Recorder(shape=classes, steps=steps),
    )


def _connect(graph: LocalGraph) -> None:
    synapses, readout = list(graph.synapses.values()), graph.readout
    spikes = [graph.source.s_out, *(neuron.s_out for neuron in graph.neurons)]
    sums = [*(neuron.a_in for neuron in graph.neurons), readout.a_in]
    for sender, synapse, receiver in zip(spikes, synapses, sums, strict=True):
        sender.connect(synapse.s_in)
        synapse.a_out.connect(receiver)
    for neuron, synapse in zip(graph.neurons, synapses[:-1], strict=True):
        neuron.m_out.connect(synapse.m_in)
    readout.e_out.connect(synapses[-1].m_in)
    graph.target.s_out.connect(readout.y_in)
    for name, lateral in graph.laterals.items():
        graph.synapses[name].x_out.connect(lateral.x_in)
        lateral.r_out.connect(graph.synapses[name].r_in)
    for feedback in graph.feedback:
        readout.e_out.connect(feedback.e_in)
        readout.o_out.connect(feedback.o_in)
    for noise, feedback, neuron in zip(graph.noise, graph.feedback, graph.neurons, strict=bool(graph.noise)):
        noise.z_out.connect([feedback.z_in, neuron.z_in])
    signals = [feedback.g_out for feedback in graph.feedback] or [synapse.b_out for synapse in synapses[1:]]
    for signal, neuron in zip(signals, graph.neurons, strict=True):
        signal.connect(neuron.d_in)
    if graph.watch is not None:
        _connect_watch(graph, graph.watch, signals)


def _connect_watch(graph: LocalGraph, watch: Watch, signals: Sequence[OutPort]) -> None:
    pairs: list[tuple[Sequence[OutPort], Sequence[Recorder]]] = [
        ([neuron.s_out for neuron in graph.neurons], watch.spikes),
        ([noise.z_out for noise in graph.noise], watch.noise),
        (signals, watch.signals),
        ([neuron.m_out for neuron in graph.neurons], watch.factors),
        ([graph.readout.e_out, graph.readout.o_out], [watch.errors, watch.currents]),
    ]
    for ports, recorders in pairs:
        for port, recorder in zip(ports, recorders, strict=True):
            port.connect(recorder.s_in)
