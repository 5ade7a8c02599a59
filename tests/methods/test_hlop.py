"""HLOP: Oja's subspace rule, what a task leaves behind, and that the base method shines through."""

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.methods import BPTT, DFA, DSR, FA, HLOP, OPZO, OTTT, SLTT, RateBP
from lava_snnlearn.methods.hlop import random_rows, signed_rate_code, subspace_update
from lava_snnlearn.methods.projection import patches, synapses_of
from lava_snnlearn.networks import conv_net, mlp
from lava_snnlearn.training import Trainer

BASES = [OTTT(), OTTT("online"), SLTT(), SLTT(k=2), BPTT(), RateBP(), DSR(), DFA(), FA(), OPZO()]


def plain_mlp(**options):
    torch.manual_seed(0)
    return mlp([12, 16, 16, 4], norm="none", steps=4, **options).double()


def batch(seed=0, count=6, inputs=12):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, inputs, generator=generator, dtype=torch.float64)
    return 2 * x, torch.randint(0, 4, (count,), generator=generator)


# Oja's rule.


def test_update_is_the_rule_written_out():
    rng = np.random.default_rng(0)
    x, old, new, v = rng.normal(size=(9, 7)), rng.normal(size=(2, 7)) / 3, rng.normal(size=(3, 7)) / 3, rng.normal(size=(3, 7))
    options = {"rate": 0.05, "iterations": 4, "momentum": 0.7, "clip": 0.6}
    given = [torch.from_numpy(array.copy()) for array in (x, old, new, v)]
    found = subspace_update(*given, **options)
    clipped = 0
    for _ in range(4):
        h = np.concatenate([old, new])
        change = np.zeros_like(new)
        for sample in x:
            y = h @ sample
            change += np.outer(y[2:], sample) - np.outer(y[2:], h.T @ y)  # Hebbian, anti-Hebbian
        change /= len(x)
        clipped += (np.abs(change) > 0.6).sum()
        v = 0.7 * v + 0.3 * np.clip(change, -0.6, 0.6)
        new = new + 0.05 * v
    assert 0 < clipped < 4 * new.size
    assert np.abs(found[0].numpy() - new).max() < 1e-12
    assert np.abs(found[1].numpy() - v).max() < 1e-12
    assert np.abs(given[2].numpy() - new).max() > 1e-3  # the arguments are left alone


def test_spiking_answers_enter_the_rule():
    x, old, new, v = (torch.randn(n, 5, dtype=torch.float64) for n in (8, 1, 2, 2))
    exact, _ = subspace_update(x, old, new, v)
    coarse, _ = subspace_update(x, old, new, v, respond=lambda y: signed_rate_code(y, 2.0, 3))
    y_old, y = signed_rate_code(x @ old.t(), 2.0, 3), signed_rate_code(x @ new.t(), 2.0, 3)
    first = y.t() @ (x - y_old @ old - y @ new) / 8
    once, _ = subspace_update(x, old, new, v, iterations=1, respond=lambda y: signed_rate_code(y, 2.0, 3))
    assert (once - (new + 0.01 * (0.9 * v + 0.1 * first))).abs().max() < 1e-12
    assert (coarse - exact).abs().max() > 1e-4


def test_signed_rate_code():
    drive = torch.tensor([0.0, 0.6, -0.6, 5.0, -7.0, 1.99])
    # Steps of 2/3: the code has 3 steps up to 2.
    assert torch.allclose(signed_rate_code(drive, 2.0, 3), torch.tensor([0, 2, -2, 6, -6, 6]) / 3)


def test_random_rows():
    torch.manual_seed(1)
    old = torch.linalg.qr(torch.randn(10, 4, dtype=torch.float64)).Q.t()
    skewed = (torch.eye(4, dtype=torch.float64) + 0.02 * torch.randn(4, 4, dtype=torch.float64)) @ old
    torch.manual_seed(7)
    rows = random_rows(6, skewed)
    assert rows.shape == (6, 10)
    assert (rows @ rows.t() - torch.eye(6)).abs().max() < 1e-12
    assert (rows @ skewed.t()).abs().max() < 1e-12
    torch.manual_seed(7)
    assert torch.equal(random_rows(6, skewed), rows)
    assert random_rows(0, old).shape == (0, 10)
    assert random_rows(2, old.float()).dtype == torch.float32


