"""From stages to a graph of the ``nir`` package."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count, pairwise
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from lava_snnlearn.checks import LimitError
from lava_snnlearn.fixed_point.graph import INPUT
from lava_snnlearn.fixed_point.lowering import Link, Stage
from lava_snnlearn.interchange.nir_pools import pooled_kernel, ungrouped
from lava_snnlearn.interchange.nir_stages import back_edges
from lava_snnlearn.interchange.nir_units import Cell, fields_of

OUTPUT = "output"
Shape = tuple[int, ...]


def graph_of(
    stages: Sequence[Stage],
    input_shape: Shape,
    filters: Mapping[str, float],
    dt: float,
    dtype: type[np.floating[Any]],
    metadata: Mapping[str, Any],
    annotate: bool,
) -> nir.NIRGraph:
    """The graph of these stages.

    Args:
        stages: in real units; the one that answers is the last.
        input_shape: of a frame.
        filters: share that filtered currents lose in a step, by the stage's name.
        dt: seconds a step. dtype: of the weights.
        metadata: of the graph.
        annotate: write what NIR cannot say of neurons into their nodes' metadata.

    Raises:
        LimitError: a graph of which NIR cannot say which connection closes a loop, or the order of maps; the message names it.
    """
    shapes = _shapes(stages, input_shape)
    writer = _Writer(dt, dtype, annotate, filters, shapes, _free(OUTPUT, shapes))
    writer.add(INPUT, nir.Input(input_type={"input": np.array(writer.shapes[INPUT])}))
    for stage in stages:
        writer.population(stage)
    for stage in stages:
        for link, bias in zip(stage.links, _biases(stage), strict=True):
            writer.link(stage, link, bias)
    answering = stages[-1]
    if not writer.joined(writer.output):
        writer.join(answering.name, writer.output)
    writer.add(writer.output, nir.Output(output_type={"output": np.array(writer.shapes[answering.name])}))
    _check_loops(stages)
    return nir.NIRGraph(writer.nodes, writer.edges, metadata=dict(metadata))


def is_plain(stage: Stage) -> bool:
    """Whether a readout only passes on what it hears: every channel is one neuron's spikes."""
    links = stage.links
    if stage.neuron is not None or stage.leak or len(links) != 1 or links[0].lag or links[0].delay is not None:
        return False
    weight = links[0].weight
    return weight.ndim == 2 and np.array_equal(weight, np.eye(len(weight))) and not stage.bias.any()


def _biases(stage: Stage) -> list[NDArray[np.float64]]:
    """The bias beside one of the links, the first that closes no loop: delays stand in front of maps, so it acts at once."""
    where = next((index for index, link in enumerate(stage.links) if not link.lag), 0)
    return [stage.bias if index == where else np.zeros_like(stage.bias) for index in range(len(stage.links))]


def _shapes(stages: Sequence[Stage], input_shape: Shape) -> dict[str, Shape]:
    """Shapes of the nodes: maps where convolutions lead to a population, or away from it; else rows."""
    shapes: dict[str, Shape] = {INPUT: input_shape, **{stage.name: stage.shape for stage in stages}}
    for stage in stages:
        geometries = [link.geometry for link in stage.links]
        first = geometries[0] if geometries else None
        if first is not None and None not in geometries:
            shapes[stage.name] = first.output_shape(stage.links[0].weight.shape)
        else:
            shapes[stage.name] = (stage.size,)
    for stage in stages:
        for link in stage.links:
            image = None if link.geometry is None else link.geometry.input_shape
            if link.source == INPUT and image is not None:
                shapes[INPUT] = image
            elif image is not None and shapes[link.source] != image:
                raise LimitError(
                    f"the convolution from {link.source} to {stage.name} hears maps {image} that a dense map made; NIR has no "
                    "node that turns a row into maps"
                )
    return shapes


