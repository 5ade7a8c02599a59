"""The parts of the graph reasoners: neurons, the constant source, and the synapses of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess, ProcessParameters
from lava.proc.lif.process import LIF, LIFReset
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray

from lava_snnlearn.processes.delay_connection.process import DelayConnection

Index = NDArray[np.int64]

GRADED_BITS = 24
"""Of a sum that the aggregator sends; Lava carries it as int32 and limits nothing."""


def reasoner_neurons(parameters: ProcessParameters) -> LIFReset:
    """The N D neurons; Lava counts steps from 1, so a sample starts where the step is 1 modulo the interval."""
    return LIFReset(
        shape=parameters["bias_mant"].shape,
        bias_mant=parameters["bias_mant"],
        reset_offset=1,
        **{name: parameters[name] for name in ("du", "dv", "vth", "bias_exp", "reset_interval")},
    )


def connect_neurons(process: AbstractProcess, neurons: LIFReset) -> None:
    """Connect the neurons to the reasoner's port and Vars."""
    neurons.s_out.connect(process.s_out)
    for name in ("u", "v", "bias_mant"):
        getattr(process, name).alias(getattr(neurons, name))


def connect_own(process: AbstractProcess, neurons: LIFReset) -> dict[str, AbstractProcess]:
    """Self connection and offset where the reasoner has them; the processes that make them, by name."""
    parameters = process.proc_params
    parts: dict[str, AbstractProcess] = {}
    if parameters["self_weights"] is not None:
        inner = node_synapses(parameters, parameters["self_weights"], parameters["self_exp"])
        neurons.s_out.connect(inner.s_in)
        inner.a_out.connect(neurons.a_in)
        parts["self_connection"] = inner
    if parameters["offset"] is not None:
        source = _constant_source(parameters["real_units"])
        offset = _offset_synapses(parameters)
        source.s_out.connect(offset.s_in)
        offset.a_out.connect(neurons.a_in)
        parts.update(constant=source, offset=offset)
    return parts


def edge_synapses(parameters: ProcessParameters) -> DelayConnection:
    """One synapse an edge and neuron, of weight 1 or weighed by relation: the first stage."""
    weights = parameters["relation_weights"]
    width, (source, relation, target) = parameters["width"], _edges(parameters)
    units = np.arange(width)
    kind = (relation[:, None] * width + units).reshape(-1)
    return DelayConnection(
        target=(target[:, None] * width + units).reshape(-1),
        source=(source[:, None] * width + units).reshape(-1),
        weights=(1.0 if parameters["real_units"] else 1) if weights is None else weights.reshape(-1),
        weight_index=np.zeros_like(kind) if weights is None else kind,
        delays=parameters["delays"],
        delay_index=kind,
        max_delay=parameters["max_delay"],
        # a weight of mixed sign is even, so that a spike could not count 1
        sign_mode=SignMode.EXCITATORY if weights is None else SignMode.MIXED,
        **_common(parameters),
    )


def pair_synapses(parameters: ProcessParameters) -> DelayConnection:
    """One synapse an edge and pair of neurons: delay by sender, shared weights [D, D] or [R, D, D]."""
    width, weights, (source, relation, target) = parameters["width"], parameters["weights"], _edges(parameters)
    to, of = np.divmod(np.arange(width * width), width)
    block = relation if weights.ndim == 3 else np.zeros_like(relation)
    return DelayConnection(
        target=(target[:, None] * width + to).reshape(-1),
        source=(source[:, None] * width + of).reshape(-1),
        weights=weights.reshape(-1),
        weight_index=(block[:, None] * width * width + np.arange(width * width)).reshape(-1),
        delays=parameters["delays"],
        delay_index=(relation[:, None] * width + of).reshape(-1),
        max_delay=parameters["max_delay"],
        sign_mode=SignMode.MIXED,
        **_common(parameters),
    )


def node_synapses(
    parameters: ProcessParameters, weights: NDArray[Any], exponent: int = 0, graded: bool = False
) -> DelayConnection:
    """Shared weights [D, D] inside of each node, without delay."""
    nodes, width = parameters["graph"].nodes, parameters["width"]
    to, of = np.divmod(np.arange(width * width), width)
    first = np.arange(nodes)[:, None] * width
    return DelayConnection(
        target=(first + to).reshape(-1),
        source=(first + of).reshape(-1),
        weights=weights.reshape(-1),
        weight_index=np.tile(np.arange(width * width), nodes),
        weight_exp=exponent,
        num_message_bits=GRADED_BITS if graded else 0,
        sign_mode=SignMode.MIXED,
        **_common(parameters),
    )


def _offset_synapses(parameters: ProcessParameters) -> DelayConnection:
    nodes, width = parameters["graph"].nodes, parameters["width"]
    size = nodes * width
    return DelayConnection(
        target=np.arange(size),
        source=np.zeros(size, dtype=np.int64),
        weights=parameters["offset"],
        weight_index=np.tile(np.arange(width), nodes),
        weight_exp=parameters["offset_exp"],
        sign_mode=SignMode.MIXED,
        **(_common(parameters) | {"shape": (size, 1)}),
    )


def _constant_source(real_units: bool) -> LIF:
    """One memoryless neuron whose bias is above its threshold: it fires in every step."""
    if real_units:
        return LIF(shape=(1,), du=1.0, dv=1.0, vth=0.5, bias_mant=1.0)
    return LIF(shape=(1,), du=4095, dv=4096, vth=0, bias_mant=1)


def _edges(parameters: ProcessParameters) -> tuple[Index, Index, Index]:
    graph = parameters["graph"]
    return np.asarray(graph.source), np.asarray(graph.relation), np.asarray(graph.target)


def _common(parameters: ProcessParameters) -> dict[str, Any]:
    size = parameters["bias_mant"].size
    return {"shape": (size, size), "reset_interval": parameters["reset_interval"]}
