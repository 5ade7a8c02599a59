"""Learned delays: rounding and range, the map of delayed spikes against scalar loops, its gradients against definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.networks import DelayLinear, Delays, DelaySettings, Network, Population, Readout, SpikingLayer, Synapse, mlp
from lava_snnlearn.networks import delayed_maps as maps
from lava_snnlearn.neurons import LIF, delay_kernels

KINDS = ("axonal", "synaptic")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def train(steps, batch, inputs, rate=0.4, dtype=torch.float64):
    return torch.bernoulli(torch.full((steps, batch, inputs), rate, dtype=dtype))


def loops(x, weight, bias, delay):
    """The map written out, one synapse and step after another; delay [n_out, n_in]."""
    steps, batch, inputs = x.shape
    out = np.zeros((steps, batch, len(weight)))
    for t in range(steps):
        for b in range(batch):
            for i in range(len(weight)):
                out[t, b, i] = bias[i]
                for j in range(inputs):
                    if t >= delay[i, j]:
                        out[t, b, i] += weight[i, j] * x[t - delay[i, j], b, j]
    return out


# ---- the delays themselves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_rounded_half_to_even_and_within_the_range(kind):
    delays = Delays(DelaySettings(kind, 4), 5, 3)
    assert delays.theta.shape == ((5,) if kind == "axonal" else (3, 5))
    with torch.no_grad():
        delays.theta.fill_(0.0)  # d = 2
        delays.theta.view(-1)[:5] = torch.tensor([-math.log(7), math.log(5 / 3), -50.0, 50.0, math.log(3)])
    times = delays.times().detach().view(-1)[:5].tolist()
    assert times == pytest.approx([0.5, 2.5, 0.0, 4.0, 3.0], abs=1e-6)
    halves = torch.tensor([0.5, 1.5, 2.5, 3.5])
    assert torch.round(halves).tolist() == [0.0, 2.0, 2.0, 4.0], "half to even, as in numpy and the published code"
    assert delays.steps().view(-1)[[2, 3, 4]].tolist() == [0, 4, 3]
    assert delays.steps().dtype == torch.int64
    assert torch.equal(delays().detach(), delays.steps().to(torch.float32))
    assert delays.matrix().shape == (3, 5)


def test_the_gradient_goes_straight_through_the_rounding():
    delays = Delays(DelaySettings("synaptic", 6), 4, 3).double()
    weights = torch.randn(3, 4, dtype=torch.float64)
    (delays() * weights).sum().backward()
    share = torch.sigmoid(delays.theta.detach())
    torch.testing.assert_close(delays.theta.grad, weights * 6 * share * (1 - share), rtol=0, atol=1e-15)


def test_new_delays_cover_their_range_and_fixed_ones_are_no_parameters():
    learned, fixed = (Delays(DelaySettings("synaptic", 8, learned=flag), 60, 50) for flag in (True, False))
    for delays in (learned, fixed):
        counts = torch.bincount(delays.steps().flatten(), minlength=9)
        assert len(counts) == 9
        assert counts.min() > 10
    assert [name for name, _ in learned.named_parameters()] == ["theta"]
    assert not list(fixed.parameters())
    assert list(fixed.state_dict()) == ["theta"], "random delays are part of a saved network as well"


def test_put():
    delays = Delays(DelaySettings("synaptic", 62), 9, 7)
    wanted = torch.randint(0, 63, (7, 9))
    wanted.view(-1)[:2] = torch.tensor([0, 62])
    delays.put(wanted)
    assert torch.equal(delays.steps(), wanted)
    delays.put(3)
    assert (delays.steps() == 3).all()
    with pytest.raises(LimitError, match="63"):
        delays.put(63)
    with pytest.raises(ValueError, match="shape"):
        delays.put(torch.zeros(9, dtype=torch.int64))
    with pytest.raises(TypeError, match="whole"):
        delays.put(torch.zeros(7, 9))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"delays": "dendritic"}, UnknownNameError, "dendritic"),
        ({"delays": "axonal", "max_delay": 63}, LimitError, "62"),
        ({"delays": "axonal", "max_delay": 0}, ValueError, "at least 1"),
        ({"delays": "axonal", "max_delay": 2.0}, TypeError, "integer"),
        ({"max_delay": 4}, ValueError, "no delays"),
        ({"delays": DelaySettings("axonal"), "max_delay": 4}, ValueError, "their own"),
        ({"delays": 3}, TypeError, "DelaySettings"),
    ],
)
def test_bad_options_are_refused(options, error, match):
    with pytest.raises(error, match=match):
        Synapse(3, 2, **options)
    for bad in ({"gradient": "exactly"}, {"tau": 0.0}, {"learned": 1}):
        with pytest.raises((ValueError, TypeError)):
            DelaySettings(**bad)


def test_convolutions_and_pools_are_refused():
    with pytest.raises(ValueError, match="a convolution cannot have delays"):
        SpikingLayer((2, 6, 6), 3, LIF(), kernel=3, delays="axonal")
    for options in ({"pool": 2}, {"upsample": 2}):
        with pytest.raises(ValueError, match="pools or enlarges"):
            Synapse((2, 6, 6), 3, delays="synaptic", **options)
    assert Synapse((2, 6, 6), 3, delays="synaptic").current(torch.ones(3, 1, 2, 6, 6)).shape == (3, 1, 3)


# ---- the map ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_delay", [1, 5, 62])
@pytest.mark.parametrize("kind", KINDS)
def test_delay_linear_equals_scalar_loops(kind, max_delay):
    layer = DelayLinear(6, 4, max_delay, delays=kind).double()
    with torch.no_grad():
        layer.bias.normal_()
    x = train(9, 3, 6)
    expected = loops(x.numpy(), layer.weight.detach().numpy(), layer.bias.detach().numpy(), layer.delays.matrix().numpy())
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=0, atol=1e-13)
    assert layer.delays.matrix().max() <= max_delay
    with pytest.raises(ValueError, match="whole sequences"):
        layer(x[0])


def test_without_numba_the_products_are_the_same(monkeypatch):
    x, weight, error = train(11, 4, 13), torch.randn(7, 13).double(), torch.randn(8, 4, 7).double()
    steps = torch.randint(0, 4, (7, 13))
    found = maps._apply(x, weight, steps, 8, False), maps._correlate(error, x, steps, False)
    back = maps._scatter(error, weight, steps, 3)
    monkeypatch.setattr(maps, "_compiled", lambda: None)
    for fast, plain in zip(
        (*found, back),
        (
            maps._apply(x, weight, steps, 8, False),
            maps._correlate(error, x, steps, False),
            maps._scatter(error, weight, steps, 3),
        ),
        strict=True,
    ):
        torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)


def test_bits_do_not_depend_on_threads_or_on_the_length_of_pieces(pools, monkeypatch):
    monkeypatch.setattr(delay_kernels, "_WORTH_A_THREAD", 1)
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(70, 90)).astype(np.float32)
    delay = rng.integers(0, 9, (70, 90))
    batch, steps = 5, 40
    source = rng.normal(size=(90, (8 + steps) * batch)).astype(np.float32)
    offset = (8 - delay) * batch
    whole = delay_kernels.delayed_sums(source, weight, offset, steps * batch)
    np.testing.assert_array_equal(whole, delay_kernels.delayed_sums(source, weight, offset, steps * batch, threads=3))
    for t in range(steps):
        part = delay_kernels.delayed_sums(source, weight, offset + t * batch, batch)
        np.testing.assert_array_equal(whole[:, t * batch : (t + 1) * batch], part)
    error = rng.normal(size=(70, steps * batch)).astype(np.float32)
    for kernel, rest in ((delay_kernels.delayed_back, (weight, offset, source.shape[1])), (delay_kernels.delayed_products, ())):
        arguments = (error, *rest) if rest else (error, source, offset)
        np.testing.assert_array_equal(kernel(*arguments), kernel(*arguments, threads=3))
    assert pools == [2, 2, 2]


# ---- gradients --------------------------------------------------------------------------------------------------------------


def interpolated(x, at):
    """A spike train [T] between its steps, 0 before the first one."""
    return np.interp(at, np.arange(-200, len(x)), np.concatenate([np.zeros(200), x]))


@pytest.mark.parametrize("kind", KINDS)
def test_exact_delay_gradient_is_that_of_linearly_interpolated_trains(kind):
    """Central differences at whole delays, of half a step; from inside at both ends of the range."""
    outputs, inputs, steps, limit = 3, 4, 12, 5
    layer = DelayLinear(inputs, outputs, limit, delays=kind, bias=False).double()
    wanted = torch.randint(0, limit + 1, layer.delays.theta.shape)
    wanted.view(-1)[:3] = torch.tensor([0, limit, 1])
    layer.delays.put(wanted)
    x, grad = train(steps, 1, inputs), torch.randn(steps, 1, outputs).double()
    (layer(x) * grad).sum().backward()
    weight = layer.weight.detach().numpy()

    def loss(delay):
        heard = np.array(
            [
                [[interpolated(x[:, 0, j].numpy(), t - delay[i, j]) for j in range(inputs)] for i in range(outputs)]
                for t in range(steps)
            ]
        )
        return float((grad[:, 0].numpy() * (weight * heard).sum(2)).sum())

    expected = np.zeros(wanted.shape)
    for place in np.ndindex(*wanted.shape):
        ends = []
        for step in (0.5, -0.5):
            moved = wanted.numpy().astype(float)
            moved[place] = np.clip(moved[place] + step, 0, limit)
            ends.append((loss(np.broadcast_to(moved, (outputs, inputs))), moved[place]))
        expected[place] = (ends[0][0] - ends[1][0]) / (ends[0][1] - ends[1][1])
    share = torch.sigmoid(layer.delays.theta.detach())
    slope = (limit * share * (1 - share)).numpy()
    np.testing.assert_allclose(layer.delays.theta.grad.numpy(), expected * slope, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_published_rule_by_its_definition(kind):
    outputs, inputs, steps, limit, tau = 3, 4, 12, 5, 3.0
    settings = DelaySettings(kind, limit, gradient="trace", tau=tau)
    layer = DelayLinear(inputs, outputs, delays=settings, bias=False).double()
    x, grad = train(steps, 2, inputs), torch.randn(steps, 2, outputs).double()
    (layer(x) * grad).sum().backward()
    a, kappa = math.exp(-1 / tau), math.e / tau
    delay, expected = layer.delays.matrix().numpy(), np.zeros((outputs, inputs))
    for i, j, b, t in np.ndindex(outputs, inputs, 2, steps):
        n = t - delay[i, j]
        trace = -sum(float(x[k, b, j]) * kappa * (1 - (n - k + 1) / tau) * a ** (n - k) for k in range(n + 1))
        expected[i, j] += float(grad[t, b, i] * layer.weight[i, j]) * trace
    expected = expected.sum(0) if kind == "axonal" else expected
    share = torch.sigmoid(layer.delays.theta.detach())
    slope = (limit * share * (1 - share)).numpy()
    np.testing.assert_allclose(layer.delays.theta.grad.numpy(), expected * slope, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_and_input_gradients_pass_gradcheck(kind):
    layer = DelayLinear(4, 3, 3, delays=kind).double()
    x = torch.randn(6, 2, 4, dtype=torch.float64, requires_grad=True)

    def run(signal, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (signal,))

    weight, bias = (p.detach().clone().requires_grad_() for p in (layer.weight, layer.bias))
    assert torch.autograd.gradcheck(run, (x, weight, bias))


# ---- in networks ------------------------------------------------------------------------------------------------------------


def test_mlp_delays_the_layers_behind_the_first():
    network = mlp([5, 6, 7, 3], delays="axonal", max_delay=4)
    assert [layer.delays is None for layer in network.layers] == [True, False]
    assert network.layers[1].delays.theta.shape == (6,)
    assert "axonal, 0..4 steps, learned, exact gradient" in repr(network)
    both = mlp([5, 6, 7, 3], delays=DelaySettings("synaptic", 3, learned=False), delay_input=True)
    assert all(layer.delays is not None for layer in both.layers)
    with pytest.raises(ValueError, match="delay_input=True"):
        mlp([5, 6, 3], delays="axonal")
    with pytest.raises(ValueError, match="no delays are asked for"):
        mlp([5, 6, 3], delay_input=True)
    with pytest.raises(LimitError, match="62"):
        mlp([5, 6, 7, 3], delays="axonal", max_delay=80)


def test_networks_without_delays_are_what_they_were():
    torch.manual_seed(5)
    plain = mlp([5, 6, 7, 3])
    torch.manual_seed(5)
    again = mlp([5, 6, 7, 3], delays=None)
    assert list(plain.state_dict()) == list(again.state_dict())
    assert not any("delays" in name for name in plain.state_dict())


def delayed_network(kind, norm="none", **options):
    options = {"delays": DelaySettings(kind, 3), "delay_input": True, "steps": 9} | options
    network = mlp([6, 9, 8, 4], LIF(threshold=0.6), norm=norm, **options).double()
    with torch.no_grad():
        network.readout.weight.normal_()
    return network


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_does_not_depend_on_pieces(kind, static):
    network = delayed_network(kind, norm="sws")
    x = torch.randn(5, 6).double() if static else train(9, 5, 6)
    whole = network(x)
    assert float(whole.abs().max()) > 0
    for chunk in (1, 2, 4, 7):
        torch.testing.assert_close(network(x, chunk=chunk), whole, rtol=0, atol=1e-12)
    simulated = network.simulate(x)
    torch.testing.assert_close(simulated.outputs, whole, rtol=0, atol=1e-12)
    assert 0.02 < simulated.layers[-1].spike.mean() < 0.9


def test_a_static_frame_arrives_late():
    layer = SpikingLayer(2, 1, LIF(leak=1.0, threshold=1.0), delays="axonal", max_delay=4)
    layer.delays.put(torch.tensor([1, 3]))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -1.0]]))
    network = Network([layer], Readout(1, 2), steps=6)
    spikes = network.simulate(torch.ones(1, 2)).layers[0].spike[:, 0, 0]
    assert spikes.tolist() == [0, 1, 1, 0, 0, 0]


def test_a_delayed_synapse_before_a_population_and_delayed_feedback():
    body = [
        SpikingLayer(4, 6, LIF(), "none", first=True),
        DelayLinear(6, 5, 3),
        Population(5, LIF(threshold=0.4)),
    ]
    feedback = DelayLinear(5, 6, 2, delays="axonal")
    network = Network(body, Readout(5, 3), steps=8, feedback=feedback, feedback_delay=2).double()
    x = torch.randn(3, 4).double() * 3
    plain = network.simulate(x)
    spikes = [state.spike for state in plain.layers]
    with torch.no_grad():
        late = loops(spikes[0].numpy(), body[1].weight.numpy(), body[1].bias.numpy(), body[1].delays.matrix().numpy())
        returned = torch.cat([torch.zeros(2, 3, 5).double(), spikes[1][:-2]])
        back = loops(returned.numpy(), feedback.weight.numpy(), feedback.bias.numpy(), feedback.delays.matrix().numpy())
        v = [torch.zeros(3, n).double() for n in (6, 5)]
        own = torch.nn.functional.linear(x, body[0].weight, body[0].bias)
        for t in range(8):
            for index, (current, level) in enumerate(
                ((own + torch.from_numpy(back[t]), 1.0), (torch.from_numpy(late[t]), 0.4))
            ):
                u = 0.5 * v[index] + current
                fired = (u >= level).double()
                assert torch.equal(fired, spikes[index][t])
                v[index] = u - level * fired
    assert spikes[1].sum() > 3


def test_state_dicts_carry_delays():
    network, other = delayed_network("synaptic"), delayed_network("synaptic")
    x = train(9, 5, 6)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), network(x))
    with torch.no_grad():
        other.layers[1].delays.theta.neg_()
    assert not torch.equal(other(x), network(x))
