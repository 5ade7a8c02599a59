"""Message passing against a version that adds every edge's message on its own, walks counted one by one, and shifted delays."""

import itertools
import math
import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import torch

from lava_snnlearn.graphs import Graph
from lava_snnlearn.networks import GraphReasoner, message_fused
from lava_snnlearn.networks.message_fused import memory_estimate
from lava_snnlearn.networks.message_passing import propagate
from lava_snnlearn.networks.message_reference import _messages, _Wiring
from lava_snnlearn.networks.propagation import Propagation, Tables

BACKENDS = ("fused", "torch")
N, R = 9, 3

pytestmark = pytest.mark.usefixtures("one_thread")


def graph_of(nodes=N, relations=R, edges=40, seed=0):
    """A random graph, with a self-loop and an edge that is there twice."""
    rng = np.random.default_rng(seed)
    source, relation, target = (rng.integers(top, size=edges) for top in (nodes, relations, nodes))
    source[0] = target[0] = source[1] = source[2] = 1
    relation[1], target[1] = relation[2], target[2] = 0, 2
    return Graph(nodes, relations, source, relation, target)


def reasoner(seed=0, dtype=torch.float64, **options):
    """A network that spikes: weights above 0 on average."""
    torch.manual_seed(seed)
    model = GraphReasoner(R, **({"width": 4, "steps": 9, "scale": 0.6} | options))
    with torch.no_grad():
        model.combine.weight += 1 / model.width
    return model.to(dtype)


class Naive(NamedTuple):
    features: torch.Tensor
    spikes: torch.Tensor
    scores: torch.Tensor


def naive(model, graph, source, query, probe=None):
    """Everything written out, one edge and neuron at a time; ``probe`` [T, N, D] is added to A."""
    rule, width = model.rule, model.width
    a, kappa, tau = math.exp(-1 / rule.tau), math.e / rule.tau, rule.tau
    features, rasters = [], []
    for x, q in zip(source.tolist(), query.tolist(), strict=True):
        code = rule.threshold / 2 * (model.embedding.weight[q] + 1)
        delay = model.delay_times(torch.tensor([q]))[0]
        omega = model.relation_weights(torch.tensor([q]))
        s, current, membrane = [], 0.0, 0.0
        for t in range(rule.steps):
            if t:
                total = [[delay.new_zeros(()) for _ in range(width)] for _ in range(graph.nodes)]
                for u, r, v in zip(graph.source, graph.relation, graph.target, strict=True):
                    for k in range(width):
                        n = t - rule.hop - round(float(delay[r, k].detach()))
                        if n >= 0:
                            past = [float(s[i][u, k].detach()) for i in range(n + 1)]
                            if rule.delay_grad == "exact":
                                slope = -((1 - 1 / tau) * past[n] - a * (past[n - 1] if n else 0))
                            else:
                                slope = -sum(p * kappa * (1 - (n - i + 1) / tau) * a ** (n - i) for i, p in enumerate(past))
                            message = s[n][u, k] + (delay[r, k] - delay[r, k].detach()) * slope
                            total[v][k] = total[v][k] + (message if omega is None else omega[0, r, k] * message)
                received = torch.stack([torch.stack(row) for row in total])
                received = received if probe is None else received + probe[t]
                inputs = torch.cat([s[-1], received], 1) if model.variant == "plus" else received
                offset = 0 if model.combine.bias is None else model.combine.bias
                current = a * current + kappa * rule.scale * (inputs @ model.combine.weight.T + offset)
            injected = torch.zeros(graph.nodes, width, dtype=code.dtype)
            injected[x] = code
            membrane = a * membrane + current + injected
            smooth = torch.sigmoid(4 * (membrane - rule.threshold))
            spike = (membrane >= rule.threshold).to(code.dtype) + (smooth - smooth.detach())
            membrane = membrane * (1 - spike)
            s.append(spike)
        norm = sum(rule.decay**t for t in range(rule.steps))
        features.append(sum(spike * rule.decay**t / norm for t, spike in enumerate(s)))
        rasters.append(torch.stack(s).detach())
    h = torch.stack(features)
    return Naive(h, torch.stack(rasters, 1), model.scores(h, query))


def gradients(model, scores):
    """Of a loss in which every score has a weight of its own."""
    model.zero_grad()
    (scores * torch.linspace(-1, 2, scores.numel(), dtype=scores.dtype).view_as(scores)).sum().backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in trained.items()}


def batch():
    return torch.tensor([0, 5, 1, 5]), torch.tensor([1, 2, 1, 0])


