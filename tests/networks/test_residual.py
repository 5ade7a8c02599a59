"""Residual networks: blocks against plain torch with the reference time loop, variance bookkeeping, sizes, refusals."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from lava_snnlearn.networks import Network, NFBlock, PreActBlock, Readout, Synapse, nf_resnet, preact_resnet
from lava_snnlearn.networks.norms import SPIKE_GAIN
from lava_snnlearn.neurons import LIF, run
from lava_snnlearn.testing.kinds import samples, small_network

TOLERANCE = 1e-12
STEPS, BATCH = 6, 4


def each(function, signal):
    """A torch function of [B, ...] at every step."""
    return torch.stack([function(now) for now in signal])


def norm_of(population, signal):
    """torch's batch norm in training, a step at a time or over all of them."""

    def normed(maps):
        return F.batch_norm(maps, None, None, population.batch_norm.weight, population.batch_norm.bias, training=True)

    if population.norm_name == "bn_time":
        return normed(signal.flatten(0, 1)).unflatten(0, signal.shape[:2])
    return each(normed, signal)


def convolved(synapse, signal):
    weight, bias, stride, padding = synapse.effective_weight(), synapse.bias, synapse.geometry.stride, synapse.geometry.padding
    return each(lambda now: F.conv2d(synapse.input_gain * now, weight, bias, stride, padding), signal)


def read(readout, signal):
    pooled = signal.mean((3, 4)) if len(readout.source) == 3 else signal
    return readout.input_gain * pooled @ readout.weight.T + readout.bias


def preact_by_hand(network, x):
    """Spikes are those of the reference loop; shortcuts are sums of currents."""
    stem, *blocks, last = network.layers

    def spikes(population, signal):
        current = signal if population.norm_name == "none" else norm_of(population, signal)
        return run(population.neuron, current).spike

    analogue = convolved(stem, x)
    for block in blocks:
        s = spikes(block.fire1, analogue)
        kept = analogue if block.shortcut is None else convolved(block.shortcut, s)
        analogue = kept + convolved(block.conv2, spikes(block.fire2, convolved(block.conv1, s)))
    return read(network.readout, spikes(last, analogue))


def nf_by_hand(network, x):
    """x' = shortcut + alpha gain f(x / beta), beta^2 = 1, 1 + alpha^2, ... within a stage."""
    stem, *blocks = network.layers
    analogue, variance = convolved(stem, x), 1.0
    for block in blocks:
        s = run(block.fire1.neuron, analogue / math.sqrt(variance)).spike
        if block.shortcut is None:
            kept = analogue
        else:
            kept, variance = convolved(block.shortcut, s), 1.0
        branch = convolved(block.conv2, run(block.fire2.neuron, convolved(block.conv1, s)).spike)
        analogue = kept + block.alpha * block.gain * branch
        variance += block.alpha**2
    return read(network.readout, analogue)


CASES = {
    "norm per step": ("pre-activation residual", {"norm": "bn_step"}, preact_by_hand),
    "norm over time": ("pre-activation residual", {"norm": "bn_time"}, preact_by_hand),
    "no norm": ("pre-activation residual", {"norm": "none"}, preact_by_hand),
    "reset attached": ("pre-activation residual", {"neuron": LIF(leak=0.3, detach_reset=False)}, preact_by_hand),
    "normaliser-free": ("normaliser-free residual", {}, nf_by_hand),
    "normaliser-free, deep": ("normaliser-free residual", {"blocks": (3, 2), "alpha": 0.5}, nf_by_hand),
}


@pytest.mark.parametrize("frames", [False, True], ids=["static", "new frames"])
@pytest.mark.parametrize("kind, options, by_hand", CASES.values(), ids=CASES)
def test_forward_and_gradient_by_hand(kind, options, by_hand, frames):
    network = small_network(kind, steps=STEPS, **options).double()
    x = samples(network, BATCH, frames=frames)
    whole = (x if frames else x.expand(STEPS, -1, -1)).unflatten(2, network.input_shape)
    expected = by_hand(network, whole)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    wanted = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()
    found = network(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))
    (found * weights).sum().backward()
    largest = max(float(grad.abs().max()) for grad in wanted.values())
    for name, parameter in network.named_parameters():
        assert float(wanted[name].abs().max()) > 1e-6 * largest, name
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=0, atol=1e-11 * largest, msg=name)


