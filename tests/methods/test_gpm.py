"""GPM: subspaces by SVD, as small as the threshold allows, and end_task that leaves the network alone."""

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.methods import BPTT, DSR, GPM, OTTT, SLTT, RateBP
from lava_snnlearn.methods.gpm import extended
from lava_snnlearn.methods.projection import synapses_of
from lava_snnlearn.networks import conv_net, mlp


def network_and_data(base, norm="none", samples=12):
    torch.manual_seed(0)
    neuron = base.preset.neuron if base.name == "dsr" else None
    network = mlp([20, 30, 30, 4], neuron, norm=norm, steps=4).double()
    for synapse in synapses_of(network).values():
        torch.nn.init.normal_(synapse.weight, std=0.4)
    return network, 2 * torch.randn(samples, 20, dtype=torch.float64), torch.randint(0, 4, (samples,))


def share(x, rows):
    return np.square(x @ rows.T).sum() / np.square(x).sum()


def test_directions_are_the_fewest_that_hold_the_energy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 9)) * np.linspace(3, 0.3, 9) @ np.linalg.qr(rng.normal(size=(9, 9)))[0]
    empty = torch.zeros(0, 9, dtype=torch.float64)
    rows = extended(empty, torch.from_numpy(x), 0.9).numpy()
    assert np.abs(rows @ rows.T - np.eye(len(rows))).max() < 1e-12
    energies = np.sort(np.linalg.eigvalsh(x.T @ x))[::-1].cumsum() / np.square(x).sum()
    assert len(rows) == np.argmax(energies >= 0.9) + 1
    assert abs(share(x, rows) - energies[len(rows) - 1]) < 1e-12


def test_a_second_task_adds_only_what_is_missing():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 12)), rng.normal(size=(40, 4)) @ rng.normal(size=(4, 12))
    memory = extended(torch.zeros(0, 12, dtype=torch.float64), torch.from_numpy(first), 1.0)
    assert len(memory) == 3
    assert torch.equal(extended(memory, torch.from_numpy(first[:9]), 1.0), memory)
    both = extended(memory, torch.from_numpy(second), 1.0)
    assert torch.equal(both[:3], memory)
    assert len(both) == 7
    assert (both @ both.t() - torch.eye(7)).abs().max() < 1e-12
    # The energy that the memory holds already counts.
    mixed = torch.from_numpy(10 * first + second)
    assert share(mixed.numpy(), memory.numpy()) > 0.9
    assert torch.equal(extended(memory, mixed, 0.9), memory)
    assert torch.equal(extended(memory, torch.zeros(5, 12, dtype=torch.float64), 0.9), memory)
    assert len(extended(memory, torch.randn(60, 12, dtype=torch.float64), 1.0)) == 12


@pytest.mark.parametrize("norm", ["none", "bn_step"])
@pytest.mark.parametrize("base", [OTTT(), OTTT("online"), SLTT(), SLTT(k=2), BPTT(), RateBP(), DSR()], ids=repr)
def test_the_end_of_a_task_leaves_the_network_alone(base, norm):
    network, x, y = network_and_data(base, norm)
    method = GPM(base, threshold=0.9)
    method.begin_task(network, 0)
    base.gradients(network, x, y)
    grads = {name: p.grad.clone() for name, p in network.named_parameters()}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.memory["opzo.M"] = torch.ones(2)
    network.layers[0].weight.requires_grad_(False)
    method.end_task(network, x)
    assert all(torch.equal(p.grad, grads[name]) for name, p in network.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert set(network.memory) == {"opzo.M", *(f"gpm.old.{name}" for name in synapses_of(network))}
    assert not network.layers[0].weight.requires_grad
    for name, rows in method.old(network).items():
        assert 0 < len(rows) < rows.shape[1], name


@pytest.mark.parametrize("base", [OTTT(), SLTT(), BPTT()], ids=repr)
def test_threshold_one_holds_old_answers_where_they_are(base):
    network, old, _ = network_and_data(base, samples=4)
    method = GPM(base, threshold=1.0)
    method.begin_task(network, 0)
    method.end_task(network, old)
    method.begin_task(network, 1)
    generator = torch.Generator().manual_seed(5)
    x, y = 2 * torch.randn(8, 20, generator=generator, dtype=torch.float64), torch.arange(8) % 4
    before, start = network.answer(old), network.answer(x)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        optimiser.zero_grad()
        method.gradients(network, x, y)
        optimiser.step()
    assert (network.answer(old) - before).abs().max() < 1e-7
    assert (network.answer(x) - start).abs().max() > 1e-2


def test_maps_are_protected_by_their_patches():
    torch.manual_seed(0)
    network = conv_net((2, 6, 6), "4C3-8", 4, norm="none", steps=3).double()
    x = torch.randn(5, 72, dtype=torch.float64)
    method = GPM(OTTT(), threshold=0.8)
    method.end_task(network, x)
    rows = method.old(network)["layers.0"].numpy()
    padded = np.pad(x.numpy().reshape(5, 2, 6, 6), ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = np.stack([padded[n, :, i : i + 3, j : j + 3].ravel() for n in range(5) for i in range(6) for j in range(6)])
    assert share(patches, rows) >= 0.8 > share(patches, rows[:-1])


def test_samples_are_drawn_from_the_task():
    network, x, _ = network_and_data(OTTT(), samples=40)
    sequences = x.expand(4, *x.shape)

    def rank(samples, data):
        network.memory.clear()
        GPM(threshold=1.0, samples=samples).end_task(network, data)
        return len(network.memory["gpm.old.layers.0"])

    assert rank(3, x) == rank(3, sequences) == 3
    assert rank(300, x) == 20
    torch.manual_seed(4)
    rank(3, x)
    drawn = network.memory["gpm.old.layers.0"]
    torch.manual_seed(4)
    rank(3, x)
    assert torch.equal(network.memory["gpm.old.layers.0"], drawn)


def test_a_sequence_begins_anew_with_task_0():
    network, x, _ = network_and_data(OTTT())
    method = GPM()
    with pytest.raises(ValueError, match="task 1 begins"):
        method.begin_task(network, 1)
    method.end_task(network, x)
    method.begin_task(network, 1)
    assert len(method.old(network)) == 3
    method.begin_task(network, 0)
    assert network.memory == {}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": 0.0}, ValueError, r"threshold is 0\.0"),
        ({"threshold": 1.1}, ValueError, r"threshold is 1\.1"),
        ({"threshold": "a"}, TypeError, "threshold is 'a'"),
        ({"samples": 0}, ValueError, "samples is 0"),
    ],
)
def test_options_out_of_range_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        GPM(**options)


@pytest.mark.parametrize("x", [torch.randn(20), torch.randn(0, 20), torch.randn(4, 0, 20)], ids=lambda x: str(tuple(x.shape)))
def test_samples_that_do_not_fit_are_refused(x):
    network, _, _ = network_and_data(OTTT())
    with pytest.raises(ValueError, match="x has shape"):
        GPM().end_task(network, x.double())
    with pytest.raises(TypeError, match="must be a torch tensor"):
        GPM().end_task(network, x.numpy())
    assert network.memory == {}


def test_names():
    assert snn.methods.get("gpm", threshold=0.9) == GPM(threshold=0.9)
    assert "G. Saha" in snn.citation(GPM())
