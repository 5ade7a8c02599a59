"""NIR files that are damaged, foreign, forged or inconsistent: clear errors, no hang, nothing executed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from lava_snnlearn.checks import LimitError
from lava_snnlearn.files import FileFormatError
from lava_snnlearn.interchange import from_nir, to_nir
from lava_snnlearn.interchange.nir_stages import back_edges, found_in
from lava_snnlearn.interchange.nir_tree import flat_graph, tree_of

DT = 1e-4


def _lif(shape: tuple[int, ...]) -> Any:
    full = np.ones(shape)
    return nir.LIF(tau=4 * DT * full, r=full, v_leak=0 * full, v_threshold=0.25 * full, v_reset=0 * full)


def _loop() -> Any:
    """A recurrent layer as a subgraph."""
    nodes = {
        "input": nir.Input({"input": np.array([4])}),
        "lif": _lif((4,)),
        "w_rec": nir.Linear(np.ones((4, 4))),
        "output": nir.Output({"output": np.array([4])}),
    }
    return nir.NIRGraph(nodes, [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")])


def _graph() -> Any:
    """A bit of everything."""
    nodes = {
        "input": nir.Input({"input": np.array([2, 4, 4])}),
        "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "conv": nir.Conv2d((2, 2), np.ones((3, 2, 2, 2)), 1, 0, 1, 1, np.zeros(3)),
        "maps": _lif((3, 1, 1)),
        "flat": nir.Flatten({"input": np.array([3, 1, 1])}, 0, -1),
        "late": nir.Delay(np.array([0, DT, 2 * DT])),
        "dense": nir.Affine(np.ones((4, 3)), np.zeros(4)),
        "loop": _loop(),
        "out": nir.Linear(np.ones((2, 4))),
        "output": nir.Output({"output": np.array([2])}),
    }
    names = list(nodes)
    return nir.NIRGraph(nodes, [*pairwise(names)], metadata={"steps": 5})


def _file(tmp_path: Path) -> Path:
    path = tmp_path / "net.nir"
    nir.write(path, _graph())
    return path


def test_the_graph_is_sound(tmp_path: Path) -> None:
    network = from_nir(_file(tmp_path))
    assert [layer.shape for layer in network.layers] == [(3, 1, 1), (4,)]
    assert network.steps == 5


def test_compressed_arrays_of_large_maps(tmp_path: Path) -> None:
    """gzip shrinks the equal parameters of many neurons by several hundred times."""
    shape = (64, 64, 64)
    graph = nir.NIRGraph(
        {
            "input": nir.Input({"input": np.array([1, 64, 64])}),
            "conv": nir.Conv2d((64, 64), np.ones((64, 1, 3, 3)), 1, 1, 1, 1, np.zeros(64)),
            "lif": _lif(shape),
            "pool": nir.AvgPool2d(np.array([64, 64]), np.array([64, 64]), np.array([0, 0])),
            "flat": nir.Flatten({"input": np.array([64, 1, 1])}, 0, -1),
            "out": nir.Linear(np.ones((2, 64))),
            "output": nir.Output({"output": np.array([2])}),
        },
        [("input", "conv"), ("conv", "lif"), ("lif", "pool"), ("pool", "flat"), ("flat", "out"), ("out", "output")],
    )
    path = tmp_path / "maps.nir"
    nir.write(path, graph)
    assert 5 * 8 * np.prod(shape) > 64 * path.stat().st_size
    assert from_nir(path, steps=2).layers[0].shape == shape


def test_damaged_files_are_refused(tmp_path: Path, damaged: Any) -> None:
    whole = _file(tmp_path).read_bytes()
    rng = np.random.default_rng(0)
    broken = tmp_path / "broken.nir"
    for _ in range(6):
        broken.write_bytes(whole[: int(rng.integers(0, len(whole) - 1))])
        with pytest.raises(FileFormatError, match=r"broken\.nir"):
            from_nir(broken)
    refused = 0
    for seed in range(1, 13):
        broken.write_bytes(damaged(whole, seed))
        try:
            from_nir(broken)
        except (FileFormatError, LimitError) as error:  # the latter for numbers that changed
            refused += "broken.nir" in str(error)
    assert refused > 6
    with pytest.raises(FileFormatError, match="does not exist"):
        from_nir(tmp_path / "none.nir")


def test_links_out_of_the_file_are_refused(tmp_path: Path) -> None:
    path, other = _file(tmp_path), tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["weight"] = np.ones((2, 4))
    with h5py.File(path, "r+") as file:
        del file["node/nodes/out/weight"]
        file["node/nodes/out/weight"] = h5py.ExternalLink(str(other), "/weight")
    with pytest.raises(FileFormatError, match="link"):
        from_nir(path)


def test_subgraphs_in_circles_are_refused(tmp_path: Path) -> None:
    path = _file(tmp_path)
    with h5py.File(path, "r+") as file:
        file["node/nodes/loop/nodes/again"] = file["node/nodes/loop"]
    with pytest.raises(FileFormatError, match="linked twice"):
        from_nir(path)
    graph = _graph()
    graph.nodes["loop"].nodes["again"] = graph
    with pytest.raises(FileFormatError, match="hold itself"):
        from_nir(graph)


@pytest.mark.parametrize("metadata", [{"steps": 1.5}, {"steps": "many"}, {"steps": np.ones(3)}, {"steps": 2, "dt": [1, 2]}])
def test_metadata_that_means_nothing(metadata: dict[str, Any]) -> None:
    graph = _graph()
    graph.metadata = metadata
    with pytest.raises(FileFormatError, match="in the metadata"):
        from_nir(graph)


def test_writing_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = from_nir(_graph(), reset="zero")
    path = tmp_path / "net.nir"
    to_nir(network, path)
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nir, "write", full)
    with pytest.raises(OSError, match="No space"):
        to_nir(network, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.nir"]


# Trees: what a file holds, before it is a network.


def _tree() -> dict[str, Any]:
    return tree_of(_graph())


def _read(tree: Any) -> Any:
    return found_in(flat_graph(tree), DT, None)


def _node(name: str, **values: Any) -> Callable[[Any], None]:
    return lambda tree: tree["nodes"][name].update(values)


def _edges(*more: tuple[str, str], without: tuple[str, str] | None = None) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        tree["edges"] = [edge for edge in tree["edges"] if edge != without] + list(more)

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (_node("conv", type="Conv3d"), "'conv' has the type 'Conv3d'.*Supported: .*LIF"),
        (_node("conv", type=None), "'conv' has no type"),
        (_node("dense", weight=None), "'dense' .*lacks weight"),
        (_node("dense", weight="text"), "dense.*expected numbers"),
        (_node("dense", weight=[[1.0], [1.0, 2.0]]), "dense.*numbers"),
        (_node("dense", weight=np.zeros((0, 3))), "0 values"),
        (_node("dense", weight=np.full((4, 3), np.nan)), "NaN"),
        (_node("dense", weight=np.ones((4, 5))), r"weight \(4, 5\) does not fit"),
        (_node("dense", bias=np.ones(5)), r"bias \(5,\) does not fit"),
        (_node("conv", stride=np.array([0, 1])), "stride"),
        (_node("conv", stride=1.5), "stride is 1.5"),
        (_node("conv", padding="everything"), "padding"),
        (_node("conv", groups=3), "conv"),
        (_node("conv", weight=np.ones((3, 2, 9, 9))), "larger than the padded image"),
        (_node("pool", kernel_size=np.array([9, 9])), "kernel_size"),
        (_node("pool", padding=np.array([2, 2])), "padding"),
        (_node("maps", tau=np.ones((3, 2, 5))), "do not fit"),
        (_node("maps", r=np.ones((2, 1, 1))), "different shapes"),
        (_node("flat", start_dim=7), "start_dim"),
        (_node("maps", type=np.ones(3)), "no type"),
        (_node("maps", v_threshold=1e300), "single precision"),
        (_node("maps", metadata={"reset": "halve"}), "reset in the metadata"),
        (_node("maps", metadata={"start": "high"}), "start in the metadata"),
        (_node("dense", weight=np.full((4, 3), 1e200)), "at most 1e"),
        (_node("late", delay=np.array([-DT])), "whole steps"),
        (_node("input", shape=np.array([2, 4])), "without batch and time"),
        (_node("input", shape=np.array([1 << 40, 1 << 40, 1 << 40])), "shape"),
        (_node("input", shape=np.array([3, 4, 4])), "pool|conv"),
        (_node("output", shape=np.array([3])), "do not fit"),
        (_edges(("nowhere", "out")), "no node 'nowhere'"),
        (_edges(("input", "pool")), "twice"),
        (_edges(without=("input", "pool")), "nothing leads"),
        (_edges(without=("out", "output")), "nothing leads to"),
        (_edges(("out", "dense"), ("dense", "out"), without=("loop", "out")), "loop without neurons|fit"),
        (lambda tree: tree.update(edges=[("a",)]), "pairs of names"),
        (lambda tree: tree.update(edges=3), "pairs of names"),
        (lambda tree: tree.update(nodes={}), "no nodes"),
        (lambda tree: tree.update(type="Graph"), "no NIRGraph"),
        (lambda tree: tree["nodes"].pop("output"), "0 Output|no node 'output'"),
        (lambda tree: tree["nodes"].update(more=tree["nodes"]["input"]), "2 Input"),
    ],
)
def test_inconsistent_graphs_are_refused(change: Callable[[Any], Any], message: str) -> None:
    tree = _tree()
    _read(tree)
    change(tree)
    with pytest.raises(ValueError, match=message):
        _read(tree)


def test_seeded_mutations_raise_nothing_but_clear_errors() -> None:
    """Numbers, shapes, types and names of nodes are exchanged at random."""
    rng = np.random.default_rng(0)
    values: list[Any] = [
        None, -1, 0, 1.5, 1e300, -1e300, np.nan, "text", "same", b"\x00", [], [[1], [1, 2]], {}, {"type": "LIF"}, True,
        np.zeros(0), np.ones(3), np.ones((4, 3)), np.ones((2, 2, 2, 2, 2)), np.array(["a"]), np.array([2**62, 2**62, 4]),
    ]  # fmt: skip
    refused = 0
    for _ in range(600):
        tree = copy.deepcopy(_tree())
        places = [tree["nodes"], tree["nodes"]["loop"]["nodes"]]
        for _ in range(int(rng.integers(1, 4))):
            nodes = places[int(rng.random() < 0.3)]
            name = list(nodes)[rng.integers(len(nodes))]
            keys = list(nodes[name]) if isinstance(nodes[name], dict) else []
            where, key = (nodes[name], keys[rng.integers(len(keys))]) if keys and rng.random() < 0.9 else (nodes, name)
            where[key] = values[rng.integers(len(values))]
        try:
            _read(tree)
        except (FileFormatError, LimitError):
            refused += 1
    assert refused > 300


def _chain(shape: tuple[int, ...], *nodes: dict[str, Any]) -> dict[str, Any]:
    """Input, these nodes and a LIF."""
    one = np.ones(1)
    lif = {"type": "LIF", "tau": 4 * DT * one, "r": one, "v_leak": 0 * one, "v_threshold": one}
    entries = [{"type": "Input", "shape": np.array(shape)}, *nodes, lif, {"type": "Output", "shape": np.array([1])}]
    named = {f"n{index}": entry for index, entry in enumerate(entries)}
    return {"type": "NIRGraph", "nodes": named, "edges": [*pairwise(named)]}


def _conv(weight: Any, **options: Any) -> dict[str, Any]:
    return {
        "type": "Conv2d", "weight": weight, "bias": np.zeros(len(weight)), "stride": 1, "padding": 0, "dilation": 1, "groups": 1
    } | options  # fmt: skip


@pytest.mark.parametrize(
    "tree",
    [
        _chain((1 << 20,)),
        _chain((1 << 20,), {"type": "Delay", "delay": np.array(DT)}),
        _chain((1 << 14,), {"type": "Delay", "delay": DT * np.arange(1 << 14)}),
        _chain((1 << 14, 1, 1), _conv(np.ones((1 << 14, 1, 1, 1)), groups=1 << 14)),
        _chain((1 << 14, 2, 2), {"type": "SumPool2d", "kernel_size": 2, "stride": 2, "padding": 0}),
        _chain(
            (8, 512, 512), {"type": "AvgPool2d", "kernel_size": 512, "stride": 512, "padding": 0}, _conv(np.ones((64, 8, 1, 1)))
        ),
        _chain((1, 4096, 4096), _conv(np.ones((1, 1, 1, 1))), {"type": "Flatten", "start_dim": 0, "end_dim": -1}),
        _chain((1, 1, 4001), _conv(np.ones((8, 1, 1, 8001)), padding=np.array([0, 4000]))),
        _chain((1, 4000, 4000), _conv(np.ones((64, 1, 2, 2)), dilation=3000)),
        _chain((1, 4096, 4096), *[_conv(np.ones((1, 1, 1, 1))), _chain((1,))["nodes"]["n1"]] * 12),
    ],
    ids=range(10),
)
def test_small_files_of_huge_networks_are_refused_at_once(tree: dict[str, Any]) -> None:
    """A few numbers that mean terabytes."""
    with pytest.raises(ValueError, match=r"more than|does not fit|would be a matrix"):
        _read(tree)


def test_which_edge_closes_a_loop() -> None:
    order, back = back_edges("in", {"in": ["a"], "a": ["a", "b"], "b": ["c"], "c": ["a", "b"]})
    assert order == ["in", "a", "b", "c"]
    assert back == {("a", "a"), ("c", "a"), ("c", "b")}
