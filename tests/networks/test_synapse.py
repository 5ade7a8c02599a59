"""Synapses: shapes, the linear map, and its gradients against autograd of torch's own functions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lava_snnlearn.networks import SpikingLayer, Synapse
from lava_snnlearn.networks.norms import SPIKE_GAIN
from lava_snnlearn.neurons import LIF

TOLERANCE = 1e-12
ROWS = 5


def plain(synapse, x, weight, bias):
    """The map written out: gain, pool or enlargement, then torch's own product."""
    x = x * synapse.input_gain
    if synapse.pool > 1:
        k = synapse.pool
        height, width = (side // k * k for side in x.shape[2:])
        blocks = x[:, :, :height, :width].reshape(*x.shape[:2], height // k, k, width // k, k)
        x = blocks.mean((3, 5))
    if synapse.upsample > 1:
        x = x.repeat_interleave(synapse.upsample, 2).repeat_interleave(synapse.upsample, 3)
    if synapse.geometry is None:
        return x.reshape(len(x), -1) @ weight.T + (0 if bias is None else bias)
    kernel, stride, padding, transposed = synapse.geometry
    if not transposed:
        return F.conv2d(x, weight, bias, stride, padding)
    # A transposed convolution is a convolution of the input with zeros in between, with the kernel turned round.
    batch, channels, height, width = x.shape
    spread = x.new_zeros(batch, channels, (height - 1) * stride + 1, (width - 1) * stride + 1)
    spread[:, :, ::stride, ::stride] = x
    edge = kernel - 1 - padding
    spread = F.pad(spread, (edge, edge + stride - 1, edge, edge + stride - 1))
    return F.conv2d(spread, weight.transpose(0, 1).flip(2, 3), bias)


SYNAPSES = {
    "dense": ((7,), 4, {}, (4,)),
    "dense of maps": ((2, 4, 3), 5, {}, (5,)),
    "dense of pooled maps": ((2, 5, 4), 5, {"pool": 2}, (5,)),
    "kernel 3": ((2, 6, 5), 3, {"kernel": 3}, (3, 6, 5)),
    "kernel 1": ((2, 6, 5), 3, {"kernel": 1}, (3, 6, 5)),
    "kernel 5": ((2, 6, 5), 3, {"kernel": 5}, (3, 6, 5)),
    "even kernel": ((2, 6, 5), 3, {"kernel": 4}, (3, 7, 6)),
    "stride 2": ((2, 6, 5), 3, {"kernel": 3, "stride": 2}, (3, 3, 3)),
    "stride 3": ((2, 9, 8), 3, {"kernel": 3, "stride": 3, "padding": 0}, (3, 3, 2)),
    "no padding": ((2, 6, 5), 3, {"kernel": 3, "padding": 0}, (3, 4, 3)),
    "wide padding": ((2, 6, 5), 3, {"kernel": 3, "padding": 3}, (3, 10, 9)),
    "pool": ((2, 6, 4), 3, {"kernel": 3, "pool": 2}, (3, 3, 2)),
    "pool that cuts": ((2, 7, 5), 3, {"kernel": 3, "pool": 2}, (3, 3, 2)),
    "pool and stride": ((2, 9, 9), 3, {"kernel": 3, "pool": 2, "stride": 2}, (3, 2, 2)),
    "enlarged": ((2, 3, 2), 3, {"kernel": 3, "upsample": 4}, (3, 12, 8)),
    "enlarged, dense": ((2, 3, 2), 3, {"upsample": 2}, (3,)),
    "transposed": ((2, 4, 3), 3, {"kernel": 3, "stride": 2, "transposed": True}, (3, 8, 6)),
    "transposed, stride 1": ((2, 4, 3), 3, {"kernel": 3, "transposed": True}, (3, 4, 3)),
    "transposed, stride 3": ((2, 4, 3), 3, {"kernel": 5, "stride": 3, "transposed": True}, (3, 12, 9)),
    "transposed, no padding": ((2, 4, 3), 3, {"kernel": 3, "stride": 2, "padding": 0, "transposed": True}, (3, 10, 8)),
}


@pytest.fixture(params=SYNAPSES.values(), ids=SYNAPSES)
def case(request):
    source, outputs, options, shape = request.param
    torch.manual_seed(0)
    synapse = Synapse(source, outputs, input_gain=1.5, **options).double()
    with torch.no_grad():
        synapse.bias.normal_()
    return synapse, torch.randn(ROWS, *source, dtype=torch.float64), shape


def test_shape_and_map(case):
    synapse, x, shape = case
    assert synapse.shape == shape
    assert synapse.outputs == torch.Size(shape).numel()
    found = synapse(x)
    assert found.shape == (ROWS, *shape)
    torch.testing.assert_close(found, plain(synapse, x, synapse.weight, synapse.bias), rtol=0, atol=TOLERANCE)


def test_leading_dimensions_are_kept(case):
    synapse, x, shape = case
    stacked = torch.stack([x, 2 * x, x - 1])
    found = synapse(stacked)
    assert found.shape == (3, ROWS, *shape)
    for now, expected in zip(found, stacked, strict=True):
        torch.testing.assert_close(now, synapse(expected), rtol=0, atol=TOLERANCE)


def test_gradients_equal_autograd(case):
    synapse, x, shape = case
    x.requires_grad_()
    grad = torch.randn(ROWS, *shape, dtype=torch.float64)
    wanted = torch.autograd.grad(plain(synapse, x, synapse.weight, synapse.bias), (x, synapse.weight), grad)
    with torch.no_grad():
        prepared = synapse.prepare(x)
        for_weight = synapse.operand_gradient(prepared, grad)
        for_input = synapse.input_gradient(prepared, synapse.weight, grad)
    leaf = x.detach().clone().requires_grad_()
    (down,) = torch.autograd.grad(synapse.prepare(leaf), leaf, for_input)
    torch.testing.assert_close(for_weight, wanted[1], rtol=0, atol=TOLERANCE * float(wanted[1].abs().max()))
    torch.testing.assert_close(down, wanted[0], rtol=0, atol=TOLERANCE * float(wanted[0].abs().max()))


def test_the_weight_gradient_takes_any_operand(case):
    """It is linear in the operand, which the trace engine replaces."""
    synapse, x, shape = case
    grad = torch.randn(ROWS, *shape, dtype=torch.float64)
    prepared = synapse.prepare(x)
    other = torch.randn_like(prepared)
    both = synapse.operand_gradient(prepared + 2 * other, grad)
    parts = synapse.operand_gradient(prepared, grad) + 2 * synapse.operand_gradient(other, grad)
    torch.testing.assert_close(both, parts, rtol=0, atol=1e-11)


def test_standardised_kernels():
    """Per output channel over all of its inputs; the gain is trained."""
    torch.manual_seed(1)
    synapse = Synapse((3, 5, 5), 4, kernel=3, standardise=True, input_gain=SPIKE_GAIN).double()
    with torch.no_grad():
        synapse.standardise.gain.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
        synapse.weight.add_(0.3)
    raw = synapse.weight.detach()
    mean = raw.mean((1, 2, 3), keepdim=True)
    variance = ((raw - mean) ** 2).sum((1, 2, 3), keepdim=True) / (27 - 1)
    expected = synapse.standardise.gain.detach().view(4, 1, 1, 1) * (raw - mean) / (variance * 27 + 1e-4).sqrt()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    found = synapse(x)
    wanted = F.conv2d(SPIKE_GAIN * x, expected, synapse.bias, padding=1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE)
    weight, bias = synapse.folded()
    torch.testing.assert_close(F.conv2d(x, weight, bias, padding=1), found, rtol=0, atol=TOLERANCE)
    found.sum().backward()
    assert bool((synapse.standardise.gain.grad != 0).all())


@pytest.mark.parametrize("norm", ["bn_step", "bn_time", "sws"])
def test_folded_convolutions_are_the_eval_forward(norm):
    torch.manual_seed(2)
    layer = SpikingLayer((2, 6, 6), 4, LIF(), norm, kernel=3, stride=2).double()
    for _ in range(5):
        layer(3 * torch.randn(2, 3, 2, 6, 6, dtype=torch.float64) + 1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    layer.eval()
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    weight, bias = layer.folded()
    torch.testing.assert_close(layer(x), F.conv2d(x, weight, bias, 2, 1), rtol=0, atol=TOLERANCE)
    assert weight.dtype == bias.dtype == torch.float64


@pytest.mark.parametrize("norm", ["none", "bn_step", "sws"])
@pytest.mark.parametrize("training", [True, False])
def test_one_step_of_maps_is_not_taken_for_steps_of_samples(norm, training):
    """[B, C, H, W] with H equal to the number of channels: a norm could take channels for samples."""
    torch.manual_seed(3)
    layer = SpikingLayer((2, 4, 4), 4, LIF(), norm, kernel=3).double().train(training)
    x = torch.randn(6, 2, 4, 4, dtype=torch.float64)
    whole = layer(x.unsqueeze(0))
    torch.testing.assert_close(layer(x), whole[0], rtol=0, atol=TOLERANCE)


def test_initial_weights():
    torch.manual_seed(4)
    dense, conv = Synapse(400, 300), Synapse((16, 4, 4), 200, kernel=3)
    for synapse, fan_in in ((dense, 400), (conv, 16 * 9)):
        assert float(synapse.weight.std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)  # He et al. 2015
        assert not synapse.bias.any()
    assert Synapse(4, 3, bias=False).bias is None
    assert sum(p.numel() for p in Synapse((2, 5, 5), 3, kernel=3, bias=False).parameters()) == 54


def test_texts_name_shapes():
    text = repr(Synapse((2, 8, 8), 4, kernel=3, stride=2, pool=2))
    assert text == "Synapse(2x8x8 -> 4x2x2, kernel=3, stride=2, padding=1, pool=2)"
    assert "transposed" in repr(Synapse((2, 4, 4), 3, kernel=3, stride=2, transposed=True))
    assert "upsample=2" in repr(Synapse((2, 4, 4), 3, kernel=3, upsample=2))
    assert repr(Synapse(5, 3)) == "Synapse(5 -> 3)"


BAD = [
    (lambda: Synapse((2, 4), 3), ValueError, r"source of a synapse is \(2, 4\); give a number of neurons, or"),
    (lambda: Synapse((0, 4, 4), 3), ValueError, r"\(0, 4, 4\).*each at least 1"),
    (lambda: Synapse(0, 3), ValueError, "each at least 1"),
    (lambda: Synapse(2.0, 3), TypeError, "it must be an integer"),
    (lambda: Synapse(4, 3.0), TypeError, "outputs is 3.0"),
    (lambda: Synapse(4, 0), ValueError, r"has no output: \(0,\)"),
    (lambda: Synapse(4, 3, kernel=3), ValueError, r"needs a source \(channels, height, width\)"),
    (lambda: Synapse((2, 4, 4), 3, kernel=3.0), TypeError, "kernel is 3.0"),
    (lambda: Synapse((2, 4, 4), 3, kernel=0), ValueError, "kernel 0, stride 1"),
    (lambda: Synapse((2, 4, 4), 3, kernel=3, stride=0), ValueError, "stride 0"),
    (lambda: Synapse((2, 4, 4), 3, kernel=3, padding=-1), ValueError, "padding -1"),
    (lambda: Synapse((2, 4, 4), 3, kernel=7, padding=0), ValueError, "kernel 7 has no output"),
    (lambda: Synapse((2, 4, 4), 3, pool=5), ValueError, "pool is 5; it needs a source"),
    (lambda: Synapse((2, 4, 4), 3, pool=0), ValueError, "pool is 0"),
    (lambda: Synapse(4, 3, pool=2), ValueError, "pool is 2; it needs a source"),
    (lambda: Synapse((2, 4, 4), 3, pool=2, upsample=2), ValueError, "upsample is 2; .* cannot be joined with a pool"),
    (lambda: Synapse((2, 4, 4), 3, upsample=0), ValueError, "upsample is 0; it must be at least 1"),
    (lambda: Synapse(4, 3, upsample=2), ValueError, "needs maps"),
    (lambda: Synapse((1, 4, 4), 3, kernel=1, standardise=True), ValueError, "1 input a neuron cannot be standardised"),
    (lambda: Synapse((2, 4, 4), 3, kernel=3, transposed=True, standardise=True), ValueError, "transposed kernel cannot be"),
    (lambda: SpikingLayer((2, 4, 4), 3, LIF(), kernel=3, recurrent=True), ValueError, "convolution cannot be recurrent"),
]


@pytest.mark.parametrize("make, error, message", BAD, ids=[message for *_, message in BAD])
def test_sizes_that_do_not_fit_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
