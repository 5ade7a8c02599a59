"""ExactReasoner and StagedReasoner against a slow reference, edge by edge and neuron by neuron, in integers and in floats."""

import numpy as np
import pytest
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_snnlearn.graphs import Graph
from lava_snnlearn.lava_backend import guarded, run_config, run_guarded
from lava_snnlearn.processes import ExactReasoner, Recorder, StagedReasoner

STEPS = 12


def toy_graph(seed=0, nodes=6, relations=3, edges=20):
    """Random edges; among them parallel ones of two relations, one fact twice, and a self-loop."""
    rng = np.random.default_rng(seed)
    source, relation, target = (rng.integers(0, count, edges) for count in (nodes, relations, nodes))
    source[:4], relation[:4], target[:4] = [0, 0, 0, 2], [0, 1, 1, 2], [1, 1, 1, 2]
    return Graph(nodes, relations, source, relation, target)


def trunc(value, decay):
    magnitude = (abs(value) * (4096 - decay)) >> 12
    return magnitude if value >= 0 else -magnitude


def reference(graph, p, steps=STEPS, staged=False):
    """Spikes and membranes [steps, N D] of one sample; p holds the arguments of the process. Plain loops, no arrays of Lava."""
    width = np.shape(p["weights"])[-1]
    fixed = np.asarray(p["weights"]).dtype.kind == "i"
    size = graph.nodes * width
    bias = np.broadcast_to(p["bias_mant"], size)
    sent, spikes, membranes = {}, np.zeros((steps, size), int), np.zeros((steps, size))
    u, v = [0] * size, [0] * size
    for t in range(steps):
        arriving = [0] * size
        for e in range(graph.edges):
            src, rel, dst = graph.source[e], graph.relation[e], graph.target[e]
            for k in range(width):
                past = t - 1 - staged - p["delays"][rel][k]
                if not sent.get((past, src * width + k)):
                    continue
                count = 1 if p.get("relation_weights") is None else p["relation_weights"][rel][k]
                for m in range(width):
                    w = p["weights"][rel][m][k] if np.ndim(p["weights"]) == 3 else p["weights"][m][k]
                    arriving[dst * width + m] += w * count
        for n in range(size):
            node, m = divmod(n, width)
            if p.get("self_weights") is not None:
                heard = sum(p["self_weights"][m][k] for k in range(width) if sent.get((t - 1, node * width + k)))
                arriving[n] += heard * 2 ** p.get("self_exp", 0)
            if p.get("offset") is not None and t:
                arriving[n] += p["offset"][m] * 2 ** p.get("offset_exp", 0)
            if fixed:
                u[n] = trunc(u[n], p["du"] + 1) + (int(arriving[n]) << 6)
                v[n] = trunc(v[n], p["dv"]) + u[n] + (int(bias[n]) << p["bias_exp"])
                fires = v[n] > p["vth"] << 6
            else:
                u[n] = u[n] * (1 - p["du"]) + arriving[n]
                v[n] = v[n] * (1 - p["dv"]) + u[n] + bias[n]
                fires = v[n] > p["vth"]
            if fires:
                v[n], sent[t, n], spikes[t, n] = 0, 1, 1
            membranes[t, n] = v[n]
    return spikes, membranes


def chip(graph, width=4, seed=0, staged=False, plus=False, offset=True):
    """Integer arguments with which a good part of the neurons fires."""
    rng = np.random.default_rng(seed)
    injected = np.zeros((graph.nodes, width), int)
    injected[seed % graph.nodes] = rng.integers(60, 200, width)
    p = {
        "weights": 2 * rng.integers(-26, 24, (width, width)),
        "delays": rng.integers(0, 5, (graph.relations, width)),
        "bias_mant": injected.reshape(-1),
        "bias_exp": 6,
        "du": 905,
        "dv": 906,
        "vth": 95,
    }
    if plus and staged:
        p["relation_weights"] = 2 * rng.integers(-2, 4, (graph.relations, width))
    elif plus:
        p["weights"] = 2 * rng.integers(-22, 30, (graph.relations, width, width))
    if plus:
        p["self_weights"], p["self_exp"] = 2 * rng.integers(-5, 5, (width, width)), 2
    if offset:
        p["offset"], p["offset_exp"] = 2 * rng.integers(-2, 3, width), 1
    return p


