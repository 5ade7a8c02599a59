"""Time in chunks: for every method and kind of network, gradients, loss and answers do not depend on the length of the pieces.

Nor on whether a static frame is known to be one, on which product a sparse input takes, or on the neurons' backend.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lava_snnlearn.methods import BPTT, DFA, DSR, FA, OPZO, OTTT, SLTT, RateBP, online_engine
from lava_snnlearn.networks import conv_net, event_products, mlp, walk
from lava_snnlearn.neurons import DSRLIF, backend
from lava_snnlearn.testing.kinds import KINDS, samples, small_network

STEPS, BATCH = 7, 3
METHODS = {
    "bptt": BPTT(),
    "bptt, mean logit": BPTT(reduction="mean_logit"),
    "sltt": SLTT(),
    "sltt-k": SLTT(k=3),
    "ottt": OTTT(),
    "ottt official": OTTT.official(),
    "dfa": DFA(),
    "fa": FA(),
    "fa, signs": FA(feedback="sign"),
    "opzo": OPZO(bias_correction=False),
    "opzo, noise in the current": OPZO(position="pre", noise="gaussian", antithetic=False),
    "opzo, local": OPZO(local_learning=True, noise="sphere", bias_correction=False),
    "rate_bp": RateBP(),
    "dsr": DSR(),
    "dsr official": DSR(official=True),
}
NOT_BY_RATES = {kind for kind in KINDS if "recurrent" in kind or "delays" in kind or kind.startswith("feedback")}


def cases(names=METHODS, kinds=KINDS):
    """Every method with every kind of network that it takes."""
    for name in names:
        for kind in kinds:
            has_dsr_neurons = "DSR" in kind
            rate = name.startswith(("rate", "dsr"))
            if (name.startswith("dsr") and not has_dsr_neurons) or (name == "rate_bp" and has_dsr_neurons):
                continue
            if rate and kind in NOT_BY_RATES:
                continue
            yield pytest.param(name, kind, id=f"{name}: {kind}")


def network_of(kind, **options):
    """In pieces there is no batch norm over time: the kinds that have it get that of a step."""
    if "over time" in kind or "DSR" in kind:
        options = {"norm": "bn_step"} | options
    return small_network(kind, steps=STEPS, **options).double()


@dataclasses.dataclass
class Outcome:
    grads: dict
    buffers: dict
    loss: float
    outputs: torch.Tensor
    spike_rate: float


def outcome(method, network, x, seed=5):
    """What a method leaves behind, from the same start."""
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network.zero_grad()
    network.memory = {}
    torch.manual_seed(seed)
    result = method.gradients(network, x, torch.arange(x.shape[-2]) % network.classes)
    grads = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    network.load_state_dict(state)
    return Outcome(grads, buffers, result.loss, result.outputs, result.spike_rate)


def assert_same(found, expected, tolerance=1e-12, *, live=True, floor=0.01):
    """Equal to ``tolerance`` times the largest value of the same parameter's gradient, or ``floor`` times that of all."""
    assert set(found.grads) == set(expected.grads)
    over_all = max(float(wanted.abs().max()) for wanted in expected.grads.values())
    for name, wanted in expected.grads.items():
        largest = float(wanted.abs().max())
        assert largest > 0 or not live or "threshold" in name, f"{name} has no gradient to compare"
        error = float((found.grads[name] - wanted).abs().max())
        # In front of a batch norm a bias has no gradient but rounding errors.
        assert error <= tolerance * max(largest, floor * over_all), f"{name}: {error:.3g} beside {largest:.3g}"
    for name, wanted in expected.buffers.items():
        torch.testing.assert_close(found.buffers[name], wanted, rtol=tolerance, atol=tolerance, msg=name)
    assert found.loss == pytest.approx(expected.loss, rel=tolerance)
    torch.testing.assert_close(
        found.outputs, expected.outputs, rtol=tolerance, atol=tolerance * float(expected.outputs.abs().max())
    )
    assert found.spike_rate == expected.spike_rate