def energy(x, rows):
    """Share of the energy of x in the space of the rows."""
    basis = np.linalg.qr(rows.T)[0]
    return np.square(x @ basis).sum() / np.square(x).sum()


def trained(x, count, batches, old=None, seed=0, **options):
    """Rows that learnt from random batches of 64 of x [N, n]."""
    torch.manual_seed(seed)
    data = torch.from_numpy(x)
    frozen = data[:0] if old is None else torch.from_numpy(old)
    rows = random_rows(count, frozen if old is not None else data.new_zeros(0, x.shape[1]))
    velocity = torch.zeros_like(rows)
    for _ in range(batches):
        chosen = torch.randint(0, len(data), (64,))
        rows, velocity = subspace_update(data[chosen], frozen, rows, velocity, **options)
    return rows.numpy()


def test_rows_turn_to_the_principal_subspace_where_the_spectrum_has_a_gap():
    """H1: 6 of 40 directions with three times the variance of the others. What is left is the noise of the batches."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    x = rng.normal(size=(20_000, 40)) * np.where(np.arange(40) < 6, 1.0, 3**-0.5) @ axes.T
    principal = np.linalg.svd(x, full_matrices=False)[2][:6]

    def angle(rate):
        rows = trained(x, 6, 2000, rate=rate, iterations=1)
        cosines = np.linalg.svd(np.linalg.qr(rows.T)[0].T @ principal.T)[1]
        return np.degrees(np.arccos(cosines.min()))

    assert angle(0.01) < 5
    assert angle(0.01) < 0.6 * angle(0.05)
    assert angle(0.05) < 9


@pytest.fixture(scope="module")
def digits():
    return snn.data.load("digits").train.x.astype(np.float64)


@pytest.fixture(scope="module")
def first_rows(digits):
    return trained(digits, 8, 1500)


def test_digits_energy_orthonormality_and_a_second_subspace(digits, first_rows):
    """H2, H3, H4."""
    best = np.linalg.svd(digits, full_matrices=False)[2]
    assert energy(digits, first_rows) / energy(digits, best[:8]) >= 0.99
    both = np.concatenate([first_rows, trained(digits, 6, 1500, old=first_rows, seed=1)])
    assert np.abs(both[8:] @ both[:8].T).max() < 0.02
    assert energy(digits, both) / energy(digits, best[:14]) >= 0.99
    for rows in (first_rows, both):
        p = rows.T @ rows
        assert np.linalg.norm(p @ p - p) / np.linalg.norm(p) < 0.01
        assert np.abs(rows @ rows.T - np.eye(len(rows))).max() < 0.01


def test_a_second_subspace_of_other_data_is_orthogonal_to_the_first(digits, first_rows):
    other = digits[:, np.random.default_rng(3).permutation(64)]
    rows = trained(other, 6, 1500, old=first_rows, seed=2)
    assert np.abs(rows @ first_rows.T).max() < 0.02
    left = other - other @ first_rows.T @ first_rows
    assert energy(left, rows) / energy(left, np.linalg.svd(left, full_matrices=False)[2][:6]) >= 0.99


# Tasks.


def shapes(network, kind):
    return [tuple(network.memory[f"hlop.{kind}.{name}"].shape) for name in synapses_of(network)]


def test_rows_of_tasks_add_up():
    network, method = plain_mlp(), HLOP(first=[3, 4, 5], increment=2)
    network.memory["opzo.M"] = torch.ones(2)
    method.begin_task(network, 0)
    assert shapes(network, "new") == shapes(network, "velocity") == [(3, 12), (4, 16), (5, 16)]
    assert method.old(network) == {}
    learnt = {name: network.memory[f"hlop.new.{name}"] for name in synapses_of(network)}
    method.end_task(network)
    assert all(torch.equal(rows, learnt[name]) for name, rows in method.old(network).items())
    method.begin_task(network, 1)
    assert shapes(network, "old") == [(3, 12), (4, 16), (5, 16)]
    assert shapes(network, "new") == [(2, 12), (2, 16), (2, 16)]
    for name, old in method.old(network).items():
        assert (network.memory[f"hlop.new.{name}"] @ old.t()).abs().max() < 1e-12
    method.end_task(network, torch.randn(3, 12))
    assert shapes(network, "old") == [(5, 12), (6, 16), (7, 16)]
    assert set(network.memory) == {"opzo.M"} | {f"hlop.old.{name}" for name in synapses_of(network)}
    method.begin_task(network, 0)  # another sequence
    assert method.old(network) == {}
    assert torch.equal(network.memory["opzo.M"], torch.ones(2))


def test_numbers_of_rows():
    def counts(method, task):
        network = plain_mlp()
        for earlier in range(task):
            method.begin_task(network, earlier)
            method.end_task(network)
        method.begin_task(network, task)
        return [rows for rows, _ in shapes(network, "new")]

    nested = HLOP(first=1, increment=[[1, 2, 3], [0, 1, 2]])
    assert [counts(nested, task) for task in range(4)] == [[1, 1, 1], [1, 2, 3], [0, 1, 2], [0, 1, 2]]
    assert counts(HLOP(), 0) == [3, 4, 4]  # a quarter
    assert counts(HLOP(), 1) == [1, 2, 2]  # an eighth
    assert counts(HLOP(first=[12, 16, 15]), 1) == [0, 0, 1]  # as long as there is room


def test_a_readout_of_its_own_has_no_rows():
    network, method = plain_mlp(), HLOP(first=[2, 3], readout=False)
    method.begin_task(network, 0)
    assert {name.rpartition("new.")[2] for name in network.memory if ".new." in name} == {"layers.0", "layers.1"}


def test_rows_are_drawn_from_torchs_generator():
    def drawn(seed):
        network = plain_mlp()
        torch.manual_seed(seed)
        HLOP().begin_task(network, 0)
        return network.memory["hlop.new.layers.1"]

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        (HLOP(first=[3, 4]), ValueError, r"first has 2 numbers, but 3 synapses .*layers\.0, layers\.1, readout"),
        (HLOP(first=13), ValueError, r"first wants 13 rows for layers\.0, which has room for 12 of its 12 inputs"),
        (HLOP(rate=[0.1, 0.2], first=3), ValueError, "rate has 2 numbers"),
    ],
    ids=repr,
)
def test_rows_that_do_not_fit_are_refused(method, error, message):
    network = plain_mlp()
    with pytest.raises(error, match=message):
        method.begin_task(network, 0)
    assert network.memory == {}


def test_tasks_out_of_order_are_refused():
    network, method = plain_mlp(), HLOP(first=10, increment=4)
    with pytest.raises(ValueError, match="task 1 begins, but this network has no rows"):
        method.begin_task(network, 1)
    with pytest.raises(ValueError, match=r"no task has begun for layers\.0"):
        method.end_task(network)
    with pytest.raises(ValueError, match="task is -1"):
        method.begin_task(network, -1)
    with pytest.raises(TypeError, match=r"task is 0\.0"):
        method.begin_task(network, 0.0)
    method.begin_task(network, 0)
    method.end_task(network)
    before = dict(network.memory)
    with pytest.raises(ValueError, match=r"increment wants 4 rows for layers\.0, which has room for 2 of its 12"):
        method.begin_task(network, 1)
    assert network.memory == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"first": -1}, ValueError, "first is -1"),
        ({"first": [3, 2.5]}, TypeError, "first is 2.5"),
        ({"increment": [[1, -2]]}, ValueError, "increment is -2"),
        ({"rate": 0.0}, ValueError, r"rate is 0\.0"),
        ({"rate": [0.1, "x"]}, TypeError, "rate is 'x'"),
        ({"iterations": 0}, ValueError, "iterations is 0"),
        ({"momentum": 1.0}, ValueError, r"momentum is 1\.0"),
        ({"clip": float("nan")}, ValueError, "clip is nan"),
        ({"spiking": 1}, TypeError, "spiking is 1"),
        ({"spiking_scale": -1.0}, ValueError, r"spiking_scale is -1\.0"),
        ({"spiking_steps": 0}, ValueError, "spiking_steps is 0"),
        ({"projection": "output"}, snn.checks.UnknownNameError, "unknown projection 'output'"),
    ],
)
def test_options_out_of_range_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        HLOP(**options)


def test_learning_rows_in_several_processes_is_refused(monkeypatch):
    network, method = plain_mlp(), HLOP()
    method.begin_task(network, 0)
    monkeypatch.setattr(snn.distributed, "world", lambda: 2)
    with pytest.raises(ValueError, match="train without torchrun"):
        method.gradients(network, *batch())
    assert all(p.grad is None for p in network.parameters())


# The base method, and what is left of it.


def network_of(base, **options):
    torch.manual_seed(0)
    neuron = base.preset.neuron if base.name == "dsr" else None
    return mlp([12, 16, 16, 4], neuron, norm="none", steps=4, dropout=0.2, **options).double()


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("base", BASES, ids=repr)
def test_the_first_task_is_the_bases_to_the_bit(base, begun):
    outcomes = []
    for method in (base, HLOP(base)):
        network = network_of(base)
        if begun and method is not base:
            method.begin_task(network, 0)
        torch.manual_seed(3)
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        losses = []

        def step(optimiser=optimiser):
            optimiser.step()
            optimiser.zero_grad()

        for number in range(3):
            losses.append(method.gradients(network, *batch(number), step).loss)
            if base.optimiser_every == "batch":
                step()
        outcomes.append((losses, network.state_dict()))
    (expected, weights), (found, others) = outcomes
    assert found == expected
    assert all(torch.equal(others[name], value) for name, value in weights.items())


@pytest.mark.parametrize("base", BASES, ids=repr)
def test_rows_learn_from_what_enters_the_weight_gradient(base):
    network, method = network_of(base).eval(), HLOP(base, first=3, rate=[0.02, 0.03, 0.04], iterations=2)
    method.begin_task(network, 0)
    method.end_task(network)
    method.begin_task(network, 1)
    before, (x, y) = dict(network.memory), batch()
    heard = {name: [] for name in synapses_of(network)}
    for name, synapse in synapses_of(network).items():
        synapse.observer = lambda operand, _, name=name: heard[name].append(operand.clone())
    torch.manual_seed(3)
    base.gradients(network, x, y)
    network.zero_grad()
    torch.manual_seed(3)
    method.gradients(network, x, y)
    for (name, rows), rate in zip(heard.items(), (0.02, 0.03, 0.04), strict=True):
        start = [before[f"hlop.{kind}.{name}"] for kind in ("old", "new", "velocity")]
        new, velocity = subspace_update(torch.cat(rows), *start, rate=rate, iterations=2)
        assert torch.equal(network.memory[f"hlop.old.{name}"], start[0])
        assert (network.memory[f"hlop.new.{name}"] - new).abs().max() < 1e-12
        assert (network.memory[f"hlop.velocity.{name}"] - velocity).abs().max() < 1e-12
        assert (new - start[1]).abs().max() > 1e-6


def test_a_layer_without_rows_learns_as_if_alone():
    network, method = plain_mlp(), HLOP(first=[0, 4, 0], increment=[0, 1, 0])
    plain = plain_mlp()
    for task in (0, 1):
        method.begin_task(network, task)
        if task == 0:
            method.end_task(network)
    x, y = batch()
    OTTT().gradients(plain, x, y)
    method.gradients(network, x, y)
    assert torch.equal(network.layers[0].weight.grad, plain.layers[0].weight.grad)
    assert not torch.equal(network.layers[1].weight.grad, plain.layers[1].weight.grad)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("base", [OTTT(), OTTT("online"), SLTT(), BPTT(), RateBP(), DSR("lif")], ids=repr)
def test_answers_to_old_inputs_do_not_move(base, kind):
    """With rows that span all that the old samples excite, training on others leaves the answers to the old ones."""
    torch.manual_seed(0)
    neuron = base.preset.neuron if base.name == "dsr" else None
    if kind == "conv":
        network = conv_net((8, 4, 4), "8C3-P2-5C3-8", 4, neuron, norm="bn_step", steps=4).double()
    else:
        network = mlp([30, 40, 40, 4], neuron, norm="bn_step", steps=4).double()
    count, inputs = (1, 128) if kind == "conv" else (3, 30)
    old, (x, y) = batch(1, count, inputs)[0], batch(2, 8, inputs)
    for synapse in synapses_of(network).values():
        torch.nn.init.normal_(synapse.weight, std=0.4)  # so that all layers fire
    method = HLOP(base)
    for name, span in spanned(network, old).items():
        network.memory[f"hlop.old.{name}"] = span
    before, start = network.answer(old), network.answer(x)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    def step():
        optimiser.step()
        optimiser.zero_grad()

    for _ in range(5):
        method.gradients(network.train(), x, y, step)
        step()
    assert (network.answer(old) - before).abs().max() < 1e-9
    assert (network.answer(x) - start).abs().max() > 1e-2


def spanned(network, x):
    """An orthonormal basis of what each synapse reads of x in eval mode, at any step; rates and traces are sums of that."""
    read = {}
    for name, synapse in synapses_of(network).items():
        plain = synapse.prepare

        def prepare(signal, name=name, plain=plain):
            read.setdefault(name, []).append(plain(signal).detach())
            return read[name][-1]

        synapse.prepare = prepare
    network.eval().simulate(x)
    found = {}
    for name, synapse in synapses_of(network).items():
        del synapse.prepare
        rows = patches(synapse, torch.cat(read[name]))
        values, directions = torch.linalg.svd(rows, full_matrices=False)[1:]
        found[name] = directions[values > 1e-9 * values[0]]
        assert 0 < len(found[name]) < rows.shape[1]  # there is something to keep and something to learn
    return found


class Interruption(Exception):
    pass


def test_a_task_that_was_interrupted_ends_with_the_same_bits(tmp_path):
    data = snn.data.load("digits")
    small = type(data)("few digits", data.train.take(np.arange(60)), data.valid.take(np.arange(10)), data.test, data.classes)

    def begun():
        torch.manual_seed(0)
        network = mlp([64, 16, 10], norm="none", steps=3)
        method = HLOP(first=[8, 4], increment=[4, 2])
        for task in (0, 1):
            method.begin_task(network, task)
            if task == 0:
                method.end_task(network)
        return network, method

    def trainer(network, method, name):
        options = {"batch_size": 20, "learning_rate": 0.05, "progress": False, "checkpoint_batches": 1}
        return Trainer(network, method, small, epochs=2, seed=1, run_dir=tmp_path / name, **options)

    network, method = begun()
    start = dict(network.memory)
    trainer(network, method, "whole").fit()
    broken, _ = begun()
    calls = []

    class Broken(HLOP):
        def gradients(self, *arguments):
            calls.append(1)
            if len(calls) == 5:
                raise Interruption
            return super().gradients(*arguments)

        __repr__ = method.__repr__

    with pytest.raises(Interruption):
        trainer(broken, Broken(first=[8, 4], increment=[4, 2]), "broken").fit()
    fresh, _ = begun()
    trainer(fresh, method, "broken").resume()
    assert set(fresh.memory) == set(network.memory)
    assert all(torch.equal(fresh.memory[key], value) for key, value in network.memory.items())
    assert all(torch.equal(fresh.state_dict()[key], value) for key, value in network.state_dict().items())
    assert not torch.equal(network.memory["hlop.new.readout"], start["hlop.new.readout"])
    assert torch.equal(network.memory["hlop.old.readout"], start["hlop.old.readout"])


def test_the_trainer_asks_whether_the_optimiser_suits():
    data = snn.data.load("digits")
    with pytest.raises(ValueError, match="hlop projects gradients"):
        Trainer(mlp([64, 16, 10], norm="none"), HLOP(), data, optimiser="adam")


def test_names():
    assert snn.methods.get("hlop", first=3) == HLOP(first=3)
    assert "M. Xiao" in snn.citation(HLOP())
