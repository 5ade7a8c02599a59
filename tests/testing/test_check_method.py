"""The public suite itself: every method of the library passes it, and a method with one fault fails the check meant for it."""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import pytest
import torch

from lava_snnlearn.methods import BPTT, DFA, DSR, EP, FA, GPM, HLOP, IDE, METHODS, OPZO, OTTT, SLTT, SPIDE, RateBP
from lava_snnlearn.methods.base import StepResult
from lava_snnlearn.networks import Network
from lava_snnlearn.testing import check_method, methods

SOUND = [
    BPTT(),
    BPTT(reduction="mean_logit"),
    BPTT(slots=2),
    BPTT(chunk=3),
    SLTT(),
    SLTT(k=2, rescale=True),
    OTTT(),
    OTTT(update="online"),
    OTTT.official(),
    DFA(),
    DFA(update="online"),
    FA(),
    FA(feedback="sign", update="online"),
    OPZO(),
    OPZO(update="online", antithetic=False, noise="gaussian"),
    OPZO(position="pre", noise="sphere"),
    OPZO(local_learning=True, intermediate=(1,), keep_alpha=False),
    OPZO(estimator="single_point"),
    RateBP(),
    RateBP(grad_scale=0.25),
    DSR(),
    DSR(neuron="lif"),
    DSR(neuron="lif", official=True),
    HLOP(),
    HLOP(OTTT(update="online"), projection="input"),
    HLOP(OPZO()),
    GPM(),
    GPM(RateBP()),
    EP(),
    IDE(),
    IDE(norm_limit=None, mask="rate"),
    SPIDE(),
    SPIDE(gain=1.0, steps_backward=50),
]


def label(method):
    """Its name, and the options that are not the defaults."""
    usual = type(method)()
    pairs = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
    return " ".join([method.name, *(f"{name}={value}" for name, value in pairs.items() if value != getattr(usual, name))])


@pytest.mark.parametrize("method", SOUND, ids=label)
def test_every_method_of_the_library_passes(method):
    check_method(method)


def test_no_method_is_left_out():
    assert {type(method) for method in SOUND} == set(METHODS.values())


def test_more_seeds_than_one(monkeypatch):
    seeds = []
    monkeypatch.setattr(methods, "CHECKS", (lambda method, seed: seeds.append(seed),))
    check_method(SLTT(), quick=False)
    assert seeds == [0, 1, 2]


def test_global_generator_is_left_alone():
    state = torch.get_rng_state()
    with pytest.raises(AssertionError):
        check_method(Doubled())
    assert torch.equal(torch.get_rng_state(), state)


@dataclasses.dataclass(frozen=True)
class Faulty(BPTT):
    """BPTT that claims no engine; each fault below changes one thing."""

    @property
    def engine(self) -> str | None:
        return None

    def gradients(self, network: Network, x: Any, y: Any, on_step: Any = None) -> StepResult:
        return self.after(network, super().gradients(network, x, y))

    def after(self, network: Network, result: StepResult) -> StepResult:
        return result


class NoGradient(Faulty):
    def after(self, network, result):
        network.readout.bias.grad = None
        return result


class InfiniteGradient(Faulty):
    def after(self, network, result):
        network.readout.bias.grad += float("inf")
        return result


class TensorLoss(Faulty):
    def after(self, network, result):
        return result._replace(loss=torch.tensor(result.loss))


class Overwrites(Faulty):
    def gradients(self, network, x, y, on_step=None):
        network.zero_grad()
        return super().gradients(network, x, y)


class MeanOutputs(Faulty):
    def after(self, network, result):
        return result._replace(outputs=result.outputs / network.steps)


class Doubled(Faulty):
    def gradients(self, network, x, y, on_step=None):
        before = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
        result = super().gradients(network, x, y)
        for parameter, kept in zip(network.parameters(), before, strict=True):
            parameter.grad += parameter.grad if kept is None else parameter.grad - kept
        return result


class FalseClaim(Faulty):
    @property
    def engine(self):
        return "instant"


class TakesEverything(Faulty):
    def gradients(self, network, x, y, on_step=None):
        try:
            return super().gradients(network, x, y)
        except ValueError:
            return StepResult(0.0, torch.zeros(len(y), network.classes), 0.0)


class OtherError(Faulty):
    def gradients(self, network, x, y, on_step=None):
        try:
            return super().gradients(network, x, y)
        except ValueError as error:
            raise RuntimeError("bad batch") from error


class MovesWeights(Faulty):
    def after(self, network, result):
        with torch.no_grad():
            network.readout.bias.add_(0.1)
        return result


