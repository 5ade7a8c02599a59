"""Fine-tuning in the chip's arithmetic: forward equal to the emulator, gradients those of a float model at the same spikes."""

import numpy as np
import pytest
import torch

from lava_snnlearn import quantize
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner, pair_scores
from lava_snnlearn.fixed_point.reasoner_qat import prepare_reasoner_qat
from lava_snnlearn.graphs import Graph
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.testing.graphs import random_graph

R, D, N = 4, 6, 20
CASES = pytest.mark.parametrize("variant, hop", [("base", 1), ("base", 2), ("plus", 1), ("plus", 2)])


def model_of(variant="base", hop=1, seed=0, **options):
    torch.manual_seed(seed)
    return GraphReasoner(R, **({"width": D, "steps": 12, "hop": hop, "variant": variant, "scale": 1.5} | options)).double()


def batch_of(seed=0, size=12):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, N, R, 80)
    return graph, torch.from_numpy(rng.integers(N, size=size)), torch.from_numpy(rng.integers(R, size=size))


def train(net, steps=3, learning_rate=0.05):
    """Some steps of descent that move every parameter."""
    graph, source, query = batch_of(7)
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], learning_rate)
    for _ in range(steps):
        optimiser.zero_grad()
        net(graph, source, query).square().mean().backward()
        optimiser.step()


@CASES
def test_the_untrained_copy_has_the_integers_of_its_model(variant, hop):
    model = model_of(variant, hop)
    qat = prepare_reasoner_qat(model, headroom=64)
    ours, theirs = quantize(qat).to_dict(), quantize(model, headroom=64).to_dict()
    for name, value in theirs.items():
        np.testing.assert_equal(ours[name], value, err_msg=name)


@CASES
@pytest.mark.parametrize("training", [True, False])
def test_forward_equals_the_emulator_after_training(variant, hop, training):
    qat = prepare_reasoner_qat(model_of(variant, hop), headroom=64)
    before = quantize(qat)
    train(qat)
    fixed, (graph, source, query) = quantize(qat), batch_of(1)
    assert (np.asarray(before.weight) != fixed.weight).any()
    assert fixed.scale == before.scale
    trace = emulate_reasoner(fixed, graph, source.numpy(), query.numpy(), record="spikes")
    qat.train(training)
    with torch.set_grad_enabled(training):
        run, scores = qat.run(graph, source, query, record=True), qat(graph, source, query)
    assert trace.spikes.any()
    np.testing.assert_array_equal(run.spikes.numpy(), trace.spikes)
    np.testing.assert_array_equal(np.rint(run.features.detach().numpy() * 4096), trace.features)
    assert run.spike_count == trace.spike_counts.sum()
    np.testing.assert_allclose(scores.detach().numpy() * fixed.head.one, trace.scores, rtol=0, atol=1e-3)


class Twin(GraphReasoner):
    """A float model whose relation weights are those given, to the value but not to the gradient."""

    given: torch.Tensor | None = None

    def relation_weights(self, query):
        real = super().relation_weights(query)
        return real if real is None else real + (self.given[query] - real).detach()


def dequantised(model, fixed, plan):
    """A float model whose parameters are what the integers stand for, as far as they enter the message passing."""
    options = {"width": D, "steps": 12, "hop": model.rule.hop, "variant": model.variant, "scale": 1.5}
    twin = Twin(R, **options).double()
    twin.load_state_dict(model.state_dict())
    gain = np.e / 4 * 1.5
    with torch.no_grad():
        weight = np.asarray(fixed.weight) / (plan.weight_scale * 2.0**plan.fine_bits)
        if fixed.self_weight is not None:
            weight = np.concatenate([fixed.self_weight * 2.0**fixed.self_exp / fixed.scale, weight], 1)
        twin.combine.weight.copy_(torch.from_numpy(weight / gain))
        twin.combine.bias.copy_(torch.from_numpy(fixed.offset * 2.0**fixed.offset_exp / fixed.scale / gain))
    if fixed.relation_weight is not None:
        unit = 2.0 ** (plan.omega_bits if fixed.mapping == "exact" else plan.stage_bits)
        twin.given = torch.from_numpy(fixed.relation_weight / unit)
    return twin


