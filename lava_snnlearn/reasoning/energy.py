"""Energy of reasoning with spikes against a graph network of real numbers, estimated from counts of operations.

Per edge and neuron of a node (grsnn spec, section 1.7): NBFNet (Zhu et al., NeurIPS 2021) multiplies and adds once in each of
its 6 layers, 4.6 pJ each; spikes add, 0.9 pJ for each that comes along in T - 1 steps. So the ratio is 27.6 / (0.9 (T - 1)
rho), rho being the spikes per neuron and step. The constants are those of 32-bit arithmetic in 45 nm (M. Horowitz, ISSCC
2014), not of a Loihi chip, and memory and routing are left out: an estimate to compare methods by, and not to be set beside
measured or simulated figures of a chip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lava_snnlearn.checks import at_least, known_name
from lava_snnlearn.fixed_point.event_energy import ADD_PJ, MULTIPLY_ADD_PJ
from lava_snnlearn.fixed_point.events import synaptic_operations
from lava_snnlearn.fixed_point.reasoner import MAPPINGS
from lava_snnlearn.graphs.graph import Graph, check_graph

NBFNET_LAYERS = 6


@dataclass(frozen=True)
class ReasonerEnergy:
    """Counts and estimates of one query, the mean over those given.

    Attributes:
        rate: rho, spikes per neuron and step.
        edge_operations: synaptic operations of spikes on edges. node_operations: those of W within the nodes (staged mapping).
        spiking_pj: E D (T - 1) rho 0.9 pJ, the method's own accounting. counted_pj: all synaptic operations at 0.9 pJ.
        nbfnet_pj: E D 6 layers at 4.6 pJ.
    """

    rate: float
    edge_operations: float
    node_operations: float
    spiking_pj: float
    counted_pj: float
    nbfnet_pj: float

    @property
    def operations(self) -> float:
        """All synaptic operations (SynOps)."""
        return self.edge_operations + self.node_operations

    @property
    def ratio(self) -> float:
        """NBFNet's energy by that of spikes; infinite if there were none."""
        return self.nbfnet_pj / self.spiking_pj if self.spiking_pj else float("inf")

    def __str__(self) -> str:
        return "\n".join(
            [
                f"spike rate {self.rate:.4f} per neuron and step",
                f"SynOps per query {self.operations:.4g} "
                f"({self.edge_operations:.4g} on edges, {self.node_operations:.4g} in nodes)",
                f"energy per query, estimate from 45 nm constants ({ADD_PJ} pJ an addition, {MULTIPLY_ADD_PJ} pJ a "
                f"multiplication with addition): "
                f"spikes {self.spiking_pj / 1e6:.4g} uJ (all SynOps {self.counted_pj / 1e6:.4g} uJ), "
                f"NBFNet {self.nbfnet_pj / 1e6:.4g} uJ, ratio {self.ratio:.3g}",
            ]
        )


def reasoner_energy(
    graph: Graph,
    spike_counts: ArrayLike,
    *,
    width: int,
    steps: int,
    mapping: str = "staged",
    aggregates: ArrayLike | None = None,
) -> ReasonerEnergy:
    """Count the synaptic operations of queries on a graph, and estimate their energy.

    Args:
        graph: with inverse edges, as it was used.
        spike_counts: integers [B, N], spikes of each node in each query (as in a ReasonerTrace; of recorded spikes
            [T, B, N, D] the sum over T and D).
        width, steps: D, T.
        mapping: "staged", an operation a spike and edge, and D for each graded spike in the nodes; "exact", D a spike and edge.
        aggregates: integers [B], graded spikes of the staged mapping's second stage (as in a ReasonerTrace); None: taken to
            be as many as spikes, which is too few where messages meet at different times.

    Raises:
        ValueError: shapes that do not fit; numbers below 1. UnknownNameError: another mapping. TypeError: no Graph.
    """
    check_graph(graph)
    known_name("mapping", mapping, MAPPINGS)
    width, steps = at_least(1, "width", width), at_least(1, "steps", steps)
    counts = np.asarray(spike_counts)
    if counts.ndim != 2 or counts.shape[1] != graph.nodes or not len(counts):
        raise ValueError(f"spike_counts has shape {counts.shape}; expected [B, {graph.nodes}], B >= 1")
    degree = np.bincount(np.asarray(graph.source), minlength=graph.nodes)
    spikes, on_edges = float(counts.sum() / len(counts)), float(synaptic_operations(counts, degree).mean())
    rate = spikes / (graph.nodes * width * steps)
    if mapping == "exact":
        edge_operations, node_operations = width * on_edges, 0.0
    else:
        graded = spikes if aggregates is None else float(np.asarray(aggregates).mean())
        edge_operations, node_operations = on_edges, width * graded
    return ReasonerEnergy(
        rate=rate,
        edge_operations=edge_operations,
        node_operations=node_operations,
        spiking_pj=graph.edges * width * (steps - 1) * rate * ADD_PJ,
        counted_pj=(edge_operations + node_operations) * ADD_PJ,
        nbfnet_pj=graph.edges * width * NBFNET_LAYERS * MULTIPLY_ADD_PJ,
    )