CASES = [
    {},
    {"hop": 2, "delay_grad": "trace"},
    {"variant": "plus"},
    {"variant": "plus", "hop": 2, "delay_grad": "trace", "bias": False},
    {"delays": "relation", "bias": False},
    {"delays": "random"},
    {"delays": "zero", "tau": 2.5, "threshold": 1.5, "decay": 0.8},
    {"max_delay": 62, "steps": 6},
    {"width": 70, "steps": 4, "variant": "plus"},
    {"steps": 1},
    {"steps": 2, "hop": 2},
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_naive_version(case, backend):
    """Check G5: spikes, scores and the gradient of every parameter."""
    model, graph = reasoner(backend=backend, **case), graph_of(edges=12 if case.get("width") else 40)
    source, query = batch()
    expected = naive(model, graph, source, query)
    run = model.run(graph, source, query, record=True)
    assert torch.equal(run.spikes, expected.spikes.to(torch.uint8))
    assert run.spike_count == int(expected.spikes.sum()) > 0
    torch.testing.assert_close(run.features, expected.features, rtol=1e-12, atol=1e-14)
    wanted = gradients(model, expected.scores)
    found = gradients(model, model(graph, source, query))
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12 * float(value.abs().max()), msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [{}, {"variant": "plus"}, {"delay_grad": "trace", "hop": 2}], ids=str)
def test_what_lies_out_of_reach_is_left_out_without_an_error(case, backend):
    """A line, a branch and a part of its own, without w0: nodes that no spike reaches in time, next to some that one does."""
    line = [(v, v + 1) for v in range(11)] + [(3, 12), (12, 13), (13, 2), (14, 15), (15, 14), (14, 4)]
    graph = Graph(16, R, [u for u, _ in line], [v % R for _, v in line], [v for _, v in line])
    model = reasoner(bias=False, steps=10, scale=8.0, backend=backend, **case)
    source, query = torch.tensor([0, 6, 14]), torch.tensor([1, 0, 2])
    expected = naive(model, graph, source, query)
    run = model.run(graph, source, query, record=True)
    assert torch.equal(run.spikes, expected.spikes.to(torch.uint8))
    fired = expected.spikes.any(0).any(-1)
    assert fired[0, 2]
    assert not fired[0, 9:12].any()
    wanted, found = gradients(model, expected.scores), gradients(model, model(graph, source, query))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12 * float(value.abs().max()), msg=name)


def test_the_cases_spike_and_their_delays_differ():
    """Otherwise the comparison above could not fail."""
    model = reasoner()
    source, query = batch()
    run = model.run(graph_of(), source, query, record=True)
    targets = run.spikes.clone()
    targets[:, range(4), source] = 0
    assert 0.05 < float(targets.float().mean()) < 0.6
    assert len(torch.unique(model.delay_steps(query))) >= 3
    found = gradients(model, model(graph_of(), source, query))
    assert all(bool(g.any()) for g in found.values())


@pytest.mark.parametrize("case", CASES[:5], ids=str)
def test_float32_is_the_float64_run_rounded(case):
    """Check G5 in float32: the same spikes; gradients to some roundings (6e-8) of their maximum."""
    graph, (source, query) = graph_of(), batch()
    single, double = (reasoner(dtype=dtype, backend="fused", **case) for dtype in (torch.float32, torch.float64))
    spikes = [model.run(graph, source, query, record=True).spikes for model in (single, double)]
    assert torch.equal(*spikes)
    wanted = gradients(double, double(graph, source, query))
    for name, value in gradients(single, single(graph, source, query)).items():
        torch.testing.assert_close(value.double(), wanted[name], rtol=0, atol=2e-6 * float(wanted[name].abs().max()), msg=name)


def test_linear_count_recursion_counts_walks():
    """Check G1: n_v[t] = sum of n_u[t - 1 - d_e] over the edges, against all walks found one by one."""
    graph, steps = graph_of(nodes=6, edges=14, seed=3), 10
    delay = torch.from_numpy(np.random.default_rng(1).integers(4, size=(1, R, 1)).astype(float))
    rule, wiring = Propagation(steps=steps, max_delay=3), _Wiring.of(graph, delay)
    counts = [torch.zeros(1, 6, 1, dtype=torch.float64)]
    counts[0][0, 1] = 1
    for _ in range(1, steps):
        slopes = [torch.zeros_like(count) for count in counts]
        counts.append(wiring.sum(_messages(rule, wiring, counts, slopes, delay, None)))
    expected = np.zeros((steps, 6))
    edges = list(zip(graph.source, graph.relation, graph.target, strict=True))
    walks = [(1, 0)]
    while walks:
        node, time = walks.pop()
        expected[time, node] += 1
        ends = [(v, time + 1 + int(delay[0, r, 0])) for u, r, v in edges if u == node]
        walks += [(v, t) for v, t in ends if t < steps]
    assert expected.max() > 3
    np.testing.assert_allclose(torch.stack(counts)[:, 0, :, 0].numpy(), expected, atol=1e-12)