def test_the_analogue_current_is_not_written_over():
    """The first neurons of a block read x, the shortcut passes it on: a kernel that reuses its memory would spoil the sum."""
    network = small_network("pre-activation residual", steps=STEPS, norm="none").double()
    block = network.layers[1]
    assert block.shortcut is None
    x = samples(network, BATCH, frames=True).unflatten(2, network.input_shape)

    class Watching:
        """Passes currents and spikes through, and keeps the block's input."""

        def __init__(self):
            self.seen = []

        def synapse(self, synapse, signal):
            return synapse(signal)

        def normalise(self, population, current):
            return current

        def fire(self, population, current, fresh=False):
            self.seen.append((current, current.clone()))
            assert not fresh
            return population.integrate(current, None).spike

    walk = Watching()
    block.respond(convolved(network.layers[0], x), walk)
    for current, before in walk.seen:
        assert torch.equal(current, before)


def test_variance_is_kept_account_of():
    network = nf_resnet((3, 16, 16), 10, blocks=(2, 3), width=4, alpha=0.3)
    blocks = network.layers[1:]
    assert [block.fire1.scale for block in blocks] == pytest.approx([1 / math.sqrt(v) for v in (1, 1.09, 1.18, 1.09, 1.18)])
    assert [block.variance for block in blocks] == pytest.approx([1.09, 1.18, 1.09, 1.18, 1.27])
    assert [block.shortcut is not None for block in blocks] == [False, False, True, False, False]
    assert [block.fire1.shape[1] for block in blocks] == [16, 16, 16, 8, 8]


def test_the_expected_variance_is_that_of_random_weights():
    """With gain 1 and spikes of unit variance, currents have the variance that the blocks divide by."""
    torch.manual_seed(0)
    block = NFBlock((48, 12, 12), 48, LIF(leak=1.0), variance=1.0, alpha=0.5).double()  # lam = 0: u is the current
    with torch.no_grad():
        block.gain.fill_(1.0)
        x = torch.randn(1, 24, 48, 12, 12, dtype=torch.float64)

        class Plain:
            def synapse(self, synapse, signal):
                return synapse(signal)

            def normalise(self, population, current):
                return current

            def fire(self, population, current, fresh=False):
                return (current >= 1).double()

        found = block.respond(x, Plain())
    inner = found[..., 2:-2, 2:-2]  # padding lowers the variance at the edges
    # The spikes' mean passes through zero-mean kernels only where they are cut off, so that variances add up.
    assert float(inner.var()) == pytest.approx(block.variance, rel=0.1)


def test_a_gain_of_zero_is_the_shortcut_alone():
    """As blocks start: the output is the input, and nothing but the gain learns of the branch."""
    torch.manual_seed(1)
    network = nf_resnet((1, 8, 8), 4, blocks=(2,), width=4, steps=STEPS).double()
    assert [float(block.gain.detach()) for block in network.layers[1:]] == [0.0, 0.0]
    x = samples(network, BATCH, frames=True)
    found = network(x)
    analogue = convolved(network.layers[0], x.unflatten(2, network.input_shape))
    torch.testing.assert_close(found, read(network.readout, analogue), rtol=0, atol=TOLERANCE)
    found.square().sum().backward()
    for block in network.layers[1:]:
        assert float(block.gain.grad.abs()) > 0
        assert not block.conv1.weight.grad.any()
        assert not block.conv2.weight.grad.any()


def test_spikes_are_multiplied_by_the_gain_of_standardised_layers():
    block = NFBlock((4, 8, 8), 8, LIF(), 2, variance=1.0)
    assert [s.input_gain for s in (block.conv1, block.conv2, block.shortcut)] == [SPIKE_GAIN] * 3
    stem, *_ = nf_resnet((1, 8, 8), 4, blocks=(1,), width=4).layers
    assert stem.input_gain == 1.0


