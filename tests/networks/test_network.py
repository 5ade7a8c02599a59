"""Network: shapes, dropout, encodings, prediction, refusals."""

import math

import numpy as np
import pytest
import torch

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.networks import Network, Readout, SpikingLayer, mlp
from lava_snnlearn.neurons import LIF


@pytest.fixture
def network():
    torch.manual_seed(0)
    return mlp([6, 9, 8, 4], norm="none", steps=5)


def test_shapes_of_a_simulation(network):
    found = network.simulate(torch.randn(3, 6))
    assert found.outputs.shape == (5, 3, 4)
    assert [state.spike.shape for state in found.layers] == [(5, 3, 9), (5, 3, 8)]
    assert (network.inputs, network.classes, network.steps) == (6, 4, 5)
    for state in found.layers:
        assert set(state.spike.unique().tolist()) <= {0.0, 1.0}


def test_static_sample_is_the_frame_at_every_step(network):
    x = torch.randn(3, 6)
    assert torch.equal(network(x), network(x.expand(5, 3, 6)))


def test_steps_are_in_order_and_causal(network):
    x = torch.randn(5, 3, 6)
    changed = x.clone()
    changed[3] += 10.0
    before, after = network(x), network(changed)
    assert torch.equal(before[:3], after[:3])
    assert not torch.equal(before[3:], after[3:])


def test_samples_do_not_see_each_other(network):
    network = network.double()
    x = torch.randn(4, 6, dtype=torch.float64)
    alone = torch.cat([network(x[i : i + 1]) for i in range(4)], dim=1)
    torch.testing.assert_close(network(x), alone, rtol=0, atol=1e-12)


def test_readout_has_no_memory(network):
    found = network.simulate(torch.randn(5, 3, 6))
    for now, spikes in zip(found.outputs, found.layers[-1].spike, strict=True):
        expected = spikes @ network.readout.weight.T + network.readout.bias
        torch.testing.assert_close(now, expected)


def test_dropout_has_one_mask_a_sample_for_all_steps():
    torch.manual_seed(0)
    network = mlp([6, 40, 4], LIF(leak=0.0), norm="none", steps=7, dropout=0.4)
    seen = []
    network.readout.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        network.layers[0].bias.fill_(2.0)  # every neuron spikes at every step
        network(torch.zeros(50, 6))
    (signal,) = seen
    assert set(signal.unique().tolist()) == {0.0, signal.max().item()}
    assert signal.max().item() == pytest.approx(1 / 0.6)
    assert all(torch.equal(signal[t], signal[0]) for t in range(7))
    kept = float((signal[0] > 0).float().mean())
    assert abs(kept - 0.6) < 4 * math.sqrt(0.6 * 0.4 / signal[0].numel())
    assert not torch.equal(signal[0, 0], signal[0, 1])


def test_dropout_is_off_in_eval_mode():
    network = mlp([6, 40, 4], steps=3, dropout=0.9)
    assert network.eval().dropout_masks(5) == [None]
    assert mlp([6, 40, 4]).dropout_masks(5) == [None]


def test_predict_sums_over_time_in_eval_mode_and_leaves_the_mode():
    torch.manual_seed(0)
    network = mlp([6, 20, 4], norm="bn_step", dropout=0.5, steps=4)
    x = torch.randn(30, 6)
    for _ in range(3):
        network(x)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    found = network.predict(x)
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    network.eval()
    with torch.no_grad():
        expected = network(x).sum(0).argmax(1)
    assert torch.equal(found, expected)
    assert torch.equal(network.predict(x), expected)
    assert not network.training
    assert found.dtype == torch.int64
    assert len(found.unique()) > 1


def test_mode_is_restored_after_a_refusal(network):
    with pytest.raises(ValueError):
        network.predict(torch.randn(3, 5))
    assert network.training


def test_rate_code_is_drawn_anew_in_training_and_fixed_in_eval():
    network = mlp([50, 8, 4], encoding="rate", steps=4)
    x = torch.full((3, 50), 0.5)
    assert not torch.equal(network.encode(x), network.encode(x))
    network.eval()
    assert torch.equal(network.encode(x), network.encode(x))


@pytest.mark.parametrize(
    "make, parts",
    [
        (lambda x: x[:, :5], ["(3, 5)", "[batch, 6]", "[5 (time), batch, 6]"]),
        (lambda x: x.expand(4, 3, 6), ["(4, 3, 6)", "[5 (time)"]),
        (lambda x: x[0], ["(6,)"]),
        (lambda x: x.view(3, 1, 2, 3), ["(3, 1, 2, 3)", "reshape"]),
        (lambda x: x.long(), ["int64", "x.float()"]),
        (lambda x: x.double(), ["float64", "float32", ".to"]),
        (lambda x: x * math.nan, ["NaN or infinite", "clean or drop"]),
        (lambda x: x + math.inf, ["NaN or infinite"]),
    ],
    ids=["width", "steps", "one dimension", "image", "integers", "dtype", "nan", "infinite"],
)
def test_bad_input_is_refused(network, make, parts):
    with pytest.raises(ValueError) as refusal:
        network(make(torch.ones(3, 6)))
    for part in parts:
        assert part in str(refusal.value)


