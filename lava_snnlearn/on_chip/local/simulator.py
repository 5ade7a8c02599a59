"""Training and inference in the chip's integers: equal to the network of Lava processes bit by bit, and much faster.

A connection takes one step, as on Lava, so that a sample of T steps takes ``settings.period``: hidden layer l works on time
step t in phase t + l, the readout in phase t + L + 1, where its error leaves at once; it comes to the layers one by one
(feedback "transport") or to all at the same time. Each neuron keeps its surrogates, and each connection its spikes, until the
error of the same time step arrives (``settings.post_delay``), so that every product is that of OTTT without latencies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least
from lava_snnlearn.fixed_point import plasticity
from lava_snnlearn.on_chip.local import kernel
from lava_snnlearn.on_chip.local.settings import FEEDBACKS, LocalSettings
from lava_snnlearn.on_chip.local.state import LocalState, check_state
from lava_snnlearn.on_chip.state import Inference
from lava_snnlearn.on_chip.synapses import checked_labels


class Diagnostics(NamedTuple):
    """How well the number ranges are used: ``saturated``, share of the top-down signals at their limit of 127; ``clipped``,
    membranes per sample that met their 24 bits; ``changed``, share of the weights that an epoch changed."""

    saturated: float
    clipped: float
    changed: float


class EpochReport(NamedTuple):
    """accuracy: share of right answers while learning; with update "online" a sample is already being learnt during its answer,
    which makes it too good. diagnostics: of all samples of the epoch."""

    accuracy: float
    diagnostics: Diagnostics


@dataclass(frozen=True)
class SampleRecord:
    """All integers of one training sample; P phases, L hidden layers.

    Attributes:
        spikes: 0/1, int8 [P, h_l] of each hidden layer. noise: -1, 0 or 1, int8 [P, h_l].
        signals: top-down, int16 [P, h_l], +-127.
        factors: post factors int16 [P, h_l], and at the end the readout's error [P, classes].
        outputs: of the readout, int32 [P, classes]. z: its summed currents, int64 [classes].
        weights: memories after each phase, int16 [P, n_out, n_in] a connection.
        matrices: feedback after each phase, int32 [P, h_l, classes] a hidden layer, or none.
        subspaces: at the end of the sample, int16 [rows, n_in] a connection.
    """

    spikes: tuple[NDArray[np.int8], ...]
    noise: tuple[NDArray[np.int8], ...]
    signals: tuple[NDArray[np.int16], ...]
    factors: tuple[NDArray[np.int16], ...]
    outputs: NDArray[np.int32]
    z: NDArray[np.int64]
    weights: tuple[NDArray[np.int16], ...]
    matrices: tuple[NDArray[np.int32], ...]
    subspaces: tuple[NDArray[np.int16], ...]


def infer(state: LocalState, x: ArrayLike) -> Inference:
    """Answers without noise and learning.

    Args:
        state: the network.
        x: data [B, features], the same at every step, or [B, T, features]; floats 0..1, or payloads, integers.

    Raises:
        LimitError, ValueError, TypeError: data that do not fit.
    """
    check_state(state)
    payload = _payload(state, x)
    quiet = np.full(len(payload), -1, np.int64)
    _, counts, z, _, _ = _walk(state, payload, quiet, learning=False, keep=False)
    return Inference.of(state.settings, counts, z)


def train_epoch(state: LocalState, x: ArrayLike, y: ArrayLike, seed: int | None = None) -> tuple[LocalState, EpochReport]:
    """Learn samples one after the other; ``seed`` shuffles them first.

    Args:
        state: the network before. x, y: as in :func:`checked_batch`.

    Raises:
        LimitError, ValueError, TypeError: data that do not fit.
    """
    payload, labels = checked_batch(state, x, y)
    if seed is not None:
        order = np.random.default_rng(at_least(0, "seed", seed)).permutation(len(payload))
        payload, labels = payload[order], labels[order]
    after, _, z, tally, _ = _walk(state, payload, labels, learning=True, keep=False)
    changed = sum(int((new != old).sum()) for new, old in zip(after.memories, state.memories, strict=True))
    total = sum(memory.size for memory in state.memories)
    diagnostics = Diagnostics(tally[1] / max(tally[2], 1), tally[0] / len(labels), changed / total)
    return after, EpochReport(float((z.argmax(axis=1) == labels).mean()), diagnostics)


def train_sample(state: LocalState, x: ArrayLike, label: int) -> tuple[LocalState, SampleRecord]:
    """Learn one sample, and tell all its integers; x [features] or [T, features]."""
    payload, labels = checked_batch(state, np.asarray(x)[None], np.array([label]))
    after, _, z, _, record = _walk(state, payload, labels, learning=True, keep=True)
    settings, phases = state.settings, state.settings.period
    parts = settings.synapses
    return after, SampleRecord(
        spikes=tuple(settings.by_layer(record.spikes[0])),
        noise=tuple(settings.by_layer(record.noise[0])),
        signals=tuple(settings.by_layer(record.signals[0])),
        factors=tuple(np.split(record.factors[0], np.cumsum(settings.sizes[1:-1]), axis=1)),
        outputs=record.outputs[0],
        z=z[0],
        weights=tuple(
            values.reshape(phases, part.n_out, part.n_in)
            for part, values in zip(parts, _cut(record.weights[0], state.memories), strict=True)
        ),
        matrices=tuple(
            values.reshape(phases, *matrix.shape)
            for matrix, values in zip(state.matrices, _cut(record.matrices[0], state.matrices), strict=True)
        ),
        subspaces=after.subspaces,
    )


def checked_batch(state: LocalState, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Payloads int32 [B, 1 or T, channels] and labels int64 [B] of samples to learn.

    Args:
        x: data [B, features] or [B, T, features]; floats 0..1, or integers, which are taken as the payloads. y: classes [B].

    Raises:
        LimitError, ValueError, TypeError: data that do not fit the network.
    """
    check_state(state)
    payload = _payload(state, x)
    if len(payload) == 0:
        raise ValueError(f"data have the shape {np.shape(x)}; there must be at least one sample to learn")
    return payload, checked_labels(y, len(payload), state.settings.sizes[-1])