def live_feedback(name, kind):
    """False where none of the steps that SLTT-K draws has heard feedback yet."""
    return (name, kind) != ("sltt-k", "feedback, pipelined")


@pytest.mark.parametrize("frames", [False, True], ids=["static", "new frames"])
@pytest.mark.parametrize("name, kind", cases())
def test_the_result_does_not_depend_on_the_chunk(name, kind, frames):
    method = METHODS[name]
    network = network_of(kind)
    x = samples(network, BATCH, frames=frames)
    expected = outcome(dataclasses.replace(method, chunk=1), network, x)
    live = live_feedback(name, kind)
    for chunk in (3, STEPS + 1):
        assert_same(outcome(dataclasses.replace(method, chunk=chunk), network, x), expected, live=live)
    assert 0.05 < expected.spike_rate < 0.9


@pytest.mark.parametrize("frames", [False, True], ids=["static", "new frames"])
@pytest.mark.parametrize("name", ["bptt", "sltt", "ottt", "ottt official"])
@pytest.mark.parametrize("delay", [2, 3, STEPS])
def test_nor_under_feedback_of_several_steps(name, delay, frames):
    method = METHODS[name]
    network = network_of("feedback", feedback_delay=delay)
    x = samples(network, BATCH, frames=frames)
    expected = outcome(dataclasses.replace(method, chunk=1), network, x)
    for chunk in (2, STEPS):
        assert_same(outcome(dataclasses.replace(method, chunk=chunk), network, x), expected, live=delay < STEPS)


WITH_DROPOUT = ["dense", "dense, recurrent", "convolutions", "normaliser-free residual", "feedback"]


@pytest.mark.parametrize("name, kind", cases(["bptt", "sltt", "sltt-k", "ottt", "rate_bp"], WITH_DROPOUT))
def test_nor_with_dropout(name, kind):
    method = METHODS[name]
    network = network_of(kind, dropout=0.3)
    x = samples(network, BATCH, frames=True)
    expected = outcome(dataclasses.replace(method, chunk=1), network, x)
    assert_same(outcome(dataclasses.replace(method, chunk=4), network, x), expected)
    assert expected.loss != pytest.approx(outcome(method, network, x, seed=6).loss, rel=1e-3), "dropout draws something"


@pytest.mark.parametrize("frames", [False, True], ids=["static", "new frames"])
@pytest.mark.parametrize("name", ["bptt", "sltt", "sltt-k", "ottt", "rate_bp", "dsr"])
def test_single_precision_is_the_same_to_a_millionth(name, frames):
    method = METHODS[name]
    kind = "convolutions, DSR's IF" if name == "dsr" else "convolutions"
    network = network_of(kind).float()
    x = samples(network, 8, frames=frames)
    expected = outcome(dataclasses.replace(method, chunk=1), network, x)
    for chunk in (2, STEPS):
        assert_same(outcome(dataclasses.replace(method, chunk=chunk), network, x), expected, 1e-6, floor=1.0)


@pytest.mark.parametrize("kind", ["dense", "convolutions, batch norm, dense", "pre-activation residual", "feedback, pipelined"])
@pytest.mark.parametrize("frames", [False, True], ids=["static", "new frames"])
def test_ottt_online_is_walked_in_single_steps(kind, frames):
    """With an optimiser that does nothing, the online form is the accumulating one; with one that moves, chunk says nothing."""
    network = network_of(kind)
    x, y = samples(network, BATCH, frames=frames), torch.arange(BATCH) % network.classes
    state = {name: value.clone() for name, value in network.state_dict().items()}
    calls = []
    OTTT(update="online", chunk=4).gradients(network, x, y, lambda: calls.append(1))
    assert len(calls) == STEPS
    grads = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.load_state_dict(state)
    for name, expected in outcome(OTTT(chunk=1), network, x).grads.items():
        torch.testing.assert_close(grads[name], expected, rtol=0, atol=1e-12 * max(1.0, float(expected.abs().max())), msg=name)
    moved = []
    for chunk in (1, 4):
        network.load_state_dict(state)
        network.zero_grad()
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)

        def on_step(optimiser=optimiser):
            optimiser.step()
            optimiser.zero_grad()

        OTTT(update="online", chunk=chunk).gradients(network, x, y, on_step)
        moved.append({name: p.detach().clone() for name, p in network.named_parameters()})
    for name, value in moved[0].items():
        assert torch.equal(value, moved[1][name]), name
        assert not torch.equal(value, state[name]) or "bias" in name


