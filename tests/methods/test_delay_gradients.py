"""Delays under every method: full gradients against an unrolled model, online ones against their formula, and learning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lava_snnlearn as snn
from lava_snnlearn.data.dataset import Dataset, Split
from lava_snnlearn.methods import BPTT, FA, METHODS, OTTT, SLTT, Loss
from lava_snnlearn.methods.equilibrium import check_network
from lava_snnlearn.methods.online_engine import run_online
from lava_snnlearn.networks import DelaySettings, Network, mlp
from lava_snnlearn.networks.delays import delays_of
from lava_snnlearn.neurons import LIF

KINDS = ("axonal", "synaptic")
STEPS, BATCH, LIMIT, LEAK = 10, 4, 3, 0.4


class Task:
    """Delays of both layers, random biases and a sparse random input."""

    def __init__(self, kind: str, norm: str = "none", gradient: str = "exact", **options: Any) -> None:
        torch.manual_seed(0)
        delays = DelaySettings(kind, LIMIT, gradient=gradient)
        neuron = LIF(leak=LEAK, threshold=0.7)
        self.network = mlp([6, 9, 8, 4], neuron, norm=norm, steps=STEPS, delays=delays, delay_input=True, **options).double()
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(0.1, 0.2)
            self.network.readout.weight.normal_(std=0.5)
        self.x = 1.3 * torch.bernoulli(torch.full((STEPS, BATCH, 6), 0.5, dtype=torch.float64))
        self.y = torch.randint(0, 4, (BATCH,))

    def gradients(self, method: Any) -> dict[str, np.ndarray]:
        self.network.zero_grad()
        method.gradients(self.network, self.x, self.y)
        return {name: p.grad.numpy().copy() for name, p in self.network.named_parameters() if p.grad is not None}


def distance(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    assert set(found) == set(expected)
    return max(float(np.abs(found[name] - expected[name]).max()) for name in expected)


# ---- the full engine --------------------------------------------------------------------------------------------------------


class _Spike(torch.autograd.Function):
    """H(x), with the derivative of the logistic function of 4 x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).double()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        share = torch.sigmoid(4 * x)
        return grad * 4 * share * (1 - share)


def heard(sent: list[Tensor], delay: Tensor) -> Tensor:
    """m [B, n_out, n_in] at the present step, with the gradient of linearly interpolated trains for the delay."""
    steps = torch.round(delay.detach()).long()

    def at(late: Tensor) -> Tensor:
        total = torch.zeros(sent[0].shape[0], *delay.shape, dtype=torch.float64)
        for d in range(LIMIT + 1):
            if d < len(sent):
                total = total + (late == d) * sent[-1 - d].unsqueeze(1)
        return total

    later, sooner = (steps + 1).clamp(max=LIMIT), (steps - 1).clamp(min=0)
    slope = (at(later) - at(sooner)).detach() / (later - sooner)
    return at(steps) + (delay - delay.detach()) * slope


