"""The parts of ExactReasoner and how they are connected."""

from __future__ import annotations

from lava.magma.core.decorator import implements, tag
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess

from lava_snnlearn.models.reasoner import connect_neurons, connect_own, pair_synapses, reasoner_neurons
from lava_snnlearn.processes.exact_reasoner.process import ExactReasoner


@implements(proc=ExactReasoner)
@tag("fixed_pt", "floating_pt")
class SubExactReasoner(AbstractSubProcessModel):
    """Neurons, and the synapses of the edges from them to themselves."""

    def __init__(self, process: AbstractProcess) -> None:
        self.neurons = reasoner_neurons(process.proc_params)
        self.edges = pair_synapses(process.proc_params)
        self.neurons.s_out.connect(self.edges.s_in)
        self.edges.a_out.connect(self.neurons.a_in)
        for name, part in connect_own(process, self.neurons).items():
            setattr(self, name, part)  # Lava finds the parts among the attributes
        connect_neurons(process, self.neurons)
        process.delays.alias(self.edges.delays)
        process.weights.alias(self.edges.weights)
