"""FixedReasoner: a graph reasoner in Loihi's integers, for any graph that has its relations.

One weight unit is 1/scale of a real unit; registers count 1/64 of it. Steps are those of training: step 0 only injects the
query, and in each later one a node's neurons hear the spikes of their neighbours (``s``: 0 or 1)::

    exact     a[v, m] = sum_e sum_k synapses(q)[r, m, k] * s[u, k][t - 1 - delay(q)[r, k]]        over edges e = (u, r, v)
    staged    A[v, k] = sum_e stage(q)[r, k] * s[u, k][t - 2 - delay(q)[r, k]],    a[v, m] = sum_k weight[m, k] * A[v, k]
    both      a[v, m] += (offset[m] << offset_exp) + sum_k (self_weight[m, k] << self_exp) * s[v, k][t - 1]        for t >= 1

and a stock LIF (:func:`~lava_snnlearn.fixed_point.arithmetic.lif_step`) with du, dv, vth makes the spikes; the query's source
alone has the bias ``bias[q] << bias_exp``, in every step. The "exact" mapping has D^2 synapses an edge and the timing of a
model with hop=1; the "staged" one has D an edge and D^2 a node, and takes one more step a hop (hop=2).

Source: M. Xiao et al., "Temporal spiking neural networks with synaptic delay for graph reasoning", ICML 2024 (GRSNN); the
integers are this library's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, flag, instance_of, known_name, whole_number, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.arithmetic import MEMBRANE_UNIT
from lava_snnlearn.fixed_point.graph import frozen_integers
from lava_snnlearn.fixed_point.reasoner_head import DECODE_ONE, FixedHead
from lava_snnlearn.graphs.graph import Graph, check_graph

MAPPINGS = ("exact", "staged")
SHIFT_MAX = 24
"""Bits that a fine weight and a relation's weight may have below the weight unit."""
RELATION_WEIGHT_MAX = (1 << 15) - 1
"""Of the exact mapping, where the host multiplies it into the synapses."""