def _payload(state: LocalState, x: ArrayLike) -> NDArray[np.int32]:
    payload, settings = state.payload(x), state.settings
    if payload.ndim == 2:
        payload = payload[:, None]
    if payload.ndim != 3 or payload.shape[1] not in (1, settings.steps):
        features = settings.sizes[0]
        raise ValueError(
            f"data of shape {np.shape(x)} do not fit; expected [batch, {features}], or [batch, {settings.steps}, {features}]"
        )
    return np.ascontiguousarray(payload, dtype=np.int32)


def _walk(
    state: LocalState, payload: NDArray[np.int32], labels: NDArray[np.int64], *, learning: bool, keep: bool
) -> tuple[LocalState, NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], kernel.Record]:
    """(state after, spike counts, readout's sums, tally, record)."""
    settings, plan = state.settings, plan_of(state)
    memory = kernel.Memory(
        _flat(state.memories, np.int16),
        _flat(state.matrices, np.int32),
        np.stack(state.means) if state.means else np.zeros((0, settings.sizes[-1]), np.int32),
        _flat(state.subspaces, np.int16),
        _flat(state.velocities, np.int32),
        _flat(state.sums, np.int64),
    )
    neurons, classes = sum(settings.sizes[1:-1]), settings.sizes[-1]
    record = _record(settings, memory, len(payload) if keep else 0)
    counts, evidence = np.zeros((len(payload), neurons), np.int32), np.zeros((len(payload), classes), np.int64)
    tally = np.zeros(3, np.int64)
    updates = kernel.walk(
        plan, memory, payload, labels, state.samples, state.updates, learning, record, counts, evidence, tally
    )
    if not learning:
        return state, counts, evidence, tally, record
    after = replace(
        state,
        memories=_shaped(memory.weights, state.memories),
        matrices=_shaped(memory.matrices, state.matrices),
        means=tuple(memory.means),
        subspaces=_shaped(memory.subspaces, state.subspaces),
        velocities=_shaped(memory.velocities, state.velocities),
        sums=_shaped(memory.sums, state.sums),
        samples=state.samples + len(payload),
        updates=int(updates),
    )
    return after, counts, evidence, tally, record


