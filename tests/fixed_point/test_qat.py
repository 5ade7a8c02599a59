"""Quantisation-aware training: the forward is the emulator's, bit for bit; the gradient is that of the float network."""

import copy
import math

import numpy as np
import pytest
import torch

import lava_snnlearn as snn
from lava_snnlearn.checkpoints import read_weights, save_weights
from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.fixed_point import qat as qat_module
from lava_snnlearn.fixed_point.qat import QATNetwork, prepare_qat
from lava_snnlearn.fixed_point.quantize import quantize
from lava_snnlearn.fixed_point.straight_through import Rounding
from lava_snnlearn.methods import BPTT, DSR, OTTT, SLTT, RateBP
from lava_snnlearn.networks import Network, Readout, SpikingLayer, Synapse, conv_net, mlp, nf_resnet, preact_resnet
from lava_snnlearn.networks.residual import PreActBlock
from lava_snnlearn.neurons import IF, LIF
from lava_snnlearn.neurons.dsr import DSRIF, DSRLIF
from lava_snnlearn.neurons.surrogate import Sigmoid

FORMS = ("current", "graded", "spikes")
METHODS = {"bptt": BPTT(), "sltt": SLTT(), "ottt": OTTT()}


def feedback_net():
    synapse = Synapse((8, 3, 3), 6, kernel=3, upsample=2)
    return conv_net((2, 6, 6), "6C3-P2-8C3", 5, LIF(), feedback=synapse, feedback_delay=2)


KINDS = {
    "soft reset": lambda: mlp([20, 30, 25, 5], LIF()),
    "reset to zero": lambda: mlp([20, 30, 25, 5], LIF(reset="zero"), norm="none"),
    "reset to zero without leak": lambda: mlp([20, 30, 25, 5], IF(reset="zero"), norm="bn_step"),
    "recurrent": lambda: mlp([20, 30, 25, 5], LIF(), recurrent=True),
    "recurrent, reset to zero": lambda: mlp([20, 30, 25, 5], LIF(reset="zero"), norm="none", recurrent=True),
    "DSR's IF": lambda: mlp([20, 30, 25, 5], DSRIF(threshold=1.0), norm="none"),
    "DSR's LIF": lambda: mlp([20, 30, 25, 5], DSRLIF(), norm="none"),
    "rate code": lambda: mlp([20, 30, 25, 5], LIF(), encoding="rate"),
    "pools": lambda: conv_net((2, 6, 6), "6C3-P2-8C3-20", 5, LIF()),
    "batch norm": lambda: conv_net((2, 6, 6), "6C3-P2-8C3-GAP", 5, LIF(), norm="bn_step"),
    "pool that cuts": lambda: conv_net((2, 7, 7), "4C3-P2-6C3", 5, LIF()),
    "residual": lambda: preact_resnet((2, 6, 6), 5, LIF(), blocks=(1, 1), width=3),
    "normaliser-free": lambda: nf_resnet((2, 6, 6), 5, LIF(), blocks=(2, 1), width=3),
    "feedback": feedback_net,
    "synaptic delays": lambda: mlp([20, 30, 25, 5], LIF(), delays="synaptic", max_delay=3),
    "axonal delays": lambda: mlp([20, 30, 25, 5], LIF(), delays="axonal", max_delay=3),
}


def trained_looking(build, seed=0):
    """A network whose norms, gains and biases are not those of the start."""
    torch.manual_seed(seed)
    network = build()
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            if name.endswith(("bias", "running_mean")):
                value.uniform_(-0.3, 0.3)
            elif name.endswith("running_var"):
                value.uniform_(0.3, 1.5)
            elif name.endswith("gain"):
                value += 0.3
    return network


def data_for(network, form, batch=6):
    x = 1.5 * torch.rand(batch, network.inputs) - 0.3
    if form == "spikes":
        return (x > 0.5).float()
    return x.clamp(0, 1) if network.encoding == "rate" else x