def unrolled(task: Task, loss: Loss) -> dict[str, np.ndarray]:
    """BPTT by plain autograd, step by step."""
    network = task.network
    network.zero_grad()
    delays = [LIMIT * torch.sigmoid(layer.delays.theta) for layer in network.layers]
    membranes = [torch.zeros(BATCH, layer.outputs, dtype=torch.float64) for layer in network.layers]
    sent: list[list[Tensor]] = [[] for _ in range(3)]
    total = torch.zeros((), dtype=torch.float64)
    for t in range(STEPS):
        sent[0].append(task.x[t])
        for index, layer in enumerate(network.layers):
            weight = layer.effective_weight() * layer.input_gain
            message = heard(sent[index], delays[index].expand(weight.shape))
            current = (weight * message).sum(2) + layer.bias
            u = (1 - LEAK) * membranes[index] + current
            spike = _Spike.apply(u - 0.7)
            membranes[index] = u - 0.7 * spike.detach()
            sent[index + 1].append(spike)
        readout = network.readout
        output = torch.nn.functional.linear(readout.input_gain * sent[2][-1], readout.weight, readout.bias)
        total = total + loss(output, task.y) / STEPS
    total.backward()
    return {name: p.grad.numpy().copy() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("norm", ["none", "sws"])
@pytest.mark.parametrize("kind", KINDS)
def test_bptt_equals_plain_autograd_of_the_unrolled_model(kind: str, norm: str) -> None:
    task = Task(kind, norm)
    expected = unrolled(task, Loss())
    assert min(np.abs(expected[f"layers.{index}.delays.theta"]).max() for index in (0, 1)) > 1e-3
    methods = [BPTT(), BPTT(chunk=1), BPTT(chunk=3), BPTT(chunk=7), BPTT(slots=2), BPTT(slots=3, checkpoints="hidden")]
    for method in [*methods, BPTT(memory_mb=1.0)]:
        assert distance(task.gradients(method), expected) < 1e-12, method


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_have_the_bits_of_single_steps(kind: str) -> None:
    task = Task(kind, gradient="trace")
    expected = task.gradients(BPTT(chunk=1))
    for method in (BPTT(slots=2), BPTT(slots=4, checkpoints="hidden")):
        found = task.gradients(method)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


# ---- the online engines -----------------------------------------------------------------------------------------------------


def late(signal: np.ndarray, delay: np.ndarray) -> np.ndarray:
    """[T, B, n_out, n_in]: a signal [T, B, n_in] under delays [n_out, n_in], in scalar loops."""
    found = np.zeros((*signal.shape[:2], *delay.shape))
    for t, i, j in np.ndindex(len(signal), *delay.shape):
        if t >= delay[i, j]:
            found[t, :, i, j] = signal[t - delay[i, j], :, j]
    return found


def leaky(signal: np.ndarray, lam: float) -> np.ndarray:
    total, rows = np.zeros_like(signal[0]), []
    for now in signal:
        total = lam * total + now
        rows.append(total)
    return np.stack(rows)


def local_formula(task: Task, lam: float, published: bool = False) -> dict[str, np.ndarray]:
    """grad W_ij = sum_t g_i[t] a_ij[t], grad d_ij = sum_t g_i[t] W_ij a'_ij[t] with the delayed trace (lam = 0: spikes); errors
    go down in the present step."""
    network, loss = task.network, Loss()
    simulated = network.simulate(task.x)
    outputs = simulated.outputs.detach().requires_grad_()
    sum(loss(now, task.y) for now in outputs).div(STEPS).backward()
    error = outputs.grad.numpy()
    sent = [task.x.numpy(), *(state.spike.detach().numpy() for state in simulated.layers)]
    found = {
        "readout.weight": np.einsum("tbi,tbj->ij", error, sent[2]),
        "readout.bias": error.sum((0, 1)),
    }
    down = error @ network.readout.weight.detach().numpy()
    for index in (1, 0):
        layer = network.layers[index]
        weight, charged = layer.weight.detach().numpy(), simulated.layers[index].charged.detach().numpy()
        share = 1 / (1 + np.exp(-4 * (charged - 0.7)))
        g = down * 4 * share * (1 - share)
        signal = leaky(sent[index], lam)
        delay = layer.delays.matrix().numpy()
        found[f"layers.{index}.weight"] = np.einsum("tbi,tbij->ij", g, late(signal, delay))
        gain = leaky(np.ones(STEPS), lam)[:, None, None]
        found[f"layers.{index}.bias"] = (gain * g).sum((0, 1))
        if published:
            slope = late(published_trace(sent[index]), delay)
        else:
            later, sooner = np.minimum(delay + 1, LIMIT), np.maximum(delay - 1, 0)
            slope = (late(signal, later) - late(signal, sooner)) / (later - sooner)
        by_delay = np.einsum("tbi,tbij->ij", g, slope) * weight
        theta = layer.delays.theta.detach()
        by_delay = by_delay.sum(0) if theta.dim() == 1 else by_delay
        share = torch.sigmoid(theta).numpy()
        found[f"layers.{index}.delays.theta"] = by_delay * LIMIT * share * (1 - share)
        down = g @ weight
    return found


def published_trace(spikes: np.ndarray, tau: float = 4.0) -> np.ndarray:
    """tr[n] = -sum_i s[i] eps'(n - i)."""
    found = np.zeros_like(spikes)
    for n in range(len(spikes)):
        for i in range(n + 1):
            k = n - i
            found[n] -= spikes[i] * np.e / tau * (1 - (k + 1) / tau) * np.exp(-k / tau)
    return found


@pytest.mark.parametrize("gradient", ["exact", "trace"])
@pytest.mark.parametrize("kind", KINDS)
def test_online_gradients_are_local_and_chunks_do_not_matter(kind: str, gradient: str) -> None:
    task = Task(kind, gradient=gradient)
    for make, lam in ((SLTT, 0.0), (OTTT, 1 - LEAK)):
        expected = local_formula(task, lam, published=gradient == "trace")
        for chunk in (None, 1, 2, 3, 7):
            assert distance(task.gradients(make(chunk=chunk)), expected) < 1e-12, (make, chunk)


def test_some_steps_only_have_their_share() -> None:
    """SLTT-K: delays reach over the steps without a backward."""
    task = Task("synaptic")
    torch.manual_seed(3)
    some = task.gradients(SLTT(k=4))
    torch.manual_seed(3)
    chosen = set(torch.randperm(STEPS)[:4].tolist())
    task.network.zero_grad()
    for t in sorted(chosen):
        run_online(task.network, task.x, task.y, Loss(), steps=[t])
    whole = {name: p.grad.numpy() for name, p in task.network.named_parameters()}
    assert distance(some, whole) < 1e-14


def test_feedback_alignment_learns_delays_by_its_own_errors() -> None:
    """Of the last layer, which hears of errors by the readout's feedback weight; lower ones by that of the layer above."""
    task = Task("synaptic")
    found = task.gradients(FA(seed=1))
    again = task.gradients(FA(seed=1, chunk=3))
    assert distance(found, again) < 1e-12
    true = task.gradients(OTTT())
    assert np.abs(found["layers.1.delays.theta"] - true["layers.1.delays.theta"]).max() > 1e-4
    assert distance({"w": found["readout.weight"]}, {"w": true["readout.weight"]}) < 1e-14


# ---- which methods take them ------------------------------------------------------------------------------------------------

REFUSED = {"dsr", "gpm", "hlop", "ide", "rate_bp", "spide"}
TAKEN = {"bptt", "dfa", "fa", "opzo", "ottt", "sltt"}


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"ep"}))
def test_methods_train_delays_or_refuse_them_before_they_begin(name: str) -> None:
    assert set(METHODS) == REFUSED | TAKEN | {"ep"}, "EP trains energy networks, whose neurons have no synapses of this kind"
    method = snn.methods.get(name)
    torch.manual_seed(0)
    neuron = method.preset.neuron if name in REFUSED else LIF(leak=0.5)
    norm = "none" if name in ("hlop", "gpm") else method.preset.norm
    build = dict(steps=6, norm=norm)
    network = mlp([6, 9, 8, 4], neuron, **build, delays="synaptic", max_delay=3)
    x, y = torch.randn(5, 6), torch.randint(0, 4, (5,))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    if name in TAKEN:
        method.gradients(network, x, y)
        theta = network.layers[1].delays.theta
        assert theta.grad is not None
        assert theta.grad.abs().max() > 0
        return
    with pytest.raises(ValueError, match="have delays, but"):
        method.gradients(network, x, y)
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_network_of_an_equilibrium_has_no_delays() -> None:
    network = mlp([6, 9, 8, 4], snn.neurons.FeedbackLIF(), norm="none", delays="axonal")
    with pytest.raises(ValueError, match="an equilibrium does not depend on delays"):
        check_network(network)


