"""Graph reasoners on Lava: in floats the spikes of torch, in integers those of the emulator; queries one after the other."""

import numpy as np
import pytest
import torch
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.data.knowledge import load_graph
from lava_snnlearn.fixed_point.quantize import quantize
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner
from lava_snnlearn.fixed_point.reasoner_head import FixedHead
from lava_snnlearn.graphs import Graph
from lava_snnlearn.lava_backend import reasoner as module
from lava_snnlearn.lava_backend.graph import run_lava
from lava_snnlearn.lava_backend.reasoner import run_float_reasoner, run_lava_reasoner, verify_reasoner
from lava_snnlearn.networks.graph_reasoner import GraphReasoner
from lava_snnlearn.testing.graphs import random_graph

STEPS = 12


def toy_graph(seed=0, relations=3):
    return random_graph(seed, 6, relations, 20)


def toy_model(seed=0, width=4, **options):
    torch.manual_seed(seed)
    model = GraphReasoner(3, width=width, steps=STEPS, scale=1.5, **options).double()
    with torch.no_grad():
        model.embedding.weight.abs_().add_(1)  # every neuron of the source fires
    return model


def integers(mapping, seed=0, relations=3, width=4, steps=STEPS, plus=False, vth=95, reach=24):
    """A reasoner of random numbers."""
    rng = np.random.default_rng(seed)
    head = FixedHead(
        hidden_weight=rng.integers(-127, 128, (2 * width, width)),
        hidden_bias=rng.integers(-20000, 20000, (relations, 2 * width)),
        shift=5,
        output_weight=rng.integers(-127, 128, 2 * width),
        output_bias=int(rng.integers(-9999, 9999)),
    )
    options = {}
    if plus:
        options = {"self_weight": 2 * rng.integers(-5, 4, (width, width)), "self_exp": 1}
        options["relation_weight"] = rng.integers(-2, 5, (relations, relations, width)) * (2 if mapping == "staged" else 30)
        options["weight_shift"] = 0 if mapping == "staged" else 6
    return FixedReasoner(
        mapping=mapping,
        relations=relations,
        width=width,
        steps=steps,
        max_delay=4,
        scale=48,
        weight=2 * rng.integers(-reach, reach, (width, width)),
        delays=rng.integers(0, 5, (relations, relations, width)),
        bias=rng.integers(40, 200, (relations, width)),
        bias_exp=6,
        vth=vth,
        du=905,
        dv=906,
        decode=np.round(4096 * 0.95 ** np.arange(steps) * 0.05 / (1 - 0.95**steps)).astype(int),
        head=head,
        offset=2 * rng.integers(-2, 3, width),
        offset_exp=1,
        **options,
    )


@pytest.mark.parametrize("variant", ["base", "plus"])
@pytest.mark.parametrize("mapping, hop", [("exact", 1), ("exact", 2), ("staged", 2)])
def test_floats_have_the_spikes_of_torch(mapping, hop, variant):
    """Check G6: 6 nodes, D = 4, 3 relations, T = 12: 288 neuron-steps a query."""
    graph, model = toy_graph(), toy_model(variant=variant, hop=hop)
    source, query = np.array([0, 3, 1]), np.array([1, 0, 1])
    torch_spikes = model.run(graph, torch.tensor(source), torch.tensor(query), record=True).spikes.numpy()
    recording = run_float_reasoner(model, graph, source, query, mapping=mapping)
    assert recording.spikes.shape == (STEPS, 3, 6, 4)
    assert np.array_equal(recording.spikes, torch_spikes)
    assert 0.05 < torch_spikes.mean() < 0.7
    assert torch_spikes[:, :, :].any(axis=(0, 3)).sum() > 6  # nodes other than the sources, too