def train(network, x, method, steps=2, rate=0.01):
    y = torch.arange(x.shape[-2]) % network.classes
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    network.train()
    for _ in range(steps):
        optimiser.zero_grad()
        method.gradients(network, x, y)
        assert all(parameter.grad is not None for parameter in network.parameters())
        optimiser.step()


def assert_equals_emulator(network, x):
    """Spikes and membranes of all populations and steps, and the answer; returns the trace."""
    chip = quantize(network.eval())
    trace = snn.emulate(chip, x.numpy())
    with torch.no_grad():
        found = network.simulate(x)
    spiking = [population for population in chip.populations if population.spiking]
    for population, state in zip(spiking, found.layers, strict=True):
        fine = 64 * 2.0**population.scale_bits
        np.testing.assert_array_equal(state.spike.flatten(2).numpy(), trace.spikes[population.name])
        np.testing.assert_array_equal(state.membrane.flatten(2).double().numpy() * fine, trace.membranes[population.name])
    fine = 64 * 2.0 ** chip.population("readout").scale_bits
    np.testing.assert_array_equal(network.answer(x).double().numpy() * fine, trace.outputs)
    np.testing.assert_array_equal(network.predict(x).numpy(), trace.predictions)
    for chunk in (None, 1):
        with torch.no_grad():
            assert torch.equal(network(x, chunk=chunk), found.outputs)
    return trace


def assert_same_integers(one, other):
    def compare(a, b, where):
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            for key in a.keys() - {"notes"}:
                compare(a[key], b[key], f"{where}.{key}")
        elif isinstance(a, list):
            assert len(a) == len(b)
            for index, (p, q) in enumerate(zip(a, b, strict=True)):
                compare(p, q, f"{where}[{index}]")
        else:
            np.testing.assert_array_equal(a, b, err_msg=where)

    compare(one.to_dict(), other.to_dict(), "")


# ---- the forward ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_eval_forward_equals_the_emulator(kind, form):
    """Before training, with the very integers of quantize; and after some steps of every engine."""
    bits = (8, 4, 2)[(list(KINDS).index(kind) + FORMS.index(form)) % 3]
    network = trained_looking(KINDS[kind])
    x = data_for(network, form)
    wider = 1.3 if form == "current" and kind != "rate code" else 1.0
    options = {"weight_bits": bits, "input": form, "calibration": wider * x.numpy()}
    before = copy.deepcopy(network.state_dict())
    qat = prepare_qat(network, **options)
    assert_same_integers(quantize(qat), quantize(network, **options))
    assert_equals_emulator(qat, x)
    for method in METHODS.values():
        train(qat, x, method)
    assert_equals_emulator(qat, x)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_spikes_flow_and_training_moves_integers(bits):
    """So that the equality above is not one of silent networks."""
    network = trained_looking(lambda: mlp([20, 30, 25, 5], LIF(threshold=0.5), norm="none"))
    x = data_for(network, "spikes", batch=20)
    qat = prepare_qat(network, weight_bits=bits, input="spikes")
    first = quantize(qat)
    train(qat, x, BPTT(), steps=25, rate=0.05)
    trace = assert_equals_emulator(qat, x)
    assert min(trace.spike_rates().values()) > 0.001
    changed = [np.mean(a.weight != b.weight) for a, b in zip(first.connections, quantize(qat).connections, strict=True)]
    assert min(changed) > 0.01


def test_training_forward_is_the_eval_forward():
    network = trained_looking(KINDS["pools"])
    x = data_for(network, "current")
    qat = prepare_qat(network, weight_bits=4, calibration=x.numpy())
    assert torch.equal(qat.train()(x), qat.eval()(x))