def tables_of(delay, width=1, gain=4.0):
    code = torch.full((1, width), 2.5, dtype=torch.float64)
    return Tables(code, delay, None, gain * torch.eye(width, dtype=torch.float64), None)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("hop", [1, 2])
def test_longer_delays_shift_what_lies_some_hops_away(hop, backend):
    """Check G7: in a layered graph, c more steps on every edge shift the spikes of a node h hops away by h c."""
    layers, rng = [[0], [1, 2, 3], [4, 5], [6]], np.random.default_rng(2)
    pairs = [(u, v) for low, high in itertools.pairwise(layers) for u in low for v in high]
    graph = Graph(7, 2, [u for u, _ in pairs], rng.integers(2, size=len(pairs)), [v for _, v in pairs])
    delay = torch.tensor([[[1.0], [2.0]]], dtype=torch.float64)
    start = torch.zeros(1, dtype=torch.int64)
    rasters = {}
    for more in (0, 1, 4):
        rule = Propagation(steps=40, max_delay=8, hop=hop)
        run = propagate(graph, rule, tables_of(delay + more), start, start, record=True, backend=backend)
        rasters[more] = run.spikes[:, 0, :, 0]
        for layer, nodes in enumerate(layers):
            shift = layer * more
            assert rasters[0][:, nodes].any()
            assert torch.equal(rasters[more][shift:, nodes], rasters[0][: 40 - shift, nodes])
            assert not rasters[more][:shift, nodes].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_renaming_entities_permutes_the_scores(backend):
    """Check G8."""
    model, graph = reasoner(backend=backend), graph_of()
    source, query = batch()
    name = torch.from_numpy(np.random.default_rng(0).permutation(N))
    renamed = Graph(N, R, name.numpy()[graph.source], graph.relation, name.numpy()[graph.target])
    before, after = model(graph, source, query), model(renamed, name[source], query)
    torch.testing.assert_close(after[:, name], before, rtol=1e-12, atol=1e-12)
    assert float(before.detach().std()) > 1e-3


def test_bits_depend_on_neither_threads_nor_batch(monkeypatch, pools):
    monkeypatch.setattr(message_fused, "_WORTH_A_THREAD", 1)
    model, graph = reasoner(dtype=torch.float32, variant="plus", backend="fused"), graph_of()
    source, query = batch()
    results = []
    for count in (1, 2, 3, 8):
        torch.set_num_threads(count)
        results.append([model.run(graph, source, query).features, *gradients(model, model(graph, source, query)).values()])
    torch.set_num_threads(1)
    # Two forwards and one backward each, in this thread and others, at most one a sample.
    assert pools == 3 * [1] + 3 * [2] + 3 * [3]
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))
    alone = model.run(graph, source[2:3], query[2:3]).features
    assert torch.equal(alone[0], results[0][0][2])


def test_without_gradient_the_same_and_nothing_kept(monkeypatch):
    model, graph = reasoner(backend="fused"), graph_of()
    source, query = batch()
    kept = []
    leave = message_fused.Call.leave
    monkeypatch.setattr(message_fused.Call, "leave", lambda call, keep: kept.append(keep) or leave(call, keep))
    with_gradient = model.run(graph, source, query, record=True)
    with torch.no_grad():
        without = model.run(graph, source, query, record=True)
    assert kept == [True, False]
    assert torch.equal(without.features, with_gradient.features)
    assert torch.equal(without.spikes, with_gradient.spikes)
    assert not without.features.requires_grad


def test_a_graph_without_edges_leaves_all_but_the_source_at_rest():
    graph = Graph(N, R, [], [], [])
    source, query = batch()
    for backend in BACKENDS:
        spikes = reasoner(bias=False, backend=backend).run(graph, source, query, record=True).spikes
        silent = spikes.clone()
        silent[:, range(4), source] = 0
        assert spikes.any()
        assert not silent.any()


def test_backward_twice_needs_retain_graph():
    model, graph = reasoner(backend="fused"), graph_of()
    loss = model(graph, *batch()).sum()
    loss.backward(retain_graph=True)
    first = model.combine.weight.grad.clone()
    model.zero_grad()
    loss.backward()
    assert torch.equal(model.combine.weight.grad, first)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("variant", ["base", "plus"])