def test_a_model_in_single_precision_without_bias_and_with_delays_by_relation():
    graph, model = toy_graph(1), toy_model(1, delays="relation", bias=False).float()
    source, query = np.array([2, 4]), np.array([2, 1])
    torch_spikes = model.run(graph, torch.tensor(source), torch.tensor(query), record=True).spikes.numpy()
    assert np.array_equal(run_float_reasoner(model, graph, source, query).spikes, torch_spikes)
    assert torch_spikes.mean() > 0.05


@pytest.mark.parametrize("plus", [False, True], ids=["base", "plus"])
@pytest.mark.parametrize("mapping", ["exact", "staged"])
def test_integers_are_those_of_the_emulator(mapping, plus):
    """Spikes, membranes and scores of queries in no order of relations, one of them twice."""
    graph, fixed = toy_graph(2), integers(mapping, plus=plus)
    source, query = [0, 5, 3, 0, 2], [2, 0, 1, 2, 2]
    report = verify_reasoner(fixed, graph, source, query)
    assert report.ok, str(report)
    assert report.samples == 5
    assert report.compared["lava"] == 5 * 6 * (2 * STEPS * 4 + 1)
    assert "torch" not in str(report)
    spikes = emulate_reasoner(fixed, graph, source, query, record="spikes").spikes
    assert 0.05 < spikes.mean() < 0.8


@pytest.mark.parametrize("variant", ["base", "plus"])
@pytest.mark.parametrize("hop", [1, 2])
def test_a_quantized_model_is_equal(hop, variant):
    """The mapping follows the hop; most spikes are those of the model in floats."""
    graph, model = toy_graph(), toy_model(hop=hop, variant=variant)
    source, query = np.array([0, 3]), np.array([1, 2])
    fixed = quantize(model)
    report = verify_reasoner(fixed, graph, source, query)
    assert report.ok, str(report)
    spikes = emulate_reasoner(fixed, graph, source, query, record="spikes").spikes
    real = model.run(graph, torch.tensor(source), torch.tensor(query), record=True).spikes.numpy()
    assert (spikes != real).mean() < 0.1 < real.mean()


@pytest.mark.parametrize("hop", [1, 2])
def test_a_homogeneous_model_and_a_graph_without_edges(hop):
    torch.manual_seed(0)
    model = GraphReasoner(1, width=3, steps=STEPS, scale=1.5, hop=hop, homogeneous=True, variant="plus").double()
    with torch.no_grad():
        model.embedding.weight.abs_().add_(1)
    fixed = quantize(model)
    for graph in (toy_graph(relations=1), Graph(2, 1, [], [], [])):
        spikes = model.run(graph, torch.tensor([1]), torch.tensor([0]), record=True).spikes.numpy()
        assert np.array_equal(run_float_reasoner(model, graph, [1], [0]).spikes, spikes)
        report = verify_reasoner(fixed, graph, [1, 0], [0, 0])
        assert report.ok, str(report)
        assert spikes.any()


