"""Projected gradients: the algebra, what is heard of the presynaptic activity, and what must rest."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from lava_snnlearn.methods import BPTT, DFA, DSR, FA, GPM, HLOP, IDE, OPZO, OTTT, SLTT, RateBP, StepResult
from lava_snnlearn.methods.projection import fan_in, patches, project, run_projected, spread, synapses_of
from lava_snnlearn.networks import Network, Readout, SpikingLayer, conv_net, feedback_net, mlp, preact_resnet
from lava_snnlearn.networks.synapse import Synapse
from lava_snnlearn.neurons import DSRIF, DSRLIF, LIF

ONLINE = [OTTT(), OTTT("online"), OTTT.official(), SLTT(), BPTT(), BPTT(slots=2)]
BASES = [*ONLINE, SLTT(k=3), SLTT(k=3, rescale=True), BPTT(memory_mb=1.0), RateBP(), DSR("if"), DSR("lif"), DFA(), FA(), OPZO()]


def network_for(base, kind="mlp", norm="none", steps=5, seed=0):
    """A small random network, float64, and a batch of 6; kinds: mlp, static, events, conv, residual."""
    torch.manual_seed(seed)
    neuron = base.preset.neuron if base.name == "dsr" else LIF()
    if kind == "conv":
        net = conv_net((2, 6, 6), "3C3-P2-4C3s2-5", 4, neuron, norm=norm, steps=steps)
    elif kind == "residual":
        net = preact_resnet((2, 4, 4), 4, neuron, blocks=(1, 1), width=3, norm=norm, steps=steps)
    else:
        net = mlp([7, 9, 8, 4], neuron, norm=norm, steps=steps)
    net = net.double()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
        net.readout.weight.normal_(std=0.5)
    shape = (6, net.inputs) if kind in ("static", "residual") else (steps, 6, net.inputs)
    return net, 2 * torch.randn(shape, dtype=torch.float64), torch.randint(0, 4, (6,))


def grads_of(net):
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def filled(method, net, x, y, seed=3, before=None, on_step=None):
    for parameter in net.parameters():
        parameter.grad = None if before is None else torch.full_like(parameter, before)
    for key in [key for key in net.memory if key.startswith("opzo.")]:
        del net.memory[key]  # a base method that learns by the way begins anew
    torch.manual_seed(seed)
    result = method.gradients(net, x, y, on_step)
    return result, grads_of(net)


def with_old_rows(net, name="hlop", count=3, seed=5):
    """Random orthonormal rows of an ended task for every synapse."""
    generator = torch.Generator().manual_seed(seed)
    for key, synapse in synapses_of(net).items():
        drawn = torch.randn(fan_in(synapse), count, dtype=torch.float64, generator=generator)
        net.memory[f"{name}.old.{key}"] = torch.linalg.qr(drawn).Q.t().contiguous()
    return net


# The algebra.


def test_projection_is_that_of_the_textbook():
    rows = torch.linalg.qr(torch.randn(8, 3, dtype=torch.float64)).Q.t()
    gradient = torch.randn(5, 2, 2, 2, dtype=torch.float64)
    found = project(gradient, rows)
    flat, h = gradient.reshape(5, 8).numpy(), rows.numpy()
    expected = flat @ (np.eye(8) - np.linalg.pinv(h) @ h)
    assert found.shape == gradient.shape
    assert np.abs(found.reshape(5, 8).numpy() - expected).max() < 1e-12
    assert (found.flatten(1) @ rows.t()).abs().max() < 1e-12
    assert (project(found, rows) - found).abs().max() < 1e-12
    assert torch.equal(project(gradient, rows[:0]), gradient)


@pytest.mark.parametrize(("stride", "padding", "pool"), [(1, 1, 1), (2, 0, 1), (2, 1, 2)])
def test_projecting_a_kernels_gradient_is_projecting_its_patches(stride, padding, pool):
    torch.manual_seed(0)
    synapse = Synapse((2, 8, 8), 3, kernel=3, stride=stride, padding=padding, pool=pool).double()
    rows = torch.linalg.qr(torch.randn(18, 5, dtype=torch.float64)).Q.t()
    prepared = synapse.prepare(torch.randn(4, 2, 8, 8, dtype=torch.float64))
    grad = torch.randn(4, *synapse.shape, dtype=torch.float64)
    padded = np.pad(prepared.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    expected = np.zeros((3, 18))
    for sample, i, j in itertools.product(range(4), range(synapse.shape[1]), range(synapse.shape[2])):
        patch = padded[sample, :, i * stride : i * stride + 3, j * stride : j * stride + 3].reshape(-1)
        left = patch - rows.numpy().T @ (rows.numpy() @ patch)
        expected += np.outer(grad[sample, :, i, j].numpy(), left)
    found = project(synapse.operand_gradient(prepared, grad), rows)
    assert np.abs(found.reshape(3, 18).numpy() - expected).max() < 1e-12


def test_spread_numbers_are_different_and_out_of_step_with_maps():
    for total, count in [(1, 5), (7, 7), (64, 10), (384, 100), (4096, 1024)]:
        found = spread(total, count).tolist()
        assert len(set(found)) == min(count, total)
        assert 0 <= min(found) <= max(found) < total
    assert sorted(spread(12, 40).tolist()) == list(range(12))
    assert len(set((spread(32 * 64, 64) % 64).tolist())) > 32  # positions on maps of 64, of 32 samples


# What is heard.


@pytest.mark.parametrize("kind", ["mlp", "static", "conv", "residual"])
@pytest.mark.parametrize("base", BASES, ids=repr)
def test_the_factors_that_are_heard_make_up_the_weight_gradient(base, kind):
    net, x, y = network_for(base, kind)
    synapses = synapses_of(net)
    sums = {
        name: torch.zeros(synapse.weight.shape[0], fan_in(synapse), dtype=torch.float64) for name, synapse in synapses.items()
    }

    def ear(name):
        def hear(operand, grad):
            error = grad if grad.dim() == 2 else grad.flatten(2).transpose(1, 2).flatten(0, 1)
            sums[name] += error.t() @ patches(synapses[name], operand)

        return hear

    for name, synapse in synapses.items():
        synapse.observer = ear(name)
    _, grads = filled(base, net, x, y)
    factor = net.steps / base.k if base.name == "sltt" and base.rescale else 1.0
    for name in synapses:
        wanted = grads[f"{name}.weight"].flatten(1)
        assert wanted.abs().max() > 1e-4
        assert (factor * sums[name] - wanted).abs().max() < 1e-12


def test_frozen_weights_and_eval_passes_are_not_heard():
    net, x, y = network_for(OTTT())
    heard = []
    for name, synapse in synapses_of(net).items():
        synapse.observer = lambda *_, name=name: heard.append(name)
    net.layers[1].weight.requires_grad_(False)
    net.answer(x)
    assert heard == []
    filled(OTTT(chunk=5), net, x, y)
    assert sorted(heard) == ["layers.0", "readout"]


def heard_rows(base, net, x, y, rows=10_000, seed=3):
    torch.manual_seed(seed)
    learning = list(synapses_of(net))
    _, found = run_projected(HLOP(base, rows=rows), net, x, y, learning=learning)
    net.zero_grad()
    return found


def activity(net, x, base):
    """What each synapse's weight gradient is made of, from the plain simulation: [rows, n]."""
    simulation = net.simulate(x)
    signals = [net.encode(x)]
    for population, state in zip(net.populations, simulation.layers, strict=True):
        signals.append(state.spike.detach() * population.drive.amplitude)
    found = []
    for index, (signal, population) in enumerate(zip(signals, [*net.populations, net.populations[-1]], strict=True)):
        values, lam = signal.numpy(), population.neuron.lam
        if base.name == "ottt" and index < len(signals) - 1:
            trace = np.zeros_like(values)
            for t in range(len(values)):
                trace[t] = values[t] + (lam * trace[t - 1] if t else 0)
            values = trace
        elif base.name in ("dsr", "rate_bp"):
            weights = lam ** np.arange(len(values) - 1, -1, -1) if base.name == "dsr" else np.ones(len(values))
            values = np.tensordot(weights / weights.sum(), values, 1)[None]
        found.append(values.reshape(-1, values.shape[-1]))
    return found


