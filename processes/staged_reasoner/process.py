"""StagedReasoner: spikes with delays on a graph; first delayed and added up, then weighed."""

from __future__ import annotations

from typing import Any

from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike

from lava_snnlearn.graphs import Graph
from lava_snnlearn.processes.reasoner import add_reasoner_vars, reasoner_parameters


class StagedReasoner(AbstractProcess):
    """A graph reasoner (GRSNN) in two stages: N nodes of D stock LIF neurons, edges that delay by relation and neuron.

    ::

        LIF (N D) --> DelayConnection (E D synapses) --> GradedVec (N D) --> DelayConnection (N D D) --> LIF
        LIF (N D) --> DelayConnection (N D D, delay 0) --> LIF       self connection, if there is one
        LIF (1), fires in every step --> DelayConnection (N D) --> LIF   offset of the current, if there is one

    The first stage delays the spikes and adds up those that reach the same neuron of a node (each counts 1, or
    ``relation_weights[r, k]``); the stock ``GradedVec`` sends the sums on, and the second stage applies the shared weights
    inside of each node. A spike of neuron k of node x in step t reaches node y of an edge (x, r, y) in step
    ``t + 2 + delays[r, k]``: one step later than with ExactReasoner, at E D + N D D instead of E D D synapses.

    A hierarchical process: its one model is a SubProcessModel for ``fixed_pt`` and ``floating_pt``, a plain
    ``Loihi2SimCfg(select_tag=...)`` chooses the parts' models. Give integers (chip units) for the first, floats for the second;
    Lava has no floating-point ``GradedVec``, so with floats the stages are connected directly, which sends the same sums.

    Port: ``s_out`` (N D,), neuron k of node v at v D + k.
    Vars, which may be set between runs, e.g. for another query: ``bias_mant`` (N D,), ``delays`` (R D,), ``weights`` (D D,) and
    ``relation_weights`` (R D,), if there are any; ``u`` and ``v`` (N D,) are the neurons' current and membrane.

    Parameters
    ----------
    graph: of N nodes and R relations.
    weights: [D, D], target neuron first; 8-bit even integers, or floats.
    delays: integers [R, D], steps of 0..62; by relation and neuron.
    relation_weights: [R, D], 8-bit even integers, or floats; None: every spike counts 1.
    du, dv, vth, bias_mant, bias_exp, self_weights, self_exp, offset, offset_exp, max_delay, reset_interval: as for
        :class:`~lava_snnlearn.processes.exact_reasoner.process.ExactReasoner`.

    Raises
    ------
    ValueError, TypeError: shapes and kinds that do not fit, integers out of the chip's ranges.

    Source: M. Xiao et al., "Temporal spiking neural networks with synaptic delay for graph reasoning", ICML 2024; the two
    stages are this library's.
    """

    _runtime = None  # Lava's __del__ reads it, also where the constructor refused its arguments

    s_out: OutPort
    u: Var
    v: Var
    bias_mant: Var
    delays: Var
    weights: Var

    def __init__(
        self,
        *,
        graph: Graph,
        weights: ArrayLike,
        delays: ArrayLike,
        du: ArrayLike,
        dv: ArrayLike,
        vth: ArrayLike,
        relation_weights: ArrayLike | None = None,
        bias_mant: ArrayLike = 0,
        bias_exp: int = 0,
        self_weights: ArrayLike | None = None,
        self_exp: int = 0,
        offset: ArrayLike | None = None,
        offset_exp: int = 0,
        max_delay: int | None = None,
        reset_interval: int | None = None,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        tables = {"weights": weights, "relation_weights": relation_weights, "self_weights": self_weights, "offset": offset}
        neuron: dict[str, Any] = {"du": du, "dv": dv, "vth": vth, "bias_mant": bias_mant, "bias_exp": bias_exp}
        exponents = {"self_exp": self_exp, "offset_exp": offset_exp}
        parameters = reasoner_parameters("StagedReasoner", graph, tables, neuron, delays, max_delay, exponents, reset_interval)
        super().__init__(**parameters, name=name, log_config=log_config)
        own = {name: parameters[name] for name in ("weights", "relation_weights") if parameters[name] is not None}
        add_reasoner_vars(self, parameters, own)
