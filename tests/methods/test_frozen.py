"""Frozen parameters: they get no gradient, and the others get the one that they have in the network without frozen ones."""

import itertools

import pytest
import torch

from lava_snnlearn.methods import BPTT, DFA, FA, OTTT, SLTT
from lava_snnlearn.networks.walk import OperandMap

TRACES = [OTTT(update, *traces) for update in ("accumulate", "online") for traces in itertools.product((True, False), repeat=3)]
METHODS = [BPTT(), BPTT(reduction="mean_logit"), SLTT(), SLTT(k=2), SLTT(k=2, rescale=True), DFA(), FA(), *TRACES]
FROZEN = {
    "first layer": ("layers.0.",),
    "middle layer": ("layers.1.",),
    "all but the readout": ("layers.",),
    "readout": ("readout.",),
    "weights": ("layers.0.weight", "layers.1.weight"),
    "biases and gains": ("layers.0.bias", "layers.1.bias", "layers.0.standardise.gain", "layers.1.standardise.gain"),
}


@pytest.mark.parametrize("norm", ["none", "bn_step", "sws"])
@pytest.mark.parametrize("frozen", FROZEN.values(), ids=FROZEN)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_gradients_of_the_others_stay_as_they_are(make_task, fill, method, frozen, norm):
    task = make_task(norm=norm)
    expected = fill(method, task).grads
    for name, parameter in task.network.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
        parameter.grad = None
    found = fill(method, task)
    trained = {name: value for name, value in expected.items() if not name.startswith(frozen)}
    assert len(trained) < len(expected)
    assert found.distance(trained) < 1e-12
    assert max(abs(value).max() for value in trained.values()) > 1e-3


@pytest.mark.parametrize("method", [SLTT(), OTTT(), OTTT("online"), BPTT()], ids=repr)
def test_a_frozen_standardised_layer_keeps_its_weights_while_the_others_learn(make_task, method):
    task = make_task(norm="sws")
    network = task.network
    network.spiking_layers[0].requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)

    def update():
        optimiser.step()
        optimiser.zero_grad()

    method.gradients(network, task.x, task.y, update)
    if method.optimiser_every == "batch":
        update()
    same = {name for name, value in network.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith("layers.0.")}


class Counting:
    """A synapse that says which gradients are asked of it."""

    def __init__(self):
        self.asked = []

    def input_gradient(self, *_):
        self.asked.append("input")
        return torch.ones(1)

    def operand_gradient(self, *_):
        self.asked.append("weight")
        return torch.ones(1)


@pytest.mark.parametrize("needed", list(itertools.product((True, False), repeat=3)), ids=str)
def test_the_traced_map_computes_only_the_gradients_asked_for(needed):
    class Context:
        saved_tensors = (torch.ones(2, 4), torch.ones(3, 4), torch.full((1,), 2.0))
        synapse = Counting()
        leaf = None
        needs_input_grad = (needed[0], False, needed[1], needed[2], False, False, False)

    found = OperandMap.backward(Context, torch.ones(2, 3))
    assert tuple(value is not None for value in found) == Context.needs_input_grad
    assert Context.synapse.asked == [name for name, wanted in zip(("input", "weight"), needed, strict=False) if wanted]
    assert found[3] is None or found[3].tolist() == [4.0, 4.0, 4.0]
