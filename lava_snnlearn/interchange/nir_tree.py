"""A NIR graph as plain values: from a file or from objects of the ``nir`` package, checked, without subgraphs.

Files are not given to ``nir.read``: it trusts what it finds. They are read as foreign HDF5 (no links, no other files, bounded
memory and time), and every node is checked here before anything is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.files import FileFormatError

NEURONS = {
    "IF": ("r", "v_threshold", "v_reset"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    "LI": ("tau", "r", "v_leak"),
}
"""Nodes with a state, and their fields."""
PLACES = ("Input", "Output")
MAPS = {
    "Linear": ("weight",),
    "Affine": ("weight", "bias"),
    "Conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": ("start_dim", "end_dim"),
    "Scale": ("scale",),
    "Delay": ("delay",),
}
"""Nodes without a state (but for delays), and their fields."""
OPTIONAL = {"v_reset": 0.0, "w_in": 1.0}
_MAX_DEPTH = 8
_MAX_NODES = 10_000
MAX_VALUES = 1 << 27
"""Of the arrays of a file, and of the weights and biases of a network: about 1 GiB in double precision."""


@dataclass(frozen=True)
class Node:
    """A node: ``fields`` are float64 arrays (padding may be a text), ``shape`` that of an Input or Output."""

    name: str
    kind: str
    fields: dict[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()

    @property
    def where(self) -> str:
        """For messages."""
        return f"NIR node {self.name!r} ({self.kind})"


@dataclass
class FlatGraph:
    """All nodes by their full names ("subgraph.node"), the edges between them, its Input and Output, and how many
    values its arrays have."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    input: str = ""
    output: str = ""
    values: int = 0


def tree_of(graph: Any, depth: int = 0) -> dict[str, Any]:
    """A ``nir.NIRGraph`` as the tree that its file would hold.

    Raises:
        FileFormatError: subgraphs that are nested too deep, as those of a graph that holds itself are.
    """
    if depth > _MAX_DEPTH:
        raise FileFormatError(f"NIR graphs are nested deeper than {_MAX_DEPTH} levels; does one of them hold itself?")
    nodes = {
        str(name): tree_of(node, depth + 1) if hasattr(node, "nodes") else node.to_dict() for name, node in graph.nodes.items()
    }
    metadata = graph.metadata if isinstance(graph.metadata, Mapping) else {}
    return {"type": "NIRGraph", "nodes": nodes, "edges": list(graph.edges), "metadata": metadata}


def flat_graph(tree: Any) -> FlatGraph:
    """The graph of a tree, checked.

    Raises:
        FileFormatError: what is missing, of a wrong type or shape, or not known; the message names the node.
    """
    flat = FlatGraph()
    ports = _add(flat, tree, "", 0)
    flat.input, flat.output = ports["Input"], ports["Output"]
    flat.metadata = _mapping(tree.get("metadata", {}))
    return flat


def _add(flat: FlatGraph, tree: Any, prefix: str, depth: int) -> dict[str, str]:
    """Add the nodes and edges of a graph; returns the full names of its Input and Output by kind."""
    what = f"NIR graph {prefix[:-1]!r}" if prefix else "the NIR graph"
    if not _is_graph(tree):
        raise FileFormatError(f"{what} is no NIRGraph")
    if depth > _MAX_DEPTH:
        raise FileFormatError(f"{what} is nested deeper than {_MAX_DEPTH} levels")
    nodes = tree.get("nodes")
    if not isinstance(nodes, Mapping) or not nodes:
        raise FileFormatError(f"{what} has no nodes")
    inner: dict[str, dict[str, str]] = {}
    ports: dict[str, list[str]] = {kind: [] for kind in PLACES}
    for name, entry in nodes.items():
        full = prefix + str(name)
        if _is_graph(entry):
            inner[str(name)] = _add(flat, entry, full + ".", depth + 1)
            continue
        flat.values += sum(value.size for value in _mapping(entry).values() if isinstance(value, np.ndarray))
        if flat.values > MAX_VALUES:
            raise FileFormatError(f"{what} has arrays of more than {MAX_VALUES} values")
        node = _node(full, entry)
        if full in flat.nodes or len(flat.nodes) >= _MAX_NODES:
            raise FileFormatError(f"{node.where} is there twice, or the graph has more than {_MAX_NODES} nodes")
        flat.nodes[full] = node
        if node.kind in PLACES:
            ports[node.kind].append(full)
    if any(len(found) != 1 for found in ports.values()):
        found = ", ".join(f"{len(names)} {kind}" for kind, names in ports.items())
        raise FileFormatError(f"{what} has {found}; supported is one Input and one Output")
    for first, second in _edges(what, tree.get("edges")):
        for end in (first, second):
            if end not in nodes:
                raise FileFormatError(f"{what} has an edge from {first!r} to {second!r}, but no node {end!r}")
        start = inner[first]["Output"] if first in inner else prefix + first
        stop = inner[second]["Input"] if second in inner else prefix + second
        if (start, stop) in flat.edges:
            raise FileFormatError(f"{what} has the edge from {first!r} to {second!r} twice")
        flat.edges.append((start, stop))
    return {kind: found[0] for kind, found in ports.items()}


