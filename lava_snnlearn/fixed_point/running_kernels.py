"""Kernels of a network that runs step by step in a Lava process: they keep the GIL, which costs more than they do.

Neurons are those of :mod:`lava_snnlearn.fixed_point.engine.neuron_kernels`, with the same arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lava_snnlearn.fixed_point.engine import neuron_kernels
from lava_snnlearn.neurons.compiling import holding, inlined

_soft_reset = inlined(neuron_kernels.soft_reset.function)
_stock_lif = inlined(neuron_kernels.stock_lif.function)
_graded = inlined(neuron_kernels.graded.function)


@holding
def soft_reset(*arguments: Any) -> int:
    """Reset by subtraction, and accumulators."""
    return _soft_reset(*arguments)


@holding
def stock_lif(*arguments: Any) -> int:
    """Lava's LIF."""
    return _stock_lif(*arguments)


@holding
def graded(*arguments: Any) -> None:
    """States of graded neurons."""
    _graded(*arguments)


@holding
def add_rows(sums: np.ndarray, sent: np.ndarray, weight: np.ndarray, graded: bool) -> None:
    """Add to ``sums`` [n_target] the rows of ``weight`` [n_source, n_target] whose neuron sends, times what it sends.

    All arrays int32 (sums wrap, as Lava's do) or all float64, contiguous; not graded: anything but 0 is one spike.
    """
    for j in range(len(sent)):
        if sent[j] != 0:
            payload = sent[j] if graded else 1
            for i in range(len(sums)):
                sums[i] += weight[j, i] * payload
