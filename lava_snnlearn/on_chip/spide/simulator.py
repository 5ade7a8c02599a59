"""Training and inference in the chip's integers: equal to the network of Lava processes bit by bit, and much faster.

A sample has two phases (arXiv 2302.00232; the timeline is that of the Lava processes, one step of delay a connection):

1. forward, T_F steps: the source sends the payload; spikes of every neuron are counted, and the readout's sums, z;
2. the error e of z goes back through C and is injected as the constant current g;
3. backward, T_B steps: ternary neurons settle at the adjoint; those are silent whose forward partner never fired or always;
4. every synapse changes by the product of its two counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least
from lava_snnlearn.fixed_point.plasticity import (
    backward_sums,
    forward_sums,
    learned,
    seen,
)
from lava_snnlearn.on_chip.spide.kernel import relax
from lava_snnlearn.on_chip.spide.settings import OnChipSettings
from lava_snnlearn.on_chip.spide.state import OnChipState, check_state, project
from lava_snnlearn.on_chip.state import Inference
from lava_snnlearn.on_chip.synapses import Synapses, checked_labels

Memories = tuple[NDArray[np.int16], ...]


class SampleRecord(NamedTuple):
    """All integers of one training sample.

    Attributes:
        forward: spike counts of each hidden layer, int32 [h_l].
        masks: which backward neurons may spike, bool [h_l].
        z, e: sums and error of the readout, int64 [classes].
        g: injected current of layer L after the clip, int64 [h_L], weight units.
        clipped: how many entries of g were clipped.
        backward: sums of ternary spikes of each hidden layer, int32 [h_l].
        views: weights after the update, in the order of ``settings.names``.
    """

    forward: tuple[NDArray[np.int32], ...]
    masks: tuple[NDArray[np.bool_], ...]
    z: NDArray[np.int64]
    e: NDArray[np.int64]
    g: NDArray[np.int64]
    clipped: int
    backward: tuple[NDArray[np.int32], ...]
    views: Memories


class Diagnostics(NamedTuple):
    """How well the range of the backward phase is used, over all samples with an error (NaN if there are none).

    Attributes:
        clipped: share of the entries of g that were clipped.
        saturated: share of the active neurons (mask on) that spiked with one sign in every step.
        dead_zone: share of the active neurons that did not spike, or as often with each sign.
        median_beta: median of |beta|, the mean spike over T_B, over the active neurons.
    """

    clipped: float
    saturated: float
    dead_zone: float
    median_beta: float


class EpochReport(NamedTuple):
    """accuracy: share of right answers, each before the sample was learnt. diagnostics: of all samples of the epoch."""

    accuracy: float
    diagnostics: Diagnostics


@dataclass(frozen=True)
class _Pass:
    """Both phases of a batch: arrays [B, ...], layers side by side in the order 1..L."""

    forward: NDArray[np.int32]
    mask: NDArray[np.bool_]
    z: NDArray[np.int64]
    e: NDArray[np.int64]
    g: NDArray[np.int64]
    clipped: NDArray[np.bool_]
    backward: NDArray[np.int32]


class _Tally:
    """Counts for :class:`Diagnostics`."""

    def __init__(self, settings: OnChipSettings) -> None:
        self._magnitudes = np.zeros(settings.backward_steps + 1, np.int64)
        self._clipped = self._injected = 0

    def add(self, result: _Pass) -> None:
        wrong = result.e.any(axis=1)
        self._clipped += int(result.clipped[wrong].sum())
        self._injected += result.g[wrong].size
        active = np.abs(result.backward[wrong][result.mask[wrong]])
        self._magnitudes += np.bincount(active, minlength=len(self._magnitudes))

    def diagnostics(self) -> Diagnostics:
        below = self._magnitudes.cumsum()
        if below[-1] == 0:
            return Diagnostics(self._clipped / self._injected if self._injected else np.nan, np.nan, np.nan, np.nan)
        share = self._magnitudes / below[-1]
        median = int(np.searchsorted(below, (below[-1] + 1) // 2))
        steps = len(share) - 1
        return Diagnostics(self._clipped / self._injected, float(share[steps]), float(share[0]), median / steps)


def infer(state: OnChipState, x: ArrayLike) -> Inference:
    """The forward phase of a batch.

    Args:
        state: the network.
        x: data [B, features], or payloads, integers; see :meth:`OnChipState.payload`.

    Raises:
        LimitError, ValueError, TypeError: data that do not fit.
    """
    check_state(state)
    payload = state.payload(x)
    if payload.ndim != 2:
        raise ValueError(f"data of shape {np.shape(x)} do not fit; expected [batch, {state.settings.sizes[0]}]")
    counts = _forward(state.settings, state.views, payload)
    z = _readout(state.settings, state.views, counts)
    return Inference.of(state.settings, counts, z)


def train_sample(state: OnChipState, x: ArrayLike, label: int) -> tuple[OnChipState, SampleRecord]:
    """Learn one sample.

    Args:
        state: the network before.
        x: data [features], or payloads, integers.
        label: its class.

    Returns:
        The network after, and all that happened.

    Raises:
        LimitError, ValueError, TypeError: a sample that does not fit.
    """
    check_state(state)
    payload = state.payload(x)
    if payload.ndim != 1:
        raise ValueError(f"data of shape {np.shape(x)} do not fit; expected one sample, [{state.settings.sizes[0]}]")
    labels = checked_labels(np.array([label]), 1, state.settings.sizes[-1])
    memories, result = _learn(state.settings, state.memories, _rates(state), state.samples, payload[None], labels)
    after = replace(state, memories=memories, samples=state.samples + 1)
    record = SampleRecord(
        forward=tuple(row[0] for row in state.settings.by_layer(result.forward)),
        masks=tuple(row[0] for row in state.settings.by_layer(result.mask)),
        z=result.z[0],
        e=result.e[0],
        g=result.g[0],
        clipped=int(result.clipped.sum()),
        backward=tuple(row[0] for row in state.settings.by_layer(result.backward)),
        views=after.views,
    )
    return after, record


def train_epoch(
    state: OnChipState, x: ArrayLike, y: ArrayLike, *, seed: int | None = None, project_every: int | None = None
) -> tuple[OnChipState, EpochReport]:
    """Learn all samples once, one by one; then the host limits the norms (:func:`project`).

    Args:
        state: the network before; its ``eta`` is the learning rate.
        x: data [B, features], or payloads, integers.
        y: classes [B].
        seed: of the order of samples; None: as given.
        project_every: the host also limits the norms each time after so many samples; needed where all credit crosses R and
            gamma is near 1, so that the norm can outgrow the limit within an epoch.

    Raises:
        LimitError, ValueError, TypeError: data that do not fit.
    """
    check_state(state)
    payload, labels = checked_batch(state, x, y)
    order = np.arange(len(labels)) if seed is None else np.random.default_rng(seed).permutation(len(labels))
    every = len(order) if project_every is None else at_least(1, "project_every", project_every)
    rates, tally, right = _rates(state), _Tally(state.settings), 0
    for first in range(0, len(order), every):
        memories, part = state.memories, order[first : first + every]
        for number, index in enumerate(part, start=state.samples):
            one = slice(index, index + 1)
            memories, result = _learn(state.settings, memories, rates, number, payload[one], labels[one])
            right += int(result.z[0].argmax() == labels[index])
            tally.add(result)
        state = project(replace(state, memories=memories, samples=state.samples + len(part)))
    return state, EpochReport(right / len(order), tally.diagnostics())


def diagnose(state: OnChipState, x: ArrayLike, y: ArrayLike) -> Diagnostics:
    """Both phases of a batch, without learning; data as in :func:`train_epoch`."""
    check_state(state)
    payload, labels = checked_batch(state, x, y)
    tally = _Tally(state.settings)
    tally.add(_both_phases(state.settings, state.views, payload, labels))
    return tally.diagnostics()


def checked_batch(state: OnChipState, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Payloads [B, channels] and classes [B] of data as in :func:`train_epoch`, refused as there."""
    payload = state.payload(x)
    if payload.ndim != 2 or len(payload) == 0:
        expected = f"[samples, {state.settings.sizes[0]}] with at least one sample"
        raise ValueError(f"data of shape {np.shape(x)} do not fit; expected {expected}")
    return payload, checked_labels(y, len(payload), state.settings.sizes[-1])


