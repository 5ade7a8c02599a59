"""V3: the memory of the online methods does not depend on T, that of BPTT is linear in it; products as counted by hand."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lava_snnlearn.methods import BPTT, DSR, OTTT, SLTT, RateBP
from lava_snnlearn.networks import mlp
from lava_snnlearn.neurons import DSRIF

SIZES = [24, 40, 32, 10]
BATCH = 8
STEPS = (2, 4, 8, 16, 32)
CHUNK = 2
LONG = (64, 256, 1000)


class SavedTensors:
    """Bytes that autograd holds for the backward at one time: distinct storages that a saved tensor uses."""

    def __init__(self, given: torch.Tensor) -> None:
        self.given = given.untyped_storage().data_ptr()  # the caller's own data are no cost of the method
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
        if address == self.given:
            return
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


def batch(steps=None):
    """A static frame, or new frames at every step."""
    torch.manual_seed(1)
    shape = (BATCH, SIZES[0]) if steps is None else (steps, BATCH, SIZES[0])
    return torch.randn(shape), torch.arange(BATCH) % SIZES[-1]


def peak_bytes(method, norm, steps, frames=False):
    torch.manual_seed(0)
    network = mlp(SIZES, DSRIF() if method.name == "dsr" else None, norm=norm, steps=steps)
    x, y = batch(steps if frames else None)
    with SavedTensors(x) as meter:
        method.gradients(network, x, y)
    assert meter.live == 0, "everything is freed at the end"
    return meter.peak


ONLINE = [
    (SLTT(chunk=CHUNK), "none"),
    (SLTT(chunk=CHUNK), "bn_step"),
    (SLTT(k=1, chunk=CHUNK), "bn_step"),
    (OTTT(chunk=CHUNK), "none"),
    (OTTT(chunk=CHUNK), "sws"),
    (dataclasses.replace(OTTT.official(), chunk=CHUNK), "sws"),
]


@pytest.mark.parametrize("frames", [False, True], ids=["static", "frames"])
@pytest.mark.parametrize(
    "method, norm", ONLINE, ids=[f"{method.name}-{number}-{norm}" for number, (method, norm) in enumerate(ONLINE)]
)
def test_memory_of_online_methods_is_constant_to_the_byte(method, norm, frames):
    steps = [length for length in STEPS if length % method.chunk == 0 and length >= method.chunk]
    peaks = {peak_bytes(method, norm, length, frames) for length in steps}
    assert len(peaks) == 1
    activations = 4 * BATCH * sum(SIZES[1:-1])
    assert peaks.pop() > activations, "the meter sees at least the potentials of one step"


@pytest.mark.parametrize(
    "method, norm", [(SLTT(), "none"), (OTTT(), "sws"), (RateBP(), "none"), (RateBP(), "bn_step"), (DSR(), "none")], ids=repr
)
def test_memory_of_a_thousand_steps_is_that_of_a_chunk(method, norm):
    assert len({peak_bytes(method, norm, steps, frames=True) for steps in LONG}) == 1


def test_memory_is_set_by_the_chunk():
    small, large = (peak_bytes(SLTT(chunk=chunk), "none", 32, frames=True) for chunk in (2, 16))
    assert large > 4 * small


@pytest.mark.parametrize("norm", ["none", "bn_step", "sws"])
def test_memory_of_bptt_is_linear(norm):
    peaks = [peak_bytes(BPTT(), norm, steps) for steps in STEPS]
    slopes = [(after - before) / steps for before, after, steps in zip(peaks[:-1], peaks[1:], STEPS[:-1], strict=True)]
    assert max(slopes) <= 1.02 * min(slopes)
    assert min(slopes) > 4 * BATCH * sum(SIZES[1:-1]), "every step adds at least its potentials"


def test_bptt_needs_more_than_the_online_methods():
    assert peak_bytes(BPTT(), "sws", 32) > 3 * peak_bytes(OTTT(chunk=2), "sws", 32)


def adding_product(total, a, b, *_, out_shape=None, **__):
    """Operations of a product that adds to what is there, which torch's counter does not know."""
    return 2 * a[0] * a[1] * b[1]


def multiplications(method, norm, steps, frames):
    """Scalar multiplications of all matrix products of one call."""
    network = mlp(SIZES, norm=norm, steps=steps)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: adding_product})
    with counter:
        method.gradients(network, *batch(steps if frames else None))
    return counter.get_total_flops() // 2  # a multiplication and an addition each


@pytest.mark.parametrize("frames", [False, True], ids=["static", "frames"])
@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize(
    "method, norm, k",
    [
        (BPTT(), "none", None),
        (SLTT(), "bn_step", None),
        (SLTT(chunk=4), "none", None),
        (SLTT(k=1), "none", 1),
        (OTTT(), "none", None),
        (OTTT(), "sws", None),
        (OTTT(chunk=1), "none", None),
    ],
    ids=["bptt", "sltt", "sltt-4", "sltt-k", "ottt", "ottt-sws", "ottt-1"],
)
def test_matrix_products_are_those_of_the_cost_model(method, norm, k, steps, frames):
    """Forward n_l n_(l-1) a step; backward twice that, but for the data, which need no gradient; SLTT-K: at K steps only.

    The first layer of a static sample has one product forward and one backward in all.
    """
    products = [before * after for before, after in itertools.pairwise(SIZES)]
    learned = k or steps
    first = products[0] * (steps + learned if frames else 2)
    assert multiplications(method, norm, steps, frames) == BATCH * (first + (steps + 2 * learned) * sum(products[1:]))