@pytest.mark.parametrize("mapping", ["exact", "staged"])
def test_one_run_of_three_queries_equals_three_runs(mapping):
    """Nothing of a query is left for the next one; the run configuration is a plain one."""
    graph, fixed = toy_graph(3), integers(mapping, seed=1, plus=True)
    source, query = np.array([1, 4, 1]), np.array([2, 1, 0])
    together = run_lava_reasoner(fixed, graph, source, query, run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    for number in range(3):
        alone = run_lava_reasoner(fixed, graph, source[[number]], query[[number]])
        for name in ("spikes", "membranes"):
            assert np.array_equal(getattr(together, name)[:, number], getattr(alone, name)[:, 0])
        for name in ("features", "scores", "spike_counts"):
            assert np.array_equal(getattr(together, name)[number], getattr(alone, name)[0])
    assert len({rows.tobytes() for rows in together.features}) == 3


@pytest.mark.parametrize("mapping", ["exact", "staged"])
def test_nations(mapping):
    """14 nodes, 3,184 edges of 110 relations, D = 8."""
    graph = load_graph("nations").graph()
    fixed = integers(mapping, relations=graph.relations, width=8, steps=10, vth=300, reach=6)
    report = verify_reasoner(fixed, graph, [0, 9, 13], [3, 70, 109])
    assert report.ok, str(report)
    spikes = emulate_reasoner(fixed, graph, [0, 9, 13], [3, 70, 109], record="spikes").spikes
    assert 0.05 < spikes.mean() < 0.8


def test_a_report_names_the_first_difference(monkeypatch):
    graph, fixed = toy_graph(2), integers("exact")

    def wrong(*arguments, **options):
        trace = emulate_reasoner(*arguments, **options)
        trace.spikes[7, 1, 4, 2] ^= 1
        trace.membranes[5, 0, 3, 1] += 64
        trace.scores[0, 2] += 1
        return trace

    monkeypatch.setattr(module, "emulate_reasoner", wrong)
    report = verify_reasoner(fixed, graph, [0, 1], [0, 1])
    assert not report.ok
    assert report.mismatches["lava"] == 3
    first = report.first_mismatch
    place = (first.quantity, first.population, first.neuron, first.step, first.sample, first.emulator - first.other)
    assert place == ("membrane", "node 3", 1, 5, 0, 64)


def test_a_network_too_large_is_refused_with_its_numbers_before_it_is_built():
    count = 40_000
    graph = Graph(count, 3, np.arange(count), np.zeros(count, int), np.roll(np.arange(count), 1))
    for mapping, synapses in (("exact", count * 32**2), ("staged", count * (32**2 + 32))):  # w0 beside the blocks
        fixed = integers(mapping, width=32, reach=2)
        with pytest.raises(LimitError, match=f"{mapping} mapping of {count} nodes .* {synapses} synapses"):
            run_lava_reasoner(fixed, graph, [0], [0])
    with pytest.raises(LimitError, match="40960000 synapses"):
        run_float_reasoner(GraphReasoner(3, width=32, bias=False), graph, [0], [0])


def test_a_recording_too_large_is_refused():
    fixed, graph = integers("staged"), toy_graph()
    with pytest.raises(LimitError, match="Give at most 932067 queries at a time"):
        run_lava_reasoner(fixed, graph, np.zeros(1_000_000, int), np.zeros(1_000_000, int))


def test_refusals():
    graph, model, fixed = toy_graph(), toy_model(), integers("exact")
    with pytest.raises(ValueError, match="hop=2"):
        run_float_reasoner(model, graph, [0], [0], mapping="staged")
    with pytest.raises(UnknownNameError, match="exact"):
        run_float_reasoner(model, graph, [0], [0], mapping="exakt")
    with pytest.raises(ValueError, match="event-driven"):
        run_float_reasoner(toy_model(variant="plus_full"), graph, [0], [0])
    with pytest.raises(ValueError, match="2 relations, the reasoner 3"):
        run_float_reasoner(model, toy_graph(relations=2), [0], [0])
    with pytest.raises(TypeError, match="GraphReasoner"):
        run_float_reasoner(fixed, graph, [0], [0])
    with pytest.raises(TypeError, match="quantize"):
        run_lava_reasoner(model, graph, [0], [0])
    with pytest.raises(LimitError, match="source is 6"):
        run_lava_reasoner(fixed, graph, [6], [0])
    with pytest.raises(LimitError, match="query is 3"):
        run_lava_reasoner(fixed, graph, [0], [3])
    with pytest.raises(ValueError, match="source has 2 entries and query 1"):
        run_lava_reasoner(fixed, graph, [0, 1], [0])
    with pytest.raises(ValueError, match="expected integers"):
        run_lava_reasoner(fixed, graph, [0.5], [0])


def test_networks_are_another_matter():
    with pytest.raises(TypeError, match=r"run_lava takes a FixedNetwork, got FixedReasoner; .* run_lava_reasoner"):
        run_lava(integers("exact"), [[0.0]])