# ---- learning ---------------------------------------------------------------------------------------------------------------

CHANNELS, RANGE, WIDTH, SAMPLES = 8, 8, 4, 256


def order_task(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Channels begin one after the other, upwards or downwards (the class), each for 4 steps, of which a tenth is lost."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.arange(CHANNELS) * RANGE // (CHANNELS - 1)
    y = torch.randint(0, 2, (samples,), generator=generator)
    start = torch.randint(0, 3, (samples, 1), generator=generator)
    first = start + torch.where(y.unsqueeze(1) == 0, place, RANGE - place)
    t = torch.arange(2 * RANGE + WIDTH + 2).view(-1, 1, 1)
    x = ((t >= first) & (t < first + WIDTH)).float()
    return x * (torch.rand(x.shape, generator=generator) < 0.9), y


def order_network(kind: str, learned: bool, seed: int) -> Network:
    """Four fast-leaking neurons that fire if half of the channels arrive together; their weights are equal and stay so."""
    torch.manual_seed(seed)
    delays = DelaySettings(kind, RANGE, learned=learned)
    neuron = LIF(leak=0.8, threshold=0.5)
    network = mlp([CHANNELS, 4, 2], neuron, norm="none", steps=2 * RANGE + WIDTH + 2, delays=delays, delay_input=True)
    network.layers[0].weight.data.fill_(1 / CHANNELS)
    network.layers[0].weight.requires_grad_(False)
    return network


@pytest.fixture(scope="module")
def order() -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield (*order_task(SAMPLES, 0), *order_task(512, 1))
    torch.set_num_threads(threads)


def trained_accuracy(order: Any, network: Network, method: Any, seed: int) -> float:
    x, y, test_x, test_y = order
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(30):
        for chosen in torch.randperm(SAMPLES, generator=generator).split(64):
            optimiser.zero_grad()
            method.gradients(network, x[:, chosen], y[chosen])
            optimiser.step()
    return float((network.predict(test_x) == test_y).float().mean())


SEEDS = (0, 2, 3)


@pytest.mark.parametrize("method", [BPTT(), SLTT(), OTTT()], ids=lambda method: method.name)
def test_learned_delays_tell_orders_apart(order: Any, method: Any) -> None:
    found = [trained_accuracy(order, order_network("axonal", True, seed), method, seed) for seed in SEEDS]
    assert np.mean(found) >= 0.95, found
    assert min(found) >= 0.9, found


def test_synaptic_delays_tell_orders_apart(order: Any) -> None:
    assert trained_accuracy(order, order_network("synaptic", True, 0), SLTT(), 0) >= 0.95


def test_random_delays_tell_less_and_none_nothing(order: Any) -> None:
    random = [trained_accuracy(order, order_network("axonal", False, seed), BPTT(), seed) for seed in SEEDS]
    assert 0.5 < np.mean(random) < 0.8, random
    network = order_network("axonal", False, 0)
    delays_of(network)[0].put(0)
    assert abs(trained_accuracy(order, network, BPTT(), 0) - 0.5) < 0.05


# ---- the Trainer ------------------------------------------------------------------------------------------------------------


def small_data() -> Dataset:
    def split(seed: int) -> Split:
        generator = np.random.default_rng(seed)
        return Split(generator.normal(size=(24, 6)).astype(np.float32), generator.integers(0, 4, 24).astype(np.int64))

    return Dataset("random", split(0), split(1), split(2), 4)


def trainer(folder: Any = None, **options: Any) -> snn.Trainer:
    torch.manual_seed(1)
    network = mlp([6, 9, 8, 4], LIF(), norm="none", steps=5, delays="synaptic", max_delay=4)
    settings = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "optimiser": "adam", "progress": False} | options
    return snn.Trainer(network, BPTT(), small_data(), seed=0, run_dir=folder, **settings)