def plan_of(state: LocalState) -> kernel.Plan:
    """The constants of the compiled walk."""
    settings = state.settings
    parts, layers = settings.synapses, range(1, settings.layers + 2)
    rates = [part.rate(state.rate) for part in parts]
    turns = [settings.turn_rate(number) for number in range(len(parts))]

    def whole(values: list[int]) -> NDArray[np.int64]:
        return np.array(values, dtype=np.int64)

    def starts(sizes: list[int]) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)

    return kernel.Plan(
        layers=settings.layers,
        steps=settings.steps,
        period=settings.period,
        classes=settings.sizes[-1],
        rule=plasticity.RULES.index(settings.memory),
        accumulate=settings.update == "accumulate",
        error=plasticity.ERRORS.index(settings.error),
        feedback=FEEDBACKS.index(settings.feedback),
        antithetic=settings.antithetic,
        pre_noise=settings.noise_position == "pre",
        spike_bits=settings.spike_bits,
        amplitude=settings.amplitude,
        dv=settings.dv,
        vth=settings.vth,
        table=settings.surrogate_table,
        table_shift=settings.table_shift,
        readout_dv=settings.readout_dv,
        error_table=settings.error_table,
        error_shift=settings.error_shift,
        momentum=settings.momentum,
        baseline=settings.baseline,
        average=settings.subspace_average,
        learn_step=settings.learn_step,
        n_in=whole([part.n_in for part in parts]),
        n_out=whole([part.n_out for part in parts]),
        memory_at=starts([part.n_out * part.n_in for part in parts]),
        pre_at=starts([part.n_in for part in parts]),
        post_at=starts([part.n_out for part in parts]),
        exponent=whole([part.exponent for part in parts]),
        back_exponent=whole([part.back_exponent for part in parts]),
        impulse=whole([settings.impulse(layer) for layer in layers]),
        trace_dv=whole([settings.readout_dv if layer > settings.layers else settings.dv for layer in layers]),
        delay=whole([settings.post_delay(layer) + 1 for layer in layers]),
        multiplier=whole([rate[0] for rate in rates]),
        shift=whole([rate[1] for rate in rates]),
        seed=whole([part.seed for part in parts]),
        matrix_at=starts([matrix.size for matrix in state.matrices] or [0]),
        signal_shift=whole([settings.signal_shift()] * settings.layers),
        noise_seed=whole([settings.noise_seed(layer) for layer in range(1, settings.layers + 1)]),
        rows=whole([len(subspace) for subspace in state.subspaces]),
        old=whole(list(state.old)),
        subspace_at=starts([subspace.size for subspace in state.subspaces]),
        turn_multiplier=whole([turn[0] for turn in turns]),
        turn_shift=whole([turn[1] for turn in turns]),
    )


def _record(settings: LocalSettings, memory: kernel.Memory, samples: int) -> kernel.Record:
    neurons, classes, phases = sum(settings.sizes[1:-1]), settings.sizes[-1], settings.period
    return kernel.Record(
        spikes=np.zeros((samples, phases, neurons), np.int8),
        noise=np.zeros((samples, phases, neurons), np.int8),
        factors=np.zeros((samples, phases, neurons + classes), np.int16),
        signals=np.zeros((samples, phases, neurons), np.int16),
        outputs=np.zeros((samples, phases, classes), np.int32),
        weights=np.zeros((samples, phases, len(memory.weights)), np.int16),
        matrices=np.zeros((samples, phases, len(memory.matrices)), np.int32),
        subspaces=np.zeros((samples, len(memory.subspaces)), np.int16),
    )


def _flat(arrays: tuple[NDArray, ...], dtype: type) -> NDArray:
    return np.concatenate([np.zeros(0, dtype), *(array.reshape(-1) for array in arrays)])


def _cut(flat: NDArray, like: tuple[NDArray, ...]) -> list[NDArray]:
    """Parts of the last axis, of the sizes of ``like``."""
    ends = np.cumsum([array.size for array in like])
    return np.split(flat, ends[:-1], axis=-1) if like else []


def _shaped(flat: NDArray, like: tuple[NDArray, ...]) -> tuple[NDArray, ...]:
    return tuple(part.reshape(array.shape).copy() for part, array in zip(_cut(flat, like), like, strict=True))