def _check_loops(stages: Sequence[Stage]) -> None:
    """A reader of the graph must find the same connections to close loops as those with a lag."""
    following: dict[str, list[str]] = {}
    late = set()
    for stage in stages:
        for link in stage.links:
            following.setdefault(link.source, []).append(stage.name)
            if link.lag:
                late.add((link.source, stage.name))
    reached, back = back_edges(INPUT, following)
    if apart := [stage.name for stage in stages if stage.name not in reached]:
        raise LimitError(f"nothing leads from the input to {apart[0]}; in NIR neurons need a way from the input")
    if back != late:
        first, second = sorted(back ^ late)[0]
        raise LimitError(
            f"NIR does not say which connection of a loop is late, and a reader would not find that of this network (at the "
            f"connection from {first} to {second})"
        )


@dataclass
class _Writer:
    """A graph that grows."""

    dt: float
    dtype: type[np.floating[Any]]
    annotate: bool
    filters: Mapping[str, float]
    shapes: dict[str, Shape]
    output: str = OUTPUT
    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, node: nir.NIRNode) -> str:
        """Add a node; returns its name, which has a number behind it where another node is called so."""
        free = _free(name, self.nodes)
        self.nodes[free] = node
        return free

    def join(self, *names: str) -> None:
        """Edges along a way."""
        self.edges += pairwise(names)

    def joined(self, name: str) -> bool:
        """Whether something leads there."""
        return any(second == name for _, second in self.edges)

    def population(self, stage: Stage) -> None:
        """The node of a stage; a subgraph where it hears itself, which is how tools know recurrent layers."""
        shape = self.shapes[stage.name]
        if stage.neuron is None:
            if stage.leak:
                full = {"tau": self.dt / stage.leak, "r": 1.0, "v_leak": 0.0}
                self.add(stage.name, nir.LI(**{key: np.full(shape, value) for key, value in full.items()}))
            return
        neuron = stage.neuron
        cell = Cell(neuron.leak, stage.threshold, neuron.reset, stage.start, self.filters.get(stage.name, 1.0))
        kind, values = fields_of(cell, shape, self.dt)
        node = getattr(nir, kind)(**values)
        if self.annotate:
            node.metadata = {"reset": neuron.reset} | ({"start": float(stage.start)} if stage.start else {})
        loops = [link for link in stage.links if link.source == stage.name]
        if not loops:
            self.add(stage.name, node)
            return
        inner = _Writer(self.dt, self.dtype, self.annotate, {}, {**self.shapes, "lif": shape})
        inner.add("input", nir.Input(input_type={"input": np.array(shape)}))
        inner.add("lif", node)
        inner.join("input", "lif")
        for link in loops:
            inner.way(replace(link, source="lif"), "lif", "w_rec", np.zeros(stage.size), shape)
        inner.join("lif", "output")
        inner.add("output", nir.Output(output_type={"output": np.array(shape)}))
        self.add(stage.name, nir.NIRGraph(inner.nodes, inner.edges, metadata={}))

    def link(self, stage: Stage, link: Link, bias: NDArray[np.float64]) -> None:
        """The nodes of a connection."""
        if link.source == stage.name:
            return
        target = stage.name if stage.neuron is not None or stage.leak else self.output
        if stage.leak:  # a leaky integrator with r = 1 takes its input times the leak
            link, bias = replace(link, weight=link.weight / stage.leak), bias / stage.leak
        if target == self.output and is_plain(stage) and self.shapes[link.source] == self.shapes[stage.name]:
            self.join(link.source, self.output)
            return
        name = stage.name if target == self.output else f"{link.source}_to_{stage.name}"
        self.way(link, target, name, bias, self.shapes[stage.name])

    def way(self, link: Link, target: str, name: str, bias: NDArray[np.float64], shape: Shape) -> None:
        """Delay, pool, flatten and map from a source to a target node; of synaptic delays a way for each.

        ``name``: of the map, to which the link's label is added.
        """
        name = f"{name}_{link.label}" if link.label else name
        source = self.shapes[link.source]
        common = max(link.lag - 1, 0)
        for index, (steps, weight) in enumerate(_branches(link)):
            suffix = f"_{index}" if index else ""
            nodes: list[tuple[str, nir.NIRNode]] = []
            late = np.broadcast_to(steps + common, (math.prod(source),))
            if late.any():
                nodes.append((f"{name}_delay{suffix}", nir.Delay(delay=late.reshape(source) * self.dt)))
            nodes += self._map(link, weight, name + suffix, bias if not index else np.zeros_like(bias), source, shape)
            self.join(link.source, *(self.add(key, node) for key, node in nodes), target)

    def _map(
        self, link: Link, weight: NDArray[np.float64], name: str, bias: NDArray[np.float64], source: Shape, shape: Shape
    ) -> list[tuple[str, nir.NIRNode]]:
        nodes: list[tuple[str, nir.NIRNode]] = []
        if link.geometry is not None:
            return self._convolution(link, name, bias, shape)
        if len(source) > 1:
            nodes.append((f"{name}_flatten", nir.Flatten({"input": np.array(source)}, start_dim=0, end_dim=-1)))
        cast = weight.astype(self.dtype)
        nodes.append((name, nir.Affine(cast, bias.astype(self.dtype)) if bias.any() else nir.Linear(cast)))
        return nodes

    def _convolution(self, link: Link, name: str, bias: NDArray[np.float64], shape: Shape) -> list[tuple[str, nir.NIRNode]]:
        nodes: list[tuple[str, nir.NIRNode]] = []
        geometry = link.geometry
        assert geometry is not None
        channels = bias.reshape(len(link.weight), -1)
        if np.ptp(channels, axis=1).any():
            raise LimitError(f"{name}: the bias differs within a channel; a convolution of NIR has one a channel")
        rows, columns = geometry.axes
        # nir checks shapes as if there were no groups.
        whole = ungrouped(link.weight, geometry.groups)
        pool, weight, strides, padding = 1, whole, (rows.stride, columns.stride), (rows.padding, columns.padding)
        image = geometry.input_shape
        if rows[1:] == columns[1:] and rows.dilation == 1:
            pool, weight, stride, pad = pooled_kernel(replace(link, weight=whole))
            strides, padding = (stride, stride), (pad, pad)
        if pool > 1:
            pair = np.array([pool, pool])
            nodes.append((f"{name}_pool", nir.AvgPool2d(kernel_size=pair, stride=pair, padding=np.array([0, 0]))))
            image = (image[0], image[1] // pool, image[2] // pool)
        conv = nir.Conv2d(
            input_shape=(image[1], image[2]),
            weight=weight.astype(self.dtype),
            stride=strides,
            padding=padding,
            dilation=(rows.dilation, columns.dilation),
            groups=1,
            bias=channels[:, 0].astype(self.dtype),
        )
        nodes.append((name, conv))
        if len(shape) == 1:
            full = geometry.output_shape(link.weight.shape)
            nodes.append((f"{name}_flatten", nir.Flatten({"input": np.array(full)}, start_dim=0, end_dim=-1)))
        return nodes


def _free(name: str, taken: Container[str]) -> str:
    """The name, or that with the first number behind it which is not taken."""
    return next(free for free in chain([name], (f"{name}_{number}" for number in count(2))) if free not in taken)


def _branches(link: Link) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Delays per source neuron (or one number), and the weights that have them."""
    delay = link.delay
    if delay is None or delay.ndim == 0:
        return [(np.asarray(0 if delay is None else delay), link.weight)]
    if (delay == delay[0]).all():
        return [(delay[0], link.weight)]
    used = link.weight != 0
    return [(np.asarray(step), np.where(delay == step, link.weight, 0.0)) for step in np.unique(delay[used])]
