"""A network of Lava processes that learns by a local rule: its run, sample by sample, and the proof that it does so exactly.

The processes are those of :mod:`lava_snnlearn.lava_backend.local_graph`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.lava_backend.configuration import run_config
from lava_snnlearn.lava_backend.learning_report import LearningReport, Quantity, Row, compare_learning, quantities
from lava_snnlearn.lava_backend.local_graph import LocalGraph, Watch, build
from lava_snnlearn.lava_backend.runner import TIME_LIMIT, guarded
from lava_snnlearn.on_chip.local import LocalSettings, LocalState, SampleRecord, train_sample


class LavaMemory(NamedTuple):
    """All that the processes keep between samples, in the fields of ``LocalState``."""

    memories: tuple[NDArray[Any], ...]
    matrices: tuple[NDArray[Any], ...]
    means: tuple[NDArray[Any], ...]
    subspaces: tuple[NDArray[Any], ...]
    velocities: tuple[NDArray[Any], ...]
    sums: tuple[NDArray[Any], ...]
    updates: int


class LavaRun(NamedTuple):
    """Result of :func:`run`: the record of each sample, none if nothing was watched, and the memory after the last one."""

    samples: tuple[SampleRecord, ...]
    memory: LavaMemory


class LavaTraining(NamedTuple):
    """Result of :func:`train_on_lava`: all samples, and the state after the last one."""

    samples: tuple[SampleRecord, ...]
    state: LocalState


def run(graph: LocalGraph, *, tag: str = "fixed_pt", time_limit: float = TIME_LIMIT) -> LavaRun:
    """Run a fresh graph over all its samples, guarded.

    Args:
        graph: from :func:`build`, not run before.
        tag: "fixed_pt" (all numbers are integers) or "floating_pt" (float64; the networks of the two part where the first
            number is rounded).
        time_limit: seconds that may pass without any process finishing a phase of a step.

    Raises:
        LavaRunError: a model raised, died or blocked; the message holds its traceback.
    """
    dtype = np.int64 if tag == "fixed_pt" else np.float64

    def read(var: Var) -> NDArray[Any]:
        return np.asarray(var.get()).astype(dtype)

    with guarded(graph.source, run_config(tag), time_limit) as network:
        network.run(graph.samples * graph.state.settings.period)
        means = tuple(read(feedback.mean) for feedback in graph.feedback)
        updates = int(graph.feedback[0].count.get()[0]) if graph.feedback else graph.state.updates
        moving = {name: (read(lateral.velocity), read(lateral.sums)) for name, lateral in graph.laterals.items()}
    after_steps = _Recorded(graph)
    empty = [np.zeros((0, part.n_in), dtype) for part in graph.state.settings.synapses]
    kept = [moving.get(name, (none, none)) for name, none in zip(graph.synapses, empty, strict=True)]
    memory = LavaMemory(
        memories=tuple(values[-1] for values in after_steps.weights),
        matrices=tuple(values[-1] for values in after_steps.matrices),
        means=means,
        subspaces=tuple(values[-1] for values in after_steps.subspaces),
        velocities=tuple(velocity for velocity, _ in kept),
        sums=tuple(heard for _, heard in kept),
        updates=updates,
    )
    records = range(graph.samples if graph.watch else 0)
    return LavaRun(tuple(after_steps.sample(number) for number in records), memory)


def train_on_lava(
    state: LocalState, x: ArrayLike, labels: ArrayLike, *, watched: bool = True, time_limit: float = TIME_LIMIT
) -> LavaTraining:
    """Learn samples on Lava's simulator (``fixed_pt`` models): what ``train_sample`` does, one after the other.

    Args:
        state, x, labels, watched: as in :func:`build`.
        time_limit: as in :func:`run`.

    Raises:
        LimitError, ValueError, TypeError: data that do not fit the network.
        LavaRunError: the run failed.
    """
    graph = build(state, x, labels, watched=watched)
    samples, memory = run(graph, time_limit=time_limit)
    arrays: dict[str, Any] = {
        name: tuple(new.astype(old.dtype) for new, old in zip(getattr(memory, name), getattr(state, name), strict=True))
        for name in ("memories", "matrices", "means", "subspaces", "velocities", "sums")
    }
    after = replace(state, **arrays, updates=memory.updates, samples=state.samples + graph.samples)
    return LavaTraining(samples, after)


def verify_learning(state: LocalState, x: ArrayLike, labels: ArrayLike, *, time_limit: float = TIME_LIMIT) -> LearningReport:
    """Let the simulator and Lava learn the same samples, and compare all that happens.

    Compared are, in every phase, spikes, noise, top-down signals, factors, errors, the readout's outputs, and the memories of
    all connections and feedback matrices, that is, after every update; after every sample the readout's sums and the subspaces;
    and after the last one all else that the network keeps.

    Args:
        state, x, labels: as in :func:`build`. Each sample takes ``settings.period`` steps of some milliseconds on Lava.
        time_limit: as in :func:`run`.

    Returns:
        LearningReport; ``report.ok`` is the answer, ``str(report)`` the readable form.

    Raises:
        LimitError, ValueError, TypeError: data that do not fit the network.
        LavaRunError: the run on Lava failed.
    """
    samples, end = train_on_lava(state, x, labels, time_limit=time_limit)

    def pairs() -> Iterator[tuple[list[Quantity], list[Quantity]]]:
        now = state
        for number, theirs in enumerate(samples):
            now, ours = train_sample(now, np.asarray(x)[number], int(np.asarray(labels)[number]))
            both = [*_quantities(now.settings, ours)], [*_quantities(now.settings, theirs)]
            if number == len(samples) - 1:
                both[0].extend(_kept(now))
                both[1].extend(_kept(end))
            yield both

    return compare_learning(pairs())


def _layers(settings: LocalSettings) -> list[str]:
    return [f"layer {layer}" for layer in range(1, settings.layers + 1)]


def _quantities(settings: LocalSettings, record: SampleRecord) -> Iterator[Quantity]:
    """All of a sample that is compared, in the order in which it comes about."""
    layers, readout = _layers(settings), "the readout"
    rows: list[Row] = [
        ("noise", *((layers, record.noise) if settings.feedback == "learned" else ([], []))),
        ("spikes", layers, record.spikes),
        ("signals", layers, record.signals),
        ("factors", layers, record.factors[:-1]),
        ("outputs", [readout], [record.outputs]),
        ("errors", [readout], record.factors[-1:]),
        ("feedback matrices", layers[: len(record.matrices)], record.matrices),
        ("memories", settings.names, record.weights),
    ]
    for phase in range(settings.period):
        yield from quantities(((name, parts, [values[phase] for values in arrays]) for name, parts, arrays in rows), phase)
    yield from quantities([("readout sums", [readout], [record.z]), ("subspaces", settings.names, record.subspaces)])


def _kept(state: LocalState) -> Iterator[Quantity]:
    """What a state holds that no record tells."""
    settings = state.settings
    rows: list[Row] = [
        ("means of the output", _layers(settings)[: len(state.means)], state.means),
        ("velocities of subspaces", settings.names, state.velocities),
        ("sums of subspaces", settings.names, state.sums),
        ("number of samples", ["the network"], [np.array(state.samples)]),
        ("number of updates", ["the feedback"], [np.array(state.updates)]),
    ]
    yield from quantities(rows)


class _Recorded:
    """What was recorded in a run: one array [steps, ...] a quantity and layer or connection; subspaces [samples, ...]."""

    def __init__(self, graph: LocalGraph) -> None:
        self._settings = settings = graph.state.settings
        self.weights = [synapse.memories for synapse in graph.synapses.values()]
        self.matrices = [feedback.learned for feedback in graph.feedback]
        self.outputs = graph.readout.outputs
        nothing = [np.zeros((graph.samples, 0, part.n_in), self.outputs.dtype) for part in settings.synapses]
        self.subspaces = [
            graph.laterals[name].learned if name in graph.laterals else none
            for name, none in zip(graph.synapses, nothing, strict=True)
        ]
        self._watched = {} if graph.watch is None else _read(graph.watch)

    def sample(self, number: int) -> SampleRecord:
        """The record of one sample."""
        settings, period = self._settings, self._settings.period

        def rows(arrays: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
            return tuple(values[number * period : (number + 1) * period] for values in arrays)

        seen = {name: rows(arrays) for name, arrays in self._watched.items()}
        sent = seen["spikes"]
        noise = seen["noise"] or tuple(np.zeros_like(spikes) for spikes in sent)
        if settings.noise_position == "post":
            sent = tuple(spikes - riding for spikes, riding in zip(sent, noise, strict=True))
        return SampleRecord(
            spikes=tuple(spikes // (1 << settings.spike_bits) for spikes in sent),
            noise=noise,
            signals=seen["signals"],
            factors=seen["factors"] + seen["errors"],
            outputs=rows([self.outputs])[0],
            z=seen["currents"][0].sum(axis=0),
            weights=rows(self.weights),
            matrices=rows(self.matrices),
            subspaces=tuple(values[number] for values in self.subspaces),
        )


def _read(watch: Watch) -> dict[str, list[NDArray[Any]]]:
    """What the recorders hold, [steps, n], by their names in the watch."""
    return {
        name: [recorder.spikes for recorder in (found if isinstance(found, tuple) else (found,))]
        for name, found in vars(watch).items()
    }