@pytest.mark.parametrize("form", ["current", "graded"])
def test_sequences_and_sparse_data(form):
    """[T, B, n], of which less than a tenth is not zero: walks use products over events there."""
    torch.manual_seed(0)
    network = mlp([600, 20, 5], LIF(), norm="none", steps=6)
    x = torch.rand(6, 8, 600) * (torch.rand(6, 8, 600) < 0.05)
    wider = 4 if form == "current" else 1
    qat = prepare_qat(network, weight_bits=4, input=form, calibration=wider * x.numpy())
    for method in METHODS.values():
        train(qat, x, method)
    assert_equals_emulator(qat, x)
    assert_equals_emulator(qat, (torch.rand(30, 600) < 0.05).float() * float(x.max()))


def test_sums_beyond_float32():
    """8000 weights near 200 times payloads to 127: on the way to a small sum there are even numbers of more than 25 bits."""
    torch.manual_seed(0)
    network = mlp([8000, 64, 3], LIF(threshold=0.005), norm="none")
    with torch.no_grad():
        network.layers[0].weight.uniform_(0.04, 0.05)[:, 4000:] *= -1
    x = torch.rand(20, 4000).repeat(1, 2)
    qat = prepare_qat(network, input="graded", calibration=x.numpy())
    train(qat, x, SLTT(), rate=1e-6)
    assert_equals_emulator(qat, x)
    chip = quantize(qat)
    sums = np.cumsum(chip.encode(x.numpy())[0, 0] * np.asarray(chip.connections[0].weight, np.int64), axis=1)
    assert np.abs(sums).max() > 1 << 25
    assert (np.abs(sums[:, -1]) < 1 << 17).any()


@pytest.mark.parametrize("kind", ["soft reset", "residual", "feedback"])
def test_wide_sums_change_nothing(kind, monkeypatch):
    network = trained_looking(KINDS[kind])
    x = data_for(network, "graded")
    narrow = prepare_qat(network, weight_bits=4, input="graded", calibration=x.numpy()).eval()
    monkeypatch.setattr(qat_module, "FLOAT32_SUM", 0)
    wide = prepare_qat(network, weight_bits=4, input="graded", calibration=x.numpy()).eval()
    assert torch.equal(narrow.answer(x), wide.answer(x))
    for method in METHODS.values():
        train(wide, x, method)
    assert_equals_emulator(wide, x)


def test_the_accumulator_clips_and_forgets_as_the_chip_does():
    """Calibrated on silence, the readout is too fine for loud data: its register runs into the limit, and leaks on."""
    torch.manual_seed(0)
    network = Network([SpikingLayer(4, 200, LIF(threshold=1.0), first=True)], Readout(200, 3, leak=0.05), steps=12)
    with torch.no_grad():
        network.layers[0].weight.abs_()
        network.readout.weight.uniform_(0.9, 1.0).mul_(torch.tensor([[1.0], [-1.0], [0.3]]))
    loud = (torch.rand(12, 5, 4) < 0.8).float()
    qat = prepare_qat(network, input="spikes", calibration=np.zeros((12, 1, 4), np.float32)).eval()
    trace = assert_equals_emulator(qat, loud)
    assert trace.saturated["readout"] > 0
    assert len(np.unique(trace.outputs)) > 5
    # In training the answer is the plain leaky sum, which knows no limit.
    outputs = qat.train()(loud)
    keep = (1 - 0.05) ** np.arange(11, -1, -1)
    np.testing.assert_allclose(qat.readout.collect(outputs).detach(), np.tensordot(keep, outputs.detach(), 1), rtol=1e-5)
    assert (np.abs(qat.readout.collect(outputs).detach().numpy()) > np.abs(qat.answer(loud).numpy())).any()


def test_float64_networks():
    network = trained_looking(KINDS["residual"]).double()
    x = data_for(network, "current").double()
    qat = prepare_qat(network, weight_bits=4, calibration=2 * x.numpy())
    train(qat, x, BPTT())
    assert {parameter.dtype for parameter in qat.parameters()} == {torch.float64}
    assert_equals_emulator(qat, x)


def test_lava_runs_what_was_trained():
    network = trained_looking(KINDS["pools"])
    x = data_for(network, "current")
    qat = prepare_qat(network, weight_bits=4, calibration=2 * x.numpy())
    train(qat, x, BPTT(), steps=3)
    report = snn.verify(quantize(qat), x[:2].numpy())
    assert report.ok, str(report)
    assert set(report.compared) == {"lava", "torch"}


