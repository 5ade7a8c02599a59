"""Connections as products of matrices: their work does not depend on how much is sent, and a batch shares the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.convolution import ConvShape, convolve
from lava_snnlearn.fixed_point.engine.synapses import Sent, Sums, source_delays
from lava_snnlearn.fixed_point.graph import Connection

FLOAT32_EXACT = 1 << 24
FLOAT64_EXACT = 1 << 53


def exact_dtype(bound: int) -> type[np.generic]:
    """The fastest dtype in which a sum of integers of magnitude below ``bound`` is exact in any order of summation."""
    if bound < FLOAT32_EXACT:
        return np.float32
    return np.float64 if bound < FLOAT64_EXACT else np.int64


@dataclass(frozen=True)
class Product:
    """A connection's weights in the fastest exact dtype.

    weight: matrix [n_source, n_target] or kernel; where the delays of a source differ, [n_target, n_source].
    lags: delay of each source, int64 [n_source]; of each synapse, [n_target, n_source], where those of a source differ.
    """

    exponent: int
    dtype: type[np.generic]
    weight: NDArray[Any]
    lags: NDArray[np.int64]
    binary: bool = False
    geometry: ConvShape | None = None

    @classmethod
    def of(cls, connection: Connection, largest_input: int) -> Product:
        """Prepare ``connection`` for inputs of magnitude up to ``largest_input``."""
        weight = np.asarray(connection.weight, dtype=np.int64)
        dtype = exact_dtype(connection.reach(largest_input))
        lags = source_delays(connection)
        if connection.geometry is not None:
            ready = weight.astype(dtype)
        elif lags is None:
            ready, lags = weight.astype(dtype), np.asarray(connection.delay, dtype=np.int64)
        else:
            ready = np.ascontiguousarray(weight.T).astype(dtype)
        assert lags is not None
        return cls(connection.exponent, dtype, ready, lags, connection.binary, connection.geometry)

    def apply(self, inputs: NDArray[Any]) -> NDArray[np.int64]:
        """Synaptic sums [..., n_target] for inputs [..., n_source] that all arrive together."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        if self.binary:
            flat = flat != 0
        product = flat.astype(self.dtype) @ self.weight if self.geometry is None else convolve(flat, self.weight, self.geometry)
        return self._shifted(product).reshape(*inputs.shape[:-1], product.shape[1])

    def _shifted(self, product: NDArray[Any]) -> NDArray[np.int64]:
        whole = product.astype(np.int64)
        return whole << self.exponent if self.exponent >= 0 else whole >> -self.exponent

    def add(self, sent: Sent, sums: Sums, begin: int, end: int) -> None:
        """Add to the rows begin .. end - 1 of ``sums`` what arrives there."""
        batch = sums.values.shape[1]
        if self.lags.ndim == 2:
            sums.values[begin:end] += self._delayed(sent, sums.start + begin, end - begin, batch)
            return
        shortest, longest = int(self.lags.min()), int(self.lags.max())
        first = sums.start + begin - 1
        if shortest < longest:
            heard = np.zeros((end - begin, batch, len(self.lags)), sent.values.dtype)
            for lag in np.unique(self.lags):
                silent, rows = _rows(sent, first - int(lag), end - begin, batch)
                heard[silent : silent + len(rows)][..., self.lags == lag] = rows[..., self.lags == lag]
            sums.values[begin:end] += self.apply(heard)
            return
        silent, rows = _rows(sent, first - shortest, end - begin, batch)
        if len(rows):
            sums.values[begin + silent : begin + silent + len(rows)] += self.apply(rows)

    def _delayed(self, sent: Sent, first: int, steps: int, batch: int) -> NDArray[np.int64]:
        """Sums [steps, B, n_target] of synapses that each have their own delay."""
        # Here, not above: graphs without mixed delays need no compiler.
        from lava_snnlearn.neurons.delay_kernels import delayed_sums

        longest = int(self.lags.max())
        silent, rows = _rows(sent, first - 1 - longest, steps + longest, batch)
        heard = np.zeros((rows.shape[2], steps + longest, batch), self.dtype)
        heard[:, silent : silent + len(rows)] = (rows != 0 if self.binary else rows).transpose(2, 0, 1)
        offset = (longest - self.lags) * batch
        summed = delayed_sums(heard.reshape(len(heard), -1), self.weight, offset, steps * batch)
        return self._shifted(summed).T.reshape(steps, batch, -1)


def _rows(sent: Sent, first: int, steps: int, batch: int) -> tuple[int, NDArray[Any]]:
    """What was sent in the chip steps first .. first + steps - 1: how many of these come before the first row, and the rows
    [., B, n] from there on."""
    begin, end = first - sent.base, first - sent.base + steps
    silent = min(max(-begin, 0), steps)
    rows = sent.values[max(begin, 0) : max(end, 0), sent.column : sent.column + batch]
    return silent, rows
