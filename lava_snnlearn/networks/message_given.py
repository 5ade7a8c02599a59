"""The backward of the compiled message passing for a forward that was computed elsewhere, e.g. in a chip's integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lava_snnlearn.graphs import Graph
from lava_snnlearn.networks.message_fused import Call, Left, Propagate
from lava_snnlearn.networks.propagation import Propagation, Tables
from lava_snnlearn.neurons.message_adjoint import Gradients
from lava_snnlearn.neurons.message_kernels import WORD_BITS, Maps


def propagate_given(
    graph: Graph,
    rule: Propagation,
    tables: Tables,
    source: Tensor,
    row: Tensor,
    features: Tensor,
    charged: Tensor,
    spikes: Tensor,
) -> Tensor:
    """``features`` [B, N, D] as they are, with the gradient of :func:`lava_snnlearn.networks.message_passing.propagate` at the
    given states.

    Args:
        graph, rule, tables, source, row: as there; tables on the CPU, in the dtype of features and charged.
        charged: [T, B, N, D], membranes before the reset, in real units.
        spikes: uint8 [T, B, N, D].
    """
    call = Call.of(graph, rule, tables, source, row)
    left = call.leave(True)
    left.charged[...] = charged.transpose(0, 1).numpy()
    left.bits[...] = _pack(spikes.transpose(0, 1).numpy())
    result: Tensor = Propagate.apply(_Given(call, features), left, *tables)
    return result


def _pack(spikes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Bits [..., words] of spikes [..., D], the first neuron in the lowest bit."""
    words = -(-spikes.shape[-1] // WORD_BITS)
    octets = np.zeros((*spikes.shape[:-1], words * WORD_BITS // 8), np.uint8)
    packed = np.packbits(spikes, axis=-1, bitorder="little")
    octets[..., : packed.shape[-1]] = packed
    bits: NDArray[np.int64] = octets.view("<i8").astype(np.int64, copy=False)
    return bits


class _Given:
    """A call whose forward is done."""

    def __init__(self, call: Call, features: Tensor) -> None:
        self.call, self.features = call, features

    @property
    def maps(self) -> Maps:
        return self.call.maps

    def forward(self, left: Left) -> Tensor:
        return self.features

    def backward(self, by_feature: Tensor, charged: Tensor, bits: Tensor) -> Gradients:
        return self.call.backward(by_feature, charged, bits)

    def per_query(self, samples: NDArray[np.floating]) -> Tensor:
        return self.call.per_query(samples)