def real(p):
    """The same arguments in real units, threshold 2."""
    scale = 2 / p["vth"]
    floats = {name: np.asarray(p[name]) * scale for name in ("weights", "self_weights", "offset", "bias_mant") if name in p}
    if "relation_weights" in p:
        floats["relation_weights"] = p["relation_weights"] * 1.0
    return {"delays": p["delays"], "du": 1 - np.exp(-1 / 4), "dv": 1 - np.exp(-1 / 4), "vth": 2.0, **floats}


def run(process_class, graph, p, samples=2, tag="fixed_pt", fast=True):
    """Spikes and membranes [samples, STEPS, N D] of equal samples, one after the other."""
    process = process_class(graph=graph, reset_interval=STEPS, **p)
    recorder = Recorder(shape=process.s_out.shape, steps=samples * STEPS)
    process.s_out.connect(recorder.s_in)
    recorder.v_ref.connect_var(process.v)
    run_guarded(process, samples * STEPS, run_config(tag, fast))
    return (rows.reshape(samples, STEPS, -1) for rows in (recorder.spikes, recorder.membranes))


VARIANTS = [{}, {"plus": True}, {"offset": False}]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("process_class", [ExactReasoner, StagedReasoner])
def test_integers_equal_the_reference(process_class, variant):
    """Two samples: the second starts afresh, although spikes of the first are in flight."""
    graph, staged = toy_graph(1), process_class is StagedReasoner
    p = chip(graph, seed=1, staged=staged, **variant)
    expected_spikes, expected_membranes = reference(graph, p, staged=staged)
    spikes, membranes = run(process_class, graph, p)
    for sample in range(2):
        assert np.array_equal(spikes[sample], expected_spikes)
        assert np.array_equal(membranes[sample], expected_membranes)
    assert 0.05 < expected_spikes.mean() < 0.6
    assert expected_spikes[-5:].any()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("process_class", [ExactReasoner, StagedReasoner])
def test_floats_equal_the_reference(process_class, variant):
    graph, staged = toy_graph(1), process_class is StagedReasoner
    p = real(chip(graph, seed=1, staged=staged, **variant))
    expected_spikes, expected_membranes = reference(graph, p, staged=staged)
    spikes, membranes = run(process_class, graph, p, tag="floating_pt")
    for sample in range(2):
        assert np.array_equal(spikes[sample], expected_spikes)
        assert np.allclose(membranes[sample], expected_membranes, rtol=1e-9, atol=1e-9)
    assert 0.05 < expected_spikes.mean() < 0.6


@pytest.mark.parametrize("process_class", [ExactReasoner, StagedReasoner])
@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
def test_a_plain_run_configuration_is_enough(process_class, tag):
    graph = toy_graph(2)
    p = chip(graph, seed=2, staged=process_class is StagedReasoner, plus=True)
    if tag == "floating_pt":
        p = real(p)
    spikes, _ = run(process_class, graph, p, samples=1, tag=tag, fast=False)
    expected, _ = reference(graph, p, staged=process_class is StagedReasoner)
    assert np.array_equal(spikes[0], expected)


@pytest.mark.parametrize("process_class", [ExactReasoner, StagedReasoner])
def test_another_query_is_set_between_runs(process_class):
    """Delays, weights and bias, without building the graph again."""
    graph, staged = toy_graph(3), process_class is StagedReasoner
    queries = [chip(graph, seed=seed, staged=staged, plus=True) for seed in (3, 4, 5)]
    for p in queries:  # these two are of the network, not of a query
        p["self_weights"], p["offset"] = queries[0]["self_weights"], queries[0]["offset"]
    own = "relation_weights" if staged else "weights"
    process = process_class(graph=graph, reset_interval=STEPS, max_delay=4, **queries[0])
    recorder = Recorder(shape=process.s_out.shape, steps=3 * STEPS)
    process.s_out.connect(recorder.s_in)
    with guarded(process, Loihi2SimCfg(select_tag="fixed_pt")) as network:
        for p in queries:
            p["weights"] = queries[0]["weights"] if staged else p["weights"]
            process.bias_mant.set(p["bias_mant"])
            process.delays.set(p["delays"].reshape(-1))
            getattr(process, own).set(p[own].reshape(-1))
            network.run(STEPS)
        membranes = process.v.get()
    spikes = recorder.spikes.reshape(3, STEPS, -1)
    for number, p in enumerate(queries):
        expected, expected_membranes = reference(graph, p, staged=staged)
        assert np.array_equal(spikes[number], expected)
    assert np.array_equal(membranes, expected_membranes[-1])
    assert len({rows.tobytes() for rows in spikes}) == 3