def _is_graph(tree: Any) -> bool:
    kind = tree.get("type") if isinstance(tree, Mapping) else None
    return isinstance(kind, str) and kind == "NIRGraph"


def _edges(what: str, edges: Any) -> list[tuple[str, str]]:
    """Pairs of names; a file holds them as one list of texts."""
    items: list[Any] = list(edges) if isinstance(edges, (list, tuple, np.ndarray)) else [None]
    if items and all(isinstance(item, str) for item in items) and len(items) % 2 == 0:
        return list(zip(items[::2], items[1::2], strict=True))
    pairs = [tuple(item) for item in items if isinstance(item, Iterable)]
    if len(pairs) != len(items) or any(len(pair) != 2 or not all(isinstance(end, str) for end in pair) for pair in pairs):
        raise FileFormatError(f"{what}: edges must be pairs of names")
    return pairs


def _node(name: str, entry: Any) -> Node:
    kind = entry.get("type") if isinstance(entry, Mapping) else None
    if not isinstance(kind, str):
        raise FileFormatError(f"NIR node {name!r} has no type")
    known = {**NEURONS, **MAPS}
    metadata = _mapping(entry.get("metadata", {}))
    if kind in PLACES:
        return Node(name, kind, {}, metadata, _shape(name, entry.get("shape")))
    if kind not in known:
        supported = ", ".join(sorted((*known, *PLACES, "NIRGraph")))
        raise FileFormatError(f"NIR node {name!r} has the type {kind!r}, which is not supported. Supported: {supported}")
    fields = {key: _values(f"NIR node {name!r} ({kind}): {key}", _given(name, kind, key, entry), key) for key in known[kind]}
    if kind in NEURONS:
        fields = _together(name, kind, fields)
    return Node(name, kind, fields, metadata)


def _given(name: str, kind: str, key: str, entry: Mapping[str, Any]) -> Any:
    value = entry.get(key)
    if value is None and key in OPTIONAL:
        return OPTIONAL[key]
    if value is None:
        raise FileFormatError(f"NIR node {name!r} ({kind}) lacks {key}")
    return value


def _values(where: str, value: Any, key: str) -> Any:
    """A float64 array of finite numbers; a padding may be a text."""
    if isinstance(value, str) and key == "padding" and value in ("same", "valid"):
        return value
    array = _array(where, value)
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise FileFormatError(f"{where} has type {array.dtype} and {array.size} values; expected numbers")
    wide = array.astype(np.float64)
    if not np.isfinite(wide).all():
        raise FileFormatError(f"{where} holds NaN or infinity")
    return wide


def _array(where: str, value: Any) -> NDArray[Any]:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{where} is no array of numbers: {error}") from error


def _together(name: str, kind: str, fields: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Fields of neurons, all of one shape."""
    try:
        spread = np.broadcast_arrays(*fields.values())
    except ValueError as error:
        shapes = ", ".join(f"{key} {value.shape}" for key, value in fields.items())
        raise FileFormatError(f"NIR node {name!r} ({kind}): the parameters have different shapes: {shapes}") from error
    return dict(zip(fields, spread, strict=True))


def _shape(name: str, value: Any) -> tuple[int, ...]:
    """(n,) or (C, H, W); the batch of 1 that norse writes in front is left out."""
    array = _array(f"NIR node {name!r}: shape", value)
    if array.dtype.kind in "iu" and array.ndim == 1 and array.size in (2, 4) and array[0] == 1:
        array = array[1:]
    sizes = array.dtype.kind in "iu" and array.ndim < 2 and array.size in (1, 3)
    if not sizes or (array < 1).any() or _count(array) > 1 << 24:
        raise FileFormatError(
            f"NIR node {name!r}: shape is {value!r}; supported are (n,) and (channels, height, width), without batch and time"
        )
    return tuple(int(side) for side in np.ravel(array))


def _count(shape: NDArray[Any]) -> int:
    """Number of values, as a Python integer, which does not overflow."""
    return math.prod(int(side) for side in np.ravel(shape))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def number_of(where: str, metadata: Mapping[str, Any], key: str, default: float) -> float:
    """A finite number of metadata.

    Raises:
        FileFormatError: it is something else.
    """
    value = _array(f"{where}: {key} in the metadata", metadata.get(key, default))
    if value.dtype.kind not in "iuf" or value.size != 1 or not np.isfinite(value).all():
        raise FileFormatError(f"{where}: {key} in the metadata is {metadata.get(key)!r}; expected a finite number")
    return float(value.flat[0])