def test_trace_back_is_the_derivative_by_what_arrives(variant):
    model, graph = reasoner(variant=variant), graph_of()
    found = model.trace_back(graph, 5, 2, 3)
    probe = torch.zeros(model.rule.steps, N, model.width, dtype=torch.float64, requires_grad=True)
    run = naive(model, graph, torch.tensor([5]), torch.tensor([2]), probe)
    (wanted,) = torch.autograd.grad(run.scores[0, 3], probe)
    assert float(wanted.abs().max()) > 0
    torch.testing.assert_close(found.gradient, wanted, rtol=1e-10, atol=1e-14)
    assert found.score == pytest.approx(float(run.scores[0, 3]), rel=1e-12)
    assert torch.equal(found.spikes, run.spikes[:, 0].to(torch.uint8))
    assert torch.equal(found.delays, model.delay_steps(torch.tensor([2]))[0])
    if variant == "plus":
        assert torch.equal(found.relation_weights, model.relation_weights(torch.tensor([2]))[0])
    else:
        assert found.relation_weights is None


def test_auto_takes_the_kernels_where_they_can_run(monkeypatch):
    calls = []
    fused = message_fused.propagate_fused
    monkeypatch.setattr(message_fused, "propagate_fused", lambda *a, **b: calls.append(1) or fused(*a, **b))
    reasoner().run(graph_of(), *batch())
    assert len(calls) == 1
    reasoner(backend="torch").run(graph_of(), *batch())
    reasoner(variant="plus_full").run(graph_of(), *batch())
    assert len(calls) == 1
    with pytest.raises(ValueError, match="bfloat16"):
        reasoner(backend="fused", dtype=torch.bfloat16).run(graph_of(), *batch())


MEMORY = """
import sys, threading, psutil
import numpy as np, torch
from lava_snnlearn.graphs import Graph
from lava_snnlearn.networks import GraphReasoner
torch.set_num_threads(1)
def step(nodes, edges, batch, delay_grad):
    rng = np.random.default_rng(0)
    graph = Graph(nodes, 4, rng.integers(nodes, size=edges), rng.integers(4, size=edges), rng.integers(nodes, size=edges))
    model = GraphReasoner(4, width=16, steps=12, delay_grad=delay_grad, backend="fused")
    source = torch.arange(batch)
    process, done = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]
    def watch():
        while not done.wait(0.002):
            seen.append(process.memory_info().rss)
    watcher = threading.Thread(target=watch)
    watcher.start()
    model(graph, source, source % 4, torch.zeros(batch, 1, dtype=torch.int64)).sum().backward()
    done.set()
    watcher.join()
    return max(seen) - seen[0]
step(10, 10, 1, "trace")
step(10, 10, 1, "exact")
print(step(10_000, 50_000, 12, sys.argv[1]))
"""


@pytest.mark.parametrize("delay_grad", ["exact", "trace"])
def test_memory_is_as_stated(delay_grad):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, delay_grad], capture_output=True, text=True, env=environment, check=True
    )
    stated = memory_estimate((10_000, 50_000), 16, steps=12, batch=12, relations=4, delay_grad=delay_grad, threads=1)
    assert stated > 100e6
    assert 0.75 * stated < int(done.stdout) < 1.1 * stated


def test_memory_statement_by_hand():
    graph = graph_of()
    pairs, (b, t, n, d) = len(graph.pair_source), (5, 7, N, 6)
    tables = b * R * (d * (4 * 4 + 1) + 8 * 5)
    wiring = 4 * (graph.edges + 4 * pairs)
    kept = b * t * n * (4 * d + 8)
    assert memory_estimate(graph, d, steps=t, batch=b, threads=2) == (
        kept + 2 * b * n * d * 4 + tables + wiring + 2 * n * d * 4 * (6 + 6)
    )
    assert memory_estimate(graph, d, steps=t, batch=b, threads=9, training=False) == (
        8 * b * t * n + b * n * d * 4 + tables + wiring + 3 * b * n * d * 4
    )
    model = reasoner(hop=2, delay_grad="trace", width=d, steps=t)
    assert model.memory(graph, b) == memory_estimate(graph, d, steps=t, batch=b, hop=2, delay_grad="trace", dtype=torch.float64)
    assert model.memory(graph, b, training=False) < model.memory(graph, b)
    per_edge = [memory_estimate((1000, edges), 32, steps=10, batch=8) for edges in (10_000, 20_000)]
    assert per_edge[1] - per_edge[0] == 10_000 * 20  # indices only: no term with D, T or the batch
    with pytest.raises(ValueError, match="batch"):
        memory_estimate(graph, 4, steps=3, batch=0)


@pytest.mark.parametrize("training", [True, False])
def test_more_than_the_machine_holds_is_refused_with_the_numbers_before_it_is_taken(training):
    graph = Graph(1_000_000, R, [0, 1], [0, 1], [1, 2])
    model = reasoner(width=64, steps=100, dtype=torch.float32)
    many = torch.zeros(1, dtype=torch.int64).expand(100_000)
    with torch.set_grad_enabled(training), pytest.raises(MemoryError, match=r"100000 queries on 1000000 nodes.* GB.*fewer"):
        model.run(graph, many, many)