# Sizes


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_preact_resnet_18_has_the_sizes_of_the_paper():
    network = preact_resnet()
    stem, *blocks, last = network.layers
    assert [block.shape for block in blocks] == [(c, 2048 // c, 2048 // c) for c in (64, 64, 128, 128, 256, 256, 512, 512)]
    assert [block.shortcut is not None for block in blocks] == [False, False, True, False, True, False, True, False]
    assert (stem.shape, last.shape, network.readout.pool) == ((64, 32, 32), (512, 4, 4), 4)
    assert len(network.populations) == 17
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    expected = 27 * 64
    for before, after in pairwise(widths):
        expected += 9 * before * after + 9 * after * after + 2 * before + 2 * after
        expected += before * after if before != after else 0
    expected += 2 * 512 + 512 * 10 + 10
    assert parameters(network) == expected
    assert parameters(network) == pytest.approx(11.17e6, rel=1e-3)  # as of He et al.'s ResNet-18 with CIFAR's stem


def test_convolutions_have_biases_only_without_norm():
    for norm, biased in (("none", True), ("bn_step", False), ("bn_time", False)):
        block = PreActBlock((4, 8, 8), 8, LIF(), norm, 2)
        assert (block.conv1.bias is not None, block.conv2.bias is not None) == (biased, biased)
        assert block.shortcut.bias is None
        assert (block.fire1.batch_norm is None) == biased


def test_depth_and_width_are_options():
    network = preact_resnet((2, 8, 8), 5, blocks=(1, 2, 1), width=6, norm="bn_time", steps=2)
    assert [block.shape for block in network.layers[1:-1]] == [(6, 8, 8), (12, 4, 4), (12, 4, 4), (24, 2, 2)]
    assert network(torch.randn(3, 128)).shape == (2, 3, 5)
    assert network.input_shape == (2, 8, 8)


@pytest.mark.parametrize("build", [preact_resnet, nf_resnet])
def test_sides_that_halves_do_not_divide(build):
    network = build((1, 7, 7), 3, blocks=(1, 1, 1), width=4, steps=2)
    assert [block.shape[1:] for block in network.layers[1:4]] == [(7, 7), (4, 4), (2, 2)]
    assert network.readout.pool == 2
    assert network(torch.randn(3, 49)).shape == (2, 3, 3)


BAD = [
    (lambda build: build((1, 8, 8), 3, blocks=()), ValueError, r"blocks is \(\)"),
    (lambda build: build((1, 8, 8), 3, blocks=(2, 0)), ValueError, "each stage needs at least 1 block"),
    (lambda build: build((1, 8, 8), 3, blocks=(1.0,)), TypeError, "blocks is 1.0"),
    (lambda build: build((1, 8, 8), 3, width=0), ValueError, "width 0"),
    (lambda build: build((1, 8, 8), 3, width=4.0), TypeError, "width is 4.0"),
    (lambda build: build((1, 8, 6), 3, blocks=(1,)), ValueError, "needs square frames"),
    (lambda build: build((8, 8), 3, blocks=(1,)), ValueError, r"input_shape is \(8, 8\)"),
]


@pytest.mark.parametrize("make, error, message", BAD, ids=[message for *_, message in BAD])
@pytest.mark.parametrize("build", [preact_resnet, nf_resnet])
def test_sizes_that_do_not_fit_are_refused(build, make, error, message):
    with pytest.raises(error, match=message):
        make(build)


@pytest.mark.parametrize("alpha", [0, -0.2, math.inf, math.nan])
def test_a_branch_without_weight_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha is"):
        nf_resnet((1, 8, 8), 3, blocks=(1,), alpha=alpha)


def test_blocks_that_do_not_meet_are_refused():
    body = [Synapse((1, 8, 8), 4, kernel=3), PreActBlock((6, 8, 8), 6, LIF(), "none")]
    with pytest.raises(ValueError, match=r"shapes \(4, 8, 8\) and \(6, 8, 8\)"):
        Network(body, Readout((6, 8, 8), 3))
    with pytest.raises(ValueError, match="feedback goes to the current of a SpikingLayer"):
        preact_resnet((1, 8, 8), 3, blocks=(1,), width=4, feedback=Synapse((4, 8, 8), 4, kernel=3))
