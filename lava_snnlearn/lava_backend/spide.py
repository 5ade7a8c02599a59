"""On-chip SPIDE on Lava: the network of processes that learns, its run sample by sample, and the proof that it does so exactly.

Input ``SampleSource`` -> F -> ``SoftResetLIF`` layers 1..L (W between them, R from the last back to the first) -> C ->
``ErrorStage``, which sends its error back through C into ``TernaryIF`` layers L..1. Every connection is one ``SpideSynapse``
with one memory for both directions. All samples are one long run of ``settings.period`` steps each; every process knows the
phase of a sample by its step, so that nothing is exchanged between them but spikes, sums and the error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lava_snnlearn.lava_backend.configuration import run_config
from lava_snnlearn.lava_backend.learning_report import LearningReport, Quantity, Row, compare_learning, quantities
from lava_snnlearn.lava_backend.runner import TIME_LIMIT, guarded
from lava_snnlearn.lava_backend.schedule import held, scheduled
from lava_snnlearn.on_chip.spide import OnChipSettings, OnChipState, SampleRecord, checked_batch, train_sample
from lava_snnlearn.on_chip.synapses import Synapses
from lava_snnlearn.processes.error_stage.process import ErrorStage
from lava_snnlearn.processes.sample_source.process import SampleSource
from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF
from lava_snnlearn.processes.spide_synapse.process import SpideSynapse
from lava_snnlearn.processes.ternary_if.process import TernaryIF


@dataclass(frozen=True)
class SpideGraph:
    """The connected processes of a network that learns, for one run over ``samples`` samples.

    Attributes:
        settings: of the network. samples: how many the sources hold; each takes ``settings.period`` steps.
        source, target: send the payloads and the one-hot classes.
        synapses: by name, in the order of ``settings.names``.
        forward, backward: one population a hidden layer, layer 1 first.
        error: the readout's end.
    """

    settings: OnChipSettings
    samples: int
    source: SampleSource
    target: SampleSource
    synapses: dict[str, SpideSynapse]
    forward: tuple[SoftResetLIF, ...]
    backward: tuple[TernaryIF, ...]
    error: ErrorStage


class LavaSample(NamedTuple):
    """What the processes hold after a sample: the simulator's record, and the memories in the order of ``settings.names``."""

    record: SampleRecord
    memories: tuple[NDArray[Any], ...]


class LavaTraining(NamedTuple):
    """Result of :func:`train_on_lava`: all samples, and the state after the last one."""

    samples: tuple[LavaSample, ...]
    state: OnChipState


def build(state: OnChipState, x: ArrayLike, labels: ArrayLike) -> SpideGraph:
    """Fresh, connected processes that learn the samples one after the other.

    Args:
        state: the network before.
        x: data [samples, features], or payloads, integers; see :meth:`OnChipState.payload`.
        labels: classes [samples].

    Raises:
        LimitError, ValueError, TypeError: data that do not fit the network.
    """
    settings = state.settings
    payload, classes = checked_batch(state, x, labels)
    graph = SpideGraph(
        settings,
        len(payload),
        source=SampleSource(data=scheduled(held(payload, settings.steps), settings.period)),
        target=SampleSource(data=scheduled(held(np.eye(settings.sizes[-1], dtype=np.int32)[classes], 1), settings.period)),
        synapses={
            part.name: _synapse(state, part, memory, len(payload))
            for part, memory in zip(settings.synapses, state.memories, strict=True)
        },
        forward=tuple(_forward(settings, layer) for layer in range(1, settings.layers + 1)),
        backward=tuple(_backward(settings, layer) for layer in range(1, settings.layers + 1)),
        error=_error_stage(settings),
    )
    _connect(graph)
    return graph


def run(graph: SpideGraph, *, tag: str = "fixed_pt", time_limit: float = TIME_LIMIT) -> list[LavaSample]:
    """Run a fresh graph over all its samples, guarded, and read the processes' Vars after each of them.

    Args:
        graph: from :func:`build`, not run before.
        tag: "fixed_pt" (records are int64) or "floating_pt" (float64; the networks of the two part where the first number is
            rounded).
        time_limit: seconds that may pass without any process finishing a phase of a step.

    Raises:
        LavaRunError: a model raised, died or blocked; the message holds its traceback.
    """
    dtype = np.int64 if tag == "fixed_pt" else np.float64
    ends: list[SampleRecord] = []
    with guarded(graph.source, run_config(tag), time_limit) as network:
        for _ in range(graph.samples):
            network.run(graph.settings.period)
            ends.append(_held(graph, dtype))
    learned = [synapse.learned for synapse in graph.synapses.values()]
    found, before = [], 0
    for number, record in enumerate(ends):
        memories = tuple(memory[number].astype(dtype) for memory, _ in learned)
        views = tuple(view[number].astype(dtype) for _, view in learned)
        # The process counts clipped currents over the whole run.
        found.append(LavaSample(record._replace(views=views, clipped=record.clipped - before), memories))
        before = record.clipped
    return found


def train_on_lava(state: OnChipState, x: ArrayLike, labels: ArrayLike, *, time_limit: float = TIME_LIMIT) -> LavaTraining:
    """Learn samples on Lava's simulator (``fixed_pt`` models): what ``train_sample`` does, one after the other.

    Args:
        state, x, labels: as in :func:`build`.
        time_limit: as in :func:`run`.

    Raises:
        LimitError, ValueError, TypeError: data that do not fit the network.
        LavaRunError: the run failed.
    """
    samples = run(build(state, x, labels), time_limit=time_limit)
    memories = tuple(memory.astype(np.int16) for memory in samples[-1].memories)
    return LavaTraining(tuple(samples), replace(state, memories=memories, samples=state.samples + len(samples)))


