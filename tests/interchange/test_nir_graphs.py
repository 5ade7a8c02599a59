"""NIR graphs of other tools: what their nodes mean, written out as slow loops, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np
import pytest
import torch

from lava_snnlearn.checks import LimitError, UnknownNameError
from lava_snnlearn.interchange import fixed_from_nir, from_nir

DT = 1e-4
STEPS = 24


def _spikes(n: int, batch: int = 6, rate: float = 0.4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return (torch.rand(STEPS, batch, n, generator=generator) < rate).float()


def _graph(*nodes: Any, shape: tuple[int, ...]) -> Any:
    """A chain from an Input of this shape."""
    named = {"input": nir.Input({"input": np.array(shape)}), **{f"n{index}": node for index, node in enumerate(nodes)}}
    names = [*named, "output"]
    size = np.shape(nodes[-1].v_threshold)
    # nir's own check takes the channels of a group for those of the image.
    return nir.NIRGraph({**named, "output": nir.Output({"output": np.array(size)})}, [*pairwise(names)], type_check=False)


def _lif(shape: tuple[int, ...], leak: float = 0.25, level: Any = 1.0) -> Any:
    full = np.ones(shape)
    return nir.LIF(tau=full * DT / leak, r=full / leak, v_leak=0 * full, v_threshold=full * level, v_reset=0 * full)


def _hard(current: torch.Tensor, level: Any, leak: float = 0.25) -> torch.Tensor:
    """Spikes [T, B, ...] for a current, by a loop."""
    membrane = torch.zeros_like(current[0])
    spikes = []
    for now in current:
        membrane = (1 - leak) * membrane + now
        spikes.append((membrane > level).to(current.dtype))
        membrane = membrane * (1 - spikes[-1])
    return torch.stack(spikes)


def test_pools_groups_dilation_and_flatten() -> None:
    rng = np.random.default_rng(0)
    pair = np.array([2, 2])
    weight = rng.normal(size=(4, 1, 2, 2)).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32) * 0.1
    dense = rng.normal(size=(3, 36)).astype(np.float32)
    graph = _graph(
        nir.SumPool2d(pair, pair, np.array([0, 0])),
        nir.Conv2d((4, 4), weight, 1, 1, 2, 2, bias),
        _lif((4, 4, 4)),
        nir.AvgPool2d(np.array([2, 2]), np.array([1, 1]), np.array([0, 0])),
        nir.Flatten({"input": np.array([4, 3, 3])}, 0, -1),
        nir.Linear(dense),
        _lif((3,)),
        shape=(2, 8, 8),
    )
    x = (torch.rand(STEPS, 5, 128, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    network = from_nir(graph, steps=STEPS)
    images = x.view(-1, 2, 8, 8)
    pooled = torch.nn.functional.avg_pool2d(images, 2) * 4
    current = torch.nn.functional.conv2d(pooled, torch.from_numpy(weight), torch.from_numpy(bias), 1, 1, 2, 2)
    first = _hard(current.view(STEPS, 5, 4, 4, 4), 1.0)
    smooth = torch.nn.functional.avg_pool2d(first.flatten(0, 1), 2, 1).flatten(1)
    second = _hard((smooth @ torch.from_numpy(dense).T).view(STEPS, 5, 3), 1.0)
    assert torch.equal(network.simulate(x).layers[0].spike, first)
    assert 0.05 < float(second.mean()) < 0.9
    assert torch.equal(network(x), second)
    # An overlapping pool became a matrix of the layer behind; a square pool stays one.
    assert network.layers[0].pool == 2


def test_thresholds_and_resistances_of_their_own() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 6)).astype(np.float32)
    level, resistance = rng.uniform(0.5, 2, 8), rng.uniform(0.5, 2, 8)
    node = _lif((8,), level=level)
    node.r = node.r * resistance
    x = _spikes(6)
    expected = _hard((x.double() @ torch.from_numpy(weight.T).double()) * torch.from_numpy(resistance), torch.from_numpy(level))
    assert torch.equal(from_nir(_graph(nir.Linear(weight), node, shape=(6,)), steps=STEPS)(x), expected.float())


def test_delays_scales_and_integrators_beside_each_other() -> None:
    rng = np.random.default_rng(0)
    first, second = (np.where(rng.random((8, 6)) < 0.5, part, 0) for part in rng.normal(size=(2, 8, 6)) * 1.5)
    second = np.where(first != 0, 0, second)
    scale = rng.uniform(0.5, 1.5, 8)
    full = np.ones(8)
    nodes = {
        "input": nir.Input({"input": np.array([6])}),
        "late": nir.Delay(np.full(6, 3 * DT)),
        "w1": nir.Linear(first),
        "w2": nir.Linear(second),
        "scale": nir.Scale(scale),
        "if": nir.IF(r=full * 0.5, v_threshold=full, v_reset=0 * full),
        "out": nir.Affine(np.eye(2, 8), np.array([0.5, 0.0])),
        "output": nir.Output({"output": np.array([2])}),
    }
    edges = [("input", "w1"), ("input", "late"), ("late", "w2"), ("w1", "scale"), ("w2", "scale"), ("scale", "if")]
    network = from_nir(nir.NIRGraph(nodes, [*edges, ("if", "out"), ("out", "output")]), steps=STEPS)
    x = _spikes(6)
    late = torch.cat([torch.zeros(3, *x.shape[1:]), x[:-3]])
    current = x.double() @ torch.from_numpy(first).T + late.double() @ torch.from_numpy(second).T
    spikes = _hard(current * torch.from_numpy(scale) * 0.5, 1.0, leak=0.0)
    assert 0.05 < float(spikes.mean()) < 0.9
    assert torch.allclose(network(x), (spikes[..., :2] + torch.tensor([0.5, 0.0])).float())


def test_a_rest_other_than_zero_only_shifts_the_membrane() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    node = _lif((4,), level=3.0)
    node.v_leak = node.v_reset = np.full(4, 2.0)
    x = _spikes(6)
    network = from_nir(_graph(nir.Linear(weight), node, shape=(6,)), steps=STEPS)
    assert torch.equal(network(x), _hard(x @ torch.from_numpy(weight.T), 1.0))
    node.v_reset = np.zeros(4)
    with pytest.raises(LimitError, match="v_leak and v_reset"):
        from_nir(_graph(nir.Linear(weight), node, shape=(6,)), steps=STEPS)


def test_reset_by_subtraction_for_tools_that_do_not_say_so() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    graph = _graph(nir.Linear(weight), _lif((4,)), shape=(6,))
    assert from_nir(graph, steps=2).layers[0].neuron.reset == "zero"
    assert from_nir(graph, steps=2, reset="subtract").layers[0].neuron.reset == "subtract"
    with pytest.raises(UnknownNameError, match="subtract"):
        from_nir(graph, steps=2, reset="substract")


def _with(change: Any, *, dense: bool = True) -> Any:
    graph = _graph(nir.Affine(np.ones((4, 6), np.float32), np.zeros(4)), _lif((4,)), shape=(6,)) if dense else None
    return change(graph) or graph


def _set(node: str, **values: Any) -> Any:
    def change(graph: Any) -> None:
        for key, value in values.items():
            setattr(graph.nodes[node], key, value)

    return change


def _late_bias(graph: Any) -> Any:
    nodes = {**graph.nodes, "late": nir.Delay(np.full(4, DT))}
    nodes["n0"].bias = np.ones(4)
    return nir.NIRGraph(nodes, [("input", "n0"), ("n0", "late"), ("late", "n1"), ("n1", "output")])


def _skip(graph: Any) -> Any:
    nodes = {**graph.nodes, "w": nir.Linear(np.ones((4, 4))), "more": _lif((4,)), "skip": nir.Linear(np.ones((4, 6)))}
    edges = [("input", "n0"), ("n0", "n1"), ("n1", "w"), ("w", "more"), ("input", "skip"), ("skip", "more"), ("more", "output")]
    return nir.NIRGraph(nodes, edges)


@pytest.mark.parametrize(
    "change, message",
    [
        (_set("n1", tau=np.array([1, 2, 3, 4]) * DT), "n1.*differs between its neurons"),
        (_set("n1", tau=np.full(4, DT / 2)), "tau is 5e-05 s"),
        (_set("n1", r=np.full(4, -1.0)), "resistance must be above 0"),
        (_set("n1", v_threshold=np.zeros(4)), "v_threshold must lie above v_reset"),
        (_late_bias, "behind a bias"),
        (_skip, "layer2 hears input.*fixed_from_nir"),
    ],
)
def test_graphs_that_mean_something_else_are_refused(change: Any, message: str) -> None:
    with pytest.raises(LimitError, match=message):
        from_nir(_with(change), steps=2)


def test_delays_must_be_whole_steps() -> None:
    graph = _graph(nir.Delay(np.full(6, 1.5 * DT)), nir.Linear(np.ones((4, 6))), _lif((4,)), shape=(6,))
    with pytest.raises(LimitError, match="whole steps"):
        from_nir(graph, steps=2)
    assert from_nir(graph, steps=2, dt=DT / 2).layers[0].delays.limit == 3


def test_bad_arguments() -> None:
    graph = _graph(nir.Linear(np.ones((4, 6))), _lif((4,)), shape=(6,))
    with pytest.raises(ValueError, match="pass steps"):
        from_nir(graph)
    with pytest.raises(ValueError, match="at least 1"):
        from_nir(graph, steps=0)
    with pytest.raises(ValueError, match="dt is 0"):
        from_nir(graph, steps=2, dt=0)
    with pytest.raises(TypeError, match="NIRGraph"):
        from_nir(3, steps=2)  # type: ignore[arg-type]
    with pytest.raises(LimitError, match="8 bits"):
        fixed_from_nir(graph, steps=2, weight_bits=9)
