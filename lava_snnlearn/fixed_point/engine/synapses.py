"""Connections made ready for events: what every spike or payload adds to its targets, in the narrowest exact integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.convolution import Axis, ConvShape
from lava_snnlearn.fixed_point.engine import synapse_kernels
from lava_snnlearn.fixed_point.graph import Connection

SPARSE = 1 / 16
"""Matrices with fewer synapses than this part of their entries are kept synapse by synapse."""
_PADDING = 16
"""Weight rows are filled up to a multiple of so many, the width of a vector register of int16."""
_INT16 = 1 << 15


@dataclass(frozen=True)
class Sent:
    """What a source sent: uint8 or int32 [rows, samples, n], C-contiguous; row 0 is that of chip step ``base``, and a block of
    samples begins at ``column``. ``ones``: there are only zeros and ones. Earlier and later steps were silent."""

    values: NDArray[Any]
    base: int
    column: int
    ones: bool


@dataclass(frozen=True)
class Sums:
    """A population's synaptic sums: int32 [steps, B, n]; row 0 is that of chip step ``start``."""

    values: NDArray[np.int32]
    start: int


class Events(Protocol):
    """A connection that adds what is sent, event by event."""

    def state(self, batch: int) -> NDArray[np.int32] | None:
        """What is under way between two calls, for a block of so many samples; None: nothing has to be kept."""

    def add(self, sent: Sent, sums: Sums, begin: int, end: int, state: NDArray[np.int32] | None) -> None:
        """Add to the rows begin .. end - 1 of ``sums`` what arrives there."""


def events(connection: Connection, largest: int, ones: bool) -> Events:
    """The connection for sources that send values of magnitude up to ``largest``; ``ones``: zeros and ones only."""
    if connection.geometry is not None:
        return ConvEvents.of(connection, connection.geometry, largest)
    weight = np.asarray(connection.weight)
    if source_delays(connection) is None or np.count_nonzero(weight) < SPARSE * weight.size:
        return ScatteredEvents.of(connection)
    return DenseEvents.of(connection, ones or connection.binary)


def halved(weight: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int16], int]:
    """Weights without the lowest bit that mixed-sign weights do not use, and how many bits they lost (0 or 1)."""
    values = np.asarray(weight, dtype=np.int16)
    bits = 0 if (values & 1).any() else 1
    return values >> bits, bits


def source_delays(connection: Connection) -> NDArray[np.int64] | None:
    """Delay of every source, int64 [n_in]; None where the delays of a source's synapses differ."""
    delay = np.asarray(connection.delay, dtype=np.int64)
    if delay.ndim == 0:
        # One for all; spread over the matrix of a large convolution, it would fill the memory.
        return np.full(connection.shape[1], delay)
    return delay[0] if (delay == delay[0]).all() else None