@pytest.mark.parametrize("base", [OTTT(), OTTT("online"), SLTT(), BPTT(), DSR("if"), DSR("lif"), RateBP()], ids=repr)
def test_activity_is_that_of_a_plain_simulation(base):
    net, x, y = network_for(base)
    for rows, expected in zip(heard_rows(base, net, x, y).values(), activity(net, x, base), strict=True):
        assert rows.shape == expected.shape
        assert np.abs(rows.numpy() - expected).max() < 1e-12
        assert np.abs(expected).max() > 0.1


def test_a_static_frame_is_heard_once():
    net, x, y = network_for(OTTT(), "static")
    assert torch.equal(heard_rows(OTTT(), net, x, y)["layers.0"], x)


@pytest.mark.parametrize("base", [OTTT(), SLTT(), BPTT()], ids=repr)
def test_sparse_events_are_heard_as_dense_ones(base, monkeypatch):
    torch.manual_seed(0)
    net = mlp([600, 20, 4], norm="none", steps=5).double()
    x = (torch.rand(5, 6, 600) < 0.05).double()
    y = torch.randint(0, 4, (6,))
    sparse = heard_rows(base, net, x, y)
    taken = []
    monkeypatch.setattr("lava_snnlearn.networks.walk.worthwhile", lambda prepared: taken.append(prepared.shape))
    dense = heard_rows(base, net, x, y)
    assert taken
    for name, rows in dense.items():
        assert (sparse[name] - rows).abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("limit", [10_000, 20])
