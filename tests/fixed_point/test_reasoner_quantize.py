"""Conversion of a graph reasoner: every integer within half a step of its real number, spikes and scores near torch's."""

import numpy as np
import pytest
import torch

from lava_snnlearn import quantize
from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner, pair_scores
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.testing.graphs import random_graph

R, D = 5, 6
KAPPA = np.e / 4


def model_of(seed=0, **options):
    torch.manual_seed(seed)
    return GraphReasoner(R, **({"width": D, "steps": 12, "scale": 0.8} | options))


def graph_of(nodes=20, edges=80, relations=R, seed=0):
    return random_graph(seed, nodes, relations, edges)


def queries_of(count=24, nodes=20, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(nodes, size=count), rng.integers(R, size=count)


def real_weights(model):
    """kappa c W: of the self connection (or None), of the messages; and kappa c w0."""
    combine = model.combine.weight.detach().double().numpy() * KAPPA * 0.8
    offset = model.combine.bias.detach().double().numpy() * KAPPA * 0.8
    return (combine[:, :D] if combine.shape[1] > D else None), combine[:, -D:], offset


@pytest.mark.parametrize("hop", [1, 2])
def test_base_integers_are_rounded_reals(hop):
    model = model_of(hop=hop)
    fixed = quantize(model, headroom=64)
    scale = fixed.scale
    _, weight, offset = real_weights(model)
    largest = np.abs(weight).max()
    assert fixed.mapping == {1: "exact", 2: "staged"}[hop]
    assert scale == min(
        int(254 / largest), 8_388_607 // 64 // 64, int(4095 * 2 / model.query_code(torch.arange(R)).abs().max())
    )
    np.testing.assert_array_equal(fixed.weight, 2 * np.rint(scale * weight / 2))
    unit = 2.0**fixed.offset_exp
    assert np.abs(fixed.offset * unit - scale * offset).max() <= unit
    assert fixed.offset_exp == 0 or np.abs(scale * offset).max() > 254 * unit / 2
    code = model.query_code(torch.arange(R)).detach().double().numpy()
    step = 2.0**fixed.bias_exp
    assert np.abs(fixed.bias * step - 64 * scale * code).max() <= step / 2 + 1e-6
    assert fixed.bias_exp == 0 or np.abs(64 * scale * code).max() > 4095 * step / 2  # no finer one holds them
    np.testing.assert_array_equal(fixed.delays, model.delay_steps(torch.arange(R)).numpy())
    assert (fixed.vth, fixed.du, fixed.dv) == (2 * scale, 905, 906)
    kernel = [round(4096 * 0.95**t / sum(0.95**i for i in range(12))) for t in range(12)]
    assert fixed.decode.tolist() == kernel
    assert fixed.relation_weight is None
    assert fixed.self_weight is None


def test_no_offset_without_bias_and_one_row_of_delays_of_relations():
    fixed = quantize(model_of(bias=False, delays="relation"))
    assert fixed.offset is None
    assert fixed.delays.shape == (1, R, D)


def test_relation_weights_of_the_exact_mapping_are_rounded_in_the_product():
    model = model_of(variant="plus")
    fixed = quantize(model)
    own, weight, _ = real_weights(model)
    omega = model.relation_weights(torch.arange(R)).detach().double().numpy()
    for query in range(R):
        product = fixed.scale * weight[None] * omega[query][:, None, :]
        assert np.abs(fixed.synapses(query) - product).max() <= 1.0 + 0.1
    assert max(np.abs(fixed.synapses(query)).max() for query in range(R)) in (252, 254) or fixed.scale == 8_388_607 // 64 // 512
    assert np.abs(fixed.self_weight * 2.0**fixed.self_exp - fixed.scale * own).max() <= 2**fixed.self_exp


def test_relation_weights_of_the_staged_mapping_share_the_scale():
    model = model_of(variant="plus", hop=2)
    fixed = quantize(model, headroom=100)
    _, weight, _ = real_weights(model)
    omega = model.relation_weights(torch.arange(R)).detach().double().numpy()
    unit = [2**p for p in range(8) if np.abs(2 * np.rint(omega * 2**p / 2) - fixed.relation_weight).max() == 0]
    assert len(unit) == 1
    assert fixed.scale % unit[0] == 0
    np.testing.assert_array_equal(fixed.weight, 2 * np.rint(fixed.scale // unit[0] * weight / 2))
    assert fixed.scale * 100 <= 8_388_607 / 64


@pytest.mark.parametrize("hop", [1, 2])
@pytest.mark.parametrize("variant", ["base", "plus"])
def test_spikes_and_scores_are_near_those_of_torch(variant, hop):
    model, graph, (source, query) = model_of(variant=variant, hop=hop, scale=1.5), graph_of(), queries_of()
    fixed = quantize(model, headroom=128)
    trace = emulate_reasoner(fixed, graph, source, query, record="spikes")
    with torch.no_grad():
        run = model.run(graph, torch.tensor(source), torch.tensor(query), record=True)
        scores = model.scores(run.features, torch.tensor(query)).numpy()
    spikes = run.spikes.numpy()
    assert 0.01 < spikes.mean() < 0.6
    flipped = (trace.spikes != spikes).sum()
    assert flipped < (0.05 if hop == 1 else 0.1) * spikes.sum()
    same = (trace.spikes == spikes).all(axis=(0, 3))
    assert same.mean() > 0.5
    error = np.abs(trace.scores / fixed.head.one - scores)
    assert error[same].max() < 0.02 * np.abs(scores).max()


def test_the_papers_small_network_at_scale_48():
    # Six nodes, D = 4, three relations, T = 12: the specification saw 5 of 288 bits flip with 8-bit weights.
    flips, bits = 0, 0
    for seed in range(8):
        torch.manual_seed(seed)
        model = GraphReasoner(3, width=4, steps=12, bias=False)
        graph = graph_of(6, 14, 3, seed)
        fixed = quantize(model, headroom=131_071 / 48)
        assert fixed.scale == 48
        trace = emulate_reasoner(fixed, graph, [0], [1], record="spikes")
        spikes = model.run(graph, torch.tensor([0]), torch.tensor([1]), record=True).spikes.numpy()
        flips, bits = flips + int((trace.spikes != spikes).sum()), bits + spikes.size
    assert bits == 8 * 288
    assert flips <= 8 * 5


def test_homogeneous_scores_of_both_directions():
    torch.manual_seed(0)
    model = GraphReasoner(1, width=D, steps=10, homogeneous=True, scale=1.0)
    graph, rng = graph_of(15, 40, 1), np.random.default_rng(3)
    first, second = rng.integers(15, size=(2, 12))
    fixed = quantize(model, headroom=64)
    assert fixed.homogeneous
    found = pair_scores(fixed, graph, first, second) / fixed.head.one
    with torch.no_grad():
        expected = model(graph, torch.tensor(first), torch.zeros(12, dtype=torch.int64), torch.tensor(second)[:, None])[:, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=0.05 * float(expected.abs().max()))


def test_calibration_finds_a_scale_without_overflow():
    model, graph, (source, query) = model_of(scale=3.0), graph_of(10, 3000), queries_of(nodes=10)
    assert emulate_reasoner(quantize(model, headroom=100), graph, source, query).wrapped > 0
    fixed = quantize(model, calibration=(graph, source, query))
    trace = emulate_reasoner(fixed, graph, source, query)
    assert (trace.wrapped, trace.saturated) == (0, 0)
    # Not smaller than a step of a quarter and the margin of a quarter ask for.
    tight = quantize(model, headroom=131_071 / (fixed.scale * 1.6 + 1))
    trace = emulate_reasoner(tight, graph, source, query)
    assert trace.wrapped + trace.saturated > 0


def test_the_model_is_not_changed():
    model = model_of(variant="plus")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantize(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_fewer_bits_make_a_coarser_grid():
    fixed = quantize(model_of(), weight_bits=4)
    assert (np.asarray(fixed.weight) % 32 == 0).all()
    assert np.abs(fixed.weight).max() <= 256


def test_refusals():
    graph = graph_of()
    with pytest.raises(ValueError, match="plus_full"):
        quantize(model_of(variant="plus_full"))
    with pytest.raises(LimitError, match="weight_bits is 9"):
        quantize(model_of(), weight_bits=9)
    with pytest.raises(ValueError, match="headroom is 0"):
        quantize(model_of(), headroom=0)
    with pytest.raises(ValueError, match="leave one of them out"):
        quantize(model_of(), headroom=9, calibration=(graph, [0], [0]))
    with pytest.raises(LimitError, match="source is 20"):
        quantize(model_of(), calibration=(graph, [20], [0]))
    with pytest.raises(ValueError, match="leave input out"):
        quantize(model_of(), input="spikes")
    with pytest.raises(LimitError, match="no scale holds"):
        quantize(model_of(), headroom=1e6)
    broken = model_of()
    with torch.no_grad():
        broken.combine.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"combine\.weight holds 1 values"):
        quantize(broken)
    heavy = model_of()
    with torch.no_grad():
        heavy.head[0].weight[0, 0] = 1e4
    with pytest.raises(LimitError, match="the score has weights"):
        quantize(heavy)


def test_zero_weights_are_possible():
    model = model_of(variant="plus", hop=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    fixed = quantize(model)
    assert isinstance(fixed, FixedReasoner)
    trace = emulate_reasoner(fixed, graph_of(), [0], [0])
    assert not trace.scores.any()