def verify_learning(state: OnChipState, x: ArrayLike, labels: ArrayLike, *, time_limit: float = TIME_LIMIT) -> LearningReport:
    """Let the simulator and Lava learn the same samples, and compare all they hold after each of them.

    Compared are spike counts of both phases, masks, sums and error of the readout, the injected current, and of every
    connection the weights that spikes see and the memory behind them.

    Args:
        state, x, labels: as in :func:`build`. Each sample takes ``settings.period`` steps of some milliseconds on Lava.
        time_limit: as in :func:`run`.

    Returns:
        LearningReport; ``report.ok`` is the answer, ``str(report)`` the readable form.

    Raises:
        LimitError, ValueError, TypeError: data that do not fit the network.
        LavaRunError: the run on Lava failed.
    """
    on_lava = train_on_lava(state, x, labels, time_limit=time_limit)

    def pairs() -> Iterator[tuple[Iterator[Quantity], Iterator[Quantity]]]:
        now = state
        for number, sample in enumerate(on_lava.samples):
            now, record = train_sample(now, np.asarray(x)[number], int(np.asarray(labels)[number]))
            yield _quantities(now.settings, LavaSample(record, now.memories)), _quantities(now.settings, sample)

    return compare_learning(pairs())


def _quantities(settings: OnChipSettings, sample: LavaSample) -> Iterator[Quantity]:
    """All that is compared, in the order in which it comes about."""
    record = sample.record
    layers = [f"layer {layer}" for layer in range(1, settings.layers + 1)]
    rows: list[Row] = [
        ("forward counts", layers, record.forward),
        ("readout sums", ["the readout"], [record.z]),
        ("errors", ["the readout"], [record.e]),
        ("injected currents", layers[-1:], [record.g]),
        ("clipped currents", layers[-1:], [np.array([record.clipped])]),
        ("masks", layers, record.masks),
        ("backward counts", layers, record.backward),
        ("memories", settings.names, sample.memories),
        ("weights", settings.names, record.views),
    ]
    yield from quantities(rows)


def _synapse(state: OnChipState, part: Synapses, memory: NDArray[np.int16], samples: int) -> SpideSynapse:
    settings = state.settings
    multiplier, shift = part.rate(state.rate)
    return SpideSynapse(
        memory=memory,
        rule=settings.memory,
        exponent=part.exponent,
        back_exponent=part.back_exponent,
        multiplier=multiplier,
        shift=shift,
        mask=part.mask,
        seed=part.seed,
        sample=state.samples,
        records=samples,
        learn_phase=settings.learn_step,
        reset_interval=settings.period,
    )


def _forward(settings: OnChipSettings, layer: int) -> SoftResetLIF:
    return SoftResetLIF(
        shape=(settings.sizes[layer],),
        vth=settings.vth,
        delta=settings.delta,
        t_start=layer,
        t_stop=layer + settings.steps,
        reset_interval=settings.period,
    )


def _backward(settings: OnChipSettings, layer: int) -> TernaryIF:
    start = settings.error_step + 1 + settings.layers - layer
    shape = (settings.sizes[layer],)
    # In a forward phase of one step every neuron fires never or always.
    masked = {"mask_steps": settings.steps} if settings.steps > 1 else {"mask": np.zeros(shape, dtype=bool)}
    return TernaryIF(
        shape=shape,
        vth=settings.delta // 2,
        delta=settings.delta,
        g_limit=settings.delta,
        t_start=start,
        t_stop=start + settings.backward_steps,
        reset_interval=settings.period,
        **masked,
    )


def _error_stage(settings: OnChipSettings) -> ErrorStage:
    return ErrorStage(
        shape=(settings.sizes[-1],),
        kind=settings.error,
        shift=settings.error_shift,
        table_step=settings.table_step,
        error_phase=settings.error_step,
        reset_interval=settings.period,
    )


def _connect(graph: SpideGraph) -> None:
    last = graph.settings.layers
    senders: list[AbstractProcess] = [graph.source, *graph.forward]
    for part in graph.settings.synapses:
        synapse = graph.synapses[part.name]
        senders[part.source].s_out.connect(synapse.s_in)
        if part.target > last:
            synapse.a_out.connect(graph.error.a_in)
            graph.error.e_out.connect(synapse.b_in)
            synapse.b_out.connect(graph.backward[-1].g_in)
            continue
        synapse.a_out.connect(graph.forward[part.target - 1].a_in)
        graph.backward[part.target - 1].s_out.connect(synapse.b_in)
        if part.source > 0:
            synapse.b_out.connect(graph.backward[part.source - 1].a_in)
    graph.target.s_out.connect(graph.error.y_in)
    for neuron, mirror in zip(graph.forward, graph.backward, strict=True):
        neuron.s_out.connect(mirror.h_in)


def _held(graph: SpideGraph, dtype: DTypeLike) -> SampleRecord:
    """What neurons and readout hold at the end of a sample; views are not read, ``clipped`` is a sum over the run."""

    def read(var: Var) -> NDArray[Any]:
        return np.asarray(var.get()).astype(dtype)

    return SampleRecord(
        forward=tuple(read(mirror.forward_count) for mirror in graph.backward),
        masks=tuple(read(mirror.mask).astype(bool) for mirror in graph.backward),
        z=read(graph.error.z),
        e=read(graph.error.e),
        g=read(graph.backward[-1].g),
        clipped=int(graph.backward[-1].clipped.get()[0]),
        backward=tuple(read(mirror.count) for mirror in graph.backward),
        views=(),
    )