@pytest.mark.parametrize("make", [OTTT, SLTT, BPTT], ids=["ottt", "sltt", "bptt"])
def test_rows_do_not_depend_on_pieces_of_time(make, limit, kind):
    def rows(chunk):
        net, x, y = network_for(make(), kind)
        # BPTT hears its pieces from the last to the first.
        found = heard_rows(make(chunk=chunk), net, x, y, limit)
        return {name: np.sort(value.numpy(), 0) for name, value in found.items()}

    whole = rows(5)
    for chunk in (1, 2):
        for name, found in rows(chunk).items():
            assert found.shape == whole[name].shape
            assert np.abs(found - whole[name]).max() < 1e-12
    count = len(whole["layers.0"])
    assert count <= limit
    assert count == limit or limit == 10_000


def test_rows_of_maps_are_patches_of_the_batch():
    net, x, y = network_for(OTTT(), "conv")
    every = {tuple(np.round(row, 9)) for row in heard_rows(OTTT(), net, x, y)["layers.0"].numpy()}
    few = heard_rows(OTTT(), net, x, y, 100)["layers.0"].numpy()
    assert len(few) == 100
    assert {tuple(np.round(row, 9)) for row in few} <= every


# Projected gradients of methods.


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("base", BASES, ids=repr)
def test_gradients_are_the_bases_projected(base, kind):
    net, x, y = network_for(base, kind)
    result, plain = filled(base, net, x, y)
    with_old_rows(net)
    again, found = filled(HLOP(base), net, x, y)
    synapses = synapses_of(net)
    assert set(found) == {f"{name}.weight" for name in synapses}  # biases and thresholds rest
    assert again.loss == result.loss
    assert torch.equal(again.outputs, result.outputs)
    for name in synapses:
        h, g = net.memory[f"hlop.old.{name}"].numpy(), plain[f"{name}.weight"].flatten(1).numpy()
        expected = g - g @ h.T @ h
        assert np.abs(found[f"{name}.weight"].flatten(1).numpy() - expected).max() < 1e-12
        assert np.abs(expected - g).max() > 1e-6


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("base", BASES, ids=repr)
def test_projection_at_the_input_is_the_same(base, kind):
    net, x, y = network_for(base, kind)
    with_old_rows(net)
    _, weight = filled(HLOP(base), net, x, y)
    _, at_input = filled(HLOP(base, projection="input"), net, x, y)
    assert set(at_input) == set(weight)
    for name, value in weight.items():
        assert (at_input[name] - value).abs().max() < 1e-12


def test_projection_at_the_input_in_single_precision():
    net, x, y = network_for(OTTT())
    with_old_rows(net)
    net, x = net.float(), x.float()
    _, weight = filled(HLOP(), net, x, y)
    _, at_input = filled(HLOP(projection="input"), net, x, y)
    for name, value in weight.items():
        assert (at_input[name] - value).abs().max() < 1e-6


