"""The parts of StagedReasoner and how they are connected."""

from __future__ import annotations

from lava.magma.core.decorator import implements, tag
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess
from lava.proc.graded.process import GradedVec

from lava_snnlearn.models.reasoner import connect_neurons, connect_own, edge_synapses, node_synapses, reasoner_neurons
from lava_snnlearn.processes.staged_reasoner.process import StagedReasoner


@implements(proc=StagedReasoner)
@tag("fixed_pt", "floating_pt")
class SubStagedReasoner(AbstractSubProcessModel):
    """Neurons, the stage that delays, the one that adds up, and the one that weighs."""

    def __init__(self, process: AbstractProcess) -> None:
        parameters = process.proc_params
        self.neurons = reasoner_neurons(parameters)
        self.edges = edge_synapses(parameters)
        self.inner = node_synapses(parameters, parameters["weights"], graded=True)
        self.neurons.s_out.connect(self.edges.s_in)
        if parameters["real_units"]:  # Lava has no such model of GradedVec; what it would send is what arrives there
            self.edges.a_out.connect(self.inner.s_in)
        else:
            self.sums = GradedVec(shape=parameters["bias_mant"].shape, vth=0)
            self.edges.a_out.connect(self.sums.a_in)
            self.sums.s_out.connect(self.inner.s_in)
        self.inner.a_out.connect(self.neurons.a_in)
        for name, part in connect_own(process, self.neurons).items():
            setattr(self, name, part)  # Lava finds the parts among the attributes
        connect_neurons(process, self.neurons)
        process.delays.alias(self.edges.delays)
        process.weights.alias(self.inner.weights)
        if parameters["relation_weights"] is not None:
            process.relation_weights.alias(self.edges.weights)