@dataclass(frozen=True, eq=False)
class FixedReasoner:
    """A trained :class:`~lava_snnlearn.networks.graph_reasoner.GraphReasoner` that a Loihi chip can hold; immutable.

    R: relations of edges and queries, inverse ones included; D: width.

    Args:
        mapping: "exact" or "staged", see the module.
        relations, width, steps, max_delay: R, D, T (step 0 included), longest delay, 0..62.
        scale: K, weight units of one real unit.
        weight: [D, D] even integers -256..254. In the exact mapping with relation weights: integers that count
            2^-weight_shift (the two shifts together), of which :meth:`synapses` are made.
        delays: [R, R, D] (query's relation, edge's relation, neuron of the source), or [1, R, D], the same for all queries.
        bias: [R, D] mantissas -4096..4095 of each query's relation; ``bias_exp``: 0..7.
        vth, du, dv: of the LIF: threshold in weight units (strict >), leaks in 1/4096 (du with its hidden one).
        decode: [T] what a spike at step t adds to its neuron's feature; about 4096 in all.
        head: the score, computed by the host.
        self_weight, self_exp: [D, D] even integers, from a node's neurons to themselves, and the exponent 0..7; or None.
        offset, offset_exp: [D] even integers, from a source that spikes in every step, and the exponent; or None.
        relation_weight: as ``delays``: in the staged mapping even integers -256..254, the synapses of the first stage; in the
            exact one integers of 16 bits; or None (1 for all).
        weight_shift: of the exact mapping with relation weights, 0..24.
        homogeneous: features of both directions are added before the score.
        notes: what quantisation chose and lost, one line each.

    Raises:
        LimitError: a value that the chip cannot hold. TypeError: floats. ValueError: shapes that do not fit together.
    """

    mapping: str
    relations: int
    width: int
    steps: int
    max_delay: int
    scale: int
    weight: ArrayLike
    delays: ArrayLike
    bias: ArrayLike
    bias_exp: int
    vth: int
    du: int
    dv: int
    decode: ArrayLike
    head: FixedHead
    self_weight: ArrayLike | None = None
    self_exp: int = 0
    offset: ArrayLike | None = None
    offset_exp: int = 0
    relation_weight: ArrayLike | None = None
    weight_shift: int = 0
    homogeneous: bool = False
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        known_name("mapping", self.mapping, MAPPINGS)
        instance_of("reasoner: head", self.head, FixedHead, "it must be a FixedHead")
        flag("reasoner: homogeneous", self.homogeneous)
        object.__setattr__(self, "notes", tuple(self.notes))
        for name, (low, high, remedy) in _NUMBERS.items():
            object.__setattr__(self, name, whole_number(f"reasoner: {name}", getattr(self, name)))
            within(f"reasoner: {name}", getattr(self, name), low, high, remedy)
        self._check_arrays()
        self._check_relation_weights()
        self.head.check(self.width, self.relations, int(np.abs(self.decode).sum()) * (2 if self.homogeneous else 1))

    def _check_arrays(self) -> None:
        width, relations = self.width, self.relations
        for name in ("weight", "self_weight", "offset"):
            value = getattr(self, name)
            if value is None:
                continue
            shape = (width,) if name == "offset" else (width, width)
            array = frozen_integers(f"reasoner: {name}", value, np.int32, shape)
            if name != "weight" or not self._fine:
                even_weights(f"reasoner: {name}", array)
            object.__setattr__(self, name, array)
        for name, dtype in (("delays", np.int8), ("relation_weight", np.int16)):
            value = getattr(self, name)
            if value is not None:
                rows = len(np.atleast_1d(value)) if np.ndim(value) == 3 and len(value) == 1 else relations
                array = frozen_integers(f"reasoner: {name}", value, dtype, (rows, relations, width))
                object.__setattr__(self, name, array)
        within("reasoner: delays", self.delays, 0, self.max_delay, "max_delay is the longest.")
        bias = frozen_integers("reasoner: bias", self.bias, np.int16, (relations, width))
        within("reasoner: bias", bias, limits.BIAS_MANTISSA_MIN, limits.BIAS_MANTISSA_MAX, "Raise bias_exp or lower the scale.")
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "decode", frozen_integers("reasoner: decode", self.decode, np.int16, (self.steps,)))
        within("reasoner: decode", self.decode, 0, DECODE_ONE, f"All steps together have about {DECODE_ONE}.")

    def _check_relation_weights(self) -> None:
        if self.relation_weight is None:
            within("reasoner: weight_shift", self.weight_shift, 0, 0, "It belongs to relation weights of the exact mapping.")
        elif self.mapping == "staged":
            within("reasoner: weight_shift", self.weight_shift, 0, 0, "The staged mapping has integer synapses in both stages.")
            even_weights("reasoner: relation_weight", np.asarray(self.relation_weight))
        else:
            for query in range(len(np.asarray(self.relation_weight))):
                within(
                    f"reasoner: synapses of query relation {query}",
                    self.synapses(query),
                    limits.WEIGHT_MIN,
                    limits.WEIGHT_MAX,
                    "Lower the scale.",
                )

    @property
    def _fine(self) -> bool:
        """True if ``weight`` is finer than synapses are."""
        return self.mapping == "exact" and self.relation_weight is not None

    @property
    def hop(self) -> int:
        """Steps that a message with delay 0 takes: 1 (exact), 2 (staged)."""
        return 1 if self.mapping == "exact" else 2

    def delay_table(self, query: int) -> NDArray[np.int64]:
        """Delays [R, D] (edge's relation, neuron of the source) for a query's relation, int64."""
        return self._row(self.delays, query).astype(np.int64)

    def synapses(self, query: int) -> NDArray[np.int64]:
        """Weights of the exact mapping for a query's relation, int64 [R, D, D], or [1, D, D] if all relations have the same."""
        known_name("mapping with these synapses", self.mapping, ("exact",))
        weight = np.asarray(self.weight, dtype=np.int64)
        if self.relation_weight is None:
            return weight[None]
        product = weight[None] * self._row(self.relation_weight, query).astype(np.int64)[:, None, :]
        # Twice the half, rounded half up: even integers.
        return 2 * ((product + (1 << self.weight_shift)) >> (self.weight_shift + 1))

    def stage(self, query: int) -> NDArray[np.int64]:
        """Synapses of the staged mapping's first stage for a query's relation, [R, D]; all 1 without relation weights."""
        known_name("mapping with a stage of delays", self.mapping, ("staged",))
        if self.relation_weight is None:
            return np.ones((self.relations, self.width), np.int64)
        return self._row(self.relation_weight, query).astype(np.int64)

    def _row(self, table: Any, query: int) -> NDArray[Any]:
        query = whole_number("query", query)
        within("query", query, 0, self.relations - 1, f"The reasoner has {self.relations} relations, inverse ones included.")
        array = np.asarray(table)
        row: NDArray[Any] = array[query if len(array) > 1 else 0]
        return row

    def check_graph(self, graph: Graph) -> None:
        """Refuse a graph of other relations, or one whose synaptic sums Lava's int32 could not hold.

        Raises:
            LimitError: with the numbers. ValueError: other relations. TypeError: no Graph.
        """
        check_graph(graph, self.relations)
        degree = int(graph.in_degree.max())
        remedy = "Quantize with a smaller scale, or reason on a part of the graph."
        for name, bound, limit in (
            ("synaptic sum", self.largest_sum(degree), limits.CHANNEL_MAX),
            ("aggregate", self.largest_aggregate(degree), limits.GRADED_PAYLOAD_MAX),
        ):
            if bound > limit:
                raise LimitError(
                    f"the graph's busiest node has {degree} edges, its {name} may reach {bound}, above {limit}. {remedy}"
                )

    def largest_aggregate(self, in_degree: int) -> int:
        """Largest magnitude of what a node of this in-degree collects in the staged mapping's first stage; 0 if exact."""
        if self.mapping == "exact":
            return 0
        top = 1 if self.relation_weight is None else int(np.abs(np.asarray(self.relation_weight, dtype=np.int64)).max())
        return in_degree * top

    def largest_sum(self, in_degree: int) -> int:
        """Largest magnitude of a neuron's synaptic sum in a node of this in-degree, in weight units."""
        weight = np.abs(np.asarray(self.weight, dtype=np.int64))
        top = np.ones(self.width, np.int64)
        if self.relation_weight is not None:
            top = np.abs(np.asarray(self.relation_weight, dtype=np.int64)).max(axis=(0, 1))
        # Rounding to even adds at most one to a synapse of the exact mapping.
        edge = ((weight * top) >> self.weight_shift) + (1 if self._fine else 0)
        total = in_degree * edge.sum(1)
        if self.self_weight is not None:
            total = total + (np.abs(np.asarray(self.self_weight, dtype=np.int64)).sum(1) << self.self_exp)
        if self.offset is not None:
            total = total + (np.abs(np.asarray(self.offset, dtype=np.int64)) << self.offset_exp)
        return int(total.max())

    @property
    def one(self) -> int:
        """Membrane (1/64 weight units) that is one real unit."""
        return MEMBRANE_UNIT * self.scale

    def __str__(self) -> str:
        from lava_snnlearn.fixed_point.reasoner_table import table

        return table(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict of numbers, strings and arrays; :meth:`from_dict` is its inverse."""
        tree = {part.name: getattr(self, part.name) for part in fields(self)}
        return tree | {"notes": list(self.notes), "head": dict(vars(self.head))}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> FixedReasoner:
        """Rebuild, and check, a reasoner from :meth:`to_dict`'s form."""
        return cls(**(dict(tree) | {"head": FixedHead(**tree["head"])}))

    def save(self, path: str | PathLike[str]) -> None:
        """Write an HDF5 file, atomically (the old file stays until the new one is complete)."""
        from lava_snnlearn.files import write_tree

        write_tree(path, self.to_dict(), content="FixedReasoner")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> FixedReasoner:
        """Read a file written by :meth:`save`; no pickle, everything is checked.

        Raises:
            FileFormatError: the file is missing, truncated, foreign, or its content is not a valid reasoner.
        """
        from lava_snnlearn.files import read_object

        return read_object(path, "FixedReasoner", cls.from_dict)


def even_weights(where: str, weights: NDArray[Any]) -> None:
    """Raise LimitError unless all weights are even integers -256..254."""
    within(where, weights, limits.WEIGHT_MIN, limits.WEIGHT_MAX, "Lower the scale.")
    odd = (weights & 1).astype(bool)
    if odd.any():
        raise LimitError(f"{where} holds {int(weights[odd][0])}, which is odd; mixed-sign weights are even on the chip")


_NUMBERS: dict[str, tuple[int, int, str]] = {
    "relations": (1, 1 << 20, "Count inverse relations, too."),
    "width": (1, 1 << 10, "It is the number of neurons of a node."),
    "steps": (1, 1 << 15, "Step 0 counts."),
    "max_delay": (0, limits.DELAY_MAX, "Loihi's delay field holds 0..62 steps."),
    "scale": (1, limits.THRESHOLD_MAX, "Weight units of one real unit."),
    "bias_exp": (0, limits.BIAS_EXPONENT_MAX, "Lower the scale."),
    "vth": (0, limits.THRESHOLD_MAX, "Lower the scale."),
    "du": (-1, limits.DECAY_MAX - 1, "The current leaks by (du + 1)/4096 a step."),
    "dv": (0, limits.DECAY_MAX, "The membrane leaks by dv/4096 a step."),
    "self_exp": (limits.EXPONENT_MIN, limits.EXPONENT_MAX, "Lower the scale."),
    "offset_exp": (limits.EXPONENT_MIN, limits.EXPONENT_MAX, "Lower the scale."),
    "weight_shift": (0, SHIFT_MAX, "It counts bits below the weight unit."),
}