def test_spiking_answers_have_a_part_in_the_projection_at_the_input_alone():
    net, x, y = network_for(SLTT())
    with_old_rows(net)
    _, exact = filled(HLOP(SLTT()), net, x, y)
    _, weight = filled(HLOP(SLTT(), spiking=True, spiking_steps=40), net, x, y)
    _, coarse = filled(HLOP(SLTT(), spiking=True, spiking_steps=40, projection="input"), net, x, y)
    _, fine = filled(HLOP(SLTT(), spiking=True, spiking_steps=10**9, projection="input"), net, x, y)
    name = "layers.1.weight"
    assert torch.equal(weight[name], exact[name])
    assert (fine[name] - exact[name]).abs().max() < 1e-6
    assert (coarse[name] - exact[name]).abs().max() > 1e-4


@pytest.mark.parametrize("projection", ["weight", "input"])
@pytest.mark.parametrize("base", [OTTT(), SLTT(), SLTT(k=3, rescale=True), BPTT(), RateBP()], ids=repr)
def test_what_grad_held_before_is_kept_as_it_is(base, projection):
    net, x, y = network_for(base)
    with_old_rows(net)
    method = HLOP(base, projection=projection)
    _, once = filled(method, net, x, y)
    _, added = filled(method, net, x, y, before=0.25)
    for name, parameter in net.named_parameters():
        expected = 0.25 + once.get(name, torch.zeros_like(parameter))
        assert (added[name] - expected).abs().max() < 1e-12


@pytest.mark.parametrize("projection", ["weight", "input"])
def test_each_step_of_an_online_method_is_projected(projection):
    net, x, y = network_for(OTTT())
    with_old_rows(net)
    method, steps = HLOP(OTTT("online"), projection=projection), []
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def on_step():
        steps.append({name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None})
        optimiser.step()
        optimiser.zero_grad()

    assert method.optimiser_every == "step"
    filled(method, net, x, y, on_step=on_step)
    assert len(steps) == net.steps
    for name in synapses_of(net):
        rows = net.memory[f"hlop.old.{name}"]
        for grads in steps:
            assert (grads[f"{name}.weight"] @ rows.t()).abs().max() < 1e-12
        moved = net.get_parameter(f"{name}.weight").detach() - before[f"{name}.weight"]
        assert (moved @ rows.t()).abs().max() < 1e-12
        assert moved.abs().max() > 1e-3
    assert torch.equal(net.layers[0].bias, before["layers.0.bias"])


# What rests.