@CASES
def test_gradients_are_those_of_the_float_model_where_no_spike_differs(variant, hop):
    # At a fine scale, few spikes differ: the batch keeps the samples in which none does.
    model = model_of(variant, hop)
    qat = prepare_reasoner_qat(model, headroom=20)
    fixed, (graph, source, query) = quantize(qat), batch_of(2, 40)
    twin = dequantised(qat, fixed, qat.plan)
    with torch.no_grad():
        same = twin.run(graph, source, query, record=True).spikes == qat.run(graph, source, query, record=True).spikes
    kept = same.all(3).all(2).all(0)
    assert kept.sum() >= 8
    source, query = source[kept], query[kept]
    grads = []
    for net in (qat, twin):
        features = net.run(graph, source, query).features
        coefficients = torch.randn(features.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        (features * coefficients).sum().backward()
        grads.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    assert set(grads[0]) == set(grads[1])
    for name, expected in grads[1].items():
        assert expected.abs().max() > 0, name
        error = (grads[0][name] - expected).abs().max() / expected.abs().max()
        assert error < 0.05, (name, float(error))


def test_homogeneous_scores_are_the_chips():
    torch.manual_seed(0)
    model = GraphReasoner(1, width=D, steps=10, homogeneous=True).double()
    rng = np.random.default_rng(3)
    graph = Graph(N, 1, rng.integers(N, size=60), np.zeros(60, int), rng.integers(N, size=60))
    qat, ends = prepare_reasoner_qat(model, headroom=64), torch.from_numpy(rng.integers(N, size=(2, 9)))
    fixed = quantize(qat)
    found = qat(graph, ends[0], torch.zeros(9, dtype=torch.int64), ends[1].unsqueeze(1))
    expected = pair_scores(fixed, graph, ends[0].numpy(), ends[1].numpy())
    np.testing.assert_allclose(found[:, 0].detach().numpy() * fixed.head.one, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("delays", ["query", "relation", "random", "zero"])
def test_every_kind_of_delay_is_copied(delays):
    model = model_of(delays=delays)
    qat = prepare_reasoner_qat(model)
    query = torch.arange(R)
    assert torch.equal(qat.delay_steps(query), model.delay_steps(query))


@CASES
def test_parameters_beyond_the_range_are_held_at_its_ends(variant, hop):
    qat = prepare_reasoner_qat(model_of(variant, hop), headroom=512)
    with torch.no_grad():
        for name, parameter in qat.named_parameters():
            if not name.startswith("head"):
                parameter.mul_(40)
    fixed = quantize(qat)
    assert np.abs(fixed.weight).max() >= 254
    assert np.abs(fixed.bias).max() == 4095


def test_training_in_the_chips_arithmetic_mends_a_coarse_grid():
    # Two bits a weight; measured: the features' errors fall to .54.
    first, last = 0.0, 0.0
    for seed in (0, 2, 4):
        model, (graph, source, query) = model_of(seed=seed), batch_of(5, 32)
        goal = model.run(graph, source, query).features.detach()
        qat = prepare_reasoner_qat(model, weight_bits=2, headroom=64)
        optimiser = torch.optim.Adam(qat.parameters(), 1e-3)
        errors = []
        for _ in range(40):
            error = (qat.run(graph, source, query).features - goal).square().mean()
            errors.append(float(error.detach()))
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
        first, last = first + errors[0], last + errors[-1]
    assert last < 0.75 * first


def test_refusals():
    qat = prepare_reasoner_qat(model_of())
    with pytest.raises(ValueError, match="prepared already"):
        prepare_reasoner_qat(qat)
    with pytest.raises(ValueError, match="without further arguments"):
        quantize(qat, weight_bits=8)
    with pytest.raises(TypeError, match="GraphReasoner"):
        prepare_reasoner_qat(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="plus_full"):
        prepare_reasoner_qat(model_of("plus_full"))
    with pytest.raises(ValueError, match="on meta; use"):
        prepare_reasoner_qat(model_of().to("meta"))
