"""How many synapses end at, and start from, each neuron of a connection; weights of zero are none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.fixed_point.convolution import ConvShape, expand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lava_snnlearn.fixed_point.graph import Connection


def fan_in(connection: Connection) -> NDArray[np.int64]:
    """Synapses of each target neuron: int64 [n_target]. Of a convolution: those that lie on the image, not on its padding."""
    weight, geometry = np.asarray(connection.weight), connection.geometry
    if geometry is None:
        return np.count_nonzero(weight, axis=1).astype(np.int64)
    out, *_ = shape = geometry.output_shape(weight.shape)
    counted = np.zeros(shape, np.int64)
    heard = np.count_nonzero(weight, axis=1)
    for a, b, places, _ in _taps(weight.shape, geometry):
        counted[:, places[0], places[1]] += heard[:, a, b].reshape(out, 1, 1)
    return counted.reshape(-1)


def sources_of(connections: Sequence[Connection]) -> NDArray[np.int64]:
    """Of connections between the same two populations: different sources of each target neuron, int64 [n_target]."""
    if len(connections) == 1:
        return fan_in(connections[0])
    kept: dict[tuple[Any, ...], Connection] = {}
    for connection in connections:
        key = connection.geometry, np.shape(connection.weight)
        present = 2 * (np.asarray(connection.weight) != 0)
        if key in kept:
            present |= np.asarray(kept[key].weight)
        kept[key] = replace(connection, weight=present, sign_mode="mixed")
    if len(kept) == 1:
        return fan_in(next(iter(kept.values())))
    from scipy.sparse import csr_matrix  # slow to import

    # Convolutions of different kinds: only synapse by synapse can one see where they meet.
    matrices = [csr_matrix(c.weight) if c.geometry is None else expand(np.asarray(c.weight), c.geometry) for c in kept.values()]
    return np.asarray(sum(matrices[1:], matrices[0]).getnnz(axis=1), np.int64)


def fan_out(connection: Connection) -> NDArray[np.int64]:
    """Synapses of each source neuron (or input channel): int64 [n_source]."""
    weight, geometry = np.asarray(connection.weight), connection.geometry
    if geometry is None:
        return np.count_nonzero(weight, axis=0).astype(np.int64)
    counted = np.zeros(geometry.input_shape, np.int64)
    grouped = weight.reshape(geometry.groups, -1, *weight.shape[1:])
    reached = np.count_nonzero(grouped, axis=1).reshape(-1, *weight.shape[2:])
    for a, b, _, rows in _taps(weight.shape, geometry):
        counted[:, rows[0], rows[1]] += reached[:, a, b].reshape(-1, 1, 1)
    return counted.reshape(-1)


def _taps(kernel: tuple[int, ...], geometry: ConvShape) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
    """Each tap (a, b) of a kernel that meets the image: the places (rows, columns) where it does, and what it meets there."""
    for a, b in np.ndindex(*kernel[2:]):
        places, met = [], []
        for axis, tap, taps in zip(geometry.axes, (a, b), kernel[2:], strict=True):
            inside = axis.inside(tap, taps)
            first = inside.start * axis.stride + tap * axis.dilation - axis.padding
            places.append(slice(inside.start, inside.stop))
            met.append(slice(first, first + max(len(inside) - 1, 0) * axis.stride + 1, axis.stride) if inside else slice(0, 0))
        yield a, b, (places[0], places[1]), (met[0], met[1])