@pytest.mark.parametrize(
    ("base", "norm"), [(SLTT(), "bn_step"), (BPTT(), "bn_time"), (RateBP(), "bn_time"), (DSR("lif"), "bn_step")]
)
def test_norms_rest_in_eval_mode(base, norm):
    net, x, y = network_for(base, norm=norm)
    filled(base, net, x, y)  # moves the running statistics from where they start
    net.zero_grad()
    with_old_rows(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    result, found = filled(HLOP(base), net.train(), x, y)
    assert all(module.training for module in net.modules())
    assert all(p.requires_grad for p in net.parameters())
    assert set(found) == {f"{name}.weight" for name in synapses_of(net)}
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    in_eval, grads = filled(base, net.eval(), x, y)
    assert result.loss == in_eval.loss
    for name, value in found.items():
        rows = net.memory[f"hlop.old.{name.removesuffix('.weight')}"]
        assert (value - (grads[name] - grads[name] @ rows.t() @ rows)).abs().max() < 1e-12


def test_a_readout_of_its_own_is_neither_projected_nor_at_rest():
    net, x, y = network_for(OTTT())
    _, plain = filled(OTTT(), net, x, y)
    with_old_rows(net)
    del net.memory["hlop.old.readout"]
    _, found = filled(HLOP(readout=False), net, x, y)
    assert set(found) == {"layers.0.weight", "layers.1.weight", "readout.weight", "readout.bias"}
    assert torch.equal(found["readout.weight"], plain["readout.weight"])
    assert torch.equal(found["readout.bias"], plain["readout.bias"])


def test_parameters_that_the_user_froze_stay_frozen():
    net, x, y = network_for(OTTT())
    with_old_rows(net)
    net.layers[0].requires_grad_(False)
    _, found = filled(HLOP(), net, x, y)
    assert set(found) == {"layers.1.weight", "readout.weight"}
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["layers.0.weight", "layers.0.bias"]


# Refusals.


@pytest.mark.parametrize("projection", ["weight", "input"])
def test_a_refused_batch_leaves_everything_as_it_was(projection):
    net, x, y = network_for(SLTT(), norm="bn_step")
    with_old_rows(net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    with pytest.raises(ValueError, match="labels reach"):
        HLOP(SLTT(), projection=projection).gradients(net, x, y + 9)
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in net.parameters())
    assert all(p.requires_grad for p in net.parameters())
    assert all(module.training for module in net.modules())
    assert all(synapse.observer is None for synapse in synapses_of(net).values())


@dataclass(frozen=True)
class Deaf:
    """A base method whose gradients are not made of presynaptic activity."""

    name = "deaf"
    optimiser_every = "batch"
    preset = OTTT().preset

    def gradients(self, network, x, y, on_step=None):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        return StepResult(0.0, network.answer(x), 0.0)


def test_a_base_without_presynaptic_activity_is_refused():
    net, x, y = network_for(OTTT())
    method = HLOP(Deaf())
    method.begin_task(net, 0)
    with pytest.raises(ValueError, match=r"Deaf\(\) gave no presynaptic activity for layers\.0"):
        method.gradients(net, x, y)


def transposed():
    layer = SpikingLayer((2, 4, 4), 2, LIF(), kernel=3)
    feedback = Synapse((2, 4, 4), 2, kernel=3, transposed=True)
    return Network([layer], Readout((2, 4, 4), 3), feedback=feedback, steps=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp([7, 8, 4], norm="sws"), r"layers\.0 has standardised weights.*norm='none'"),
        (lambda: mlp([7, 8, 4], norm="none", recurrent=True), r"layers\.0 is recurrent"),
        (transposed, "feedback is a transposed convolution"),
    ],
)
@pytest.mark.parametrize("method", [HLOP(), GPM()], ids=repr)
def test_networks_that_cannot_be_protected_are_refused(method, make, message):
    net = make()
    with pytest.raises(ValueError, match=message):
        method.begin_task(net, 0)
    with pytest.raises(ValueError, match=message):
        method.gradients(net, torch.randn(2, net.inputs), torch.zeros(2, dtype=torch.int64))
    assert all(p.grad is None for p in net.parameters())


def test_feedback_synapses_are_protected_too():
    net = feedback_net(7, [8], 4, norm="none", steps=4)
    assert list(synapses_of(net)) == ["layers.0", "readout", "feedback"]


@pytest.mark.parametrize("cls", [HLOP, GPM])
@pytest.mark.parametrize("base", [IDE(), HLOP(), GPM()], ids=repr)
def test_bases_that_cannot_be_projected_are_refused(cls, base):
    with pytest.raises(ValueError, match="cannot be projected"):
        cls(base)


@pytest.mark.parametrize("cls", [HLOP, GPM])
def test_a_base_must_be_a_method(cls):
    with pytest.raises(TypeError, match="pass an instance"):
        cls(OTTT)
    with pytest.raises(TypeError, match="pass an instance"):
        cls("ottt")
    with pytest.raises(ValueError, match="rows is 0"):
        cls(rows=0)
    with pytest.raises(TypeError, match="readout is 1"):
        cls(readout=1)
    with pytest.raises(TypeError, match="spiking network"):
        cls().begin_task(torch.nn.Linear(2, 2), 0)


@pytest.mark.parametrize("method", [HLOP(), GPM(threshold=0.9)], ids=repr)
def test_optimisers_that_leave_the_projection_are_refused(method):
    method.check_optimiser("sgd", 0.0)
    with pytest.raises(ValueError, match=r"'adam'.*optimiser='sgd'"):
        method.check_optimiser("adam", 0.0)
    with pytest.raises(ValueError, match=r"weight_decay 0\.01"):
        method.check_optimiser("sgd", 0.01)


@pytest.mark.parametrize("base", [OTTT("online"), RateBP(), SLTT(), DSR()], ids=repr)
def test_settings_of_the_base_hold(base):
    method = HLOP(base)
    assert method.optimiser_every == base.optimiser_every
    assert method.engine == base.engine
    assert method.loss is base.loss
    assert method.preset.neuron == base.preset.neuron
    assert method.preset.steps == base.preset.steps
    assert method.preset.norm == ("none" if base.preset.norm == "sws" else base.preset.norm)
    assert isinstance(method.preset.neuron, (DSRIF, DSRLIF)) is (base.name == "dsr")