@pytest.mark.parametrize("name, kind", cases())
def test_a_static_frame_is_the_same_as_its_copies(name, kind):
    method = METHODS[name]
    network = network_of(kind)
    x = samples(network, BATCH)
    found, expected = outcome(method, network, x), outcome(method, network, x.repeat(STEPS, 1, 1))
    assert_same(found, expected, live=live_feedback(name, kind))


@pytest.mark.parametrize("name", ["bptt", "bptt, mean logit", "rate_bp", "dsr"])
def test_a_static_frame_is_the_same_as_its_copies_for_batch_norm_over_time(name):
    """Running statistics included: the unbiased variance counts all steps."""
    network = small_network("convolutions, DSR's LIF" if name == "dsr" else "dense, batch norm over time", steps=STEPS).double()
    x = samples(network, BATCH)
    assert_same(outcome(METHODS[name], network, x), outcome(METHODS[name], network, x.repeat(STEPS, 1, 1)))


@pytest.mark.parametrize("name, kind", cases())
def test_the_reference_backend_gives_the_same(name, kind):
    method = METHODS[name]
    network = network_of(kind)
    x = samples(network, BATCH, frames=True)
    found = outcome(method, network, x)
    with backend("reference"):
        assert_same(found, outcome(method, network, x), live=live_feedback(name, kind))


# Sparse input


@pytest.fixture
def products(monkeypatch):
    """How often the product over events was taken; the look at an input is not limited to large ones."""
    counts = {"events": 0}

    def counting(function):
        def count(*arguments):
            counts["events"] += 1
            return function(*arguments)

        return count

    monkeypatch.setattr(event_products, "SIZE", 1)
    monkeypatch.setattr(walk, "sparse_linear", counting(walk.sparse_linear))
    monkeypatch.setattr(online_engine, "traced_sparse_linear", counting(online_engine.traced_sparse_linear))
    return counts


EVENT_NETWORKS = {
    "dense": lambda **options: mlp([300, 20, 16, 4], steps=STEPS, **options),
    "dense, recurrent": lambda **options: mlp([300, 20, 4], steps=STEPS, recurrent=True, **options),
    "dense on maps": lambda **options: conv_net((2, 12, 12), "20-16", 4, steps=STEPS, **options),
    "dense on pooled maps": lambda **options: conv_net((2, 12, 12), "P2-20-16", 4, steps=STEPS, **options),
}
EVENT_METHODS = {
    "bptt": BPTT(chunk=3),
    "sltt": SLTT(chunk=3),
    "sltt-k": SLTT(k=4, chunk=3),
    "ottt": OTTT(chunk=3),
    "ottt official": OTTT.official(),
    "ottt without the data's trace": OTTT(trace_first_layer=False, chunk=3),
    "ottt with plain biases": OTTT(trace_bias=False, chunk=3),
    "opzo": OPZO(chunk=3),
    "rate_bp": RateBP(chunk=3),
}


def events(network, density, seed=0):
    generator = torch.Generator().manual_seed(seed)
    density = torch.as_tensor(density, dtype=torch.float64).reshape(-1, 1, 1)
    shape = (STEPS, BATCH, network.inputs)
    spikes = (torch.rand(shape, generator=generator, dtype=torch.float64) < density).double()
    return spikes * (1 + torch.rand(shape, generator=generator, dtype=torch.float64))  # counts of events are not all 1


def event_network(kind, **options):
    torch.manual_seed(2)
    network = EVENT_NETWORKS[kind](**options).double()
    with torch.no_grad():
        network.layers[0].weight.mul_(4)
        for layer in network.spiking_layers:
            layer.bias.uniform_(0.1, 0.4)
    return network


