"""What the graph reasoners' Processes share: the checks of their parameters, and their Vars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import at_least, finite, instance_of, within
from lava_snnlearn.fixed_point import limits
from lava_snnlearn.fixed_point.reasoner import even_weights
from lava_snnlearn.graphs import Graph
from lava_snnlearn.processes.parameters import NEVER, bias_exponent, neuron_parameters, ranged

Table = NDArray[Any]

_UNITS = {False: "integers (chip units)", True: "floats (real units)"}
_ONE_KIND = "Give all in one kind."


def reasoner_parameters(
    process: str,
    graph: Graph,
    tables: Mapping[str, ArrayLike | None],
    neuron: Mapping[str, ArrayLike],
    delays: ArrayLike,
    max_delay: int | None,
    exponents: Mapping[str, int],
    reset_interval: int | None,
) -> dict[str, Any]:
    """The parameters of a reasoner as its model takes them, checked.

    tables: weights [D, D] or [R, D, D], self_weights [D, D], offset [D], relation_weights [R, D]; None where there is none.
    neuron: du, dv, vth, bias_mant, bias_exp. exponents: self_exp, offset_exp. Either all tables, du, dv, vth and bias_mant are
    integers (chip units), or all are floats (real units, without exponents).

    Raises TypeError, ValueError and LimitError that name ``process`` and the parameter.
    """
    instance_of(f"{process}: graph", graph, Graph, "give a lava_snnlearn.graphs.Graph")
    arrays = {name: np.asarray(value) for name, value in tables.items() if value is not None}
    weights = arrays["weights"]
    width = weights.shape[-1] if weights.ndim else 0
    size = graph.nodes * width
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {
        "weights": ((width, width), (graph.relations, width, width)),
        "self_weights": ((width, width),),
        "offset": ((width,),),
        "relation_weights": ((graph.relations, width),),
    }
    if "relation_weights" in tables:
        shapes["weights"] = shapes["weights"][:1]  # one block for all: the first stage weighs by relation
    for name, array in arrays.items():
        _check_table(process, name, array, shapes[name])
    real_units, values = neuron_parameters(process, {name: neuron[name] for name in ("dv", "vth", "bias_mant")}, (size,))
    kinds = {name: array.dtype.kind == "f" for name, array in arrays.items()}
    if any(kind != real_units for kind in kinds.values()):
        odd = next(name for name, kind in kinds.items() if kind != real_units)
        raise TypeError(
            f"{process}: dv, vth and bias_mant are {_UNITS[real_units]}, but {odd} is {arrays[odd].dtype}. {_ONE_KIND}"
        )
    for name in ("dv", "vth"):
        if values[name].size != 1:
            raise ValueError(f"{process}: {name} has shape {values[name].shape}; stock LIF neurons share one value.")
    table = _delay_table(process, delays, (graph.relations, width))
    largest = int(table.max(initial=0)) if max_delay is None else at_least(0, f"{process}: max_delay", max_delay)
    within(f"{process}: max_delay", largest, 0, limits.DELAY_MAX, "The chip delays a spike by at most 62 steps.")
    within(f"{process}: delays", table, 0, largest, "Raise max_delay, or round and cut the delays first.")
    interval = NEVER if reset_interval is None else at_least(1, f"{process}: reset_interval", reset_interval)
    return {
        "graph": graph,
        "width": width,
        **{name: arrays.get(name) for name in tables},
        "delays": table.reshape(-1),
        "max_delay": largest,
        "du": _current_decay(process, neuron["du"], real_units),
        "dv": values["dv"].item(),
        "vth": values["vth"].item(),
        "bias_mant": np.broadcast_to(values["bias_mant"], (size,)).copy(),
        "bias_exp": int(bias_exponent(process, neuron["bias_exp"], (1,))[0]),
        "reset_interval": interval,
        **{name: _exponent(process, name, value, real_units) for name, value in exponents.items()},
        "real_units": real_units,
    }


def _check_table(process: str, name: str, array: Table, shapes: tuple[tuple[int, ...], ...]) -> None:
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{process}: {name} is of type {array.dtype}. Give integers (chip units) or floats (real units).")
    if array.shape not in shapes or not array.size:
        wanted = " or ".join(str(shape) for shape in shapes)
        raise ValueError(f"{process}: {name} has shape {array.shape}; with this graph and these weights it must be {wanted}")
    if array.dtype.kind == "f":
        finite(f"{process}: {name}", array)
    else:
        even_weights(f"{process}: {name}", array)


def _delay_table(process: str, delays: ArrayLike, shape: tuple[int, int]) -> NDArray[np.int64]:
    array = np.asarray(delays)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{process}: delays are of type {array.dtype}. Give integers: whole time steps.")
    if array.shape != shape:
        raise ValueError(f"{process}: delays have shape {array.shape}; with this graph and these weights they must be {shape}")
    return array.astype(np.int64)


def _exponent(process: str, name: str, value: int, real_units: bool) -> int:
    remedy = (
        "Real units have no exponents." if real_units else "Weights times 2**exponent: use larger weights or another scale."
    )
    return ranged(process, name, value, limits.EXPONENT_MIN, 0 if real_units else limits.EXPONENT_MAX, remedy)


def _current_decay(process: str, value: ArrayLike, real_units: bool) -> int | float:
    """du as stock LIF takes it: the effective decay of the current is (du + 1) / 4096."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise TypeError(f"{process}: du is {value!r}. Give one number.")
    if (array.dtype.kind == "f") != real_units:
        raise TypeError(
            f"{process}: du is {value!r}, but dv, vth and bias_mant are {_UNITS[real_units]}. Give all in one kind."
        )
    if not real_units:
        within(
            f"{process}: du", array, -1, limits.DECAY_MAX - 1, "The current decays by (du + 1) / 4096: an integer of -1..4095."
        )
        return int(array.item())
    within(f"{process}: du", array, 0.0, 1.0, "In real units du is a fraction of 0 to 1.")
    return float(array.item())


def add_reasoner_vars(process: AbstractProcess, parameters: Mapping[str, Any], weights: Mapping[str, Table]) -> None:
    """Give a reasoner its port and its Vars; its model makes them aliases of the parts' Vars."""
    size = parameters["graph"].nodes * parameters["width"]
    process.s_out = OutPort(shape=(size,))
    process.u = Var(shape=(size,), init=0)
    process.v = Var(shape=(size,), init=0)
    process.bias_mant = Var(shape=(size,), init=parameters["bias_mant"])
    process.delays = Var(shape=parameters["delays"].shape, init=parameters["delays"])
    for name, table in weights.items():
        setattr(process, name, Var(shape=(table.size,), init=table.reshape(-1)))
