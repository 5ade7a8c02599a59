"""The reasoner's emulator against plain Python integers, neuron by neuron and edge by edge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.fixed_point.arithmetic import lif_step
from lava_snnlearn.fixed_point.reasoner import FixedReasoner
from lava_snnlearn.fixed_point.reasoner_emulator import emulate_reasoner, pair_scores
from lava_snnlearn.fixed_point.reasoner_head import FixedHead
from lava_snnlearn.fixed_point.reasoner_kernels import advance
from lava_snnlearn.graphs import Graph
from lava_snnlearn.testing.graphs import random_graph

PROOF = settings(deadline=None, derandomize=True, max_examples=60)
TOP = 8_388_607


def leaked(value, constant):
    magnitude = abs(value) * (4096 - constant) // 4096
    return magnitude if value >= 0 else -magnitude


def lif(u, v, a, fixed, bias):
    """Lava's LIF: (spike, u, v, wrapped, clipped)."""
    u = leaked(u, fixed.du + 1) + 64 * a
    wrapped = not -TOP - 1 < u <= TOP + 1
    if wrapped:
        u += 16_777_216 if u < 0 else -16_777_216
    v = leaked(v, fixed.dv) + u + bias
    kept = max(-TOP, min(TOP, v))
    spike = kept > 64 * fixed.vth
    return spike, u, 0 if spike else kept, wrapped, kept != v


def reference(fixed, edges, nodes, source, query):
    """Spikes and membranes [T][N][D] of one query, and how many registers wrapped and were clipped."""
    width = fixed.width
    delays = fixed.delays[query if len(fixed.delays) > 1 else 0].tolist()
    omega = None
    if fixed.relation_weight is not None:
        omega = fixed.relation_weight[query if len(fixed.relation_weight) > 1 else 0].tolist()
    weight = fixed.weight.tolist()

    def synapse(r, m, k):
        if fixed.mapping == "staged":
            return weight[m][k] * (1 if omega is None else omega[r][k])
        if omega is None:
            return weight[m][k]
        halves, rest = divmod(weight[m][k] * omega[r][k], 2 ** (fixed.weight_shift + 1))
        return 2 * (halves + (rest >= 2**fixed.weight_shift))

    hop = {"exact": 1, "staged": 2}[fixed.mapping]
    u, v = ([[0] * width for _ in range(nodes)] for _ in range(2))
    spikes, membranes, wraps, clips = [], [], 0, 0
    for t in range(fixed.steps):
        arriving = [[0] * width for _ in range(nodes)]
        if t:
            for start, r, end in edges:
                for k in range(width):
                    sent = t - hop - delays[r][k]
                    if sent >= 0 and spikes[sent][start][k]:
                        for m in range(width):
                            arriving[end][m] += synapse(r, m, k)
            for n in range(nodes):
                for m in range(width):
                    if fixed.offset is not None:
                        arriving[n][m] += int(fixed.offset[m]) * 2**fixed.offset_exp
                    if fixed.self_weight is not None:
                        own = sum(int(fixed.self_weight[m, k]) for k in range(width) if spikes[t - 1][n][k])
                        arriving[n][m] += own * 2**fixed.self_exp
        spikes.append([[0] * width for _ in range(nodes)])
        membranes.append([[0] * width for _ in range(nodes)])
        for n in range(nodes):
            for m in range(width):
                bias = int(fixed.bias[query, m]) * 2**fixed.bias_exp if n == source else 0
                spike, u[n][m], v[n][m], wrapped, clipped = lif(u[n][m], v[n][m], arriving[n][m], fixed, bias)
                spikes[t][n][m], membranes[t][n][m] = int(spike), v[n][m]
                wraps, clips = wraps + wrapped, clips + clipped
    return spikes, membranes, wraps, clips


