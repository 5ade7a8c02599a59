"""EPNeuron: graded neuron for equilibrium propagation."""

from lava_snnlearn.processes import join_models

join_models(__path__)