def test_without_reset_the_sample_goes_on():
    graph = toy_graph()
    p = chip(graph)
    process = ExactReasoner(graph=graph, **p)
    recorder = Recorder(shape=process.s_out.shape, steps=30)
    process.s_out.connect(recorder.s_in)
    run_guarded(process, 30, run_config("fixed_pt"))
    assert np.array_equal(recorder.spikes, reference(graph, p, steps=30)[0])


REFUSED = [
    ({"weights": np.zeros((4, 3), int)}, ValueError, ["weights", "(4, 3)"]),
    ({"weights": np.full((4, 4), 300)}, ValueError, ["weights", "300", "254"]),
    ({"weights": np.full((4, 4), 7)}, ValueError, ["weights", "7", "even"]),
    ({"weights": np.ones((4, 4))}, TypeError, ["weights", "float64", "integers (chip units)"]),
    ({"weights": np.full((4, 4), "a")}, TypeError, ["weights"]),
    ({"self_weights": np.zeros((4,), int)}, ValueError, ["self_weights", "(4,)"]),
    ({"offset": np.zeros(5, int)}, ValueError, ["offset", "(5,)"]),
    ({"delays": np.zeros((3, 4))}, TypeError, ["delays", "float64"]),
    ({"delays": np.zeros((2, 4), int)}, ValueError, ["delays", "(2, 4)", "(3, 4)"]),
    ({"delays": np.full((3, 4), -1)}, ValueError, ["delays", "-1"]),
    ({"delays": np.full((3, 4), 63)}, ValueError, ["max_delay", "63", "62"]),
    ({"max_delay": 1, "delays": np.full((3, 4), 2)}, ValueError, ["delays", "2", "max_delay"]),
    ({"du": 4096}, ValueError, ["du", "4096"]),
    ({"du": 0.5}, TypeError, ["du", "0.5", "integers"]),
    ({"dv": 4097}, ValueError, ["dv", "4097"]),
    ({"vth": 131072}, ValueError, ["vth", "131072"]),
    ({"vth": np.full(24, 9)}, ValueError, ["vth", "(24,)"]),
    ({"bias_mant": 4096}, ValueError, ["bias_mant", "4096"]),
    ({"bias_mant": np.zeros(5, int)}, ValueError, ["bias_mant", "(5,)"]),
    ({"bias_exp": 8}, ValueError, ["bias_exp", "8"]),
    ({"self_exp": -1}, ValueError, ["self_exp", "-1"]),
    ({"offset_exp": 8}, ValueError, ["offset_exp", "8"]),
    ({"reset_interval": 0}, ValueError, ["reset_interval", "0"]),
    ({"graph": "umls"}, TypeError, ["graph", "Graph"]),
]


@pytest.mark.parametrize("bad, error, texts", REFUSED, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("process_class", [ExactReasoner, StagedReasoner])
def test_refusals(process_class, bad, error, texts):
    graph = toy_graph()
    with pytest.raises(error) as caught:
        process_class(**{"graph": graph, **chip(graph), **bad})
    for text in [process_class.__name__, *texts]:
        assert text in str(caught.value)


def test_the_staged_reasoner_weighs_by_relation_in_its_first_stage_only():
    graph = toy_graph()
    with pytest.raises(ValueError, match="weights has shape"):
        StagedReasoner(graph=graph, **{**chip(graph), "weights": np.zeros((3, 4, 4), int)})
    with pytest.raises(ValueError, match="relation_weights"):
        StagedReasoner(graph=graph, **chip(graph), relation_weights=np.zeros((4, 3), int))