# ---- the gradient -----------------------------------------------------------------------------------------------------------


def on_grid(seed, neuron, reach=63, **options):
    """A network whose weights and biases are multiples of 1/32, so that 8 bits lose nothing."""
    torch.manual_seed(seed)
    network = mlp([12, 16, 14, 4], neuron, norm="none", steps=5, **options).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randint(-reach, reach + 1, parameter.shape) / 32)
            parameter.view(-1)[0] = reach / 32
    return network


def by_name(network):
    return {name.replace("parametrizations.", "").replace(".original", ""): p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_gradient_is_the_float_networks_where_nothing_is_rounded(method, detach, reset):
    """IF neurons, weights and biases on the grid, spikes as data: the float network computes the same numbers."""
    neuron = IF(threshold=2.0, reset=reset, detach_reset=detach)
    network = on_grid(3, neuron, recurrent=True)
    x = (torch.rand(5, 30, 12) < 0.4).double()
    qat = prepare_qat(network, input="spikes")
    torch.testing.assert_close(qat(x), network(x), rtol=0, atol=1e-12)
    assert 0.05 < float(torch.stack([state.spike.mean() for state in network.simulate(x).layers]).min()) < 0.9
    y = torch.arange(30) % 4
    results = [METHODS[method].gradients(net.train(), x, y) for net in (network, qat)]
    assert results[0].spike_rate == pytest.approx(results[1].spike_rate, rel=1e-12)
    expected, found = by_name(network), by_name(qat)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_of_leaky_convolutions_is_near_the_float_networks(method):
    """Some spikes differ; the fewer, the more bits the weights have."""
    torch.manual_seed(0)
    network = conv_net((2, 6, 6), "6C3-8C3s2-20", 4, LIF(), norm="none", steps=4)
    x, y = torch.rand(200, 72), torch.arange(200) % 4
    fine, coarse = (prepare_qat(network, weight_bits=bits, calibration=x.numpy()) for bits in (8, 4))
    for net in (network, fine, coarse):
        METHODS[method].gradients(net.train(), x, y)
    for name, gradient in by_name(network).items():
        near, far = (
            float(torch.nn.functional.cosine_similarity(gradient.flatten(), by_name(net)[name].flatten(), dim=0))
            for net in (fine, coarse)
        )
        assert near > 0.98, name
        assert near > far or name == "readout.bias", name


def test_gradient_of_one_neuron_by_hand():
    """Two steps, every number by the equations, at the weight that the chip has instead of 0.7."""
    neuron = LIF(leak=0.25, threshold=1.0, surrogate=Sigmoid(4.0), detach_reset=True)
    network = Network([SpikingLayer(1, 1, neuron, first=True)], Readout(1, 1), steps=2)
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (0.7, 0.15, 0.6, 0.0), strict=True):
            parameter.fill_(value)
    qat = prepare_qat(network, weight_bits=3, input="spikes")
    BPTT(loss=lambda output, y: output[:, 0].sum()).gradients(qat, torch.ones(2, 1, 1), torch.zeros(1, dtype=torch.int64))
    # 0.7 fits 192 = 3 * 64 at scale 2^8 as 179.2, which is rounded to 192 of the grid 64; 0.6 is 153.6, rounded to 128.
    w, out, bias = 192 / 256, 128 / 256, round(0.15 * 256 * 64) / (256 * 64)
    u0 = w + bias
    v0 = u0 - (u0 >= 1)
    u1 = 0.75 * v0 + w + bias

    def slope(u):
        s = 1 / (1 + math.exp(-4 * (u - 1)))
        return 4 * s * (1 - s)

    g1 = slope(u1) * out / 2
    g0 = slope(u0) * out / 2 + 0.75 * g1
    spikes = [float(u0 >= 1), float(u1 >= 1)]
    grads = by_name(qat)
    assert grads["layers.0.weight"].item() == pytest.approx(g0 + g1, rel=1e-3)
    assert grads["layers.0.bias"].item() == pytest.approx(g0 + g1, rel=1e-3)
    assert grads["readout.weight"].item() == pytest.approx(sum(spikes) / 2, rel=1e-6)
    assert grads["readout.bias"].item() == pytest.approx(1.0, rel=1e-6)