def test_weight_decay_leaves_delays_alone() -> None:
    """With decay and no gradient, weights shrink and delays stay."""

    class Silent:
        name, optimiser_every, preset = "silent", "batch", BPTT().preset

        def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Any = None) -> Any:
            for parameter in network.parameters():
                parameter.grad = torch.zeros_like(parameter)
            return snn.methods.StepResult(1.0, torch.zeros(len(y), 4), 0.1)

    run = trainer(optimiser="sgd", weight_decay=0.1)
    run.method = Silent()
    before = {name: p.detach().clone() for name, p in run.network.named_parameters()}
    run.fit()
    after = dict(run.network.named_parameters())
    assert torch.equal(after["layers.1.delays.theta"], before["layers.1.delays.theta"])
    assert (after["layers.1.weight"].abs() < before["layers.1.weight"].abs()).all()


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_a_resumed_run_has_the_same_delays(tmp_path: Any, decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trainer(weight_decay=decay)
    whole.fit()
    start = trainer().network.state_dict()["layers.1.delays.theta"]
    assert not torch.equal(whole.network.layers[1].delays.theta, start)
    broken = trainer(tmp_path, weight_decay=decay, checkpoint_batches=1)
    real, calls = BPTT.gradients, []

    def stopped(self: BPTT, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:  # in the second of three epochs
            raise KeyboardInterrupt
        return real(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(BPTT, "gradients", stopped)
        with pytest.raises(KeyboardInterrupt):
            broken.fit()
    resumed = trainer(tmp_path, weight_decay=decay, checkpoint_batches=1)
    with torch.no_grad():
        for parameter in resumed.network.parameters():
            parameter.zero_()
    resumed.resume()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