def _rates(state: OnChipState) -> list[tuple[int, int]]:
    return [part.rate(state.rate) for part in state.settings.synapses]


def _learn(
    settings: OnChipSettings,
    memories: Memories,
    rates: Sequence[tuple[int, int]],
    sample: int,
    payload: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> tuple[Memories, _Pass]:
    """Both phases and the update of one sample, [1, channels] and [1]."""
    views = tuple(seen(settings.memory, memory) for memory in memories)
    result = _both_phases(settings, views, payload, labels)
    pre = [settings.steps * payload[0], *(counts[0] for counts in settings.by_layer(result.forward))]
    post = [*(counts[0] for counts in settings.by_layer(result.backward)), result.e[0]]
    changed = tuple(
        _updated(settings, part, memory, pre[part.source], post[part.target - 1], rate, sample)
        for part, memory, rate in zip(settings.synapses, memories, rates, strict=True)
    )
    return changed, result


def _updated(
    settings: OnChipSettings,
    part: Synapses,
    memory: NDArray[np.int16],
    pre: NDArray[np.integer],
    post: NDArray[np.integer],
    rate: tuple[int, int],
    sample: int,
) -> NDArray[np.int16]:
    if rate[0] == 0 or not post.any():
        return memory
    return learned(settings.memory, memory, pre, post, *rate, part.seed, sample, part.mask)


def _both_phases(settings: OnChipSettings, views: Memories, payload: NDArray[np.int64], labels: NDArray[np.int64]) -> _Pass:
    counts = _forward(settings, views, payload)
    z = _readout(settings, views, counts)
    e = settings.error_of(z, np.eye(settings.sizes[-1], dtype=np.int64)[labels])
    wanted = backward_sums(views[-1], e, settings.synapses[-1].back_exponent)
    g = np.clip(wanted, -settings.delta, settings.delta)
    mask = (counts > 0) & (counts < settings.steps)
    return _Pass(counts, mask, z, e, g, g != wanted, _backward(settings, views, g, mask))


def _readout(settings: OnChipSettings, views: Memories, counts: NDArray[np.int32]) -> NDArray[np.int64]:
    """z: the sum over steps is the product with the counts."""
    return forward_sums(views[-1], settings.by_layer(counts)[-1], settings.synapses[-1].exponent)


def _forward(settings: OnChipSettings, views: Memories, payload: NDArray[np.int64]) -> NDArray[np.int32]:
    """Spike counts [B, N] of the layers 1..L."""
    sizes = settings.sizes[1:-1]
    # F's sum is the same in every step. The ring: W1 .. W(L-1) from layer to layer, R from the last to the first.
    drive = forward_sums(views[0], payload, settings.synapses[0].exponent)
    rows = _rows(sizes, [view.T for view in views[1:-1]], settings.hidden_exponent)
    every = np.ones((len(payload), sum(sizes)), np.bool_)
    return _settle(settings, sizes, rows, drive, every, settings.steps, False)


def _backward(settings: OnChipSettings, views: Memories, g: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Sums of the ternary spikes [B, N] of the layers 1..L."""
    sizes = settings.sizes[-2:0:-1]
    # From the layer l + 1 back to l through W(l), from the first to the last through R: the ring turned round.
    rows = _rows(sizes, [*views[-3:0:-1], views[-2]], settings.hidden_exponent)
    turned = np.concatenate(settings.by_layer(mask)[::-1], axis=1)
    counts = _settle(settings, sizes, rows, g, turned, settings.backward_steps, True)
    return np.concatenate(np.split(counts, np.cumsum(sizes)[:-1], axis=1)[::-1], axis=1)


def _rows(sizes: Sequence[int], matrices: Sequence[NDArray[np.int16]], exponent: int) -> NDArray[np.int32]:
    """What a spike of each neuron adds to the neurons of the next place, one matrix [n of place, n of next place] a place."""
    rows = np.zeros((sum(sizes), max(sizes)), np.int32)
    first = 0
    for matrix in matrices:
        rows[first : first + len(matrix), : matrix.shape[1]] = matrix
        first += len(matrix)
    return rows << exponent


def _settle(
    settings: OnChipSettings,
    sizes: Sequence[int],
    rows: NDArray[np.int32],
    drive: NDArray[np.int64],
    mask: NDArray[np.bool_],
    steps: int,
    signed: bool,
) -> NDArray[np.int32]:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    counts = np.empty(mask.shape, np.int32)
    relax(counts, rows, starts, np.ascontiguousarray(drive), mask, steps, settings.vth, settings.delta, signed)
    return counts
