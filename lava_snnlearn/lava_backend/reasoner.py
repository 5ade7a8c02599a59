"""A graph reasoner on Lava's simulator: queries one after the other in one run, in integers or in floats, and their proof.

The network is an :class:`~lava_snnlearn.processes.exact_reasoner.process.ExactReasoner` or a
:class:`~lava_snnlearn.processes.staged_reasoner.process.StagedReasoner`. It is built once; between two queries its delays, its
weights by relation and the current into the query's source are set. Step t of a query is step t of the torch model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from lava.magma.core.run_configs import RunConfig
from numpy.typing import ArrayLike, NDArray

from lava_snnlearn.checks import LimitError, instance_of, known_name
from lava_snnlearn.fixed_point.reasoner import MAPPINGS, FixedReasoner
from lava_snnlearn.fixed_point.reasoner_emulator import checked_queries, emulate_reasoner
from lava_snnlearn.fixed_point.reasoner_trace import ReasonerTrace
from lava_snnlearn.graphs.graph import Graph, check_graph
from lava_snnlearn.lava_backend.configuration import run_config
from lava_snnlearn.lava_backend.runner import TIME_LIMIT, guarded
from lava_snnlearn.placement.reasoner import ReasonerShape, reasoner_costs
from lava_snnlearn.processes.exact_reasoner.process import ExactReasoner
from lava_snnlearn.processes.recorder.process import Recorder
from lava_snnlearn.processes.staged_reasoner.process import StagedReasoner
from lava_snnlearn.verification import Mismatch, Report

if TYPE_CHECKING:
    from lava_snnlearn.networks.graph_reasoner import GraphReasoner

Array = NDArray[Any]
Reasoner = ExactReasoner | StagedReasoner

RECORD_MAX = 1 << 32
"""Bytes of spikes and membranes that one run may record."""
_PROCESSES: dict[str, Callable[..., Reasoner]] = {"exact": ExactReasoner, "staged": StagedReasoner}


class Recording(NamedTuple):
    """What the neurons did: spikes uint8 [T, B, N, D]; membranes after each step, float64 of the same shape."""

    spikes: NDArray[np.uint8]
    membranes: NDArray[np.float64]


class _Deployment(NamedTuple):
    """A reasoner in the units of its processes: what all queries share, and what each query's relation brings.

    shared: arguments of the process. tables: of a query's relation, the process's arguments that change with it (and the Vars
    of the same names). injected: the current into the source's neurons, [D], of a query's relation.
    """

    mapping: str
    width: int
    steps: int
    shared: Mapping[str, Any]
    tables: Callable[[int], dict[str, Array]]
    injected: Callable[[int], Array]


def run_lava_reasoner(
    fixed: FixedReasoner,
    graph: Graph,
    source: ArrayLike,
    query: ArrayLike,
    *,
    time_limit: float = TIME_LIMIT,
    run_cfg: RunConfig | None = None,
) -> ReasonerTrace:
    """Run queries (source, query, ?) on Lava's simulator (``fixed_pt`` models), guarded: one network, one run.

    Args:
        fixed, graph, source, query: as in :func:`~lava_snnlearn.fixed_point.reasoner_emulator.emulate_reasoner`. A query takes
            some milliseconds a step, and 0.1 ms for every number that changes from the one before: N D of the bias and, with
            another relation, the tables (delays R D; exact mapping with relation weights R D D).
        time_limit: seconds that may pass without any process finishing a phase of a step.
        run_cfg: a run configuration of your own, e.g. a plain ``Loihi2SimCfg(select_tag="fixed_pt")``.

    Returns:
        ReasonerTrace with spikes and membranes; ``saturated`` and ``wrapped`` are 0 and ``aggregates`` is None, because Lava
        does not tell.

    Raises:
        LimitError: a network or a recording that is too large for the simulator, with the numbers; no such node or relation.
        ValueError, TypeError: as the emulator.
        LavaRunError: a model raised, died or blocked; the message holds its traceback.
    """
    instance_of("reasoner", fixed, FixedReasoner, "quantize a GraphReasoner first; run_float_reasoner takes it as it is")
    fixed.check_graph(graph)
    sources, queries = checked_queries(graph, source, query)
    config = run_config("fixed_pt") if run_cfg is None else run_cfg
    spikes, membranes = _run(_fixed_deployment(fixed), graph, sources, queries, config, time_limit)
    features = np.einsum("t,tbnd->bnd", np.asarray(fixed.decode, dtype=np.int64), spikes.astype(np.int64))
    return ReasonerTrace(
        features=features,
        scores=fixed.head.scores((2 if fixed.homogeneous else 1) * features, queries),
        spike_counts=spikes.sum(axis=(0, 3), dtype=np.int64),
        spikes=spikes.astype(np.uint8),
        membranes=membranes.astype(np.int32),
    )


def run_float_reasoner(
    model: GraphReasoner,
    graph: Graph,
    source: ArrayLike,
    query: ArrayLike,
    *,
    mapping: str | None = None,
    time_limit: float = TIME_LIMIT,
    run_cfg: RunConfig | None = None,
) -> Recording:
    """Run a torch model's queries on Lava's simulator in floats (``floating_pt`` models): the same spikes as ``model.run``.

    Lava computes in float64: a model in float32 may part from it where a membrane comes within rounding of the threshold.

    Args:
        model: of variant "base" or "plus". graph, source, query: as for ``model.run``.
        mapping: "exact" (ExactReasoner) or "staged" (StagedReasoner, for a model with hop=2); None chooses by the model's hop.
        time_limit, run_cfg: as in :func:`run_lava_reasoner`, with the tag "floating_pt".

    Raises:
        ValueError: variant "plus_full", "staged" with hop=1, a graph of other relations. UnknownNameError: another mapping.
        LimitError, LavaRunError: as :func:`run_lava_reasoner`.
    """
    from lava_snnlearn.networks.graph_reasoner import GraphReasoner

    instance_of("model", model, GraphReasoner, "it must be a lava_snnlearn.networks.GraphReasoner")
    check_graph(graph, model.relations)
    sources, queries = checked_queries(graph, source, query)
    config = run_config("floating_pt") if run_cfg is None else run_cfg
    spikes, membranes = _run(_float_deployment(model, mapping), graph, sources, queries, config, time_limit)
    return Recording(spikes.astype(np.uint8), membranes.astype(np.float64))


def verify_reasoner(
    fixed: FixedReasoner, graph: Graph, source: ArrayLike, query: ArrayLike, *, time_limit: float = TIME_LIMIT
) -> Report:
    """Compare the emulator with Lava's simulator: every spike, membrane and score of the queries.

    Returns:
        Report; ``report.ok`` is the answer, ``str(report)`` the readable form. A population is a node; a score counts as one of
        its neuron 0 in the last step.

    Raises what :func:`run_lava_reasoner` raises.
    """
    ours = emulate_reasoner(fixed, graph, source, query, record="all")
    theirs = run_lava_reasoner(fixed, graph, source, query, time_limit=time_limit)
    compared = different = 0
    found: list[Mismatch] = []
    for quantity, one, other in _quantities(ours, theirs):
        differs = one != other
        compared += differs.size
        different += int(differs.sum())
        if differs.any():
            step, sample, node, neuron = place = tuple(int(i) for i in np.argwhere(differs)[0])
            step += fixed.steps - len(one)
            values = int(one[place]), int(other[place])
            found.append(Mismatch("lava", quantity, f"node {node}", neuron, step, sample, *values))
    first = min(found, key=lambda mismatch: mismatch.step, default=None)
    return Report(len(ours.scores), fixed.steps, {"lava": compared}, {"lava": different}, first, ("lava",))


def _quantities(ours: ReasonerTrace, theirs: ReasonerTrace) -> Iterator[tuple[str, Array, Array]]:
    """What both traces hold, [steps, B, N, neurons]."""
    for name in ("spikes", "membranes"):
        yield name[:-1], getattr(ours, name), getattr(theirs, name)
    yield "score", ours.scores[None, :, :, None], theirs.scores[None, :, :, None]


def _fixed_deployment(fixed: FixedReasoner) -> _Deployment:
    shared: dict[str, Any] = {
        "du": fixed.du,
        "dv": fixed.dv,
        "vth": fixed.vth,
        "bias_exp": fixed.bias_exp,
        "max_delay": fixed.max_delay,
        "self_weights": fixed.self_weight,
        "self_exp": fixed.self_exp,
        "offset": fixed.offset,
        "offset_exp": fixed.offset_exp,
    }
    weighed = fixed.relation_weight is not None
    own_weights = fixed.mapping == "exact" and weighed
    if not own_weights:
        shared["weights"] = np.asarray(fixed.weight, dtype=np.int64)

    def tables(query: int) -> dict[str, Array]:
        table: dict[str, Array] = {"delays": fixed.delay_table(query)}
        if own_weights:
            table["weights"] = fixed.synapses(query)
        elif weighed:
            table["relation_weights"] = fixed.stage(query)
        return table

    return _Deployment(
        fixed.mapping, fixed.width, fixed.steps, shared, tables, np.asarray(fixed.bias, dtype=np.int64).__getitem__
    )


def _float_deployment(model: GraphReasoner, mapping: str | None) -> _Deployment:
    from lava_snnlearn.fixed_point.reasoner_quantize import reasoner_reals

    if model.variant == "plus_full":
        raise ValueError('variant "plus_full" normalises and compares sums, which is not event-driven; train variant="plus"')
    rule = model.rule
    chosen = known_name("mapping", mapping or MAPPINGS[rule.hop - 1], MAPPINGS)
    if chosen == "staged" and rule.hop == 1:
        raise ValueError("the staged mapping takes two steps a hop, and the model was trained for one; give hop=2 to the model")
    extra = rule.hop - 1 - MAPPINGS.index(chosen)  # steps of a hop that the mapping does not take by itself
    reals = reasoner_reals(model)
    shared: dict[str, Any] = {
        "du": 1 - rule.a,
        "dv": 1 - rule.a,
        "vth": float(np.nextafter(rule.threshold, 0)),  # the model fires at >= threshold, stock LIF at >
        "max_delay": rule.max_delay + extra,
        "self_weights": reals.self_weight,
        "offset": reals.offset,
    }
    own_weights = chosen == "exact" and reals.omega is not None
    if not own_weights:
        shared["weights"] = reals.weight

    def tables(query: int) -> dict[str, Array]:
        table: dict[str, Array] = {"delays": reals.delays[query if len(reals.delays) > 1 else 0] + extra}
        if reals.omega is not None:
            own = reals.omega[query]
            table |= {"weights": reals.weight * own[:, None, :]} if own_weights else {"relation_weights": own}
        return table

    return _Deployment(chosen, model.width, rule.steps, shared, tables, reals.code.__getitem__)


def _run(
    deployed: _Deployment,
    graph: Graph,
    source: NDArray[np.int64],
    query: NDArray[np.int64],
    config: RunConfig,
    time_limit: float,
) -> tuple[Array, Array]:
    """Spikes and membranes [T, B, N, D] of all queries, in one run of a network that is built for the first of them."""
    _check_size(deployed, graph, len(query))
    order = np.argsort(query, kind="stable")  # so that tables are set once for each relation
    size, steps = graph.nodes * deployed.width, deployed.steps
    now = _settings(deployed, graph, source[order[0]], query[order[0]])
    process = _PROCESSES[deployed.mapping](graph=graph, reset_interval=steps, **now, **deployed.shared)
    recorder = Recorder(shape=(size,), steps=len(query) * steps)
    process.s_out.connect(recorder.s_in)
    recorder.v_ref.connect_var(process.v)
    with guarded(process, config, time_limit) as network:
        for sample in order:
            wanted = _settings(deployed, graph, source[sample], query[sample])
            for name, table in wanted.items():
                if not np.array_equal(table, now[name]):
                    getattr(process, name).set(table.reshape(-1))
            now = wanted
            network.run(steps)
    place = np.argsort(order)
    shape = (len(query), steps, graph.nodes, deployed.width)
    spikes, membranes = (rows.reshape(shape)[place].swapaxes(0, 1) for rows in (recorder.spikes, recorder.membranes))
    return spikes, membranes


def _settings(deployed: _Deployment, graph: Graph, source: int, query: int) -> dict[str, Array]:
    """The process's arguments that change with the query: tables, and the current into all neurons, [N D]."""
    injected = deployed.injected(query)
    bias = np.zeros((graph.nodes, deployed.width), injected.dtype)
    bias[source] = injected
    return {"bias_mant": bias.reshape(-1), **deployed.tables(query)}


def _check_size(deployed: _Deployment, graph: Graph, queries: int) -> None:
    shared = deployed.shared
    shape = ReasonerShape(
        deployed.mapping, deployed.width, shared["max_delay"], shared["self_weights"] is not None, shared["offset"] is not None
    )
    reasoner_costs(shape, graph).check_lava()
    neurons = graph.nodes * deployed.width
    recorded = 16 * queries * deployed.steps * neurons
    if recorded > RECORD_MAX:
        raise LimitError(
            f"{queries} queries of {deployed.steps} steps and {neurons} neurons take {recorded} bytes to record, "
            f"above {RECORD_MAX}. Give at most {queries * RECORD_MAX // recorded} queries at a time."
        )