def score(fixed, features, query):
    head = fixed.head
    total = head.output_bias
    for j, row in enumerate(head.hidden_weight.tolist()):
        hidden = int(head.hidden_bias[query, j]) + sum(w * h for w, h in zip(row, features, strict=True))
        total += int(head.output_weight[j]) * ((max(hidden, 0) + 2**head.shift // 2) // 2**head.shift)
    return total


def random_reasoner(rng, mapping, *, relations=3, width=3, plus=False, shared=False, **changes):
    def even(shape, low=-128, high=128):
        return 2 * rng.integers(low, high, shape)

    rows = 1 if shared else relations
    fine = plus and mapping == "exact"
    bias = rng.integers(-500, 4000, (relations, width))
    bias[:, 0] = 3500  # 7000 reach the threshold, 6400, at once
    fields = {
        "mapping": mapping,
        "relations": relations,
        "width": width,
        "steps": 9,
        "max_delay": 3,
        "scale": 60,
        "weight": rng.integers(-(200 << 4), 200 << 4, (width, width)) if fine else even((width, width)),
        "delays": rng.integers(0, 4, (rows, relations, width)),
        "bias": bias,
        "bias_exp": 1,
        "vth": 100,
        "du": 905,
        "dv": 906,
        "decode": rng.integers(0, 800, 9),
        "head": FixedHead(
            rng.integers(-128, 128, (2 * width, width)),
            rng.integers(-(10**5), 10**5, (relations, 2 * width)),
            3,
            rng.integers(-128, 128, 2 * width),
            int(rng.integers(-(10**5), 10**5)),
        ),
        "self_weight": even((width, width)) if plus else None,
        "self_exp": 1 if plus else 0,
        "offset": even(width),
        "offset_exp": 1,
    }
    if plus:
        fields["relation_weight"] = (
            rng.integers(-320, 320, (rows, relations, width)) if fine else even((rows, relations, width), -9, 9)
        )
        fields["weight_shift"] = 12 if fine else 0
    return FixedReasoner(**(fields | changes))


def graph_of(rng, nodes=5, relations=3, edges=14):
    return random_graph(rng, nodes, relations, edges)


def edge_list(graph):
    return list(zip(graph.source.tolist(), graph.relation.tolist(), graph.target.tolist(), strict=True))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("mapping", ["exact", "staged"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(PROOF, max_examples=15)
def test_emulator_equals_plain_integers(mapping, plus, shared, seed):
    rng = np.random.default_rng(seed)
    fixed, graph = random_reasoner(rng, mapping, plus=plus, shared=shared), graph_of(rng)
    source, query = rng.integers(5, size=4), rng.integers(3, size=4)
    trace = emulate_reasoner(fixed, graph, source, query, record="all")
    wraps = clips = 0
    for b in range(4):
        spikes, membranes, wrapped, clipped = reference(fixed, edge_list(graph), 5, source[b], query[b])
        wraps, clips = wraps + wrapped, clips + clipped
        np.testing.assert_array_equal(trace.spikes[:, b], spikes)
        np.testing.assert_array_equal(trace.membranes[:, b], membranes)
        features = np.einsum("t,tnk->nk", fixed.decode.astype(int), np.array(spikes))
        np.testing.assert_array_equal(trace.features[b], features)
        assert trace.scores[b].tolist() == [score(fixed, row, query[b]) for row in features.tolist()]
        np.testing.assert_array_equal(trace.spike_counts[b], np.sum(spikes, axis=(0, 2)))
    assert (trace.wrapped, trace.saturated) == (wraps, clips)
    assert 0 < trace.spikes.mean() < 1


def test_wrapped_currents_and_clipped_membranes_are_counted():
    rng = np.random.default_rng(0)
    fixed = random_reasoner(
        rng,
        "staged",
        width=2,
        relation_weight=np.full((1, 3, 2), 254),
        weight=[[254, 254], [-254, -254]],
        offset=None,
        offset_exp=0,
    )
    graph = Graph(3, 3, [0, 0, 0], [0, 0, 1], [1, 1, 2])
    trace = emulate_reasoner(fixed, graph, [0], [0], record="all")
    spikes, membranes, wraps, clips = reference(fixed, edge_list(graph), 3, 0, 0)
    np.testing.assert_array_equal(trace.spikes[:, 0], spikes)
    np.testing.assert_array_equal(trace.membranes[:, 0], membranes)
    assert (trace.wrapped, trace.saturated) == (wraps, clips)
    assert min(wraps, clips) > 0


@pytest.mark.parametrize("du, dv, vth", [(905, 906, 12), (-1, 0, 131_071), (0, 1, 400), (4095, 4096, 0)])
def test_neurons_of_the_kernel_are_lif_step(du, dv, vth):
    rng, shape = np.random.default_rng(8), (3, 5, 40)
    source, bias = np.array([0, 4, 2]), rng.integers(-(1 << 19), 1 << 19, (3, 40))
    where = np.zeros(shape, np.int64)
    where[np.arange(3), source] = bias
    current, membrane = rng.integers(-TOP, TOP + 1, (2, *shape)).astype(np.int32)
    features, counts = np.zeros(shape, np.int64), np.zeros(shape[:2], np.int64)
    active, seen, charged = np.full(shape[:2], -1, np.int32), np.zeros(3, np.int64), np.zeros(shape, np.int32)
    u, v, fired, clips, wraps, worst = current.astype(np.int64), membrane.astype(np.int64), 0, 0, 0, 0
    for t in range(6):
        a = rng.integers(-(1 << 18), (1 << 18) + 1, shape) >> rng.integers(0, 14, shape)
        spikes = np.zeros(shape, np.uint8)
        advance(
            current,
            membrane,
            a.astype(np.int32),
            source,
            bias,
            du,
            dv,
            vth,
            t,
            3,
            spikes,
            charged,
            features,
            counts,
            active,
            seen,
        )
        step = lif_step(u, v, a, du=du, dv=dv, bias=where, vth=vth)
        u, v, fired = step.current, step.membrane, fired + step.spike
        clips, wraps, worst = clips + step.saturated.sum(), wraps + step.wrapped.sum(), max(worst, np.abs(a).max())
        for ours, theirs in ((current, u), (membrane, v), (spikes, step.spike), (charged, step.charged)):
            np.testing.assert_array_equal(ours, theirs)
        assert (active == t).tolist() == step.spike.any(axis=2).tolist()
    np.testing.assert_array_equal(features, 3 * fired)
    np.testing.assert_array_equal(counts, fired.sum(axis=2))
    assert seen.tolist() == [clips, wraps, worst]
    assert wraps > 0


@pytest.mark.parametrize("mapping", ["exact", "staged"])
def test_results_do_not_depend_on_threads_batch_or_record(mapping, monkeypatch):
    rng = np.random.default_rng(1)
    fixed, graph = random_reasoner(rng, mapping, plus=True), graph_of(rng)
    source, query = rng.integers(5, size=23), rng.integers(3, size=23)
    whole = emulate_reasoner(fixed, graph, source, query, record="all", threads=1)
    monkeypatch.setattr("lava_snnlearn.fixed_point.reasoner_emulator.CACHED_NEURONS", 4 * 15)
    split = emulate_reasoner(fixed, graph, source, query, record="all", threads=3)
    for name in vars(whole):
        np.testing.assert_array_equal(getattr(split, name), getattr(whole, name), err_msg=name)
    brief = emulate_reasoner(fixed, graph, source, query)
    assert brief.spikes is None
    assert brief.membranes is None
    assert emulate_reasoner(fixed, graph, source, query, record="spikes").membranes is None
    np.testing.assert_array_equal(brief.scores, whole.scores)


def test_aggregates_are_the_graded_spikes_of_the_second_stage():
    rng = np.random.default_rng(2)
    fixed, graph = random_reasoner(rng, "staged"), graph_of(rng)
    trace = emulate_reasoner(fixed, graph, [0, 3], [1, 2], record="spikes")
    for b, query in enumerate((1, 2)):
        delays, spikes = fixed.delay_table(query), trace.spikes[:, b]
        arrived = set()
        for u, r, v in edge_list(graph):
            for t in range(1, fixed.steps):
                arrived |= {(t, v, k) for k in range(3) if t - 2 - delays[r, k] >= 0 and spikes[t - 2 - delays[r, k], u, k]}
        assert trace.aggregates[b] == len(arrived)
    assert emulate_reasoner(random_reasoner(rng, "exact"), graph, [0], [1]).aggregates is None


def test_pair_scores_add_both_directions():
    rng = np.random.default_rng(3)
    fixed = random_reasoner(rng, "exact", relations=1, homogeneous=True)
    graph = graph_of(rng, nodes=6, relations=1)
    first, second = rng.integers(6, size=9), rng.integers(6, size=9)
    forth = emulate_reasoner(fixed, graph, first, np.zeros(9, int)).features
    back = emulate_reasoner(fixed, graph, second, np.zeros(9, int)).features
    expected = [score(fixed, (forth[b, second[b]] + back[b, first[b]]).tolist(), 0) for b in range(9)]
    assert pair_scores(fixed, graph, first, second).tolist() == expected
    assert pair_scores(fixed, graph, second, first).tolist() == expected
    one = emulate_reasoner(fixed, graph, first, np.zeros(9, int))
    assert one.scores[2, 4] == score(fixed, (2 * forth[2, 4]).tolist(), 0)
    with pytest.raises(ValueError, match="homogeneous"):
        pair_scores(random_reasoner(rng, "exact"), graph_of(rng), [0], [1])


def test_refusals():
    rng = np.random.default_rng(4)
    fixed, graph = random_reasoner(rng, "exact"), graph_of(rng)
    with pytest.raises(LimitError, match="source is 5"):
        emulate_reasoner(fixed, graph, [5], [0])
    with pytest.raises(LimitError, match="query is 3"):
        emulate_reasoner(fixed, graph, [0], [3])
    with pytest.raises(ValueError, match="expected integers"):
        emulate_reasoner(fixed, graph, [], [])
    with pytest.raises(ValueError, match="expected integers"):
        emulate_reasoner(fixed, graph, [0.0], [0])
    with pytest.raises(ValueError, match="one of each"):
        emulate_reasoner(fixed, graph, [0, 1], [0])
    with pytest.raises(ValueError, match="the graph has 4 relations, the reasoner 3"):
        emulate_reasoner(fixed, graph_of(rng, relations=4), [0], [0])
    with pytest.raises(UnknownNameError, match="record"):
        emulate_reasoner(fixed, graph, [0], [0], record="spike")
    with pytest.raises(TypeError, match="quantize a GraphReasoner"):
        emulate_reasoner(object(), graph, [0], [0])
    with pytest.raises(ValueError, match="threads is 0"):
        emulate_reasoner(fixed, graph, [0], [0], threads=0)


def test_sums_beyond_lava_are_refused_with_numbers():
    rng = np.random.default_rng(5)
    fixed = random_reasoner(
        rng,
        "staged",
        width=1,
        weight=np.full((1, 1), 254),
        delays=np.zeros((1, 3, 1), int),
        relation_weight=np.full((1, 3, 1), 254),
        offset=None,
        offset_exp=0,
    )
    many = np.zeros(1000, int)
    star = Graph(2, 3, many, many, many + 1)
    with pytest.raises(LimitError, match="a synaptic sum of step 2 is 64516000 weight units"):
        emulate_reasoner(fixed, star, [0], [0], record="all", threads=1)
    more = np.zeros(40_000, int)
    with pytest.raises(LimitError, match="40000 edges, its synaptic sum may reach 2580640000"):
        emulate_reasoner(fixed, Graph(2, 3, more, more, more + 1), [0], [0])
