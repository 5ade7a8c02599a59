"""ExactReasoner: spikes with delays on a graph, one synapse for each edge and pair of neurons."""

from __future__ import annotations

from typing import Any

from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess, LogConfig
from lava.magma.core.process.variable import Var
from numpy.typing import ArrayLike

from lava_snnlearn.graphs import Graph
from lava_snnlearn.processes.reasoner import add_reasoner_vars, reasoner_parameters


class ExactReasoner(AbstractProcess):
    """A graph reasoner (GRSNN): N nodes of D stock LIF neurons, edges that delay by relation and neuron, shared weights.

    ::

        LIF (N D) --> DelayConnection (E D D synapses) --> LIF       the edges
        LIF (N D) --> DelayConnection (N D D, delay 0) --> LIF       self connection, if there is one
        LIF (1), fires in every step --> DelayConnection (N D) --> LIF   offset of the current, if there is one

    A spike of neuron k of node x in step t reaches every neuron m of node y of an edge (x, r, y) in step
    ``t + 1 + delays[r, k]``, with the weight ``weights[m, k]`` (or ``weights[r, m, k]``). The timing is that of a torch model
    with hop=1. For larger graphs :class:`~lava_snnlearn.processes.staged_reasoner.process.StagedReasoner` takes fewer synapses,
    and one step more for each edge of a path.

    A hierarchical process: its one model is a SubProcessModel for ``fixed_pt`` and ``floating_pt``, a plain
    ``Loihi2SimCfg(select_tag=...)`` chooses the parts' models. Give integers (chip units) for the first, floats for the second.

    Port: ``s_out`` (N D,), neuron k of node v at v D + k.
    Vars, which may be set between runs, e.g. for another query: ``bias_mant`` (N D,), ``delays`` (R D,), ``weights`` (D D,) or
    (R D D,); ``u`` and ``v`` (N D,) are the neurons' current and membrane.

    Parameters
    ----------
    graph: of N nodes and R relations.
    weights: [D, D] or [R, D, D], target neuron first; 8-bit even integers, or floats.
    delays: integers [R, D], steps of 0..62; by relation and *sending* neuron.
    du, dv, vth, bias_mant, bias_exp: of stock LIF (``vth`` strict; ``bias_mant`` [N D] or a scalar).
    self_weights: [D, D] from a node to itself, without delay. offset: [D], the current that every node gets from a sample's
        second step on. Both count 2 ** ``self_exp`` and 2 ** ``offset_exp`` (integers only).
    max_delay: largest delay that may be set later; None: the largest of ``delays``.
    reset_interval: steps of a sample: neurons and spikes in flight start afresh every so many steps; None: never.

    Raises
    ------
    ValueError, TypeError: shapes and kinds that do not fit, integers out of the chip's ranges.

    Source: M. Xiao et al., "Temporal spiking neural networks with synaptic delay for graph reasoning", ICML 2024.
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
        tables = {"weights": weights, "self_weights": self_weights, "offset": offset}
        neuron: dict[str, Any] = {"du": du, "dv": dv, "vth": vth, "bias_mant": bias_mant, "bias_exp": bias_exp}
        exponents = {"self_exp": self_exp, "offset_exp": offset_exp}
        parameters = reasoner_parameters("ExactReasoner", graph, tables, neuron, delays, max_delay, exponents, reset_interval)
        super().__init__(**parameters, name=name, log_config=log_config)
        add_reasoner_vars(self, parameters, {"weights": parameters["weights"]})