class LeavesEvalMode(Faulty):
    def after(self, network, result):
        network.layers[0].eval()
        return result


class StepsUnasked(Faulty):
    def gradients(self, network, x, y, on_step=None):
        if on_step is not None:
            on_step()
        return super().gradients(network, x, y)


class ChunkMatters(Faulty):
    def after(self, network, result):
        network.readout.bias.grad += 1e-9 * (self.chunk or 0)
        return result


class LossOfTheLastChunk(Faulty):
    def after(self, network, result):
        return result._replace(loss=result.loss + 1e-9 * (self.chunk or 0))


class Unseeded(Faulty):
    count = 0

    def after(self, network, result):
        Unseeded.count += 1
        network.readout.bias.grad += 1e-14 * Unseeded.count
        return result


class Ascends(Faulty):
    @property
    def engine(self):
        return "uphill"

    def gradients(self, network, x, y, on_step=None):
        before = [0.0 if p.grad is None else p.grad.clone() for p in network.parameters()]
        result = super().gradients(network, x, y)
        for parameter, kept in zip(network.parameters(), before, strict=True):
            parameter.grad = 2 * kept - parameter.grad
        return result


COUNTS: weakref.WeakKeyDictionary[Network, int] = weakref.WeakKeyDictionary()


class HiddenState(Faulty):
    """Counts the batches of each network outside of all generators: a resumed run starts counting anew."""

    def after(self, network, result):
        count = COUNTS[network] = COUNTS.get(network, 0) + 1
        if count > 1:
            network.readout.bias.grad += 1e-3 * (count % 5)
        return result


FAULTS = {
    NoGradient: ("result", "readout.bias got no gradient"),
    InfiniteGradient: ("result", "readout.bias is not finite"),
    TensorLoss: ("result", "Tensor, not a float"),
    Overwrites: ("gradients_add_up", "what .grad held before"),
    MeanOutputs: ("outputs_are_the_forward", "network.readout.collect(network(x))"),
    Doubled: ("one_step_is_bptt", "off by"),
    FalseClaim: ("closed_forms", "two steps, reset detached"),
    TakesEverything: ("bad_batches_are_refused", "an empty batch is accepted"),
    OtherError: ("bad_batches_are_refused", "RuntimeError"),
    MovesWeights: ("parameters_and_mode_are_left_alone", "readout.bias was changed"),
    LeavesEvalMode: ("parameters_and_mode_are_left_alone", "layers.0"),
    StepsUnasked: ("optimiser_has_its_turn", "called 1 times, expected 0"),
    ChunkMatters: ("chunks_do_not_matter", "chunk=2 against chunk=1, a static frame: the gradient of readout.bias"),
    LossOfTheLastChunk: ("chunks_do_not_matter", "chunk=2 against chunk=1, a static frame: loss or outputs"),
    Unseeded: ("same_seed_same_bits", "readout.bias"),
    Ascends: ("loss_falls", "the loss went from"),
    HiddenState: ("resumed_run_has_the_same_bits", "uninterrupted"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found_by_its_check(fault):
    check, part = FAULTS[fault]
    with pytest.raises(AssertionError) as failure:
        check_method(fault())
    message = str(failure.value)
    assert message.startswith(f"{fault()!r} fails check {check!r} (seed 0)")
    assert part in message


def test_a_method_without_a_fault_gets_to_the_end(monkeypatch):
    """The base of all faults has none: what the tests above find is the fault itself."""
    ends = ("_check_converts", "_check_verifies")
    monkeypatch.setattr(methods, "CHECKS", tuple(check for check in methods.CHECKS if check.__name__ not in ends))
    check_method(Faulty())


def test_a_conversion_that_loses_the_network_is_found(monkeypatch):
    class Wrong:
        predictions = torch.full((24,), 9).numpy()

    monkeypatch.setattr(methods, "emulate", lambda chip, x: Wrong())
    monkeypatch.setattr(methods, "CHECKS", (methods._check_converts,))
    with pytest.raises(AssertionError, match=r"fails check 'converts'.*0% of the predictions"):
        check_method(SLTT())


def test_a_chip_that_differs_is_found(monkeypatch):
    class Different:
        ok = False

        def __str__(self) -> str:
            return "first mismatch: spike of population 'layer1'"

    monkeypatch.setattr(methods, "verify", lambda chip, x, against: Different())
    monkeypatch.setattr(methods, "CHECKS", (methods._check_verifies,))
    with pytest.raises(AssertionError, match=r"fails check 'verifies'[\s\S]*first mismatch"):
        check_method(SLTT())