@dataclass(frozen=True)
class DenseEvents:
    """A dense matrix, transposed: int8 or int16 [n_in, n_out, padded with zeros]; see the kernels for the rest."""

    weight: NDArray[Any]
    lag: int
    lags: NDArray[np.int64]
    chunk: int
    exponent: int
    spikes: bool

    @classmethod
    def of(cls, connection: Connection, spikes: bool) -> DenseEvents:
        """Prepare a connection in which all synapses of a source have the same delay; ``spikes``: there are no payloads."""
        lags = source_delays(connection)
        assert lags is not None
        weight, bits = halved(np.asarray(connection.weight).T)
        dtype = np.int8 if weight.min() >= -128 and weight.max() <= 127 else np.int16
        n_in, n_out = weight.shape
        padded = np.zeros((n_in, -(-n_out // _PADDING) * _PADDING), dtype)
        padded[:, :n_out] = weight
        lag = int(lags.min())
        beyond = lags - lag if lags.max() > lag else np.zeros(0, np.int64)
        chunk = (_INT16 - 1) // max(1, int(np.abs(weight).max()))
        return cls(padded, lag, beyond, chunk, connection.exponent + bits, spikes)

    def state(self, batch: int) -> None:
        return None

    def add(self, sent: Sent, sums: Sums, begin: int, end: int, state: NDArray[np.int32] | None) -> None:
        source, target = (sent.values, sent.base, sent.column), (self.exponent, sums.values, sums.start, begin, end)
        if self.spikes:
            delays = self.lag, self.lags, self.chunk
            synapse_kernels.dense_spikes(*source, sent.ones, self.weight, *delays, *target)
        else:
            synapse_kernels.dense_payloads(*source, self.weight, self.lag, self.lags, *target)


@dataclass(frozen=True)
class ScatteredEvents:
    """Synapses that are not zero, sorted by source; see the kernel."""

    first: NDArray[np.int64]
    place: NDArray[np.int32]
    weight: NDArray[np.int16]
    longest: int
    targets: int
    exponent: int
    binary: bool

    @classmethod
    def of(cls, connection: Connection) -> ScatteredEvents:
        """Prepare a connection; delays may be any."""
        weight = np.asarray(connection.weight).T
        delay = np.broadcast_to(connection.delay, connection.shape).T
        source, target = np.nonzero(weight)
        first = np.zeros(len(weight) + 1, np.int64)
        np.cumsum(np.bincount(source, minlength=len(weight)), out=first[1:])
        n_out = weight.shape[1]
        place = (delay[source, target].astype(np.int64) * n_out + target).astype(np.int32)
        values = weight[source, target].astype(np.int16)
        return cls(first, place, values, connection.max_delay, n_out, connection.exponent, connection.binary)

    @property
    def synapses(self) -> int:
        """Synapses that are not zero."""
        return len(self.weight)

    def state(self, batch: int) -> NDArray[np.int32]:
        return np.zeros((batch, self.longest, self.targets), np.int32)

    def add(self, sent: Sent, sums: Sums, begin: int, end: int, state: NDArray[np.int32] | None) -> None:
        source = sent.values, sent.base, sent.column, self.first, self.place, self.weight
        synapse_kernels.scattered(*source, state, self.binary, self.exponent, sums.values, sums.start, begin, end)


@dataclass(frozen=True)
class ConvEvents:
    """A convolution's kernel, turned round, and where its rows and columns meet the image; see the kernel."""

    runs: NDArray[np.int16]
    run_first: NDArray[np.int64]
    run_length: NDArray[np.int64]
    reach_first: NDArray[np.int64]
    reach: NDArray[np.int64]
    columns: NDArray[np.int64]
    phase: NDArray[np.int64]
    image: tuple[int, int, int, int]
    dtype: type[np.integer[Any]]
    margin: int
    lag: int
    exponent: int
    binary: bool

    @classmethod
    def of(cls, connection: Connection, geometry: ConvShape, largest: int) -> ConvEvents:
        """Prepare a convolution for values of magnitude up to ``largest``."""
        kernel, bits = halved(np.asarray(connection.weight))
        out_channels, _, tap_rows, _ = kernel.shape
        _, tall, wide = geometry.output_shape(kernel.shape)
        down, across = geometry.axes
        taps = _spread(kernel, across.dilation)
        runs, first, length = _runs(taps, geometry.groups, across.stride)
        margin = -(-taps.shape[3] // across.stride) - 1
        shifted = np.arange(across.size, dtype=np.int64) + across.padding
        phase = shifted % across.stride
        # The run of column x ends at the output whose leftmost tap lies there.
        counts = np.array([len(range(p, taps.shape[3], across.stride)) for p in range(across.stride)])
        columns = shifted // across.stride - counts[phase] + 1 + margin
        columns_in_all = max(int((columns + counts[phase]).max()), margin + wide)
        reach_first, reach = _meetings(down, tap_rows)
        image = geometry.groups, tall, columns_in_all, out_channels // geometry.groups
        dtype = np.int16 if connection.reach(largest) >> bits < _INT16 else np.int32
        rest = margin, int(np.max(connection.delay)), connection.exponent + bits, connection.binary
        return cls(runs, first, length, reach_first, reach, columns, phase, image, dtype, *rest)

    def state(self, batch: int) -> None:
        return None

    def add(self, sent: Sent, sums: Sums, begin: int, end: int, state: NDArray[np.int32] | None) -> None:
        image = np.zeros(self.image, self.dtype)
        kernel = self.runs, self.run_first, self.run_length, self.reach_first, self.reach, self.columns, self.phase
        rest = image, self.margin, self.lag, self.binary, self.exponent
        synapse_kernels.convolved(sent.values, sent.base, sent.column, *kernel, *rest, sums.values, sums.start, begin, end)


def _spread(kernel: NDArray[np.int16], dilation: int) -> NDArray[np.int16]:
    """The kernel with its columns ``dilation`` apart, zeros between them."""
    if dilation == 1:
        return kernel
    wide = np.zeros((*kernel.shape[:3], dilation * (kernel.shape[3] - 1) + 1), np.int16)
    wide[..., ::dilation] = kernel
    return wide


def _runs(taps: NDArray[np.int16], groups: int, stride: int) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]]:
    """For each input channel what it adds, run by run: of tap row a and phase p the columns p, p + stride, ... in falling
    order, each with all output channels of the group. int16 [C_in, S]; first place and length of each run, int64 [kh, phases].
    """
    out_channels, depth, rows, columns = taps.shape
    # [groups, channel of the group, tap row, tap column, output channel of the group]
    sorted_taps = taps.reshape(groups, out_channels // groups, depth, rows, columns).transpose(0, 2, 3, 4, 1)
    parts, first, length, at = [], [], [], 0
    for row in range(rows):
        for phase in range(stride):
            part = sorted_taps[:, :, row, phase::stride][:, :, ::-1].reshape(groups * depth, -1)
            parts.append(part)
            first.append(at)
            length.append(part.shape[1])
            at += part.shape[1]
    shape = rows, stride
    return np.concatenate(parts, axis=1), np.array(first, np.int64).reshape(shape), np.array(length, np.int64).reshape(shape)


def _meetings(axis: Axis, taps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of every row of the image the pairs (tap row, output row) that meet it: int64 [H + 1] first ones, and [., 2]."""
    tap, place, row = axis.meetings(taps)
    order = np.argsort(row, kind="stable")
    first = np.zeros(axis.size + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=axis.size), out=first[1:])
    return first, np.ascontiguousarray(np.stack([tap, place], axis=1)[order])