@pytest.mark.parametrize("kind", EVENT_NETWORKS)
@pytest.mark.parametrize("name", EVENT_METHODS)
def test_sparse_events_give_what_the_dense_product_gives(name, kind, products, monkeypatch):
    method, network = EVENT_METHODS[name], event_network(kind, norm="none")
    if name == "rate_bp" and "recurrent" in kind:
        network = event_network("dense", norm="none")
    x = events(network, 0.02)
    found = outcome(method, network, x)
    assert products["events"] > 0
    monkeypatch.setattr(event_products, "DENSITY", 0.0)
    taken = products["events"]
    assert_same(found, outcome(method, network, x))
    assert products["events"] == taken


@pytest.mark.parametrize("norm", ["none", "sws", "bn_step"])
@pytest.mark.parametrize("kind", EVENT_NETWORKS)
@pytest.mark.parametrize("name", ["bptt", "ottt", "ottt without the data's trace", "ottt with plain biases"])
@pytest.mark.parametrize("first", [0.02, 0.6], ids=["sparse", "dense"])
def test_the_first_piece_decides_for_sparse_and_dense_ones(name, kind, norm, first, products, monkeypatch):
    method, network = EVENT_METHODS[name], event_network(kind, norm=norm)
    method = dataclasses.replace(method, chunk=2)
    x = events(network, [first, first, 0.6, 0.6, 0.02, 0.02, 0.6])
    if "pooled" in kind:
        monkeypatch.setattr(event_products, "DENSITY", 0.3)  # four values have to be zero together
    found = outcome(method, network, x)
    assert products["events"] == (4 if first < 0.1 else 0)
    monkeypatch.setattr(event_products, "DENSITY", 0.0)
    assert_same(found, outcome(method, network, x))


@pytest.mark.parametrize("method", [BPTT(), SLTT(), OTTT(), RateBP()], ids=lambda method: method.name)
def test_a_sparse_static_frame(method, products, monkeypatch):
    network = event_network("dense", norm="none")
    x = events(network, 0.02)[0]
    found = outcome(method, network, x)
    assert products["events"] == 1, "one product for all steps"
    monkeypatch.setattr(event_products, "DENSITY", 0.0)
    assert_same(found, outcome(method, network, x))


def test_trained_thresholds_count_in_the_traces():
    """A spike is worth the present threshold, not the one that training began with."""
    network = network_of("convolutions, DSR's LIF", norm="none")
    x = samples(network, BATCH, frames=True)
    twin = network_of("convolutions, DSR's LIF", norm="none")
    moved = DSRLIF(threshold=0.45, dt=0.25)
    with torch.no_grad():
        for population in network.populations:
            population.threshold.fill_(0.45)
        for population in twin.populations:
            population.neuron = moved
            population.threshold.fill_(0.45)
        twin.load_state_dict(network.state_dict())
    found, expected = outcome(OTTT(), network, x), outcome(OTTT(), twin, x)
    for name, wanted in expected.grads.items():
        torch.testing.assert_close(found.grads[name], wanted, rtol=0, atol=0, msg=name)
    assert np.isfinite(found.loss)


def test_batch_norm_over_time_takes_all_steps_at_once():
    """A chunk, or feedback, would norm over its own steps alone."""
    network = small_network("convolutions, DSR's IF", steps=STEPS)
    x = samples(network, BATCH)
    with pytest.raises(ValueError, match=r"needs all 7 steps at once.*2 at a time"):
        network(x, chunk=2)
    torch.testing.assert_close(network.eval()(x, chunk=2), network(x))
    backwards = conv_net((1, 8, 8), "6C3-8C3", 4, norm="bn_time", steps=STEPS, feedback=feedback_of(), feedback_delay=3)
    with pytest.raises(ValueError, match=r"needs all 7 steps at once.*3 at a time"):
        BPTT().gradients(backwards, samples(backwards, BATCH), torch.zeros(BATCH, dtype=torch.int64))


def feedback_of():
    from lava_snnlearn.networks import Synapse

    return Synapse((8, 8, 8), 6, kernel=3, bias=False)