def test_pieces_of_time_do_not_change_gradients():
    network = trained_looking(KINDS["residual"]).double()
    x = data_for(network, "current").double()
    found = []
    for method in (
        BPTT(),
        BPTT(chunk=1),
        BPTT(chunk=4),
        BPTT(slots=2),
        SLTT(chunk=1),
        SLTT(chunk=6),
        OTTT(chunk=1),
        OTTT(chunk=4),
    ):
        qat = prepare_qat(network, weight_bits=4, calibration=x.numpy())
        method.gradients(qat, x, torch.arange(6) % 5)
        found.append(torch.cat([parameter.grad.flatten() for parameter in qat.parameters()]))
    for one, other in ((0, 1), (0, 2), (0, 3), (4, 5), (6, 7)):
        torch.testing.assert_close(found[one], found[other], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(found[0], found[4], rtol=1e-3)
    assert not torch.allclose(found[4], found[6], rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_static_sample_learns_as_its_sequence(method):
    """Walks compute what depends on the frame alone once, and weigh its gradient over time."""
    network = trained_looking(KINDS["soft reset"]).double()
    x = data_for(network, "current").double()
    found = []
    for data in (x, x.expand(6, *x.shape).contiguous()):
        qat = prepare_qat(network, weight_bits=4, calibration=x.numpy())
        METHODS[method].gradients(qat, data, torch.arange(6) % 5)
        found.append(torch.cat([parameter.grad.flatten() for parameter in qat.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_weights_keep_their_size_whatever_the_code(form):
    """So that a learning rate means the same: payloads come in units near their step, so weights change by sqrt(2) at most."""
    network = trained_looking(lambda: mlp([20, 30, 5], LIF(), norm="none"))
    qat = prepare_qat(network, input=form, calibration=(3 * torch.rand(9, 20) - 1).numpy())
    ratio = qat.layers[0].weight.detach() / network.layers[0].weight.detach()
    assert float(ratio.min()) >= 0.7
    assert float(ratio.max()) <= 1.42


def test_rounding_and_its_gradient():
    rounding = Rounding(-2, -2, 1)
    x = torch.tensor([-2.0, -0.626, -0.625, -0.3, -0.125, 0.1, 0.125, 0.374, 0.375, 5.0], requires_grad=True)
    y = rounding(x)
    assert y.tolist() == [-0.5, -0.5, -0.5, -0.25, 0.0, 0.0, 0.0, 0.25, 0.25, 0.25]
    # Beyond the range (x below -0.625, where -2.5 rounds to -2, or above 0.375): only what leads back.
    for sign in (1.0, -1.0):
        x.grad = None
        rounding(x).backward(torch.full((10,), sign))
        kept = [sign] * 10
        for at in (0, 1) if sign > 0 else (8, 9):
            kept[at] = 0.0
        assert x.grad.tolist() == kept


def test_weights_beyond_the_range_stay_at_its_end():
    network = trained_looking(KINDS["soft reset"])
    x = data_for(network, "spikes")
    qat = prepare_qat(network, weight_bits=4, input="spikes")
    assert not any("beyond" in note for note in quantize(qat).notes)
    with torch.no_grad():
        qat.layers[0].weight[0, :3] = torch.tensor([50.0, -50.0, 70.0])
        qat.layers[0].parametrizations.bias.original[:2] = torch.tensor([1e4, -1e4])
    chip = quantize(qat)
    assert chip.connections[0].weight[0, :3].tolist() == [224, -256, 224]
    assert chip.population("layer1").bias_mant[:2].tolist() == [4095, -4096]
    assert "layer1: 3 weights lie beyond the range of 4 bits and are held at its ends" in chip.notes
    assert_equals_emulator(qat, x)


# ---- training ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    """The data, a float network trained on them, and its answer's accuracy as a function."""
    data = snn.data.load("digits")
    torch.manual_seed(0)
    network = mlp([64, 128, 10], steps=6)
    snn.Trainer(network, BPTT(), data, epochs=12, progress=False).fit()

    def accuracy(chip):
        return float((snn.emulate(chip, data.test.x, record="outputs").predictions == data.test.y).mean())

    return data, network, accuracy


@pytest.mark.parametrize(("bits", "gain", "least"), [(4, 0.0, 0.955), (3, 0.015, 0.95), (2, 0.12, 0.93)])
def test_fine_tuning_recovers_what_rounding_lost(digits, bits, gain, least):
    """Measured: 4 bits 0.967 -> 0.975, 3 bits 0.931 -> 0.972, 2 bits 0.739 -> 0.961; in float 0.972."""
    data, network, accuracy = digits
    rounded = accuracy(quantize(network, weight_bits=bits, calibration=data.train.x))
    qat = prepare_qat(network, weight_bits=bits, calibration=data.train.x)
    snn.Trainer(qat, OTTT(), data, epochs=4, learning_rate=0.1, progress=False).fit()
    tuned = accuracy(quantize(qat))
    assert tuned >= rounded + gain
    assert tuned >= least
    assert float((qat.predict(torch.from_numpy(data.test.x)).numpy() == data.test.y).mean()) == tuned


class _Interrupted(Exception):
    pass


class _Stops:
    """An augmentation that changes nothing and stops the run at its n-th batch."""

    def __init__(self, calls):
        self.left = calls

    def __repr__(self):
        return "stops()"

    def __call__(self, x):
        self.left -= 1
        if self.left == 0:
            raise _Interrupted
        return x


def test_an_interrupted_run_ends_with_the_same_bits(digits, tmp_path):
    data, network, _ = digits

    def trainer(calls, folder):
        qat = prepare_qat(network, weight_bits=3, input="graded", calibration=data.train.x)
        options = {"epochs": 2, "batch_size": 256, "optimiser": "adam", "learning_rate": 0.003, "progress": False}
        return snn.Trainer(qat, SLTT(), data, augment=_Stops(calls), run_dir=tmp_path / folder, checkpoint_batches=2, **options)

    whole, broken = trainer(0, "whole"), trainer(4, "broken")
    whole.fit()
    with pytest.raises(_Interrupted):
        broken.fit()
    resumed = trainer(0, "broken")
    resumed.resume()
    for one, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert_same_integers(quantize(whole.network), quantize(resumed.network))


def test_weights_are_saved_and_copied(tmp_path):
    network = trained_looking(KINDS["normaliser-free"])
    x = data_for(network, "current")
    qat = prepare_qat(network, weight_bits=4, calibration=2 * x.numpy())
    train(qat, x, BPTT())
    save_weights(tmp_path / "weights.h5", qat)
    fresh = prepare_qat(network, weight_bits=4, calibration=2 * x.numpy())
    read_weights(tmp_path / "weights.h5", fresh)
    chip = quantize(qat)
    assert_same_integers(quantize(fresh), chip)
    twin = copy.deepcopy(qat)
    train(twin, x, BPTT())
    assert_same_integers(quantize(qat), chip)
    with pytest.raises(AssertionError):
        assert_same_integers(quantize(twin), chip)


def test_settings_show_bits_and_scales():
    """A run is resumed only with the settings it had: they are compared by their text."""
    network = trained_looking(KINDS["soft reset"])
    texts = {repr(prepare_qat(network, weight_bits=bits, input=form)) for bits in (3, 4) for form in ("current", "spikes")}
    assert len(texts) == 4


# ---- refusals ---------------------------------------------------------------------------------------------------------------


def test_refusals_of_the_preparation():
    network = trained_looking(KINDS["soft reset"])
    qat = prepare_qat(network)
    assert isinstance(qat, QATNetwork)
    with pytest.raises(ValueError, match="prepared already"):
        prepare_qat(qat)
    with pytest.raises(TypeError, match="prepare_qat takes a trained network"):
        prepare_qat("digits.h5")
    with pytest.raises(LimitError, match="weight_bits is 9"):
        prepare_qat(network, weight_bits=9)
    with pytest.raises(UnknownNameError, match="'graded'"):
        prepare_qat(network, input="grade")
    with pytest.raises(ValueError, match="graded input needs `calibration`"):
        prepare_qat(network, input="graded")


@pytest.mark.parametrize("options", [{"weight_bits": 4}, {"input": "spikes"}, {"calibration": np.zeros((2, 20), np.float32)}])
def test_a_prepared_network_is_quantised_as_it_was_prepared(options):
    qat = prepare_qat(trained_looking(KINDS["soft reset"]), weight_bits=5)
    assert quantize(qat, weight_bits=5, input="current").steps == 6
    with pytest.raises(ValueError, match="prepared for 5 bits and input 'current'"):
        quantize(qat, **options)


@pytest.mark.parametrize(
    ("method", "neuron", "message"),
    [
        (RateBP(), LIF(), "fine-tune a network of prepare_qat with BPTT, SLTT or OTTT"),
        (DSR(), DSRIF(), "DSR trains networks of DSRIF or DSRLIF neurons, not of ChipLIF"),
    ],
)
def test_rate_based_methods_are_refused(method, neuron, message):
    qat = prepare_qat(mlp([6, 9, 4], neuron, norm="none"))
    with pytest.raises(ValueError, match=message):
        method.gradients(qat, torch.rand(3, 6), torch.arange(3))


def test_lags_beside_shortcuts_are_refused():
    cell = LIF()
    block = PreActBlock((4, 6, 6), 4, cell, "none")
    first = SpikingLayer((2, 6, 6), 4, cell, kernel=3, first=True)
    body = [first, Synapse((4, 6, 6), 4, kernel=3), block, snn.networks.Population((4, 6, 6), cell)]
    network = Network(body, Readout((4, 6, 6), 3), feedback=Synapse((4, 6, 6), 4, kernel=3), feedback_delay=6)
    with pytest.raises(ValueError, match="plain chains of layers only"):
        prepare_qat(network)


def test_recurrent_layers_too_wide_for_exact_sums_are_refused(monkeypatch):
    network = trained_looking(KINDS["recurrent"])
    monkeypatch.setattr(qat_module, "FLOAT32_SUM", 29 * 256)
    with pytest.raises(LimitError, match="layer1 is recurrent and has 30 neurons; prepare_qat takes at most 29 there"):
        prepare_qat(network)


def test_data_that_the_chip_cannot_be_sent():
    network = trained_looking(KINDS["soft reset"])
    x = torch.rand(4, 20)
    graded = prepare_qat(network, input="graded", calibration=x.numpy())
    with pytest.raises(LimitError, match="graded input is"):
        graded(20 * x)
    with pytest.raises(ValueError, match=r"spike input must be 0\.0 or 1\.0"):
        prepare_qat(network, input="spikes")(x)
    current = prepare_qat(network)
    with pytest.raises(LimitError, match=r"input \(in 1/1024\) is"):
        current(100 * x)


@pytest.mark.parametrize("kind", ["soft reset", "residual"])
def test_currents_that_a_chip_cannot_hold(kind):
    """emulate refuses the same data."""
    network = trained_looking(KINDS[kind])
    x = data_for(network, "current")
    qat = prepare_qat(network, calibration=x.numpy())
    with pytest.raises(LimitError, match=r"layer1: input currents reach \d+ weight units, more than 8190"):
        qat(20 * x)
    with pytest.raises(LimitError, match="input current is"):
        snn.emulate(quantize(qat), 20 * x.numpy())
