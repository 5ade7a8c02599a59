"""Names, presets and refusals of the methods."""

import math

import pytest
import torch

from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.methods import BPTT, METHODS, OTTT, SLTT, Loss, get
from lava_snnlearn.networks import energy_net
from lava_snnlearn.neurons import Triangle


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_found_by_name(name):
    method = get(name)
    assert isinstance(method, METHODS[name])
    assert method.name == name


def test_options_by_name():
    assert get("sltt", k=2) == SLTT(k=2)
    assert get("ottt", update="online") == OTTT(update="online")


@pytest.mark.parametrize(
    "make, parts",
    [
        (lambda: get("otTT"), ["'otTT'", "ottt"]),
        (lambda: get("sltt", K=2), ["'K'", "option of sltt", "k"]),
        (lambda: OTTT(update="onlin"), ["'onlin'", "'online'"]),
        (lambda: BPTT(reduction="mean"), ["'mean'", "mean_logit"]),
        (lambda: Loss(target="onehot"), ["'onehot'", "'one_hot'"]),
        (lambda: SLTT(k=0), ["k is 0", "at least 1"]),
        (lambda: Loss(1.5), ["1.5", "[0, 1]"]),
        (lambda: Loss(math.nan), ["nan", "[0, 1]"]),
    ],
)
def test_bad_settings_are_refused(make, parts):
    with pytest.raises(ValueError) as refusal:
        make()
    for part in parts:
        assert part in str(refusal.value)


def test_unknown_names_have_their_own_error():
    with pytest.raises(UnknownNameError, match="Did you mean 'bptt'"):
        get("bptl")


def test_more_backward_steps_than_steps_are_refused(make_task):
    task = make_task(steps=3)
    with pytest.raises(ValueError, match=r"k is 4.*3 steps.*1\.\.3"):
        SLTT(k=4).gradients(task.network, task.x, task.y)


@pytest.mark.parametrize("method", [SLTT(), OTTT()], ids=repr)
def test_batch_norm_over_time_is_refused_by_the_online_methods(make_task, method):
    task = make_task(norm="bn_time")
    with pytest.raises(ValueError, match=r"bn_time.*BPTT"):
        method.gradients(task.network, task.x, task.y)


def test_bptt_takes_batch_norm_over_time(make_task, fill):
    found = fill(BPTT(), make_task(norm="bn_time"))
    assert all(abs(value).max() > 0 for name, value in found.grads.items() if "weight" in name)


@pytest.mark.parametrize(
    "change, parts",
    [
        (lambda x, y: (x, y.int()), ["int32", "int64 [5]"]),
        (lambda x, y: (x, y[:4]), ["(4,)", "int64 [5]"]),
        (lambda x, y: (x, y + 4), ["0..3"]),
        (lambda x, y: (x, y - 4), ["0..3"]),
        (lambda x, y: (x[:, :0], y[:0]), ["empty", "at least one sample"]),
        (lambda x, y: (x[..., :6], y), ["(6, 5, 6)", "7"]),
        (lambda x, y: (x.float(), y), ["float32", "float64", ".to"]),
        (lambda x, y: (x.long(), y), ["int64", "float()"]),
        (lambda x, y: (x * math.inf, y), ["NaN or infinite"]),
    ],
    ids=["int32 labels", "label missing", "label high", "label low", "empty", "width", "dtype", "integers", "infinite"],
)
@pytest.mark.parametrize("method", [BPTT(), SLTT(), OTTT()], ids=lambda method: method.name)
def test_bad_batches_are_refused(make_task, method, change, parts):
    task = make_task()
    with pytest.raises(ValueError) as refusal:
        method.gradients(task.network, *change(task.x, task.y))
    for part in parts:
        assert part in str(refusal.value)


def test_presets_are_those_of_the_papers():
    """OTTT: tau 2, sigmoid a = 4, scaled weight standardisation. SLTT: tau 1.1, triangle a = 1, batch norm per step."""
    ottt, sltt = OTTT().preset, SLTT().preset
    assert (ottt.neuron.lam, ottt.neuron.threshold, ottt.norm, ottt.steps) == (1 - 1 / 2, 1.0, "sws", 6)
    assert (type(ottt.neuron.surrogate).__name__, ottt.neuron.surrogate.a) == ("Sigmoid", 4.0)
    assert sltt.neuron.lam == pytest.approx(1 - 1 / 1.1, abs=1e-15)
    assert (sltt.neuron.surrogate, sltt.norm, sltt.steps) == (Triangle(1.0), "bn_step", 6)


def test_spike_rate_counts_spikes_per_neuron_and_step(make_task, fill):
    task = make_task(static=True)
    with torch.no_grad():
        spikes = [state.spike for state in task.network.simulate(task.x).layers]
    expected = sum(float(s.sum()) for s in spikes) / sum(s.numel() for s in spikes)
    assert 0 < expected < 1
    for method in (BPTT(), SLTT(), OTTT()):
        assert fill(method, task).result.spike_rate == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SLTT(k=1.5), r"k is 1\.5; it must be an integer"),
        (lambda: get("sltt", k=True), "k is True; it must be an integer"),
        (lambda: SLTT(rescale="no"), "rescale is 'no'; it must be True or False"),
        (lambda: OTTT(trace_first_layer="no"), "trace_first_layer is 'no'; it must be True or False"),
        (lambda: OTTT(trace_readout=1), "trace_readout is 1; it must be True or False"),
        (lambda: OTTT(trace_bias=None), "trace_bias is None; it must be True or False"),
        (lambda: Loss("0.5"), r"mse_weight is '0\.5'; it must be a number"),
        (lambda: SLTT(loss="ce"), r"loss is 'ce'; pass an instance, e\.g\. snn\.methods\.Loss\(\)"),
        (lambda: OTTT(loss=Loss), "loss is the class Loss; pass an instance"),
        (lambda: BPTT(loss=None), "loss is None; pass an instance"),
    ],
)
def test_settings_of_another_type_are_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x, y: (x.numpy(), y), "input must be a torch tensor, not ndarray"),
        (lambda x, y: (x.tolist(), y), "input must be a torch tensor, not list"),
        (lambda x, y: (x, y.numpy()), "labels must be a torch tensor, not ndarray"),
        (lambda x, y: (x, y.tolist()), "labels must be a torch tensor, not list"),
    ],
    ids=["x numpy", "x list", "y numpy", "y list"],
)
@pytest.mark.parametrize("method", [BPTT(), SLTT(), SLTT(k=2), OTTT()], ids=repr)
def test_batches_that_are_no_tensors_are_refused(make_task, method, change, message):
    task = make_task()
    with pytest.raises(TypeError, match=rf"{message}; pass torch\.from_numpy"):
        method.gradients(task.network, *change(task.x, task.y))


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"ep"}))
def test_energy_networks_are_refused_by_the_methods_of_spiking_ones(name):
    method, network = get(name), energy_net([4, 5, 3])
    with pytest.raises(TypeError, match="this method trains spiking networks; build one"):
        method.gradients(network, torch.rand(2, 4), torch.tensor([0, 1]))
    if hasattr(method, "constrain"):  # which a Trainer calls first
        with pytest.raises(TypeError, match="this method trains spiking networks; build one"):
            method.constrain(network)
    assert all(parameter.grad is None for parameter in network.parameters())