def layer(inputs, outputs):
    return SpikingLayer(inputs, outputs, LIF())


@pytest.mark.parametrize(
    "make, parts",
    [
        (lambda: mlp([6, 4]), ["[6, 4]", "[64, 128, 10]"]),
        (lambda: mlp([6, 0, 4]), ["[6, 0, 4]", "at least 1"]),
        (lambda: mlp([6, 5, 4], steps=0), ["steps is 0", "at least 1"]),
        (lambda: mlp([6, 5, 4], dropout=1.0), ["dropout is 1.0", "[0, 1)"]),
        (lambda: mlp([6, 5, 4], dropout=-0.1), ["dropout is -0.1"]),
        (lambda: mlp([6, 5, 4], dropout=math.nan), ["dropout is nan"]),
        (lambda: Network([], Readout(3, 2)), ["at least one spiking layer"]),
        (lambda: Network([layer(3, 4), layer(5, 6)], Readout(6, 2)), ["layer 0 has 4", "5 inputs"]),
        (lambda: Network([layer(3, 4), layer(4, 6)], Readout(7, 2)), ["layer 1 has 6", "7 inputs"]),
    ],
)
def test_bad_networks_are_refused(make, parts):
    with pytest.raises(ValueError) as refusal:
        make()
    for part in parts:
        assert part in str(refusal.value)


@pytest.mark.parametrize("options, near", [({"norm": "bn_steps"}, "bn_step"), ({"encoding": "Rate"}, "rate")])
def test_unknown_names_are_refused(options, near):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
        mlp([6, 5, 4], **options)


def test_defaults_are_those_of_the_design():
    neuron = mlp([6, 5, 4]).spiking_layers[0].neuron
    assert (neuron.lam, neuron.threshold, neuron.reset, neuron.detach_reset) == (0.5, 1.0, "subtract", True)


@pytest.mark.parametrize("steps", [2.7, 3.0, True, math.nan, "6", None])
def test_steps_that_are_not_whole_are_refused(steps):
    with pytest.raises(TypeError, match=r"steps is .*; it must be an integer"):
        mlp([6, 9, 4], steps=steps)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: mlp([4, 8.5, 3]), r"sizes\[1\] is 8\.5; it must be an integer"),
        (lambda: mlp([4, 8, "3"]), r"sizes\[2\] is '3'; it must be an integer"),
        (lambda: mlp([4, 8, 3], "lif"), r"neuron is 'lif'; pass an instance, e\.g\. snn\.neurons\.LIF\(\)"),
        (lambda: mlp([4, 8, 3], LIF), r"neuron is the class LIF; pass an instance"),
        (lambda: SpikingLayer(4, 8, None), r"neuron is None; pass an instance"),
        (lambda: mlp([4, 8, 3], dropout="0.5"), r"dropout is '0\.5'; it must be a number"),
    ],
)
def test_settings_of_another_type_are_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize("x", [np.zeros((3, 6), np.float32), [[0.0] * 6]], ids=["numpy", "list"])
@pytest.mark.parametrize("use", ["__call__", "predict", "simulate"])
def test_input_that_is_no_tensor_is_refused(network, use, x):
    with pytest.raises(TypeError, match=rf"input must be a torch tensor, not {type(x).__name__}; pass torch\.from_numpy"):
        getattr(network, use)(x)


@pytest.mark.parametrize("norm, steps", [("bn_step", 1), ("bn_step", 3), ("bn_time", 1)])
def test_a_training_batch_of_one_is_refused_where_it_has_no_variance(norm, steps):
    network = mlp([6, 9, 4], norm=norm, steps=steps)
    with pytest.raises(ValueError, match=rf"norm='{norm}'.*batch of one sample.*at least 2.*eval\(\)"):
        network(torch.zeros(1, 6))
    assert network.eval()(torch.zeros(1, 6)).shape == (steps, 1, 4)
    assert network.train()(torch.zeros(2, 6)).shape == (steps, 2, 4)


def test_batch_norm_over_time_takes_one_sample_of_two_steps():
    assert mlp([6, 9, 4], norm="bn_time", steps=2)(torch.randn(1, 6)).shape == (2, 1, 4)
