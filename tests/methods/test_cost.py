"""V3: the memory of the online methods does not depend on T, that of BPTT is linear in it; products as counted by hand."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lava_snnlearn.methods import BPTT, OTTT, SLTT
from lava_snnlearn.networks import mlp

SIZES = [24, 40, 32, 10]
BATCH = 8
STEPS = (2, 4, 8, 16, 32)


class SavedTensors:
    """Bytes that autograd holds for the backward at one time: distinct storages that a saved tensor uses."""

    def __init__(self) -> None:
        self.uses: Counter[int] = Counter()
        self.live = self.peak = 0

    def __enter__(self) -> SavedTensors:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Held(self, tensor), lambda held: held.tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def change(self, tensor: torch.Tensor, by: int) -> None:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        was_used = self.uses[address] > 0
        self.uses[address] += by
        if was_used != (self.uses[address] > 0):
            self.live += by * storage.nbytes()
            self.peak = max(self.peak, self.live)


class _Held:
    def __init__(self, meter: SavedTensors, tensor: torch.Tensor) -> None:
        self.meter, self.tensor = meter, tensor
        meter.change(tensor, 1)

    def __del__(self) -> None:
        self.meter.change(self.tensor, -1)


def batch():
    torch.manual_seed(1)
    return torch.randn(BATCH, SIZES[0]), torch.arange(BATCH) % SIZES[-1]


def peak_bytes(method, norm, steps):
    torch.manual_seed(0)
    network = mlp(SIZES, norm=norm, steps=steps)
    with SavedTensors() as meter:
        method.gradients(network, *batch())
    assert meter.live == 0, "everything is freed at the end"
    return meter.peak


ONLINE = [
    (SLTT(), "none"),
    (SLTT(), "bn_step"),
    (SLTT(k=2), "bn_step"),
    (OTTT(), "none"),
    (OTTT(), "sws"),
    (OTTT.official(), "sws"),
]


@pytest.mark.parametrize(
    "method, norm", ONLINE, ids=[f"{method.name}-{number}-{norm}" for number, (method, norm) in enumerate(ONLINE)]
)
def test_memory_of_online_methods_is_constant_to_the_byte(method, norm):
    peaks = {peak_bytes(method, norm, steps) for steps in STEPS}
    assert len(peaks) == 1
    activations = 4 * BATCH * sum(SIZES[1:-1])
    assert peaks.pop() > activations, "the meter sees at least the potentials of one step"


@pytest.mark.parametrize("norm", ["none", "bn_step", "sws"])
def test_memory_of_bptt_is_linear(norm):
    peaks = [peak_bytes(BPTT(), norm, steps) for steps in STEPS]
    slopes = [(after - before) / steps for before, after, steps in zip(peaks[:-1], peaks[1:], STEPS[:-1], strict=True)]
    assert max(slopes) <= 1.02 * min(slopes)
    assert min(slopes) > 4 * BATCH * sum(SIZES[1:-1]), "every step adds at least its potentials"


def test_bptt_needs_more_than_the_online_methods():
    assert peak_bytes(BPTT(), "sws", 16) > 3 * peak_bytes(OTTT(), "sws", 16)


def multiplications(method, norm, steps):
    """Scalar multiplications of all matrix products of one call."""
    network = mlp(SIZES, norm=norm, steps=steps)
    counter = FlopCounterMode(display=False)
    with counter:
        method.gradients(network, *batch())
    return counter.get_total_flops() // 2  # a multiplication and an addition each


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize(
    "method, norm, k",
    [(BPTT(), "none", None), (SLTT(), "bn_step", None), (SLTT(k=1), "none", 1), (OTTT(), "none", None), (OTTT(), "sws", None)],
    ids=["bptt", "sltt", "sltt-k", "ottt", "ottt-sws"],
)
def test_matrix_products_are_those_of_the_cost_model(method, norm, k, steps):
    """Forward n_l n_(l-1) a step; backward twice that, but for the data, which need no gradient; SLTT-K: at K steps only."""
    products = [before * after for before, after in itertools.pairwise(SIZES)]
    forward, backward = sum(products), 2 * sum(products) - products[0]
    expected = BATCH * (steps * forward + (k or steps) * backward)
    assert multiplications(method, norm, steps) == expected
