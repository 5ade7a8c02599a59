"""ExactReasoner: a graph reasoner with one synapse for each edge and pair of neurons."""

from lava_snnlearn.processes import join_models

join_models(__path__)
